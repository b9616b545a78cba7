"""Devices that a training runs on: tf.distribute strategies by name."""

import json
import os

import tensorflow as tf

from ..common.errors import UsageError

STRATEGIES = ("auto", "one", "mirrored", "multi_worker", "tpu")


def strategy_of(name):
    """The tf.distribute strategy of a name of STRATEGIES; auto: all GPUs if there are several."""
    if name not in STRATEGIES:
        raise UsageError(f"strategy is one of {', '.join(STRATEGIES)}, not {name!r}")
    if name == "multi_worker":
        check_cluster(os.environ.get("TF_CONFIG"))
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        strategy.extended._check_health_interval = 10  # seconds; with its 30, a minute would pass
        return strategy
    if name == "tpu":
        return tpu_strategy()
    gpus = tf.config.list_logical_devices("GPU")
    if name == "mirrored" or (name == "auto" and len(gpus) > 1):
        devices = gpus or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.get_strategy()


def tpu_strategy():
    """The TPU that $TPU_NAME names, or the local one."""
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(
            os.environ.get("TPU_NAME", "local")
        )
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, OSError, tf.errors.OpError) as error:
        why = str(error).splitlines()[0].split(". ")[0]
        raise UsageError(f"--strategy=tpu: there is no TPU here ({why})") from None
    return tf.distribute.TPUStrategy(resolver)


def check_cluster(text):
    """Raises UsageError unless TF_CONFIG says which workers there are and which one this is."""
    try:
        value = json.loads(text or "")
        jobs, task = value["cluster"], value["task"]
        valid = jobs.keys() <= {"chief", "worker"} and len(jobs.get("chief", [])) <= 1
        valid = valid and all(":" in place for places in jobs.values() for place in places)
        valid = valid and bool(jobs[task["type"]][task["index"]]) and task["index"] >= 0
    except (ValueError, TypeError, LookupError, AttributeError):
        valid = False
    if not valid:
        raise UsageError(
            "--strategy=multi_worker needs TF_CONFIG, a different one for each process: "
            '{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": 0}}'
        )


def check_replicas(config, count):
    """Raises UsageError if a RunConfig cannot be shared by so many replicas."""
    if config.batch_size % count:
        raise UsageError(f"batch_size must be a multiple of {count}, the number of devices")
    if config.hparams.get("masks") and config.hparams["mask_batch"] % count:
        raise UsageError(f"mask_batch must be a multiple of {count}, the number of devices")
    if config.jit and count > 1:
        raise UsageError("--jit is for one device: give --strategy=one, or no --jit")

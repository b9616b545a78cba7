"""Images per second and memory of one training step, ours beside the same step in PyTorch.

    python -m benchmarks.train_step --model=dcgan --model=ragan [--rounds=9] [--profile]
    python -m benchmarks.train_step --model=attention_gan --steps=1      # 256 x 256, a step a turn
    python -m benchmarks.train_step --model=gain --set=loss=classifier --set=alpha=0

Each side is a process of its own; they take turns, a few steps each, so that a machine whose speed
drifts is equally fair to all. Ratios are taken round by round. PyTorch runs eager and compiled,
channels-last; where it is not installed, our side is measured alone. Sides that do not train
equally many parameters are refused. Memory is the peak of a side's process, libraries included. Of
translators an image is a pair, one of each domain.
"""

import argparse
import importlib
import importlib.util
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from attention_zoo import zoo
from attention_zoo.cli import commands, parser
from attention_zoo.common.quiet import import_tensorflow
from attention_zoo.experiments.config import RunConfig

from . import machine

SIDES = ("ours", "torch eager", "torch compiled")
WARM_UP, TURN = 3, 2.0  # steps before anything is measured; the least seconds of a turn
CIFAR10, PAIRS = "--dataset=cifar10", "--dataset=horse2zebra --image_size=256 --batch_size=1"
MODELS = {  # the PyTorch side, our options that it takes, flags of the run whose step it is
    "dcgan": ("torch_gan.DCGAN", "latent width", CIFAR10),
    "wgan": ("torch_gan.WGAN", "latent width", CIFAR10),
    "ragan": (
        "torch_gan.DCGAN",
        "latent width regions mask_size sharpness attend_at encoder_width",
        CIFAR10,
    ),
    "sagan": ("torch_sagan.SAGAN", "latent width", CIFAR10),
    "ata_gan": ("torch_ata_gan.ATAGAN", "latent width map_size teacher", CIFAR10),
    "cyclegan": ("torch_translators.CycleGAN", "width blocks", PAIRS),
    "attention_gan": ("torch_translators.AttentionGAN", "width blocks masks", PAIRS),
    "resnet9": ("torch_classifiers.resnet9", "classes width", CIFAR10),
    "resnet18": ("torch_classifiers.resnet18", "classes width", CIFAR10),
    "squeezenet": ("torch_classifiers.squeezenet", "classes width", CIFAR10),
    "vgg16": ("torch_classifiers.vgg16", "classes width", CIFAR10),
    "gain": (
        "torch_gain.GAIN",
        "classes width stages backbone",
        "--dataset=creatures/many --set=delay=0 --set=judge=shared",
    ),
    "deeplab": (
        "torch_deeplab.DeepLab",
        "classes width fc stride dilation",
        "--dataset=creatures/many",
    ),
}


def configured(model, *flags):
    """The RunConfig of the run whose step is measured; more flags count last."""
    _, given = parser.parse([f"--model={model}", *MODELS[model][2].split(), *flags])
    return commands.run_config(given)


def examples(config):
    """Images, or pairs of them, that one step takes."""
    return config.batch_size * config.hparams.get("n_critic", 1)


def batch(config):
    """{key: array} of what one step takes, drawn at random."""
    import numpy as np

    rng, count = np.random.default_rng(0), examples(config)
    classes, size = config.options.get("classes"), config.load_size or config.image_size
    found = {}
    for key in zoo.get(config.model).batch:
        if key == "label":
            found[key] = rng.integers(classes, size=count, dtype=np.int32)
        elif key == "labels":
            found[key] = rng.integers(2, size=(count, classes), dtype=np.uint8)
        elif key == "classes":
            found[key] = rng.integers(classes, size=(count, size, size, 1), dtype=np.uint8)
        else:
            found[key] = rng.uniform(-1, 1, (count, size, size, 3)).astype("float32")
    return found


def ours(config, replicas=1):
    """A function that takes one step of our trainer, and how many parameters it trains.

    replicas: of a strategy over as many logical CPUs, each with its share of the batch.
    """
    import_tensorflow()
    import tensorflow as tf

    from attention_zoo.experiments.training import make_trainer

    strategy = tf.distribute.get_strategy()
    tf.config.experimental.enable_op_determinism()  # as experiments.training does
    if replicas > 1:
        cpu, one = tf.config.list_physical_devices("CPU")[0], tf.config.LogicalDeviceConfiguration()
        tf.config.set_logical_device_configuration(cpu, [one] * replicas)
        strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])
    with strategy.scope():
        trainer = make_trainer(config)
    data = tf.data.Dataset.from_tensors(batch(config)).repeat()
    if replicas > 1:
        data = strategy.experimental_distribute_dataset(data)
    data = iter(data)
    trainer.make_train_function()
    networks = [network for network, _ in trainer.optimizers_by_role.values()]
    count = sum(math.prod(v.shape) for n in networks for v in n.trainable_variables)
    return lambda: [float(v) for v in trainer.train_function(data).values()], count


def theirs(config, mode):
    """PyTorch's step and what it is called with, without TensorFlow in the process."""
    import torch

    from . import torch_step

    torch.manual_seed(0)
    name, names, _ = MODELS[config.model]
    module, _, made = name.partition(".")
    options = {k: config.options[k] for k in names.split()}
    made = getattr(importlib.import_module(f"benchmarks.{module}"), made)
    step = made(mode, config.image_size, **options)
    data = {key: torch_step.tensor(array) for key, array in batch(config).items()}
    return step, data


def work(side, config):
    """Serves one side: the parameters that it trains on stdout, once it is warm; then a number of
    steps a line on stdin -> {"seconds" they took, "megabytes" at most so far} on stdout."""
    kind, _, more = side.partition(" ")
    if kind == "torch":
        call, data = theirs(config, more)
        step, count = lambda: call(data), call.parameters
    else:
        step, count = ours(config, int(more or 1))
    for _ in range(WARM_UP):
        step()
    print(count, flush=True)
    for line in sys.stdin:
        begin = time.perf_counter()
        for _ in range(int(line)):
            step()
        found = {"seconds": time.perf_counter() - begin, "megabytes": machine.peak_megabytes()}
        print(json.dumps(found), flush=True)


def sides():
    """Those that can be measured here."""
    return SIDES if importlib.util.find_spec("torch") else SIDES[:1]


def measure(config, rounds, steps=None, sides=SIDES[:1]):
    """{side: {"rates": images per second of each round, "megabytes": its peak}}, the sides taking
    turns of so many steps, without which a turn takes two seconds or one step.

    A side is one of SIDES, or "ours N" with N replicas.
    """
    workers, counts, found = {}, {}, {side: {"rates": [], "megabytes": 0} for side in sides}

    def turn(side, steps):
        workers[side].stdin.write(f"{steps}\n")
        workers[side].stdin.flush()
        return json.loads(said(side))

    def said(side):
        line = workers[side].stdout.readline()
        if not line:
            raise SystemExit(f"benchmark: {config.model}: the side {side!r} ended")
        return line

    try:
        for side in sides:
            command = [sys.executable, "-m", "benchmarks.train_step", "--work", side]
            workers[side] = subprocess.Popen(
                [*command, "--config", json.dumps(config.record())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            counts[side] = said(side).strip()
        if len(set(counts.values())) > 1:
            raise SystemExit(f"benchmark: the sides train different networks, parameters {counts}")
        if not steps:
            slowest = max(turn(side, 1)["seconds"] for side in sides)
            steps = max(1, math.ceil(TURN / slowest))
        for number in range(rounds):
            for side in [*sides[number % len(sides) :], *sides[: number % len(sides)]]:
                took = turn(side, steps)
                found[side]["rates"].append(steps * examples(config) / took["seconds"])
                found[side]["megabytes"] = took["megabytes"]
    finally:
        for worker in workers.values():
            worker.stdin.close()
            worker.wait()
    return found


def profile(config, steps=10):
    """[(operation, share of the time spent in operations)] of our step, largest first."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    step, _ = ours(config)
    for _ in range(WARM_UP):
        step()
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            for _ in range(steps):
                step()
        space = xplane_pb2.XSpace()
        space.ParseFromString(next(Path(folder).rglob("*.xplane.pb")).read_bytes())
    spent = {}
    for plane in space.planes:
        kinds = {k: v.name for k, v in plane.event_metadata.items()}
        for line in plane.lines:
            for event in line.events:
                name, colon, operation = kinds[event.metadata_id].rpartition(":")
                if colon and operation.isidentifier() and not name.endswith(":"):
                    spent[operation] = spent.get(operation, 0) + event.duration_ps
    total = sum(spent.values())
    return sorted(((k, v / total) for k, v in spent.items()), key=lambda pair: -pair[1])


def show(values, digits=1):
    low, high = (f"{end(values):.{digits}f}" for end in (min, max))
    return f"{statistics.median(values):7.{digits}f}  ({low} to {high})"


def best(found):
    """The fastest side beside ours; None where there is none."""
    others = [side for side in found if side != "ours"]
    return max(others, key=lambda side: statistics.median(found[side]["rates"]), default=None)


def report(config, rounds, steps, chosen):
    from . import flops

    found = measure(config, rounds, steps, chosen)
    peak = machine.convolution_peak()
    size, digits = config.image_size, 1 if examples(config) > 1 else 3
    print(f"{config.model}, {size} x {size}, batch {config.batch_size}: ", end="")
    print("images per second, median (min to max), and peak memory")
    for side, own in found.items():
        print(f"  {side:<15} {show(own['rates'], digits)}  {own['megabytes']:.0f} MiB")
    if other := best(found):
        ratios = [a / b for a, b in zip(found["ours"]["rates"], found[other]["rates"])]
        print(f"  ours / {other}: {show(ratios, 3).strip()}, {rounds} rounds")
    else:
        print("  nothing to compare with: PyTorch is not installed, or --set was given")
    used = statistics.median(found["ours"]["rates"]) * flops.per_image(config) / 1e9
    print(f"  convolutions and matrix products: {used:.0f} GFLOP/s, ", end="")
    print(f"{used / peak:.0%} of the measured convolution peak, {peak:.0f} GFLOP/s")


def run(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", choices=MODELS)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, help="a turn (default: as fill two seconds)")
    parser.add_argument(
        "--set", action="append", default=[], help="as main.py's, of our step, measured alone then"
    )
    parser.add_argument("--profile", action="store_true", help="where the time of our step goes")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--config", type=json.loads, help=argparse.SUPPRESS)
    flags = parser.parse_args(arguments)
    if flags.work:
        return work(flags.work, RunConfig.from_record(flags.config))
    for model in flags.model or MODELS:
        config = configured(model, *(f"--set={pair}" for pair in flags.set))
        report(config, flags.rounds, flags.steps, SIDES[:1] if flags.set else sides())
        if flags.profile:
            print("  time in operations: ", end="")
            print(", ".join(f"{name} {share:.0%}" for name, share in profile(config)[:10]))
    return None


if __name__ == "__main__":
    run()

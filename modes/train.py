"""Trains a model, or goes on where its run directory stands."""

import atexit
import dataclasses
import errno
import functools
import hashlib
import json
import math
import os
import signal
import sys
import time
from pathlib import Path

from .. import zoo
from ..common.images import attention_grid, image_grid, to_float, to_uint8, translation_grid
from ..datasets import table
from . import shared
from .evaluate import accuracy, class_scores, make_judge, pixel_scores, samples
from .shared import UsageError

USES = """model dataset set steps batch_size image_size seed run_dir data_dir strategy
log_every sample_every save_every eval_every stop stop_window stop_tolerance
metrics extractor inception split num precision jit steps_per_execution"""
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}


def run(flags, classes=None):
    """classes: a class map for each training image, in place of the data set's own.

    SIGTERM ends it, and the process with exit code 0, one of several workers with 130: what was
    reached is saved.
    """
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    code = 130 if flags.strategy == "multi_worker" else 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(code))  # until there are steps to be saved
    try:
        started(flags, classes)
    except SystemExit:
        print("stopped by SIGTERM: the same command goes on from here", file=sys.stderr)
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def started(flags, classes):
    config = configure(flags)
    import tensorflow as tf

    from ..trainers.run import RunError
    from ..trainers.workers import Lost, Workers

    if not config["jit"]:  # XLA has no deterministic gradient of max pooling
        tf.config.experimental.enable_op_determinism()
    strategy = strategy_of(flags.strategy)
    check_replicas(config, strategy.num_replicas_in_sync)
    workers = Workers(strategy)
    try:
        training(flags, config, classes, workers)
    except (OSError, tf.errors.OpError) as error:  # TensorBoard's writer raises the latter
        reasons = [os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT)]
        full = next((reason for reason in reasons if reason in str(error)), None)
        if full or isinstance(error, OSError):
            place = getattr(error, "filename", None) or run_folder(flags, config)
            advice = "make room" if full else "mend that"
            raise RunError(
                f"{place}: {full or error.strerror or error}: {advice}, then the same command goes "
                "on from the last checkpoint"
            ) from None
        if workers.count == 1:
            raise
        atexit.register(leave)
        raise Lost(
            f"worker {workers.number} has lost another one, whose last line says why: the same "
            "commands go on from the last checkpoint"
        ) from None


def leave():
    """Ends the process at once: TensorFlow's own end waits a minute and more for the one lost."""
    sys.stdout.flush()
    os._exit(1)


def training(flags, config, classes, workers):
    """Trains as one of the workers, of which the chief alone writes and speaks."""
    import keras

    from .. import datasets
    from ..evaluate import two_stage
    from ..trainers import callbacks, run

    strategy, folder = workers.strategy, run_folder(flags, config)
    with strategy.scope():
        trainer = shared.make_trainer(config)
    source = {"image_size": config["image_size"], "data_dir": flags.data_dir}
    if not workers.chief:
        workers.largest(0)  # the chief downloads first: all may share the folder
    config["data"] = datasets.identity(config["dataset"], data_dir=flags.data_dir)
    if workers.chief:
        workers.largest(0)
    if classes is not None:
        config["data"] += "+" + hashlib.sha256(classes.tobytes()).hexdigest()[:16]
    config["replicas"] = strategy.num_replicas_in_sync
    config |= trainer.extra_config()
    keys = keys_of(zoo.get(config["model"]), config)
    if "labels" in keys and "labels" not in datasets.arrays(config["dataset"], "train", **source):
        keys = tuple("label" if key == "labels" else key for key in keys)
    if "label" in keys:
        datasets.labelled(config["dataset"], "train", config["options"]["classes"], **source)
    if not workers.agree(hash_of([config, str(folder)])):
        raise UsageError("the workers have different flags or data: give all the same command")

    done, over, recorder = -1, False, None
    if workers.chief:
        if judged(flags) and not flags.extractor:
            flags.extractor = recorded_extractor(folder)
        watched = WATCHED[zoo.get(config["model"]).serve](trainer, config, source, flags)
        metric, higher = watched["metric"], watched["higher"]
        stop = config["stop"] = stop_rule(flags, metric, higher)
        start = {"command": sys.argv[1:], "versions": shared.versions()}
        record = run.Run(folder, config, start, metric, higher)
        done = restore_newest(trainer, record)

        def at_rest():
            found = two_stage.stages(record.rows(), **stop) if stop else None
            return bool(found and found.loss_rest is not None)

        parts = {k: watched[k] for k in ("score", "draw", "attention")}
        after = functools.partial(refresh, record.folder)
        recorder = callbacks.Record(
            record, config["every"], config["steps"], at_rest=at_rest, after=after, **parts
        )
        recorder.set_model(trainer)
        recorder.catch_up(done)
        over = done >= config["steps"] or at_rest()
    if workers.largest(over):
        if workers.chief:
            advice = "give more --steps to go on"
            if done < config["steps"]:
                advice = "give a larger --stop_window, or no --stop, to go on"
            elif "decay_steps" in config["hparams"]:
                advice = "its learning rate has reached 0"
            print(f"trained {done} steps already: {advice}")
            finish(record)
        return
    done = workers.largest(done)
    if not workers.chief:
        restore_chief(trainer, folder, done, workers.number)

    stream = stream_of(trainer, config, flags.data_dir) | {"keys": keys}
    stream["replace"] = None if classes is None else {"classes": classes}
    end, watchers = callbacks.Stop(recorder, workers), [callbacks.NaNGuard()]
    begin = keras.callbacks.LambdaCallback(on_train_batch_end=end.begin)
    if workers.chief:
        watched.get("begin", dict)()
    trainer.prepare(datasets.load(config["dataset"], **stream).as_numpy_iterator())
    data = shared_out(strategy, trainer, config["dataset"], {"start": done, **stream})
    if workers.chief:
        progress = callbacks.Progress(done, config["steps"])
        watchers = [progress, *watchers, recorder]
    try:
        trainer.fit(
            data,
            steps_per_epoch=config["steps"] - done,
            callbacks=[begin, *watchers, end],
            verbose=0,
            shuffle=False,
        )
    finally:
        if workers.chief:
            progress.bar.close()
    if workers.chief:
        finish(record)
    workers.largest(0)  # none leaves before all is written


def stream_of(trainer, config, data_dir):
    """What datasets.load is told of a run's batches."""
    return {
        "batch_size": config["batch_size"] * trainer.batches_per_step,
        "seed": config["seed"],
        "keys": keys_of(zoo.get(config["model"]), config),
        "image_size": config.get("load_size", config["image_size"]),
        "data_dir": data_dir,
    }


def shared_out(strategy, trainer, name, stream):
    """The training batches; of several replicas each is given its own part, in their order."""
    from .. import datasets

    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return datasets.load(name, **stream)

    def of_worker(context):
        count = replicas // context.num_input_pipelines
        first = context.input_pipeline_id * count
        shares = {"shares": (first, first + count, replicas), "batches": trainer.batches_per_step}
        return datasets.load(name, **stream, **shares)

    return strategy.distribute_datasets_from_function(of_worker)


def hash_of(values):
    """JSON values -> a whole number from 0 to 2^56."""
    text = json.dumps(values, sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def overrides(pairs, allowed):
    """["name=value"] -> {name: value}, each of its default's type; else UsageError."""
    values = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or name not in allowed:
            known = ", ".join(f"{k}={v}" for k, v in sorted(allowed.items()))
            raise UsageError(f"--set {pair}: there are {known}")
        kind = type(allowed[name])
        try:
            if kind is bool:
                values[name] = {"true": True, "false": False}[text.lower()]
            else:
                values[name] = kind(text)
            if not math.isfinite(values[name] if kind is float else 0):
                raise ValueError
        except (KeyError, ValueError):
            raise UsageError(f"--set {pair}: {name} takes {KINDS[kind]}") from None
    return values


def configure(flags):
    """Flags -> the run's configuration: what a resume must repeat, as JSON values."""
    spec = zoo.get(flags.model or "ragan")
    dataset = flags.dataset or "creatures"
    table.check(dataset)
    if not judged(flags):
        shared.refuse(flags, "extractor inception split num", "goes with --metrics")
    if not flags.stop:
        shared.refuse(flags, "stop_window stop_tolerance", "goes with --stop=two_stage")
    shared.quiet_import()
    from .. import datasets, trainers

    module = trainers.get(spec.trainer or spec.name)
    kind = dataset.split(":")[0].split("/")[0]
    if kind not in module.RECIPES:
        raise UsageError(f"{spec.name} trains on {', '.join(module.RECIPES)}, not {dataset}")
    recipe, pair = module.RECIPES[kind], "image_a" in spec.batch
    if pair != datasets.paired(dataset):
        needs = "two domains: creatures/plain2striped" if pair else "one domain"
        raise UsageError(f"{spec.name} trains on a data set of {needs}, not {dataset}")
    first = next(iter(module.VARIANTS))
    asked = dict(pair.partition("=")[::2] for pair in flags.set).get("loss", first)
    if asked not in module.VARIANTS:
        raise UsageError(f"--set loss={asked}: {spec.name} has {', '.join(module.VARIANTS)}")
    hparams = dataclasses.asdict(module.VARIANTS[asked][0]())
    hparams |= recipe.hparams | recipe.variants.get(asked, {})
    options = zoo.options(spec.name) | recipe.options
    del options["image_size"]
    changed = overrides(flags.set, {**options, **hparams, "loss": first})
    options = {k: changed.get(k, v) for k, v in options.items()}
    hparams = {k: changed.get(k, v) for k, v in hparams.items()}
    steps = flags.steps or recipe.steps
    if hparams.get("decay_steps") == 0:
        hparams["decay_steps"] = steps
    keys = keys_of(spec, {"options": options, "hparams": hparams})
    if {"label", "labels"} & set(keys) and "classes" not in changed:
        background = "classes" in spec.batch
        options["classes"] = datasets.classes(dataset) + background
    try:
        module.VARIANTS[asked][0](**hparams)
    except ValueError as error:
        raise UsageError(f"--set: {error}") from None
    every = {
        "log": flags.log_every or 50,
        "sample": flags.sample_every or 500,
        "save": flags.save_every or 500,
        "eval": flags.eval_every or flags.save_every or 500,
    }
    for name, value in {"steps": steps, **{f"{k}_every": v for k, v in every.items()}}.items():
        if value % flags.steps_per_execution:
            raise UsageError(f"--steps_per_execution must divide --{name}={value}")
    image_size, loaded = flags.image_size or recipe.image_size, {}
    if recipe.load_size:  # pictures are held so large, and a part of each is taken
        loaded["load_size"] = recipe.load_size * image_size // recipe.image_size
    return {
        "model": spec.name,
        "dataset": dataset,
        "image_size": image_size,
        **loaded,
        "batch_size": flags.batch_size or recipe.batch_size,
        "steps": steps,
        "seed": flags.seed,
        "loss": asked,
        "options": options,
        "hparams": hparams,
        "every": every,
        "precision": flags.precision,
        "jit": flags.jit,
        "steps_per_execution": flags.steps_per_execution,
    }


def keys_of(spec, config):
    """What a batch must hold: the label too where the networks take one, the map of classes where
    masks are shown. "labels", of many classes an image, may be "label", of one."""
    conditional, masks = config["options"].get("conditional"), config["hparams"].get("masks")
    return (*spec.batch, *["label"] * bool(conditional), *["classes"] * bool(masks))


def stop_rule(flags, metric, higher):
    """The arguments of evaluate.two_stage.stages beside the rows; None without --stop."""
    if not flags.stop:
        return None
    window, tolerance = stop_values(flags)
    return {"metric": metric, "higher": higher, "window": window, "tolerance": tolerance}


def stop_values(flags):
    """(window, tolerance) of the two-stage rule."""
    tolerance = 0.01 if flags.stop_tolerance is None else flags.stop_tolerance
    return flags.stop_window or 5, tolerance


def strategy_of(name):
    """A tf.distribute strategy; auto: all GPUs where there are several, else one device."""
    import tensorflow as tf

    if name == "multi_worker":
        check_cluster(os.environ.get("TF_CONFIG"))
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        strategy.extended._check_health_interval = 10  # seconds; with its 30, a minute would pass
        return strategy
    if name == "tpu":
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
    gpus = tf.config.list_logical_devices("GPU")
    if name == "mirrored" or (name == "auto" and len(gpus) > 1):
        devices = gpus or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.get_strategy()


def check_cluster(text):
    """Raises UsageError where TF_CONFIG does not say which workers there are, and which is this."""
    try:
        value = json.loads(text or "")
        jobs, task = value["cluster"], value["task"]
        good = jobs.keys() <= {"chief", "worker"} and len(jobs.get("chief", [])) <= 1
        good = good and all(":" in place for places in jobs.values() for place in places)
        good = good and bool(jobs[task["type"]][task["index"]]) and task["index"] >= 0
    except (ValueError, TypeError, LookupError, AttributeError):
        good = False
    if not good:
        raise UsageError(
            "--strategy=multi_worker needs TF_CONFIG, of each process its own: "
            '{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": 0}}'
        )


def check_replicas(config, count):
    """Raises UsageError where so many replicas cannot share out the work."""
    if config["batch_size"] % count:
        raise UsageError(f"--batch_size must divide by {count} devices")
    if config["hparams"].get("masks") and config["hparams"]["mask_batch"] % count:
        raise UsageError(f"--set mask_batch must divide by {count} devices")
    if config["jit"] and count > 1:
        raise UsageError("--jit is of one device: give --strategy=one, or no --jit")


def run_folder(flags, config):
    changed = "".join(f"-{pair}" for pair in sorted(flags.set)).replace("/", "_")
    dataset = config["dataset"].replace(":", "-").replace("/", "_")
    return Path(flags.run_dir or f"runs/{config['model']}-{dataset}{changed}")


def recorded_extractor(folder):
    """--extractor of a run that is there already; None where it is new."""
    from ..trainers import run

    if not (folder / "run.json").exists():
        return None
    name = (run.read_record(folder)["config"].get("evaluation") or {}).get("extractor")
    return name if name in (None, "inception") else f"zoo:{name}"


def judged(flags):
    """Is the run to be scored by --metrics, whose default is fid?"""
    return bool(flags.metrics or flags.stop)


def watch_generator(trainer, config, source, flags):
    """What a run of a generator is watched by: the metric that names its best checkpoint, whether
    more of it is better, and functions for scores, grid and attention.

    The metric is the first of --metrics, and without them a distance that needs no network.
    """
    import numpy as np

    from .. import datasets
    from ..evaluate import swd

    images = datasets.arrays(config["dataset"], "train", **source)["image"]
    latent, seed = config["options"]["latent"], config["seed"]
    rng = np.random.default_rng(seed)
    z = rng.uniform(-1, 1, (64, latent)).astype("float32")
    count = min(1024, len(images))
    score_z = rng.uniform(-1, 1, (count, latent)).astype("float32")
    chosen = np.sort(rng.choice(len(images), count, replace=False))
    watched = {"draw": lambda: image_grid(trainer.sample(z)), "attention": None}
    seen = np.asarray(images[chosen[:8]])
    if trainer.attention(seen, z[:8]) is not None:
        watched["attention"] = lambda: attention_grid(*trainer.attention(seen, z[:8]))

    if judged(flags):
        judge = make_judge(flags, config["dataset"], source)
        config["evaluation"] = {**judge.about, "metrics": judge.metrics}
        config["best"] = {"metric": judge.first, "higher": judge.higher}

        def scores():
            fakes = functools.partial(samples, trainer.sample, latent, judge.count, seed)
            return {row["metric"]: row["value"] for row in judge.rows(fakes)}

        watched["begin"] = judge.warn
        return {**watched, "metric": judge.first, "higher": judge.higher, "score": scores}

    metric = f"swd_{count}_train"
    real = np.asarray(images[chosen])

    def distance():
        fake = np.concatenate([trainer.sample(part) for part in np.array_split(score_z, 8)])
        return {metric: swd.swd(real, to_uint8(fake))}

    return {**watched, "metric": metric, "higher": False, "score": distance}


def watch_classifier(trainer, config, source, flags):
    """The same of a classifier: its accuracy on test images, which chooses no checkpoint."""
    from .. import datasets
    from ..evaluate import protocol

    if judged(flags):
        raise UsageError(f"{config['model']} makes no images: --metrics and --stop judge images")
    watched = {"metric": None, "higher": True, "draw": None, "attention": None, "score": dict}
    classes, name = config["options"]["classes"], config["dataset"]
    if datasets.has_split(name, "test"):
        test = datasets.labelled(name, "test", classes, **source)
        metric = f"accuracy_{protocol.short(len(test['label']))}_test"
        network = functools.partial(trainer.infer, trainer.ema_networks["classifier"])
        watched["score"] = lambda: {metric: accuracy(network, test)}
    return watched


def watch_translator(trainer, config, source, flags):
    """The same of a translator: the distance of what it makes from the other domain, over both
    directions, and the health of its masks. Test images are drawn where there are any."""
    import numpy as np

    from .. import datasets
    from ..evaluate import mask_health, swd

    if judged(flags):
        raise UsageError(f"{config['model']} is scored by --mode=evaluate, not while it trains")
    name, rng = config["dataset"], np.random.default_rng(config["seed"])
    ends = {"a2b": "a", "b2a": "b"}
    held = {end: datasets.arrays(name, f"train_{end}", **source)["image"] for end in "ab"}
    count = min(1024, 2**22 // config["image_size"] ** 2, *map(len, held.values()))
    real = {
        end: images[np.sort(rng.choice(len(images), count, replace=False))]
        for end, images in held.items()
    }
    split = "test" if datasets.has_split(name, "test") else "train"
    seen = [datasets.arrays(name, f"{split}_{end}", **source)["image"][:4] for end in "ab"]
    seen = [to_float(images) for images in seen]
    metric = f"swd_{count}_train"

    def scores():
        found, distances = {}, []
        for direction, end in ends.items():
            translate = functools.partial(trainer.translate, direction=direction)
            made = shared.translated(translate, real[end], ("translated", "masks"))
            distances.append(swd.swd(real["b" if end == "a" else "a"], made["translated"]))
            if "masks" in made:
                health = mask_health.health(made["masks"], softmax=made["masks"].shape[-1] > 1)
                found |= {f"mask_{direction}_{k}": v for k, v in health.items()}
                where = f"step {int(trainer.step.numpy())}, {direction}"
                warning = mask_health.warning(health, where)
                if warning:
                    print(warning, file=sys.stderr)
        return {metric: float(np.mean(distances)), **found}

    def draw():
        return translation_grid(trainer.preview(*seen).values())

    watched = {"draw": draw, "attention": None, "score": scores}
    return {**watched, "metric": metric, "higher": False}


def watch_segmenter(trainer, config, source, flags):
    """The same of a segmenter: the mean intersection over union of test images' classes."""
    from .. import datasets
    from ..evaluate import protocol

    if judged(flags):
        raise UsageError(f"{config['model']} makes no images: --metrics and --stop judge images")
    name, classes = config["dataset"], config["options"]["classes"]
    split = "test" if datasets.has_split(name, "test") else "train"
    held = datasets.arrays(name, split, **source)
    images, truth = (held[key][:16] for key in ("image", "classes"))
    network = functools.partial(trainer.infer, trainer.ema_networks["segmenter"])

    def scores():
        return pixel_scores(network, held, split, classes, 500)

    metric = f"miou_{protocol.short(min(500, len(held['image'])))}_{split}"
    watched = {"draw": lambda: trainer.picture(images, truth), "attention": None}
    return {**watched, "metric": metric, "higher": True, "score": scores}


def watch_guided(trainer, config, source, flags):
    """The same of a classifier whose attention is trained: mean average precision on test images of
    many classes, accuracy on those of one."""
    from .. import datasets

    if judged(flags):
        raise UsageError(f"{config['model']} makes no images: --metrics and --stop judge images")
    name = config["dataset"]
    network = functools.partial(trainer.infer, trainer.ema_networks["classifier"])
    split = "test" if datasets.has_split(name, "test") else "train"
    held = datasets.arrays(name, split, **source)
    images = held["image"][:8]

    def scores():
        return class_scores(network, held, split, 2000)

    def attention():
        return attention_grid(*trainer.attention(images, None))

    watched = {"draw": None, "attention": attention, "score": scores}
    return {**watched, "metric": None, "higher": True}


WATCHED = {
    "attention": watch_guided,
    "segmenter": watch_segmenter,
    "generator": watch_generator,
    "classifier": watch_classifier,
    "a2b": watch_translator,
}


def restore_newest(trainer, record):
    """Loads the newest whole checkpoint of a run, if any; returns its step."""
    from ..trainers import run

    paths = run.list_checkpoints(record.folder)
    while paths:
        path = paths.pop()
        try:
            arrays = run.read_checkpoint(path)
        except run.Damaged as error:
            other = "the one before it is used" if paths else "there is none before it"
            print(f"{error}: it is set aside, {other}", file=sys.stderr)
            path.rename(path.with_suffix(".damaged"))
            continue
        run.assign(trainer.state(), arrays, path)
        record.rewind(run.step_of(path))
        print(f"resumes at step {run.step_of(path)} of {record.folder}")
        return run.step_of(path)
    record.rewind(-1)
    return 0


def restore_chief(trainer, folder, step, number):
    """Loads the checkpoint that the chief goes on from, as worker `number`."""
    from ..trainers import run

    if step:
        path = run.checkpoint(folder, step)
        if not path.exists():
            raise run.RunError(f"worker {number} finds no {path}: give a --run_dir that all share")
        run.assign(trainer.state(), run.read_checkpoint(path), path)


def refresh(folder):
    """Writes a run's report again unless that was done within the last minute; no fault of the
    report's ends a training."""
    path = folder / "report.html"
    try:
        if not path.exists() or time.time() - path.stat().st_mtime > 60:
            shared.make_report(folder)
    except Exception as error:
        print(f"no report this time: {type(error).__name__}: {error}", file=sys.stderr)


def finish(record):
    from ..trainers import run

    grids = sorted(record.samples.glob("*.png"))
    if grids:
        print(f"samples: {grids[-1]}")
    best = record.best()
    if best is not None:
        print(f"best checkpoint by {record.metric}: {run.checkpoint(record.folder, best)}")
    print(f"report: {shared.make_report(record.folder)}")
    print(f"run directory: {record.folder}")

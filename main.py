"""The command line: flags -> data set -> networks -> trainer -> run directory.

python main.py --model=ragan --dataset=cifar10                  train, or resume
python main.py --mode=list                                      models, data sets, weights
python main.py --mode=sample --weights=RUN_DIR --output=grid.png
python main.py --mode=study --study=memorisation --weights=RUN_DIR --output=FOLDER
"""

import argparse
import contextlib
import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import zoo
from datasets import table

MODES = ("train", "list", "sample", "study")
STUDIES = ("memorisation",)
USES = {  # mode -> its flags
    "train": "model dataset set steps batch_size image_size seed run_dir data_dir strategy "
    "log_every sample_every save_every".split(),
    "list": (),
    "sample": ("model", "weights", "num", "seed", "output"),
    "study": ("model", "dataset", "study", "weights", "num", "seed", "data_dir", "output"),
}
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}


class UsageError(ValueError):
    """A flag that cannot be used as given."""


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UsageError(f"{message} (--help lists the flags)")


def parse(arguments):
    """The flags as a namespace; a wrong one raises UsageError."""
    parser = Parser(description=__doc__.splitlines()[0], allow_abbrev=False, add_help=True)

    def whole(low, high):
        def check(text):
            if not text.isdecimal() or not low <= int(text) <= high:
                raise argparse.ArgumentTypeError(f"takes a whole number from {low}, not {text!r}")
            return int(text)

        return check

    positive, natural = whole(1, 10**9), whole(0, 2**32 - 1)

    add = parser.add_argument
    add("--mode", default="train", choices=MODES)
    add("--model", help="a name of --mode=list (default: ragan, or the run's)")
    add("--dataset", help="a name of --mode=list (default: creatures, or the run's)")
    add("--study", choices=STUDIES)
    add("--weights", metavar="RUN_DIR|FILE", help="a run directory, or one of its checkpoints")
    add(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option or hyper-parameter",
    )
    add("--steps", type=positive, help="updates of the generator in all")
    add("--batch_size", type=positive, help="images per update, over all devices")
    add("--image_size", type=positive)
    add("--seed", type=natural, default=0)
    add("--run_dir", help="default: runs/MODEL-DATASET and what --set changes")
    add("--data_dir", help="TFDS's folder (default: $TFDS_DATA_DIR or ~/tensorflow_datasets)")
    add("--strategy", default="auto", choices=("auto", "one", "mirrored"), help="which devices")
    add("--log_every", type=positive, default=50, metavar="STEPS")
    add("--sample_every", type=positive, default=500, metavar="STEPS")
    add("--save_every", type=positive, default=500, metavar="STEPS")
    add("--num", type=positive, default=64, help="how many samples")
    add("--output", help="the file or folder to write")
    flags = parser.parse_args(arguments)
    for name, value in vars(flags).items():
        if value != parser.get_default(name) and name not in (*USES[flags.mode], "mode"):
            raise UsageError(f"--mode={flags.mode} does not use --{name}")
    return flags


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
    quiet_import()
    import trainers

    module = trainers.get(spec.trainer or spec.name)
    recipe = module.RECIPES[dataset.split(":")[0].split("/")[0]]
    first = next(iter(module.LOSSES))
    asked = dict(pair.partition("=")[::2] for pair in flags.set).get("loss", first)
    if asked not in module.LOSSES:
        raise UsageError(f"--set loss={asked}: {spec.name} has {', '.join(module.LOSSES)}")
    hparams = dataclasses.asdict(module.LOSSES[asked][0]())
    options = zoo.options(spec.name)
    del options["image_size"]
    changed = overrides(flags.set, {**options, **hparams, "loss": first})
    hparams = {k: changed.get(k, v) for k, v in hparams.items()}
    try:
        module.LOSSES[asked][0](**hparams)
    except ValueError as error:
        raise UsageError(f"--set: {error}") from None
    return {
        "model": spec.name,
        "dataset": dataset,
        "image_size": flags.image_size or recipe["image_size"],
        "batch_size": flags.batch_size or recipe["batch_size"],
        "steps": flags.steps or recipe["steps"],
        "seed": flags.seed,
        "loss": asked,
        "options": {k: changed.get(k, v) for k, v in options.items()},
        "hparams": hparams,
        "every": {"log": flags.log_every, "sample": flags.sample_every, "save": flags.save_every},
    }


def quiet_import():
    """Imports TensorFlow without the lines that it writes to stderr before its log level counts."""
    if "tensorflow" in sys.modules:
        return
    import absl.logging

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    absl.logging.set_verbosity(absl.logging.ERROR)
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import tensorflow as tf

        tf.config.list_physical_devices()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def strategy_of(name):
    """A tf.distribute strategy; auto: all GPUs where there are several, else one device."""
    import tensorflow as tf

    if name == "mirrored" or (name == "auto" and len(tf.config.list_physical_devices("GPU")) > 1):
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def make_trainer(config):
    """A trainer with fresh weights for a configuration, the same ones for the same seed."""
    import keras

    import trainers

    keras.utils.set_random_seed(config["seed"])
    spec = zoo.get(config["model"])
    options = {**config["options"], "image_size": config["image_size"]}
    try:
        networks, average = zoo.create(spec.name, **options), zoo.create(spec.name, **options)
    except ValueError as error:
        raise UsageError(str(error)) from None
    hparams, trainer = trainers.get(spec.trainer or spec.name).LOSSES[config["loss"]]
    return trainer(networks, average, hparams(**config["hparams"]), config["seed"])


def versions():
    """What a run was made with: package versions and the commit, where there is one."""
    from importlib import metadata

    found = {
        p: metadata.version(p) for p in ("keras", "tensorflow", "numpy", "tensorflow-datasets")
    }
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    with contextlib.suppress(OSError):
        commit = subprocess.run(command, capture_output=True, text=True)
        found["commit"] = commit.stdout.strip() or None
    return {"python": sys.version.split()[0], **found}


def run_folder(flags, config):
    changed = "".join(f"-{pair}" for pair in sorted(flags.set)).replace("/", "_")
    dataset = config["dataset"].replace("folder:", "folder-").replace("/", "_")
    return Path(flags.run_dir or f"runs/{config['model']}-{dataset}{changed}")


def train(flags):
    config = configure(flags)
    import numpy as np
    import tensorflow as tf

    import datasets
    from evaluate import swd
    from trainers import callbacks, run

    tf.config.experimental.enable_op_determinism()
    strategy = strategy_of(flags.strategy)
    if config["batch_size"] % strategy.num_replicas_in_sync:
        raise UsageError(f"--batch_size must divide by {strategy.num_replicas_in_sync} devices")
    with strategy.scope():
        trainer = make_trainer(config)
    source = {"image_size": config["image_size"], "data_dir": flags.data_dir}
    images = datasets.arrays(config["dataset"], "train", **source)["image"]
    config["data"] = datasets.identity(config["dataset"], data_dir=flags.data_dir)
    config["replicas"] = strategy.num_replicas_in_sync
    judged = min(1024, len(images))
    metric = f"swd_{judged}_train"
    start = {"command": sys.argv[1:], "versions": versions()}
    record = run.Run(run_folder(flags, config), config, start, metric)
    done = restore_newest(trainer, record)
    if done >= config["steps"]:
        print(f"trained {done} steps already: give more --steps to go on")
        return finish(record)

    keys = zoo.get(config["model"]).batch
    batch_size = config["batch_size"] * trainer.batches_per_step
    stream = {"batch_size": batch_size, "seed": config["seed"], "keys": keys, **source}
    if hasattr(trainer, "keep_references"):
        trainer.keep_references(datasets.load(config["dataset"], **stream).as_numpy_iterator())
    rng = np.random.default_rng(config["seed"])
    latent = config["options"]["latent"]
    z = rng.uniform(-1, 1, (64, latent)).astype("float32")
    score_z = rng.uniform(-1, 1, (judged, latent)).astype("float32")
    real = np.asarray(images[np.sort(rng.choice(len(images), judged, replace=False))])

    def score(sample):
        fake = np.concatenate([sample(part) for part in np.array_split(score_z, 8)])
        return {metric: swd.swd(real, callbacks.to_uint8(fake))}

    recorder = callbacks.Record(record, z, config["every"], config["steps"], score)
    progress = callbacks.Progress(done, config["steps"])
    guards = [progress, callbacks.NaNGuard(), recorder, callbacks.Stop(recorder)]
    data = datasets.load(config["dataset"], start=done, **stream)
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        trainer.fit(
            data, steps_per_epoch=config["steps"] - done, callbacks=guards, verbose=0, shuffle=False
        )
    finally:
        progress.bar.close()
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return finish(record)


def restore_newest(trainer, record):
    """Loads the newest whole checkpoint of a run, if any; returns its step."""
    from trainers import run

    for path in reversed(run.list_checkpoints(record.folder)):
        try:
            arrays = run.read_checkpoint(path)
        except run.Damaged as error:
            print(f"{error}: it is set aside, the one before it is used", file=sys.stderr)
            path.rename(path.with_suffix(".damaged"))
            continue
        run.assign(trainer.state(), arrays, path)
        record.rewind(run.step_of(path))
        print(f"resumes at step {run.step_of(path)} of {record.folder}")
        return run.step_of(path)
    record.rewind(-1)
    return 0


def finish(record):
    grids = sorted(record.samples.glob("*.png"))
    if grids:
        print(f"samples: {grids[-1]}")
    best = record.best()
    if best is not None:
        print(f"best checkpoint by {record.metric}: {record.checkpoints}/step_{best:08d}.npz")
    print(f"run directory: {record.folder}")


def trained(flags):
    """(trainer, configuration) of --weights: a run directory's newest checkpoint, or a file."""
    if not flags.weights:
        raise UsageError(f"--mode={flags.mode} needs --weights=RUN_DIR")
    quiet_import()
    from trainers import run

    path = Path(flags.weights)
    folder = path.parent.parent if path.suffix == ".npz" else path
    config = run.read_record(folder)["config"]
    if flags.model not in (None, config["model"]):
        raise UsageError(f"{folder} holds {config['model']}, not {flags.model}")
    found = [path] if path.suffix == ".npz" else run.list_checkpoints(folder)
    if not found:
        raise run.RunError(f"{folder} holds no checkpoint yet")
    arrays = run.read_checkpoint(found[-1])
    try:
        trainer = make_trainer(config)
    except (KeyError, TypeError):
        raise run.RunError(f"{folder}/run.json is of another version, or damaged") from None
    run.assign(trainer.state(), arrays, found[-1])
    return trainer, config


def sample(flags):
    trainer, config = trained(flags)
    import numpy as np

    from trainers import callbacks

    shape = (flags.num, config["options"]["latent"])
    z = np.random.default_rng(flags.seed).uniform(-1, 1, shape).astype("float32")
    images = np.concatenate([trainer.sample(z[i : i + 64]) for i in range(0, flags.num, 64)])
    path = Path(flags.output or "samples.png")
    write(path, callbacks.png(callbacks.image_grid(images, min(8, flags.num))))
    print(f"samples: {path}")


def write(path, data):
    """Writes an output file, its folders too; what cannot be written raises UsageError."""
    from trainers import run

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        run.write_file(path, data)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot write {path} ({error}): give another --output") from None


def memorisation(flags):
    trainer, config = trained(flags)
    import keras
    import numpy as np

    import datasets
    from evaluate import memorisation as measure
    from trainers import callbacks

    if not hasattr(trainer, "sample_with_reference"):
        raise UsageError(f"{config['model']} sees no reference images: this study is ragan's")
    name = flags.dataset or config["dataset"]
    source = {"image_size": config["image_size"], "data_dir": flags.data_dir}
    train, test = (datasets.arrays(name, split, **source)["image"] for split in ("train", "test"))
    latent = config["options"]["latent"]
    noise = np.random.default_rng([flags.seed, 1]).uniform(-1, 1, (flags.num, latent))
    critic = trainer.discriminator
    features = keras.Model(critic.input, critic.get_layer("features").output)

    def in_parts(network, *inputs):
        parts = range(0, len(inputs[0]), 100)
        return np.concatenate([network(*(x[i : i + 100] for x in inputs)) for i in parts])

    def draw(index, references):
        return trainer.sample_with_reference(noise[index].astype("float32"), references)

    def embed(images):
        return in_parts(lambda part: trainer.infer(features, part), images)

    try:
        numbers, pictures = measure.report(
            lambda index, references: in_parts(draw, index, references),
            ("feature_own_discriminator", embed),
            train,
            test,
            flags.num,
            flags.seed,
        )
    except ValueError as error:
        raise UsageError(f"--num: {error}") from None
    step = int(trainer.step.numpy())
    numbers = {"model": config["model"], "dataset": name, "step": step, **numbers}
    folder = Path(flags.output or "memorisation")
    write(folder / "memorisation.json", (json.dumps(numbers, indent=2) + "\n").encode())
    rows = pictures[:16].reshape(-1, *pictures.shape[2:])
    write(folder / "memorisation.png", callbacks.png(callbacks.image_grid(rows, 16)))
    print(json.dumps(numbers, indent=2))
    print(f"report: {folder}")


def study(flags):
    if not flags.study:
        raise UsageError(f"--mode=study needs --study={'|'.join(STUDIES)}")
    return {"memorisation": memorisation}[flags.study](flags)


def list_all(flags):
    def show(title, rows):
        print(f"{title}")
        for name, text in rows:
            lines = textwrap.wrap(text, 78, break_long_words=False)
            print(f"  {name:<16}" + f"\n{'':18}".join(lines))

    models = []
    for name in zoo.names():
        spec = zoo.get(name)
        counts = "; ".join(
            f"{setting}: " + ", ".join(f"{k} {n:,}" for k, n in networks.items())
            for setting, networks in spec.params.items()
        )
        data = ", ".join(spec.datasets)
        models.append((name, f"{spec.task}. {spec.paper} ({spec.source})"))
        models.append(("", f"data sets: {data}. parameters at {counts}"))
    show("models", models)
    data = [(name, spec.what) for name, spec in table.DATASETS.items()]
    show("\ndata sets", [*data, (table.FOLDER, table.FOLDER_WHAT)])
    weights = [(f"{n}:{tag}", str(w)) for n in zoo.names() for tag, w in zoo.get(n).weights.items()]
    show("\nweights", weights or [("none yet", "train them: python main.py --model=MODEL")])


def main(arguments=None):
    """Runs one command; returns the exit status: 0, 1 for a failed run, 2 for a mistake in use."""
    try:
        flags = parse(arguments)
        modes = {"train": train, "list": list_all, "sample": sample, "study": study}
        modes[flags.mode](flags)
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from here", file=sys.stderr)
        return 130
    except Exception as error:
        status = status_of(error)
        if status is None:
            raise
        print(f"main.py: {' '.join(str(error).split())}", file=sys.stderr)
        return status
    return 0


def status_of(error):
    """2 for a user's mistake, 1 for what stops a run (NaN, a full disk), None for our defects."""
    if isinstance(error, (UsageError, zoo.UnknownModel, table.DataError)):
        return 2
    run, callbacks = sys.modules.get("trainers.run"), sys.modules.get("trainers.callbacks")
    if run and isinstance(error, run.RunError):
        return 2
    if callbacks and isinstance(error, callbacks.NotFinite) or isinstance(error, OSError):
        return 1
    return None


if __name__ == "__main__":
    sys.exit(main())

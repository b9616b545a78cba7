"""What several modes need: mistakes, TensorFlow without its noise, trainers, runs, files."""

import contextlib
import dataclasses
import functools
import subprocess
import sys
from pathlib import Path

from .. import zoo
from ..common.errors import UsageError
from ..common.files import write_file
from ..common.images import to_float, to_uint8
from ..common.quiet import import_tensorflow as quiet_import

MIDDLE = 0.5  # the threshold of a map where none is known to be better


def refuse(flags, names, why):
    """Raises UsageError where one of these flags is given."""
    for name in names.split():
        if getattr(flags, name) not in (None, []):
            raise UsageError(f"--{name} {why}")


def versions():
    """What a run was made with: package versions and the commit, where there is one."""
    from importlib import metadata

    found = {}
    for package in ("keras", "tensorflow", "numpy", "tensorflow-datasets"):
        module = sys.modules.get(package)  # tensorflow-cpu and tf-nightly are tensorflow too
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = getattr(module, "__version__", None) or metadata.version(package)
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    with contextlib.suppress(OSError):
        commit = subprocess.run(command, capture_output=True, text=True)
        found["commit"] = commit.stdout.strip() or None
    return {"python": sys.version.split()[0], **found}


def make_trainer(config):
    """A trainer with fresh weights for a configuration, the same ones for the same seed."""
    import keras

    from .. import trainers

    keras.utils.set_random_seed(config["seed"])
    spec = zoo.get(config["model"])
    options = {**config["options"], "image_size": config["image_size"]}
    usual, mixed = keras.config.dtype_policy(), config["precision"] != "float32"
    try:
        if mixed:  # only of what is trained: the average is what is published
            keras.config.set_dtype_policy(f"mixed_{config['precision']}")
        networks = zoo.create(spec.name, **options)
        keras.config.set_dtype_policy(usual)
        average = zoo.create(spec.name, **options)
    except ValueError as error:
        raise UsageError(str(error)) from None
    finally:
        keras.config.set_dtype_policy(usual)
    hparams, trainer = trainers.get(spec.trainer or spec.name).VARIANTS[config["loss"]]
    trainer = trainer(networks, average, hparams(**config["hparams"]), config["seed"])
    trainer.jit_compile = config["jit"]
    trainer.steps_per_execution = config["steps_per_execution"]
    return trainer


def trained(flags):
    """(trainer, configuration) of --weights: a run directory's newest checkpoint, or a file."""
    if not flags.weights:
        raise UsageError(f"--mode={flags.mode} needs --weights=RUN_DIR")
    quiet_import()
    from ..trainers import run

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


def of_zoo(weights):
    """Do --weights name published ones: a tag, an address, or something beside a manifest.json?"""
    path = Path(weights)
    if "://" in weights:
        return True
    run = path.parent.parent if path.suffix == ".npz" else path
    if (run / "run.json").exists():
        return False
    return "/" not in weights or (path.parent / "manifest.json").exists()


def published(flags):
    """Are --weights published ones? Without --model these raise UsageError."""
    if not (flags.weights and of_zoo(flags.weights)):
        return False
    if not flags.model:
        raise UsageError(f"--weights={flags.weights} needs --model: whose weights are they?")
    return True


def served(flags):
    """(function of a batch of the network's inputs, about) of --weights, of the zoo or a run's.

    about: "model", "dataset", "options" and where the weights are from; "folder" of a run, or the
    published "scores"; the "network", and of a generator "given", z -> its inputs (z, and a label
    if it takes one), and the "discriminator" where it is at hand. Of a translator the function
    takes images (B, H, W, 3) in [-1, 1] and gives a dict, and its "direction" is --direction, or
    the one that was published.
    """
    direction = getattr(flags, "direction", None)
    path = Path(flags.weights or ".")
    if published(flags):
        quiet_import()
        from ..zoo import weights

        network, entry = weights.load_entry(flags.model, flags.weights)
        about = {"model": flags.model, "weights": flags.weights, "ema": True}
        about |= {"dataset": entry.dataset, "options": entry.options, "folder": None}
        about |= {"scores": entry.scores}
        serve = zoo.get(flags.model).serve
        if serve == "a2b":
            if direction not in (None, entry.network):
                raise UsageError(f"--direction={direction}: {flags.weights} is {entry.network}")
            about |= {"network": network, "direction": entry.network}
            return functools.partial(network, training=False), about
        if entry.network != serve:  # the published one holds it
            about["discriminator"] = network.get_layer("discriminator")
            network = network.get_layer(serve)
        about |= {"network": network, "given": lambda z: z}
        if len(network.inputs) > 1:
            from ..zoo.layers.labels import labels

            about["given"] = lambda z: [z, labels(z, entry.options["classes"])]
        return lambda x: network.predict_on_batch(about["given"](x)), about
    trainer, config = trained(flags)
    about = {"model": config["model"], "weights": str(flags.weights), "ema": True}
    about |= {"step": int(trainer.step.numpy()), "dataset": config["dataset"]}
    about["options"] = {**config["options"], "image_size": config["image_size"]}
    about["folder"] = path.parent.parent if path.suffix == ".npz" else path
    serve = zoo.get(config["model"]).serve
    if serve == "a2b":
        about["direction"] = direction or "a2b"
        about["network"] = trainer.ema_networks[about["direction"]]
        return functools.partial(trainer.infer, about["network"]), about
    if serve not in trainer.ema_networks:
        raise UsageError(f"{flags.weights}: with its options {config['model']} has no {serve}")
    about["network"] = trainer.ema_networks[serve]
    about["discriminator"] = trainer.networks.get("discriminator")
    if serve == "generator":
        about["given"] = trainer.generator_inputs
        return trainer.sample, about
    return functools.partial(trainer.infer, about["network"]), about


def explainer(about):
    """keras.Model of what `served` tells of: image (B, S, S, 3) in [-1, 1] -> its attention map (B,
    h, w), the discriminator's or a classifier's Soft-CAM. Where there is none: UsageError."""
    import keras

    from ..zoo.layers import cam

    critic = about.get("discriminator")
    if critic is not None and len(critic.outputs) > 1:
        return keras.Model(critic.input, critic.outputs[1])
    try:
        if zoo.get(about["model"]).serve == "generator":
            raise ValueError(f"the discriminator of {about['model']} makes no map")
        network = about["network"]
        return keras.Model(network.input, cam.explained(network).outputs[1])
    except ValueError as error:
        raise UsageError(f"{about['weights']}: {error}") from None


def attended(network, images):
    """Attention maps (N, h, w) of uint8 images (N, S, S, 3), by what `explainer` gives."""
    return in_parts(functools.partial(network, training=False), images)


def in_parts(function, images):
    """What a function of batches in [-1, 1] gives for uint8 images (N, S, S, 3), 100 at a time."""
    import numpy as np

    parts = (images[i : i + 100] for i in range(0, len(images), 100))
    return np.concatenate([function(to_float(part)) for part in parts])


def run_name(name):
    """A run's name as that of its folder."""
    return "".join(c if c.isalnum() else "_" for c in name)


def as_png(name):
    """The name of a PNG made of a picture: a.png -> a.png, a.jpg -> a.jpg.png."""
    return name if name.endswith(".png") else f"{name}.png"


def translated(translate, images, keys):
    """{key: array} of a translator's outputs for uint8 images (N, S, S, 3), a few at a time: what
    is "translated" as uint8, the rest as it is. Keys that there are not are left out."""
    import numpy as np

    size = max(1, 2**18 // images.shape[1] ** 2)
    found = {}
    for start in range(0, len(images), size):
        made = translate(to_float(images[start : start + size]))
        for key in keys:
            if key in made:
                part = np.asarray(made[key])
                part = to_uint8(part) if key == "translated" else part
                found.setdefault(key, []).append(part)
    return {key: np.concatenate(parts) for key, parts in found.items()}


def make_report(folder):
    """Writes report.html of a run directory; returns its path."""
    from ..evaluate import two_stage
    from ..reports.run_report import report
    from ..trainers import run

    folder = Path(folder)
    record = run.read_record(folder)
    config = record["config"]
    spec = dataclasses.asdict(dataclasses.replace(zoo.get(config["model"]), weights={}))
    rows, evaluations = (run.read_rows(folder / f"{k}.jsonl") for k in ("metrics", "evaluation"))
    pictures = {
        name: [(run.step_of(path), path) for path in sorted((folder / name).glob("step_*.png"))]
        for name in ("samples", "attention")
    }
    stages = two_stage.stages(rows, **config["stop"]) if config.get("stop") else None
    page = report(record, spec, rows, evaluations, pictures, stages)
    write_file(folder / "report.html", page.encode())
    return folder / "report.html"

"""Exports networks as SavedModels for TensorFlow Serving, checked by a process without Keras."""

from pathlib import Path

from .. import zoo
from . import shared
from .publish import public
from .shared import UsageError

USES = "model weights output threshold all"


def run(flags):
    """Writes --output/MODEL/VERSION, or with --all MODEL-TAG/VERSION of all published weights, as
    those of one model are no versions of each other, and the files that a server wants."""
    if flags.all:
        shared.refuse(flags, "model weights", "goes without --all")
        shared.quiet_import()
        found = [(name, tag) for name in zoo.names() for tag in zoo.get(name).weights]
        models = [published(*one, flags.threshold, "-".join(one)) for one in found]
    elif shared.published(flags):
        shared.quiet_import()
        models = [published(flags.model, flags.weights, flags.threshold, flags.model)]
    else:
        models = [trained(flags)]
    from ..serving import export

    root = Path(flags.output or "exported")
    try:
        placed = export.write(models, root)
    except export.ExportError as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise UsageError(f"cannot write {root} ({error}): give another --output") from None
    for path, names in placed:
        print(f"{path}: {', '.join(names)}")


def published(name, tag, threshold, served):
    """serving.export.Served of weights of the zoo; `served`: the name it is exported under."""
    import keras

    from ..zoo import weights

    network, entry = weights.load_entry(name, tag)
    parts = {layer.name: layer for layer in network.layers if isinstance(layer, keras.Model)}
    about = {"weights": tag.rpartition("/")[2], "sha256": entry.sha256, "dataset": entry.dataset}
    about |= {"options": entry.options, "scores": entry.scores, "license": entry.license}
    networks = parts | {entry.network: network}
    threshold = entry.scores.get("threshold") if threshold is None else threshold
    return _served(served, name, networks, threshold, about)


def trained(flags):
    """serving.export.Served of a run's averaged networks, its discriminator as it is."""
    trainer, config = shared.trained(flags)
    options = {**config["options"], "image_size": config["image_size"]}
    about = {"weights": Path(flags.weights).resolve().name, "step": int(trainer.step.numpy())}
    about |= {"dataset": public(config["dataset"]), "options": options}
    networks = {**trainer.networks, **trainer.ema_networks}
    return _served(config["model"], config["model"], networks, flags.threshold, about)


def _served(name, model, networks, threshold, about):
    """A Served of all networks at hand; its role says which of them are needed."""
    from ..serving import export, signatures

    role, size = zoo.get(model).serve, about["options"]["image_size"]
    wanted = signatures.AHEAD if role == "a2b" else (role,)
    if not any(key in networks for key in wanted):
        raise UsageError(f"with these options {model} has no {role} to export")
    threshold = shared.MIDDLE if threshold is None else threshold
    about = {"model": model, **about, "threshold": threshold, "versions": shared.versions()}
    return export.Served(name, role, networks, size, threshold, about)

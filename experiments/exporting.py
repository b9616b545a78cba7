"""`export`: LoadedModels as SavedModels for TensorFlow Serving, or as files of other runtimes."""

from dataclasses import dataclass
from pathlib import Path

from absl import logging

from .. import zoo
from ..common.errors import UsageError
from ..common.files import user_path
from .models import load
from .publishing import public
from .versions import versions

FORMATS = ("saved_model", "tflite", "onnx")
THRESHOLD = 0.5  # of attention maps, where none is known to be better


@dataclass(frozen=True)
class ExportedModel:
    """path: of the version's folder, or of the file. signatures: their names."""

    path: Path
    signatures: tuple


def export(models, output="exported", threshold=None, names=None, format="saved_model"):
    """Exports LoadedModels to output/NAME/VERSION and writes the server's files beside them, or in
    another format to the file output/NAME.FORMAT; returns [ExportedModel].

    models: one LoadedModel or several. threshold: of attention boxes; None: the published one, or
    0.5. names: under which they are exported; None: the models' own. format: one of FORMATS. Each
    SavedModel is loaded back by a process without Keras, each file by its runtime, and compared
    with the network; a difference, or an operation that the format does not have, raises
    UsageError, and then nothing is exported.
    """
    if format not in FORMATS:
        raise UsageError(f"format is one of {', '.join(FORMATS)}, not {format!r}")
    from ..serving import export as serving

    output = user_path(output)
    models = list(models) if isinstance(models, (list, tuple)) else [models]
    names = names or [model.name for model in models]
    try:
        chosen = [served(model, name, threshold) for model, name in zip(models, names)]
        if format == "saved_model":
            logging.info("%s: writing and comparing with the network", ", ".join(names))
            placed = serving.write(chosen, output)
        else:
            from ..serving import formats

            placed = formats.write(chosen, output, format)
    except serving.ExportError as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise UsageError(f"cannot write {output} ({error}): give another --output") from None
    return [ExportedModel(path, tuple(signatures)) for path, signatures in placed]


def export_all(output="exported", threshold=None):
    """Exports all published weights as MODEL-TAG, since they are no versions of each other."""
    tags = [(name, tag) for name in zoo.names() for tag in zoo.get(name).weights]
    models = [load(*one) for one in tags]
    return export(models, output, threshold, ["-".join(one) for one in tags])


def served(model, name=None, threshold=None):
    """The serving.export.Served of a LoadedModel."""
    from ..serving.export import Served

    origin = model.origin
    if not model.serves():
        raise UsageError(f"with these options {model.name} has no {model.key} to export")
    if threshold is None:
        threshold = origin.scores.get("threshold", THRESHOLD)
    about = {"model": model.name}
    if origin.folder:
        about |= {"weights": Path(origin.weights).resolve().name, "step": origin.step}
        about |= {"dataset": public(origin.dataset), "options": model.options}
    else:
        about |= {"weights": origin.weights.rpartition("/")[2], "sha256": origin.sha256}
        about |= {"dataset": origin.dataset, "options": model.options}
        about |= {"scores": origin.scores, "license": origin.license}
    about |= {"threshold": threshold, "versions": versions()}
    size = model.image_size
    return Served(name or model.name, model.spec.serve, model.networks, size, threshold, about)

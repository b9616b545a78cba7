"""`evaluate`: scores of a model, or of images from anywhere, against a data set."""

import json
from pathlib import Path

import numpy as np
from absl import logging

from .. import datasets, tasks
from ..common.errors import UsageError
from ..common.files import printable, user_path, write_output
from ..datasets import folder, open_dataset, walk
from ..evaluate import protocol
from ..reports import confusion
from ..tasks import scoring
from ..tasks.base import EvaluationRequest, LoadedModel
from . import run_directory
from .models import open_model
from .run_reports import write_report
from .versions import versions

BYTES = 2**26  # of images in memory at a time


def evaluate(
    model=None,
    *,
    images=None,
    reference=None,
    metrics=None,
    num=None,
    extractor=None,
    inception=None,
    split=None,
    seed=0,
    image_size=None,
    data_dir=None,
    against=None,
    references=None,
    output=None,
    progress=False,
):
    """Scores a model, or images, against the real images of a data set; returns [Score].

    Arguments are those of `attention_zoo.evaluate`, which calls this, with these differences.

    model: also what `open_model` takes. images: also one picture's file. image_size: None: their
    own; of a folder the median of their smaller sides (`Folder.side`). against: earlier scores
    (rows), or the place of an evaluation.jsonl: if those of generated images, or of `images`, do
    not compare with them, ScoreError is raised before anything is measured. output: the folder for
    confusion_SPLIT.md and .png of a classifier; None: the run directory, if there is one.

    Scores of a run directory's model are added to its evaluation.jsonl.
    """
    earlier = read_scores(against) if isinstance(against, (str, Path)) else against
    request = EvaluationRequest(
        metrics=tuple(metrics) if metrics else None,
        num=num,
        extractor=extractor,
        inception=inception,
        split=split,
        seed=seed,
        progress=progress,
        earlier=earlier,
        references=references,
        data_dir=data_dir,
    )
    if (model is None) == (images is None):
        raise UsageError("evaluate takes a model, or images")
    if scoring.LOCALIZATION in (request.metrics or ()) and (
        images is not None or len(request.metrics) > 1
    ):
        raise UsageError("localization needs a model, and no other metrics")
    if images is not None:
        request.refuse("references", "needs a model")
        return evaluate_images(images, reference, request, image_size, data_dir)
    if not isinstance(model, LoadedModel):
        model = open_model(model)
    if not model.accepts_reference:
        request.refuse(
            "references", f"does not go with {model.place}, which takes no reference images"
        )
    if output and "classify" not in model.capabilities:
        raise UsageError(
            f"output is for a classifier's confusion matrix; {model.spec.name} is not a classifier"
        )
    task = tasks.get(model.spec.kind)
    reference = model.origin.dataset if reference is None else reference
    data = as_reference(reference, model.image_size, data_dir)
    scores = [
        score.with_details(**model.provenance(), seed=seed, versions=versions())
        for score in task.evaluate(model, data, request)
    ]
    if model.origin.folder:
        rows = "".join(json.dumps(score.row()) + "\n" for score in scores)
        with open(model.origin.folder / "evaluation.jsonl", "a") as file:
            file.write(rows)
        write_report(model.origin.folder)
    if place := output or model.origin.folder:
        write_confusion(scores, data, Path(place))
    return scores


def write_confusion(scores, data, folder):
    """Writes confusion_SPLIT.md and .png of the scores that have a confusion matrix, with the names
    of the classes of the data."""
    for score in (score for score in scores if "confusion" in score.details):
        counts, split = score.details["confusion"], score.details["split"]
        labels = data.class_names or [str(label) for label in range(len(counts))]
        about = f"{score.metric} = {score.value:.4f}, {public(score.details['dataset'])}"
        text = f"{about}\n\n{confusion.table(counts, labels)}"
        write_output(folder / f"confusion_{split}.md", text)
        picture = confusion.picture(counts, labels, about)
        write_output(folder / f"confusion_{split}.png", picture)


def public(text):
    """A data set's name without the user's folders."""
    kind, colon, path = text.partition(":")
    return f"{kind}:{Path(path).name}" if colon and kind in ("folder", "hep2") else text


def as_reference(reference, image_size, data_dir, flag="--dataset="):
    """The data set of a reference: a name, a folder's path, an array, a tf.data.Dataset. flag: what
    errors call a path."""
    if _is_path(reference):
        reference = f"folder:{walk.folder(reference, flag)}"
    if isinstance(reference, str) and reference in ("arrays", "tf.data"):
        raise UsageError("the model was trained on images in memory: give reference=")
    return open_dataset(reference, image_size, data_dir)


def _is_path(reference):
    """True for a Path, and for text that names a file or folder and no data set."""
    if not isinstance(reference, str) or reference in datasets.names():
        return isinstance(reference, Path)
    return reference.startswith("~") or Path(reference).exists()


def evaluate_images(images, reference, request, image_size, data_dir):
    """[Score] of images from anywhere, of which `num` are drawn by the seed."""
    if reference is None:
        raise UsageError("images need a reference: the data set to compare them with")
    source = images if isinstance(images, (str, Path)) else "array"
    if _is_path(images) and user_path(images).is_file():
        ((_, pixels),) = folder.read_all(images, "--input=")[1]
        images = pixels[None]
    data = as_reference(images, None, data_dir, "--input=")
    if data.name.startswith("folder:"):
        image_size = image_size or data.sources.find("train").side()
        if data.has_split("test"):
            logging.warning("%s has train/ and test/: train/ is evaluated", printable(images))
    arrays = data.resized(image_size or data.side).arrays("train")["image"]
    if request.num and request.num > len(arrays):
        raise UsageError(f"num={request.num}: {source} has {len(arrays)} images")
    count = request.num or len(arrays)
    chosen = np.sort(np.random.default_rng(request.seed).permutation(len(arrays))[:count])
    real = as_reference(reference, arrays.shape[1], data_dir)
    split = request.split or ("test" if real.has_split("test") else "train")
    spec = scoring.scorer_spec(request, count=count, split=split)
    scorer = scoring.make_scorer(spec, real, progress=request.progress)
    if request.earlier is not None:
        protocol.compare(scorer.outline(), request.earlier)
    step = max(1, min(1000, BYTES // arrays[0].nbytes))
    scores = scorer.scores(
        lambda: (arrays[chosen[i : i + step]] for i in range(0, len(chosen), step))
    )
    scorer.warn()
    details = {"input": str(source), "seed": request.seed, "versions": versions()}
    return [score.with_details(**details) for score in scores]


def read_scores(path):
    """The rows of a run directory's evaluation.jsonl, or of such a file."""
    path = Path(path)
    path = path / "evaluation.jsonl" if path.is_dir() else path
    rows = [row for row in run_directory.read_rows(path) if {"metric", "value"} <= row.keys()]
    if not rows:
        raise UsageError(f"against: {path} holds no scores of --mode=evaluate")
    return rows


def differences(scores, earlier):
    """[(metric, value, earlier value)] of the metrics that scores share with earlier rows."""
    pairs = protocol.compare([score.row() for score in scores], earlier)
    return [(ours["metric"], ours["value"], theirs["value"]) for ours, theirs in pairs]

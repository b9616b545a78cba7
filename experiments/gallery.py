"""The gallery: a page of what each model does, made from the published weights alone."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import matplotlib
import numpy as np
from tqdm import tqdm

from .. import tasks, zoo
from ..common.files import write_output
from ..datasets import pictures as files
from ..datasets import rendered, resize
from ..reports import gallery as pages
from ..reports import results
from .models import load
from .publishing import CARDS

IMAGES = 8  # of a picture
IMAGENET = "imagenet"  # the data set whose classifiers see matplotlib's sample photograph


@dataclass(frozen=True)
class Gallery:
    """What gallery() wrote: page, the names of the models shown and of those without weights."""

    page: Path
    shown: list
    without: list


def gallery(output="gallery", *, progress=False):
    """Writes index.html into a folder, a page in one file; returns a Gallery.

    It needs the bundled weights and no data set: images are rendered, samples of a generator of the
    zoo that was trained on the same data, or a photograph that comes with matplotlib. Where none of
    these will do, a checkout has the picture of the model card.
    """
    texts, drawn = described(), {}
    rows = [(name, tag) for name in zoo.names() for tag in zoo.get(name).weights]
    for name, tag in tqdm(
        rows, unit="weights", dynamic_ncols=True, disable=not progress, file=sys.stderr
    ):
        command = zoo.get(name).weights[tag].origin.get("command", "")
        drawn.setdefault(name, []).append((tag, command, pictures(name, tag)))
        keras.backend.clear_session()
    entries = [replace(entry, weights=tuple(drawn.get(entry.name, ()))) for entry in texts]
    page = Path(output) / "index.html"
    write_output(page, pages.gallery(entries))
    shown = [one.name for one in entries if one.weights]
    return Gallery(page, shown, [one.name for one in entries if not one.weights])


def described():
    """The Entry of every model, with texts and figures of docs/results and without pictures."""
    models, lines, entries = results.models(), results.read(), []
    for spec in map(zoo.get, zoo.names()):
        for tag, weights in spec.weights.items():
            lines |= results.of_weights(spec.name, tag, weights)
    for spec in map(zoo.get, zoo.names()):
        about = models.get(spec.name, {})
        texts = {
            key: results.filled(about.get(key, ""), lines)
            for key in ("claim", "reported", "ours", "verdict")
        }
        if about.get("protocol"):
            texts["ours"] += f" ({about['protocol']})"
        paper, command = f"{spec.paper} ({spec.source})", about.get("command", "")
        entries.append(pages.Entry(spec.name, paper, spec.task, command=command, **texts))
    return entries


def pictures(name, tag):
    """[(caption, uint8 picture)] of published weights. Where there are no images for them it is the
    picture of their card, which a checkout has; else there is none."""
    model = load(name, tag)
    found, card = examples(model), CARDS / f"{name}-{tag}.png"
    if found is not None or "sample" in model.capabilities:
        return tasks.get(model.spec.kind).exhibit(model, found)
    return [("The picture of their card", files.read(card))] if card.exists() else []


def examples(model):
    """{"image": uint8 (IMAGES, S, S, 3), ...} like those that a model was trained on: rendered, or
    samples of a generator of the zoo that was trained on the same data; else None."""
    name, size = model.origin.dataset, model.image_size
    found = rendered.examples(name, IMAGES, size, (model.direction or "")[:1])
    if found is not None or "sample" in model.capabilities:
        return found
    if name == IMAGENET:
        return photograph(size)
    for spec in map(zoo.get, zoo.names()):
        for tag, entry in spec.weights.items():
            if entry.dataset == name and "sample" in tasks.get(spec.kind).able(spec):
                images = load(spec.name, tag).sample(IMAGES)
                return {"image": np.stack([resize.whole(image, size) for image in images])}
    return None


def photograph(size):
    """{"image": uint8 (1, size, size, 3)}; None where matplotlib has no sample pictures."""
    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    if not path.exists():
        return None
    return {"image": resize.square(files.read(path), size)[None]}

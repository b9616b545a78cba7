"""The gallery: a page of what each model does, made from the published weights alone."""

import sys
from dataclasses import dataclass, replace
from math import inf
from operator import itemgetter
from pathlib import Path

import keras
import numpy as np
from tqdm import tqdm

from .. import tasks, zoo
from ..common.files import make_output, write_output
from ..datasets import pictures as files
from ..datasets import rendered, resize, table
from ..reports import gallery as pages
from ..reports import results
from .models import class_names, load
from .publishing import CARDS

IMAGES = 8  # of a picture
STAND_INS = {  # data set -> the rendered one that takes its place, and what it is called
    "imagenet": ("creatures", "Drawings of animals, unlike the photographs of its training"),
    "hep2": ("cells", "Drawings of cells, unlike the microscope's images of its training"),
}


@dataclass(frozen=True)
class Gallery:
    """What gallery() wrote: page, the names of the models shown and of those without weights."""

    page: Path
    shown: list
    without: list


def gallery(output="gallery", *, progress=False):
    """Writes index.html into a folder, a page in one file; returns a Gallery.

    It needs the bundled weights and no data set: images are rendered, or samples of a generator of
    the zoo that was trained on the same data. Where neither will do, a checkout has the picture of
    the model card. Weights that were trained on pictures of people are listed without a picture.
    """
    make_output(output)
    texts, drawn = described(), {}
    rows = [(name, tag) for name in zoo.names() for tag in zoo.get(name).weights]
    for name, tag in tqdm(
        rows, unit="weights", dynamic_ncols=True, disable=not progress, file=sys.stderr
    ):
        origin = zoo.get(name).weights[tag].origin
        command = origin.get("command") or f"# converted from {origin.get('file', 'other weights')}"
        drawn.setdefault(name, []).append((tag, command, pictures(name, tag)))
        keras.backend.clear_session()
    entries = [replace(entry, weights=tuple(drawn.get(entry.name, ()))) for entry in texts]
    page = Path(output) / "index.html"
    write_output(page, pages.gallery(entries))
    shown = [one.name for one in entries if one.weights]
    return Gallery(page, shown, [one.name for one in entries if not one.weights])


def described():
    """The Entry of every model, with texts and figures of docs/results and without pictures."""
    models, entries, specs = results.models(), [], list(map(zoo.get, zoo.names()))
    lines = results.read() | results.of_zoo(specs)
    for spec in specs:
        about = models.get(spec.name, {})
        texts = {
            key: results.filled(about.get(key, ""), lines)
            for key in ("use", "claim", "reported", "ours", "verdict")
        }
        if about.get("protocol"):
            texts["ours"] += f" ({about['protocol']})"
        paper, command = f"{spec.paper} ({spec.source})", about.get("command", "")
        entries.append(pages.Entry(spec.name, paper, spec.task, command=command, **texts))
    return entries


def pictures(name, tag):
    """[(caption, uint8 picture)] of published weights. Where there are no images for them it is the
    picture of their card, which a checkout has; else there is none. There is none of weights that
    were trained on pictures of people."""
    if table.shows_people(zoo.get(name).weights[tag].dataset):
        return []
    model = load(name, tag)
    found, card = examples(model), CARDS / f"{name}-{tag}.png"
    if found is not None or "sample" in model.capabilities:
        return tasks.get(model.spec.kind).exhibit(model, found)
    return [("The picture of their card", files.read(card))] if card.exists() else []


def examples(model):
    """{"image": uint8 (IMAGES, S, S, 3), ...} like those that a model was trained on: rendered, or
    those of STAND_INS, or samples of the generator of the zoo that has the lowest FID on the same
    data; else None. "names" of the classes and the "source" of the images stand beside them where
    they are known."""
    name, size = model.origin.dataset, model.image_size
    names = class_names(model)
    known = {"names": names} if names else {}
    found = rendered.examples(name, IMAGES, size, (model.direction or "")[:1])
    if found is not None:
        return found | known
    if "sample" in model.capabilities:
        return None
    other, source = STAND_INS.get(name.partition(":")[0], ("", ""))
    if other:
        return {"image": rendered.examples(other, IMAGES, size)["image"], "source": source}
    generators = [
        (min([v for k, v in entry.scores.items() if k.startswith("fid_")], default=inf), spec, tag)
        for spec in map(zoo.get, zoo.names())
        for tag, entry in spec.weights.items()
        if entry.dataset == name and "sample" in tasks.get(spec.kind).able(spec)
    ]
    if not generators:
        return None
    _, spec, tag = min(generators, key=itemgetter(0))
    images = [resize.whole(image, size) for image in load(spec.name, tag).sample(IMAGES)]
    return {"image": np.stack(images), "source": f"Samples of {spec.name}:{tag}"} | known

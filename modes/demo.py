"""Serves a page to play with: the zoo's published weights, and one's own runs."""

import functools
import os
import tempfile
import types
from pathlib import Path

from .. import zoo
from . import shared
from .shared import UsageError

USES = "weights port"
PORT = 7860
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def run(flags):
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio  # noqa: F401
    except ImportError:
        why = "--mode=demo needs Gradio: pip install -r requirements-demo.txt"
        raise UsageError(why) from None
    shared.quiet_import()
    from ..serving import demo

    found = models(flags.weights)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # what visitors send
        load = functools.lru_cache(4)(functools.partial(loaded, found))
        page = demo.page(*tabs(found), load, picture, examples(Path(folder)))
        try:
            demo.launch(page, flags.port or PORT)
        except demo.Refused as error:
            raise UsageError(str(error)) from None


def models(weights):
    """{name on the page: (model, tag or None, run directory or None)}: the run directory that
    --weights is, or those in it, and what the zoo has published."""
    from ..trainers import run

    found = {}
    if weights:
        folder = Path(weights)
        runs = [folder] if (folder / "run.json").exists() else folder.glob("*/run.json")
        runs = sorted(path.parent if path.name == "run.json" else path for path in runs)
        for path in runs:
            if run.list_checkpoints(path):
                name = run.read_record(path)["config"]["model"]
                found[f"{name}, {path}"] = (name, None, path)
        if not found:
            raise UsageError(f"--weights={weights} is no run with a checkpoint, nor holds any")
    for name in zoo.names():
        found |= {f"{name}:{tag}": (name, tag, None) for tag in zoo.get(name).weights}
    return found


def tabs(found):
    """The names of those that make images, those that translate, and those that look at some."""
    specs = {name: zoo.get(model) for name, (model, *_) in found.items()}
    looks = ("classifier", "attention")
    return (
        [name for name, spec in specs.items() if spec.serve == "generator"],
        [name for name, spec in specs.items() if spec.serve == "a2b"],
        [n for n, spec in specs.items() if spec.serve in looks or spec.publish == "annotator"],
    )


def loaded(found, name):
    """serving.export.Served of a name of `models`; its about also holds the names of "classes",
    where they are known. What cannot be loaded is Refused."""
    from ..datasets import cells, creatures
    from ..serving import demo
    from ..trainers import run
    from . import export

    model, tag, folder = found[name]
    try:
        if tag:
            served = export.published(model, tag, None, model)
        else:
            flags = {"mode": "demo", "weights": folder, "model": None, "threshold": None}
            served = export.trained(types.SimpleNamespace(**flags))
    except (UsageError, zoo.WeightsError, run.RunError) as error:
        raise demo.Refused(str(error)) from None
    known = {"cifar10": CIFAR10, "creatures": creatures.LABELS, "cells": cells.LABELS}
    served.about["classes"] = known.get(served.about["dataset"].partition("/")[0], ())
    return served


def picture(path):
    """A picture file's pixels, uint8 (H, W, 3), upright and over white; what is none, or one of
    more than signatures.PIXELS, is Refused, the latter before it is decoded."""
    import numpy as np
    from PIL import Image, ImageOps

    from ..datasets import folder
    from ..serving import demo, signatures

    if not path:
        raise demo.Refused("give a picture first")
    count = 0
    try:
        with Image.open(path) as image:
            count = image.width * image.height
            if count <= signatures.PIXELS:
                return np.asarray(folder.to_rgb(ImageOps.exif_transpose(image)))
    except folder.UNREADABLE:
        raise demo.Refused("this is not a picture that can be read: give a PNG or JPEG") from None
    most = signatures.PIXELS / 1e6
    raise demo.Refused(f"{count / 1e6:.0f} million pixels are too many: at most {most:.0f}")


def examples(folder):
    """Paths of pictures to begin with, written into a folder: animals, cells."""
    import numpy as np

    from ..datasets import cells, creatures

    coats = [creatures.COATS.index(coat) for coat in ("plain", "striped")] * 2
    rngs = [np.random.default_rng(i) for i in range(4)]
    made = [
        creatures.render(rng, label=i, coat=coat)["image"]
        for i, (rng, coat) in enumerate(zip(rngs, coats))
    ]
    found = cells.render(np.random.default_rng(0), 2, label=(1, 3), intensity=1)["image"]
    made += list(found.repeat(3, -1))
    paths = [folder / f"{i}.png" for i in range(len(made))]
    for path, image in zip(paths, made):
        path.write_bytes(creatures.png(image))
    return [[str(path)] for path in paths]

"""The demo page's models: published weights and one's own runs, loaded when they are first used."""

import functools
import os
import tempfile
from pathlib import Path

import numpy as np

from .. import tasks, zoo
from ..common.errors import UsageError
from ..datasets import cells, creatures, pictures
from . import exporting, run_directory
from .models import class_names, load, open_run

PORT = 7860


def serve(weights=None, port=None):
    """Serves the page until it is interrupted. weights: a run directory, or a folder of them, shown
    beside the published weights. Needs Gradio."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        import gradio  # noqa: F401
    except ImportError:
        why = "--mode=demo needs Gradio: pip install -r requirements-demo.txt"
        raise UsageError(why) from None
    from ..serving import demo

    known = models(weights)
    with tempfile.TemporaryDirectory() as place:
        os.environ["GRADIO_TEMP_DIR"] = place  # what visitors send
        get = functools.lru_cache(4)(functools.partial(loaded, known))
        page = demo.page(*tabs(known), get, picture, examples(Path(place)))
        try:
            demo.launch(page, port or PORT)
        except demo.Refused as error:
            raise UsageError(str(error)) from None


def models(weights=None):
    """{name on the page: (model, tag or None, run directory or None)}: the run directory that
    `weights` is, or those in it, and the published weights."""
    names = {}
    if weights:
        place = Path(weights)
        runs = [place] if (place / "run.json").exists() else place.glob("*/run.json")
        runs = sorted(path.parent if path.name == "run.json" else path for path in runs)
        for path in runs:
            if run_directory.list_checkpoints(path):
                model = run_directory.read_record(path)["config"]["model"]
                names[f"{model}, {path}"] = (model, None, path)
        if not names:
            raise UsageError(
                f"--weights={weights} is not a run directory with a checkpoint, and contains none"
            )
    for model in zoo.names():
        names |= {f"{model}:{tag}": (model, tag, None) for tag in zoo.get(model).weights}
    return names


def tabs(known):
    """The names of `models` in each tab: those that sample, that translate, that explain."""
    specs = {name: zoo.get(model) for name, (model, *_) in known.items()}
    able = {name: tasks.get(spec.kind).able(spec) for name, spec in specs.items()}
    return tuple(
        [name for name in known if what in able[name]]
        for what in ("sample", "translate", "explain")
    )


def loaded(known, name):
    """The serving.export.Served of a name of `models`; its about also has the names of "classes",
    if they are known. A model that cannot be loaded raises demo.Refused."""
    from ..serving import demo

    model, tag, run = known[name]
    try:
        found = load(model, tag) if tag else open_run(run)
        served = exporting.served(found)
    except UsageError as error:
        raise demo.Refused(str(error)) from None
    served.about["classes"] = class_names(found)
    return served


def picture(path):
    """A picture file's pixels, uint8 (H, W, 3), upright and over white; what is none, or one of
    more than signatures.PIXELS, is Refused, the latter before it is decoded."""
    from ..serving import demo, signatures

    if not path:
        raise demo.Refused("give a picture first")
    try:
        return pictures.read(path, int(signatures.PIXELS))
    except pictures.Unreadable as error:
        why = f"this is not a picture that can be read ({error})"
        raise demo.Refused(f"{why}: give another PNG or JPEG") from None


def examples(folder):
    """Paths of pictures to begin with, written into a folder: animals, cells."""
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

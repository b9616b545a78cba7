"""The study of translators: any of them side by side, on any two domains."""

import dataclasses
import json
import math
import time
from types import SimpleNamespace

import numpy as np

from .. import trainers, zoo
from ..common.errors import UsageError
from ..common.files import write_output
from ..common.images import foreground
from ..common.tables import markdown
from ..datasets import open_dataset
from ..evaluate import translation as measures
from ..experiments.config import RunConfig
from ..experiments.models import open_run
from ..reports import comparison
from ..tasks import scoring
from ..tasks.translation import evaluate, translated
from .base import Study

SYSTEMS = [  # name, model, settings
    ("CycleGAN", "cyclegan", {}),
    ("scheme 1", "attention_gan", {"scheme": 1}),
    ("scheme 2", "attention_gan", {}),
    ("scheme 2, attention-guided", "attention_gan", {"attention_discriminators": True}),
]
DIRECTIONS = ("a2b", "b2a")
SHOWN = 8  # images drawn
SIZES = "image_size batch_size steps"  # what all systems have in common
COSTS = "translation_costs.json"


def translation(study, runs, data="creatures/plain2striped", *, request, systems=None):
    """Translators with one seed, order of the data, size and number of images: the scores of both
    directions, and what each makes of the same images; returns a Study. The same call goes on
    where it was interrupted.

    runs: a StudyRuns; size, batch and steps are CycleGAN's where it names none. A system whose step
    takes several batches has fewer steps. request: an EvaluationRequest (extractor). systems:
    [(name, model, settings)]; None: SYSTEMS.
    """
    request.refuse("metrics", "does not go with this study, which has its own")
    systems = SYSTEMS if systems is None else systems
    common = RunConfig.resolve("cyclegan", data, data_dir=runs.data_dir, **runs.options)
    common = {key: getattr(common, key) for key in SIZES.split()}
    others = [model for _, model, _ in systems]
    scores, drawn, costs = {direction: {} for direction in DIRECTIONS}, {}, read(runs.output)
    for name, model, settings in systems:
        parts = batches(runs.resolved(model, data, settings, others))
        options = runs.options | common | {"steps": math.ceil(common["steps"] / parts)}
        one, begin = dataclasses.replace(runs, options=options), time.perf_counter()
        trained, config = one.train(study, name, model, data, settings, others=others)
        images = (trained.step - trained.resumed_at) * parts * config.batch_size
        spent = costs.setdefault(name, {"seconds": 0.0, "images": 0})
        if images:
            spent["seconds"] += time.perf_counter() - begin
            spent["images"] += images
        for direction in DIRECTIONS:
            translator = open_run(runs.folder(name), direction)
            dataset = open_dataset(data, translator.image_size, runs.data_dir)
            arrays = dataset.arrays(f"{request.split or 'test'}_{direction[0]}")
            images = arrays["image"][:]
            made = translated(translator.translate_batch, images, ("translated", "masks"))
            found = {s.metric: s.value for s in evaluate(translator, dataset, request, made)}
            more = more_scores(translator, dataset, request, found, images, made["translated"])
            scores[direction][name] = found | more
            draw(drawn.setdefault(direction, {}), name, arrays, made)
        spent["parameters"] = translator.network.count_params()
        write_output(runs.output / COSTS, json.dumps(costs, indent=1))
    seen = common["steps"] * common["batch_size"]
    return _written(runs.output, scores, drawn, costs, seen)


def parsed(text):
    """ "cyclegan,attention_gan:scheme=1" -> [(name, model, settings)] for `translation`. A model
    that translates nothing, or one that is named twice alike, raises UsageError."""
    systems, known = [], zoo.names("translation")
    for part in text.split(","):
        model, *pairs = part.strip().split(":")
        if zoo.get(model).name not in known:
            names = ", ".join(known)
            raise UsageError(f"models={part}: {model} translates no images; there are {names}")
        if not all("=" in pair for pair in pairs):
            raise UsageError(f"models={part}: takes MODEL or MODEL:NAME=VALUE")
        settings = dict(pair.split("=", 1) for pair in pairs)
        systems.append((" ".join([model, *pairs]), model, settings))
    if len({name for name, *_ in systems}) < len(systems):
        raise UsageError(f"models={text}: a model is named twice with the same settings")
    return systems


def batches(config):
    """The number of batches in a step of a run."""
    make_hparams, trainer = trainers.get(config.model).VARIANTS[config.loss]
    count = trainer.batches_per_step
    hp = make_hparams(**config.hparams)
    return count.fget(SimpleNamespace(hp=hp)) if isinstance(count, property) else count


def read(folder):
    """{name: {"seconds", "images", "parameters"}} of earlier calls."""
    path = folder / COSTS
    return json.loads(path.read_text()) if path.exists() else {}


def draw(pictures, name, arrays, made):
    """Adds the first images of a split and what a model makes of them to {label: pictures}."""
    pictures.setdefault("input", arrays["image"][:SHOWN])
    if "truth" in arrays:
        pictures.setdefault("truth", arrays["truth"][:SHOWN])
    pictures[name] = made["translated"][:SHOWN]
    if "masks" in made:
        grey = np.repeat(255 * foreground(made["masks"][:SHOWN])[..., None], 3, axis=-1)
        pictures[f"its attention, {name}"] = grey.astype("uint8")


def more_scores(model, data, request, scores, images, made):
    """{metric: value} of what compares with the images themselves: UAIT's kernel distance, the mean
    of those to the target's and to the source's images (Mejjati et al., 2018), and the mean
    absolute difference of an image and its translation back, as a share of the range. scores: those
    of `evaluate`, the kernel distance to the target's images among them. images, made: uint8 (N, H,
    W, 3), those of the split and their translations."""
    split, (end, other) = request.split or "test", model.direction.split("2")
    request, count = dataclasses.replace(request, metrics=("kid",)), len(images)
    spec = scoring.scorer_spec(request, split=f"{split}_{end}", count=count)
    (source,) = scoring.make_scorer(spec, data).scores(lambda: iter([made]))
    name = source.metric.removesuffix(f"_{end}")
    both = np.mean([scores[f"{name}_{other}"], source.value])
    again = translated(model.back().translate_batch, made, ("translated",))["translated"]
    return {
        name.replace("kid_", "kid_target_and_source_", 1): float(both),
        f"cycle_l1_{count}_{split}_{end}": float(measures.l1(images, again).mean()),
    }


def _written(folder, scores, drawn, costs, seen):
    tables = []
    for direction, rows in scores.items():
        metrics = list(dict.fromkeys(key for row in rows.values() for key in row))
        lines = [["", *metrics]]
        for name, row in rows.items():
            lines.append([name, *(f"{row[k]:.4g}" if k in row else "–" for k in metrics)])
        tables.append(f"{direction}:\n\n{markdown(lines)}")
        write_output(folder / f"translation_{direction}.md", tables[-1])
        write_output(folder / f"translation_{direction}.json", json.dumps(rows, indent=1))
        picture = comparison.pictures(drawn[direction])
        write_output(folder / f"translation_{direction}.png", picture)
    lines = [["", "parameters of a generator", "images a second", f"minutes for {seen:,} images"]]
    for name in next(iter(scores.values())):
        spent = costs[name]
        cells = ["–", "–"]
        if spent["images"]:
            rate = spent["images"] / spent["seconds"]
            cells = [f"{rate:.3g}", f"{seen / rate / 60:.1f}"]
        lines.append([name, f"{spent['parameters']:,}", *cells])
    tables.append(f"costs:\n\n{markdown(lines)}")
    write_output(folder / "translation_costs.md", tables[-1])
    return Study(folder, "\n".join(tables), folder / "translation_a2b.png", scores)

"""The study of translators: do masks keep what is not to change?"""

import json

import numpy as np

from ..common.files import write_output
from ..common.tables import markdown
from ..datasets import open_dataset
from ..experiments.models import open_run
from ..reports import comparison
from ..tasks.translation import evaluate
from .base import Study

RUNS = [  # name, model, settings
    ("CycleGAN", "cyclegan", {}),
    ("scheme 1", "attention_gan", {"scheme": 1}),
    ("scheme 2", "attention_gan", {}),
    ("scheme 2, attention-guided", "attention_gan", {"attention_discriminators": True}),
]
OTHER = {"cyclegan": "attention_gan", "attention_gan": "cyclegan"}
DIRECTIONS = ("a2b", "b2a")
SHOWN = 8  # images drawn


def translation(study, runs, data="creatures/plain2striped", *, request):
    """CycleGAN and AttentionGAN's schemes with one seed and order of the data: the scores of both
    directions, and what each makes of the same images; returns a Study. The same call goes on
    where it was interrupted. runs: a StudyRuns. request: an EvaluationRequest (extractor)."""
    scores, drawn = {direction: {} for direction in DIRECTIONS}, {}
    for name, model, settings in RUNS:
        runs.train(study, name, model, data, settings, other=OTHER[model])
        for direction in DIRECTIONS:
            model = open_run(runs.folder(name), direction)
            dataset = open_dataset(data, model.image_size, runs.data_dir)
            rows = evaluate(model, dataset, request)
            scores[direction][name] = {score.metric: score.value for score in rows}
            arrays = dataset.arrays(f"test_{direction[0]}")
            images = arrays["image"][:SHOWN]
            pictures = drawn.setdefault(direction, {"input": images})
            if "truth" in arrays:
                pictures.setdefault("truth", arrays["truth"][:SHOWN])
            made = model.translate(images)
            pictures[name] = made.images
            if made.masks is not None:
                grey = np.repeat(255 * made.attention[..., None], 3, axis=-1)
                pictures[f"its attention, {name}"] = grey.astype("uint8")
    folder, tables = runs.output, []
    for direction, rows in scores.items():
        metrics = list(dict.fromkeys(key for row in rows.values() for key in row))
        lines = [["", *metrics]]
        for name, row in rows.items():
            lines.append([name, *(f"{row[k]:.4g}" if k in row else "–" for k in metrics)])
        tables.append(f"{direction}:\n\n{markdown(lines)}")
        text = json.dumps(rows, indent=1)
        picture = comparison.pictures(drawn[direction])
        write_output(folder / f"translation_{direction}.md", tables[-1])
        write_output(folder / f"translation_{direction}.json", text)
        write_output(folder / f"translation_{direction}.png", picture)
    return Study(folder, "\n".join(tables), folder / "translation_a2b.png", scores)

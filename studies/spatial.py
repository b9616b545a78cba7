"""Does a metric notice a broken layout?"""

import functools
import json
from pathlib import Path

import numpy as np
from absl import logging

from ..common.errors import UsageError
from ..datasets import open_dataset
from ..evaluate import spatial
from ..experiments.versions import versions
from ..reports import comparison
from ..tasks import scoring
from .base import written


def fid_spatial(
    data="creatures", *, request, image_size=None, output="fid_spatial", data_dir=None, say=None
):
    """Scores real images against the same ones with their layout broken; returns a Study.

    request: an EvaluationRequest (extractor, num). say: a function of each row as it is measured.
    """
    data = open_dataset(data, image_size, data_dir)
    train, test = (data.arrays(split)["image"] for split in ("train", "test"))
    if test.shape[1] % 16:
        raise UsageError(f"images of {test.shape[1]} do not divide by 16: give an --image_size")
    count = min(request.num or 10_000, len(test), len(train))
    order = np.random.default_rng(request.seed).permutation(len(train))  # folders: by class
    train, test = train[order[:count]], test[:count]
    spec = scoring.scorer_spec(request, metrics=spatial.METRICS, count=count)
    scorer = scoring.make_scorer(spec, data, count, request.progress)
    scorer.warn()
    parts = [slice(i, min(i + 1000, count)) for i in range(0, count, 1000)]
    rows, shown = [], []
    for name, images in spatial.conditions(train, test, request.seed).items():
        scores = scorer.scores(functools.partial(map, images, parts))
        rows.append({"images": name} | {score.metric: score.value for score in scores})
        shown.append(images(slice(0, 8)))
        (say or logging.info)(json.dumps(rows[-1]))
    about = {"study": "fid_spatial", **scorer.about, "seed": request.seed, "versions": versions()}
    table, picture = spatial.markdown(rows), comparison.distortions(rows, shown)
    return written(Path(output), "fid_spatial", about, rows, table, picture)

"""How far apart do metrics find two sets of real images, by the number of images?"""

import json
from pathlib import Path

import numpy as np
from absl import logging

from ..common import tables
from ..common.errors import UsageError
from ..datasets import open_dataset
from ..evaluate import protocol
from ..evaluate.features import Features, RowFeatures
from ..experiments.versions import versions
from ..reports import comparison
from ..tasks import scoring
from .base import written

COUNTS = (500, 1_000, 2_000, 5_000, 10_000)
METRICS = ("fid", "kid", "precision_recall", "density_coverage")
REPEATS = 3


def floor(data="creatures", *, request, image_size=None, output="floor", data_dir=None, say=None):
    """Scores halves of the training images against each other; returns a Study.

    request: an EvaluationRequest (extractor, num, seed); num: images of a half at most. Each row is
    of REPEATS random pairs of halves: the means, and in FID's column the lowest and the highest.
    say: a function of each row as it is measured.
    """
    data = open_dataset(data, image_size, data_dir)
    images = data.arrays("train")["image"]
    most = min(request.num or COUNTS[-1], len(images) // 2)
    counts = [count for count in COUNTS if count <= most]
    if not counts:
        raise UsageError(
            f"the study needs {2 * COUNTS[0]} training images, and --num={COUNTS[0]} or more: "
            f"{data.name} has {len(images)}"
        )
    network = scoring.extractor(request.extractor, request.inception, data.name)
    chosen = np.random.default_rng(request.seed).permutation(len(images))[: 2 * counts[-1]]
    chosen.sort()
    features = Features(
        lambda: (images[chosen[i : i + 1000]] for i in range(0, len(chosen), 1000)), network
    ).rows("features")
    rows = []
    for count in counts:
        rows.append(measured(features, count, request.seed))
        (say or logging.info)(json.dumps(rows[-1]))
    about = {
        "study": "floor",
        "dataset": data.name,
        "data": data.identity("train"),
        "image_size": images.shape[1],
        "extractor": network.name,
        "digest": network.digest,
        "seed": request.seed,
        "versions": versions(),
    }
    picture = comparison.floors(rows, network.name)
    return written(Path(output), "floor", about, rows, markdown(rows), picture)


def measured(features, count, seed):
    """{"count", name: mean, "fid_low", "fid_high"} of REPEATS pairs of `count` rows each of
    features (N, D), N >= 2 count."""
    found = {}
    for repeat in range(REPEATS):
        order = np.random.default_rng([seed, count, repeat]).permutation(len(features))
        real, other = (RowFeatures(features[order[i : i + count]]) for i in (0, count))
        for name, _, (value, _) in protocol.measure(METRICS, real, other):
            found.setdefault(name, []).append(value)
    row = {"count": count} | {name: float(np.mean(values)) for name, values in found.items()}
    return {**row, "fid_low": min(found["fid"]), "fid_high": max(found["fid"])}


def markdown(rows):
    """The rows as a table."""
    lines = [["images of each half", "fid (lowest to highest)", *list(rows[0])[2:-2]]]
    for row in rows:
        fid = f"{row['fid']:.4g} ({row['fid_low']:.4g} to {row['fid_high']:.4g})"
        lines.append([f"{row['count']:,}", fid, *(f"{v:.4g}" for v in list(row.values())[2:-2])])
    return f"{tables.markdown(lines)}\n"

"""Metrics, whose names are their protocol: the features, the number of images, the real images.

`fid_resnet9-cifar10_10k_test`: FID on the features of the zoo's resnet9-cifar10, of 10,000
generated images and all images of the test split. A name without a split needs no real images.
`..._training-references`: each image was generated from a training image (RAGAN); without it, from
noise alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

from ..common.errors import UsageError
from . import coverage, fid, inception_score, kid, prdc


@dataclass(frozen=True)
class Metric:
    """names: of its values. value: function of real and fake Features -> for each name a pair
    (value, deviation or None). needs: (form, kind) of the Features that it reads. real: True if it
    needs real images. higher: True if higher values are better.
    """

    names: tuple
    value: Callable
    needs: tuple
    real: bool = True
    higher: bool = False


def _frechet(kind):
    def value(real, fake):
        a, b = real.moments(kind), fake.moments(kind)
        return [(fid.frechet_distance(a["mean"], a["cov"], b["mean"], b["cov"]), None)]

    return value


def _of_rows(function):
    def value(real, fake):
        return function(real=real.rows("features"), fake=fake.rows("features"))

    return value


def _kid(*, real, fake):
    """Subsets of 1,000, or of all rows if there are fewer."""
    return kid.kid(real=real, fake=fake, subset_size=min(1000, len(real), len(fake)))


def _one(function):
    return lambda real, fake: [_of_rows(function)(real, fake)]


def _pair(function):
    return lambda real, fake: [(v, None) for v in _of_rows(function)(real, fake)]


def _of_logits(function):
    return lambda real, fake: [(v, None) for v in function(fake.rows("logits"))]


LEAST = 10
ROWS = ("rows", "features")
METRICS = {
    "fid": Metric(("fid",), _frechet("features"), ("moments", "features")),
    "sfid": Metric(("sfid",), _frechet("spatial"), ("moments", "spatial")),
    "kid": Metric(("kid",), _one(_kid), ROWS),
    "kid_blocks10": Metric(("kid_blocks10",), _one(kid.kid_blocks), ROWS),
    "is": Metric(
        ("is",),
        lambda real, fake: [inception_score.inception_score(fake.rows("logits"))],
        ("rows", "logits"),
        real=False,
        higher=True,
    ),
    "classes": Metric(
        ("classes", "entropy"),
        _of_logits(coverage.class_coverage),
        ("rows", "logits"),
        real=False,
        higher=True,
    ),
    "breeds": Metric(
        ("breeds", "dogs"),
        _of_logits(coverage.breed_coverage),
        ("rows", "logits"),
        real=False,
        higher=True,
    ),
    "precision_recall": Metric(
        ("precision", "recall"), _pair(prdc.precision_recall), ROWS, higher=True
    ),
    "density_coverage": Metric(
        ("density", "coverage"), _pair(prdc.density_coverage), ROWS, higher=True
    ),
}


class ScoreError(UsageError):
    """Scores that cannot be measured, or must not be compared; the message says why."""


def check(metrics, real, fake, classes):
    """Raises ScoreError if a metric needs more images than `real` or `fake`, or logits of other
    classes than the extractor has."""
    if "breeds" in metrics and classes != coverage.IMAGENET:
        raise ScoreError(
            "breeds needs the classes of ImageNet: extractor=zoo:efficientnet_lite0-imagenet"
        )
    few, many = sorted((real, fake))
    if few < LEAST:
        raise ScoreError(
            f"metrics need {LEAST} images of each side, not {real} real and {fake} to score"
        )
    if "is" in metrics and fake < 2 * inception_score.SPLITS:
        raise ScoreError(
            f"is needs {2 * inception_score.SPLITS} generated images, 2 in each of its "
            f"{inception_score.SPLITS} splits, not {fake}: take more of them"
        )
    if "kid_blocks10" in metrics and few < 2 * -(-many // 10):
        raise ScoreError(
            f"kid_blocks10 needs 2 images of each side in blocks of 10, not {real} real and {fake} "
            "generated ones: take as many of both, or kid"
        )


def short(count):
    """10000 -> "10k", 2048 -> "2048"."""
    return f"{count // 1000}k" if count and count % 1000 == 0 else str(count)


def full_name(name, real, extractor, count, split, references=None):
    """The name under which a metric's value is recorded."""
    ending = [split] * real + [f"{references}-references"] * bool(references)
    return "_".join([name, extractor, short(count), *ending])


def measure(metrics, real, fake):
    """Triples (name, needs real images, (value, deviation or None)) for keys of METRICS, in order.

    real, fake: Features; each computes all that is needed in one pass.
    """
    chosen = [METRICS[m] for m in metrics]
    if any(m.real for m in chosen):
        real.prepare({m.needs for m in chosen if m.real})
    fake.prepare({m.needs for m in chosen})
    return [
        (name, metric.real, pair)
        for metric in chosen
        for name, pair in zip(metric.names, metric.value(real, fake))
    ]


def warning(metrics, real, count):
    """One line if `count` generated images make a score uncertain, else None."""
    kinds = {kind for form, kind in (METRICS[m].needs for m in metrics) if form == "moments"}
    if not kinds:
        return None
    most = max((real.moments(kind) for kind in kinds), key=lambda moments: len(moments["mean"]))
    return fid.warning(min(count, int(most["count"])), len(most["mean"]))


SAME = {  # what must be equal -> how to measure a score again so that it is
    "dataset": "on the data set of the other",
    "data": "on the images of the other",
    "split": "on the split of the other",
    "image_size": "at the image size of the other",
    "real_count": "on the images of the other",
    "count": "with as many images as the other",
    "digest": "with the extractor's weights of the other",
}


def compare(ours, theirs):
    """Pairs (row, row) of the metrics that two lists of recorded rows share, in the first's order.

    Rows of one name that differ in a key of SAME, or lists without a common name, raise ScoreError.
    """
    named = {row["metric"]: row for row in theirs}
    pairs = [(row, named[row["metric"]]) for row in ours if row["metric"] in named]
    if not pairs:
        raise ScoreError(
            f"no metric in common: {', '.join(r['metric'] for r in ours)} and {', '.join(named)}"
        )
    for a, b in pairs:
        for key, how in SAME.items():
            if a.get(key) != b.get(key):
                raise ScoreError(
                    f"{a['metric']} is of {key} {a.get(key)!r} here and {b.get(key)!r} in the "
                    f"earlier score, so they do not compare: measure one of them again {how}"
                )
    return pairs

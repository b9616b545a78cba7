"""Scores of a set of images against the real images of a data set.

spec = ScorerSpec(metrics=("fid", "kid"), count=10_000)
scorer = Scorer(real, about, extractor, spec, cache)
for score in scorer.scores(lambda: batches_of_generated_images):
    score.metric, score.value
"""

import functools
import sys
from dataclasses import dataclass, field
from pathlib import Path

from absl import logging
from tqdm import tqdm

from . import protocol
from .features import Features


@dataclass(frozen=True)
class Score:
    """One measured value.

    metric: the name, which is the protocol (evaluate.protocol). value; deviation: None where the
    metric has none, or it is unknown. details: what was measured (data set, counts, extractor,
    seed, versions ...), JSON values.
    """

    metric: str
    value: float
    deviation: float | None = None
    details: dict = field(default_factory=dict)

    def row(self):
        """The score as a JSON line has it."""
        deviation = {} if self.deviation is None else {"deviation": self.deviation}
        return {"metric": self.metric, "value": self.value, **deviation, **self.details}

    def with_details(self, **details):
        """The same score with more details."""
        return Score(self.metric, self.value, self.deviation, {**self.details, **details})


@dataclass(frozen=True)
class ScorerSpec:
    """How images are scored.

    metrics: keys of protocol.METRICS; the first one names the best checkpoint of a run. count:
    generated images. extractor: "inception" or "zoo:MODEL-TAG"; None: Inception where its weights
    are at hand, else the zoo's classifier for the data set. inception: path of Inception's weights.
    split: of the real images. seed: of the generated ones. references: "training" if each generated
    image was made from a training image, which is then a part of the metrics' names.
    """

    metrics: tuple = ("fid",)
    count: int = 10_000
    extractor: str | None = None
    inception: str | None = None
    split: str = "test"
    seed: int = 0
    references: str | None = None


class Scorer:
    """Scores images by one extractor against the same real images each time.

    images: real uint8 (N, S, S, 3). about: {"dataset", "data", "split"}; data is a string that
    changes when the images do. extractor: a features.Extractor. spec: a ScorerSpec. cache: a folder
    for what is computed of the real images. progress: show bars on stderr. Too few images raise
    protocol.ScoreError.
    """

    def __init__(self, images, about, extractor, spec, cache, progress=False):
        metrics, count = spec.metrics, spec.count
        protocol.check(metrics, len(images), count, extractor.classes)
        self.extractor, self.metrics, self.count, self.spec = extractor, metrics, count, spec
        self.progress = progress
        size = images.shape[1]
        self.about = {
            **about,
            "image_size": size,
            "real_count": len(images),
            "count": count,
            "extractor": extractor.name,
            "digest": extractor.digest,
        }
        if spec.references == "training":
            self.about["references"] = spec.references
        key = (about["data"], about["split"], size, len(images), extractor.name, extractor.digest)
        self.real = Features(
            lambda: (images[i : i + 1000] for i in range(0, len(images), 1000)),
            extractor,
            Path(cache) / "-".join(map(str, key)),
            self._bar(f"real {about['split']} images", len(images)),
        )
        metric = protocol.METRICS[metrics[0]]
        self.first, self.higher = self._name(metric.names[0], metric.real), metric.higher

    def _bar(self, what, count):
        return functools.partial(with_bar, what, count) if self.progress else iter

    def _name(self, name, real):
        split = self.about["split"]
        references = self.about.get("references")
        return protocol.full_name(name, real, self.extractor.name, self.count, split, references)

    def scores(self, images):
        """[Score] of images: a function () -> iterable of uint8 (n, S, S, 3), `count` in all."""
        bar = self._bar("generated images", self.count)
        fake = Features(images, self.extractor, progress=bar)
        measured = protocol.measure(self.metrics, self.real, fake)
        return [
            Score(
                self._name(name, real),
                float(value),
                None if deviation is None else float(deviation),
                self._about(real),
            )
            for name, real, (value, deviation) in measured
        ]

    def outline(self):
        """The rows of `scores` without their values."""
        chosen = [protocol.METRICS[metric] for metric in self.metrics]
        named = [(self._name(name, m.real), m.real) for m in chosen for name in m.names]
        return [{"metric": name, **self._about(real)} for name, real in named]

    def _about(self, real):
        """What is compared. A metric without real images has nothing about these."""
        apart = () if real else ("data", "split", "real_count")
        return {k: v for k, v in self.about.items() if k not in apart}

    def warn(self):
        """Logs one warning where so few images make a score uncertain."""
        if line := protocol.warning(self.metrics, self.real, self.count):
            logging.warning(line)


def with_bar(what, count, blocks):
    """Passes (pictures, how many of them count) on and shows a bar on stderr meanwhile."""
    bar = tqdm(
        total=count, desc=what, unit="image", leave=False, dynamic_ncols=True, file=sys.stderr
    )
    with bar:
        for block in blocks:
            yield block
            bar.update(block[1])

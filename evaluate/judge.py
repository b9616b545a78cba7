"""Scores a set of generated images against a data set's real ones, row by row as it is recorded."""

import functools
import sys

from tqdm import tqdm

from . import protocol
from .features import Features


class Judge:
    """images: real uint8 (N, S, S, 3). about: {"dataset", "data", "split"}, data being another
    string where the examples are others. extractor: an Extractor. metrics: keys of
    protocol.METRICS, the first of which names the best checkpoint. count: generated images.
    cache: a folder for what is computed of the real images. say: takes a line for people. Too few
    images raise protocol.ScoreError.
    """

    def __init__(self, images, about, extractor, metrics, count, cache, say):
        protocol.check(metrics, len(images), count)
        self.extractor, self.metrics, self.count, self.say = extractor, metrics, count, say
        size = images.shape[1]
        self.about = {
            **about,
            "image_size": size,
            "real_count": len(images),
            "count": count,
            "extractor": extractor.name,
            "digest": extractor.digest,
        }
        key = (about["data"], about["split"], size, len(images), extractor.name, extractor.digest)
        bar = functools.partial(progress, f"real {about['split']} images", len(images))
        self.real = Features(
            lambda: (images[i : i + 1000] for i in range(0, len(images), 1000)),
            extractor,
            cache / "-".join(map(str, key)),
            bar,
            say,
        )
        metric = protocol.METRICS[metrics[0]]
        self.first, self.higher = self._name(metric.names[0], metric.real), metric.higher

    def _name(self, name, real):
        split = self.about["split"]
        return protocol.full_name(name, real, self.extractor.name, self.count, split)

    def rows(self, images):
        """[{"metric", "value", "deviation" where it has one, and what was compared}].

        images: function () -> iterable of uint8 (n, S, S, 3), `count` in all.
        """
        bar = functools.partial(progress, "generated images", self.count)
        fake = Features(images, self.extractor, progress=bar)
        rows = []
        for name, real, (value, deviation) in protocol.measure(self.metrics, self.real, fake):
            row = {"metric": self._name(name, real), "value": float(value)}
            row |= {} if deviation is None else {"deviation": float(deviation)}
            rows.append({**row, **self._about(real)})
        return rows

    def outline(self):
        """The rows without their values."""
        chosen = [protocol.METRICS[metric] for metric in self.metrics]
        named = [(self._name(name, m.real), m.real) for m in chosen for name in m.names]
        return [{"metric": name, **self._about(real)} for name, real in named]

    def _about(self, real):
        """What was compared; of a metric without real images nothing about these."""
        apart = () if real else ("data", "split", "real_count")
        return {k: v for k, v in self.about.items() if k not in apart}

    def warn(self):
        """Says where the count of images makes a score one to read with care."""
        for line in protocol.warnings(self.metrics, self.real, self.count):
            self.say(line)


def progress(what, count, blocks):
    """Passes (pictures, how many of them count) on behind a bar, which goes when it is done."""
    bar = tqdm(
        total=count, desc=what, unit="image", leave=False, dynamic_ncols=True, file=sys.stderr
    )
    with bar:
        for block in blocks:
            yield block
            bar.update(block[1])

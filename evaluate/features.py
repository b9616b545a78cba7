"""Images -> features: extractors, blocks of fixed size, and a cache on disk for real images.

A network's float32 results depend slightly on how many images it is given at once. Here it always
sees BLOCK images, the last block filled up with zeros, so no batch size has an influence.
"""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..common.files import replace_file
from ..common.images import to_float
from .fid import Moments

VERSION = 1  # of what extractors do with their weights: kept features of another are not read
BLOCK = 100
HELD = {"rows": {"rows"}, "moments": {"count", "mean", "cov"}}
SPATIAL_CHANNELS = 7
DAMAGE = (ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile)


@dataclass(frozen=True)
class Extractor:
    """name: as metrics carry it. digest: of its weights. run: uint8 (BLOCK, S, S, 3) ->
    {kind: float32 (BLOCK, D)}: "features" (FID, KID, ...), "logits" (the Inception Score) and
    "spatial" (sFID: a map of few channels, flattened).
    """

    name: str
    digest: str
    run: Callable


def of_classifier(network, name, digest):
    """The Extractor of a classifier with layers "features", "logits" and a map "middle".

    Images of another size than the network's are resized to it, bilinearly and antialiased.
    spatial: the first SPATIAL_CHANNELS of the map, as sFID takes them (Nash et al., 2021).
    """
    import keras

    size = network.input_shape[1]
    inner = keras.Model(
        network.input, [network.get_layer(n).output for n in ("features", "logits", "middle")]
    )

    def run(images):
        x = keras.ops.convert_to_tensor(to_float(images))
        if images.shape[1:3] != (size, size):
            x = keras.ops.image.resize(x, (size, size), antialias=True)
        features, logits, spatial = inner.predict_on_batch(x)
        spatial = spatial[..., :SPATIAL_CHANNELS].reshape(len(images), -1)
        return {"features": features, "logits": logits, "spatial": spatial}

    return Extractor(name, digest, run)


def of_inception(network, digest):
    """The Extractor of FID's own network, evaluate.inception."""
    return Extractor("inception", digest, network.predict_on_batch)


def blocks(images):
    """Iterable of uint8 arrays (n, S, S, 3), any n -> pairs (BLOCK, S, S, 3), images that count."""
    held, count = [], 0
    for part in images:
        if part.dtype != np.uint8:
            raise ValueError(f"metrics are of uint8 images, not {part.dtype}")
        while len(part):
            taken = part[: BLOCK - count]
            held.append(taken)
            count += len(taken)
            part = part[len(taken) :]
            if count == BLOCK:
                yield np.concatenate(held), BLOCK
                held, count = [], 0
    if count:
        held.append(np.zeros((BLOCK - count, *held[0].shape[1:]), np.uint8))
        yield np.concatenate(held), count


class Features:
    """What metrics ask of a set of images: rows (N, D) of a kind, or their moments.

    images: function () -> iterable of uint8 arrays (n, S, S, 3). cache: a path without suffix to
    keep what was computed at, or None. progress: wraps the iterator of blocks (tqdm).
    """

    def __init__(self, images, extractor, cache=None, progress=iter, say=print):
        self.images, self.extractor, self.cache = images, extractor, cache
        self.progress, self.say, self.held = progress, say, {}

    def prepare(self, wanted):
        """Computes {("rows" | "moments", kind), ...} in one pass over the images."""
        missing = []
        for what in sorted(wanted - self.held.keys()):
            found = self.cache and read(self._path(what), HELD[what[0]], self.say)
            if found:
                self.held[what] = found
            else:
                missing.append(what)
        if not missing:
            return
        rows = {kind: [] for form, kind in missing if form == "rows"}
        moments = {kind: None for form, kind in missing if form == "moments"}
        for block, count in self.progress(blocks(self.images())):
            found = self.extractor.run(block)
            for kind, parts in rows.items():
                parts.append(found[kind][:count])
            for kind in moments:
                moments[kind] = moments[kind] or Moments(found[kind].shape[1])
                moments[kind].add(found[kind][:count])
        for kind, parts in rows.items():
            self.held["rows", kind] = {"rows": np.concatenate(parts)}
        for kind, sums in moments.items():
            held = {"count": np.array(sums.count), "mean": sums.mean, "cov": sums.cov}
            self.held["moments", kind] = held
        for what in missing:
            if self.cache:
                try:
                    write(self._path(what), self.held[what])
                except OSError as error:
                    self.say(f"{self._path(what)} cannot be kept: {error.strerror}")

    def _path(self, what):
        return Path(f"{self.cache}-{what[0]}-{what[1]}-v{VERSION}.npz")

    def rows(self, kind):
        """(N, D) float32."""
        self.prepare({("rows", kind)})
        return self.held["rows", kind]["rows"]

    def moments(self, kind):
        """{"count", "mean" (D,), "cov" (D, D)}, float64."""
        self.prepare({("moments", kind)})
        return self.held["moments", kind]


def read(path, names, say):
    """{name: array} of a file of the cache; None where there is none or, told by `say`, where it
    is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except FileNotFoundError:
        return None
    except (*DAMAGE, OSError) as error:
        say(f"{path} is damaged ({error}): it is computed again")
        return None


def write(path, arrays):
    """Writes {name: array} so that the file is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, lambda file: np.savez(file, **arrays))

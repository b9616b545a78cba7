"""Images -> features: extractors, blocks of fixed size, and a cache on disk for real images.

A network's float32 results depend slightly on the number of images in a batch. Here a batch is
always BLOCK images, the last one filled up with zeros, so the callers' batches have no influence.
"""

import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from absl import logging

from ..common.files import replace_file
from ..common.images import to_float
from .fid import Moments

VERSION = 1  # of the extractors' computation; features in the cache of another version are not read
BLOCK = 100
STEP = 2**24  # pixels of images that are resized at a time, whatever their size
STORED = {"rows": {"rows"}, "moments": {"count", "mean", "cov"}}  # form -> arrays in the cache
SPATIAL_CHANNELS = 7
DAMAGE = (ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile)


class _Float32Products:
    """While a block with it runs, TensorFlow multiplies float32 without rounding to TensorFloat-32.

    A GPU would round otherwise, and give other features than a CPU. The setting is one for the
    whole process: the first of several blocks at a time changes it, the last one restores it.
    """

    def __init__(self):
        self.lock, self.running, self.before = threading.Lock(), 0, None

    def __enter__(self):
        from tensorflow import config

        with self.lock:
            if not self.running:
                self.before = config.experimental.tensor_float_32_execution_enabled()
                config.experimental.enable_tensor_float_32_execution(False)
            self.running += 1

    def __exit__(self, *_):
        from tensorflow import config

        with self.lock:
            self.running -= 1
            if not self.running:
                config.experimental.enable_tensor_float_32_execution(self.before)


float32_products = _Float32Products()


@dataclass(frozen=True)
class Extractor:
    """name: as in the names of metrics. digest: of its weights. run: uint8 (BLOCK, S, S, 3) ->
    {kind: float32 (BLOCK, D)}: "features" (FID, KID, ...), "logits" (the Inception Score) and
    "spatial" (sFID: a map of few channels, flattened). classes: the number of logits, where it
    matters.
    """

    name: str
    digest: str
    run: Callable
    classes: int | None = None


def of_classifier(network, name, digest, interpolation="bilinear"):
    """The Extractor of a classifier with layers "features", "logits" and a map "middle".

    Images of another size than the network's are resized to it, antialiased, by interpolation
    "bilinear" or "bicubic". spatial: the first SPATIAL_CHANNELS of the map, as sFID takes them
    (Nash et al., 2021).
    """
    import keras

    size = network.input_shape[1]
    inner = keras.Model(
        network.input, [network.get_layer(n).output for n in ("features", "logits", "middle")]
    )

    def fitted(images):
        x = keras.ops.convert_to_tensor(to_float(images))
        if images.shape[1:3] != (size, size):
            x = keras.ops.image.resize(x, (size, size), interpolation, antialias=True)
        return x

    def run(images):
        with float32_products:
            features, logits, spatial = inner.predict_on_batch(in_steps(fitted, images))
        spatial = spatial[..., :SPATIAL_CHANNELS].reshape(len(images), -1)
        return {"features": features, "logits": logits, "spatial": spatial}

    return Extractor(name, digest, run, network.output_shape[-1])


def of_inception(network, digest):
    """The Extractor of FID's own network, evaluate.inception."""

    def run(images):
        with float32_products:
            if images[..., 0].size <= STEP:
                return network.predict_on_batch(images)
            import keras

            resize = network.get_layer("resize")
            inner = keras.Model(resize.output, network.output)
            return inner.predict_on_batch(in_steps(resize, images))

    return Extractor("inception", digest, run)


def in_steps(function, images):
    """function(images), float32, of so few images (N, H, W, 3) at a time that they have at most
    STEP pixels."""
    count = max(1, STEP // images[0, ..., 0].size)
    parts = [function(images[i : i + count]) for i in range(0, len(images), count)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def blocks(images):
    """Iterable of uint8 arrays (n, S, S, 3), any n -> pairs (block of BLOCK images, how many of
    them are images and no filling)."""
    parts, count = [], 0
    for batch in images:
        if batch.dtype != np.uint8:
            raise ValueError(f"metrics are of uint8 images, not {batch.dtype}")
        while len(batch):
            part = batch[: BLOCK - count]
            parts.append(part)
            count += len(part)
            batch = batch[len(part) :]
            if count == BLOCK:
                yield np.concatenate(parts), BLOCK
                parts, count = [], 0
    if count:
        parts.append(np.zeros((BLOCK - count, *parts[0].shape[1:]), np.uint8))
        yield np.concatenate(parts), count


class Features:
    """The features of a set of images: rows (N, D) of a kind, or their moments.

    images: function () -> iterable of uint8 arrays (n, S, S, 3). cache: the path, without suffix,
    of the files that keep the features, or None. progress: wraps the iterator of blocks (tqdm).
    """

    def __init__(self, images, extractor, cache=None, progress=iter):
        self.images, self.extractor, self.cache = images, extractor, cache
        self.progress, self.computed = progress, {}

    def prepare(self, wanted):
        """Computes {("rows" | "moments", kind), ...} in one pass over the images."""
        missing = []
        for form, kind in sorted(wanted - self.computed.keys()):
            arrays = self.cache and read(self._path(form, kind), STORED[form])
            if arrays:
                self.computed[form, kind] = arrays
            else:
                missing.append((form, kind))
        if not missing:
            return
        rows = {kind: [] for form, kind in missing if form == "rows"}
        moments = {kind: None for form, kind in missing if form == "moments"}
        for block, count in self.progress(blocks(self.images())):
            outputs = self.extractor.run(block)
            for kind, parts in rows.items():
                parts.append(outputs[kind][:count])
            for kind in moments:
                moments[kind] = moments[kind] or Moments(outputs[kind].shape[1])
                moments[kind].add(outputs[kind][:count])
        for kind, parts in rows.items():
            self.computed["rows", kind] = {"rows": np.concatenate(parts)}
        for kind, sums in moments.items():
            self.computed["moments", kind] = sums.arrays()
        if self.cache:
            for form, kind in missing:
                path = self._path(form, kind)
                try:
                    write(path, self.computed[form, kind])
                except OSError as error:
                    logging.warning("%s cannot be saved: %s", path, error.strerror)

    def _path(self, form, kind):
        return Path(f"{self.cache}-{form}-{kind}-v{VERSION}.npz")

    def rows(self, kind):
        """(N, D) float32."""
        self.prepare({("rows", kind)})
        return self.computed["rows", kind]["rows"]

    def moments(self, kind):
        """{"count", "mean" (D,), "cov" (D, D)}, float64."""
        self.prepare({("moments", kind)})
        return self.computed["moments", kind]


class RowFeatures:
    """Features at hand, rows (N, D) of the kind "features", in the place of Features."""

    def __init__(self, rows):
        self._rows = rows

    def prepare(self, wanted):
        """Does nothing: there is nothing to compute."""

    def rows(self, kind):
        """(N, D), as given."""
        return self._rows

    def moments(self, kind):
        """{"count", "mean" (D,), "cov" (D, D)}, float64."""
        sums = Moments(self._rows.shape[1])
        sums.add(self._rows)
        return sums.arrays()


def read(path, names):
    """{name: array} of a file of the cache; None if there is none or, with a log line, if it is
    damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except FileNotFoundError:
        return None
    except (*DAMAGE, OSError) as error:
        logging.warning("%s is damaged (%s): it is computed again", path, error)
        return None


def write(path, arrays):
    """Writes {name: array} so that the file is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, lambda file: np.savez(file, **arrays))

"""Images as arrays on disk, decoded once, and the endless stream of batches drawn from them.

The batch of a step is a function of (seed, step), so a resumed run sees the batches that the
interrupted one would have seen.
"""

import contextlib
import functools
import os
import shutil
import socket
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np

from datasets import crops, folder, hep2, resize, table
from datasets.table import DATASETS, DataError

PATHS = {"folder": folder.Folder, "hep2": hep2.Hep2}  # sources that a user's path names


def load(
    name,
    split="train",
    *,
    image_size=None,
    batch_size=64,
    seed=0,
    data_dir=None,
    start=0,
    shuffle=True,
    keys=None,
):
    """-> tf.data.Dataset of dicts of batches; "image" is float32 (B, S, S, 3) in [-1, 1].

    name: a key of DATASETS, "folder:PATH" or "hep2:PATH". image_size: S; None: as the data set has
    it, 64 for a path and for what is cut out by boxes.
    shuffle: endless batches, each epoch in an order of its own by the seed, from batch `start` on;
    without it: the examples once, in order, the last batch maybe smaller. data_dir: where TFDS
    keeps its data (default: $TFDS_DATA_DIR or ~/tensorflow_datasets). keys: which to load; None:
    all. A mask is float32 (B, S, S, 1) in [0, 1], the share of each pixel that is object; bbox is
    (B, 4), ymin, xmin, ymax, xmax in [0, 1]; the rest are class numbers (B,).

    What cannot be found, read or downloaded raises DataError.
    """
    import tensorflow as tf

    held = arrays(name, split, image_size=image_size, data_dir=data_dir)
    keys = list(keys or held)
    missing = [k for k in keys if k not in held]
    if missing:
        raise DataError(f"{name} has no {', '.join(missing)}: it holds {', '.join(held)}")
    count = len(held["image"])
    batches = tf.int64.max if shuffle else -(-count // batch_size)

    def fetch(step):
        if shuffle:
            chosen = _shuffled(seed, count, batch_size, int(step))
        else:
            chosen = slice(int(step) * batch_size, (int(step) + 1) * batch_size)
        return [np.ascontiguousarray(held[k][chosen]) for k in keys]

    def decode(step):
        types = [tf.as_dtype(held[k].dtype) for k in keys]
        values = tf.numpy_function(fetch, [step], types, stateful=False)
        batch = {}
        for key, value in zip(keys, values):
            value.set_shape((None, *held[key].shape[1:]))
            batch[key] = value
        if "image" in batch:
            batch["image"] = tf.cast(batch["image"], tf.float32) / 127.5 - 1
        if "mask" in batch:
            batch["mask"] = tf.cast(batch["mask"], tf.float32) / 255
        return batch

    options = tf.data.Options()
    options.autotune.enabled = False  # its wake-ups stall short runs
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    data = tf.data.Dataset.range(start, batches).map(decode, num_parallel_calls=1)
    return data.prefetch(2).with_options(options)


def _shuffled(seed, count, batch_size, step):
    """Indices of a step's batch in the endless sequence of one permutation an epoch."""
    first = step * batch_size
    last = first + batch_size
    parts = []
    for epoch in range(first // count, (last - 1) // count + 1):
        low, high = max(first - epoch * count, 0), min(last - epoch * count, count)
        parts.append(_permutation(seed, epoch, count)[low:high])
    return np.concatenate(parts)


@functools.lru_cache(maxsize=4)
def _permutation(seed, epoch, count):
    return np.random.default_rng([seed, epoch]).permutation(count)


def arrays(name, split="train", *, image_size=None, data_dir=None):
    """{key: array (N, ...)} of a whole split, read from disk as it is indexed.

    "image" is uint8 (N, S, S, 3), "mask" uint8 (N, S, S, 1). Decoded and resized on the first
    call, kept under data_dir/attention_zoo.
    """
    kept, source = _find(name, split, data_dir)
    image_size = image_size or source.size
    place = kept / f"{source.key}-{split}-{image_size or 'as-is'}"
    if not place.is_dir():
        _write(source, image_size, place)
    return {p.stem: np.load(p, mmap_mode="r") for p in sorted(place.glob("*.npy"))}


def identity(name, split="train", *, data_dir=None):
    """A string that is another one when the data set has other examples."""
    return _find(name, split, data_dir)[1].key


def has_split(name, split):
    """Has a data set such a split?"""
    source, path = _of_path(name)
    return split in (source.splits(path) if source else DATASETS[name].splits)


def labelled(name, split, count, **source):
    """`arrays` of a split whose labels are all one of `count` classes; another raises DataError."""
    held = arrays(name, split, **source)
    if "label" not in held:
        raise DataError(f"{name} has no labels: it holds {', '.join(held)}")
    low, high = int(held["label"].min()), int(held["label"].max())
    if low < 0:
        raise DataError(f"{name} has {split} images without a label: all must have one")
    if high >= count or classes(name) != count:
        raise DataError(f"{name} has {classes(name)} classes, the network {count}")
    return held


def classes(name):
    """How many classes the labels of a data set have; one without raises DataError."""
    table.check(name)
    source, path = _of_path(name)
    count = len(source(path, "train").classes) if source else DATASETS[name].classes
    if count < 2:
        raise DataError(f"{name} has no label for each training image: all must have one")
    return count


def place(data_dir=None):
    """TFDS's folder, where what is computed from data sets is kept, below attention_zoo."""
    given = data_dir or os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    return Path(given).expanduser()


def _of_path(name):
    """(its class of PATHS, its path) of a name with a user's path, else (None, ...)."""
    kind, _, path = name.partition(":")
    return PATHS.get(kind), path


def _find(name, split, data_dir):
    """(the folder where arrays are kept, the source of the examples)."""
    table.check(name)
    data_dir = place(data_dir)
    source, path = _of_path(name)
    if source:
        source = source(path, split)
    else:
        spec = DATASETS[name]
        if split not in spec.splits:
            raise DataError(f"{name} has no split {split!r}: it has {', '.join(spec.splits)}")
        source = _Prepared(name, spec, split, data_dir)
    return data_dir / "attention_zoo", source


def _write(source, image_size, place):
    """Decodes and resizes a source's examples into place/KEY.npy, all of them or none."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _sweep(place)
        with tempfile.TemporaryDirectory(
            prefix=f".{place.name}-", dir=place.parent, ignore_cleanup_errors=True
        ) as beside:
            beside = Path(beside)
            with contextlib.ExitStack() as stack:
                columns = {}
                for example in source.examples(image_size):
                    for key, value in example.items():
                        if key not in columns:
                            file = stack.enter_context(open(beside / f"{key}.npy", "wb"))
                            columns[key] = _Column(file, value)
                        columns[key].append(value)
                for column in columns.values():
                    column.finish()
            beside.chmod(0o755)
            try:
                beside.rename(place)
            except OSError:
                if not place.is_dir():  # else another process was faster, with the same arrays
                    raise
    except OSError as error:
        raise DataError(
            f"cannot write to {place.parent} ({error.strerror}): give another --data_dir"
        ) from None


def _sweep(place):
    """Removes what a process that was killed a day ago or earlier left half-written."""
    for old in place.parent.glob(f".{place.name}-*"):
        if time.time() - old.stat().st_mtime > 86400:
            shutil.rmtree(old, ignore_errors=True)


class _Column:
    """One .npy file that grows by a value at a time; its header has room for any count."""

    def __init__(self, file, value):
        value = np.asarray(value)
        self.file, self.count, self.dtype, self.shape = file, 0, value.dtype, value.shape
        self._header()

    def _header(self):
        descr = np.lib.format.dtype_to_descr(self.dtype)
        shape = (self.count, *self.shape)
        np.lib.format.write_array_header_1_0(
            self.file, {"descr": descr, "fortran_order": False, "shape": shape}
        )

    def append(self, value):
        self.file.write(np.ascontiguousarray(value, self.dtype).tobytes())
        self.count += 1

    def finish(self):
        self.file.seek(0)
        self._header()


class _Prepared:
    """A TFDS data set, prepared or downloaded; examples in TFDS's own order."""

    def __init__(self, name, spec, split, data_dir):
        self.name, self.spec, self.split = name, spec, spec.splits[split]
        self.builder = _builder(spec, data_dir)
        if not self.builder.is_prepared():
            _prepare(name, spec, self.builder, data_dir)
        self.key = self.builder.info.full_name.replace("/", "-") + "-crops" * spec.crop
        self.size = 64 if spec.crop else None  # cuts differ in size: without one asked for, 64

    def examples(self, image_size):
        data = self.builder.as_dataset(split=self.split, shuffle_files=False)
        return examples_of(data, self.spec, image_size)


def examples_of(data, spec, image_size):
    """Yields the dicts of a TFDS data set with a DataSpec's keys, pictures as squares of
    image_size."""
    examples = data.as_numpy_iterator()
    for example in crops.cut(examples) if spec.crop else examples:
        size = image_size or min(example["image"].shape[:2])
        yield {k: _fit(k, example[k], size, spec.crop) for k in spec.keys}


def _fit(key, value, size, crop):
    if key == "image":
        value = np.broadcast_to(value, (*value.shape[:2], 3))  # grey as three equal channels
        return resize.whole(value, size) if crop else resize.square(value, size)
    if key == "mask":
        return resize.area(value, size)
    return np.asarray(value, np.float32 if key == "bbox" else np.int32)


def _builder(spec, data_dir):
    import tensorflow_datasets as tfds

    if spec.tfds.startswith("creatures/"):
        from datasets.creatures_builder import Creatures

        return Creatures(config=spec.tfds.removeprefix("creatures/"), data_dir=str(data_dir))
    if spec.tfds.startswith("cells/"):
        from datasets.cells_builder import Cells

        return Cells(config=spec.tfds.removeprefix("cells/"), data_dir=str(data_dir))
    return tfds.builder(spec.tfds, data_dir=str(data_dir))


def _existing(path):
    """The path, or the nearest folder above it that is there."""
    while not path.exists():
        path = path.parent
    return path


def _prepare(name, spec, builder, data_dir):
    if not os.access(_existing(data_dir), os.W_OK):
        raise DataError(f"cannot write to {data_dir}: give another --data_dir")
    offline = "what works offline: --dataset=creatures or --dataset=folder:PATH"
    if spec.host and not urllib.request.getproxies():
        try:
            host, _, port = spec.host.partition(":")
            socket.create_connection((host, int(port or 443)), timeout=5).close()
        except OSError:
            raise DataError(
                f"{name} is not in {data_dir} and {spec.host} cannot be reached to download it; "
                f"{offline}"
            ) from None
    try:
        builder.download_and_prepare()
    except Exception as error:  # whatever a download or a disk can raise
        cause = " ".join(str(error).split())[:200]
        raise DataError(
            f"{name} cannot be prepared in {data_dir} ({type(error).__name__}: {cause}); {offline}"
        ) from error

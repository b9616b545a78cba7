"""Images as arrays on disk, decoded once, and the endless stream of batches drawn from them.

The batch of a step is a function of (seed, step), so a resumed run sees the batches that the
interrupted one would have seen.
"""

import contextlib
import functools
import json
import os
import socket
import sys
import urllib.request

import numpy as np
from absl import logging

from ..common.errors import UsageError
from ..common.files import new_folder, printable, user_path
from ..common.images import scaled
from . import crops, folder, hep2, pairs, resize, scenarios, table, voc, walk
from .skipped import Skipped, Source
from .table import DATASETS, DataError

NOTES = "notes.json"  # on how arrays were read, stored with them
# kinds of a user's path; a folder of two domains is pairs.Pairs
PATHS = {"folder": folder.Folder, "hep2": hep2.Hep2, "voc2012": voc.Voc}


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
    replace=None,
    shares=(0, 1, 1),
    batches=1,
):
    """-> tf.data.Dataset of dicts of batches; "image" is float32 (B, S, S, 3) in [-1, 1].

    name: a key of DATASETS, or a kind and a path, such as "folder:PATH". image_size: S; None: the
    data set's own size, 64 for a path and for pictures cut out by boxes. shuffle: endless batches,
    from batch `start` on, each epoch in an order of its own by the seed; without it: the examples
    once, in order, and the last batch may be smaller. data_dir: TFDS's folder (default:
    $TFDS_DATA_DIR or ~/tensorflow_datasets). keys: the keys to load; None: all. replace: {key:
    array (N, ...)} in place of the data set's own arrays. shares: (first, last, all): each shuffled
    batch is cut into `all` equal shares, and those from first to last - 1 are yielded one after
    another. batches: how many batches a batch consists of; each is cut into shares by itself.

    "truth" is the correct translation of the image, and like "image". "mask" is float32 (B, S, S,
    1) in [0, 1], the share of each pixel that the object covers; "classes" (B, S, S, 1) uint8 is
    the class of each pixel; "labels" (B, C) float32 is 1 for each class in the picture; "bbox" is
    (B, 4), ymin, xmin, ymax, xmax in [0, 1]; all others are class numbers (B,).

    With two domains the split "train" yields both: the keys of domain a end with "_a", those of b
    with "_b", as "image_a" and "image_b", and each domain has orders and epochs of its own. The
    splits "train_a" and "train_b" are one domain each, with plain keys.

    A data set that cannot be found, read or downloaded raises DataError.
    """
    sources = _sources(name, data_dir)
    parts = {
        end: arrays(sources, split + end, image_size=image_size) for end in sources.domains(split)
    }
    if len(parts) > 1 and not shuffle:
        raise DataError(f"{sources.name} has two domains: read one of them, {split}_a or {split}_b")
    return batches_of(
        parts,
        sources.name,
        batch_size=batch_size,
        seed=seed,
        start=start,
        shuffle=shuffle,
        keys=keys,
        replace=replace,
        shares=shares,
        batches=batches,
    )


def batches_of(
    parts,
    name,
    *,
    batch_size=64,
    seed=0,
    start=0,
    shuffle=True,
    keys=None,
    replace=None,
    shares=(0, 1, 1),
    batches=1,
):
    """`load` for arrays in memory. parts: {"": {key: array (N, ...)}} of one domain, or {"_a": ...,
    "_b": ...} of two. name: the data set's, for messages."""
    import tensorflow as tf

    replace = replace or {}
    columns = {key + end: value for end, part in parts.items() for key, value in part.items()}
    for key, array in replace.items():
        if key not in columns or array.shape != columns[key].shape:
            raise DataError(f"{name} has no {key} of shape {array.shape} to be replaced")
    columns |= replace
    parts = {end: {key: columns[key + end] for key in part} for end, part in parts.items()}
    keys = list(keys or columns)
    missing = [k for k in keys if k not in columns]
    if missing:
        pair = "; creatures/plain2striped has two domains, and folder:PATH with trainA/ and trainB/"
        hint = pair if "image_a" in missing else ""
        raise DataError(f"{name} has no {', '.join(missing)}: it holds {', '.join(columns)}{hint}")
    count = len(columns[keys[0]])
    first, last, all_shares = shares
    each = last - first  # elements a step
    stop = tf.int64.max if shuffle else -(-count // batch_size)

    def fetch(number):
        step, share = divmod(int(number), each)
        batch = {}
        for domain, (end, part) in enumerate(parts.items()):
            if shuffle:
                index = _shuffled(seed, len(part["image"]), batch_size, step, domain)
                index = index.reshape(batches, all_shares, -1)[:, first + share].ravel()
            else:
                index = slice(step * batch_size, (step + 1) * batch_size)
            batch |= {k + end: v[index] for k, v in part.items() if k + end in keys}
        return [np.ascontiguousarray(batch[k]) for k in keys]

    def decode(number):
        types = [tf.as_dtype(columns[k].dtype) for k in keys]
        values = tf.numpy_function(fetch, [number], types, stateful=False)
        batch = {}
        for key, value in zip(keys, values):
            value.set_shape((None, *columns[key].shape[1:]))
            kind = key.removesuffix("_a").removesuffix("_b")
            if kind in ("image", "truth"):
                value = scaled(tf.cast(value, tf.float32))
            elif kind == "mask":
                value = tf.cast(value, tf.float32) / 255
            batch[key] = value
        return batch

    options = tf.data.Options()
    options.autotune.enabled = False  # its wake-ups stall short runs
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    data = tf.data.Dataset.range(start * each, stop).map(decode, num_parallel_calls=1)
    data = data.repeat() if shuffle else data  # so that its cardinality is infinite
    return data.prefetch(2 * each).with_options(options)


def _shuffled(seed, count, batch_size, step, domain=0):
    """Indices of a step's batch, from the endless sequence of a permutation per epoch."""
    first = step * batch_size
    last = first + batch_size
    parts = []
    for epoch in range(first // count, (last - 1) // count + 1):
        low, high = max(first - epoch * count, 0), min(last - epoch * count, count)
        parts.append(permutation(seed, epoch, domain, count)[low:high])
    return np.concatenate(parts)


@functools.lru_cache(maxsize=4)
def permutation(seed, epoch, domain, count):
    """The order of a domain's `count` images in an epoch: their indices, (count,)."""
    return np.random.default_rng([seed, epoch, domain]).permutation(count)


def arrays(name, split="train", *, image_size=None, data_dir=None):
    """{key: array (N, ...)} of a whole split, read from disk as it is indexed.

    "image" and "truth" are uint8 (N, S, S, 3), "mask" and "classes" uint8 (N, S, S, 1). The first
    call decodes and resizes them, and stores them below data_dir/attention_zoo. With two domains a
    split belongs to one of them: "train_a", "train_b".
    """
    sources = _sources(name, data_dir)
    source = sources.find(split)
    image_size = image_size or source.size
    place = sources.cache / f"{source.key}-{split}-{image_size or 'as-is'}"
    if not place.is_dir():
        _write(source, image_size, place)
        sources.logged.update(_notes(source, place)[:1])  # logged while the files were read
    lines = [line for line in _notes(source, place) if line]
    sources.log(source.lines() + [(logging.warning, line) for line in lines])
    return {p.stem: np.load(p, mmap_mode="r") for p in sorted(place.glob("*.npy"))}


def identity(name, split="train", *, data_dir=None):
    """A string that changes when the examples of a data set change."""
    sources = _sources(name, data_dir)
    keys = [sources.find(split + end).key for end in sources.domains(split)]
    return "+".join(dict.fromkeys(keys))


def legacy_identity(name, split="train", *, data_dir=None):
    """The `identity` that earlier versions gave, which run directories of then record."""
    sources = _sources(name, data_dir)
    keys = [sources.find(split + end).legacy_key() for end in sources.domains(split)]
    return "+".join(dict.fromkeys(keys))


def has_split(name, split):
    """Whether a data set has a split. With two domains there is "test" if there is "test_a"."""
    return not {split, f"{split}_a"}.isdisjoint(_sources(name).splits)


def paired(name):
    """Whether a data set has two domains, a and b."""
    return _sources(name).paired


def labelled(name, split, count, *, image_size=None, data_dir=None):
    """`arrays` of a split; DataError unless every image has a label of one of `count` classes."""
    sources = _sources(name, data_dir)
    name, own = sources.name, sources.find("train").classes if sources.kind else ()
    if len(own) > 1 and len(own) != count:  # before anything is decoded
        raise DataError(f"{name} has {len(own)} classes, the network {count}")
    columns = arrays(sources, split, image_size=image_size)
    if "label" not in columns:
        raise DataError(f"{name} has no labels: it holds {', '.join(columns)}")
    low, high = int(columns["label"].min()), int(columns["label"].max())
    if low < 0:
        raise DataError(f"{name} has {split} images without a label: all must have one")
    if high >= count or classes(sources) != count:
        raise DataError(f"{name} has {classes(sources)} classes, the network {count}")
    return columns


def classes(name):
    """The number of classes of a data set, 2 or more; one without labels raises DataError."""
    sources = _sources(name)
    count = len(sources.find("train").classes) if sources.kind else DATASETS[sources.name].classes
    if count == 1:
        raise DataError(f"{sources.name} has only one class, and a classifier needs two")
    if not count:
        hint = "all must have one"
        if sources.kind is folder.Folder:
            hint = "put the pictures of each class into a sub-folder of their own"
        raise DataError(f"{sources.name} has no label for each training image: {hint}")
    return count


def place(data_dir=None):
    """TFDS's folder. Decoded arrays and features are stored in its sub-folder attention_zoo."""
    folder = data_dir or os.environ.get("TFDS_DATA_DIR")
    if folder:
        return user_path(folder)
    try:
        return user_path("~/tensorflow_datasets")
    except UsageError:
        raise DataError(
            "there is no home directory for data sets: give --data_dir=FOLDER"
        ) from None


def check(name):
    """Raises DataError for a name that is unknown, or whose folder does not exist."""
    table.check(name)
    kind, colon, path = name.partition(":")
    if colon and PATHS[kind] is hep2.Hep2:
        hep2.root_of(path)
    elif colon:
        walk.folder(path, f"--dataset={kind}:")


class Sources:
    """Where the splits of a data set come from, each opened once. All functions here that take a
    name take its Sources too. A name that is unknown raises DataError."""

    def __init__(self, name, data_dir=None):
        table.check(name)
        self.name, self.data_dir = name, place(data_dir)
        self.cache, self.opened, self.logged = self.data_dir / "attention_zoo", {}, set()
        kind, _, self.path = name.partition(":")
        is_pair = kind == "folder" and pairs.folders(self.path)
        self.kind = pairs.Pairs if is_pair else PATHS.get(kind)  # None of a name of DATASETS

    @functools.cached_property
    def splits(self):
        """The names of the splits."""
        return self.kind.splits(self.path) if self.kind else DATASETS[self.name].splits

    @property
    def paired(self):
        """Whether there are two domains, a and b."""
        return self.kind is pairs.Pairs or (self.kind is None and "train_a" in self.splits)

    def domains(self, split):
        """The suffixes of the splits in a split: ("_a", "_b") with two domains, else ("",)."""
        return ("_a", "_b") if self.paired and split in ("train", "test") else ("",)

    def find(self, split):
        """The source of a split's examples."""
        if split not in self.opened:
            self.opened[split] = self._open(split)
        return self.opened[split]

    def _open(self, split):
        if self.kind:
            return self.kind(self.path, split)
        spec = DATASETS[self.name]
        if split not in spec.splits:
            raise DataError(f"{self.name} has no split {split!r}: it has {', '.join(spec.splits)}")
        if spec.scenario:
            return _Rendered(self.name, spec, split)
        return _Prepared(self.name, spec, split, self.data_dir)

    def log(self, lines):
        """Logs [(function of absl.logging, line)], but for the lines that were logged before."""
        for log, line in lines:
            if line not in self.logged:
                self.logged.add(line)
                log("%s", line)


def _sources(name, data_dir=None):
    return name if isinstance(name, Sources) else Sources(name, data_dir)


def _write(source, image_size, place):
    """Decodes and resizes a source's examples into place/KEY.npy, all of them or none."""
    try:
        with new_folder(place) as beside, contextlib.ExitStack() as stack:
            columns = {}
            for example in source.examples(image_size):
                for key, value in example.items():
                    if key not in columns:
                        file = stack.enter_context(open(beside / f"{key}.npy", "wb"))
                        columns[key] = _Column(file, value)
                    columns[key].append(value)
            for column in columns.values():
                column.finish()
            skipped = source.skipped.line if source.skipped else ""
            notes = {"skipped": skipped, "sizes": source.sizes, "image_size": image_size}
            notes["smaller"] = source.smaller
            (beside / NOTES).write_text(json.dumps(notes))
    except OSError as error:
        raise DataError(
            f"cannot write to {place.parent} ({error.strerror}): give another --data_dir"
        ) from None


def _notes(source, place):
    """Two log lines on what was read for arrays: the number of files that were skipped, and sizes,
    "" where there is nothing to say. Earlier versions wrote none, or not how many are smaller."""
    try:
        notes = json.loads((place / NOTES).read_text())
    except (OSError, ValueError):
        return ["", ""]
    skipped, sizes, side = notes["skipped"], notes["sizes"], notes["image_size"]
    skipped = skipped and f"{source.root}: {skipped}"
    resized, smaller = "", notes.get("smaller", 0)
    if sizes and (sizes[0] != sizes[1] or smaller):
        between = " to ".join(dict.fromkeys(f"{width} x {height}" for width, height in sizes))
        resized = f"{source.root}: pictures of {between} pixels become {side} x {side}"
        resized += f", {smaller:,} of them enlarged" if smaller else ""
    return [printable(skipped), printable(resized)]


class _Column:
    """A .npy file that grows by one value at a time; its header has room for any count."""

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


class _Rendered(Source):
    """A data set of `scenarios`, drawn at the requested size."""

    def __init__(self, name, spec, split):
        self.draw, self.split = getattr(scenarios, spec.scenario), split
        self.count, self.size = spec.splits[split], spec.size
        self.key = f"{name.replace('/', '-')}-{scenarios.VERSION}"

    def examples(self, image_size):
        return (self.draw(self.split, index, image_size) for index in range(self.count))


class _Prepared(Source):
    """A TFDS data set, prepared or downloaded; examples in TFDS's own order."""

    def __init__(self, name, spec, split, data_dir):
        self.name = self.root = name
        self.spec, self.split = spec, spec.splits[split]
        with contextlib.ExitStack() as stack:
            if not logging.level_info():  # the command line shows what TFDS is doing
                stack.enter_context(_silent_tfds())
            self.builder = _builder(spec, data_dir)
            if not self.builder.is_prepared():
                _prepare(name, spec, self.builder, data_dir)
        self.key = self.builder.info.full_name.replace("/", "-") + "-crops" * spec.crop
        self.size = spec.size

    def examples(self, image_size):
        data = self.builder.as_dataset(split=self.split, shuffle_files=False)
        self.skipped = Skipped("boxes")
        return examples_of(data, self.spec, image_size, self.skipped)


def examples_of(data, spec, image_size, skipped=None):
    """Yields the dicts of a TFDS data set, with the keys of a DataSpec and square pictures of
    image_size. skipped: a Skipped that counts boxes without area."""
    examples = data.as_numpy_iterator()
    for example in crops.cut(examples, skipped) if spec.crop else examples:
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
        from .creatures_builder import Creatures

        return Creatures(config=spec.tfds.removeprefix("creatures/"), data_dir=str(data_dir))
    if spec.tfds.startswith("cells/"):
        from .cells_builder import Cells

        return Cells(config=spec.tfds.removeprefix("cells/"), data_dir=str(data_dir))
    return tfds.builder(spec.tfds, data_dir=str(data_dir))


def _existing(path):
    """The path, or its nearest parent that exists."""
    while not path.exists():
        path = path.parent
    return path


@contextlib.contextmanager
def _silent_tfds():
    """Has TFDS show no progress bars, print nothing and log errors alone."""
    import tensorflow_datasets as tfds

    verbosity, root = logging.get_verbosity(), logging.get_absl_logger().root
    handlers = root.handlers[:]
    logging.set_verbosity(logging.ERROR)
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(None), contextlib.redirect_stderr(None):
            yield
    finally:
        tfds.enable_progress_bar()
        logging.set_verbosity(verbosity)
        root.handlers[:] = handlers  # absl adds one that would write to the closed stderr


def _prepare(name, spec, builder, data_dir):
    existing = _existing(data_dir)
    if not (existing.is_dir() and os.access(existing, os.W_OK)):
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
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for results
            builder.download_and_prepare()
    except Exception as error:  # any error of a download or a disk
        cause = " ".join(str(error).split())[:200]
        raise DataError(
            f"{name} cannot be prepared in {data_dir} ({type(error).__name__}: {cause}); {offline}"
        ) from error

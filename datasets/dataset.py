"""A data set as one object, whatever it comes from: a name of the table or a path, arrays in
memory, or a tf.data.Dataset.

    data = open_dataset("cifar10", image_size=32)
    data = open_dataset(Path("my pictures"))                 # as "folder:my pictures"
    data = open_dataset(images)                              # uint8 (N, H, W, 3)
    data = open_dataset({"image": images, "label": labels})
    data = open_dataset(tf.data.Dataset.from_tensor_slices(images).batch(32))
    data.arrays("train")["image"]                            # uint8 (N, S, S, 3)
    data.batches(batch_size=64, seed=0)                      # tf.data.Dataset of dicts
"""

import functools
import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from ..common.images import scaled, to_uint8
from . import rendered, resize, stream
from .table import DataError

SAMPLED = 2_048  # images of a tf.data.Dataset that `arrays` reads
MAPS = {"mask": Image.Resampling.BOX, "classes": Image.Resampling.NEAREST}  # how they are resized


class DataSet:
    """A named data set at one image size.

    name: as `datasets.load` takes it. image_size: S; None: the data set's own. data_dir: the folder
    of TensorFlow Datasets. sources: its stream.Sources, one for all sizes: what changes in a folder
    later is not seen. side: of arrays at hand, else None. classes: number of classes; a data set
    without labels raises DataError. recipe: the key of a trainer's RECIPES.
    """

    side = None
    recipe = property(lambda self: self.name.split(":")[0].split("/")[0])

    def __init__(self, name, image_size=None, data_dir=None, sources=None):
        self.sources = sources or stream.Sources(name, data_dir)
        self.name, self.image_size, self.data_dir = name, image_size, data_dir

    @property
    def paired(self):
        """True if it has two domains, a and b."""
        return stream.paired(self.sources)

    @property
    def classes(self):
        return stream.classes(self.sources)

    @property
    def class_names(self):
        """The names of the classes; () where there are none, or they are not known."""
        if self.sources.kind:
            return tuple(self.sources.find("train").classes)
        return rendered.class_names(self.name)

    def resized(self, image_size):
        """The same data set at another image size."""
        return type(self)(self.name, image_size, self.data_dir, self.sources)

    def has_split(self, split):
        return stream.has_split(self.sources, split)

    def arrays(self, split="train"):
        """{key: array (N, ...)} of a split; see `datasets.arrays`."""
        return stream.arrays(self.sources, split, image_size=self.image_size)

    def labelled(self, split, classes):
        """`arrays` of a split whose labels all lie below `classes`; else DataError."""
        return stream.labelled(self.sources, split, classes, image_size=self.image_size)

    def identity(self, split="train"):
        """A string that changes when the examples change."""
        return stream.identity(self.sources, split)

    def legacy_identity(self, split="train"):
        """The identity that run directories of earlier versions record."""
        return stream.legacy_identity(self.sources, split)

    def batches(self, **options):
        """Training batches; options as of `datasets.load`."""
        return stream.load(self.sources, image_size=self.image_size, **options)


class ArrayDataSet:
    """Arrays in memory as a data set whose only split is "train".

    arrays: {"image": (N, H, W, 3) or (N, H, W), uint8, or float in [-1, 1], ...}; "label" (N,) or
    (N, 1): whole numbers from 0. "labels" (N, C): 1 for each of C classes that an image shows.
    "mask" (N, H, W, 1): uint8, 255 on the object. "classes" (N, H, W, 1): the class of each pixel,
    below 256. Images of another size than image_size are resized (centred square, bicubic), and
    with them masks (means) and classes (nearest pixels). Other arrays raise DataError.
    """

    name, recipe, paired, data_dir = "arrays", "folder", False, None
    class_names = ()

    def __init__(self, arrays, image_size=None):
        arrays = {key: np.asarray(value) for key, value in arrays.items()}
        if "image" not in arrays or not arrays["image"].size:
            raise DataError('arrays need "image", uint8 (N, H, W, 3), with at least one image')
        arrays["image"] = as_pictures(arrays["image"])
        count = len(arrays["image"])
        uneven = [key for key, value in arrays.items() if len(value) != count]
        if uneven:
            raise DataError(f"{uneven[0]} has {len(arrays[uneven[0]])} entries for {count} images")
        if "label" in arrays:
            arrays["label"] = as_labels(arrays["label"])
        check_maps(arrays)
        self.given, self.image_size = arrays, image_size
        self.held = squares(arrays, image_size or self.side)
        if "label" in arrays:
            self.held["label"] = arrays["label"].ravel()

    @property
    def side(self):
        return min(self.given["image"].shape[1:3])

    @property
    def classes(self):
        if "labels" in self.held:
            return self.held["labels"].shape[1]
        return self._highest_label() + 1

    def _highest_label(self):
        if "label" not in self.held or self.held["label"].min() < 0:
            raise DataError(
                "the images have no label each: give {'label': ...}, or {'labels': ...}"
            )
        return int(self.held["label"].max())

    def resized(self, image_size):
        return ArrayDataSet(self.given, image_size)

    def has_split(self, split):
        return split == "train"

    def arrays(self, split="train"):
        if split != "train":
            raise DataError(f"data in memory has no split {split!r}, only train")
        return self.held

    def labelled(self, split, classes):
        held = self.arrays(split)
        count = self._highest_label() + 1
        if count > classes:
            raise DataError(f"the images have {count} classes, the network {classes}")
        return held

    def identity(self, split="train"):
        digest = hashlib.sha256()
        for key, value in sorted(self.given.items()):
            digest.update(f"{key} {value.shape} {value.dtype}".encode())
            digest.update(np.ascontiguousarray(value).tobytes())
        return f"arrays-{digest.hexdigest()[:16]}"

    legacy_identity = identity

    def batches(self, **options):
        return stream.batches_of({"": self.held}, self.name, **options)


class StreamDataSet:
    """A tf.data.Dataset as a data set: batches of images, of (images, labels), or of dicts with
    "image".

    Images are uint8, or float in [-1, 1], and all of one size. The batches are taken apart and put
    together again in the size that training asks for, in the data set's own order, endlessly: what
    shuffles them is the data set's own. A resumed run skips what it has seen, so it repeats the
    interrupted one only if the order is always the same.
    """

    name, recipe, paired, data_dir = "tf.data", "folder", False, None
    class_names = ()

    def __init__(self, data, image_size=None):
        if not isinstance(data.element_spec, dict):
            data = data.map(lambda *columns: dict(zip(("image", "label"), columns)))
        spec = data.element_spec
        if "image" not in spec or spec["image"].shape.rank != 4:
            raise DataError(
                "a tf.data.Dataset must give batches: images (B, H, W, 3), (images, labels), or "
                '{"image": ...}'
            )
        side = spec["image"].shape[1]
        if image_size not in (None, side):
            raise DataError(f"the data set gives images of {side} pixels, not {image_size}")
        self.data, self.image_size, self.side = data, side, side

    @functools.cached_property
    def sample(self):
        """An ArrayDataSet of the first images, up to SAMPLED."""
        parts, count = {}, 0
        for batch in self.data.as_numpy_iterator():
            for key, value in batch.items():
                parts.setdefault(key, []).append(value)
            count += len(batch["image"])
            if count >= SAMPLED:
                break
        if not count:
            raise DataError("the data set is empty")
        return ArrayDataSet({key: np.concatenate(value)[:SAMPLED] for key, value in parts.items()})

    @property
    def classes(self):
        """As of `sample`."""
        return self.sample.classes

    def resized(self, image_size):
        return StreamDataSet(self.data, image_size)

    def has_split(self, split):
        return split == "train"

    def arrays(self, split="train"):
        """Those of `sample`."""
        return self.sample.arrays(split)

    def labelled(self, split, classes):
        """As of `sample`."""
        return self.sample.labelled(split, classes)

    def identity(self, split="train"):
        return "tf.data"

    legacy_identity = identity

    def batches(self, *, batch_size=64, start=0, keys=None, shares=(0, 1, 1), replace=None, **_):
        import tensorflow as tf

        if shares != (0, 1, 1):
            raise DataError("a tf.data.Dataset trains on one device: give strategy='one'")
        if replace:
            raise DataError("a tf.data.Dataset has no arrays to be replaced")
        spec = self.data.element_spec
        missing = [key for key in keys or () if key not in spec]
        if missing:
            raise DataError(f"the data set gives no {', '.join(missing)}")
        shape = spec["image"].shape
        if shape[1:] != (self.side, self.side, 3):
            raise DataError(f"training takes images (B, S, S, 3), not {shape}")

        def prepared(batch):
            image = batch["image"]
            if image.dtype == tf.uint8:
                image = scaled(tf.cast(image, tf.float32))
            batch = {**batch, "image": tf.cast(image, tf.float32)}
            return {key: batch[key] for key in keys or batch}

        data = self.data.map(prepared).unbatch().repeat().batch(batch_size, drop_remainder=True)
        return data.skip(start).prefetch(2)


def as_pictures(images):
    """Images (N, H, W), (N, H, W, 1) or (N, H, W, 3), uint8 or float in [-1, 1] -> uint8 (N, H, W,
    3). Another type, shape or range raises DataError."""
    images = images[..., None] if images.ndim == 3 else images
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise DataError(f"images are (N, H, W, 3), not {images.shape}")
    if images.dtype.kind == "f":
        if not (np.abs(images) <= 1 + 1e-6).all():
            raise DataError("float images lie in [-1, 1]; images from 0 to 255 are uint8")
        images = to_uint8(images.astype(np.float64))
    if images.dtype != np.uint8:
        raise DataError(f"images are uint8, or float in [-1, 1], not {images.dtype}")
    return np.broadcast_to(images, (*images.shape[:3], 3))


def as_labels(values):
    """Whole numbers (N,) or (N, 1) of any type -> int32; others raise DataError."""
    is_one_each = values.size == len(values)
    if not is_one_each or values.dtype.kind not in "biuf" or (values % 1).any():
        raise DataError(
            f'"label" is one whole number for each image, (N,), not {values.dtype} {values.shape}; '
            'of several classes an image give "labels"'
        )
    return values.astype(np.int32)


def check_maps(arrays):
    """Raises DataError unless each mask and map of classes is as large as its image."""
    shape = (*arrays["image"].shape[:3], 1)
    for key in MAPS.keys() & arrays.keys():
        if arrays[key].shape != shape:
            raise DataError(f'"{key}" goes with these images as {shape}, not {arrays[key].shape}')


def squares(arrays, size):
    """The arrays with the centred squares of images and maps, at `size` pixels a side."""
    height, width = arrays["image"].shape[1:3]
    if height == width == size:
        return {**arrays}
    if "bbox" in arrays and height != width:
        raise DataError(f"images with boxes must be square, not {height} x {width}")
    made = {"image": np.stack([resize.square(image, size) for image in arrays["image"]])}
    for key in MAPS.keys() & arrays.keys():
        maps = np.uint8(arrays[key][..., 0])
        made[key] = np.stack([resize.square(each, size, MAPS[key]) for each in maps])[..., None]
    return {**arrays, **made}


def open_dataset(data, image_size=None, data_dir=None):
    """A DataSet of a name, the Path of a folder, an array of images, a dict of arrays, or a
    tf.data.Dataset."""
    if isinstance(data, Path):
        data = f"folder:{data}"
    if isinstance(data, str):
        return DataSet(data, image_size, data_dir)
    if isinstance(data, (DataSet, ArrayDataSet, StreamDataSet)):
        return data if image_size in (None, data.image_size) else data.resized(image_size)
    if isinstance(data, dict):
        return ArrayDataSet(data, image_size)
    if hasattr(data, "element_spec"):
        return StreamDataSet(data, image_size)
    return ArrayDataSet({"image": np.asarray(data)}, image_size)

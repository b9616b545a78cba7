"""PASCAL VOC 2012's pictures with class maps, from the folder that its archive unpacks to:
`voc2012:PATH`.

PATH is VOCdevkit, or the folder VOC2012 in it, or one that holds VOCdevkit; in VOC2012 lie

    JPEGImages/2007_000032.jpg           pictures
    SegmentationClass/2007_000032.png    a map: 0 background, 1 to 20 the classes, 255 borders and
                                         ambiguous pixels; its palette is only for viewing
    SegmentationClassAug/...             maps of more pictures (Hariharan et al., ICCV 2011), if
                                         there are any, with the same numbers
    Annotations/2007_000032.xml          the objects, for the classes of a picture without a map
    ImageSets/Segmentation/train.txt     names of the pictures of a split, or lines of
                                         /JPEGImages/NAME.jpg /SegmentationClassAug/NAME.png

| split            | list                                             | pictures of VOC 2012 |
|------------------|--------------------------------------------------|----------------------|
| `train`          | train_aug.txt or trainaug.txt, else train.txt    | 10,582, else 1,464   |
| `train_official` | train.txt                                        | 1,464                |
| `val`, `test`    | val.txt (the maps of VOC's own test split are not public) | 1,449       |
| `trainval`       | trainval.txt                                     | 2,913                |

Training on VOC usually cuts random squares out of pictures. Here each picture becomes one square:
the whole picture, scaled by its longer side and centred between bars of ImageNet's mean colour,
which the map marks as ignored. Maps are resized to the nearest pixel, so that classes do not mix.
"""

import functools
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from . import contents, pictures, walk
from .skipped import Skipped, Source
from .table import DataError

CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
IGNORE = 255  # in maps
BARS = (124, 116, 104)  # ImageNet's mean colour
LISTS = {  # split -> its lists; the first one that exists counts
    "train": ("train_aug", "trainaug", "train"),
    "train_official": ("train",),
    "val": ("val",),
    "test": ("val",),
    "trainval": ("trainval",),
}
FORM = (
    "JPEGImages/2007_000032.jpg, SegmentationClass/2007_000032.png and "
    "ImageSets/Segmentation/train.txt in VOCdevkit/VOC2012"
)


class Voc(Source):
    """The pictures of one split of a folder.

    Examples have "image" (S, S, 3); "classes" (S, S, 1), 0 for the background, k for class k of
    `classes`, IGNORE for pixels that do not count; and "labels" (20,), 1 for the classes in the
    map. A picture without a map has IGNORE everywhere, and the labels of its annotation.
    """

    size = 321  # default size of the squares (DeepLab)
    classes = CLASSES

    def __init__(self, path, split):
        self.root = devkit(path)
        names = lists(self.root)
        if not names.get(split):
            known = ", ".join(k for k, pictures in names.items() if pictures)
            raise DataError(f"{self.root} has no pictures for the split {split!r}: it has {known}")
        self.names = names[split]

    @functools.cached_property
    def key(self):
        """What identifies the pictures, their maps and their labels."""
        paths = [path for name in self.names for path in (self._picture(name), *self._source(name))]
        names = [path.relative_to(self.root).as_posix() for path in paths]
        return f"voc2012-{contents.digest(self.root, names, ' '.join(self.names))}"

    def legacy_key(self):
        """The key that earlier versions gave."""
        maps = [path for name in self.names for path in self._maps(name)]
        files = [*map(self._picture, self.names), *maps]
        return f"voc2012-{contents.legacy(self.root, files, ' '.join(self.names))}"

    @staticmethod
    def splits(path):
        return [split for split, names in lists(devkit(path)).items() if names]

    def examples(self, image_size):
        """Yields a dict per readable picture; logs and counts the others."""
        for name, image, classes in self.originals():
            labels = self._labels(name, classes)
            yield {
                "image": fitted(image, image_size, BARS),
                "classes": fitted(classes, image_size, IGNORE)[..., None],
                "labels": labels,
            }

    def originals(self):
        """Yields (name, picture (H, W, 3), map (H, W)), uint8, at their own size."""
        skipped = self.skipped = Skipped("pictures")
        for name in self.names:
            try:
                image = pictures.read(self._picture(name), upright=False)  # as its map
                classes = self._classes(name, image.shape[:2])
                self._labels(name, classes)
            except pictures.Unreadable as error:
                skipped.add(name, error)
                continue
            yield name, image, classes
        none_left = f"{self.root} holds no readable picture with its map: expected {FORM}"
        skipped.report(len(self.names), none_left)

    def _picture(self, name):
        return self.root / "JPEGImages" / f"{name}.jpg"

    def _maps(self, name):
        """The places for the map of a picture, VOC's own first."""
        places = ("SegmentationClass", "SegmentationClassAug")
        return [self.root / place / f"{name}.png" for place in places]

    def _source(self, name):
        """The files that the map or else the labels of a picture are read from, in a list."""
        maps = [path for path in self._maps(name) if path.is_file()]
        return maps[:1] or [self._annotation(name)]

    def _annotation(self, name):
        return self.root / "Annotations" / f"{name}.xml"

    def _classes(self, name, shape):
        """The map (H, W) of a picture, all IGNORE if there is none. A map of another size or with
        other classes raises Unreadable."""
        for path in self._maps(name):
            if path.is_file():
                classes = pictures.numbers(path)
                if classes.shape != shape or (classes[classes != IGNORE] > len(CLASSES)).any():
                    raise pictures.Unreadable("its map has another size or other classes")
                return classes
        return np.full(shape, IGNORE, np.uint8)

    def _labels(self, name, classes):
        """float32 (20,): 1 for the classes in the map or, without a map, in the annotation."""
        if any(path.is_file() for path in self._maps(name)):
            return np.isin(np.arange(1, len(CLASSES) + 1), classes).astype(np.float32)
        labels = np.zeros(len(CLASSES), np.float32)
        try:
            for place in ElementTree.parse(self._annotation(name)).iter("object"):
                labels[CLASSES.index(place.findtext("name"))] = 1
        except (OSError, ValueError, SyntaxError, LookupError):
            raise pictures.Unreadable("it has neither a map nor a readable annotation") from None
        return labels


def devkit(path):
    """The folder VOC2012 of a path that a user typed; a path without one raises DataError."""
    root = walk.folder(path, "--dataset=voc2012:")
    for place in (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012"):
        if (place / "JPEGImages").is_dir() and (place / "ImageSets" / "Segmentation").is_dir():
            return place
    raise DataError(f"{root} is not a VOCdevkit folder: expected {FORM}")


def lists(root):
    """{split: names of its pictures}; a split without a list has none."""
    return {split: next(filter(None, map(read_names, paths)), []) for split, paths in _files(root)}


def _files(root):
    place = root / "ImageSets" / "Segmentation"
    return [(split, [place / f"{name}.txt" for name in names]) for split, names in LISTS.items()]


def read_names(path):
    """The names of the pictures in a list; none if there is no such file."""
    if not path.is_file():
        return []
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a list of pictures ({error})") from None
    return [Path(line.split()[0]).stem for line in lines if line.strip()]


def placed(height, width, size):
    """(rows, columns): slices of the square that `fitted` puts a picture into."""
    sides = [max(1, round(side * size / max(height, width))) for side in (height, width)]
    return tuple(slice((size - side) // 2, (size - side) // 2 + side) for side in sides)


def fitted(image, size, bars):
    """uint8 (H, W, 3) or (H, W) -> (size, size, ...): the whole picture, its longer side scaled to
    `size`, between bars of one value. Pictures are antialiased, maps take the nearest pixel."""
    rows, columns = placed(*image.shape[:2], size)
    square = np.empty((size, size, *image.shape[2:]), np.uint8)
    square[:] = bars
    sides = (columns.stop - columns.start, rows.stop - rows.start)
    how = Image.Resampling.BICUBIC if image.ndim == 3 else Image.Resampling.NEAREST
    square[rows, columns] = np.asarray(Image.fromarray(image).resize(sides, how))
    return square

"""The table of all data sets: data only, so that it can be read without TensorFlow."""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

from ..common.errors import UsageError


class DataError(UsageError):
    """Images that cannot be loaded as requested; the message says why and what works instead."""


@dataclass(frozen=True)
class DataSpec:
    """tfds: TFDS name (and config). splits: our split -> TFDS's; "train_a" and "train_b" are splits
    of two domains. keys: of an example.

    summary: one line for a list. host: the host of TFDS's download, with its port if that is not
    443; empty for rendered data sets. classes: the number of classes, if all training images have a
    label. crop: True if each box is a picture, cut out by it, in place of the centred square. size:
    the default size of the pictures; 0: their own. scenario: the function of `scenarios` that draws
    the examples in place of TFDS; `splits` then gives the number of examples.
    """

    tfds: str
    splits: dict
    keys: tuple
    summary: str
    host: str = ""
    classes: int = 0
    crop: bool = False
    size: int = 0
    scenario: str = ""


_SPLITS = {"train": "train", "test": "test"}
_PAIR = {"train_a": "trainA", "train_b": "trainB", "test_a": "testA", "test_b": "testB"}
_COATS = ("image", "mask", "truth")
_HERD = ("image", "labels", "classes")
_BIASED = ("image", "mask", "classes", "bbox", "label", "coat", "scene", "context")
_CREATURE = ("image", "mask", "bbox", "label", "coat", "scene")
_CELL = ("image", "mask", "bbox", "label", "intensity")
_CYCLE_GAN = {
    "horse2zebra": "1,067 horses and 1,334 zebras, test 120 and 140, 256 x 256",
    "apple2orange": "995 apples and 1,019 oranges, test 266 and 248, 256 x 256",
    "summer2winter_yosemite": "1,231 summer and 962 winter views, test 309 and 238, 256 x 256",
    "monet2photo": "1,072 paintings of Monet and 6,287 photographs, test 121 and 751, 256 x 256",
    "cezanne2photo": "525 paintings of Cezanne and the same photographs, test 58 and 751",
    "ukiyoe2photo": "562 pictures of ukiyo-e and the same photographs, test 263 and 751",
    "vangogh2photo": "400 paintings of Van Gogh and the same photographs, test 400 and 751",
    "maps": "1,096 aerial photographs and their maps, test 1,098 each",
    "facades": "400 facades and their labels, test 106 each",
    "iphone2dslr_flower": "1,812 flowers by a telephone and 3,325 by a camera, test 569 and 480",
}


def _scenario(name, splits, keys, summary, classes=0):
    return DataSpec("", splits, keys, summary, classes=classes, size=64, scenario=name)


def _paired(train, test):
    return {"train_a": train, "train_b": train, "test_a": test, "test_b": test}


DATASETS = {
    "creatures": DataSpec(
        "creatures/full",
        _SPLITS,
        _CREATURE,
        "20,000 + 2,000 rendered animals, 64 x 64: 8 body plans, coat, scene, mask, box; offline",
        classes=8,
    ),
    "creatures/small": DataSpec(
        "creatures/small",
        _SPLITS,
        _CREATURE,
        "5,000 + 500 of the same, for first tries; offline",
        classes=8,
    ),
    "creatures/tiny": DataSpec(
        "creatures/tiny",
        _SPLITS,
        _CREATURE,
        "256 + 64 of the same, for tests; offline",
        classes=8,
    ),
    "creatures/crops": DataSpec(
        "creatures/full",
        _SPLITS,
        _CREATURE,
        "the same 20,000 + 2,000 animals, each cut out by its box; offline",
        classes=8,
        crop=True,
        size=64,
    ),
    "creatures/plain2striped": _scenario(
        "plain2striped",
        _paired(2_000, 200),
        _COATS,
        "two domains, plain and striped coats, unpaired, 2,000 + 2,000 and 200 + 200, 64 x 64; in "
        "test mask and true counterpart; offline",
    ),
    "creatures/plain2striped/tiny": _scenario(
        "plain2striped", _paired(32, 16), _COATS, "32 + 32 and 16 + 16 of the same; offline"
    ),
    "creatures/many": _scenario(
        "many",
        {"train": 4_000, "test": 500},
        _HERD,
        "4,000 + 500 pictures of one to three animals, 64 x 64: which of 8 body plans, and a map "
        "of them; offline",
        classes=8,
    ),
    "creatures/many/tiny": _scenario(
        "many", {"train": 64, "test": 32}, _HERD, "64 + 32 of the same; offline", classes=8
    ),
    "creatures/biased": _scenario(
        "biased",
        {"train": 4_000, "test": 1_000},
        _BIASED,
        "4,000 + 1,000 animals, 64 x 64: in train each body plan on its own scene, in test each "
        "animal on that and on another; offline",
        classes=8,
    ),
    "creatures/biased/tiny": _scenario(
        "biased", {"train": 64, "test": 32}, _BIASED, "64 + 32 of the same; offline", classes=8
    ),
    "cells": DataSpec(
        "cells/full",
        _SPLITS,
        _CELL,
        "20,000 + 2,000 rendered HEp-2 cells, grey, 64 x 64: 6 staining patterns, intensity, mask, "
        "box; offline",
        classes=6,
    ),
    "cells/128": DataSpec(
        "cells/128",
        _SPLITS,
        _CELL,
        "10,000 + 1,000 of the same, 128 x 128; offline",
        classes=6,
    ),
    "cells/tiny": DataSpec(
        "cells/tiny",
        _SPLITS,
        _CELL,
        "256 + 64 of the same, 64 x 64, for tests; offline",
        classes=6,
    ),
    "cifar10": DataSpec(
        "cifar10",
        _SPLITS,
        ("image", "label"),
        "50,000 + 10,000 photographs, 32 x 32: 10 classes",
        "www.cs.toronto.edu",
        classes=10,
    ),
    "stl10": DataSpec(
        "stl10",
        {"train": "train+unlabelled", "test": "test"},
        ("image", "label"),
        "105,000 + 8,000 photographs, 96 x 96: 10 classes, label -1 where there is none",
        "ai.stanford.edu:80",
    ),
    "celeb_a": DataSpec(
        "celeb_a",
        _SPLITS,
        ("image",),
        "162,770 + 19,962 faces, 218 x 178, the centred square",
        "drive.usercontent.google.com",
    ),
    "stanford_dogs": DataSpec(
        "stanford_dogs",
        _SPLITS,
        ("image", "label"),
        "12,000 + 8,580 photographs of dogs, each dog cut out by its box: 120 breeds",
        "vision.stanford.edu:80",
        classes=120,
        crop=True,
        size=64,
    ),
    **{
        name: DataSpec(
            f"cycle_gan/{name}",
            _PAIR,
            ("image",),
            f"two domains: {summary}",
            "efrosgans.eecs.berkeley.edu",
            size=256,
        )
        for name, summary in _CYCLE_GAN.items()
    },
    "voc2012:PATH": DataSpec(  # PATH is the user's; see datasets/voc.py
        "",
        {"train": "train", "test": "val"},
        _HERD,
        "PASCAL VOC 2012 from its VOCdevkit folder: 1,464 or, with the augmented list, 10,582 + "
        "1,449 photographs, which of 20 classes, and a map of them, 255 to be ignored",
        classes=20,
    ),
    "hep2:PATH": DataSpec(  # PATH is the user's; see datasets/hep2.py
        "",
        _SPLITS,
        _CELL,
        "HEp-2 cells of MIVIA (ICPR 2012) or of I3A's task 1, each cut out by its mask: 6 staining "
        "patterns; split by specimen if the files name the specimens",
        classes=6,
    ),
}
FOLDER = "folder:PATH"
# Words of the names of data sets whose pictures show people.
PEOPLE = re.compile(
    r"celeb|selfie|people|person|human|portrait|ffhq|lfw|voc2012|(?<![a-z])faces?(?![a-z])"
)
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FOLDER_SUMMARY = (
    "any folder of images, sub-folders as classes; with train/, val/ and test/ in it as splits, "
    "or trainA/, trainB/, testA/ and testB/ as splits of two domains"
)


def shows_people(name):
    """True if the pictures of a data set show people, by its name: "celeb_a", "folder:faces". What
    is learned from them is described and never shown in the documentation."""
    return PEOPLE.search(name.lower()) is not None


def names():
    """The names of all data sets; those with a user's PATH come last."""
    return [*DATASETS, FOLDER]


def check(name):
    """Raises DataError for a name that is neither in the table nor has a user's path."""
    if name not in DATASETS and not name.startswith(("folder:", "hep2:", "voc2012:")):
        close = difflib.get_close_matches(name, DATASETS, n=1)
        close = [f"folder:{name}"] if Path(name).is_dir() else close
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise DataError(f"unknown data set {name!r}: {hint}there are {', '.join(names())}")

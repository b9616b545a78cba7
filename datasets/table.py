"""The table of all data sets: data only, so that it can be read without TensorFlow."""

import difflib
from dataclasses import dataclass


class DataError(ValueError):
    """Images that cannot be had as asked; the message says why and what works instead."""


@dataclass(frozen=True)
class DataSpec:
    """tfds: TFDS name (and config). splits: our split -> TFDS's. keys: what an example holds.

    host: where TFDS downloads from, with its port if that is not 443; empty for what is rendered
    here. what: one line for people. classes: how many values "label" has, where all training
    images have one. crop: one picture a box, cut out by it, in place of the centred square.
    """

    tfds: str
    splits: dict
    keys: tuple
    what: str
    host: str = ""
    classes: int = 0
    crop: bool = False


_SPLITS = {"train": "train", "test": "test"}
_CREATURE = ("image", "mask", "bbox", "label", "coat", "scene")
_CELL = ("image", "mask", "bbox", "label", "intensity")

DATASETS = {
    "creatures": DataSpec(
        "creatures/full",
        _SPLITS,
        _CREATURE,
        "20,000 + 2,000 rendered animals, 64 x 64: 8 body plans, coat, scene, mask, box; offline",
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
    ),
    "hep2:PATH": DataSpec(  # PATH is the user's; see datasets/hep2.py
        "",
        _SPLITS,
        _CELL,
        "HEp-2 cells of MIVIA (ICPR 2012) or of I3A's task 1, each cut out by its mask: 6 staining "
        "patterns; split by specimen where the files tell it",
        classes=6,
    ),
}
FOLDER = "folder:PATH"
FOLDER_WHAT = "any folder of images, sub-folders as classes; train/ and test/ inside it as splits"


def names():
    """The names of all data sets, those of a user's PATH last."""
    return [*DATASETS, FOLDER]


def check(name):
    """Raises DataError for a name that is neither a data set's nor one with a user's path."""
    if name not in DATASETS and not name.startswith(("folder:", "hep2:")):
        close = difflib.get_close_matches(name, DATASETS, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise DataError(f"unknown data set {name!r}: {hint}there are {', '.join(names())}")

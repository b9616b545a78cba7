"""Folders of two domains a and b, as CycleGAN's data sets are laid out: trainA, trainB, ..."""

import os
from pathlib import Path

from . import folder
from .table import DataError

PLACES = {"train_a": "trainA", "train_b": "trainB", "test_a": "testA", "test_b": "testB"}
LAYOUT = "two domains are trainA/ and trainB/, and testA/ and testB/ where both exist"


def held(path):
    """{split: its folder} of those of PLACES that a path holds."""
    root = Path(os.path.expanduser(path))
    return {split: root / name for split, name in PLACES.items() if (root / name).is_dir()}


class Pairs:
    """The images of one domain of one split, in the order of their names; sub-folders are no
    classes."""

    size = 64  # of the pictures where none is asked for
    classes = ()

    def __init__(self, path, split):
        places, splits = held(path), self.splits(path)
        if "train_a" not in splits:
            there = ", ".join(place.name for place in places.values())
            raise DataError(f"{path} holds {there} alone: {LAYOUT}")
        if split not in splits:
            raise DataError(f"{path} has no split {split!r}: it has {', '.join(splits)}; {LAYOUT}")
        self.folder = folder.Folder(places[split], "train")
        self.key = self.folder.key

    @staticmethod
    def splits(path):
        places = held(path)
        return [
            split
            for side in ("train", "test")
            for split in (f"{side}_a", f"{side}_b")
            if {f"{side}_a", f"{side}_b"} <= set(places)
        ]

    def examples(self, image_size):
        """Yields one dict a readable file; names the others on stderr and counts them."""
        return ({"image": example["image"]} for example in self.folder.examples(image_size))

"""Folders of two domains a and b in the layout of CycleGAN's data sets: trainA, trainB, ..."""

from ..common.files import user_path
from . import folder
from .table import DataError

PLACES = {"train_a": "trainA", "train_b": "trainB", "test_a": "testA", "test_b": "testB"}
LAYOUT = "two domains are trainA/ and trainB/, and testA/ and testB/ where both exist"


def folders(path):
    """{split: folder} of the splits of PLACES that a path has a folder of."""
    root = user_path(path)
    return {split: root / name for split, name in PLACES.items() if (root / name).is_dir()}


class Pairs:
    """The images of one domain of one split, in the order of their names; sub-folders are not
    classes."""

    size = 64  # default size of the pictures
    classes = ()

    def __init__(self, path, split):
        places, splits = folders(path), self.splits(path)
        if "train_a" not in splits:
            names = ", ".join(place.name for place in places.values())
            raise DataError(f"{path} holds {names} alone: {LAYOUT}")
        if split not in splits:
            raise DataError(f"{path} has no split {split!r}: it has {', '.join(splits)}; {LAYOUT}")
        self.folder = folder.Folder(places[split], "train")
        self.key = self.folder.key

    @staticmethod
    def splits(path):
        places = folders(path)
        return [
            split
            for side in ("train", "test")
            for split in (f"{side}_a", f"{side}_b")
            if {f"{side}_a", f"{side}_b"} <= set(places)
        ]

    def examples(self, image_size):
        """Yields a dict per readable file; logs and counts the others."""
        return ({"image": example["image"]} for example in self.folder.examples(image_size))

"""Folders of two domains a and b in the layout of CycleGAN's data sets: trainA, trainB, ..."""

from ..common.files import user_path
from . import folder, walk
from .skipped import Source
from .table import DataError

PLACES = {
    f"{name}{end}": f"{split}_{end}" for name, split in walk.SPLITS.items() for end in ("a", "b")
}
LAYOUT = "two domains are trainA/ and trainB/, and testA/ and testB/ where both exist"


def folders(path):
    """{split: folder} of the splits of PLACES that a path has a folder of. In small letters alone
    ("testa") they are classes, unless the training pictures of both domains are there."""
    root = user_path(path)
    found = walk.by_name(walk.visible_folders(root), PLACES, root)
    is_pair = {"train_a", "train_b"} <= found.keys()
    return {k: place for k, place in found.items() if is_pair or place.name[-1].isupper()}


class Pairs(Source):
    """The images of one domain of one split, in the order of their names; sub-folders are not
    classes."""

    size = 64  # default size of the pictures
    classes = ()

    def __init__(self, path, split):
        places, splits = _places(path), self.splits(path)
        if "train_a" not in splits:
            names = ", ".join(place.name for place in folders(path).values())
            raise DataError(f"{path} has only {names}: {LAYOUT}")
        if split not in splits:
            advice = "; give --split=train to use these" if split.startswith("test") else ""
            known = ", ".join(splits)
            raise DataError(f"{path} has no split {split!r}: it has {known}; {LAYOUT}{advice}")
        self.folder = folder.Folder(places[split], "train")
        self.folder.classes = []

    key = property(lambda self: self.folder.key)
    skipped = property(lambda self: self.folder.skipped)
    sizes = property(lambda self: self.folder.sizes)
    smaller = property(lambda self: self.folder.smaller)
    root = property(lambda self: self.folder.root)

    def legacy_key(self):
        """The key that earlier versions gave."""
        return self.folder.legacy_key()

    @staticmethod
    def splits(path):
        """The splits that both domains have. Without test pictures those of validation serve."""
        places = _places(path)
        return [
            f"{split}_{end}"
            for split in ("train", "validation", "test")
            if {f"{split}_a", f"{split}_b"} <= set(places)
            for end in "ab"
        ]

    def lines(self):
        """[(function of absl.logging, log line)] on what was found."""
        return self.folder.lines()

    def examples(self, image_size):
        """Yields a dict per readable file; logs and counts the others."""
        return self.folder.examples(image_size)


def _places(path):
    places = folders(path)
    if not {"test_a", "test_b"} & places.keys():
        places |= {
            f"test_{end}": places[f"validation_{end}"]
            for end in "ab"
            if f"validation_{end}" in places
        }
    return places

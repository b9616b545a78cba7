"""A folder of images as a data set: sub-folders are classes, broken files are skipped."""

import functools
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from absl import logging

from ..common.files import printable, user_path
from . import contents, pictures, resize, walk
from .skipped import Skipped, Source
from .table import DataError

LISTED = 100  # names of classes in a line
SIDES, LARGEST = 1000, 1024  # of `Folder.side`


def class_of(name):
    """The sub-folder that a name relative to a folder lies in, or "" if it lies in none."""
    return name.split("/", 1)[0] if "/" in name else ""


class Folder(Source):
    """The images below a folder, in the order of their names.

    Sub-folders train/, val/ and test/ are the splits (`walk.splits`), else all images are "train".
    Examples have "image" and, if there are sub-folders, "label": the index of the sub-folder among
    those of the training split, -1 for an image beside them or in another sub-folder. flag: what
    errors call the path.
    """

    size = 64  # default size of the pictures

    def __init__(self, path, split, flag="--dataset=folder:"):
        self.split = split
        root = self.top = walk.folder(path, flag)
        places = walk.splits(root) or {"train": root}
        split = walk.SPLITS.get(split, split)
        if split not in places:
            raise DataError(
                f"{root} has no split {split!r}: give --split=train, or put images into train/ and "
                f"{split}/ in it"
            )
        self.root = places[split]
        found = walk.pictures(self.root, self.root)
        self.names, self.left_out = found.names, found.left_out()
        training = found if split == "train" else walk.walk(places["train"])
        self.classes = training.classes

    @functools.cached_property
    def key(self):
        """What identifies the images and their labels."""
        return f"folder-{contents.digest(self.root, self.names, ' '.join(self.classes))}"

    def legacy_key(self):
        """The key that earlier versions gave, with their rules for splits and files."""
        root = self.top
        if (root / "train").is_dir() and (root / "test").is_dir():
            root = root / self.split
        files = sorted(p for p in root.rglob("*") if p.suffix.lower() in walk.SUFFIXES)
        return f"folder-{contents.legacy(root, files)}"

    @staticmethod
    def splits(path):
        return list(walk.splits(user_path(path))) or ["train"]

    def lines(self):
        """Log lines on what was found."""
        lines = []
        if self.left_out:
            lines.append((logging.warning, printable(f"{self.root}: left out {self.left_out}")))
        if self.classes:
            more = f" and {len(self.classes) - LISTED} more" if len(self.classes) > LISTED else ""
            names = ", ".join(self.classes[:LISTED]) + more
            line = f"{self.top} has {len(self.classes)} classes: {names}"
            lines.append((logging.info, printable(line)))
        return lines

    def side(self):
        """The side in pixels at which images of all sizes are compared: the median of their smaller
        sides, at most LARGEST. Of more than SIDES files as many are looked at, evenly spaced."""
        sides = []
        for name in self.names[:: -(-len(self.names) // SIDES)]:
            try:
                sides.append(min(pictures.size(self.root / name)))
            except pictures.Unreadable:
                continue
        if not sides:
            raise DataError(f"{self.root} holds no readable image")
        return min(sorted(sides)[len(sides) // 2], LARGEST)

    def examples(self, image_size):
        """Yields a dict per readable file; logs and counts the others."""
        self.skipped, self.smaller = Skipped("files"), 0

        def square(name):
            """(the square, (width, height)) of a file, or (None, the reason)."""
            try:
                pixels = pictures.read(self.root / name)
            except pictures.Unreadable as error:
                return None, str(error)
            return resize.square(pixels, image_size), pixels.shape[1::-1]

        for name, (image, about) in in_order(square, self.names):
            if image is None:
                self.skipped.add(self.root / name, about)
                continue
            self.sizes = extremes([*self.sizes, about])
            self.smaller += min(about) < image_size
            example = {"image": image}
            if self.classes:
                label = class_of(name)
                place = self.classes.index(label) if label in self.classes else -1
                example["label"] = np.asarray(place, np.int32)
            yield example
        self.skipped.report(len(self.names), f"{self.root} holds no readable image")


def in_order(function, values, ahead=8):
    """Yields (value, function(value)), computed by two threads. At most `ahead` results wait, so
    that memory does not grow with their number."""
    with ThreadPoolExecutor(2) as pool:
        waiting = deque()
        for value in values:
            waiting.append((value, pool.submit(function, value)))
            if len(waiting) > ahead:
                value, result = waiting.popleft()
                yield value, result.result()
        for value, result in waiting:
            yield value, result.result()


def extremes(sizes):
    """The smallest and the largest of sizes (width, height), by their areas; [] of none."""
    order = sorted(map(tuple, sizes), key=lambda size: (size[0] * size[1], size))
    return [order[0], order[-1]] if order else []


def read_all(path, flag, but=None):
    """(names of the pictures of a folder, an iterator of (name, uint8 (H, W, 3)) of those that are
    readable, at their own size). Others are logged and counted. path: a folder, of which all
    pictures are taken, or one picture; flag: what errors call it; but: as of `walk.walk`."""
    place = user_path(path)
    if place.is_file():
        try:
            pixels = pictures.read(place)
        except pictures.Unreadable as error:
            raise DataError(f"{flag}{path} is not a readable picture: {error}") from None
        return [place.name], iter([(place.name, pixels)])
    root = walk.folder(path, flag)
    found, skipped = walk.pictures(root, f"{flag}{path}", but), Skipped("files")

    def readable():
        for name in found.names:
            try:
                pixels = pictures.read(root / name)
            except pictures.Unreadable as error:
                skipped.add(root / name, error)
                continue
            yield name, pixels
        skipped.report(len(found.names), f"{flag}{path} holds no readable image")

    if found.left_out():
        logging.warning("%s: left out %s", printable(root), found.left_out())
    return found.names, readable()

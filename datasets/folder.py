"""A folder of images as a data set: sub-folders are classes, broken files are skipped."""

import contextlib
import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image, ImageOps

from ..common.files import user_path
from . import resize
from .skipped import Skipped
from .table import DataError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


def images_below(root):
    """The paths of the files below a folder with a suffix of an image, sorted."""
    return sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())


def opened(path, takes):
    """The folder of a path that a user typed. If there is none, DataError ends with `takes`."""
    root = user_path(path)
    if not path or not root.is_dir():
        raise DataError(f"{root} is not a folder: --dataset={takes}")
    return root


def digest(root, files, more=""):
    """A string that changes when the files of a folder change, or `more` does."""
    listing = "\n".join(
        f"{p.relative_to(root)} {p.stat().st_size} {p.stat().st_mtime_ns}"
        for p in files
        if p.is_file()
    )
    return hashlib.sha256(f"{root.resolve()}\n{listing}{more}".encode()).hexdigest()[:16]


def is_split(root):
    """Whether a folder has the sub-folders train/ and test/."""
    return (root / "train").is_dir() and (root / "test").is_dir()


def class_of(path, root):
    """The name of root's sub-folder that a path lies in, or "" if it lies in root itself."""
    parts = path.relative_to(root).parts
    return parts[0] if len(parts) > 1 else ""


class Folder:
    """The images below a folder, in the order of their names.

    If PATH/train and PATH/test both exist they are the splits, else all images are "train".
    Examples have "image" and, if there are sub-folders, "label": the index of the sub-folder among
    those of the training split, -1 for an image beside them or in another sub-folder.
    """

    size = 64  # default size of the pictures

    def __init__(self, path, split):
        root = named = opened(path, "folder:PATH takes a folder of images")
        if is_split(root):
            named, root = root / "train", root / split
        elif split != "train":
            raise DataError(
                f"{root} has no split {split!r}: put images into train/ and test/ in it"
            )
        self.files = images_below(root)
        if not self.files:
            raise DataError(f"{root} holds no images (looked for {', '.join(sorted(SUFFIXES))})")
        self.root = root
        training = self.files if named == root else images_below(named)
        self.classes = sorted({class_of(p, named) for p in training} - {""})
        self.key = f"folder-{digest(root, self.files)}"

    @staticmethod
    def splits(path):
        return ["train", "test"] if is_split(user_path(path)) else ["train"]

    def side(self):
        """The smaller side, in pixels, of the first readable image."""
        for path in self.files:
            with contextlib.suppress(*UNREADABLE), Image.open(path) as image:
                return min(image.size)
        raise DataError(f"{self.root} holds no readable image")

    def examples(self, image_size):
        """Yields a dict per readable file; logs and counts the others."""
        skipped = Skipped("not a readable image")
        with ThreadPoolExecutor(2) as pool:
            images = pool.map(lambda path: self._read(path, image_size), self.files)
            for path, image in zip(self.files, images):
                if image is None:
                    skipped.add(path)
                    continue
                example = {"image": image}
                if self.classes:
                    label = class_of(path, self.root)
                    place = self.classes.index(label) if label in self.classes else -1
                    example["label"] = np.asarray(place, np.int32)
                yield example
        skipped.report(len(self.files), "files")
        if skipped.count == len(self.files):
            raise DataError(f"{self.root} holds no readable image")

    def pictures(self):
        """Yields (path below the folder, uint8 (H, W, 3)) of each readable file, at its own size;
        logs and counts the others."""
        skipped = Skipped("not a readable image")
        for path in self.files:
            try:
                with Image.open(path) as image:
                    pixels = np.asarray(to_rgb(ImageOps.exif_transpose(image)))
            except UNREADABLE:
                skipped.add(path)
                continue
            yield path.relative_to(self.root), pixels
        skipped.report(len(self.files), "files")

    @staticmethod
    def _read(path, size):
        try:
            with Image.open(path) as image:
                return resize.square(to_rgb(ImageOps.exif_transpose(image)), size)
        except UNREADABLE:
            return None


def to_rgb(image):
    """Any PIL image -> RGB: grey repeated, 16 bits scaled to 8, transparent pixels over white."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, np.float64)
        top = 65535 if image.mode.startswith("I") else max(values.max(), 1e-9)
        image = Image.fromarray(np.uint8(np.clip(values / top, 0, 1) * 255 + 0.5))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")

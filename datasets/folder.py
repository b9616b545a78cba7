"""Any folder of images as a data set: sub-folders are classes, broken files are skipped."""

import contextlib
import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from datasets import resize
from datasets.table import DataError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
NAMED = 10  # broken files named one by one; the rest are counted


class Folder:
    """The images below a folder, in the order of their names.

    PATH/train and PATH/test are the splits where both exist; else all is "train". Examples hold
    "image" and, where there are sub-folders, "label": the sub-folder's place among their names,
    -1 for an image beside them.
    """

    def __init__(self, path, split):
        root = Path(path)
        with contextlib.suppress(RuntimeError):  # a "~user" that there is not
            root = root.expanduser()
        if not path or not root.is_dir():
            raise DataError(
                f"{root} is not a folder: --dataset=folder:PATH takes a folder of images"
            )
        if (root / "train").is_dir() and (root / "test").is_dir():
            root = root / split
        elif split != "train":
            raise DataError(
                f"{root} has no split {split!r}: put images into train/ and test/ in it"
            )
        files = (p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        self.files = sorted(files)
        if not self.files:
            raise DataError(f"{root} holds no images (looked for {', '.join(sorted(SUFFIXES))})")
        self.root = root
        self.classes = sorted({self._class(p) for p in self.files} - {""})
        listing = "\n".join(
            f"{p.relative_to(root)} {p.stat().st_size} {p.stat().st_mtime_ns}" for p in self.files
        )
        digest = hashlib.sha256(f"{root.resolve()}\n{listing}".encode()).hexdigest()[:16]
        self.key = f"folder-{digest}"

    def _class(self, path):
        parts = path.relative_to(self.root).parts
        return parts[0] if len(parts) > 1 else ""

    def examples(self, image_size):
        """Yields one dict a readable file; names the others on stderr and counts them."""
        broken = 0
        with ThreadPoolExecutor(2) as pool:
            images = pool.map(lambda path: self._read(path, image_size), self.files)
            for path, image in zip(self.files, images):
                if image is None:
                    broken += 1
                    if broken <= NAMED:
                        print(f"skipped, not a readable image: {path}", file=sys.stderr)
                    continue
                example = {"image": image}
                if self.classes:
                    label = self._class(path)
                    place = self.classes.index(label) if label else -1
                    example["label"] = np.asarray(place, np.int32)
                yield example
        if broken:
            print(f"skipped {broken} of {len(self.files)} files", file=sys.stderr)
        if broken == len(self.files):
            raise DataError(f"{self.root} holds no readable image")

    @staticmethod
    def _read(path, size):
        try:
            with Image.open(path) as image:
                return resize.square(to_rgb(ImageOps.exif_transpose(image)), size)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return None


def to_rgb(image):
    """Any PIL image -> RGB: grey repeated, 16 bit scaled to 8, transparency over white."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, np.float64)
        top = 65535 if image.mode.startswith("I") else max(values.max(), 1e-9)
        image = Image.fromarray(np.uint8(np.clip(values / top, 0, 1) * 255 + 0.5))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")

"""HEp-2 cells as the contests handed them out, each cut out by its mask: `hep2:PATH`.

The files go to registered researchers only. What is assumed of them is what readers published for
them take (github.com/PetterS/hep-2, lorecioni/HEp-2-CellsClassification, george-chou/
HEp-2_cell_classification). PATH is one of

    MIVIA's Main_Dataset (ICPR 2012; Foggia et al., TMI 2013): 28 specimens, 1,457 cells
        Images/01/01.bmp             a specimen
        Images/01/01.csv             a header, then a line an object, ";" between ten columns:
                                     intensity, number, two more, what it is (only "cell" is
                                     taken), pattern, xmin, ymin, xmax, ymax
        Cells/Cell_Masks/01/001.png  the mask of its cell 1, as large as the specimen

    I3A's task 1 (ICIP 2013, ICPR 2014): 13,596 cells of 83 specimens
        gt_training.csv              a header, then number, pattern; columns whose names hold
                                     "intensity" or "specimen" are used where there are any
        00001.png, 00001_Mask.png    a cell and its mask, anywhere below, of any number of digits

    ICPR 2012's contest of cells: training/ and test/ in I3A's form, with test/gt_test.csv

The splits of the first and the last are the contest's, 14 specimens each. Of I3A's specimens, where
they are told, every fifth of a pattern from the second on is the test's. Where they are not, the
cells of a specimen, 100 to 200 by the contest, are assumed to be numbered in a row, and those of a
pattern: a pattern's last fifth is the test's, and the 200 cells before it (of a pattern of less
than 1,000 another fifth) are left out, so that no specimen is on both sides.
"""

import csv
import functools
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from . import cells, crops, folder, resize
from .skipped import Skipped
from .table import DataError

ICPR = (
    "homogeneous",
    "coarse speckled",
    "fine speckled",
    "nucleolar",
    "centromere",
    "cytoplasmatic",
)
OTHER_NAMES = {"numem": "nuclear membrane", "centromeric": "centromere"}
TRAINING = {1, 2, 3, 5, 6, 7, 8, 9, 11, 14, 18, 20, 25, 26}  # the contest's of MIVIA's specimens
FORMS = (
    "Images/01/01.bmp, Images/01/01.csv and Cells/Cell_Masks/01/001.png (MIVIA's Main_Dataset), "
    "or gt_training.csv with 00001.png and 00001_Mask.png (I3A's task 1)"
)
MARGIN = 0.25  # around a cell, where the picture has it, a fraction of the cell's longer side
GAP = 200


@dataclass(frozen=True)
class Cell:
    """A line of a label file; intensity and specimen are empty where they are not told."""

    image: Path
    mask: Path
    pattern: str
    intensity: str = ""
    specimen: str = ""


class Hep2:
    """The cells of one split of a folder.

    Examples hold "image" (S, S, 3) of three equal channels, "mask" (S, S, 1), "bbox" (4,), "label",
    a place in `classes`, and "intensity", 1 for positive, where all of the split tell it. The order
    of I3A's patterns is that of the data set `cells`.
    """

    size = 64  # of the pictures where none is asked for

    def __init__(self, path, split):
        self.root = folder.opened(path, "hep2:PATH takes a folder of HEp-2 cells")
        self.classes, splits = found(self.root)
        self.cells = splits.get(split)
        if not self.cells:
            raise DataError(f"{self.root} has no cells for the split {split!r}")
        files = {file for cell in self.cells for file in (cell.image, cell.mask)}
        labels = "\n".join(f"{c.mask.name} {c.pattern} {c.intensity}" for c in self.cells)
        self.key = f"hep2-{folder.digest(self.root, sorted(files), labels)}"

    @staticmethod
    def splits(path):
        return [split for split, held in found(Path(path).expanduser())[1].items() if held]

    def examples(self, image_size):
        """Yields one dict a readable cell; names the others on stderr and counts them."""
        skipped = Skipped("not a readable cell and mask")
        picture = functools.lru_cache(1)(grey)  # the cells of a specimen follow one another
        rated = all(cell.intensity for cell in self.cells)
        for cell in self.cells:
            try:
                example = cut(picture(cell.image), grey(cell.mask) > 0, image_size)
            except folder.UNREADABLE:
                skipped.add(f"{cell.image}, {cell.mask.name}")
                continue
            example["label"] = np.asarray(self.classes.index(cell.pattern), np.int32)
            if rated:
                example["intensity"] = np.asarray(cell.intensity == "positive", np.int32)
            yield example
        skipped.report(len(self.cells), "cells")
        if skipped.count == len(self.cells):
            raise DataError(f"{self.root} holds no readable cell with its mask: {FORMS}")


def found(root):
    """(classes, {split: its cells}) of a folder; another folder raises DataError."""
    if (root / "Images").is_dir() and (root / "Cells" / "Cell_Masks").is_dir():
        classes, splits = ICPR, main_dataset(root)
    else:
        classes, splits = cells.LABELS, numbered(root)
    named = {cell.pattern for held in splits.values() for cell in held}
    if not named <= set(classes):
        classes = ICPR
    if not named <= set(classes):
        raise DataError(
            f"{root} names other patterns than the contests do: {', '.join(named - set(classes))}"
        )
    return classes, splits


def main_dataset(root):
    splits = {"train": [], "test": []}
    for place in sorted((root / "Images").iterdir()):
        if not place.name.isdecimal():
            continue
        masks = root / "Cells" / "Cell_Masks" / place.name
        for line in lines(place / f"{place.name}.csv", columns=10, number=1)[1]:
            if line[4] == "cell":
                splits["train" if int(place.name) in TRAINING else "test"].append(
                    Cell(
                        image=place / f"{place.name}.bmp",
                        mask=masks / f"{int(line[1]):03d}.png",
                        pattern=pattern(line[5]),
                        intensity=line[0].lower(),
                    )
                )
    return splits


def numbered(root):
    """The splits of a folder with gt_training.csv, in it or in a folder of it."""
    files = {
        name: next(iter([*root.glob(name), *root.glob(f"*/{name}")]), None)
        for name in ("gt_training.csv", "gt_test.csv")
    }
    if not files["gt_training.csv"]:
        raise DataError(f"{root} holds none of the forms of hep2:PATH: {FORMS}")
    training = listed(files["gt_training.csv"])
    if files["gt_test.csv"]:
        return {"train": training, "test": listed(files["gt_test.csv"])}
    told = all(cell.specimen for cell in training)
    train, test = by_specimen(training) if told else by_number(training)
    return {"train": train, "test": test}


def listed(file):
    """The cells that a label file lists, with their files below its folder."""
    images, masks = {}, {}
    for path in folder.images_below(file.parent):
        match = re.fullmatch(r"(\d+)(_mask)?", path.stem, re.IGNORECASE)
        if match:
            (masks if match[2] else images)[int(match[1])] = path
    header, held = lines(file, columns=2, number=0)
    named = {
        key: next((i for i, name in enumerate(header) if key in name.lower()), None)
        for key in ("intensity", "specimen")
    }
    return [
        Cell(
            image=images.get(int(line[0]), file.parent / f"{line[0]}.png"),
            mask=masks.get(int(line[0]), file.parent / f"{line[0]}_Mask.png"),
            pattern=pattern(line[1]),
            **{key: line[i].lower() for key, i in named.items() if i is not None},
        )
        for line in sorted(held, key=lambda line: int(line[0]))
    ]


def by_specimen(training):
    """(train, test): of each pattern's specimens the second, the seventh and so on to the test."""
    patterns = {}  # specimen -> pattern of its first cell
    for cell in training:
        patterns.setdefault(cell.specimen, cell.pattern)
    test = set()
    for each in set(patterns.values()):
        test.update([specimen for specimen, named in patterns.items() if named == each][1::5])
    return tuple([c for c in training if (c.specimen in test) == side] for side in (False, True))


def by_number(training):
    """(train, test): the last fifth of each pattern to the test, up to GAP before it to neither."""
    train, test = [], []
    for each in dict.fromkeys(cell.pattern for cell in training):
        held = [cell for cell in training if cell.pattern == each]
        fifth = len(held) // 5
        train += held[: len(held) - fifth - min(fifth, GAP)]
        test += held[len(held) - fifth :]
    return train, test


def lines(file, *, columns, number):
    """(header, lines) of a label file, of at least so many columns, of which one is a number."""
    try:
        text = file.read_text("utf-8", "replace").splitlines()
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror})") from None
    mark = ";" if text and ";" in text[0] else ","
    table = [[value.strip() for value in line] for line in csv.reader(text, delimiter=mark) if line]
    header, *held = table or [[]]
    columns = max(columns, len(header))
    for line in held:
        if len(line) < columns or not line[number].isdecimal():
            raise DataError(
                f"{file}: {mark.join(line)!r} is no line of {columns} columns with a number in "
                f"column {number + 1}"
            )
    return header, held


def pattern(name):
    name = name.lower().replace("_", " ")
    return OTHER_NAMES.get(name, name)


def grey(path):
    """The green channel (H, W) of a picture: all that there is of one in fluorescein's green, and
    no other than the rest in a grey one."""
    with Image.open(path) as image:
        return np.asarray(folder.to_rgb(image))[..., 1]


def cut(image, mask, size):
    """A cell and its mask, (H, W) each, as an example of size x size: the square about the cell's
    box with MARGIN on each side, moved into the picture, and stretched where that is too narrow."""
    if image.shape != mask.shape or not mask.any():
        raise ValueError("no mask of a cell of this picture")
    places = np.argwhere(mask)
    box = np.stack((places.min(0), places.max(0) + 1))
    margin = MARGIN * (box[1] - box[0]).max() * np.array(((-1,), (1,)))
    _, (start, stop) = crops.window((box + margin) / mask.shape, *mask.shape)
    rows, columns = map(slice, start, stop)
    return {
        "image": resize.whole(np.repeat(image[rows, columns, None], 3, 2), size),
        "mask": resize.area(np.uint8(255) * mask[rows, columns, None], size),
        "bbox": ((box - start) / (stop - start)).ravel().astype(np.float32),
    }

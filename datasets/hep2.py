"""HEp-2 cells in the forms of the contests: `hep2:PATH`, `hep2:PATH:random`.

The files are available to registered researchers only. Their layout here follows published programs
that read them (github.com/PetterS/hep-2, lorecioni/HEp-2-CellsClassification, george-chou/
HEp-2_cell_classification). PATH is one of

    MIVIA's Main_Dataset (ICPR 2012; Foggia et al., TMI 2013): 28 specimens, 1,457 cells
        Images/01/01.bmp             a specimen
        Images/01/01.csv             a header, then a line per object, ";" between ten columns:
                                     intensity, number, two more, kind (only "cell" is used),
                                     pattern, xmin, ymin, xmax, ymax
        Cells/Cell_Masks/01/001.png  the mask of its cell 1, as large as the specimen

    I3A's task 1 (ICIP 2013, ICPR 2014): 13,596 cells of 83 specimens
        gt_training.csv              a header, then number, pattern; columns with "intensity" or
                                     "specimen" in their names are used, if there are any
        00001.png, 00001_Mask.png    a cell and its mask, anywhere below, of any number of digits

    ICPR 2012's contest of cells: training/ and test/ in I3A's form, with test/gt_test.csv, and
        gt_validation.csv if there is one

A cell is cut out by its mask. Where no cell has a mask, each picture is a cell: that is enough for
classification, generation and teaching, while localisation needs masks.

The first and the last have the splits of the contest, 14 specimens each. For I3A, cells in folders
named training, validation and test (or train, val, test) are the splits; without a test split that
is validation. Else every fifth specimen of a pattern, from the second on, belongs to the test
split. If the files do not name the specimens, the cells of a pattern, and those of a specimen (100
to 200), are assumed to have consecutive numbers: the last fifth of a pattern is the test split, and
the 200 cells before it (or another fifth, if the pattern has less than 1,000) are left out, so that
no specimen is in both.

`hep2:PATH:random` takes a random fifth of each pattern as the test split in place of all these, as
much of the literature does. Cells of one specimen, which look alike, are then in both splits, so
that a classifier seems better than it is on a new specimen.
"""

import csv
import functools
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import cells, contents, crops, pictures, resize, walk
from .skipped import Skipped, Source
from .table import DataError

ICPR = (
    "homogeneous",
    "coarse speckled",
    "fine speckled",
    "nucleolar",
    "centromere",
    "cytoplasmatic",
)
SYNONYMS = {"numem": "nuclear membrane", "centromeric": "centromere"}
TRAINING = {1, 2, 3, 5, 6, 7, 8, 9, 11, 14, 18, 20, 25, 26}  # MIVIA's specimens, by the contest
FORMS = (
    "Images/01/01.bmp, Images/01/01.csv and Cells/Cell_Masks/01/001.png (MIVIA's Main_Dataset), "
    "or gt_training.csv with 00001.png and, if there are masks, 00001_Mask.png (I3A's task 1)"
)
LABEL_FILES = {"train": "gt_training.csv", "validation": "gt_validation.csv", "test": "gt_test.csv"}
MARGIN = 0.25  # around a cell, as a fraction of its longer side, inside the picture
GAP = 200
RANDOM = ":random"  # after the path: the splits are drawn at random


@dataclass(frozen=True)
class Cell:
    """A line of a label file. mask: None where there is none. folder: the split whose folder
    (`walk.SPLITS`) the picture lies in, or "". intensity and specimen are "" if the file does not
    name them."""

    image: Path
    mask: Path | None
    pattern: str
    folder: str = ""
    intensity: str = ""
    specimen: str = ""


class Hep2(Source):
    """The cells of one split of a folder.

    Examples have "image" (S, S, 3) with three equal channels; "label", an index into `classes`;
    where the folder has masks, "mask" (S, S, 1) and "bbox" (4,); and "intensity", 1 for positive,
    if the file names it for every cell of the split. I3A's patterns have the order of the data set
    `cells`.
    """

    size = 64  # default size of the pictures

    def __init__(self, path, split):
        self.root, self.classes, splits = opened(path)
        self.cells = splits.get(split)
        if not self.cells:
            raise DataError(f"{self.root} has no cells for the split {split!r}")
        self.masked = any(cell.mask for its_cells in splits.values() for cell in its_cells)
        files = {file for cell in self.cells for file in (cell.image, cell.mask) if file}
        self.files = sorted(files)
        self.labels = "\n".join(
            f"{(c.mask or c.image).name} {c.pattern} {c.intensity}" for c in self.cells
        )

    @functools.cached_property
    def key(self):
        """What identifies the cells and their labels."""
        names = [file.relative_to(self.root).as_posix() for file in self.files]
        return f"hep2-{contents.digest(self.root, names, self.labels)}"

    def legacy_key(self):
        """The key that earlier versions gave."""
        return f"hep2-{contents.legacy(self.root, self.files, self.labels)}"

    @staticmethod
    def splits(path):
        *_, splits = opened(path)
        return [split for split, its_cells in splits.items() if its_cells]

    def examples(self, image_size):
        """Yields a dict per readable cell; logs and counts the others."""
        skipped = self.skipped = Skipped("cells")
        picture = functools.lru_cache(1)(grey)  # the cells of a specimen are consecutive
        rated = all(cell.intensity for cell in self.cells)
        for cell in self.cells:
            try:
                example = self._example(cell, picture, image_size)
            except pictures.Unreadable as error:
                mask = cell.mask.name if cell.mask else "no mask"
                skipped.add(f"{cell.image}, {mask}" if self.masked else cell.image, error)
                continue
            example["label"] = np.asarray(self.classes.index(cell.pattern), np.int32)
            if rated:
                example["intensity"] = np.asarray(cell.intensity == "positive", np.int32)
            yield example
        needed = "cell and mask" if self.masked else "cell"
        skipped.report(len(self.cells), f"{self.root} holds no readable {needed}: {FORMS}")

    def _example(self, cell, picture, image_size):
        if not self.masked:
            image = np.repeat(picture(cell.image)[..., None], 3, 2)
            return {"image": resize.whole(image, image_size)}
        if not cell.mask:
            raise pictures.Unreadable("it has no mask, and others have one")
        return cut(picture(cell.image), grey(cell.mask) > 0, image_size)


def root_of(path):
    """The folder of a path that a user typed, which may end with RANDOM; a path without a folder
    raises DataError."""
    return walk.folder(str(path).removesuffix(RANDOM), "--dataset=hep2:")


def opened(path):
    """(root, classes, {split: cells}) of a path, which may end with RANDOM."""
    root = root_of(path)
    return root, *read_folder(root, str(path).endswith(RANDOM))


def at_random(splits):
    """The same cells with a random fifth of each pattern, always the same one, as "test"."""
    every = list({cell: None for its_cells in splits.values() for cell in its_cells})
    chosen, rng = set(), np.random.default_rng(0)
    for each in sorted({cell.pattern for cell in every}):
        alike = [cell for cell in every if cell.pattern == each]
        chosen.update(alike[i] for i in rng.permutation(len(alike))[: len(alike) // 5])
    train, test = ([c for c in every if (c in chosen) == side] for side in (False, True))
    return {"train": train, "test": test}


def read_folder(root, random=False):
    """(classes, {split: cells}) of a folder; one in none of the forms raises DataError. random:
    split `at_random`."""
    if (root / "Images").is_dir() and (root / "Cells" / "Cell_Masks").is_dir():
        classes, splits = ICPR, main_dataset(root)
        splits = at_random(splits) if random else splits
    else:
        classes, splits = cells.LABELS, numbered(root, random)
    patterns = {cell.pattern for its_cells in splits.values() for cell in its_cells}
    if not patterns <= set(classes):
        classes = ICPR
    if not patterns <= set(classes):
        unknown = ", ".join(patterns - set(classes))
        raise DataError(f"{root} has unknown patterns: {unknown}")
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


def numbered(root, random=False):
    """The splits of a folder with gt_training.csv, in it or in a folder in it; "test" is validation
    where there is no other."""
    files = {
        split: next(iter([*root.glob(name), *root.glob(f"*/{name}")]), None)
        for split, name in LABEL_FILES.items()
    }
    if not files["train"]:
        raise DataError(f"{root} has none of the layouts of hep2:PATH: {FORMS}")
    splits = {split: listed(file) for split, file in files.items() if file}
    training = splits["train"]
    if random:
        return at_random(splits)
    if len(splits) == 1:
        splits = {split: [cell for cell in training if cell.folder == split] for split in files}
    test = splits.get("test") or splits.get("validation")
    if splits["train"] and test:
        return {**splits, "test": test}
    named = all(cell.specimen for cell in training)
    train, test = by_specimen(training) if named else by_number(training)
    return {"train": train, "test": test}


def listed(file):
    """The cells in a label file, with their files below its folder."""
    images, masks = {}, {}
    for path in (file.parent / name for name in walk.walk(file.parent).names):
        match = re.fullmatch(r"(\d+)(_mask)?", path.stem, re.IGNORECASE)
        if match:
            (masks if match[2] else images)[int(match[1])] = path
    header, rows = lines(file, columns=2, number=0)
    columns = {
        key: next((i for i, name in enumerate(header) if key in name.lower()), None)
        for key in ("intensity", "specimen")
    }
    found = []
    for line in sorted(rows, key=lambda line: int(line[0])):
        image = images.get(int(line[0]), file.parent / f"{line[0]}.png")
        places = [p.lower() for p in image.relative_to(file.parent).parts[:-1]]
        found.append(
            Cell(
                image=image,
                mask=masks.get(int(line[0])),
                pattern=pattern(line[1]),
                folder=next((walk.SPLITS[p] for p in places if p in walk.SPLITS), ""),
                **{key: line[i].lower() for key, i in columns.items() if i is not None},
            )
        )
    return found


def by_specimen(training):
    """(train, test): the second, seventh, ... of each pattern's specimens are the test split."""
    patterns = {}  # specimen -> pattern of its first cell
    for cell in training:
        patterns.setdefault(cell.specimen, cell.pattern)
    test = set()
    for each in set(patterns.values()):
        test.update([specimen for specimen, named in patterns.items() if named == each][1::5])
    return tuple([c for c in training if (c.specimen in test) == side] for side in (False, True))


def by_number(training):
    """(train, test): the last fifth of each pattern is the test split; up to GAP cells before it
    are in neither."""
    train, test = [], []
    for each in dict.fromkeys(cell.pattern for cell in training):
        alike = [cell for cell in training if cell.pattern == each]
        fifth = len(alike) // 5
        train += alike[: len(alike) - fifth - min(fifth, GAP)]
        test += alike[len(alike) - fifth :]
    return train, test


def lines(file, *, columns, number):
    """(header, lines) of a label file; the header is [] if the first line has a number in column
    `number`. Each line must have at least `columns` columns, as many as the header, and a number
    there; else DataError."""
    try:
        text = file.read_text("utf-8-sig", "replace").splitlines()
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror})") from None
    mark = ";" if text and ";" in text[0] else ","
    table = [[value.strip() for value in line] for line in csv.reader(text, delimiter=mark) if line]
    header, *rows = table or [[]]
    if len(header) > number and header[number].isdecimal():
        header, rows = [], table
    columns = max(columns, len(header))
    for line in rows:
        if len(line) < columns or not line[number].isdecimal():
            raise DataError(
                f"{file}: {mark.join(line)!r} is not a line of {columns} columns with a number in "
                f"column {number + 1}"
            )
    return header, rows


def pattern(name):
    name = name.lower().replace("_", " ")
    return SYNONYMS.get(name, name)


def grey(path):
    """The green channel (H, W) of a picture: that of fluorescein; in a grey picture all channels
    are equal. As the file stores it, whatever its EXIF orientation: masks are of these pixels."""
    return pictures.read(path, upright=False)[..., 1]


def cut(image, mask, size):
    """A cell and its mask, (H, W) each, -> an example of size x size: the square about the cell's
    box with MARGIN on each side, moved into the picture, and stretched if that is too narrow."""
    if image.shape != mask.shape or not mask.any():
        raise pictures.Unreadable("its mask is empty or of another size")
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

"""One walk of a user's folder: its pictures, its splits, and what is left out."""

import contextlib
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ..common.files import printable, user_path
from .table import DataError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
SPLITS = {  # name of a folder, in small letters -> split
    **dict.fromkeys(("training", "train"), "train"),
    **dict.fromkeys(("validation", "valid", "val"), "validation"),
    **dict.fromkeys(("testing", "test"), "test"),
}


def is_hidden(name):
    """True for names that no user gave: ".DS_Store", "._a.png", "__MACOSX"."""
    return name.startswith(".") or name == "__MACOSX"


@dataclass
class Walk:
    """What lies below a folder. names: of the pictures, relative to it, sorted by their parts.
    classes: its sub-folders with pictures, sorted. The rest is what was left out."""

    names: list = field(default_factory=list)
    classes: list = field(default_factory=list)
    endings: Counter = field(default_factory=Counter)
    empty: list = field(default_factory=list)  # sub-folders
    dangling: int = 0  # links
    special: int = 0  # neither files nor folders, and what may not be read

    def left_out(self):
        """One line on what was left out, "" if nothing was."""
        endings = ", ".join(ending or "none" for ending, _ in self.endings.most_common(5))
        parts = [
            _counted(self.endings.total(), "file", f"for the ending ({endings})"),
            _counted(len(self.empty), "folder", f"without pictures ({', '.join(self.empty[:5])})"),
            _counted(self.dangling, "link", "to nowhere"),
            _counted(self.special, "file or folder", "that cannot be opened"),
        ]
        return printable(", ".join(filter(None, parts)))


def _counted(count, thing, why):
    plural = thing if count == 1 else thing.replace(" or", "s or") + "s"
    return f"{count} {plural} {why}" if count else ""


def walk(root, but=None):
    """The Walk of a folder. Links are followed, but not into a folder that they lie in. but: a
    folder that is left out wherever it lies; it need not exist."""
    found, left_out = Walk(), ()
    if but is not None and os.path.exists(but):
        status = os.stat(but)
        left_out = ((status.st_dev, status.st_ino),)
    _scan(os.fspath(root), "", left_out, found)
    found.names.sort(key=lambda name: name.split("/"))
    found.classes = sorted({name.split("/", 1)[0] for name in found.names if "/" in name})
    found.empty = sorted(set(found.empty) - set(found.classes))
    return found


def pictures(root, name, but=None):
    """As `walk`; raises DataError, with `name` for the folder, where there are no pictures."""
    found = walk(root, but)
    if not found.names:
        why = found.left_out() or f"looked for {', '.join(sorted(SUFFIXES))}"
        raise DataError(f"{name} holds no images ({why})")
    return found


def _scan(folder, prefix, above, found):
    """Adds what lies in a folder. above: (device, inode) of the folders that it lies in, and of the
    one that is left out."""
    try:
        status = os.stat(folder)
        with os.scandir(folder) as scanned:
            entries = list(scanned)
    except OSError:
        found.special += 1
        return
    above = (*above, (status.st_dev, status.st_ino))
    for entry in entries:
        if not is_hidden(entry.name):
            try:
                _add(entry, prefix, above, found)
            except OSError:  # what is gone by now, for one
                found.special += 1


def _add(entry, prefix, above, found):
    if entry.is_symlink() and not os.path.exists(entry.path):
        found.dangling += 1
    elif entry.is_dir():
        status = os.stat(entry.path)
        if (status.st_dev, status.st_ino) not in above:
            if not prefix:
                found.empty.append(entry.name)  # until a picture is found in it
            _scan(entry.path, f"{prefix}{entry.name}/", above, found)
    elif (ending := os.path.splitext(entry.name)[1].lower()) not in SUFFIXES:
        found.endings[ending] += 1
    elif entry.is_file():
        found.names.append(prefix + entry.name)
    else:
        found.special += 1


def visible_folders(root):
    """{name: Path} of the sub-folders that are not hidden, sorted; {} where root is no folder."""
    names = []
    with contextlib.suppress(OSError), os.scandir(root) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # of a link to itself
                if entry.is_dir() and not is_hidden(entry.name):
                    names.append(entry.name)
    return {name: Path(root, name) for name in sorted(names)}


def by_name(folders, names, root):
    """{names[folder in small letters]: Path} of those of {folder: Path} that have a name there; two
    folders for one raise DataError."""
    found = {}
    for name, path in folders.items():
        key = names.get(name.lower())
        if key in found:
            raise DataError(f"{root} has both {found[key].name}/ and {name}/: rename one of them")
        if key:
            found[key] = path
    return found


def splits(root):
    """{"train": Path, "validation": Path, "test": Path} of the sub-folders that are splits, or {}.

    They are splits where there is one for training and another one, or no other sub-folder. Without
    a folder for testing that for validation is the test split too.
    """
    folders = visible_folders(root)
    if "train" not in {SPLITS.get(name.lower()) for name in folders}:
        return {}
    found = by_name(folders, SPLITS, root)
    if len(found) == 1 and len(folders) > 1:
        return {}
    if "validation" in found:
        found.setdefault("test", found["validation"])
    return {split: found[split] for split in ("train", "validation", "test") if split in found}


def folder(path, flag):
    """The folder of a path that a user gave, for `flag`, such as "--input="; DataError if there is
    none."""
    root = user_path(path)
    if not path or not root.exists():
        raise DataError(f"{flag}{path} does not exist: give a folder")
    if not root.is_dir():
        raise DataError(f"{flag}{path} is a file: give a folder")
    return root

"""The files that pictures become, checked before the first one is written."""

import functools
import os
from collections import Counter

import tensorflow as tf

from ..common.errors import UsageError
from ..common.files import user_path

MEMORY = (MemoryError, tf.errors.ResourceExhaustedError)  # errors of a picture that is too large
TOO_LARGE = "it needs more memory than there is, make it smaller"  # why such a picture is skipped


def stems(names):
    """{name of a picture: what its files are called}: "sub/a" of sub/a.jpg, without the ending. Of
    pictures that differ in the ending alone, a.jpg and a.png, only that of a PNG is left out."""
    count = Counter(os.path.splitext(name)[0].lower() for name in names)
    return {
        name: stem if count[stem.lower()] == 1 else name.removesuffix(".png")
        for name, (stem, _) in zip(names, map(os.path.splitext, names))
    }


def path(output, stem, folder="", ending=""):
    """The path of one file of a picture: OUTPUT/FOLDER/STEM, ENDING and .png."""
    return os.path.join(output, folder, f"{stem}{ending}.png")


def check(names, parts, images, output):
    """The `stems` of pictures; raises UsageError if two of them share a file, or a file would lie
    among the pictures.

    names: of the pictures, relative to `images`, their folder (or the one picture itself). parts:
    (folder, ending) of each file of a picture. A file may lie below `images` only if `output` does,
    whose pictures are then no input (`folder.read_all`).
    """
    owners, called = {}, stems(names)
    for name in names:
        file = path(output, called[name], *parts[0])
        _check_owner(owners.setdefault(file, name), name, file)
    root, real_folder = user_path(images), functools.lru_cache(os.path.realpath)
    places = [root / name for name in names] if root.is_dir() else [root]
    originals = {os.path.join(real_folder(p.parent), p.name) for p in places}
    originals |= {os.path.realpath(p) for p in places if p.is_symlink()}
    below = os.path.join(os.path.realpath(root), "")
    is_apart = not os.path.realpath(output).startswith(below)
    for name in names:
        for part in parts:
            file = path(output, called[name], *part)
            _check_owner(owners.get(file, name), name, file)
            real = os.path.join(real_folder(os.path.dirname(file)), os.path.basename(file))
            if real in originals or (is_apart and real.startswith(below)):
                raise UsageError(
                    f"--output={output} would write {file} among the pictures of --input={images}: "
                    "give another --output"
                )
    return called


def _check_owner(owner, name, file):
    if owner != name:
        raise UsageError(f"{owner} and {name} would both become {file}: rename one of them")

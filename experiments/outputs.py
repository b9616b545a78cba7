"""The files that pictures become, checked before the first one is written."""

import functools
import os

import tensorflow as tf

from ..common.errors import UsageError
from ..common.files import user_path
from ..common.images import as_png

MEMORY = (MemoryError, tf.errors.ResourceExhaustedError)  # errors of a picture that is too large
TOO_LARGE = "it needs more memory than there is, make it smaller"  # why such a picture is skipped


def path(output, name, folder="", ending=""):
    """The path of one file of a picture: OUTPUT/FOLDER/NAME without .png, ENDING and .png."""
    return os.path.join(output, folder, f"{as_png(name).removesuffix('.png')}{ending}.png")


def check(names, parts, images, output):
    """Raises UsageError if two pictures share a file, or a file would lie among the pictures.

    names: of the pictures, relative to `images`, their folder (or the one picture itself). parts:
    (folder, ending) of each file of a picture. A file may lie below `images` only if `output` does,
    whose pictures are then no input (`folder.read_all`).
    """
    owners = {}
    for name in names:
        _check_owner(owners.setdefault(path(output, name, *parts[0]), name), name, output, parts[0])
    root, real_folder = user_path(images), functools.lru_cache(os.path.realpath)
    places = [root / name for name in names] if root.is_dir() else [root]
    originals = {os.path.join(real_folder(p.parent), p.name) for p in places}
    originals |= {os.path.realpath(p) for p in places if p.is_symlink()}
    below = os.path.join(os.path.realpath(root), "")
    is_apart = not os.path.realpath(output).startswith(below)
    for name in names:
        for part in parts:
            file = path(output, name, *part)
            _check_owner(owners.get(file, name), name, output, part)
            real = os.path.join(real_folder(os.path.dirname(file)), os.path.basename(file))
            if real in originals or (is_apart and real.startswith(below)):
                raise UsageError(
                    f"--output={output} would write {file} among the pictures of --input={images}: "
                    "give another --output"
                )


def _check_owner(owner, name, output, part):
    if owner != name:
        raise UsageError(
            f"{owner} and {name} would both become {path(output, name, *part)}: rename one of them"
        )

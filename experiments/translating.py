"""Folders of pictures, translated each at its own size."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..common.errors import UsageError
from ..common.files import write_output
from ..common.images import as_png, png, to_uint8
from ..datasets import Folder


@dataclass(frozen=True)
class Translated:
    """What translate_folder wrote: folder, number of pictures, direction."""

    folder: Path
    images: int
    direction: str


def translate_folder(model, images, output="translated", *, batch_size=4, progress=False):
    """Translates the pictures of a folder; returns Translated.

    Writes output/NAME.png, and for networks with attention attention/NAME.png (what is changed,
    grey), masks/NAME_K.png and contents/NAME_K.png. model: a LoadedModel that translates.
    """
    if "translate" not in model.capabilities:
        raise UsageError(f"{model.name} translates no images")
    folder, out, count = Folder(images, "train"), Path(output), 0
    with tqdm(
        total=len(folder.files),
        unit="image",
        dynamic_ncols=True,
        disable=not progress,
        file=sys.stderr,
    ) as bar:
        for names, pictures in batches(folder.pictures(), batch_size):
            translation = model.translate(pictures)
            for i, name in enumerate(names):
                _write(out, name, translation, i)
            count += len(names)
            bar.update(len(names))
    if not count:
        raise UsageError(f"--input={images} holds no readable image")
    return Translated(out, count, model.direction)


def batches(pictures, most):
    """Yields ([name], uint8 (B, H, W, 3)) of neighbours of equal size, at most `most` together."""
    names, images = [], []
    for name, image in pictures:
        if images and (len(images) == most or images[0].shape != image.shape):
            yield names, np.stack(images)
            names, images = [], []
        names.append(name)
        images.append(image)
    if images:
        yield names, np.stack(images)


def _write(out, name, translation, i):
    def write(folder, ending, pixels):
        place = out / folder / Path(as_png(name.as_posix()))
        write_output(place.with_name(f"{place.stem}{ending}.png"), png(pixels))

    write("", "", translation.images[i])
    if translation.masks is not None:
        write("attention", "", _grey(translation.attention[i]))
        for k in range(translation.masks.shape[-1]):
            write("masks", f"_{k + 1}", _grey(translation.masks[i, ..., k]))
        for k in range(translation.contents.shape[-2]):
            write("contents", f"_{k + 1}", to_uint8(translation.contents[i, ..., k, :]))


def _grey(mask):
    return to_uint8(2 * mask - 1)

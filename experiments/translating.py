"""Folders of pictures, translated each at its own size, large ones smaller."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from absl import logging
from tqdm import tqdm

from ..common.errors import UsageError
from ..common.files import printable, write_output
from ..common.images import png, to_uint8
from ..datasets import folder, resize
from . import outputs

LARGEST = 2**21  # pixels of a picture and of a step; a larger picture is reduced


@dataclass(frozen=True)
class Translated:
    """What translate_folder wrote: folder, number of pictures, direction."""

    folder: Path
    images: int
    direction: str


def translate_folder(model, images, output="translated", *, batch_size=4, progress=False):
    """Translates the pictures of a folder, or one picture; returns Translated.

    Writes output/NAME.png, and for networks with attention attention/NAME.png (what is changed,
    grey), masks/NAME_K.png and contents/NAME_K.png. A picture of more than LARGEST pixels is
    reduced to as many before. model: a LoadedModel that translates. batch_size: the most pictures
    in a step.

    UsageError is raised, before a file is written, if two pictures would share a file or one would
    be written among the pictures of `images`.
    """
    if "translate" not in model.capabilities:
        raise UsageError(f"{model.name} translates no images")
    (names, pictures), out, count = folder.read_all(images, "--input=", output), Path(output), 0
    outputs.check(names, _parts(model.network.output), images, output)
    with tqdm(
        total=len(names),
        unit="image",
        dynamic_ncols=True,
        disable=not progress,
        file=sys.stderr,
    ) as bar:
        for names, pixels in batches(map(_reduced, pictures), batch_size):
            translation = model.translate(pixels)
            for i, name in enumerate(names):
                _write(out, name, translation, i)
            count += len(names)
            bar.update(len(names))
    return Translated(out, count, model.direction)


def batches(pictures, most):
    """Yields ([name], uint8 (B, H, W, 3)) of neighbours of equal size, at most `most` together, and
    at most LARGEST pixels."""
    names, images = [], []
    for name, image in pictures:
        full = len(images) == most or (len(images) + 1) * image[..., 0].size > LARGEST
        if images and (full or images[0].shape != image.shape):
            yield names, np.stack(images)
            names, images = [], []
        names.append(name)
        images.append(image)
    if images:
        yield names, np.stack(images)


def _reduced(picture):
    """A (name, pixels), with at most LARGEST pixels."""
    name, pixels = picture
    height, width = pixels.shape[:2]
    scale = (LARGEST / (height * width)) ** 0.5
    if scale >= 1:
        return picture
    size = max(1, int(width * scale)), max(1, int(height * scale))
    logging.warning("%s: reduced from %d x %d to %d x %d", printable(name), width, height, *size)
    return name, resize.scaled(pixels, *size)


def _parts(network_outputs):
    """[(folder, ending)] of the files of a picture, by the outputs of its network."""
    parts = [("", "")]
    if "masks" in network_outputs:
        parts.append(("attention", ""))
        count = network_outputs["masks"].shape[-1]
        parts += [("masks", f"_{k + 1}") for k in range(count)]
        count = network_outputs["contents"].shape[-2]
        parts += [("contents", f"_{k + 1}") for k in range(count)]
    return parts


def _write(out, name, translation, i):
    def write(folder, ending, pixels):
        write_output(outputs.path(out, name, folder, ending), png(pixels))

    write("", "", translation.images[i])
    if translation.masks is not None:
        write("attention", "", _grey(translation.attention[i]))
        for k in range(translation.masks.shape[-1]):
            write("masks", f"_{k + 1}", _grey(translation.masks[i, ..., k]))
        for k in range(translation.contents.shape[-2]):
            write("contents", f"_{k + 1}", to_uint8(translation.contents[i, ..., k, :]))


def _grey(mask):
    return to_uint8(2 * mask - 1)

"""Folders of pictures, translated each at its own size, large ones in tiles."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..common.errors import UsageError
from ..common.files import write_output
from ..common.images import png, reduced, to_uint8
from ..datasets import folder
from ..datasets.skipped import Skipped
from ..reports import overview
from ..tasks import tiles
from . import outputs

SIDE = 160  # pixels, to which pictures are reduced for the overview


@dataclass(frozen=True)
class Translated:
    """What translate_folder wrote: folder, number of pictures, direction."""

    folder: Path
    images: int
    direction: str


def translate_folder(model, images, output="translated", *, batch_size=4, progress=False):
    """Translates the pictures of a folder, or one picture; returns Translated.

    Writes output/STEM.png (`outputs.stems`), and for networks with attention attention/STEM.png
    (what is changed, grey), masks/STEM_K.png and contents/STEM_K.png; for those with a latent space
    reconstructed/STEM.png and latent/STEM.png (grey); and overview.html. A picture of more than
    tiles.PIXELS is translated in tiles, and one that does not fit in the memory is skipped. model:
    a LoadedModel that translates. batch_size: the most pictures in a step.

    UsageError is raised, before a file is written, if two pictures would share a file or one would
    be written among the pictures of `images`.
    """
    if "translate" not in model.capabilities:
        raise UsageError(f"{model.name} translates no images")
    names, pictures = folder.read_all(images, "--input=", output)
    parts = _parts(model.network.output)
    stems = outputs.check(names, parts, images, output)
    out, count, shown, skipped = Path(output), 0, [], Skipped("pictures")
    with tqdm(
        total=len(names),
        unit="image",
        dynamic_ncols=True,
        disable=not progress,
        file=sys.stderr,
    ) as bar:
        for batch, pixels in batches(pictures, batch_size):
            for name, files in _translated(model, batch, pixels, skipped):
                for part, values in files.items():
                    write_output(outputs.path(out, stems[name], *part), png(values))
                count += 1
                if len(shown) < overview.SHOWN:
                    drawn = _drawing(pixels[batch.index(name)], files)
                    shown.append((f"{stems[name]}.png", png(drawn)))
            bar.update(len(batch))
    skipped.report(len(names))
    if not count:
        raise UsageError(f"--input={images} has no picture that fits in the memory: give others")
    masks = sum(part == "masks" for part, _ in parts)
    about = f"Translated {domains(model.direction)} by {model.place}, trained on "
    page = overview.translations(f"{about}{model.origin.dataset}", count, masks, shown)
    write_output(out / "overview.html", page)
    return Translated(out, count, model.direction)


def domains(direction):
    """ "a2b" in words."""
    return f"from domain {direction[0]} to domain {direction[-1]}"


def _drawing(image, files):
    """A picture of the overview, uint8: an image (H, W, 3) and its `_files`."""
    values = [files[part] for part in [("", ""), ("attention", "")] if part in files]
    image, translated, *attention = (reduced(value, SIDE) for value in [image, *values])
    return overview.translation(image, translated, *(values / 255 for values in attention))


def batches(pictures, most):
    """Yields ([name], uint8 (B, H, W, 3)) of neighbours of equal size, at most `most` together, and
    at most tiles.PIXELS."""
    names, images = [], []
    for name, image in pictures:
        full = len(images) == most or (len(images) + 1) * image[..., 0].size > tiles.PIXELS
        if images and (full or images[0].shape != image.shape):
            yield names, np.stack(images)
            names, images = [], []
        names.append(name)
        images.append(image)
    if images:
        yield names, np.stack(images)


def _translated(model, names, pixels, skipped):
    """Yields (name, {part: uint8 (H, W) or (H, W, 3)}) of pictures uint8 (B, H, W, 3). A batch that
    does not fit in the memory is translated picture by picture."""
    try:
        if pixels[0, ..., 0].size > tiles.PIXELS:
            files = {part: values[None] for part, values in _in_tiles(model, pixels[0]).items()}
        else:
            files = _files(model.translate(pixels))
    except outputs.MEMORY:
        if len(names) == 1:
            skipped.add(names[0], outputs.TOO_LARGE)
            return
        files = {}
    for i, name in enumerate(names):
        if files:
            yield name, {part: values[i] for part, values in files.items()}
        else:
            yield from _translated(model, [name], pixels[i : i + 1], skipped)


def _in_tiles(model, image):
    """{part: uint8 (H, W) or (H, W, 3)} of a large picture."""
    whole = {}
    for rows, columns, translation in model.translate_tiles(image):
        for part, (values,) in _files(translation).items():
            if part not in whole:
                whole[part] = np.empty((*image.shape[:2], *values.shape[2:]), np.uint8)
            whole[part][rows, columns] = values
    return whole


def _parts(network_outputs):
    """[(folder, ending)] of the files of a picture, by the outputs of its network."""
    parts = [("", "")]
    if "masks" in network_outputs:
        parts.append(("attention", ""))
        count = network_outputs["masks"].shape[-1]
        parts += [("masks", f"_{k + 1}") for k in range(count)]
    if "contents" in network_outputs:
        count = network_outputs["contents"].shape[-2]
        parts += [("contents", f"_{k + 1}") for k in range(count)]
    if "latent" in network_outputs:
        parts += [("reconstructed", ""), ("latent", "")]
    return parts


def _files(translation):
    """{(folder, ending): uint8 (B, H, W) or (B, H, W, 3)} of a Translation, as `_parts`."""
    found = {k: v for k, v in vars(translation).items() if v is not None}
    values = [translation.images]
    if "masks" in found:
        values += map(_grey, (translation.attention, *np.moveaxis(found["masks"], -1, 0)))
    if "contents" in found:
        values += map(to_uint8, np.moveaxis(found["contents"], -2, 0))
    if "latent" in found:
        values += [found["reconstructed"], _grey(found["latent"][..., 0])]
    return dict(zip(_parts(found), values, strict=True))


def _grey(mask):
    return to_uint8(2 * mask - 1)

"""Translates a folder of pictures, each at its own size."""

from pathlib import Path

from ..common.files import write_output
from ..common.images import foreground, png, to_float, to_uint8
from . import shared
from .shared import UsageError

USES = "model weights input output direction batch_size"
MULTIPLE, LEAST = 4, 8  # sides of what a translator takes


def run(flags):
    """Writes --output/NAME.png, and of networks with attention attention/NAME.png (what is changed,
    grey), masks/NAME_K.png and contents/NAME_K.png."""
    if not flags.input:
        raise UsageError("--mode=translate needs --input=FOLDER")
    translate, about = shared.served(flags)
    if "direction" not in about:
        raise UsageError(f"{about['model']} translates no images")
    from tqdm import tqdm

    from .. import datasets

    folder = datasets.Folder(flags.input, "train")
    out, count = Path(flags.output or "translated"), 0
    with tqdm(total=len(folder.files), unit="image", dynamic_ncols=True) as bar:
        for names, images in batches(folder.pictures(), flags.batch_size or 4):
            made = cropped(translate(padded(to_float(images))), images.shape[1:3])
            for i, name in enumerate(names):
                _write(out, name, {key: value[i] for key, value in made.items()})
            count += len(names)
            bar.update(len(names))
    if not count:
        raise UsageError(f"--input={flags.input} holds no readable image")
    print(f"{count} images {about['direction']}: {out}")


def batches(pictures, most):
    """Yields ([name], uint8 (B, H, W, 3)) of neighbours of equal size."""
    import numpy as np

    names, images = [], []
    for name, image in pictures:
        if images and (len(images) == most or images[0].shape != image.shape):
            yield names, np.stack(images)
            names, images = [], []
        names.append(name)
        images.append(image)
    if images:
        yield names, np.stack(images)


def padded(images):
    """(B, H, W, C) -> the same, mirrored below and to the right up to sides that fit."""
    import numpy as np

    more = [max(-(-side // MULTIPLE) * MULTIPLE, LEAST) - side for side in images.shape[1:3]]
    return np.pad(images, ((0, 0), (0, more[0]), (0, more[1]), (0, 0)), mode="reflect")


def cropped(made, size):
    """Every output of a translator without what `padded` added."""
    import numpy as np

    return {key: np.asarray(value)[:, : size[0], : size[1]] for key, value in made.items()}


def _write(out, name, made):

    def write(folder, end, pixels):
        place = out / folder / Path(shared.as_png(name.as_posix()))
        write_output(place.with_name(f"{place.stem}{end}.png"), png(pixels))

    write("", "", to_uint8(made["translated"]))
    if "masks" in made:
        write("attention", "", _grey(foreground(made["masks"])))
        for k in range(made["masks"].shape[-1]):
            write("masks", f"_{k + 1}", _grey(made["masks"][..., k]))
        for k in range(made["contents"].shape[-2]):
            write("contents", f"_{k + 1}", to_uint8(made["contents"][..., k, :]))


def _grey(mask):

    return to_uint8(2 * mask - 1)

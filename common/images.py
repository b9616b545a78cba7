"""Pictures as arrays: scales, PNG, grids.

Images of networks are float32 (N, H, W, 3) in [-1, 1]; pictures are uint8 (N, H, W, 3).
"""

import io
import math

import numpy as np
from PIL import Image


def to_float(images):
    """uint8 -> float32 in [-1, 1]."""
    return images.astype("float32") / 127.5 - 1


def image_grid(images, columns=8):
    """images (N, S, S, 3) in [-1, 1] -> uint8 (rows * S, columns * S, 3), white at the end."""
    count, size = images.shape[0], images.shape[1]
    rows = math.ceil(count / columns)
    pixels = to_uint8(images)
    filler = np.full((rows * columns - count, size, size, 3), 255, np.uint8)
    cells = np.concatenate([pixels, filler]).reshape(rows, columns, size, size, 3)
    return cells.transpose(0, 2, 1, 3, 4).reshape(rows * size, columns * size, 3)


def attention_grid(images, masks, places=()):
    """uint8 (B, S, S, 3), (B, N, S, S) in [0, 1] -> uint8 (rows, columns, 3): a row an image.

    The image, then the same darkened outside each of its N masks; places: (N, 2), row and column of
    the pixel to be marked beside each mask.
    """
    shown = [images, *(images * (0.25 + 0.75 * m[..., None]) for m in masks.swapaxes(0, 1))]
    half = max(1, images.shape[1] // 32)
    for picture, (row, column) in zip(shown[1:], places):
        picture[:, row - half : row + half, column - half : column + half] = (255, 0, 0)
    cells = np.stack(shown, 1).reshape(-1, *images.shape[1:])
    return image_grid(cells / 127.5 - 1, len(shown))


def translation_grid(directions):
    """[{"image", "translated", "again" (B, S, S, 3), and of attention "masks" (B, S, S, n) and
    "contents" (B, S, S, m, 3)}] in [-1, 1], masks in [0, 1] -> uint8 (rows, columns, 3).

    A row an image of each direction: it, what it becomes, that translated back, masks as grey,
    contents.
    """
    rows = []
    for made in directions:
        cells = [made["image"], made["translated"], made["again"]]
        if "masks" in made:
            masks = 2 * np.moveaxis(made["masks"], -1, 0)[..., None] - 1
            cells += [np.broadcast_to(mask, made["image"].shape) for mask in masks]
            cells += list(np.moveaxis(made["contents"], -2, 0))
        rows.append(np.stack(cells, 1))  # (B, columns, S, S, 3)
    cells = np.concatenate(rows)
    return image_grid(cells.reshape(-1, *cells.shape[2:]), cells.shape[1])


def to_uint8(images):
    """[-1, 1] -> uint8, rounded."""
    return np.clip(np.rint((np.asarray(images) + 1) * 127.5), 0, 255).astype(np.uint8)


def png(pixels):
    """uint8 (H, W, 3) -> PNG bytes."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "png", optimize=True)
    return out.getvalue()


def foreground(masks):
    """Masks (B, H, W, n) -> attention on the foreground (B, H, W): the one mask, or, of several
    that sum to 1, all but the last one, which is the background's."""
    return masks[..., 0] if masks.shape[-1] == 1 else 1 - masks[..., -1]


def as_png(name):
    """The name of a PNG made from a picture's file: a.png -> a.png, a.jpg -> a.jpg.png."""
    return name if name.endswith(".png") else f"{name}.png"

"""Pictures as arrays: scales, files, overlays, grids.

Networks take and give float32 (N, H, W, 3) in [-1, 1]; pictures are uint8 (N, H, W, 3).
"""

import io
import math

import numpy as np
from PIL import Image


def scaled(levels):
    """Grey levels from 0 to 255 -> [-1, 1], as floats: an array, or a tensor of any library."""
    return levels / 127.5 - 1


def unscaled(images):
    """The inverse of `scaled`."""
    return (images + 1) * 127.5


def to_float(images):
    """uint8 -> float32 in [-1, 1]."""
    return scaled(np.asarray(images, "float32"))


def to_uint8(images):
    """[-1, 1] -> uint8, rounded."""
    return np.clip(np.rint(unscaled(np.asarray(images))), 0, 255).astype(np.uint8)


def png(pixels):
    """uint8 (H, W, 3) or grey (H, W) -> PNG bytes."""
    return encoded(pixels, "png", optimize=True)


def encoded(pixels, kind, **options):
    """uint8 (H, W, 3) or grey (H, W) -> the bytes of a file of that kind, "png" or "jpeg"."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def decoded(data):
    """The bytes of a PNG or JPEG -> uint8 (H, W, 3), or (H, W) of a grey one."""
    return np.asarray(Image.open(io.BytesIO(data)))


def lit(images, maps):
    """Pictures (..., H, W, 3) darkened to a quarter where maps (..., H, W) in [0, 1] are 0 ->
    float, from 0 to 255."""
    return images * (0.25 + 0.75 * maps[..., None])


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

    The image, then the same darkened outside each of its N masks. places: (N, 2), row and column of
    a pixel for each mask, which is marked in red in that mask's column.
    """
    columns = [images, *(lit(images, mask) for mask in masks.swapaxes(0, 1))]
    half = max(1, images.shape[1] // 32)
    for pictures, (row, column) in zip(columns[1:], places):
        pictures[:, row - half : row + half, column - half : column + half] = (255, 0, 0)
    cells = np.stack(columns, 1).reshape(-1, *images.shape[1:])
    return image_grid(scaled(cells), len(columns))


def translation_grid(directions):
    """[{"image", "translated", "again" (B, S, S, 3), with attention also "masks" (B, S, S, n) and
    "contents" (B, S, S, m, 3), with a latent space "reconstructed" (B, S, S, 3) and "latent" (B, S,
    S, 1)}] in [-1, 1], masks and latent in [0, 1] -> uint8 (rows, columns, 3).

    A row for each image of each direction: the image, its translation, the translation back, the
    masks in grey, the contents; the reconstruction, and latent in grey.
    """

    def grey(maps):
        return np.broadcast_to(2 * maps[..., None] - 1, (*maps.shape, 3))

    rows = []
    for direction in directions:
        cells = [direction["image"], direction["translated"], direction["again"]]
        if "masks" in direction:
            cells += map(grey, np.moveaxis(direction["masks"], -1, 0))
        if "contents" in direction:
            cells += list(np.moveaxis(direction["contents"], -2, 0))
        if "latent" in direction:
            cells += [direction["reconstructed"], grey(direction["latent"][..., 0])]
        rows.append(np.stack(cells, 1))  # (B, columns, S, S, 3)
    cells = np.concatenate(rows)
    return image_grid(cells.reshape(-1, *cells.shape[2:]), cells.shape[1])


def foreground(masks):
    """Masks (B, H, W, n) -> attention on the foreground (B, H, W): the one mask, or, of several
    that sum to 1, all but the last one, which is the background's."""
    return masks[..., 0] if masks.shape[-1] == 1 else 1 - masks[..., -1]


def as_png(name):
    """The name of a PNG made from a picture's file: a.png -> a.png, a.jpg -> a.jpg.png."""
    return name if name.endswith(".png") else f"{name}.png"

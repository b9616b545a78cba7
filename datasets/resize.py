"""Pictures to squares of one size, antialiased."""

import numpy as np
from PIL import Image


def square(image, size, how=Image.Resampling.BICUBIC):
    """uint8 (H, W, 3) or (H, W), or a PIL image -> uint8 (size, size[, 3]): centred square,
    resized by a filter of Pillow's, antialiased."""
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    if side == size:
        return np.asarray(image.crop(box))
    return np.asarray(image.resize((size, size), how, box=box))


def whole(image, size):
    """uint8 (H, W, 3) -> uint8 (size, size, 3): all of it, stretched if H != W, antialiased."""
    return scaled(image, size, size)


def scaled(image, width, height):
    """uint8 (H, W, 3) -> uint8 (height, width, 3), antialiased."""
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def area(mask, size):
    """uint8 (H, W, 1) -> uint8 (size, size, 1); each value is the mean of the area it covers."""
    rows, columns = (_shares(length, size) for length in mask.shape[:2])
    return np.uint8(rows @ mask[..., 0] @ columns.T + 0.5)[..., None]


def _shares(length, size):
    """(size, length): the share of each pixel of a line in each of `size` equal parts of it."""
    edges, pixels = np.linspace(0, length, size + 1), np.arange(length)
    common = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.maximum(common, 0) * (size / length)

"""Pictures to squares of one size, antialiased."""

import numpy as np
from PIL import Image


def square(image, size):
    """uint8 (H, W, 3) or PIL RGB -> uint8 (size, size, 3): centred square, antialiased."""
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image)
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    if side == size:
        return np.asarray(image.crop(box))
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))


def area(mask, size):
    """uint8 (H, H, 1) -> uint8 (size, size, 1), each value the mean of the area that it covers."""
    if mask.shape[0] == size:
        return mask
    small = Image.fromarray(mask[..., 0]).resize((size, size), Image.Resampling.BOX)
    return np.asarray(small)[..., None]

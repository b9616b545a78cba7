"""The overview page of images with weak annotations."""

import numpy as np

from ..common.images import heat, labelled_grid, png
from .pages import page, picture

RED = (255, 64, 64)
LABELS = ("image", "attention", "mask and box")
LARGE = 640  # pixels, up to which a small picture is enlarged


def overview(description, images, annotated, pictures):
    """The page as text. images, annotated: how many there are and how many of them have an object.
    pictures: [(name, uint8 (H, W, 3))] of those shown."""
    return page(
        "annotations",
        f"{images:,} annotated images",
        description=description,
        annotated=f"{annotated:,}",
        shown=len(pictures),
        pictures=[
            picture(name, png(pixels), alt=f"{name}: image, map, mask and box", side=LARGE)
            for name, pixels in pictures
        ],
    )


def drawing(image, attention, mask):
    """Side by side below labels, uint8 (rows, columns, 3): the image (H, W, 3), the heat map over
    it of its map (H, W) in [0, 1], and the image with the outline of the mask, bool (H, W), and its
    box; beside the scale of the map."""
    outlined = image.copy()
    wide = np.pad(mask, 1, "edge")
    inner = wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
    outlined[mask & ~inner] = RED
    if mask.any():
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        top, bottom, left, right = rows[0], rows[-1], columns[0], columns[-1]
        outlined[[top, bottom], left : right + 1] = 255
        outlined[top : bottom + 1, [left, right]] = 255
    return labelled_grid(np.stack([image, heat(image, attention), outlined])[None], LABELS)

"""The overview pages of pictures that were annotated, or translated."""

import numpy as np

from ..common.images import heat, labelled_grid
from .pages import page, picture

RED = (255, 64, 64)
LARGE = 640  # pixels, up to which a small picture is enlarged
SHOWN = 24  # pictures of a page


def annotations(description, images, annotated, pictures):
    """The page as text. images, annotated: how many there are and how many of them have an object.
    pictures: [(name, PNG bytes of an `annotation`)] of those shown."""
    text = (
        f"{description}; {annotated:,} of them with an object. The first {len(pictures)}: the "
        "image, its map in colours over it, and the outline of the mask with its box."
    )
    return _page(f"{images:,} annotated images", text, pictures, "image, map, mask and box")


def translations(description, images, masks, pictures):
    """The page as text. images: how many there are. masks: how many each has. pictures: [(name, PNG
    bytes of a `translation`)] of those shown."""
    columns = "image, translation and attention" if masks else "image and translation"
    text = f"{description}. The first {len(pictures)}: {columns}."
    if masks > 1:
        text += (
            f" Of the masks, masks/NAME_{masks}.png is the background, where the image is kept; "
            "the attention is the sum of the others."
        )
    return _page(f"{images:,} translated images", text, pictures, columns)


def _page(title, about, pictures, columns):
    parts = [picture(name, png, f"{name}: {columns}", LARGE) for name, png in pictures]
    return page("overview", title, about=about, pictures=parts)


def annotation(image, attention, mask):
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
    columns = {"image": image, "attention": heat(image, attention), "mask and box": outlined}
    return _side_by_side(columns, scale=True)


def translation(image, translated, attention=None):
    """Side by side below labels, uint8 (rows, columns, 3): the image and its translation (H, W, 3),
    and where there is attention (H, W) in [0, 1], its heat map over the image and its scale."""
    columns = {"image": image, "translation": translated}
    if attention is not None:
        columns["attention"] = heat(image, attention)
    return _side_by_side(columns, scale=attention is not None)


def _side_by_side(columns, scale):
    return labelled_grid(np.stack([*columns.values()])[None], [*columns], scale)

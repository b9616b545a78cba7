"""Pictures cut out by their boxes: each box of a picture is an example of its own.

The cut is a square with the box's longer side, about the box's centre, and moved into the picture,
so that an object keeps its shape and is complete. If the picture is narrower than that square, the
cut is as wide as the picture and is stretched to a square later: that distorts no more than
stretching every box would, loses nothing, and invents nothing beyond the border.
"""

import numpy as np

from .skipped import Skipped


def window(bbox, height, width):
    """A box (4,) -> (box, cut), each int (2, 2): top left and bottom right corner in pixels.

    bbox: ymin, xmin, ymax, xmax as fractions of a picture of height x width, clipped to it. None
    for a box without area in whole pixels.
    """
    extent = np.array((height, width))
    box = np.rint(np.clip(np.reshape(bbox, (2, 2)), 0, 1) * extent).astype(int)
    low, high = box
    if (high <= low).any():
        return None
    sides = np.minimum((high - low).max(), extent)
    start = np.clip((low + high - sides) // 2, 0, extent - sides)
    return box, np.stack((start, start + sides))


def cut(examples, skipped=None):
    """Yields an example for each box of TFDS examples, in their order.

    The boxes are "objects" with a "bbox" each, or one "bbox". "image" (H, W, 3) and "mask"
    (H, W, 1) become the part inside the cut, "bbox" is in fractions of the cut, and the rest is
    repeated. A box without area is logged, counted and skipped. If no box is left, DataError.
    skipped: the Skipped that counts them.
    """
    skipped, total = skipped or Skipped("boxes"), 0
    for number, example in enumerate(examples):
        shape = example["image"].shape[:2]
        boxes = example["objects"]["bbox"] if "objects" in example else example["bbox"][None]
        for bbox in boxes:
            total += 1
            corners = window(bbox, *shape)
            if corners is None:
                file = example.get("image/filename", b"").decode() or f"picture {number}"
                skipped.add(f"{bbox} of {file}", "a box of no area")
                continue
            box, (start, stop) = corners
            rows, columns = map(slice, start, stop)
            parts = {k: example[k][rows, columns] for k in ("image", "mask") if k in example}
            yield {**example, **parts, "bbox": ((box - start) / (stop - start)).ravel()}
    skipped.report(total, "none of the pictures has a box to crop it to")

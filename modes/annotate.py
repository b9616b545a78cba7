"""Images with weak annotations, as a COCO data set: generated ones, or those of a folder."""

import json
from pathlib import Path

from ..common.files import write_output
from ..common.images import png, to_uint8
from . import shared
from .evaluate import chosen_threshold, draws
from .shared import UsageError

USES = "model weights num seed input output threshold"
SHOWN = 24  # images of the overview


def run(flags):
    """Writes images/, maps/ (grey PNGs of the attention, 0 to 255), annotations.json and
    overview.html into --output."""
    _, about = shared.served(flags)
    import numpy as np

    from ..reports import annotations as pages

    network, options = shared.explainer(about), about["options"]
    if flags.input:
        shared.refuse(flags, "num", "goes with generated images")
        pictures = _read(flags.input, options["image_size"])
    elif "latent" not in options:
        raise UsageError(f"{about['model']} makes no images: give --input=FOLDER")
    else:
        z = draws(flags.num or 64, options["latent"], flags.seed)
        pictures = _drawn(about, z)
    threshold = flags.threshold if flags.threshold is not None else _threshold(about, network)

    folder = Path(flags.output or "annotated")
    images, annotations, shown = [], [], []
    for name, image, small in pictures:
        attention = _map(network, small, image.shape[:2])
        number, mask = len(images) + 1, _object(attention, threshold)
        place = Path(shared.as_png(name))
        _write_png(folder / "images" / place, image)
        _write_png(folder / "maps" / place, np.uint8(attention * 255 + 0.5))
        size = {"width": image.shape[1], "height": image.shape[0]}
        images.append({"id": number, "file_name": place.as_posix(), **size})
        if mask.any():
            annotations.append(annotation(len(annotations) + 1, number, mask))
        if len(shown) < SHOWN:
            shown.append((place.as_posix(), pages.drawing(image, attention, mask)))
    if not images:
        raise UsageError(f"--input={flags.input} holds no readable image")
    source = about["weights"] if about["folder"] else f"{about['model']}:{about['weights']}"
    made = f"Soft-CAM of {source}, threshold {threshold:.3g}"
    coco = {
        "info": {"description": made},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "object"}],
    }
    write_output(folder / "annotations.json", json.dumps(coco).encode())
    page = pages.overview(made, len(images), len(annotations), shown)
    write_output(folder / "overview.html", page.encode())
    print(f"{len(images)} images, {len(annotations)} annotated: {folder / 'annotations.json'}")
    print(f"overview: {folder / 'overview.html'}")


def annotation(number, image, mask):
    """A COCO annotation of a mask, bool (H, W): its box (x, y, width, height), its run lengths down
    the columns, which begin with those of what is not the object."""
    import numpy as np

    top, left, bottom, right = bounds(mask)
    line = np.concatenate([[False], mask.ravel(order="F")])
    edges = np.flatnonzero(line[1:] != line[:-1])
    counts = np.diff(np.concatenate([[0], edges, [mask.size]]))
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "bbox": [left, top, right - left, bottom - top],
        "area": int(mask.sum()),
        "segmentation": {"size": list(mask.shape), "counts": counts.tolist()},
        "iscrowd": 0,
    }


def bounds(mask):
    """(top, left, bottom, right) of a mask, bool (H, W), ends excluded; whole numbers."""
    import numpy as np

    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _drawn(about, z):
    """Yields (name, image, image) of generated images, uint8 (S, S, 3)."""

    for start in range(0, len(z), 100):
        made = about["network"].predict_on_batch(about["given"](z[start : start + 100]))
        for i, image in enumerate(to_uint8(made), start + 1):
            yield f"{i:06d}.png", image, image


def _read(path, side):
    """Yields (name, image, the whole of it as a square of the network's side) of a folder's."""
    from .. import datasets
    from ..datasets import resize

    for name, pixels in datasets.Folder(path, "train").pictures():
        yield name.as_posix(), pixels, resize.whole(pixels, side)


def _threshold(about, network):
    """The threshold published with the weights, or the one that finds the objects of the training
    images best, or the middle where their masks are not known."""
    from .. import datasets

    if "scores" in about:
        return about["scores"].get("threshold", shared.MIDDLE)
    side = about["options"]["image_size"]
    held = datasets.arrays(about["dataset"], "train", image_size=side)
    return chosen_threshold(network, held) if "mask" in held else shared.MIDDLE


def _map(network, small, size):
    """The attention map, float (H, W) in [0, 1], of an image, by the square of it."""
    import numpy as np
    from PIL import Image

    from ..evaluate import localization

    side = small.shape[0]
    found = localization.prepared(shared.attended(network, small[None]), side)[0]
    if size == found.shape:
        return found
    whole = Image.fromarray(found.astype("float32")).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.clip(np.asarray(whole), 0, 1)


def _object(attention, threshold):
    """{map >= threshold} inside the box of its largest component, bool (H, W)."""
    import numpy as np

    from ..evaluate import localization

    height, width = attention.shape
    side = max(height, width)
    square = np.zeros((1, side, side))
    square[0, :height, :width] = attention
    # what lies beside the image is 0 and must not count where the threshold is 0
    top, left, bottom, right = localization.largest_boxes(square, [max(threshold, 1e-9)])[0, 0]
    mask = np.zeros(attention.shape, bool)
    mask[top:bottom, left:right] = attention[top:bottom, left:right] >= max(threshold, 1e-9)
    return mask


def _write_png(path, pixels):

    write_output(path, png(pixels))

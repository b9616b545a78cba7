"""Images with weak annotations from attention maps, as a COCO data set."""

import json
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from ..common import interpolation
from ..common.errors import UsageError
from ..common.files import write_output
from ..common.images import png
from ..datasets import folder as folders
from ..datasets import resize
from ..datasets.skipped import Skipped
from ..evaluate.localization import largest_box
from ..reports import overview
from ..tasks import scoring
from . import outputs
from .evaluation import as_reference
from .exporting import THRESHOLD

PARTS = (("images", ""), ("maps", ""))  # (folder, ending) of the files of a picture


@dataclass(frozen=True)
class Annotated:
    """What annotate wrote: folder, number of images, number of those with an object."""

    folder: Path
    images: int
    annotations: int


def annotate(
    model, images=None, output="annotated", *, num=64, seed=0, threshold=None, data_dir=None
):
    """Writes images/, maps/ (grey PNGs of the attention, 0 to 255), annotations.json (COCO) and
    overview.html into a folder; returns Annotated.

    model: a LoadedModel that explains. images: a folder of pictures, or one picture; None: `num`
    samples of the model, by the seed. A mask is {map >= threshold} inside the box of its largest
    part. threshold: None: the published one, or of a run the one that fits the masks of training
    images best.

    UsageError is raised, before a file is written, if two pictures would share a file or one would
    be written among the pictures of `images`. A picture that does not fit in the memory is skipped.
    """
    network_size = model.image_size
    model.object_network()  # raises what the model cannot do before any file is written
    if images is not None:
        names, pictures = folders.read_all(images, "--input=", output)
        stems = outputs.check(names, PARTS, images, output)
    elif "sample" in model.capabilities:
        names = [f"{number + 1:06d}.png" for number in range(num)]
        samples = chain.from_iterable(model.sampled(num, seed))
        stems, pictures = outputs.stems(names), zip(names, samples)
    else:
        raise UsageError(f"{model.name} makes no images: give --input=FOLDER")
    if threshold is None:
        threshold = _threshold(model, data_dir)
    folder, skipped = Path(output), Skipped("pictures")
    entries, found, shown = [], [], []
    for name, image in pictures:
        try:
            attention = _attention(model, resize.whole(image, network_size), image.shape[:2])
            number, mask = len(entries) + 1, object_mask(attention, threshold)
            files = png(image), png(np.uint8(attention * 255 + 0.5))
        except outputs.MEMORY:
            skipped.add(name, outputs.TOO_LARGE)
            continue
        file = f"{stems[name]}.png"
        for part, data in zip(PARTS, files):
            write_output(outputs.path(output, stems[name], *part), data)
        size = {"width": image.shape[1], "height": image.shape[0]}
        entries.append({"id": number, "file_name": file, **size})
        if mask.any():
            found.append(annotation(len(found) + 1, number, mask))
        if len(shown) < overview.SHOWN:
            shown.append((file, png(overview.annotation(image, attention, mask))))
    skipped.report(len(entries) + skipped.count)
    maps = model.options.get("maps", "soft")
    kind = "Soft-CAM" if maps == "soft" else f"attention map ({maps})"
    description = f"{kind} of {model.place}, threshold {threshold:.3g}"
    if scales := model.options.get("scales"):
        description += f", mean of the scales {scales} and of mirror images"
    coco = {
        "info": {"description": description},
        "images": entries,
        "annotations": found,
        "categories": [{"id": 1, "name": "object"}],
    }
    write_output(folder / "annotations.json", json.dumps(coco))
    page = overview.annotations(description, len(entries), len(found), shown)
    write_output(folder / "overview.html", page)
    return Annotated(folder, len(entries), len(found))


def annotation(number, image, mask):
    """A COCO annotation of a mask, bool (H, W): its box (x, y, width, height) and its run lengths
    down the columns, the first of which counts pixels outside the object."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = int(rows[0]), int(columns[0])
    line = np.concatenate([[False], mask.ravel(order="F")])
    edges = np.flatnonzero(line[1:] != line[:-1])
    counts = np.diff(np.concatenate([[0], edges, [mask.size]]))
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
        "area": int(mask.sum()),
        "segmentation": {"size": list(mask.shape), "counts": counts.tolist()},
        "iscrowd": 0,
    }


def object_mask(attention, threshold):
    """{map >= threshold} inside the box of its largest component, bool (H, W)."""
    inside = attention >= max(threshold, 1e-9)
    mask, box = np.zeros(inside.shape, bool), largest_box(inside)
    if box:
        mask[box] = inside[box]
    return mask


def _threshold(model, data_dir):
    """The published threshold, or the best one on training images, or THRESHOLD where their masks
    are not known."""
    if not model.origin.folder:
        return model.origin.scores.get("threshold", THRESHOLD)
    data = as_reference(model.origin.dataset, model.image_size, data_dir)
    arrays = data.arrays("train")
    return scoring.best_threshold(model.object_maps, arrays) if "mask" in arrays else THRESHOLD


def _attention(model, small, size):
    """The attention map, float (H, W) in [0, 1], of an image, from its square of the network's
    size."""
    attention = model.object_maps(small[None])[0]
    if size == attention.shape:
        return attention
    return np.clip(interpolation.resized(attention, *size, antialias=True), 0, 1)

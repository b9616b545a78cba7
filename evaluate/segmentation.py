"""How well class maps agree with the true ones, and class maps made of attention.

mIoU as VOC 2012's development kit counts it: one confusion matrix of all pixels of a split, at the
pictures' own sizes, those of the class 255 left out. To average over pictures, or to count 255 as
a class, gives another number.
"""

import numpy as np

from ..common import interpolation

IGNORE = 255
CONFLICTS = ("strongest", "smallest", "ignore")


def confusion(truth, predicted, classes, ignore=IGNORE):
    """Class maps of equal shape -> int64 (K, K), pixels by true class (rows) and by the predicted
    one; those whose truth is `ignore` are left out. Matrices of several pictures are summed."""
    truth, predicted = np.asarray(truth), np.asarray(predicted)
    if truth.shape != predicted.shape:
        raise ValueError(f"maps differ in shape: {truth.shape} and {predicted.shape}")
    known = truth != ignore
    truth, predicted = truth[known].astype(np.int64), predicted[known].astype(np.int64)
    for name, values in (("true", truth), ("predicted", predicted)):
        if values.size and not 0 <= values.min() <= values.max() < classes:
            raise ValueError(f"{name} classes lie in 0 .. {classes - 1}, or are {ignore} if true")
    pairs = np.bincount(truth * classes + predicted, minlength=classes**2)
    return pairs.reshape(classes, classes).astype(np.int64)


def iou(matrix):
    """Confusion (K, K) -> intersection over union (K,) of each class, TP / (TP + FP + FN); nan for
    one that is neither in the truth nor in the prediction."""
    right = np.diagonal(matrix)
    union = matrix.sum(0) + matrix.sum(1) - right
    return np.where(union > 0, right / np.maximum(union, 1), np.nan)


def mean_iou(matrix):
    """Confusion (K, K) -> the mean IoU over the classes that occur in truth or prediction.

    One that is predicted and never true counts as 0. VOC's figure is the mean over its 21 classes:
    the same, as all of them occur in each of its splits.
    """
    if not np.sum(matrix):
        raise ValueError("no pixel has a true class")
    return float(np.nanmean(iou(matrix)))


def resized(maps, height, width):
    """Maps (h, w, C) -> float64 (height, width, C), bilinear: pixel i covers [i, i + 1], and the
    outermost values reach to the rim. For scores; of class numbers it would make others."""
    return np.moveaxis(interpolation.resized(np.moveaxis(maps, -1, 0), height, width), 0, -1)


def pseudo_labels(
    maps, labels, size, *, foreground=0.2, background=None, conflict="strongest", ignore=IGNORE
):
    """Attention (N, h, w, C) from 0 on, labels (N, C), 1 for classes that are there -> class maps
    uint8 (N, H, W): 0 the background, k + 1 class k, `ignore` what is uncertain.

    size: S or (H, W), to which maps are brought first. foreground: share of a map's maximum above
    which a pixel is of its class (Zhou et al., 2016: 0.2). background: share up to which, in every
    map of the image, it is background; None: the same, so that nothing is left between. conflict:
    of classes over one pixel "strongest" takes the one nearest to its maximum, "smallest" the one
    with the fewest pixels (SEC), and "ignore" none.
    """
    background = foreground if background is None else background
    if not 0 <= background <= foreground < 1:
        raise ValueError(f"0 <= background <= foreground < 1, not {background} and {foreground}")
    if conflict not in CONFLICTS:
        raise ValueError(f"unknown conflict {conflict!r}: there are {', '.join(CONFLICTS)}")
    height, width = (size, size) if np.isscalar(size) else size
    found = np.zeros((len(maps), height, width), np.uint8)
    for out, each, there in zip(found, maps, labels):
        there = np.flatnonzero(there)
        if not len(there):
            continue
        shown = resized(each[..., there], height, width)  # (H, W, classes that are there)
        highest = shown.max((0, 1))
        shown /= np.where(highest > 0, highest, 1)
        over = shown > foreground
        rank = -over.sum((0, 1)) if conflict == "smallest" else shown
        out[:] = there[np.where(over, rank, -np.inf).argmax(-1)] + 1
        unsure = over.sum(-1) > 1 if conflict == "ignore" else False
        out[unsure | ~over.any(-1)] = ignore
        out[(shown <= background).all(-1)] = 0
    return found

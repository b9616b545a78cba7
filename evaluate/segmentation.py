"""How well class maps agree with the true ones, and class maps made from attention.

mIoU is computed as in VOC 2012's development kit: one confusion matrix of all pixels of a split, at
the pictures' own sizes, without pixels of the class 255. The mean over pictures, or 255 as a class,
would give another number.
"""

import numpy as np

from ..common import interpolation

IGNORE = 255
CONFLICTS = ("strongest", "smallest", "ignore")


def confusion(truth, predicted, classes, ignore=IGNORE):
    """Class maps of equal shape -> int64 (K, K), the number of pixels by true class (rows) and
    predicted class (columns), without those whose true class is `ignore`. Add the matrices of
    several pictures."""
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
    a class that neither the truth nor the prediction has."""
    right = np.diagonal(matrix)
    union = matrix.sum(0) + matrix.sum(1) - right
    return np.where(union > 0, right / np.maximum(union, 1), np.nan)


def pictures_with(maps, classes):
    """Class maps (N, H, W) -> int64 (K,), the number of maps that have each class."""
    return np.array([(np.asarray(maps) == k).any((1, 2)).sum() for k in range(classes)], np.int64)


def mean_iou(matrix, classes=None):
    """Confusion (K, K) -> the mean IoU over the classes that occur in truth or prediction; of
    these, over the given numbers of classes alone.

    A class that is predicted but never true counts as 0. VOC takes the mean over its 21 classes,
    which is the same, as all of them occur in each of its splits.
    """
    if not np.sum(matrix):
        raise ValueError("no pixel has a true class")
    return float(np.nanmean(iou(matrix)[... if classes is None else classes]))


def resized(maps, height, width):
    """Maps of scores (h, w, C) -> float64 (height, width, C), bilinear (common.interpolation)."""
    if maps.shape[:2] == (height, width):
        return np.asarray(maps, np.float64)
    return np.moveaxis(interpolation.resized(np.moveaxis(maps, -1, 0), height, width), 0, -1)


def shares_of_maximum(maps, present, height, width):
    """The attention (h, w, C) of an image, or (h, w, P) of its classes `present` (P,) alone ->
    float64 (height, width, P), each map divided by its maximum; a map of zeros stays."""
    maps = maps if maps.shape[-1] == len(present) else maps[..., present]
    return of_maximum(resized(maps, height, width))


def of_maximum(maps):
    """Maps (h, w, P), each divided by its maximum; a map of zeros stays."""
    highest = maps.max((0, 1))
    return maps / np.where(highest > 0, highest, 1)


def pseudo_labels(
    maps, labels, size, *, foreground=0.2, background=None, conflict="strongest", ignore=IGNORE
):
    """Attention (N, h, w, C) >= 0, labels (N, C), 1 for each class of the image -> class maps uint8
    (N, H, W): 0 the background, k + 1 class k, `ignore` an uncertain pixel.

    maps may be a list of (h, w, P), of the P classes of each image alone. size: S or (H, W), to
    which maps are resized first. foreground: a pixel belongs to a class if its value exceeds this
    share of the map's maximum (Zhou et al., 2016: 0.2). background: a pixel is background if no map
    of the image exceeds this share there; None: the same share, so that no pixel is uncertain.
    conflict: of several classes at a pixel "strongest" takes the one nearest to its maximum,
    "smallest" the one with the fewest pixels (SEC), and "ignore" none.
    """
    background = foreground if background is None else background
    if not 0 <= background <= foreground < 1:
        raise ValueError(f"0 <= background <= foreground < 1, not {background} and {foreground}")
    if conflict not in CONFLICTS:
        raise ValueError(f"unknown conflict {conflict!r}: there are {', '.join(CONFLICTS)}")
    height, width = (size, size) if np.isscalar(size) else size
    classes = np.zeros((len(maps), height, width), np.uint8)
    for out, image_maps, label in zip(classes, maps, labels):
        present = np.flatnonzero(label)
        if not len(present):
            continue
        shares = shares_of_maximum(image_maps, present, height, width)
        over = shares > foreground
        rank = -over.sum((0, 1)) if conflict == "smallest" else shares
        out[:] = present[np.where(over, rank, -np.inf).argmax(-1)] + 1
        unsure = over.sum(-1) > 1 if conflict == "ignore" else False
        out[unsure | ~over.any(-1)] = ignore
        out[(shares <= background).all(-1)] = 0
    return classes


def best_threshold(maps, labels, truth, thresholds):
    """The threshold whose `pseudo_labels` have the highest mean IoU with the class maps truth (N,
    H, W); of equal ones the lowest."""

    def score(foreground):
        predicted = pseudo_labels(maps, labels, truth.shape[1:], foreground=foreground)
        return mean_iou(confusion(truth, predicted, np.shape(labels)[1] + 1))

    return max(sorted(thresholds), key=score)


def recall_precision(maps, labels, truth, thresholds, ignore=IGNORE):
    """How much of the objects attention covers, and how much of it lies on them: (recall (T,),
    precision (T,)).

    For each class of an image, attention is where its map exceeds a threshold as a share of the
    map's maximum, and the object where truth (N, H, W) has that class. The pixels of both, divided
    by those of the object (recall) and of attention (precision), all summed over images and classes
    and without the pixels whose truth is `ignore`. maps, labels: as of `pseudo_labels`.
    """
    both, attended, objects = np.zeros(len(thresholds)), np.zeros(len(thresholds)), 0
    for image_maps, label, classes in zip(maps, labels, truth):
        present, known = np.flatnonzero(label), classes != ignore
        if not len(present):
            continue
        shares = shares_of_maximum(image_maps, present, *classes.shape)[known]  # (pixels, P)
        inside = classes[known][:, None] == present + 1
        objects += inside.sum()
        over = [shares > threshold for threshold in thresholds]
        both += [(part & inside).sum() for part in over]
        attended += [part.sum() for part in over]
    return both / max(objects, 1), both / np.maximum(attended, 1)

"""How well pictures were translated, where the object and the true result are known.

A translation should change the object and keep everything else. Images are (N, H, W, C) of any real
type; `data_range` is the difference between their largest and smallest possible values, 255 for
uint8. Masks and `where` are bool (N, H, W). All is computed in float64.
"""

import numpy as np
from scipy import ndimage

from . import localization

WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03  # of SSIM


def background(masks):
    """Masks (N, H, W), True on the object -> True where neither a pixel nor one of its eight
    neighbours is on the object, as pixels at the rim show some of both."""
    return ~ndimage.binary_dilation(masks, np.ones((1, 3, 3)))


def mse(a, b, where=None):
    """-> mean squared difference (N,) over all pixels, or those in `where`, and channels."""
    a, b, where = _checked(a, b, where)
    return (((a - b) ** 2).mean(-1) * where).sum((1, 2)) / where.sum((1, 2))


def l1(a, b, where=None, data_range=255):
    """-> mean absolute difference (N,) as a share of data_range, over the pixels of `mse`."""
    a, b, where = _checked(a, b, where)
    return (abs(a - b).mean(-1) * where).sum((1, 2)) / where.sum((1, 2)) / data_range


def psnr(a, b, where=None, data_range=255):
    """-> 10 log10(data_range^2 / mse), (N,) in dB; infinite for equal pictures."""
    return decibels(mse(a, b, where), data_range)


def decibels(error, data_range=255):
    """A mean squared error, or several, as PSNR in dB."""
    with np.errstate(divide="ignore"):
        return 10 * np.log10(data_range**2 / np.asarray(error, np.float64))


def ssim(a, b, where=None, data_range=255):
    """-> structural similarity (N,), at most 1: Wang et al., 2004, IEEE TIP 13(4), equation 13.

    In a Gaussian window of 11 x 11 pixels and deviation 1.5, with weights w that sum to 1:
    mu = sum w x, s_ab = sum w (a - mu_a) (b - mu_b), C_i = (K_i data_range)^2,

        (2 mu_a mu_b + C_1) (2 s_ab + C_2) / ((mu_a^2 + mu_b^2 + C_1) (s_aa + s_bb + C_2))

    is averaged over all windows inside the picture and over the channels. With `where` the mean is
    over the windows whose middle is in it, and only pixels in `where` have weights in a window, so
    that pixels outside have no influence.
    """
    a, b, where = _checked(a, b, where)
    rows, columns = (_windows(side) for side in where.shape[1:])
    middles = middles_in(where)
    if not middles.any((1, 2)).all():
        raise ValueError("ssim: `where` holds the middle of no window of a picture")

    def mean(x):
        return rows @ (x * where) @ columns.T / np.where(middles, rows @ where @ columns.T, 1)

    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    total = 0
    for x, y in zip(np.moveaxis(a, -1, 0), np.moveaxis(b, -1, 0)):
        mu_x, mu_y = mean(x), mean(y)
        s_xx, s_yy, s_xy = mean(x * x) - mu_x**2, mean(y * y) - mu_y**2, mean(x * y) - mu_x * mu_y
        value = (2 * mu_x * mu_y + c1) * (2 * s_xy + c2)
        value /= (mu_x**2 + mu_y**2 + c1) * (s_xx + s_yy + c2)
        total += (value * middles).sum((1, 2)) / middles.sum((1, 2))
    return total / a.shape[-1]


def middles_in(where):
    """bool (N, H, W) -> (N, H - 10, W - 10), or without pixels where sides are shorter: the middles
    of windows of `ssim`."""
    inner = slice(WINDOW // 2, -(WINDOW // 2))
    return where[:, inner, inner]


def _windows(side):
    """Weights (side - 10, side) of a Gaussian window at each place within a line of pixels."""
    if side < WINDOW:
        raise ValueError(f"ssim needs pictures of at least {WINDOW} x {WINDOW} pixels")
    off = np.arange(side) - np.arange(side - WINDOW + 1)[:, None] - WINDOW // 2
    weights = np.exp(-(off**2) / (2 * SIGMA**2)) * (abs(off) <= WINDOW // 2)
    return weights / weights.sum(1, keepdims=True)


def attention_iou(maps, masks):
    """Maps (N, S, S) in [0, 1] and masks, each with an object -> (mean IoU of {map >= 0.5} with the
    mask, the same at the best threshold, that threshold).

    The best threshold is chosen on this set, one for all images, so its value is an upper bound.
    """
    means = localization.mask_iou(maps, masks, localization.THRESHOLDS).mean(0)
    best = means.argmax()
    return float(means[500]), float(means[best]), float(localization.THRESHOLDS[best])


def scores(*, images, results, truths, masks, attention=None):
    """-> [(name, value, {"threshold"} or {})] of one direction's test set.

    images, results, truths: uint8 (N, S, S, 3), the images, their translations, and the correct
    ones. masks (N, S, S): the object in all three. attention (N, S, S) in [0, 1]: the network's
    attention on what it changes, if it has any.

    background_psnr is computed from the mean squared error of the whole set, so it is finite even
    if the background of single pictures does not change at all. background_ssim is left out where
    a picture has no window whose middle is in the background, as in many of 16 x 16 pixels.
    """
    outside = background(masks)
    rows = [("background_psnr", float(decibels(mse(images, results, outside).mean())), {})]
    if middles_in(outside).any((1, 2)).all():
        rows.append(("background_ssim", float(ssim(images, results, outside).mean()), {}))
    rows += [
        ("l1_truth", float(l1(results, truths).mean()), {}),
        ("l1_truth_object", float(l1(results, truths, masks).mean()), {}),
    ]
    if attention is not None:
        half, best, threshold = attention_iou(attention, masks)
        rows.append(("attention_iou", half, {"threshold": 0.5}))
        rows.append(("attention_iou_best", best, {"threshold": threshold}))
    return rows


def _checked(a, b, where):
    """Images in float64, and `where`, all pixels if it is None; ValueError unless they fit."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 4 or a.shape != b.shape or not a.size:
        raise ValueError(f"images are (N, H, W, C), not {a.shape} and {b.shape}")
    where = np.ones(a.shape[:3], bool) if where is None else np.asarray(where)
    if where.shape != a.shape[:3] or where.dtype != bool or not where.any((1, 2)).all():
        raise ValueError(f"`where` is bool {a.shape[:3]}, with a pixel of each picture")
    return a, b, where

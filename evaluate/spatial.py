"""Does a metric notice broken spatial layout? (SAGAN on Stanford Dogs, research question 2.)

Each distortion keeps the content of the images and breaks its layout, except blur, which keeps the
layout and removes detail.
"""

from math import ceil

import numpy as np
from scipy import ndimage

from ..common import tables

METRICS = ("fid", "sfid", "kid", "is", "precision_recall", "density_coverage")


def swap_quadrants(images):
    """(N, S, S, 3) -> each image with its diagonally opposite quadrants exchanged."""
    half = images.shape[1] // 2
    return np.roll(images, (half, half), axis=(1, 2))


def shuffle_patches(images, size, seed=0):
    """Patches of size x size in another order for each image; size must divide S."""
    n, side = images.shape[:2]
    if side % size:
        raise ValueError(f"patches of {size} do not fill {side} pixels")
    count = side // size
    patches = images.reshape(n, count, size, count, size, 3).swapaxes(2, 3)
    patches = patches.reshape(n, count * count, size, size, 3)
    order = np.random.default_rng(seed).permuted(np.tile(np.arange(count**2), (n, 1)), axis=1)
    patches = patches[np.arange(n)[:, None], order].reshape(n, count, count, size, size, 3)
    return patches.swapaxes(2, 3).reshape(images.shape)


def mirror_halves(images):
    """The left and the right half of each image, each mirrored within itself."""
    half = images.shape[2] // 2
    return np.concatenate([images[:, :, :half][:, :, ::-1], images[:, :, half:][:, :, ::-1]], 2)


def blur(images, sigma):
    """Gaussian blur of `sigma` pixels; beyond the border its pixels are repeated."""
    blurred = ndimage.gaussian_filter(
        images.astype(np.float32), sigma, axes=(1, 2), mode="nearest", radius=ceil(3 * sigma)
    )
    return np.clip(np.rint(blurred), 0, 255).astype(np.uint8)


def conditions(train, test, seed=0):
    """{name: function of a slice of indices -> uint8 images (n, S, S, 3)}: training images, then
    test images, from the third on distorted, then one image repeated, and noise. train, test: uint8
    (N, S, S, 3)."""
    size, count = test.shape[1], len(test)
    makers = {
        "other real images (train)": lambda part: train[: len(test)][part],
        "the same images": lambda part: test[part],
        "halves mirrored": lambda part: mirror_halves(test[part]),
        "quadrants swapped": lambda part: swap_quadrants(test[part]),
    }
    for patch in (size // 2, size // 4, size // 8, size // 16):
        makers[f"patches of {patch} shuffled"] = lambda part, patch=patch: shuffle_patches(
            test[part], patch, [seed, part.start]
        )
    for sigma in (0.5, 1.0, 2.0):
        makers[f"blurred, sigma {sigma:g}"] = lambda part, sigma=sigma: blur(test[part], sigma)
    makers["one image repeated"] = lambda part: test[:1].repeat(len(range(count)[part]), 0)
    makers["noise"] = lambda part: np.random.default_rng([seed, part.start]).integers(
        0, 256, (len(range(count)[part]), size, size, 3), np.uint8
    )
    return makers


def markdown(rows):
    """[{"images": name, metric: value, ...}] -> a table."""
    metrics = list(rows[0])[1:]
    lines = [["images", *(metric.split("_")[0] for metric in metrics)]]
    lines += [[row["images"], *(f"{row[metric]:.4g}" for metric in metrics)] for row in rows]
    return f"{tables.markdown(lines)}\nNames in full: {', '.join(metrics)}.\n"

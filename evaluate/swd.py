"""Sliced Wasserstein distance of image patches (Karras et al., 2018, section 5): needs no network.

It measures colours, textures and repeated images, not objects. Training uses it to monitor samples
without a network.
"""

import numpy as np

PATCH, PER_IMAGE, PROJECTIONS = 7, 16, 128


def patches(images, rng):
    """(N, S, S, 3) -> (N * PER_IMAGE, 7, 7, 3), float64, at random places."""
    count, size = images.shape[:2]
    y, x = rng.integers(0, size - PATCH + 1, (2, count, PER_IMAGE))
    span = np.arange(PATCH)
    rows = (y[..., None] + span)[..., :, None]  # (N, P, 7, 1)
    columns = (x[..., None] + span)[..., None, :]  # (N, P, 1, 7)
    cut = images[np.arange(count)[:, None, None, None], rows, columns]  # (N, P, 7, 7, 3)
    return cut.reshape(-1, PATCH, PATCH, 3).astype(np.float64)


def halve(images):
    """(N, S, S, 3) -> (N, S // 2, S // 2, 3), by the mean of 2 x 2 pixels. Of an odd side the last
    pixel is left out."""
    n, half = len(images), images.shape[1] // 2
    return images[:, : 2 * half, : 2 * half].reshape(n, half, 2, half, 2, 3).mean((2, 4))


def swd(real, fake, seed=0):
    """Two arrays (N, S, S, 3) of the same shape -> distance >= 0, mean over scales S .. 16.

    Both are images in grey levels from 0 to 255, measured at the same patch places and projections,
    which the seed draws. Values are in units of the real patches' standard deviation per channel,
    which counts as one grey level at least, times 1000.
    """
    if real.shape != fake.shape:
        raise ValueError(f"swd compares equal shapes, not {real.shape} and {fake.shape}")
    if len(real) < 1 or real.shape[1] < 16:
        raise ValueError(f"swd takes images of 16 pixels or more, not {real.shape}")
    distances, level = [], 0
    while real.shape[1] >= 16:
        a, b = (patches(x, np.random.default_rng([seed, level])) for x in (real, fake))
        mean, deviation = a.mean((0, 1, 2)), np.maximum(a.std((0, 1, 2)), 1)
        a, b = (((x - mean) / deviation).reshape(len(x), -1) for x in (a, b))
        directions = np.random.default_rng([seed, level, 1]).normal(size=(a.shape[1], PROJECTIONS))
        directions /= np.linalg.norm(directions, axis=0)
        gap = np.sort(a @ directions, axis=0) - np.sort(b @ directions, axis=0)
        distances.append(np.abs(gap).mean())
        real, fake, level = halve(real), halve(fake), level + 1
    return 1000 * float(np.mean(distances))

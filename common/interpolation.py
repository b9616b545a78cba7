"""Linear interpolation of maps, as products with matrices of weights.

Matrices, because a network's graph, XLA and NumPy all multiply by them alike.
"""

import numpy as np


def weights(size, out, antialias=False):
    """(out, size): the weights that take `size` samples of a line to `out` samples.

    Sample i covers [i, i + 1]; beyond the outermost samples their values go on. antialias: where
    there are fewer samples than before, each is the mean of those around it, by a triangle.
    """
    places = (np.arange(out) + 0.5) * size / out - 0.5
    return at(places, size, max(size / out, 1) if antialias else 1)


def at(places, size, reach=1):
    """(len(places), size): the weights of samples 0 .. size - 1 for the values at places on their
    line. reach: how far from a place a sample has weight, at least 1."""
    if reach == 1:
        places = places.clip(0, size - 1)
    weights = np.maximum(1 - abs(np.arange(size) - places[:, None]) / reach, 0)
    return weights if reach == 1 else weights / weights.sum(1, keepdims=True)


def resized(maps, height, width, antialias=False):
    """Maps (..., h, w) -> float64 (..., height, width); see `weights`."""
    maps = np.asarray(maps, np.float64)
    rows = weights(maps.shape[-2], height, antialias)
    columns = weights(maps.shape[-1], width, antialias)
    return rows @ maps @ columns.T

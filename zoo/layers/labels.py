"""Labels for sampling conditional networks."""

import numpy as np


def labels(z, classes):
    """z (B, latent), uniform in [-1, 1] -> labels (B,) from 0 to classes - 1, equally likely.

    They come from the low bits of the first coordinate, so that a sample is a function of z alone.
    """
    return np.floor((z[:, 0] + 1) * 2**16).astype("int32") % classes

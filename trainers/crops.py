"""Random parts of pictures at random scales, as in the training of DeepLab (Chen et al., 2018,
section 4: scales from 0.5 to 1.5), cut alike out of pictures and their class maps."""

import tensorflow as tf

from ..zoo.layers import precision
from . import base

IGNORE = 255  # in class maps


def check(hparams):
    """Raises ValueError unless 0.25 <= scale_min <= scale_max <= 4."""
    base.check(hparams, scale_min=(0.25, 4), scale_max=(0.25, 4))
    if hparams.scale_min > hparams.scale_max:
        raise ValueError(
            f"scale_min={hparams.scale_min} lies above scale_max={hparams.scale_max}: give both"
        )


def weights(places, reach):
    """(B, S): points in pixels, (B,): how far from them a pixel has weight -> (B, S, S): the weight
    of each pixel, whose centre is at i + 0.5. Rows sum to 1, or to 0 outside of the picture."""
    size = places.shape[-1]
    centres = tf.range(size, dtype=tf.float32) + 0.5
    found = tf.nn.relu(1 - abs(centres - places[..., None]) / reach[:, None, None])
    found = tf.math.divide_no_nan(found, tf.reduce_sum(found, -1, keepdims=True))
    return tf.where(inside(places)[..., None], found, 0.0)


def inside(places):
    return (places >= 0) & (places < places.shape[-1])


def random_crops(image, classes, hp, key):
    """Images (B, S, S, 3) in [-1, 1] and class maps (B, S, S, 1), or None -> both at random scales,
    by stateless random numbers of a key.

    Each picture is scaled by a number from hp.scale_min to hp.scale_max, bilinear and antialiased.
    Of a larger one a random part of S x S is taken. A smaller one lies at a random place between
    bars of zero, which is grey; its map, which takes the nearest pixel, is IGNORE there. With both
    scales 1 all stays as it is.
    """
    if hp.scale_min == hp.scale_max == 1:
        return image, classes
    size = image.shape[1]
    draw = base.uniform((3, tf.shape(image)[0]), key, axis=1)
    scale = hp.scale_min + draw[0] * (hp.scale_max - hp.scale_min)  # (B,)
    pixels = tf.range(size, dtype=tf.float32) + 0.5
    y, x = (  # (B, S) each: the point of the picture that a pixel of the result shows
        (pixels - (u * (1 - scale) * size)[:, None]) / scale[:, None] for u in tf.unstack(draw[1:])
    )
    reach = tf.maximum(1 / scale, 1)
    shape = tf.shape(image)
    rows = precision.matmul(weights(y, reach), tf.reshape(image, (shape[0], size, -1)))
    image = precision.matmul(weights(x, reach)[:, None], tf.reshape(rows, shape))
    image = tf.ensure_shape(image, (None, size, size, 3))
    if classes is not None:
        known = inside(y)[:, :, None, None] & inside(x)[:, None, :, None]
        for axis, places in ((1, y), (2, x)):
            nearest = tf.clip_by_value(tf.cast(tf.floor(places), tf.int32), 0, size - 1)
            classes = tf.gather(classes, nearest, axis=axis, batch_dims=1)
        classes = tf.where(known, classes, tf.cast(IGNORE, classes.dtype))
    return image, classes

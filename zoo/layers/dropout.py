"""Dropout as the noise of a generator (Isola et al., 2017, section 3.1)."""

import keras
from keras import ops

from .scoped import Scoped

_draw = Scoped()


def noise(draw):
    """Within the context Dropout drops values by draw(shape), uniform numbers in [0, 1), one call
    for each layer in the order in which they are called."""
    return _draw.set(draw)


@keras.saving.register_keras_serializable("zoo")
class Dropout(keras.layers.Layer):
    """x (B, ...) -> the same shape: 0 with probability `rate` in [0, 1), else x / (1 - rate).

    noise_shape: the shape of the random numbers, None where it is that of x and 1 along axes whose
    values are dropped together, as of keras.layers.Dropout; None: each value is dropped on its own.
    Outside of `noise` it returns x. Unlike keras.layers.Dropout it has no random state of its own,
    so that the trainer decides which numbers each replica and each resumed run draws.
    """

    def __init__(self, rate, noise_shape=None, **kwargs):
        super().__init__(**kwargs)
        self.rate, self.noise_shape = rate, noise_shape and tuple(noise_shape)

    def call(self, x):
        draw = _draw.value
        if draw is None:
            return x
        shape = ops.shape(x)
        if self.noise_shape:
            shape = tuple(s if n is None else n for s, n in zip(shape, self.noise_shape))
        kept = draw(shape) >= self.rate
        return ops.where(kept, x / (1 - self.rate), ops.zeros_like(x))

    def compute_output_shape(self, shape):
        return shape

    def get_config(self):
        own = {"rate": self.rate, "noise_shape": self.noise_shape}
        return {**super().get_config(), **own}

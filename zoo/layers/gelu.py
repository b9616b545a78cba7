"""GELU (Hendrycks and Gimpel, 2016): x P(X <= x) for a standard normal X."""

import functools

import keras
import numpy as np
from keras import ops

from . import precision


@keras.saving.register_keras_serializable("zoo")
class Gelu(keras.layers.Layer):
    """x (...) -> the same shape, in the exact form.

    In a training step on a CPU it is compiled by XLA, which computes it and its gradient in one
    pass each; TensorFlow takes ten.
    """

    def call(self, x):
        on_cpu = keras.backend.backend() == "tensorflow" and not precision.accelerated()
        if not precision.in_training_step() or not on_cpu:
            return ops.gelu(x, approximate=False)
        return ops.cast(_compiled()(ops.cast(x, "float32")), self.compute_dtype)

    def compute_output_shape(self, shape):
        return shape


@functools.cache
def _compiled():
    import tensorflow as tf

    compiled = functools.partial(tf.function, jit_compile=True, autograph=False)

    def below(x):
        return 0.5 * tf.math.erfc(x * -(0.5**0.5))

    def density(x):
        return tf.exp(-0.5 * tf.square(x)) * (2 * np.pi) ** -0.5

    value = compiled(lambda x: x * below(x))
    slope = compiled(lambda x, dy: dy * (below(x) + x * density(x)))
    return tf.custom_gradient(lambda x: (value(x), lambda dy: slope(x, dy)))

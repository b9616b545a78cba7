"""Instance normalisation (Ulyanov, Vedaldi and Lempitsky, 2016, equation 4)."""

import keras
from keras import ops

MOST = 16  # images that are normalised one by one


def moments(x):
    """(means, variances), float32 (B, 1, 1, C), of each channel of each image (B, H, W, C)."""
    return ops.moments(ops.cast(x, "float32"), axes=(1, 2), keepdims=True)


@keras.saving.register_keras_serializable("zoo")
class InstanceNorm(keras.layers.Layer):
    """x (B, H, W, C) -> the same shape, mean 0 and deviation 1 for each channel of each image.

    The variance is the biased one, with epsilon added to it. Means and variances are float32 in
    mixed precision. Batches of a known size, up to MOST, go image by image through TensorFlow's
    fused kernel of batch normalisation, which is several times faster on a CPU.
    """

    def __init__(self, epsilon=1e-5, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def call(self, x):
        if keras.backend.backend() == "tensorflow" and x.shape[0] and x.shape[0] <= MOST:
            return self._one_by_one(x)
        return self.normalised(x, *moments(x))

    def normalised(self, x, mean, variance):
        """x (B, H, W, C) by means and variances that broadcast with it."""
        full = ops.cast(x, self.variable_dtype)
        return ops.cast((full - mean) * ops.rsqrt(variance + self.epsilon), self.compute_dtype)

    def _one_by_one(self, x):
        import tensorflow as tf

        one, zero = tf.ones(x.shape[-1]), tf.zeros(x.shape[-1])
        images = tf.split(x, x.shape[0])
        images = [
            tf.compat.v1.nn.fused_batch_norm(i, one, zero, epsilon=self.epsilon)[0] for i in images
        ]
        return tf.concat(images, axis=0)

    def compute_output_shape(self, shape):
        return shape

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}


class FixedNorm(InstanceNorm):
    """The same by statistics that are set: `mean` and `variance`, float32 (1, 1, 1, C)."""

    def build(self, shape):
        size = (1, 1, 1, shape[-1])
        self.mean = self.add_weight(shape=size, trainable=False, initializer="zeros", name="mean")
        self.variance = self.add_weight(
            shape=size, trainable=False, initializer="ones", name="variance"
        )

    def call(self, x):
        return self.normalised(x, self.mean, self.variance)

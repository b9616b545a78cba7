"""Batch normalisation (Ioffe and Szegedy, 2015), fast on one device and correct on several."""

import keras
from keras import ops

from .scoped import Scoped

_tape = Scoped()


def constant_statistics(tape):
    """Within the context BatchNorm, also at inference, uses the statistics of its batch, which are
    constants for the gradients of a tf.GradientTape and functions of the input for tapes around it.
    It has second derivatives, and the moving averages stay."""
    return _tape.set(tape)


@keras.saving.register_keras_serializable("zoo")
class BatchNorm(keras.layers.BatchNormalization):
    """x (B, ..., C) -> the same shape; each channel has mean beta and standard deviation gamma.

    It is keras.layers.BatchNormalization with synchronised statistics, so that all replicas of a
    tf.distribute strategy keep the same model. With a single replica it uses TensorFlow's fused
    kernel, which saves a tenth of a DCGAN step on a CPU. Both paths keep the biased variance in the
    moving average and compute in float32 in mixed precision.
    """

    def __init__(self, momentum=0.9, epsilon=1e-5, **kwargs):
        kwargs.pop("synchronized", None)
        synchronized = keras.backend.backend() == "tensorflow"  # the one backend with strategies
        super().__init__(momentum=momentum, epsilon=epsilon, synchronized=synchronized, **kwargs)

    def call(self, x, training=False, mask=None):
        tape = _tape.value
        if tape is not None:
            return self._with_constant_statistics(x, tape)
        if not (training and self.trainable and _one_tensorflow_replica()):
            return super().call(x, training=training, mask=mask)
        import tensorflow as tf

        shape = ops.shape(x)
        flat = ops.reshape(ops.cast(x, self.dtype), (-1, 1, 1, shape[-1]))  # (B * H * W, 1, 1, C)
        count = ops.cast(ops.shape(flat)[0], self.dtype)
        gamma = self.gamma.value if self.scale else tf.ones_like(self.moving_mean.value)
        beta = self.beta.value if self.center else tf.zeros_like(self.moving_mean.value)
        y, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            flat, gamma, beta, epsilon=self.epsilon, is_training=True
        )
        variance = variance * (count - 1) / count  # the kernel returns the unbiased variance
        rate = 1 - self.momentum
        self.moving_mean.assign(self.moving_mean + rate * (mean - self.moving_mean))
        self.moving_variance.assign(self.moving_variance + rate * (variance - self.moving_variance))
        return ops.cast(ops.reshape(y, shape), self.compute_dtype)

    def _with_constant_statistics(self, x, tape):
        x = ops.cast(x, self.dtype)
        with tape.stop_recording():
            mean, variance = ops.moments(
                x, list(range(len(x.shape) - 1)), synchronized=not _one_tensorflow_replica()
            )
        y = ops.batch_normalization(
            x, mean, variance, -1, self.beta, self.gamma, epsilon=self.epsilon
        )
        return ops.cast(y, self.compute_dtype)


def _one_tensorflow_replica():
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync == 1

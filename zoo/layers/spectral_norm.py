"""Spectral normalisation (Miyato et al., ICLR 2018): layers that use W / sigma(W) in place of W.

sigma(W), the largest singular value of W as a matrix (out, rest), is u^T W v with u and v from the
power iteration of algorithm 1. In the gradient of W / (u^T W v), which is orthogonal to W, u and v
are constants. W itself, the variable `kernel`, stays as the optimiser left it;
keras.layers.SpectralNormalization overwrites it at each training call.
"""

import keras
from keras import ops

from . import precision
from .convolution import Conv2D, Conv2DTranspose


def _unit(x):
    return x / (ops.norm(x) + 1e-12)


class SpectralNorm:
    """Mixed into a layer: adds the variable `u` (1, out), and `normalised` for the kernel.

    power_iterations: number of iterations at each call with training=True, whose result is stored;
    a step that calls a discriminator three times does them three times. There are none at
    inference. out_axis: the kernel's axis of outputs. The replicas of a strategy have the same
    kernel and so the same u; the first replica's is stored.
    """

    out_axis = -1

    def __init__(self, *args, power_iterations=1, **kwargs):
        super().__init__(*args, **kwargs)
        if power_iterations < 1:
            raise ValueError(f"power_iterations must be at least 1, not {power_iterations}")
        self.power_iterations = power_iterations

    def add_u(self, out):
        self.u = self.add_weight(
            shape=(1, out),
            initializer="orthogonal",  # a random direction of length 1
            trainable=False,
            autocast=False,  # u and sigma are float32 under mixed precision
            aggregation="only_first_replica",
            name="u",
        )

    def normalised(self, kernel, training):
        """W -> W / sigma(W), in the layer's compute dtype."""
        matrix = ops.moveaxis(kernel, self.out_axis, -1)
        matrix = ops.reshape(matrix, (-1, matrix.shape[-1]))  # W^T (rest, out)
        matrix = ops.cast(matrix, self.variable_dtype)
        u = _unit(self.u)  # (1, out)
        v = _unit(precision.matmul(u, ops.transpose(matrix)))  # W^T u (1, rest)
        if training:
            u = _unit(precision.matmul(v, matrix))  # W v
            for _ in range(self.power_iterations - 1):
                v = _unit(precision.matmul(u, ops.transpose(matrix)))
                u = _unit(precision.matmul(v, matrix))
            self.u.assign(u)
        u, v = ops.stop_gradient(u), ops.stop_gradient(v)
        sigma = ops.sum(precision.matmul(v, matrix) * u)
        kernel = precision.float32(kernel / (sigma + 1e-12))
        return ops.cast(kernel, self.compute_dtype)

    def finish(self, y):
        """y (..., out) with the bias added and the activation applied."""
        if self.use_bias:
            y = y + self.bias
        return y if self.activation is None else self.activation(y)

    def save_own_variables(self, store):
        keras.layers.Layer.save_own_variables(self, store)  # Conv2D's own would leave u out

    def load_own_variables(self, store):
        keras.layers.Layer.load_own_variables(self, store)

    def get_config(self):
        return {**super().get_config(), "power_iterations": self.power_iterations}


@keras.saving.register_keras_serializable("zoo")
class SNConv2D(SpectralNorm, Conv2D):
    """(B, H, W, C) -> (B, H', W', filters); kernel (h, w, C, filters)."""

    def build(self, shape):
        super().build(shape)
        self.add_u(self.filters)

    def call(self, x, training=False):
        return self.finish(self.convolution_op(x, self.normalised(self.kernel, training)))


@keras.saving.register_keras_serializable("zoo")
class SNConv2DTranspose(SpectralNorm, Conv2DTranspose):
    """(B, H, W, C) -> (B, H', W', filters); kernel (h, w, filters, C)."""

    out_axis = 2

    def build(self, shape):
        super().build(shape)
        self.add_u(self.filters)

    def call(self, x, training=False):
        return self.finish(self.convolution_op(x, self.normalised(self.kernel, training)))


@keras.saving.register_keras_serializable("zoo")
class SNDense(SpectralNorm, keras.layers.Dense):
    """(B, ..., C) -> (B, ..., units); kernel (C, units)."""

    def build(self, shape):
        super().build(shape)
        self.add_u(self.units)

    def call(self, x, training=False):
        return self.finish(ops.matmul(x, self.normalised(self.kernel, training)))


@keras.saving.register_keras_serializable("zoo")
class SNEmbedding(SpectralNorm, keras.layers.Embedding):
    """Integers (B, ...) below input_dim -> (B, ..., output_dim); W is the variable `embeddings`."""

    def build(self, shape=None):
        super().build(shape)
        self.add_u(self.output_dim)

    def call(self, index, training=False):
        return ops.take(self.normalised(self.embeddings, training), index, axis=0)

    def compute_output_spec(self, index, training=False):
        return super().compute_output_spec(index)

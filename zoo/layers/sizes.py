"""Layers that take maps from one size to another, where sizes are known only at the call."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("zoo")
class PadTo(keras.layers.Layer):
    """(B, H, W, C) -> (B, H', W', C), mirrored at the bottom and right to sides that are multiples
    of `multiple`; H and W are at least half of H' and W'."""

    def __init__(self, multiple, **kwargs):
        super().__init__(**kwargs)
        self.multiple = multiple

    def call(self, x):
        for axis in (1, 2):
            if x.shape[axis] is None or x.shape[axis] % self.multiple:
                size = ops.shape(x)[axis]
                places = ops.arange(size + -size % self.multiple)
                x = ops.take(x, ops.minimum(places, 2 * size - 1 - places), axis=axis)
        return x

    def compute_output_shape(self, shape):
        batch, *sides, channels = shape
        sides = (side and side + -side % self.multiple for side in sides)
        return (batch, *sides, channels)

    def get_config(self):
        return {**super().get_config(), "multiple": self.multiple}


@keras.saving.register_keras_serializable("zoo")
class CropTo(keras.layers.Layer):
    """x (B, H', W', C), like (B, H, W, ...) -> x (B, H, W, C), without its last rows and
    columns."""

    def call(self, x, like):
        if None not in x.shape[1:3] and x.shape[1:3] == like.shape[1:3]:
            return x
        return ops.slice(x, (0, 0, 0, 0), (*ops.shape(like)[:3], x.shape[-1]))

    def compute_output_shape(self, x_shape, like_shape):
        return (*like_shape[:3], x_shape[-1])


@keras.saving.register_keras_serializable("zoo")
class EnlargeTo(keras.layers.Layer):
    """x (B, h, w, C), like (B, H, W, ...) -> x (B, H, W, C) by bilinear interpolation, as two
    matrix products. Each value of x stands for a square of `factor` pixels; beyond the centres of
    the outermost squares their values go on."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x, like):
        rows, columns = (
            ops.cast(self._weights(ops.shape(x)[axis], ops.shape(like)[axis]), x.dtype)
            for axis in (1, 2)
        )
        x = ops.einsum("ih,bhwc->biwc", rows, x)
        return ops.einsum("jw,biwc->bijc", columns, x)

    def _weights(self, size, out):
        """(out, size), for sizes that may be tensors."""
        pixels, squares = (ops.cast(ops.arange(n), "float32") for n in (out, size))
        places = ops.minimum(ops.maximum((pixels + 0.5) / self.factor - 0.5, 0), squares[-1])
        return ops.maximum(1 - ops.abs(squares - places[:, None]), 0)

    def compute_output_shape(self, x_shape, like_shape):
        return (*like_shape[:3], x_shape[-1])

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}

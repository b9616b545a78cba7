"""A layer that takes maps from one size to another, where sizes are known only at the call."""

import keras
from keras import ops


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

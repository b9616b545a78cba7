"""The zoo's convolutions: Keras' layers in the fastest form that TensorFlow has for them on a CPU.

Keras composes PyTorch's paddings of padding and a convolution, or of a transposed convolution and
cropping. TensorFlow's gradient of a kernel on small maps is slower in bfloat16 than in float32; as
products it is twice as fast. Where TensorFlow has no gradient of a dilated convolution, that is a
convolution on interleaved parts. The results are the same. Other backends use Keras' operations.
"""

import functools
import math
from math import inf

import keras
from keras import ops

from . import precision

# Products are faster than oneDNN's gradient of a kernel on maps of at most SMALL pixels, and for at
# least WIDE outputs with at most ROWS pixels in a batch.
SMALL, WIDE, ROWS = 64, 256, 4096


def _on_tensorflow():
    return keras.backend.backend() == "tensorflow"


def _pads(x):
    """Whether a convolution that pads its input x by itself is the fastest form: TensorFlow's own
    kernel is faster than oneDNN's in float32, many times slower in bfloat16."""
    return _on_tensorflow() and x.dtype == "float32" and not precision.is_rewritten()


@functools.cache
def _dilates(dtype):
    """Whether TensorFlow's convolution has gradients with dilation: on a CPU by oneDNN alone, which
    has none in float16."""
    import tensorflow as tf

    with tf.init_scope():
        x, kernel = tf.ones((1, 4, 4, 1), dtype), tf.ones((3, 3, 1, 1), dtype)
        try:
            tf.nn.conv2d_transpose(x, kernel, x.shape, 1, dilations=2)  # the gradient of x
        except tf.errors.OpError:
            return False
    return True


def _interleaved(x, kernel, padding, dilation):
    """A dilated convolution, as an undilated one of interleaved parts of x."""
    import tensorflow as tf

    def convolved(parts, num_spatial_dims, padding):
        return tf.nn.conv2d(parts, kernel, 1, padding)

    return tf.nn.with_space_to_batch(x, dilation, padding, convolved, kernel.shape[:2])


def _small(layer, shape):
    """Whether `kernel_gradient` is the fastest form for a layer, whose smaller map has this shape
    (B, h, w, C)."""
    (side, other), (stride, across) = layer.kernel_size, layer.strides
    known = layer.padding == "same" and side == other and stride == across and side % stride == 0
    if not precision.is_rewritten() or not known or None in shape[1:3]:
        return False
    pixels = shape[1] * shape[2]
    wide = layer.filters >= WIDE and pixels * (shape[0] or inf) <= ROWS
    return pixels <= SMALL or wide


def size_multiple(network):
    """The number that must divide the sides of a translator's images: the product of the strides of
    its convolutions, at least 4. It is no `tasks.tiles.field`: RA's coarsest map has a larger
    stride, by pooling, but is enlarged to any size."""
    layers = [layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]
    return max(4, math.prod(layer.strides[0] for layer in layers))


def kernel_gradient(x, dy, side, stride, dilation=1):
    """x (B, H, W, C), dy (B, H / stride, W / stride, D) -> the gradient (side, side, C, D) of the
    kernel of a convolution of x with padding "same", as products of dy with the rows of each
    window. side: a multiple of stride, which is 1 with dilation."""
    import tensorflow as tf

    (_, height, width, channels), (_, h, w, outputs) = x.shape, dy.shape
    reach = (side - 1) * dilation + 1
    more = [(n - 1) * stride + reach - size for n, size in ((h, height), (w, width))]
    x = tf.pad(x, [[0, 0], *([m // 2, m - m // 2] for m in more), [0, 0]])
    high, wide = (height + more[0]) // stride, (width + more[1]) // stride
    across = stride * channels
    x = tf.reshape(x, (-1, high, stride, wide, across))
    dy, rows = tf.reshape(dy, (-1, outputs)), []
    for i in range(0, reach, dilation):
        parts = [
            tf.slice(x, (0, i // stride, i % stride, j, 0), (-1, h, 1, w, across))
            for j in range(0, reach // stride, dilation)
        ]
        row = tf.reshape(tf.concat(parts, axis=-1), (-1, side * channels))
        rows.append(tf.matmul(row, dy, transpose_a=True))
    return tf.reshape(tf.stack(rows), (side, side, channels, outputs))


def _convolved(x, kernel, stride, dilation):
    """A convolution with padding "same" whose kernel's gradient is `kernel_gradient`."""
    import tensorflow as tf

    @tf.custom_gradient
    def convolved(x, kernel):
        def gradient(dy):
            options = {"strides": stride, "padding": "SAME", "dilations": dilation}
            dx = tf.nn.conv2d_transpose(dy, kernel, tf.shape(x), **options)
            return dx, kernel_gradient(x, dy, kernel.shape[0], stride, dilation)

        return tf.nn.conv2d(x, kernel, stride, "SAME", dilations=dilation), gradient

    return convolved(x, tf.convert_to_tensor(kernel))


def _transposed(x, kernel, stride):
    """The same for a transposed convolution."""
    import tensorflow as tf

    count, height, width, _ = ops.shape(x)
    shape = (count, height * stride, width * stride, kernel.shape[2])

    @tf.custom_gradient
    def transposed(x, kernel):
        def gradient(dy):
            dx = tf.nn.conv2d(dy, kernel, stride, "SAME")
            return dx, kernel_gradient(dy, x, kernel.shape[0], stride)

        return tf.nn.conv2d_transpose(x, kernel, shape, stride, "SAME"), gradient

    return transposed(x, tf.convert_to_tensor(kernel))


@keras.saving.register_keras_serializable("zoo")
class Conv2D(keras.layers.Conv2D):
    """keras.layers.Conv2D, (B, H, W, C) -> (B, H', W', filters).

    around: rows and columns of zeros on each side of the input, as padding=around in PyTorch; with
    it padding is "valid".
    """

    def __init__(self, *args, around=0, **kwargs):
        super().__init__(*args, **kwargs)
        if around and self.padding != "valid":
            raise ValueError(f"around={around} takes no padding={self.padding!r}")
        self.around = around

    def convolution_op(self, inputs, kernel):
        padding, dilated = self.padding.upper(), max(self.dilation_rate) > 1
        if self.around:
            padding = [[0, 0], [self.around] * 2, [self.around] * 2, [0, 0]]
            if dilated or not _pads(inputs):
                inputs, padding = ops.pad(inputs, padding), "VALID"
        if not _on_tensorflow():
            return super().convolution_op(inputs, kernel)
        if dilated and not _dilates(inputs.dtype):
            return _interleaved(inputs, kernel, padding, self.dilation_rate)
        if _small(self, self.compute_output_shape(inputs.shape)):
            return _convolved(inputs, kernel, self.strides[0], self.dilation_rate[0])
        import tensorflow as tf

        return tf.nn.conv2d(inputs, kernel, self.strides, padding, dilations=self.dilation_rate)

    def compute_output_shape(self, shape):
        batch, *sides, channels = shape
        sides = (None if side is None else side + 2 * self.around for side in sides)
        return super().compute_output_shape((batch, *sides, channels))

    def get_config(self):
        return {**super().get_config(), "around": self.around}


@keras.saving.register_keras_serializable("zoo")
class Conv2DTranspose(keras.layers.Conv2DTranspose):
    """keras.layers.Conv2DTranspose, (B, H, W, C) -> (B, H', W', filters)."""

    def convolution_op(self, inputs, kernel):
        undilated = max(self.dilation_rate) == 1
        if _on_tensorflow() and undilated and _small(self, inputs.shape):
            return _transposed(inputs, kernel, self.strides[0])
        return ops.conv_transpose(
            inputs,
            kernel,
            strides=self.strides,
            padding=self.padding,
            output_padding=self.output_padding,
            dilation_rate=self.dilation_rate,
        )

    def call(self, x):
        y = self.convolution_op(x, self.kernel)
        y = ops.add(y, self.bias) if self.use_bias else y
        return y if self.activation is None else self.activation(y)


@keras.saving.register_keras_serializable("zoo")
class DoublingConv2DTranspose(keras.layers.Conv2DTranspose):
    """(B, H, W, C) -> (B, 2H, 2W, filters): a transposed convolution of 3x3 and stride 2, of whose
    2H + 1 rows and 2W + 1 columns the first are cropped, as padding=1, output_padding=1 in
    PyTorch."""

    def __init__(self, filters, **kwargs):
        kwargs |= {"kernel_size": 3, "strides": 2, "padding": "valid"}
        super().__init__(filters, **kwargs)

    def call(self, x):
        count, height, width, _ = ops.shape(x)
        shape = (count, 2 * height, 2 * width, self.filters)
        if not _pads(x):
            return ops.slice(super().call(x), (0, 1, 1, 0), shape)
        import tensorflow as tf

        padding = [[0, 0], [1, 0], [1, 0], [0, 0]]
        return ops.add(tf.nn.conv2d_transpose(x, self.kernel, shape, 2, padding), self.bias)

    def compute_output_shape(self, shape):
        batch, *sides, _ = shape
        sides = (None if side is None else 2 * side for side in sides)
        return (batch, *sides, self.filters)

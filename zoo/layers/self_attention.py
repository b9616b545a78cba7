"""Self-attention among the positions of a feature map (SAGAN: Zhang et al., ICML 2019, section
3)."""

import keras
import numpy as np
from keras import ops

from . import precision
from .convolution import Conv2D
from .spectral_norm import SNConv2D

VARIANTS = ("paper", "official")
LABELS = ("at top left", "at top right", "at bottom left", "at bottom right")
BLOCK = 2**20  # entries of an image's map that are computed at a time: 4 MiB


@keras.saving.register_keras_serializable("zoo")
class SelfAttention(keras.layers.Layer):
    """x (B, H, W, C) -> x + gamma o, the same shape; gamma starts at 0.

    o_j = sum_i beta_ji v_i, beta_j = softmax_i(q_j k_i) over M positions i, for each of N = H W
    positions j; q (B, N, C/8), k (B, M, C/8) and v are 1x1 convolutions of x.

    variant: "paper": v (B, N, C), M = N. "official", the authors' code: k and v (B, M, C/2) are
    max-pooled to M = N/4, and a further 1x1 convolution brings o back to C channels. spectral_norm:
    whether these convolutions have spectral normalisation. If an image's map has more than BLOCK
    entries, it is computed in blocks of positions j, and in training again for the gradient instead
    of being stored; such a gradient has none of its own.

    A call with return_attention=True returns beta (B, N, M), whose rows sum to 1, instead of the
    sum: a functional model cannot call a layer with one output here and two there.
    """

    def __init__(self, variant="paper", spectral_norm=False, **kwargs):
        super().__init__(**kwargs)
        if variant not in VARIANTS:
            raise ValueError(f"unknown variant {variant!r}: there are {', '.join(VARIANTS)}")
        self.variant, self.spectral_norm = variant, spectral_norm

    def build(self, shape):
        _, height, width, channels = shape
        official = self.variant == "official"
        if official and (height % 2 or width % 2):
            raise ValueError(f"a pooled map needs even sides, not {height} x {width}")
        inner = max(1, channels // 8)
        filters = max(1, channels // 2) if official else channels
        self.query, self.key, self.value = (
            self._conv(n, name, shape)
            for n, name in ((inner, "query"), (inner, "key"), (filters, "value"))
        )
        if official:
            self.out = self._conv(channels, "out", (*shape[:-1], filters))
        self.gamma = self.add_weight(shape=(), initializer="zeros", name="gamma")

    def _conv(self, filters, name, shape):
        kind = SNConv2D if self.spectral_norm else Conv2D
        conv = kind(filters, 1, use_bias=False, dtype=self.dtype_policy, name=name)
        conv.build(shape)
        return conv

    def call(self, x, training=False, return_attention=False):
        _, height, width, channels = x.shape
        places = height * width  # N

        def maps(conv, pool=False):
            y = conv(x, training=training) if self.spectral_norm else conv(x)
            if pool and self.variant == "official":
                y = ops.max_pool(y, 2)
            return ops.reshape(y, (-1, y.shape[1] * y.shape[2], y.shape[3]))

        q, k, v = maps(self.query), maps(self.key, pool=True), maps(self.value, pool=True)
        if return_attention:
            return beta(q, k)
        rows = max(1, BLOCK // k.shape[1])
        if places <= rows:
            o = attend(q, k, v)  # (B, N, .)
        else:
            part = keras.remat(attend) if training else attend
            parts = [part(q[:, j : j + rows], k, v) for j in range(0, places, rows)]
            o = ops.concatenate(parts, axis=1)
        o = ops.reshape(o, (-1, height, width, v.shape[-1]))
        if self.variant == "official":
            o = self.out(o, training=training) if self.spectral_norm else self.out(o)
        return x + ops.cast(self.gamma, x.dtype) * o

    def get_config(self):
        own = {"variant": self.variant, "spectral_norm": self.spectral_norm}
        return {**super().get_config(), **own}


def attends(network):
    """Whether a functional network has a SelfAttention, which is named `attention`."""
    return any(layer.name == "attention" for layer in network.layers)


def attention_map(network, inputs=None):
    """A functional network with a SelfAttention -> the model from its inputs, or from the inputs
    given, to the map (B, N, M)."""
    layer = network.get_layer("attention")
    inputs = network.input if inputs is None else inputs
    return keras.Model(inputs, layer(layer.input, return_attention=True), name="attention")


def attention_at(maps, size):
    """The attention of four positions, the middles of the image's quarters: (masks (B, 4, size,
    size) from 0 to 1, positions (4, 2) as row and column in pixels, LABELS).

    maps: array (B, N, M). size: of the image.
    """
    side, attended = round(maps.shape[1] ** 0.5), round(maps.shape[2] ** 0.5)
    middles = (side // 4, 3 * side // 4)
    places = np.array([(row, column) for row in middles for column in middles])
    masks = maps[:, places[:, 0] * side + places[:, 1]].reshape(-1, 4, attended, attended)
    masks = masks / masks.max((2, 3), keepdims=True)
    masks = masks.repeat(size // attended, 2).repeat(size // attended, 3)
    return masks, places * (size // side) + size // side // 2, LABELS


def beta(q, k):
    """q (B, N, c), k (B, M, c) -> softmax over i of q_j k_i (B, N, M)."""
    scores = ops.matmul(q, ops.transpose(k, (0, 2, 1)))
    return ops.cast(ops.softmax(precision.float32(scores), axis=-1), q.dtype)


def attend(q, k, v):
    """q (B, N, c), k (B, M, c), v (B, M, d) -> o (B, N, d)."""
    return ops.matmul(beta(q, k), v)

"""Maps of a picture at several sizes and of its mirror images, averaged: more exact than those of
one size (test-time augmentation; class activation maps: Ahn and Kwak, CVPR 2018)."""

import math

import keras
from keras import ops

from ...common import interpolation


def numbers(scales):
    """ "0.75,1,1.25" -> (0.75, 1.0, 1.25), and "" -> (). Other text raises ValueError."""
    try:
        found = tuple(float(word) for word in scales.split(",")) if scales else ()
    except ValueError:
        found = (0.0,)
    if not all(0.25 <= scale <= 4 for scale in found):
        raise ValueError(f"scales takes numbers from 0.25 to 4, as 0.75,1,1.25, not {scales!r}")
    return found


def sides(size, map_size, scales):
    """The sides of pictures that are about `scales` times as large as `size`, at which a network
    with maps of map_size for `size` pads and pools alike: they differ from `size` by a multiple of
    its stride. ValueError if one is too small, or two are the same."""
    stride = 2 ** round(math.log2(size / map_size))
    found = [size + stride * round((scale - 1) * size / stride) for scale in scales]
    if min(found) < max(stride, 8) or len(set(found)) < len(found):
        raise ValueError(
            f"scales makes pictures of {', '.join(map(str, found))} pixels: give scales that "
            f"differ more, and none that makes less than {max(stride, 8)} pixels"
        )
    return found


def averaged(image, maps, scales):
    """image (B, S, S, 3), an input, and maps (B, h, w, C), what a network makes of it -> the mean
    (B, S, S, C) of its maps of the image at each of the scales, and of its mirror image. The
    network must not depend on the size, as one with global average pooling."""
    size, network, parts = image.shape[1], keras.Model(image, maps), []
    for side in sides(size, maps.shape[1], scales):
        both = ScaledAndMirrored(side, dtype=keras.config.floatx())(image)
        # as keras.models.clone_model does it, whose nested model could not be loaded again
        parts.append(network._run_through_graph(both, operation_fn=lambda layer: layer))
    return MeanOfMaps(size, dtype=keras.config.floatx())(parts)


def is_averaged(network):
    """Whether a network's maps are such means."""
    return any(isinstance(layer, MeanOfMaps) for layer in network.layers)


def resized(x, size):
    """(B, H, W, C) -> (B, size, size, C), bilinear and antialiased."""
    if tuple(x.shape[1:3]) == (size, size):
        return x
    rows, columns = (
        ops.cast(interpolation.weights(side, size, antialias=True), x.dtype)
        for side in x.shape[1:3]
    )
    return ops.einsum("jw,biwc->bijc", columns, ops.einsum("ih,bhwc->biwc", rows, x))


@keras.saving.register_keras_serializable("zoo")
class ScaledAndMirrored(keras.layers.Layer):
    """Images (B, S, S, C) -> (2 B, side, side, C): all resized, then their mirror images."""

    def __init__(self, side, **kwargs):
        super().__init__(**kwargs)
        self.side = side

    def call(self, x):
        x = resized(x, self.side)
        return ops.concatenate((x, ops.flip(x, axis=2)))

    def get_config(self):
        return {**super().get_config(), "side": self.side}


@keras.saving.register_keras_serializable("zoo")
class MeanOfMaps(keras.layers.Layer):
    """A list of maps (2 B, h, w, C) of images and then of their mirror images -> their mean (B,
    size, size, C), those of the mirror images turned back."""

    def __init__(self, size, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def call(self, parts):
        total = 0
        for part in parts:
            pair = ops.reshape(part, (2, -1, *part.shape[1:]))
            total += resized(pair[0] + ops.flip(pair[1], axis=2), self.size)
        return total / (2 * len(parts))

    def get_config(self):
        return {**super().get_config(), "size": self.size}

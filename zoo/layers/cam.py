"""Class activation maps: which pixels a classifier with global average pooling bases a class on
(Zhou et al., CVPR 2016). The map of the winning class, or as Soft-CAM of all classes (ATA-GAN:
Kastaniotis et al., 2018).

| ATA-GAN, equation 1                      | here                                              |
|------------------------------------------|---------------------------------------------------|
| FM_i, i = 1 .. K                         | features (B, h, w, K), whose average is taken     |
| W_ij                                     | kernel of the dense layer behind the average      |
| sum_i FM_i W_ij, the CAM of class j      | channel j of `class_maps`                         |
| SM(j)                                    | softmax of the logits, 1 if there is one class    |
| SC                                       | `soft_cam`                                        |

    network = explained(classifier)  # image -> logits, Soft-CAM

MAPS has other maps than equation 1's: without the evidence against a class, of the likeliest class
alone, or of how active the features are.

Maps are compared at the same size and scale: see `resized` and `normalised`. Strided convolutions
with padding move a map away from the middle of the image: see `centres`.
"""

import keras
import numpy as np
from keras import ops

from ...common import interpolation

EPSILON = 1e-6
LIKELIEST = ("likeliest class", "second class")  # whose maps a picture shows
PIXELS = {"axis": (1, 2), "keepdims": True}
MAPS = {  # of a classifier -> options of CAM
    "soft": {},
    "soft_relu": {"relu": True},
    "winner": {"classes": "winner"},
    "winner_relu": {"classes": "winner", "relu": True},
    "activation": {},  # of the features' `activation` in place of class maps
}


def class_maps(features, dense):
    """Features (B, h, w, K) -> sum_i FM_i W_ij for every class j, (B, h, w, C).

    dense: the layer that computes the logits from the averaged features. It is applied at every
    pixel and its bias is subtracted, so that a functional network that uses it twice shares it and
    can be saved.
    """
    return dense(features) - dense(ops.zeros_like(features))


def soft_cam(maps, logits):
    """Class maps (B, h, w, C), logits (B, C) -> sum_j SM(j) CAM_j (B, h, w), equation 1."""
    share = ops.exp(ops.log_softmax(logits))  # ops.softmax warns if there is one class
    return ops.einsum("bc,bhwc->bhw", share, maps)


def cam(maps, label):
    """Class maps (B, h, w, C), label (B,) -> the map of that class (B, h, w)."""
    return ops.einsum("bc,bhwc->bhw", ops.one_hot(label, maps.shape[-1], dtype=maps.dtype), maps)


def activation(features):
    """Features (B, h, w, K) -> sum_i FM_i^2, (B, h, w, 1), which no class weighs (Zagoruyko and
    Komodakis, 2017, equation 1)."""
    return ops.sum(ops.square(features), axis=-1, keepdims=True)


def min_max(maps):
    """Each map (h, w) scaled to [0, 1]; a constant map becomes 0."""
    low = ops.min(maps, **PIXELS)
    return (maps - low) / (ops.max(maps, **PIXELS) - low + EPSILON)


def unit_sum(maps):
    """Each map (h, w) with its minimum subtracted, then divided by its sum."""
    above = maps - ops.min(maps, **PIXELS)
    return above / (ops.sum(above, **PIXELS) + EPSILON)


def unit_norm(maps):
    """Each map (h, w) divided by its Euclidean norm (Zagoruyko and Komodakis, 2017, equation 2)."""
    return maps / ops.sqrt(ops.sum(ops.square(maps), **PIXELS) + EPSILON)


NORMALISE = {"none": lambda maps: maps, "min_max": min_max, "sum": unit_sum, "norm": unit_norm}


def normalised(maps, how):
    """Maps (B, h, w) -> the same shape, each map scaled by NORMALISE[how]."""
    if how not in NORMALISE:
        raise ValueError(f"unknown normalise {how!r}: there are {', '.join(NORMALISE)}")
    return NORMALISE[how](maps)


def centres(network, maps):
    """(first, step) of a network's maps (B, h, w, K): value i of a column depends on the pixels
    around pixel first + i step of the image. Where a map is stretched over S pixels, it is drawn at
    pixel (i + 0.5) S / h - 0.5.
    """
    places = {id(image): (0, 1) for image in network.inputs}
    for layer in network.operations:
        if isinstance(layer, keras.layers.InputLayer):
            continue
        x, *_ = keras.tree.flatten(layer.input)
        first, step = places[id(x)]
        if isinstance(layer, keras.layers.ZeroPadding2D):
            first -= layer.padding[0][0] * step
        elif hasattr(layer, "strides"):
            window = getattr(layer, "kernel_size", None) or layer.pool_size
            stride = layer.strides[0]
            reach = (window[0] - 1) * getattr(layer, "dilation_rate", (1,))[0]
            before = getattr(layer, "around", 0)
            if layer.padding == "same":
                before = max((layer.output.shape[1] - 1) * stride + reach + 1 - x.shape[1], 0) // 2
            first, step = first + (reach / 2 - before) * step, step * stride
        places[id(layer.output)] = first, step
    return places[id(maps)]


def resized(maps, size, centres=None):
    """Maps (B, h, w) -> (B, size, size), bilinear and antialiased; two matrix products.

    centres: (first, step) as of `centres`, of an image of this size; None: the maps are stretched
    over it.
    """
    if centres:
        first, step = centres
        places = (np.arange(size) - first) / step
        weights = [interpolation.at(places, side) for side in maps.shape[1:]]
    elif tuple(maps.shape[1:]) == (size, size):
        return maps
    else:
        weights = [interpolation.weights(side, size, antialias=True) for side in maps.shape[1:]]
    rows, columns = (matrix.astype("float32") for matrix in weights)
    return ops.einsum("ih,bhw,jw->bij", rows, maps, columns)


@keras.saving.register_keras_serializable("zoo")
class CAM(keras.layers.Layer):
    """Class maps (B, h, w, C), logits (B, C) -> one map (B, h, w), or (B, size, size).

    classes: "soft", all classes weighted by their softmax, or "winner", the class of the largest
    logit. relu: negative values of the map become 0, as in Grad-CAM (Selvaraju et al., 2017).
    normalise: a key of NORMALISE. size, centres: of the map, as of `resized`; None: the size of the
    features.
    """

    def __init__(
        self, classes="soft", relu=False, normalise="none", size=None, centres=None, **kwargs
    ):
        super().__init__(**kwargs)
        if classes not in ("soft", "winner"):
            raise ValueError(f"unknown classes {classes!r}: there are soft, winner")
        if normalise not in NORMALISE:
            raise ValueError(f"unknown normalise {normalise!r}: there are {', '.join(NORMALISE)}")
        self.classes, self.relu, self.normalise = classes, relu, normalise
        self.size, self.centres = size, centres

    def call(self, maps, logits):
        if self.classes == "soft":
            one_map = soft_cam(maps, logits)
        else:
            one_map = cam(maps, ops.argmax(logits, axis=-1))
        if self.relu:
            one_map = ops.relu(one_map)
        if self.size:
            one_map = resized(one_map, self.size, self.centres)
        return normalised(one_map, self.normalise)

    def get_config(self):
        names = ("classes", "relu", "normalise", "size", "centres")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def check_maps(maps):
    """Raises ValueError unless `maps` is a key of MAPS."""
    if maps not in MAPS:
        raise ValueError(f"unknown maps {maps!r}: there are {', '.join(MAPS)}")


def explained(classifier, maps=None, **options):
    """A classifier of the zoo -> keras.Model with the same weights, image -> [logits (B, C), map].

    maps: a key of MAPS; None: the classifier's own, `classifier.maps`, or else "soft". options:
    those of CAM. If `classifier.centred` is True, the map has the size of the image, and each value
    is drawn at the centre of the pixels that it depends on (`centres`).
    The classifier's layers `map`, `features` and `logits` must be a feature map, its global average
    and a linear layer behind it (for SqueezeNet's head "conv" the identity, as its map has one
    channel per class); otherwise ValueError.
    """
    features, average, dense = (classifier.get_layer(n) for n in ("map", "features", "logits"))
    pooled = isinstance(average, keras.layers.GlobalAveragePooling2D)
    if not pooled or average.input is not features.output or dense.input is not average.output:
        raise ValueError(
            f"{classifier.name} has no global average pooling between its map and its logits"
        )
    maps, logits = maps or getattr(classifier, "maps", "soft"), dense.output
    check_maps(maps)
    inputs = class_maps(features.output, dense), logits
    if maps == "activation":  # as the map of an only class
        inputs = activation(features.output), logits[:, :1]
    if getattr(classifier, "centred", False):
        size, place = classifier.input_shape[1], centres(classifier, features.output)
        options = {"size": size, "centres": place, **options}
    one_map = CAM(name="cam", **{**MAPS[maps], **options})(*inputs)
    return keras.Model(classifier.input, [logits, one_map], name="explained")


def annotator(generator, discriminator):
    """A generator, a discriminator image -> [logit, map] -> keras.Model noise -> [image, map]."""
    image = generator(generator.input)
    return keras.Model(generator.input, [image, discriminator(image)[1]], name="annotator")

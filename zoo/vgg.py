"""VGG16: very deep convolutional networks for large-scale image recognition (Simonyan and
Zisserman, ICLR 2015), configuration D.

    image -> 2 conv w, pool/2 -> 2 conv 2w, pool/2 -> 3 conv 4w, pool/2 -> 3 conv 8w = `middle`
          -> pool/2 (gap: where S >= 128) -> 3 conv 8w = `map` -> head

    gap   -> global average = `features` (8w) -> dense -> `logits`
    fc    -> pool/2 -> average to 7x7 -> fc6 (64w) -> fc7 (64w) = `features` -> dense -> `logits`

| paper (table 1, D)                | here                                                    |
|-----------------------------------|---------------------------------------------------------|
| conv3-64 .. conv3-512             | `conv1_1` .. `conv5_3`, each with a ReLU                |
| FC-4096, FC-4096, FC-1000         | `fc6`, `fc7`, `logits`                                  |

Class activation maps need the head "gap". The head "fc" is the paper's, for weights trained
elsewhere; its attention maps are Grad-CAM's. torchvision, too, averages the map to 7x7 for images
of other sizes than 224.

As it has no batch normalisation, it learns with a learning_rate of 0.01, which the recipes have,
but not with 0.1.
"""

import keras
import numpy as np
from keras import ops

from .layers import imagenet
from .layers.convolution import Conv2D
from .networks import of_classifier

HEADS = ("gap", "fc")
RELUS = {"conv4_3": "middle", "conv5_3": "map"}  # names that the metrics ask for


@keras.saving.register_keras_serializable("zoo")
class AverageTo(keras.layers.Layer):
    """(B, H, W, C) -> (B, size, size, C): cell i is the mean of the rows (columns) that lie in
    [i H / size, (i + 1) H / size) at least in part. A map of that size does not change.
    """

    def __init__(self, size, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def call(self, x):
        for axis, product in ((1, "ih,bhwc->biwc"), (2, "iw,bhwc->bhic")):
            count, mean = x.shape[axis], np.zeros((self.size, x.shape[axis]))
            for i in range(self.size):
                rows = slice(i * count // self.size, -(-(i + 1) * count // self.size))
                mean[i, rows] = 1 / (rows.stop - rows.start)
            x = ops.einsum(product, ops.cast(mean, x.dtype), x)
        return x

    def compute_output_shape(self, shape):
        return (shape[0], self.size, self.size, shape[3])

    def get_config(self):
        return {**super().get_config(), "size": self.size}


def dense(x, units, name, relu):
    """(B, C) -> (B, units), after a ReLU."""
    x = keras.layers.Dense(units, kernel_initializer="he_normal", name=name)(x)
    return keras.layers.ReLU(name=relu)(x)


def classifier(image_size, classes, width, head, normalise):
    """image (B, S, S, 3) in [-1, 1] -> logits (B, classes); see `build`."""
    image = keras.Input((image_size, image_size, 3), name="image")
    x = imagenet.normalised(image, normalise)
    pools = 5 if head == "fc" or image_size >= 128 else 4
    for block, convolutions in enumerate((2, 2, 3, 3, 3), start=1):
        if 1 < block <= pools:
            x = keras.layers.MaxPooling2D(2, name=f"pool{block - 1}")(x)
        for name in (f"conv{block}_{i + 1}" for i in range(convolutions)):
            x = Conv2D(
                width * min(2 ** (block - 1), 8),
                3,
                padding="same",
                kernel_initializer="he_normal",
                name=name,
            )(x)
            x = keras.layers.ReLU(name=RELUS.get(name, f"{name}_relu"))(x)
    if head == "gap":
        x = keras.layers.GlobalAveragePooling2D(name="features")(x)  # (B, 8 W)
    else:
        x = keras.layers.MaxPooling2D(2, name="pool5")(x)
        x = AverageTo(7, name="average")(x)
        x = keras.layers.Flatten(name="flat")(x)  # (B, 7 * 7 * 8 W)
        x = dense(x, 64 * width, "fc6", "fc6_relu")
        x = dense(x, 64 * width, "fc7", "features")
    logits = keras.layers.Dense(classes, dtype=keras.config.floatx(), name="logits")(x)
    return keras.Model(image, logits, name="classifier")


def build(image_size=32, classes=10, width=64, head="gap", normalise="none", maps="soft", start=""):
    """-> Networks "classifier": image (B, S, S, 3) in [-1, 1] -> logits (B, classes).

    width: channels of the first convolution. head: "gap" or "fc" (see above). normalise:
    "imagenet" for weights trained elsewhere.
    maps: the map that explains the network: soft, soft_relu, winner, winner_relu, activation.
    start: MODEL:TAG, the weights that training starts from, all but the last layer's.
    """
    if image_size < 32 or classes < 2 or width < 1:
        raise ValueError("image_size must be at least 32, classes 2, width 1")
    if head not in HEADS:
        raise ValueError(f"unknown head {head!r}: vgg16 has {', '.join(HEADS)}")
    imagenet.check(normalise)
    return of_classifier(
        lambda: classifier(image_size, classes, width, head, normalise), start, maps
    )

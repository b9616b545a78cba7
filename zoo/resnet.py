"""ResNet-18: deep residual learning for image recognition (He et al., CVPR 2016).

    image -> 3x3 (S < 128) or 7x7/2, pool/2 -> w -> 2w, /2 -> 4w, /2 = `middle` -> 8w, /2 = `map`
          -> global average = `features` (8w) -> dense -> logits

| paper                                      | here                                  |
|--------------------------------------------|---------------------------------------|
| y = F(x, {W_i}) + x, equation 1            | `residual`                            |
| W_s x where the shape changes, equation 2  | its `shortcut`, a 1x1 convolution     |
| table 1, 18-layer: [2, 2, 2, 2], w = 64    | two blocks in each of four stages     |

Class activation maps need global average pooling and one dense layer at the end, as here. The
metrics read the layers `features`, `logits` and, for sFID, `middle`.
"""

import keras

from .layers import imagenet
from .layers.batch_norm import BatchNorm
from .layers.convolution import Conv2D
from .networks import of_classifier


def convolution(x, filters, size, name, stride=1):
    """(B, H, W, C) -> (B, ceil(H / stride), ..., filters), batch normalised.

    Strided kernels are centred, with zeros of size // 2 on each side.
    """
    if stride > 1 and size > 1:
        x = keras.layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
    elif stride > 1:  # subsampled first: TensorFlow 2.21 crashes on strided 1x1 kernels
        x, stride = keras.layers.MaxPooling2D(1, stride, name=f"{name}_pick")(x), 1
    x = Conv2D(
        filters,
        size,
        strides=stride,
        padding="valid" if stride > 1 else "same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)
    return BatchNorm(name=f"{name}_bn")(x)


def residual(x, filters, stride, name):
    """(B, H, W, C) -> (B, ceil(H / stride), ..., filters): two 3x3 convolutions and a shortcut."""
    y = convolution(x, filters, 3, f"{name}_1", stride)
    y = keras.layers.ReLU(name=f"{name}_1_relu")(y)
    y = convolution(y, filters, 3, f"{name}_2")
    if stride > 1 or x.shape[-1] != filters:
        x = convolution(x, filters, 1, f"{name}_shortcut", stride)
    return keras.layers.ReLU(name=name)(keras.layers.Add(name=f"{name}_add")([x, y]))


def classifier(image_size, classes, width, normalise):
    """image (B, S, S, 3) in [-1, 1] -> logits (B, classes); see `build`."""
    image = keras.Input((image_size, image_size, 3), name="image")
    x = imagenet.normalised(image, normalise)
    if image_size < 128:
        x = keras.layers.ReLU(name="stem_relu")(convolution(x, width, 3, "stem"))
    else:
        x = keras.layers.ReLU(name="stem_relu")(convolution(x, width, 7, "stem", 2))
        x = keras.layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
        x = keras.layers.MaxPooling2D(3, 2, name="stem_pool")(x)
    for i, name in enumerate(("stage1", "stage2", "middle", "map")):
        x = residual(x, width * 2**i, 2 if i else 1, f"{name}_in")
        x = residual(x, width * 2**i, 1, name)
    x = keras.layers.GlobalAveragePooling2D(name="features")(x)  # (B, 8 W)
    logits = keras.layers.Dense(classes, dtype=keras.config.floatx(), name="logits")(x)
    return keras.Model(image, logits, name="classifier")


def build(image_size=32, classes=10, width=64, normalise="none", start=""):
    """-> Networks "classifier": image (B, S, S, 3) in [-1, 1] -> logits (B, classes).

    width: channels of the first stage. normalise: "imagenet" for weights trained elsewhere
    (zoo.layers.imagenet).
    start: MODEL:TAG, the weights that training starts from, all but the last layer's.
    """
    if image_size < 8 or classes < 2 or width < 1:
        raise ValueError("image_size must be at least 8, classes 2, width 1")
    imagenet.check(normalise)
    return of_classifier(lambda: classifier(image_size, classes, width, normalise), start)

"""ResNet-18: deep residual learning for image recognition (He et al., CVPR 2016).

    image -> 3x3 (S < 128) or 7x7/2, pool/2 -> w -> 2w, /2 -> 4w, /2 = `middle` -> 8w, /2 = `map`
          -> global average = `features` (8w) -> dense -> logits

| paper                                      | here                                  |
|--------------------------------------------|---------------------------------------|
| y = F(x, {W_i}) + x, equation 1            | `residual`                            |
| W_s x where the shape changes, equation 2  | its `shortcut`, a 1x1 convolution     |
| table 1, 18-layer: [2, 2, 2, 2], w = 64    | two blocks in each of four stages     |

With an output stride of 16, 8 or 4 the last maps are larger: strides become dilation (Chen et al.,
2017, section 3.1), with the same weights, so that every second (fourth, ...) value is that of the
network with stride 32.

Class activation maps need global average pooling and one dense layer at the end, as here. The
metrics read the layers `features`, `logits` and, for sFID, `middle`.
"""

import keras

from .layers import imagenet
from .layers.batch_norm import BatchNorm
from .layers.convolution import Conv2D
from .networks import of_classifier

STRIDES = (4, 8, 16, 32)


def convolution(x, filters, size, name, stride=1, dilation=1):
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
        dilation_rate=dilation,
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)
    return BatchNorm(name=f"{name}_bn")(x)


def residual(x, filters, stride, name, dilations=(1, 1)):
    """(B, H, W, C) -> (B, ceil(H / stride), ..., filters): two 3x3 convolutions, each with its
    dilation, and a shortcut."""
    first, second = dilations
    y = convolution(x, filters, 3, f"{name}_1", stride, first)
    y = keras.layers.ReLU(name=f"{name}_1_relu")(y)
    y = convolution(y, filters, 3, f"{name}_2", dilation=second)
    if stride > 1 or x.shape[-1] != filters:
        x = convolution(x, filters, 1, f"{name}_shortcut", stride)
    return keras.layers.ReLU(name=name)(keras.layers.Add(name=f"{name}_add")([x, y]))


def classifier(image_size, classes, width, output_stride, normalise):
    """image (B, S, S, 3) in [-1, 1] -> logits (B, classes); see `build`."""
    image = keras.Input((image_size, image_size, 3), name="image")
    x = imagenet.normalised(image, normalise)
    if image_size < 128:
        x = keras.layers.ReLU(name="stem_relu")(convolution(x, width, 3, "stem"))
    else:
        x = keras.layers.ReLU(name="stem_relu")(convolution(x, width, 7, "stem", 2))
        x = keras.layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
        x = keras.layers.MaxPooling2D(3, 2, name="stem_pool")(x)
    reach = 1 if image_size < 128 else 4  # pixels between values of the network of stride 32
    for i, name in enumerate(("stage1", "stage2", "middle", "map")):
        before, reach = reach, reach * (2 if i else 1)
        stride = reach // before if before < output_stride else 1
        dilations = [max(pixels // output_stride, 1) for pixels in (before, reach)]
        x = residual(x, width * 2**i, stride, f"{name}_in", dilations)
        x = residual(x, width * 2**i, 1, name, dilations[1:] * 2)
    x = keras.layers.GlobalAveragePooling2D(name="features")(x)  # (B, 8 W)
    logits = keras.layers.Dense(classes, dtype=keras.config.floatx(), name="logits")(x)
    return keras.Model(image, logits, name="classifier")


def build(
    image_size=32,
    classes=10,
    width=64,
    output_stride=32,
    normalise="none",
    maps="soft",
    centred=False,
    start="",
):
    """-> Networks "classifier": image (B, S, S, 3) in [-1, 1] -> logits (B, classes).

    width: channels of the first stage. output_stride: pixels between values of the last map at
    most, 32, 16, 8 or 4; images below 128 x 128 have 8 at most. normalise: "imagenet" for weights
    trained elsewhere.
    maps: the map that explains the network: soft, soft_relu, winner, winner_relu, activation.
    centred: the map has the size of the image, and each value is drawn at the centre of the pixels
    that it depends on; False: the map has its own size and is stretched over the image, which moves
    its values by up to half their distance.
    start: MODEL:TAG, the weights that training starts from, all but the last layer's.
    """
    if image_size < 8 or classes < 2 or width < 1:
        raise ValueError("image_size must be at least 8, classes 2, width 1")
    if output_stride not in STRIDES:
        raise ValueError(f"output_stride must be one of 4, 8, 16, 32, not {output_stride}")
    imagenet.check(normalise)
    return of_classifier(
        lambda: classifier(image_size, classes, width, output_stride, normalise),
        start,
        maps,
        centred,
    )

"""EfficientNet-Lite0: EfficientNet, rethinking model scaling for convolutional neural networks (Tan
and Le, ICML 2019), in the variant that its authors published in 2020 for small devices: without
squeeze-and-excitation, with ReLU6 in place of swish.

    image -> 3x3/2 32 -> 7 stages of inverted bottlenecks, the last of stage 5 = `middle`
          -> 1x1 1280 = `map` -> global average = `features` (1280) -> dense -> `logits`

| paper (table 1, B0)                          | here                                           |
|----------------------------------------------|------------------------------------------------|
| stages 2 to 8, MBConv1 and MBConv6           | STAGES, `bottleneck`                           |
| expansion, depthwise convolution, projection | its `_expand`, `_depthwise`, `_project`        |
| stage 9, Conv1x1 & Pooling & FC              | `head` = `map`, `features`, `logits`           |

Channels are those of width 32. An output stride of 16 or 8 in place of 32 keeps the last maps twice
or four times as large: strides become dilation (Chen et al., 2017, section 3.1), with the same
weights.

The authors' padding moves each map of an image of even size away from its middle: value i of the
last map is about pixel 32 i + 31. With an output stride of 16 or 8 the last stride is padded the
other way round, so that value i is about pixel 16 i + 7 or 8 i + 3, its place in a map that is
stretched over the image. In an image of k * output_stride + 1 pixels it is about pixel
output_stride * i.
"""

import keras

from .layers import imagenet
from .layers.batch_norm import BatchNorm
from .layers.convolution import Conv2D
from .networks import of_classifier

STAGES = (  # (expansion, side of the kernel, stride, channels, blocks)
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
MIDDLE = 10  # number of the last block of stride 16
STRIDES = (8, 16, 32)


def normal(fan_out):
    """Kernels from N(0, 2 / fan_out), as its authors have them."""
    return keras.initializers.RandomNormal(stddev=(2 / fan_out) ** 0.5)


def norm(x, name):
    return BatchNorm(momentum=0.99, epsilon=1e-3, name=f"{name}_bn")(x)


def relu6(x, name):
    return keras.layers.ReLU(6.0, name=name)(x)


def convolution(x, filters, name, side=1, stride=1):
    """(B, H, W, C) -> (B, ceil(H / stride), ..., filters), batch normalised."""
    x = Conv2D(
        filters,
        side,
        strides=stride,
        padding="same",
        kernel_initializer=normal(side**2 * filters),
        use_bias=False,
        name=name,
    )(x)
    return norm(x, name)


def depthwise(x, side, stride, dilation, early, name):
    """(B, H, W, C) -> (B, ceil(H / stride), ..., C): a kernel for each channel, batch normalised.
    early: with stride 2 and an even H, value i is about pixel 2 i, not 2 i + 1."""
    early = early and x.shape[1] % 2 == 0
    if early:
        around = (side // 2, side // 2 - 1)
        x = keras.layers.ZeroPadding2D((around, around), name=f"{name}_pad")(x)
    x = keras.layers.DepthwiseConv2D(
        side,
        strides=stride,
        padding="valid" if early else "same",
        dilation_rate=dilation,
        depthwise_initializer=normal(side**2),
        use_bias=False,
        name=name,
    )(x)
    return norm(x, name)


def bottleneck(x, expansion, side, stride, dilation, early, filters, name, out):
    """(B, H, W, C) -> (B, ceil(H / stride), ..., filters), with a shortcut where that has the shape
    of x. early: as of `depthwise`. out: the name of the last layer."""
    y = x
    if expansion > 1:
        y = convolution(y, expansion * x.shape[-1], f"{name}_expand")
        y = relu6(y, f"{name}_expand_relu")
    y = depthwise(y, side, stride, dilation, early, f"{name}_depthwise")
    y = relu6(y, f"{name}_depthwise_relu")
    y = convolution(y, filters, f"{name}_project")
    if stride == 1 and x.shape[-1] == filters:
        return keras.layers.Add(name=out)([y, x])
    return keras.layers.Identity(name=out)(y)


def blocks(x, width, output_stride):
    """Images (B, S, S, 3), normalised -> the last block's output (B, s, s, 10 width), s = ceil(S /
    output_stride)."""
    x = relu6(convolution(x, width, "stem", side=3, stride=2), "stem_relu")
    number, reach = 0, 2  # of the block; pixels between values of the classifier of stride 32
    for expansion, side, stride, channels, count in STAGES:
        filters = channels * width // 32
        for i in range(count):
            dilation = max(reach // output_stride, 1)
            step = stride if i == 0 and reach < output_stride else 1
            early = step * reach == output_stride < 32 and step == 2
            reach *= stride if i == 0 else 1
            out = "middle" if number == MIDDLE else f"block{number}"
            name = f"block{number}"
            x = bottleneck(x, expansion, side, step, dilation, early, filters, name, out)
            number += 1
    return x


def classifier(image_size, classes, width, output_stride, normalise):
    """image (B, S, S, 3) in [-1, 1] -> logits (B, classes); see `build`."""
    image = keras.Input((image_size, image_size, 3), name="image")
    x = blocks(imagenet.normalised(image, normalise), width, output_stride)
    x = relu6(convolution(x, 40 * width, "head"), "map")
    x = keras.layers.GlobalAveragePooling2D(name="features")(x)
    logits = keras.layers.Dense(classes, dtype=keras.config.floatx(), name="logits")(x)
    return keras.Model(image, logits, name="classifier")


def build(
    image_size=224,
    classes=1000,
    width=32,
    output_stride=32,
    normalise="none",
    maps="soft",
    centred=False,
    start="",
):
    """-> Networks "classifier": image (B, S, S, 3) in [-1, 1] -> logits (B, classes).

    width: channels of the first convolution, a multiple of 4; 32 is Lite0. output_stride: pixels
    between values of the last map, 32, 16 or 8. normalise: "imagenet" for weights that take
    ImageNet's mean and deviation; the authors' take "none". maps: the map that explains the
    network: soft, soft_relu, winner, winner_relu, activation. centred: the map has the size of the
    image, and each value is drawn at the centre of the pixels that it depends on; False: the map
    has its own size and is stretched over the image, which moves its values with an output_stride
    of 32 by nearly half their distance. start: MODEL:TAG, the weights that training starts from,
    all but the last layer's.
    """
    if image_size < 32 or classes < 2 or width < 4 or width % 4:
        raise ValueError("image_size must be at least 32, classes 2, width a multiple of 4, from 4")
    if output_stride not in STRIDES:
        raise ValueError(f"output_stride must be one of 8, 16, 32, not {output_stride}")
    imagenet.check(normalise)
    return of_classifier(
        lambda: classifier(image_size, classes, width, output_stride, normalise),
        start,
        maps,
        centred,
    )

"""SqueezeNet 1.1: AlexNet-level accuracy with 50x fewer parameters (Iandola et al., 2016), in the
authors' second version, which pools earlier.

    image -> 3x3/2, pool/2 (S < 128: 3x3) -> fire2, fire3 -> pool/2 -> fire4, fire5 -> pool/2
          -> fire6, fire7 = `middle` -> fire8, fire9 -> head

    gap    fire9 = `map` (8w) -> global average = `features` (8w) -> dense -> `logits`
    conv   fire9 -> 1x1, ReLU = `map` (K) -> global average = `features` (K) = `logits`

| paper                                       | here                                         |
|---------------------------------------------|----------------------------------------------|
| fire module: squeeze, expand (section 3.2)  | `fire`                                       |
| s1x1 = e1x1 / 4 = e3x3 / 4                  | w / 4 twice, w / 2 twice, 3w / 4 twice, w twice |
| conv10 and its ReLU, one channel a class    | `class_map`, `map`                           |

With an output stride of 8 the last maps are larger: the stride of the last pool becomes dilation of
what follows (Chen et al., 2017, section 3.1), with the same weights, so that every second value is
that of the network with stride 16.

The head "conv" is the paper's, for weights trained elsewhere. Its map has one channel per class,
the class activation map: in logits = W mean(map) + b, W is the identity and b is zero, so that
layer `logits` has no kernel and the features are the logits. Logits are never negative, and a class
whose map is zero everywhere stops learning, which happens with few classes; "gap" has no such ReLU.

As it has no batch normalisation, it learns with a learning_rate of 0.01, on `cells` 0.004, which
the recipes have, but not with 0.1.
"""

import keras

from .layers import imagenet
from .layers.convolution import Conv2D
from .networks import of_classifier

HEADS = ("gap", "conv")
STRIDES = (8, 16, 32)


def convolution(
    x, filters, size, name, stride=1, padding="same", relu=None, dtype=None, dilation=1
):
    """(B, H, W, C) -> (B, H', W', filters), after a ReLU."""
    x = Conv2D(
        filters,
        size,
        strides=stride,
        padding=padding,
        dilation_rate=dilation,
        kernel_initializer="he_normal",
        dtype=dtype,
        name=name,
    )(x)
    return keras.layers.ReLU(dtype=dtype, name=relu or f"{name}_relu")(x)


def pool(x, name, stride=2):
    """(B, H, W, C) -> (B, floor(H / 2), ..., C): maxima of 3x3 windows with stride 2. The last
    window of an even map reaches over the edge. With stride 1 the shape stays."""
    padding = "valid" if x.shape[1] % 2 and stride == 2 else "same"
    return keras.layers.MaxPooling2D(3, stride, padding=padding, name=name)(x)


def fire(x, squeeze, name, joined, dilation=1):
    """(B, H, W, C) -> (B, H, W, 8 squeeze): a 1x1 convolution, then 1x1 and 3x3 side by side."""
    x = convolution(x, squeeze, 1, f"{name}_squeeze")
    one = convolution(x, 4 * squeeze, 1, f"{name}_expand1")
    three = convolution(x, 4 * squeeze, 3, f"{name}_expand3", dilation=dilation)
    return keras.layers.Concatenate(name=joined)([one, three])


def classifier(image_size, classes, width, head, output_stride, normalise):
    """image (B, S, S, 3) in [-1, 1] -> logits (B, classes); see `build`."""
    image = keras.Input((image_size, image_size, 3), name="image")
    x = imagenet.normalised(image, normalise)
    if image_size < 128:
        x = convolution(x, width, 3, "stem")
    else:
        x = pool(convolution(x, width, 3, "stem", 2, "valid"), "stem_pool")
    names = {7: "middle"} | ({9: "map"} if head == "gap" else {})
    reach = 1 if image_size < 128 else 4  # pixels between values of the network of stride 16
    for number in range(2, 10):
        if number in (4, 6):
            x = pool(x, f"fire{number}_pool", 2 if reach < output_stride else 1)
            reach *= 2
        joined = names.get(number, f"fire{number}")
        dilation = max(reach // output_stride, 1)
        x = fire(x, width // 4 * (number // 2), f"fire{number}", joined, dilation)
    full = keras.config.floatx()
    if head == "conv":
        x = convolution(x, classes, 1, "class_map", relu="map", dtype=full)  # (B, s, s, K)
    x = keras.layers.GlobalAveragePooling2D(dtype=full, name="features")(x)
    if head == "conv":
        logits = keras.layers.Identity(dtype=full, name="logits")(x)
    else:
        logits = keras.layers.Dense(classes, dtype=full, name="logits")(x)
    return keras.Model(image, logits, name="classifier")


def build(
    image_size=32,
    classes=10,
    width=64,
    head="gap",
    output_stride=32,
    normalise="none",
    maps="soft",
    centred=False,
    start="",
):
    """-> Networks "classifier": image (B, S, S, 3) in [-1, 1] -> logits (B, classes).

    width: channels of the first convolution, a multiple of 4. head: "gap" or "conv".
    output_stride: pixels between values of the last map at most, 32 (as 16) or 8; images below 128
    x 128 have 4. normalise: "imagenet" for weights trained elsewhere.
    maps: the map that explains the network: soft, soft_relu, winner, winner_relu, activation.
    centred: the map has the size of the image, and each value is drawn at the centre of the pixels
    that it depends on; False: the map has its own size and is stretched over the image, which moves
    its values by up to half their distance.
    start: MODEL:TAG, the weights that training starts from, all but the last layer's.
    """
    if image_size < 32 or classes < 2 or width < 4 or width % 4:
        raise ValueError("image_size must be at least 32, classes 2, width a multiple of 4, from 4")
    if head not in HEADS:
        raise ValueError(f"unknown head {head!r}: squeezenet has {', '.join(HEADS)}")
    if output_stride not in STRIDES:
        raise ValueError(f"output_stride must be one of 8, 16, 32, not {output_stride}")
    imagenet.check(normalise)
    return of_classifier(
        lambda: classifier(image_size, classes, width, head, output_stride, normalise),
        start,
        maps,
        centred,
    )

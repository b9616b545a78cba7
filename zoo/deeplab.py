"""DeepLab-LargeFOV: semantic image segmentation with deep convolutional nets and fully connected
CRFs (Chen, Papandreou, Kokkinos, Murphy, Yuille, ICLR 2015), over VGG16 (zoo.vgg), or over
EfficientNet-Lite0 (zoo.efficientnet_lite) with dilation in place of its last strides.

    image -> 2 conv w, pool/2 -> 2 conv 2w, pool/2 -> 3 conv 4w, pool/2 -> 3 conv 8w
          -> pool/1 -> 3 conv 8w, dilated -> pool/1 -> fc6: 3x3, 12 apart -> fc7: 1x1
          -> 1x1 = `logits` (S/8, S/8, K) -> bilinear -> (S, S, K)

| paper (sections 3, 5)                         | here                                             |
|-----------------------------------------------|--------------------------------------------------|
| VGG16's convolutions                          | `conv1_1` .. `conv5_3`, each with a ReLU         |
| max pooling that skips subsampling, "hole"    | `pool4`, `pool5` of stride 1; dilation behind    |
| input stride 12 of the first dense layer      | `dilation` of `fc6`                              |
| 1024 filters of both dense layers             | `fc`                                             |
| score map, interpolated by 8                  | `logits`, `segmentation`                         |

For other strides than 8, or images below 128 x 128, dilation follows the same rule: each
convolution reaches as far across the image as its counterpart in zoo.vgg's classifier, whose
weights `start` copies. With backbone="efficientnet_lite0" its last block takes the place of
conv5_3 and pool5. The CRF is not part of the network: see evaluate.crf.
"""

import keras
import numpy as np
from keras import ops

from ..common import interpolation
from . import efficientnet_lite
from .layers import imagenet
from .layers.convolution import Conv2D
from .networks import Networks, copy_backbone

BACKBONES = ("vgg16", "efficientnet_lite0")


@keras.saving.register_keras_serializable("zoo")
class Interpolated(keras.layers.Layer):
    """(B, h, w, C) -> (B, size, size, C), bilinear interpolation by two matrix products.

    Samples lie `stride` pixels apart, centred in the image; beyond them the outermost values go on.
    """

    def __init__(self, size, stride, **kwargs):
        super().__init__(**kwargs)
        self.size, self.stride = size, stride

    def call(self, x):
        rows, columns = (ops.cast(self._weights(side), x.dtype) for side in x.shape[1:3])
        x = ops.einsum("ih,bhwc->biwc", rows, x)
        return ops.einsum("jw,biwc->bijc", columns, x)

    def _weights(self, side):
        """(size, side): weights of linear interpolation between points `stride` pixels apart."""
        first = (self.size - 1 - self.stride * (side - 1)) / 2
        return interpolation.at((np.arange(self.size) - first) / self.stride, side)

    def compute_output_shape(self, shape):
        return (shape[0], self.size, self.size, shape[3])

    def get_config(self):
        return {**super().get_config(), "size": self.size, "stride": self.stride}


def conv(x, channels, side, name, dilation=1):
    """(B, H, W, C) -> (B, H, W, channels): a convolution and a ReLU."""
    x = Conv2D(
        channels,
        side,
        padding="same",
        dilation_rate=dilation,
        kernel_initializer="he_normal",
        name=name,
    )(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def build(
    image_size=321,
    classes=21,
    backbone="vgg16",
    width=64,
    fc=1024,
    stride=8,
    dilation=12,
    normalise="none",
    start="",
):
    """-> Networks "segmenter": image (B, S, S, 3) in [-1, 1] -> logits (B, S, S, classes).

    S is k * stride, with VGG's 2x2 pooling, or k * stride + 1, with the paper's pooling of 3x3
    around the pixel that is kept. classes: with the background, which is the first one. backbone:
    vgg16 or efficientnet_lite0. width: channels of the first convolution; fc: of fc6 and fc7.
    stride: pixels between scores, 2, 4 or 8 (efficientnet_lite0: 8 or 16). dilation: of fc6, in
    scores. normalise: "imagenet" for weights trained elsewhere. start: MODEL:TAG, the weights that
    training starts from: a classifier's, all but those of fc6, fc7 and the last layer, or a
    segmenter's, all but the last layer's.
    """
    if backbone not in BACKBONES:
        raise ValueError(f"backbone takes one of {', '.join(BACKBONES)}, not {backbone!r}")
    strides = (2, 4, 8) if backbone == "vgg16" else (8, 16)
    if stride not in strides or image_size < 32 or image_size % stride > 1:
        raise ValueError(
            f"stride must be one of {', '.join(map(str, strides))} with backbone={backbone}, "
            "image_size a multiple of it, or one more, from 32"
        )
    if classes < 2 or min(width, fc, dilation) < 1:
        raise ValueError("classes must be at least 2, width, fc and dilation 1")
    imagenet.check(normalise)

    def transfer(source):
        new = () if "fc6" in (layer.name for layer in source.layers) else ("fc6", "fc7")
        copy_backbone(networks["segmenter"], source, new)

    networks = Networks(
        {
            "segmenter": lambda: segmenter(
                image_size, classes, backbone, width, fc, stride, dilation, normalise
            )
        },
        start=start,
        transfer=transfer,
    )
    return networks


def vgg_features(x, width, stride):
    """Images (B, S, S, 3) -> VGG16's convolutions and pool5 (B, s, s, 8 width)."""
    image_size = x.shape[1]
    reduced = {"pool_size": 2} if image_size % stride == 0 else {"pool_size": 3, "padding": "same"}
    kept = {"pool_size": 3, "strides": 1, "padding": "same"}
    reach = 1  # pixels between the classifier's values; here they are at most `stride` apart
    for block, convolutions in enumerate((2, 2, 3, 3, 3), start=1):
        if block > 1 and reach < (16 if image_size >= 128 else 8):
            pool = {**reduced, "strides": 2} if reach < stride else kept
            x = keras.layers.MaxPooling2D(**pool, name=f"pool{block - 1}")(x)
            reach *= 2
        for i in range(convolutions):
            name, apart = f"conv{block}_{i + 1}", max(reach // stride, 1)
            x = conv(x, width * min(2 ** (block - 1), 8), 3, name, apart)
    return keras.layers.MaxPooling2D(**kept, name="pool5")(x)


def segmenter(image_size, classes, backbone, width, fc, stride, dilation, normalise):
    """image (B, S, S, 3) in [-1, 1] -> logits (B, S, S, classes); see `build`."""
    image = keras.Input((image_size, image_size, 3), name="image")
    x = imagenet.normalised(image, normalise)
    if backbone == "vgg16":
        x = vgg_features(x, width, stride)
    else:
        x = efficientnet_lite.blocks(x, width, stride)
    x = conv(x, fc, 3, "fc6", dilation)
    x = conv(x, fc, 1, "fc7")
    small = keras.initializers.RandomNormal(stddev=0.01)
    full = {"dtype": keras.config.floatx()}
    x = Conv2D(classes, 1, kernel_initializer=small, name="logits", **full)(x)
    logits = Interpolated(image_size, stride, name="segmentation", **full)(x)
    return keras.Model(image, logits, name="segmenter")

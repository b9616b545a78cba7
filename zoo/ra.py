"""RA: CycleGAN's generator with residual attention (Wang et al.: Residual Attention Network for
Image Classification, CVPR 2017), a baseline of Mejjati et al. (NeurIPS 2018) and of AttentionGAN's
tables. No text or code of this system is public: what follows is our reading of its name.

    G, F   image -> stem, down, down -> residual -> residual, residual -> T
                                           \\-> mask branch -> 1x1, 1x1 -> sigmoid -> M
           H = (1 + M) T -> residual -> up, up -> 7x7 3 -> tanh
    M      max pool, residual -> max pool, residual -> residual -> bilinear
               + residual -> residual -> bilinear

| Wang et al. (section 3)                    | here                                              |
|--------------------------------------------|---------------------------------------------------|
| F, x, the input of the attention module    | the features (B, H / 4, W / 4, 4 w), w = `width`  |
| p = 1, t = 2, r = 1 residual units         | `first` and `last`; `trunk`; one at each place    |
| T(x), the trunk branch                     | `trunk`                                           |
| M(x), the soft mask branch                 | `mask_branch`, one mask for each channel          |
| mixed attention, a sigmoid                 | `head`                                            |
| H = (1 + M) * T (equation 3)               | `attend`                                          |
| down sample, up sample                     | `levels` max pools of 3x3, bilinear interpolation |

The nine residual blocks of CycleGAN become one attention module of 3 `levels` + 3 = 9 residual
units of the same kind and two 1x1 convolutions. The stem, the rest of the generator and the
discriminators are CycleGAN's (zoo.cyclegan). The output "masks" is the mean of M over its channels,
enlarged to the image. It shows where features are strengthened, and does not protect the
background: the whole picture is painted anew.
"""

from functools import partial

import keras
from keras import ops

from . import cyclegan
from .layers.precision import Float32
from .layers.sizes import EnlargeTo
from .networks import Networks


def unit(x, name):
    """cyclegan.residual padded by zeros, as in Wang et al., for maps of any size."""
    y = cyclegan.active(cyclegan.down(x, x.shape[-1], f"{name}_1", strides=1), f"{name}_1")
    y = cyclegan.norm(cyclegan.down(y, x.shape[-1], f"{name}_2", strides=1), f"{name}_2")
    return keras.layers.Add(name=name)([x, y])


def pool(x, name):
    """(B, H, W, C) -> half the size, the larger half of an odd one. Output i is the maximum around
    input 2i; the mirrored border changes no maximum."""
    x = ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="symmetric")
    return keras.layers.MaxPooling2D(3, 2, name=name)(x)


def mask_branch(x, levels):
    """(B, H, W, C) -> the same shape, before the head."""
    like, skips = x, []
    for i in range(levels):
        x = unit(pool(x, f"pool{i}"), f"mask_down{i}")
        skips.append(x)
    x = unit(x, "mask_bottom")
    for i in reversed(range(levels - 1)):
        x = EnlargeTo(2, name=f"enlarge{i}")(x, skips[i])
        x = keras.layers.Add(name=f"mask_add{i}")([x, unit(skips[i], f"mask_skip{i}")])
        x = unit(x, f"mask_up{i}")
    return EnlargeTo(2, name="enlarge")(x, like)


def head(x):
    """(B, H, W, C) -> M, the same shape, in [0, 1]: twice normalisation, ReLU, 1x1 convolution."""
    for i in (1, 2):
        name = f"mask_head{i}"
        x = cyclegan.convolution(cyclegan.active(x, name), x.shape[-1], 1, name)
    return keras.layers.Activation("sigmoid", name="mask")(x)


def attend(mask, trunk):
    """(1 + M) T; both (B, H, W, C)."""
    return (1 + mask) * trunk


def attention_module(x, levels):
    """x (B, H, W, C) -> the same shape, M (B, H, W, C)."""
    x = cyclegan.residual(x, "first")
    trunk = cyclegan.residual(cyclegan.residual(x, "trunk1"), "trunk2")
    mask = head(mask_branch(x, levels))
    return cyclegan.residual(attend(mask, trunk), "last"), mask


def generator(width, levels, name):
    """image (B, H, W, 3) in [-1, 1] -> {"translated": the same, "masks": (B, H, W, 1) in [0, 1]}; H
    and W are multiples of 4 from 8."""
    image = keras.Input((None, None, 3), name="image")
    x, mask = attention_module(cyclegan.encode(image, width, 0), levels)
    translated = cyclegan.to_pictures(cyclegan.decode(x, width), 1, "to_rgb")
    full = keras.config.floatx()
    mask = ops.mean(Float32(name="mask_float32")(mask), axis=-1, keepdims=True)
    masks = ops.minimum(EnlargeTo(4, dtype=full, name="masks")(mask, image), 1)
    return keras.Model(image, {"translated": translated, "masks": masks}, name=name)


def build(image_size=256, width=64, levels=2):
    """-> Networks "a2b", "b2a": image (B, H, W, 3) in [-1, 1] -> {"translated": the same, "masks":
    (B, H, W, 1) in [0, 1]}, H and W any multiples of 4 from 8; "discriminator_a",
    "discriminator_b": image (B, S, S, 3) -> logits (B, s, s, 1).

    width: channels of the largest maps. levels: max pools of the mask branch, whose smallest map is
    at least 2 x 2.
    """
    cyclegan.check(image_size, width, 1)
    if levels < 1 or image_size < 8 * 2**levels:
        raise ValueError(
            f"levels must lie between 1 and log2(image_size / 8), not {levels} at {image_size}"
        )
    makers = {name: partial(generator, width, levels, name) for name in ("a2b", "b2a")}
    return Networks(makers | cyclegan.discriminators(image_size, width))

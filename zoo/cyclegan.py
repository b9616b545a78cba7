"""CycleGAN: unpaired image-to-image translation using cycle-consistent adversarial networks (Zhu et
al., 2017).

    G, F  image -> 7x7 w -> down 2w -> down 4w -> residual x 9 -> up 2w -> up w -> 7x7 3 -> tanh
    D     image -> down w -> down 2w -> down 4w -> 4x4 8w -> 4x4 -> a logit for each 70 x 70 patch

| paper (section 4 and the appendix)         | here                                        |
|--------------------------------------------|---------------------------------------------|
| G: X -> Y, F: Y -> X                       | `a2b`, `b2a`                                |
| D_X, D_Y                                   | `discriminator_a`, `discriminator_b`        |
| c7s1-64, dk, uk                            | `stem`, `down`, `up`; w = `width`           |
| Rk, two 3x3 convolutions and a sum         | `residual`; `blocks` of them                |
| reflection padding                         | `reflect`                                   |
| instance normalisation                     | `norm`, without scale and offset            |
| C64-C128-C256-C512, PatchGAN               | `discriminator`                             |
| weights from N(0, 0.02)                    | `dcgan.NORMAL`                              |

Padding and cropping are those of PyTorch's padding=1 and output_padding=1, which differ from Keras'
"same" padding, so that published checkpoints give the same images as in PyTorch. AttentionGAN
builds on these parts.
"""

from functools import partial

import keras
from keras import ops

from . import dcgan
from .layers.convolution import Conv2D, DoublingConv2DTranspose
from .layers.instance_norm import InstanceNorm
from .layers.precision import Float32
from .networks import Networks


def check(image_size, width, blocks):
    """Raises ValueError for options that make no network; PatchGAN's last map needs 24 pixels."""
    if image_size < 24 or image_size % 4:
        raise ValueError(f"image_size must be a multiple of 4 from 24, not {image_size}")
    if width < 1 or blocks < 1:
        raise ValueError("width and blocks must be at least 1")


def norm(x, name):
    """Instance normalisation: mean 0 and deviation 1 for each channel of each image."""
    return InstanceNorm(name=f"{name}_norm")(x)


def active(x, name):
    """Instance normalisation and ReLU."""
    return keras.layers.ReLU(name=f"{name}_relu")(norm(x, name))


def reflect(x, by):
    """(B, H, W, C) -> (B, H + 2 by, W + 2 by, C), mirrored about the outermost pixels."""
    return ops.pad(x, ((0, 0), (by, by), (by, by), (0, 0)), mode="reflect")


def convolution(x, filters, side, name, **options):
    """A convolution without padding. It has a bias, since instance normalisation here has none."""
    return Conv2D(filters, side, kernel_initializer=dcgan.NORMAL, name=name, **options)(x)


def down(x, filters, name, side=3, strides=2, **options):
    """(B, H, W, C) -> (B, H / 2, W / 2, filters): zero padding and a convolution alone."""
    if side == 3:
        return convolution(x, filters, side, name, strides=strides, around=1, **options)
    x = keras.layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    return convolution(x, filters, side, name, strides=strides, **options)


def residual(x, name):
    """(B, H, W, C) -> the same shape."""
    filters = x.shape[-1]
    y = active(convolution(reflect(x, 1), filters, 3, f"{name}_1"), f"{name}_1")
    y = norm(convolution(reflect(y, 1), filters, 3, f"{name}_2"), f"{name}_2")
    return keras.layers.Add(name=name)([x, y])


def up(x, filters, name):
    """(B, H, W, C) -> (B, 2H, 2W, filters): transposed convolution, normalisation, ReLU."""
    x = DoublingConv2DTranspose(filters, kernel_initializer=dcgan.NORMAL, name=name)(x)
    return active(x, name)


def encode(image, width, blocks):
    """image (B, H, W, 3) -> features (B, H / 4, W / 4, 4 width)."""
    x = active(convolution(reflect(image, 3), width, 7, "stem"), "stem")
    for i in (1, 2):
        x = active(down(x, width * 2**i, f"down{i}"), f"down{i}")
    for i in range(blocks):
        x = residual(x, f"block{i}")
    return x


def decode(x, width, prefix=""):
    """features (B, H / 4, W / 4, 4 width) -> (B, H, W, width)."""
    return up(up(x, 2 * width, f"{prefix}up1"), width, f"{prefix}up2")


def to_pictures(x, count, name):
    """(B, H, W, C) -> `count` pictures (B, H, W, 3 count) in [-1, 1]."""
    full = keras.config.floatx()
    x = Float32(name=f"{name}_float32")(convolution(reflect(x, 3), 3 * count, 7, name, dtype=full))
    return keras.layers.Activation("tanh", dtype=full, name=f"{name}_tanh")(x)


def generator(width, blocks, name):
    """image (B, H, W, 3) in [-1, 1] -> {"translated": the same}; H, W multiples of 4 from 8."""
    image = keras.Input((None, None, 3), name="image")
    x = decode(encode(image, width, blocks), width)
    return keras.Model(image, {"translated": to_pictures(x, 1, "to_rgb")}, name=name)


def discriminator(image_size, width, name, channels=3):
    """(B, S, S, channels) -> logits (B, S / 8 - 2, S / 8 - 2, 1), each of 70 x 70 pixels.

    The first convolution has no normalisation.
    """
    image = keras.Input((image_size, image_size, channels), name="image")
    x = down(image, width, "down1", 4)
    for i, strides in ((2, 2), (3, 2), (4, 1)):
        x = keras.layers.LeakyReLU(0.2, name=f"down{i - 1}_lrelu")(x)
        x = norm(down(x, width * 2 ** (i - 1), f"down{i}", 4, strides), f"down{i}")
    x = keras.layers.LeakyReLU(0.2, name="down4_lrelu")(x)
    logits = down(x, 1, "logits", 4, strides=1, dtype=keras.config.floatx())
    return keras.Model(image, logits, name=name)


def build(image_size=256, width=64, blocks=9):
    """-> Networks "a2b", "b2a": image (B, H, W, 3) in [-1, 1] -> {"translated": the same}, H and W
    any multiples of 4 from 8; "discriminator_a", "discriminator_b": image (B, S, S, 3) -> logits
    (B, s, s, 1).

    width: channels of the largest maps. blocks: number of residual blocks (paper: 9, and 6 below
    256 pixels).
    """
    check(image_size, width, blocks)
    makers = {name: partial(generator, width, blocks, name) for name in ("a2b", "b2a")}
    return Networks(makers | discriminators(image_size, width))


def discriminators(image_size, width, kind="discriminator", channels=3):
    """Makers of the two discriminators KIND_a and KIND_b, for Networks."""
    names = (f"{kind}_a", f"{kind}_b")
    return {name: partial(discriminator, image_size, width, name, channels) for name in names}

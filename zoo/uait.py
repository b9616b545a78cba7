"""UAIT: unsupervised attention-guided image-to-image translation (Mejjati, Richardt, Tompkin,
Cosker and Kim, 2018).

    F   image -> 7x7 w -> down 2w -> down 4w -> residual x 9 -> up 2w -> up w -> 7x7 3 -> tanh
    A   image -> 7x7 down w -> down 2w -> residual -> twice as large, 1x1 2w
              -> twice as large, 1x1 w -> 1x1 1 -> sigmoid
    s' = A(s) F(s) + (1 - A(s)) s
    D   image -> 4x4 down 2w -> down 4w -> down 8w -> 4x4 16w -> 4x4 -> a logit for each 70 x 70

| paper (section 3)                          | here                                           |
|--------------------------------------------|------------------------------------------------|
| S, T                                       | domains a, b                                   |
| F_S->T, F_T->S                             | `content`: "contents" of `a2b`, `b2a`          |
| A_S, A_T                                   | `attention`: "masks" of `a2b`, `b2a`           |
| s', t'                                     | attention_gan.fuse: "translated"               |
| D_S, D_T                                   | `discriminator_a`, `discriminator_b`           |
| instance normalisation, scale and offset   | `norm`; w = `width`                            |

The layers of A have names with mask_. Strides pad as TensorFlow's "SAME" does, and F pads with
zeros, A by reflection.
"""

from functools import partial

import keras
from keras import ops

from . import attention_gan, cyclegan
from .layers.affine import Affine
from .layers.convolution import Conv2D, Conv2DTranspose
from .layers.instance_norm import InstanceNorm
from .layers.precision import Float32
from .networks import Networks

INITIAL = {"class_name": "TruncatedNormal", "config": {"mean": 0.0, "stddev": 0.02}}
KERNELS = {False: (1, 1, 1), True: (3, 3, 7)}  # option `wide`: of the mask's last convolutions


def check(image_size, width, blocks):
    """Raises ValueError for options that make no network."""
    if image_size < 16 or image_size % 4:
        raise ValueError(f"image_size must be a multiple of 4 from 16, not {image_size}")
    if width < 1 or blocks < 1:
        raise ValueError("width and blocks must be at least 1")


def convolution(x, filters, side, name, **options):
    """Conv2D of the zoo's layers, whose options these are."""
    return Conv2D(filters, side, kernel_initializer=INITIAL, name=name, **options)(x)


def norm(x, name):
    """Instance normalisation with a learned scale and offset."""
    return Affine(0.02, name=f"{name}_affine")(InstanceNorm(name=f"{name}_norm")(x))


def active(x, name):
    """`norm` and ReLU."""
    return keras.layers.ReLU(name=f"{name}_relu")(norm(x, name))


def residual(x, name, reflect=False):
    """(B, H, W, C) -> the same shape, with a ReLU after the sum. reflect: pad by reflection."""

    def convolve(x, name):
        if reflect:
            return convolution(cyclegan.reflect(x, 1), x.shape[-1], 3, name)
        return convolution(x, x.shape[-1], 3, name, padding="same")

    y = active(convolve(x, f"{name}_1"), f"{name}_1")
    y = norm(convolve(y, f"{name}_2"), f"{name}_2")
    return keras.layers.ReLU(name=f"{name}_relu")(keras.layers.Add(name=name)([x, y]))


def up(x, filters, name):
    """(B, H, W, C) -> (B, 2H, 2W, filters): transposed convolution, normalisation, ReLU."""
    options = {"strides": 2, "padding": "same", "kernel_initializer": INITIAL, "name": name}
    return active(Conv2DTranspose(filters, 3, **options)(x), name)


def content(image, width, blocks):
    """F: image (B, H, W, 3) -> an image of the other domain (B, H, W, 3) in [-1, 1]."""
    full = keras.config.floatx()
    x = active(convolution(image, width, 7, "stem", padding="same"), "stem")
    for i in (1, 2):
        name, filters = f"down{i}", width * 2**i
        x = active(convolution(x, filters, 3, name, strides=2, padding="same"), name)
    for i in range(blocks):
        x = residual(x, f"block{i}")
    x = up(up(x, 2 * width, "up1"), width, "up2")
    x = convolution(x, 3, 7, "to_rgb", padding="same", dtype=full)
    return keras.layers.Activation("tanh", dtype=full, name="content")(Float32(name="float32")(x))


def attention(image, width, wide):
    """A: image (B, H, W, 3) -> the mask of what is to change (B, H, W, 1) in [0, 1]."""
    full = keras.config.floatx()
    x = convolution(cyclegan.reflect(image, 3), width, 7, "mask_stem", strides=2)
    x = active(x, "mask_stem")
    x = convolution(x, 2 * width, 3, "mask_down", strides=2, padding="same")
    x = residual(active(x, "mask_down"), "mask_block", reflect=True)
    first, second, last = KERNELS[wide]
    for i, filters, side in ((1, 2 * width, first), (2, width, second)):
        x = keras.layers.UpSampling2D(2, name=f"mask_larger{i}")(x)
        x = convolution(cyclegan.reflect(x, side // 2), filters, side, f"mask_up{i}")
        x = active(x, f"mask_up{i}")
    x = convolution(cyclegan.reflect(x, last // 2), 1, last, "mask_logit", dtype=full)
    x = Float32(name="mask_float32")(x)
    return keras.layers.Activation("sigmoid", dtype=full, name="mask")(x)


def generator(width, blocks, wide, name):
    """image (B, H, W, 3) in [-1, 1] -> {"translated", "masks", "contents"}; see `build`."""
    image = keras.Input((None, None, 3), name="image")
    mask = attention(image, width, wide)
    contents = ops.expand_dims(content(image, width, blocks), -2)
    translated = attention_gan.fuse(image, mask, 1 - mask, contents)
    outputs = {"translated": translated, "masks": mask, "contents": contents}
    return keras.Model(image, outputs, name=name)


def discriminator(image_size, width, name):
    """image (B, S, S, 3) -> logits (B, S / 8 + 3, S / 8 + 3, 1), each of 70 x 70 pixels.

    All convolutions but the last have a normalisation, which the second stage of training leaves
    out.
    """
    x = image = keras.Input((image_size, image_size, 3), name="image")
    for i, strides in ((1, 2), (2, 2), (3, 2), (4, 1)):
        filters = width * 2 ** (i - 1)
        x = norm(convolution(x, filters, 4, f"down{i}", strides=strides, around=2), f"down{i}")
        x = keras.layers.LeakyReLU(0.2, name=f"down{i}_lrelu")(x)
    logits = convolution(x, 1, 4, "logits", around=2, dtype=keras.config.floatx())
    return keras.Model(image, logits, name=name)


def build(image_size=256, width=32, blocks=9, wide=False):
    """-> Networks "a2b", "b2a": image (B, H, W, 3) in [-1, 1] -> {"translated": the same, "masks":
    (B, H, W, 1) in [0, 1], "contents": (B, H, W, 1, 3) in [-1, 1]}, H and W any multiples of 4 from
    8; "discriminator_a", "discriminator_b": image (B, S, S, 3) -> logits (B, s, s, 1).

    width: channels of the largest maps of F and A; the discriminators have twice as many. blocks:
    number of F's residual blocks. wide: kernels of 3, 3 and 7 in the last layers of A, in place of
    1, with which a mask is constant on squares of 4 x 4 pixels.
    """
    check(image_size, width, blocks)
    makers = {name: partial(generator, width, blocks, wide, name) for name in ("a2b", "b2a")}
    for name in ("discriminator_a", "discriminator_b"):
        makers[name] = partial(discriminator, image_size, 2 * width, name)
    return Networks(makers)

"""DualGAN: unsupervised dual learning for image-to-image translation (Yi et al., 2017).

    G   image -> down w -> down 2w -> down 4w -> down 8w -> ... -> down 8w 1x1
              -> up 8w -> ... -> up 8w -> up 4w -> up 2w -> up w -> up 3 -> tanh       a U-Net
    D   image -> PatchGAN, a score for each 70 x 70 patch                (critic="patch")
        image -> down w -> down 2w -> down 4w -> 5x5 8w -> dense -> score  ("global")

| paper (section 3)                               | here                                         |
|-------------------------------------------------|----------------------------------------------|
| domains U, V                                    | A, B                                         |
| G_A: U -> V, G_B: V -> U                        | `a2b`, `b2a`                                 |
| D_A, which judges images in V; D_B, those in U  | `discriminator_b`, `discriminator_a`         |
| skip connections between mirrored layers        | `Concatenate`: each map of the way down is   |
|                                                 | joined to the map of its size on the way up  |
| z, noise in the form of dropout                 | `layers.dropout`, on the first three `up`    |

A level is a 5x5 convolution with stride 2. There are as many as lead to a map of 1 x 1, eight at
256 x 256. That map is not normalised, since each of its values would become 0. Convolutions have
biases; instance normalisation has a scale and an offset.
"""

from functools import partial

import keras

from . import cyclegan, dcgan
from .layers.affine import Affine
from .layers.convolution import Conv2D, Conv2DTranspose
from .layers.dropout import Dropout
from .layers.instance_norm import InstanceNorm
from .layers.precision import Float32
from .networks import Networks

CRITICS = ("patch", "global")
OPTIONS = {"padding": "same", "kernel_initializer": dcgan.NORMAL}


def norm(x, name):
    """Instance normalisation with a scale and an offset for each channel."""
    return Affine(deviation=0.02, name=f"{name}_affine")(InstanceNorm(name=f"{name}_norm")(x))


def down(x, filters, name, strides=2):
    """(B, H, W, C) -> (B, H / strides, W / strides, filters): the convolution alone."""
    return Conv2D(filters, 5, strides=strides, name=name, **OPTIONS)(x)


def up(x, filters, name, **options):
    """(B, H, W, C) -> (B, 2H, 2W, filters): ReLU and the transposed convolution."""
    x = keras.layers.ReLU(name=f"{name}_relu")(x)
    return Conv2DTranspose(filters, 5, strides=2, name=name, **OPTIONS, **options)(x)


def leaky(x, name):
    return keras.layers.LeakyReLU(0.2, name=f"{name}_lrelu")(x)


def generator(image_size, width, dropout, name):
    """image (B, H, W, 3) in [-1, 1] -> {"translated": the same}; H, W multiples of image_size."""
    image = keras.Input((None, None, 3), name="image")
    levels = image_size.bit_length() - 1
    widths = [width * min(2**i, 8) for i in range(levels)]
    maps = [down(image, width, "down1")]
    for i, filters in enumerate(widths[1:], 2):
        x = down(leaky(maps[-1], f"down{i - 1}"), filters, f"down{i}")
        maps.append(norm(x, f"down{i}") if i < levels else x)
    x = maps.pop()
    for i, filters in enumerate(reversed(widths[:-1]), 1):
        x = norm(up(x, filters, f"up{i}"), f"up{i}")
        if i <= 3 and dropout:
            x = Dropout(dropout, name=f"up{i}_dropout")(x)
        x = keras.layers.Concatenate(name=f"up{i}_skip")([x, maps.pop()])
    full = keras.config.floatx()
    x = Float32(name="to_rgb_float32")(up(x, 3, "to_rgb", dtype=full))
    translated = keras.layers.Activation("tanh", dtype=full, name="translated")(x)
    return keras.Model(image, {"translated": translated}, name=name)


def global_critic(image_size, width, name):
    """image (B, S, S, 3) in [-1, 1] -> score (B, 1)."""
    image = keras.Input((image_size, image_size, 3), name="image")
    x = leaky(down(image, width, "down1"), "down1")
    for i, strides in ((2, 2), (3, 2), (4, 1)):
        x = down(x, width * 2 ** (i - 1), f"down{i}", strides)
        x = leaky(norm(x, f"down{i}"), f"down{i}")
    x, full = keras.layers.Flatten(name="flat")(x), keras.config.floatx()
    last = keras.layers.Dense(1, kernel_initializer=dcgan.NORMAL, dtype=full, name="score")
    return keras.Model(image, last(x), name=name)


def build(image_size=256, width=64, dropout=0.5, critic="patch"):
    """-> Networks "a2b", "b2a": image (B, H, W, 3) in [-1, 1] -> {"translated": the same}, H and W
    any multiples of image_size; "discriminator_a", "discriminator_b": image (B, S, S, 3) -> scores
    (B, s, s, 1), or (B, 1) with critic="global".

    width: channels of the largest maps. dropout: the share of values that noise sets to 0, in [0,
    1); trainers draw it, and without a trainer nothing is dropped. critic: "patch" or "global".
    """
    if image_size < 32 or image_size & (image_size - 1):
        raise ValueError(f"image_size must be a power of two from 32, not {image_size}")
    if width < 1:
        raise ValueError(f"width must be at least 1, not {width}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must lie in [0, 1), not {dropout}")
    if critic not in CRITICS:
        raise ValueError(f"critic takes one of {', '.join(CRITICS)}, not {critic!r}")
    makers = {name: partial(generator, image_size, width, dropout, name) for name in ("a2b", "b2a")}
    make = cyclegan.discriminator if critic == "patch" else global_critic
    for name in ("discriminator_a", "discriminator_b"):
        makers[name] = partial(make, image_size, width, name)
    return Networks(makers)

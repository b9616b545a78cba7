"""UNIT: unsupervised image-to-image translation networks (Liu, Breuel and Kautz, 2017).

    E_1, E_2   image -> 7x7 w -> down 2w -> down 4w -> residual x 3 -> residual, shared -> mean of z
    G_1, G_2   z -> residual, shared -> residual x 3 -> up 2w -> up w -> 1x1 3 -> tanh
    D_1, D_2   image -> down w -> down 2w -> ... -> down 32w -> 1x1 -> a map of logits

    translation G_2(E_1(x_1)), reconstruction G_1(E_1(x_1)), both at the mean of z

| paper (sections 2 and 3)                     | here                                        |
|----------------------------------------------|---------------------------------------------|
| X_1, X_2                                     | domains a, b                                |
| E_1, E_2                                     | `encoder_a`, `encoder_b`                    |
| q(z|x) = N(E(x), I)                          | the encoders return the mean                |
| G_1, G_2                                     | `decoder_a`, `decoder_b`                    |
| F_1->2 = G_2 . E_1, F_2->1                   | `a2b`, `b2a`                                |
| E_H, G_H, the layers with shared weights     | `shared` blocks on each side of z           |
| D_1, D_2                                     | `discriminator_a`, `discriminator_b`        |
| weights from N(0, 0.02)                      | `dcgan.NORMAL`                              |

All padding is with zeros. A convolution that several networks share is one layer: `layers` holds
those made so far, by name.
"""

from functools import partial
from math import ceil, log2

import keras
from keras import ops

from . import cyclegan, dcgan
from .layers.convolution import Conv2D, DoublingConv2DTranspose
from .layers.precision import Float32
from .networks import Networks

SLOPE = 0.01  # of the leaky ReLU
LEVELS = 6  # of the discriminator, whose map is not made smaller than 4 x 4


def check(image_size, width, blocks, shared):
    """Raises ValueError for options that make no network."""
    if image_size < 16 or image_size % 4:
        raise ValueError(f"image_size must be a multiple of 4 from 16, not {image_size}")
    if width < 1 or blocks < 1:
        raise ValueError("width and blocks must be at least 1")
    if not 0 <= shared <= blocks:
        raise ValueError(f"shared must be at most the number of blocks, {blocks}, not {shared}")


def apply(layers, make, name, x, *sizes, **options):
    """x through the convolution of that name, which is made once."""
    if name not in layers:
        layers[name] = make(*sizes, kernel_initializer=dcgan.NORMAL, name=name, **options)
    return layers[name](x)


def convolution(x, filters, side, name, layers, **options):
    """(B, H, W, C) -> (B, H / strides, W / strides, filters)."""
    return apply(layers, Conv2D, name, x, filters, side, around=side // 2, **options)


def residual(x, name, layers):
    """(B, H, W, C) -> the same shape."""
    filters = x.shape[-1]
    y = cyclegan.active(convolution(x, filters, 3, f"{name}_1", layers), f"{name}_1")
    y = cyclegan.norm(convolution(y, filters, 3, f"{name}_2", layers), f"{name}_2")
    return keras.layers.Add(name=name)([x, y])


def encode(image, end, width, blocks, shared, layers):
    """image (B, H, W, 3) of domain `end` -> the mean of z (B, H / 4, W / 4, 4 width), float32."""
    own = f"encoder_{end}"
    x = convolution(image, width, 7, f"{own}_stem", layers)
    x = keras.layers.LeakyReLU(SLOPE, name=f"{own}_stem_lrelu")(x)
    for i in (1, 2):
        name = f"{own}_down{i}"
        x = cyclegan.active(convolution(x, width * 2**i, 3, name, layers, strides=2), name)
    for i in range(blocks):
        x = residual(x, f"{'encoder' if i >= blocks - shared else own}_block{i}", layers)
    return Float32(name=f"{own}_mean")(x)


def decode(z, ends, width, blocks, shared, layers):
    """z (B, h, w, 4 width) -> [image (B, 4 h, 4 w, 3) in [-1, 1] of each domain of `ends`]."""
    full, images = keras.config.floatx(), []
    for i in range(shared):
        z = residual(z, f"decoder_block{i}", layers)
    for end in ends:
        own, x = f"decoder_{end}", z
        for i in range(shared, blocks):
            x = residual(x, f"{own}_block{i}", layers)
        for i in (1, 2):
            name, filters = f"{own}_up{i}", width * 2 ** (2 - i)
            x = cyclegan.active(apply(layers, DoublingConv2DTranspose, name, x, filters), name)
        x = convolution(x, 3, 1, f"{own}_to_rgb", layers, dtype=full)
        x = Float32(name=f"{own}_float32")(x)
        images.append(keras.layers.Activation("tanh", dtype=full, name=f"{own}_tanh")(x))
    return images


def signal(mean):
    """The mean of z (B, h, w, C) -> (B, 4 h, 4 w, 1) in [0, 1): m / (m + 1), where m is the mean of
    the squares over the channels. It is the share of the mean in the power of z, whose noise has
    variance 1: 0 where the code says nothing."""
    power = ops.mean(ops.square(mean), axis=-1, keepdims=True)
    full = keras.config.floatx()
    return keras.layers.UpSampling2D(4, dtype=full, name="latent")(power / (power + 1))


def levels(image_size):
    """The number of strides of the discriminator: six from 132 pixels, four at 64."""
    return min(LEVELS, ceil(log2(image_size / 4)))


def discriminator(image_size, width, name):
    """image (B, S, S, 3) -> logits (B, s, s, 1), s = 4 at 64, 128, 216 and 256 pixels."""
    x = image = keras.Input((image_size, image_size, 3), name="image")
    for i in range(levels(image_size)):
        x = cyclegan.down(x, width * 2**i, f"down{i + 1}")
        x = keras.layers.LeakyReLU(SLOPE, name=f"down{i + 1}_lrelu")(x)
    logits = cyclegan.convolution(x, 1, 1, "logits", dtype=keras.config.floatx())
    return keras.Model(image, logits, name=name)


def build(image_size=256, width=64, blocks=4, shared=1):
    """-> Networks "a2b", "b2a": image (B, H, W, 3) in [-1, 1] -> {"translated", "reconstructed":
    the same, "latent": (B, H, W, 1) in [0, 1), see `signal`}, H and W any multiples of 4 from 8;
    "encoder_a", "encoder_b": image -> the mean of z (B, H / 4, W / 4, 4 width); "decoder_a",
    "decoder_b": z -> image; "discriminator_a", "discriminator_b": image (B, S, S, 3) -> logits (B,
    s, s, 1).

    width: channels of the largest maps. blocks: residual blocks of an encoder, and of a decoder.
    shared: how many of them, next to z, both domains share.
    """
    check(image_size, width, blocks, shared)
    sizes, layers = (width, blocks, shared), {}

    def encoder(end):
        image = keras.Input((None, None, 3), name="image")
        return keras.Model(image, encode(image, end, *sizes, layers), name=f"encoder_{end}")

    def decoder(end):
        z = keras.Input((None, None, 4 * width), name="z")
        (image,) = decode(z, end, *sizes, layers)
        return keras.Model(z, image, name=f"decoder_{end}")

    def translator(start, end):
        image = keras.Input((None, None, 3), name="image")
        mean = encode(image, start, *sizes, layers)
        translated, reconstructed = decode(mean, (end, start), *sizes, layers)
        outputs = {"translated": translated, "reconstructed": reconstructed, "latent": signal(mean)}
        return keras.Model(image, outputs, name=f"{start}2{end}")

    makers = {"a2b": partial(translator, "a", "b"), "b2a": partial(translator, "b", "a")}
    makers |= {f"encoder_{end}": partial(encoder, end) for end in "ab"}
    makers |= {f"decoder_{end}": partial(decoder, end) for end in "ab"}
    for name in ("discriminator_a", "discriminator_b"):
        makers[name] = partial(discriminator, image_size, width, name)
    return Networks(makers)

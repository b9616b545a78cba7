"""DCGAN: unsupervised representation learning with deep convolutional GANs (Radford et al., 2016).

    G   z(100) -> dense 4x4 -> up 8 -> ... -> up S -> tanh      (S = 32: 4x4x256, 8x8x128, 16x16x64)
    D   image  -> down S/2 -> ... -> down 4x4 -> dense -> logit (S = 32: 16x16x64, 8x8x128, 4x4x256)

| paper (section 3)                          | here                                    |
|--------------------------------------------|-----------------------------------------|
| z, uniform in [-1, 1], 100 values          | `noise` input of `generator`, `latent`  |
| fractional-strided convolution, BN, ReLU   | `up`                                    |
| strided convolution, BN, LeakyReLU 0.2     | `down`                                  |
| no BN at G's output and D's input          | last step of `generator`, first `down`  |
| weights from N(0, 0.02)                    | `NORMAL`                                |

Kernels are 4x4 with stride 2, and D ends in one dense unit on the 4x4 map. RAGAN, WGAN and ATA-GAN
build on these parts. The option `self_attention` adds a self-attention layer on G's 8x8 map, where
RAGAN has its attention: this is the row "+self-attention" in table 1 of the RAGAN Letter.
"""

import keras

from .layers.batch_norm import BatchNorm
from .layers.convolution import Conv2D, Conv2DTranspose
from .layers.self_attention import SelfAttention
from .networks import Networks

# Last layers have dtype=keras.config.floatx(), so that they compute in float32 in mixed precision.
NORMAL = {"class_name": "RandomNormal", "config": {"mean": 0.0, "stddev": 0.02}}


def map_sizes(image_size):
    """The sides of the feature maps: 4, 8, ..., image_size / 2."""
    return [2**n for n in range(2, image_size.bit_length() - 1)]


def check(image_size, latent, width):
    """Raises ValueError unless image_size is a power of two from 32, latent and width positive."""
    if image_size < 32 or image_size & (image_size - 1):
        raise ValueError(f"image_size must be a power of two from 32, not {image_size}")
    if latent < 1 or width < 1:
        raise ValueError("latent and width must be at least 1")


def norm(x, name):
    """Batch normalisation over (B, H, W)."""
    return BatchNorm(name=name)(x)


def up(x, filters, name):
    """(B, H, W, C) -> (B, 2H, 2W, filters): transposed convolution, BN, ReLU."""
    x = Conv2DTranspose(
        filters, 4, strides=2, padding="same", use_bias=False, kernel_initializer=NORMAL, name=name
    )(x)
    return keras.layers.ReLU(name=f"{name}_relu")(norm(x, f"{name}_bn"))


def down(x, filters, name, normalise=norm):
    """(B, H, W, C) -> (B, H/2, W/2, filters): convolution, `normalise` (or None), LeakyReLU 0.2."""
    x = Conv2D(
        filters,
        4,
        strides=2,
        padding="same",
        use_bias=normalise is None,
        kernel_initializer=NORMAL,
        name=name,
    )(x)
    if normalise:
        x = normalise(x, f"{name}_bn")
    return keras.layers.LeakyReLU(0.2, name=f"{name}_lrelu")(x)


def generator_map(z, image_size, width, at=None):
    """noise (B, latent) -> image (B, S, S, 3) in [-1, 1].

    at: {map size: function}; the function is applied to the feature map g (B, s, s, C) of that size
    and keeps its shape. This is where attention enters (RAGAN's equation 2).
    """
    at = at or {}
    filters = width * image_size // 8
    x = keras.layers.Dense(
        4 * 4 * filters, use_bias=False, kernel_initializer=NORMAL, name="project"
    )(z)
    x = keras.layers.Reshape((4, 4, filters), name="project_map")(x)
    x = keras.layers.ReLU(name="project_relu")(norm(x, "project_bn"))  # (B, 4, 4, W * S / 8)
    for size in map_sizes(image_size):
        if size > 4:
            filters //= 2
            x = up(x, filters, f"up{size}")  # (B, size, size, filters)
        if size in at:
            x = at[size](x)
    x = Conv2DTranspose(
        3,
        4,
        strides=2,
        padding="same",
        kernel_initializer=NORMAL,
        dtype=keras.config.floatx(),
        name="to_rgb",
    )(x)
    last = keras.layers.Activation("tanh", dtype=keras.config.floatx(), name="image")
    return last(x)  # (B, S, S, 3)


def generator(image_size, latent, width, self_attention=False):
    """noise (B, latent) -> image (B, S, S, 3) in [-1, 1]."""
    z = keras.Input((latent,), name="noise")
    at = {8: SelfAttention(name="attention")} if self_attention else {}
    return keras.Model(z, generator_map(z, image_size, width, at), name="generator")


def discriminator(image_size, width, normalise=norm):
    """image (B, S, S, 3) in [-1, 1] -> logit (B, 1); the first block has no normalisation."""
    image = keras.Input((image_size, image_size, 3), name="image")
    x = image
    for i, size in enumerate(reversed(map_sizes(image_size))):
        x = down(x, width * 2**i, f"down{size}", normalise if i else None)
    x = keras.layers.Flatten(name="features")(x)
    last = keras.layers.Dense(
        1, kernel_initializer=NORMAL, dtype=keras.config.floatx(), name="logit"
    )
    return keras.Model(image, last(x), name="discriminator")


def build(image_size=32, latent=100, width=64, self_attention=False):
    """-> Networks "generator": noise (B, latent) -> image; "discriminator": image -> logit (B, 1).

    width: channels of the largest feature map. self_attention: whether the generator has a
    self-attention layer on its 8 x 8 map.
    """
    check(image_size, latent, width)
    return Networks(
        {
            "generator": lambda: generator(image_size, latent, width, self_attention),
            "discriminator": lambda: discriminator(image_size, width),
        }
    )

"""DiscoGAN: learning to discover cross-domain relations with generative adversarial networks (Kim
et al., 2017).

    G   image -> down w -> down 2w -> down 4w -> down 8w
              -> up 4w -> up 2w -> up w -> up 3 -> sigmoid
    D   image -> down w -> down 2w -> ... -> down 8w 4x4 -> 4x4 -> a logit

| paper (section 3)                              | here                                          |
|------------------------------------------------|-----------------------------------------------|
| G_AB, G_BA                                     | `a2b`, `b2a`                                  |
| D_A, D_B                                       | `discriminator_a`, `discriminator_b`          |
| convolution 4x4, stride 2, BN, leaky ReLU 0.2  | `down`; w = `width`                           |
| transposed convolution 4x4, stride 2, BN, ReLU | `up`                                          |
| no BN in the first layers and in the last ones | `normalise=False`, `to_rgb`, `logit`          |

Convolutions have no bias. The paper's images are 64 x 64, where the last map of D is 4 x 4. At
other sizes D has as many layers as lead to such a map, of at most 8w channels, and G stays as it
is. The networks compute with images in [0, 1], as the authors' code, and take and return images in
[-1, 1].
"""

from functools import partial

import keras

from .layers.batch_norm import BatchNorm
from .layers.convolution import Conv2D, Conv2DTranspose
from .layers.precision import Float32
from .networks import Networks

UNIFORM = {  # U(-a, a), a = 1 / sqrt(fan_in): PyTorch's, as the authors' code
    "class_name": "VarianceScaling",
    "config": {"scale": 1 / 3, "mode": "fan_in", "distribution": "uniform"},
}
GAMMA = {"class_name": "RandomUniform", "config": {"minval": 0.0, "maxval": 1.0}}
OPTIONS = {"kernel_initializer": UNIFORM, "use_bias": False}


def norm(x, name):
    """Batch normalisation over (B, H, W)."""
    return BatchNorm(gamma_initializer=GAMMA, name=f"{name}_bn")(x)


def down(x, filters, name, normalise=True):
    """(B, H, W, C) -> (B, H / 2, W / 2, filters): convolution, BN with `normalise`, leaky ReLU."""
    x = Conv2D(filters, 4, strides=2, padding="same", name=name, **OPTIONS)(x)
    x = norm(x, name) if normalise else x
    return keras.layers.LeakyReLU(0.2, name=f"{name}_lrelu")(x)


def up(x, filters, name):
    """(B, H, W, C) -> (B, 2H, 2W, filters): transposed convolution, BN, ReLU."""
    x = Conv2DTranspose(filters, 4, strides=2, padding="same", name=name, **OPTIONS)(x)
    return keras.layers.ReLU(name=f"{name}_relu")(norm(x, name))


def to_unit(image):
    """Images in [-1, 1] -> [0, 1]."""
    return keras.layers.Rescaling(0.5, 0.5, name="to_unit")(image)


def generator(width, name):
    """image (B, H, W, 3) in [-1, 1] -> {"translated": the same}; H, W multiples of 16."""
    image = keras.Input((None, None, 3), name="image")
    x = to_unit(image)
    for i in range(4):
        x = down(x, width * 2**i, f"down{i + 1}", normalise=i > 0)
    for i in range(3):
        x = up(x, width * 2 ** (2 - i), f"up{i + 1}")
    full = keras.config.floatx()
    x = Conv2DTranspose(3, 4, strides=2, padding="same", dtype=full, name="to_rgb", **OPTIONS)(x)
    x = Float32(name="to_rgb_float32")(x)
    x = keras.layers.Activation("sigmoid", dtype=full, name="unit_image")(x)
    translated = keras.layers.Rescaling(2.0, -1.0, dtype=full, name="translated")(x)
    return keras.Model(image, {"translated": translated}, name=name)


def discriminator(image_size, width, name):
    """image (B, S, S, 3) in [-1, 1] -> {"logits": (B, 1), "features": [(B, s, s, C)]}, the
    activations of the layers with batch normalisation, from the largest map on."""
    image = keras.Input((image_size, image_size, 3), name="image")
    x, features = to_unit(image), []
    for i in range(image_size.bit_length() - 3):
        x = down(x, width * min(2**i, 8), f"down{i + 1}", normalise=i > 0)
        features.append(x)
    full = keras.config.floatx()
    x = Conv2D(1, 4, dtype=full, name="logit", **OPTIONS)(x)  # (B, 1, 1, 1)
    logits = keras.layers.Flatten(dtype=full, name="logits")(x)
    return keras.Model(image, {"logits": logits, "features": features[1:]}, name=name)


def build(image_size=64, width=64):
    """-> Networks "a2b", "b2a": image (B, H, W, 3) in [-1, 1] -> {"translated": the same}, H and W
    any multiples of 16; "discriminator_a", "discriminator_b": image (B, S, S, 3) -> {"logits": (B,
    1), "features": see `discriminator`}.

    width: channels of the largest maps.
    """
    if image_size < 32 or image_size & (image_size - 1):
        raise ValueError(f"image_size must be a power of two from 32, not {image_size}")
    if width < 1:
        raise ValueError(f"width must be at least 1, not {width}")
    makers = {name: partial(generator, width, name) for name in ("a2b", "b2a")}
    for name in ("discriminator_a", "discriminator_b"):
        makers[name] = partial(discriminator, image_size, width, name)
    return Networks(makers)

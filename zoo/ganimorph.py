"""GANimorph: improving shape deformation in unsupervised image-to-image translation (Gokaslan,
Ramanujan, Ritchie, Kim and Tompkin, ECCV 2018).

    G    image -> down w -> down 2w, residual x 3 -> down 4w, residual x 3 -> down 8w, residual x 3
               -> up 4w, with the map of 4w beside it, residual x 3
               -> up 2w, with the map of 2w beside it, residual x 3 -> up w -> up 3 -> sigmoid
    D    image -> down 2w -> down 4w -> down 8w -> 3x3 8w = R -> dilated by 2 -> by 4 -> by 8
               -> with R beside it, 3x3 8w -> 4x4 -> a logit for each 8 x 8 pixels

| paper (section 3) and the authors' code       | here                                          |
|-----------------------------------------------|-----------------------------------------------|
| the two generators                            | `a2b`, `b2a`; w = `width`                     |
| the two discriminators                        | `discriminator_a`, `discriminator_b`          |
| residual blocks that concatenate              | `residual`; `blocks` of them at each level    |
| skip connections                              | `concat1`, `concat2`                          |
| discriminator with dilated convolutions       | `discriminator`                               |
| the layers of the feature matching loss       | `features` of `discriminator`                 |
| instance normalisation                        | `norm`, with scale and offset                 |

Each logit sees 302 x 302 pixels, the whole image at 128 x 128, so that D judges shape and layout.
The authors' images lie in [0, 1]; those of the zoo lie in [-1, 1], and both networks convert them.
"""

from functools import partial

import keras

from .layers.convolution import Conv2D, Conv2DTranspose
from .layers.instance_norm import InstanceNorm
from .layers.precision import Float32
from .networks import Networks

STRIDE = 16  # pixels between the values of the generator's smallest map
DILATIONS = (2, 4, 8)
UNIFORM = {  # in [-1, 1] / sqrt(inputs of a value)
    "class_name": "VarianceScaling",
    "config": {"scale": 1 / 3, "mode": "fan_in", "distribution": "uniform"},
}


def norm(x, name):
    """Instance normalisation with scale and offset."""
    return InstanceNorm(affine=True, name=f"{name}_norm")(x)


def active(x, name):
    """Instance normalisation and LeakyReLU 0.2."""
    return keras.layers.LeakyReLU(0.2, name=f"{name}_lrelu")(norm(x, name))


def convolution(x, filters, side, name, kernel_initializer=UNIFORM, **options):
    """A convolution with "same" padding and without bias."""
    options |= {"padding": "same", "use_bias": False, "kernel_initializer": kernel_initializer}
    return Conv2D(filters, side, name=name, **options)(x)


def down(x, filters, name):
    """(B, H, W, C) -> (B, H / 2, W / 2, filters): convolution, normalisation, LeakyReLU 0.2."""
    return active(convolution(x, filters, 4, name, strides=2), name)


def enlarged(x, filters, name, **options):
    """(B, H, W, C) -> (B, 2H, 2W, filters): a transposed convolution alone."""
    options |= {"padding": "same", "use_bias": False, "kernel_initializer": UNIFORM}
    return Conv2DTranspose(filters, 4, strides=2, name=name, **options)(x)


def up(x, filters, name):
    """(B, H, W, C) -> (B, 2H, 2W, filters): transposed convolution, normalisation, ReLU."""
    return keras.layers.ReLU(name=f"{name}_relu")(norm(enlarged(x, filters, name), name))


def residual(x, filters, name):
    """(B, H, W, C) -> (B, H, W, filters): the input is kept by concatenation, not by a sum."""
    y = active(convolution(x, filters, 3, f"{name}_1"), f"{name}_1")
    y = active(convolution(y, filters, 3, f"{name}_2"), f"{name}_2")
    y = keras.layers.Concatenate(name=f"{name}_concat")([x, y])
    return active(convolution(y, filters, 3, f"{name}_3"), f"{name}_3")


def residuals(x, filters, blocks, name):
    for i in range(blocks):
        x = residual(x, filters, f"{name}_block{i}")
    return x


def generator(width, blocks, name):
    """image (B, H, W, 3) in [-1, 1] -> {"translated": the same}; H and W are multiples of
    STRIDE."""
    image = keras.Input((None, None, 3), name="image")
    x = convolution((image + 1) / 2, width, 4, "down1", strides=2)
    x = keras.layers.LeakyReLU(0.2, name="down1_lrelu")(x)
    skips = []
    for level in (2, 3, 4):
        filters = width * 2 ** (level - 1)
        x = residuals(down(x, filters, f"down{level}"), filters, blocks, f"down{level}")
        skips.append(x)  # of these the last is no skip connection
    for level in (2, 1):
        filters = width * 2**level
        x = up(x, filters, f"up{level}")
        x = keras.layers.Concatenate(name=f"concat{level}")([x, skips[level - 1]])
        x = residuals(x, filters, blocks, f"up{level}")
    x = up(x, width, "up0")
    full = keras.config.floatx()
    x = Float32(name="to_rgb_float32")(enlarged(x, 3, "to_rgb", dtype=full))
    x = keras.layers.Activation("sigmoid", dtype=full, name="to_rgb_sigmoid")(x)
    return keras.Model(image, {"translated": 2 * x - 1}, name=name)


def discriminator(image_size, width, name):
    """image (B, S, S, 3) in [-1, 1] -> {"logits": (B, S / 8, S / 8, 1), "features": the seven maps
    of feature matching, from (B, S / 4, S / 4, 4 width) on}.

    The first convolution has no normalisation.
    """
    image = keras.Input((image_size, image_size, 3), name="image")
    x = convolution((image + 1) / 2, 2 * width, 4, "down1", strides=2)
    x = keras.layers.LeakyReLU(0.2, name="down1_lrelu")(x)
    features = [down(x, 4 * width, "down2")]
    features.append(down(features[-1], 8 * width, "down3"))
    r = active(convolution(features[-1], 8 * width, 3, "flat"), "flat")
    features.append(r)
    for rate in DILATIONS:
        layer = f"dilated{rate}"
        x = convolution(features[-1], 8 * width, 3, layer, "glorot_uniform", dilation_rate=rate)
        features.append(active(x, layer))
    x = keras.layers.Concatenate(name="concat")([r, features[-1]])
    features.append(active(convolution(x, 8 * width, 3, "merged"), "merged"))
    logits = convolution(features[-1], 1, 4, "logits", dtype=keras.config.floatx())
    return keras.Model(image, {"logits": logits, "features": features}, name=name)


def build(image_size=128, width=64, blocks=3):
    """-> Networks "a2b", "b2a": image (B, H, W, 3) in [-1, 1] -> {"translated": the same}, H and W
    multiples of 16; "discriminator_a", "discriminator_b": image (B, S, S, 3) -> {"logits",
    "features"}.

    width: channels of the generators' largest maps. blocks: residual blocks at each of the five
    levels (paper: 3). There are four strides of 2 at every size: at 128 x 128 the smallest map is
    8 x 8, at 32 x 32 it is 2 x 2.
    """
    if image_size < 32 or image_size % STRIDE:
        raise ValueError(f"image_size must be a multiple of {STRIDE} from 32, not {image_size}")
    if width < 1 or blocks < 1:
        raise ValueError("width and blocks must be at least 1")
    makers = {name: partial(generator, width, blocks, name) for name in ("a2b", "b2a")}
    for name in ("discriminator_a", "discriminator_b"):
        makers[name] = partial(discriminator, image_size, width, name)
    return Networks(makers)

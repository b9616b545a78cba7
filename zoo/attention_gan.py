"""AttentionGAN: unpaired image-to-image translation using attention-guided generative adversarial
networks (Tang et al., 2019: scheme 1; 2021: scheme 2), as described in the slides of Shauryam, Kar
and Faizi (Chennai Mathematical Institute, 2023).

    scheme 1   image -> G_E -> up, up -> 7x7 4 -> sigmoid -> A, tanh -> C
               G(x) = C A + x (1 - A)
    scheme 2   image -> G_E -> up, up -> 7x7 3(n - 1) -> tanh -> C_1 .. C_n-1       (G_C)
                           \\-> up, up -> 1x1 n -> softmax -> A_1 .. A_n-1, A_b      (G_A)
               G(x) = sum_i C_i A_i + x A_b
    D_X, D_Y   image -> PatchGAN          D_XA, D_YA   [A, image] -> PatchGAN

| slides                                          | here                                        |
|-------------------------------------------------|---------------------------------------------|
| G: X -> Y, F: Y -> X                            | `a2b`, `b2a`                                |
| G_E, m                                          | cyclegan.encode                             |
| G_C, C_y^f, content masks                       | `contents`                                  |
| G_A, A_y^f and A_y^b, attention masks           | `masks`, the background's is the last one   |
| n                                               | option `masks`                              |
| G_y = sum C_y^f A_y^f + x A_y^b                 | `fuse`                                      |
| D_XA, D_YA, with the attention mask as input    | `attention_discriminator_a`, `..._b`        |

In scheme 2 the input of D_XA and D_YA is the attention to the foreground, 1 - A_b.
"""

from functools import partial

import keras
from keras import ops

from . import cyclegan
from .layers.precision import Float32
from .networks import Networks


def fuse(image, foreground, background, contents):
    """sum_i C_i A_i + x A_b, (B, H, W, 3).

    image (B, H, W, 3), foreground (B, H, W, m) and background (B, H, W, 1) in [0, 1], contents
    (B, H, W, m, 3).
    """
    return ops.sum(contents * ops.expand_dims(foreground, -1), axis=-2) + image * background


def scheme_1(features, width):
    """-> masks (B, H, W, 1), contents (B, H, W, 1, 3), foreground and background masks."""
    x = cyclegan.reflect(cyclegan.decode(features, width), 3)
    full = keras.config.floatx()
    x = Float32(name="head_float32")(cyclegan.convolution(x, 4, 7, "head", dtype=full))
    mask, content = ops.split(x, [1], axis=-1)
    mask = keras.layers.Activation("sigmoid", dtype=full, name="masks")(mask)
    content = keras.layers.Activation("tanh", dtype=full, name="contents")(content)
    return mask, ops.expand_dims(content, -2), mask, 1 - mask


def scheme_2(features, width, n):
    """-> masks (B, H, W, n), contents (B, H, W, n - 1, 3), foreground and background masks."""
    x = cyclegan.to_pictures(cyclegan.decode(features, width, "content_"), n - 1, "content")
    contents = ops.stack(ops.split(x, n - 1, axis=-1), axis=-2)
    full = keras.config.floatx()
    x = cyclegan.decode(features, width, "mask_")
    x = Float32(name="mask_float32")(cyclegan.convolution(x, n, 1, "mask", dtype=full))
    masks = keras.layers.Softmax(dtype=full, name="masks")(x)
    return masks, contents, *ops.split(masks, [n - 1], axis=-1)


def generator(scheme, width, blocks, n, name):
    """image (B, H, W, 3) in [-1, 1] -> {"translated", "masks", "contents"}; see `build`."""
    image = keras.Input((None, None, 3), name="image")
    features = cyclegan.encode(image, width, blocks)
    parts = scheme_1(features, width) if scheme == 1 else scheme_2(features, width, n)
    masks, contents, foreground, background = parts
    translated = fuse(image, foreground, background, contents)
    outputs = {"translated": translated, "masks": masks, "contents": contents}
    return keras.Model(image, outputs, name=name)


def build(image_size=256, width=64, blocks=9, scheme=2, masks=10, attention_discriminators=False):
    """-> Networks "a2b", "b2a": image (B, H, W, 3) in [-1, 1] -> {"translated": the same, "masks":
    (B, H, W, n) in [0, 1], "contents": (B, H, W, n - 1, 3) in [-1, 1]}, H and W any multiples of 4
    from 8; "discriminator_a", "discriminator_b": image (B, S, S, 3) -> logits (B, s, s, 1).

    width: channels of the first convolution. blocks: residual blocks of a generator.
    scheme: 1 (one mask, one content) or 2. masks: number of masks of scheme 2, with
    the background's.
    attention_discriminators: also build "attention_discriminator_a" and
    "attention_discriminator_b", [attention, image] (B, S, S, 4) -> logits.
    """
    cyclegan.check(image_size, width, blocks)
    if scheme not in (1, 2):
        raise ValueError(f"scheme must be 1 or 2, not {scheme}")
    if masks < 2:
        raise ValueError(f"masks must be at least 2, with the background's, not {masks}")
    makers = {
        name: partial(generator, scheme, width, blocks, masks, name) for name in ("a2b", "b2a")
    }
    makers |= cyclegan.discriminators(image_size, width)
    if attention_discriminators:
        makers |= cyclegan.discriminators(image_size, width, "attention_discriminator", 4)
    return Networks(makers)

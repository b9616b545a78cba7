"""SAGAN: self-attention generative adversarial networks (Zhang et al., ICML 2019), as studied on
dogs by Levkovich, Avraham, Bar and Maor, "Self-Attention in Deep Convolutional GANs".

    G   z(128) -> dense 4x4 -> up 8 -> 16 -> 32 + ATTENTION -> up 64 -> ... -> up S -> BN -> tanh
    D   image -> down S/2 -> ... -> 32 + ATTENTION -> down 16 -> 8 -> 4 -> block 4 -> sum -> logit

    up, down: residual blocks of two 3x3 convolutions; all layers have spectral normalisation

| papers                                           | here                                       |
|--------------------------------------------------|--------------------------------------------|
| query, key, value, the N x N map, gamma          | zoo.layers.self_attention                  |
| attention off in G, in D, in both (dogs, 4.1)    | `attention`                                |
| which map is attended (SAGAN, table 1)           | `attend_at`                                |
| spectral normalisation in G and D (SAGAN, 4.1)   | zoo.layers.spectral_norm                   |
| conditional batch normalisation in G (SAGAN, 5)  | `norm` with a label                        |
| projection in D (Miyato and Koyama, ICLR 2018)   | `project`: logit(h) + e_y . h              |

A map of side s has min(S/s, 16) `width` channels in G and min(S/2s, 16) `width` in D. The authors'
networks for ImageNet have S = 128 and width 64.
"""

import keras
from keras import ops

from . import dcgan
from .layers.batch_norm import BatchNorm
from .layers.self_attention import VARIANTS, SelfAttention, attention_map
from .layers.spectral_norm import SNConv2D, SNDense, SNEmbedding
from .networks import Networks

PLACES = {  # attention -> the networks that have it
    "both": ("generator", "discriminator"),
    "generator": ("generator",),
    "discriminator": ("discriminator",),
    "none": (),
}


def norm(x, name, label=None, classes=0):
    """Batch normalisation; with a label (B,) each class has a scale and an offset of its own."""
    if label is None:
        return BatchNorm(name=name)(x)
    x = BatchNorm(center=False, scale=False, name=name)(x)

    def of_class(initial, what):
        table = keras.layers.Embedding(
            classes, x.shape[-1], embeddings_initializer=initial, name=f"{name}_{what}"
        )
        return ops.reshape(table(label), (-1, 1, 1, x.shape[-1]))

    return x * of_class("ones", "gamma") + of_class("zeros", "beta")


def relu(x, name):
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def conv(x, filters, side, name):
    return SNConv2D(filters, side, padding="same", name=name)(x)


def up(x, filters, name, label, classes):
    """(B, H, W, C) -> (B, 2H, 2W, filters)."""

    def double(x, what):
        return keras.layers.UpSampling2D(2, name=f"{name}_{what}_double")(x)

    # the convolution before the up-sampling gives the same at a quarter of the cost
    skip = double(conv(x, filters, 1, f"{name}_skip"), "skip")
    x = relu(norm(x, f"{name}_bn1", label, classes), f"{name}_bn1")
    x = conv(double(x, "conv1"), filters, 3, f"{name}_conv1")
    x = relu(norm(x, f"{name}_bn2", label, classes), f"{name}_bn2")
    x = conv(x, filters, 3, f"{name}_conv2")
    return keras.layers.Add(name=name)([x, skip])


def down(x, filters, name, first=False):
    """(B, H, W, C) -> (B, H/2, W/2, filters); the first block has no ReLU at its start."""

    def halve(x, what):
        return keras.layers.AveragePooling2D(2, name=f"{name}_{what}_halve")(x)

    # the convolution behind the pooling gives the same at a quarter of the cost
    skip = conv(halve(x, "skip"), filters, 1, f"{name}_skip")
    x = halve(residue(x, filters, name, first), "conv2")
    return keras.layers.Add(name=name)([x, skip])


def residue(x, filters, name, first=False):
    """(B, H, W, C) -> (B, H, W, filters): ReLU, convolution, ReLU, convolution."""
    x = x if first else relu(x, name)
    x = relu(conv(x, filters, 3, f"{name}_conv1"), f"{name}_conv1")
    return conv(x, filters, 3, f"{name}_conv2")


def generator(image_size, latent, width, attend, classes):
    """noise (B, latent), and with classes a label (B,) -> image (B, S, S, 3) in [-1, 1].

    attend: {map size: function of the map}. classes: 0 if there is no label.
    """

    def channels(size):
        return width * min(image_size // size, 16)

    z = keras.Input((latent,), name="noise")
    label = keras.Input((), dtype="int32", name="label") if classes else None
    x = SNDense(4 * 4 * channels(4), name="project")(z)
    x = keras.layers.Reshape((4, 4, channels(4)), name="project_map")(x)
    for size in (*dcgan.map_sizes(image_size), image_size):
        if size > 4:
            x = up(x, channels(size), f"up{size}", label, classes)  # (B, size, size, .)
        x = attend.get(size, lambda x: x)(x)
    x = relu(BatchNorm(name="out_bn")(x), "out_bn")
    full = {"dtype": keras.config.floatx()}
    x = SNConv2D(3, 3, padding="same", name="to_rgb", **full)(x)
    image = keras.layers.Activation("tanh", name="image", **full)(x)
    return keras.Model([z, label] if classes else z, image, name="generator")


def discriminator(image_size, width, attend, classes):
    """image (B, S, S, 3) in [-1, 1], and with classes a label (B,) -> logit (B, 1)."""
    image = keras.Input((image_size, image_size, 3), name="image")
    x = image
    for size in reversed(dcgan.map_sizes(image_size)):
        filters = width * min(image_size // (2 * size), 16)
        x = down(x, filters, f"down{size}", first=x is image)  # (B, size, size, filters)
        x = attend.get(size, lambda x: x)(x)
    x = keras.layers.Add(name="last")([x, residue(x, filters, "last")])
    full = {"dtype": keras.config.floatx()}
    h = ops.sum(keras.layers.ReLU(name="last_out_relu", **full)(x), axis=(1, 2))  # (B, C)
    logit = SNDense(1, name="logit", **full)(h)
    if not classes:
        return keras.Model(image, logit, name="discriminator")
    label = keras.Input((), dtype="int32", name="label")
    e = SNEmbedding(classes, filters, name="project", **full)(label)  # (B, C)
    logit = logit + ops.sum(e * h, axis=1, keepdims=True)
    return keras.Model([image, label], logit, name="discriminator")


def build(
    image_size=32,
    latent=128,
    width=32,
    attention="both",
    attention_variant="paper",
    attend_at=0,
    conditional=False,
    classes=10,
):
    """-> Networks "generator": noise (B, latent) -> image; "discriminator": image -> logit (B, 1);
    if the discriminator has attention, also "attention": image -> its map (B, N, M).

    Conditional networks take [noise, label] and [image, label], label (B,) from 0 to classes - 1.

    width: channels of the generator's largest map. attention: "both", "generator", "discriminator"
    or "none". attention_variant: "paper", or "official", the authors' code: fewer channels, and a
    smaller map of keys and values. attend_at: side of the map with attention; 0 stands for 32, the
    paper's, or half the side of a smaller image.
    """
    dcgan.check(image_size, latent, width)
    sizes = dcgan.map_sizes(image_size)
    attend_at = attend_at or min(32, image_size // 2)
    if attend_at not in sizes:
        raise ValueError(f"attend_at must be one of {sizes} at image_size {image_size}")
    if attention not in PLACES:
        raise ValueError(f"attention must be one of {', '.join(PLACES)}, not {attention!r}")
    if attention_variant not in VARIANTS:
        raise ValueError(
            f"attention_variant must be one of {', '.join(VARIANTS)}, not {attention_variant!r}"
        )
    if classes < 1:
        raise ValueError("classes must be at least 1")

    def attend(place):
        if place not in PLACES[attention]:
            return {}
        return {attend_at: SelfAttention(attention_variant, spectral_norm=True, name="attention")}

    def discriminator_map():
        network = networks["discriminator"]
        return attention_map(network, network.inputs[0])

    count = classes if conditional else 0
    makers = {
        "generator": lambda: generator(image_size, latent, width, attend("generator"), count),
        "discriminator": lambda: discriminator(image_size, width, attend("discriminator"), count),
    }
    if "discriminator" in PLACES[attention]:
        makers["attention"] = discriminator_map
    networks = Networks(makers)
    return networks

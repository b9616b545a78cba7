"""RAGAN: regional attention generative adversarial network (Wang et al., Electronics Letters 2019).

    DAE  X -> E -> F -> N centres -> N box masks; X * M_i -> E -> A_i; sum_i lambda_i A_i  (s, s, C)
    G    z(100) -> dense 4x4 -> up s: g + ATTENTION -> ... -> up S -> tanh       (s = 8: equation 2)
    D    image -> down S/2 -> ... -> down 4x4 -> dense -> logit                   as in DCGAN

| Letter                                     | here                                            |
|--------------------------------------------|-------------------------------------------------|
| X                                          | `image`, a real image                           |
| E, E(X)                                    | `encoder`, `features`                           |
| F(E(X)) = [x_i, y_i], equation 1           | `localiser`, `centres`, in pixels               |
| M_i                                        | `BoxMask`, `masks`                              |
| R_i = X * M_i, A_i = E(R_i)                | `regions`, `codes`                              |
| sum_i lambda_i A_i, lambda_i = 0 at first  | `WeightedSum`, the `attention layer`            |
| O = sum_i lambda_i A_i + g, equation 2     | `attend` in `decoder`                           |

The Letter does not say where X comes from once the network is trained. Here there are two ways to
sample:

- `generator`, the network that is served, is a function of z alone. An `AttentionBank` stores the
  attention layers of K training images with the weights (not trainable, float16, at most 4 MiB),
  and the first coordinate of z, uniform in [-1, 1], selects one of them. K bounds the number of
  different attention layers. trainers.ragan updates the bank.
- `generator_with_reference` is a function of z and an image X, whose attention layer it computes.
  With references="training", X is drawn from the training images (tasks.generation).

A generator that sees real images may learn to copy them; evaluate.memorisation measures this.
"""

import math

import keras
from keras import ops

from . import dcgan
from .layers.convolution import Conv2D
from .layers.dropout import Dropout
from .layers.precision import Float32Dense
from .networks import Networks

BANK_BYTES = 4 * 2**20


@keras.saving.register_keras_serializable("zoo")
class BoxMask(keras.layers.Layer):
    """centres (B, N, 2), (y, x) in pixels -> smooth box masks (B, N, S, S, 1) in [0, 1].

    M = [h(y - y_t) - h(y - y_b)] [h(x - x_l) - h(x - x_r)], h(u) = 1 / (1 + exp(-k u)), at pixel
    centres (i + 0.5). side: the box's side in pixels; sharpness: k, per pixel.
    """

    def __init__(self, image_size, side, sharpness, **kwargs):
        super().__init__(**kwargs)
        self.image_size, self.side, self.sharpness = image_size, side, sharpness

    def call(self, centres):
        grid = ops.arange(self.image_size, dtype=self.compute_dtype) + 0.5  # (S,)
        distance = grid - centres[..., None]  # (B, N, 2, S)
        h = ops.sigmoid
        k, half = self.sharpness, self.side / 2
        inside = h(k * (distance + half)) - h(k * (distance - half))  # (B, N, 2, S)
        return (inside[:, :, 0, :, None] * inside[:, :, 1, None, :])[..., None]

    def get_config(self):
        own = {"image_size": self.image_size, "side": self.side, "sharpness": self.sharpness}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("zoo")
class WeightedSum(keras.layers.Layer):
    """A (B, N, h, w, C) -> sum_i lambda_i A_i (B, h, w, C); lambda starts at 0."""

    def build(self, shape):
        self.weight = self.add_weight(shape=(shape[1],), initializer="zeros", name="lambda")

    def call(self, codes):
        _, count, *shape = codes.shape
        flat = ops.reshape(codes, (-1, count, math.prod(shape)))  # a product is the fastest form
        return ops.reshape(ops.matmul(self.weight[None], flat), (-1, *shape))


@keras.saving.register_keras_serializable("zoo")
class AttentionBank(keras.layers.Layer):
    """z (B, latent) in [-1, 1] -> one of K stored attention layers for each z, (B, h, w, C).

    z_0 in [-1 + 2k/K, -1 + 2(k + 1)/K) selects entry k. The bank is zero until it is written.
    """

    def __init__(self, shape, **kwargs):
        super().__init__(**kwargs)
        self.shape = tuple(shape)  # (h, w, C)
        size = 2 * shape[0] * shape[1] * shape[2]
        self.entries = max(1, min(256, BANK_BYTES // size))

    def build(self, _):
        self.bank = self.add_weight(
            shape=(self.entries, *self.shape),
            dtype="float16",
            initializer="zeros",
            trainable=False,
            name="bank",
        )

    def call(self, z):
        index = ops.floor((z[:, 0] + 1) / 2 * self.entries)
        index = ops.cast(ops.clip(index, 0, self.entries - 1), "int32")
        return ops.cast(ops.take(self.bank, index, axis=0), self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "shape": self.shape}


def has_bank(network):
    """Whether a functional network has an AttentionBank, which is named `bank`."""
    return any(layer.name == "bank" for layer in network.layers)


def without_attention(generator):
    """A generator with a bank -> keras.Model, z (B, latent) -> {"image" (B, S, S, 3): the image
    without attention, "layer" (B, s, s, C): the attention layer that z selects}."""
    z, layer = generator.input, generator.get_layer("bank").output
    image = generator.get_layer("decoder")([z, ops.zeros_like(layer)])
    return keras.Model(z, {"image": image, "layer": layer})


def encoder(image_size, attend_at, channels, width, bottleneck):
    """E: image (B, S, S, 3) -> features (B, s, s, channels)."""
    image = keras.Input((image_size, image_size, 3), name="image")
    x, size = image, image_size
    while size > attend_at:
        size //= 2
        x = Conv2D(
            min(width * image_size // (2 * size), 256),
            4,
            strides=2,
            padding="same",
            kernel_initializer="he_normal",
            name=f"encode{size}",
        )(x)
        x = keras.layers.LeakyReLU(0.2, name=f"encode{size}_lrelu")(x)
    if bottleneck:
        x = Conv2D(bottleneck, 1, kernel_initializer="he_normal", name="bottleneck")(x)
    x = Conv2D(channels, 1, kernel_initializer="he_normal", name="features")(x)
    return keras.Model(image, x, name="encoder")


def localiser(features, image_size, side, regions):
    """F: features (B, s, s, C) -> centres (B, N, 2) in pixels, so that boxes lie in the image."""
    full = {"dtype": keras.config.floatx()}  # bfloat16 is too coarse for positions in pixels
    x = keras.layers.Flatten(name="localise_flat")(features)
    x = Float32Dense(
        2 * regions,
        kernel_initializer=dcgan.NORMAL,
        bias_initializer=grid_of_centres,
        activation="sigmoid",
        name="localise",
    )(x)
    x = keras.layers.Rescaling(image_size - side, offset=side / 2, name="inside", **full)(x)
    return keras.layers.Reshape((regions, 2), name="centres", **full)(x)


@keras.saving.register_keras_serializable("zoo")
def grid_of_centres(shape, dtype=None):
    """The initial bias of F, (2 N,): logits of N points on a grid in the unit square."""
    regions = shape[0] // 2
    rows = max(1, int(regions**0.5))
    columns = -(-regions // rows)
    share = [[(i // columns + 0.5) / rows, (i % columns + 0.5) / columns] for i in range(regions)]
    p = ops.reshape(ops.convert_to_tensor(share, dtype or "float32"), (-1,))
    return ops.log(p) - ops.log(1 - p)


def attention(encode, regions, mask_size, sharpness, region_dropout):
    """DAE: image (B, S, S, 3) -> {"layer", "masks", "centres"}. encode: E.

    layer (B, s, s, C); masks (B, N, S, S, 1) in [0, 1]; centres (B, N, 2), (y, x) in pixels.
    """
    image_size, code = encode.input.shape[1], encode.output.shape[1:]  # S; (s, s, C)
    side = mask_size * image_size
    image = keras.Input((image_size, image_size, 3), name="image")
    centres = localiser(encode(image), image_size, side, regions)  # F(E(X)), equation 1
    full = {"dtype": keras.config.floatx()}
    masks = BoxMask(image_size, side, sharpness, name="masks", **full)(centres)
    parts = ops.reshape(masks * image[:, None], (-1, image_size, image_size, 3))  # R_i = X * M_i
    codes = encode(parts)  # A_i = E(R_i)
    codes = ops.reshape(codes, (-1, regions, *code))
    if region_dropout:
        whole = (None, None, 1, 1, 1)
        codes = Dropout(region_dropout, noise_shape=whole, name="region_dropout")(codes)
    layer = WeightedSum(name="attention_layer")(codes)
    outputs = {"layer": layer, "masks": masks, "centres": centres}
    return keras.Model(image, outputs, name="attention")


def build(
    image_size=32,
    latent=100,
    width=64,
    regions=4,
    mask_size=0.5,
    sharpness=2.0,
    attend_at=8,
    encoder_width=32,
    bottleneck=0,
    region_dropout=0.0,
):
    """-> Networks "generator": noise (B, latent) -> image (B, S, S, 3);
    "generator_with_reference": {"noise", "image"} -> image; "attention": image -> layer, masks and
    centres; "discriminator": image -> logit (B, 1); not iterated over: "decoder", [noise, layer]
    -> image, which both generators share.

    width: channels of the largest feature map. regions: N, their number. mask_size: side of a mask,
    divided by that of the image, in (0, 1]. sharpness: steepness of a mask's edges, per pixel.
    attend_at: side of the feature map to which attention is added. encoder_width: channels of E's
    first convolution. bottleneck: channels to which E's map is reduced before it gets those of g,
    fewer than these, so that less of X reaches the generator (ours; 0: none). region_dropout: the
    probability, in [0, 1), with which each A_i of an image is 0 in training; the others are divided
    by 1 minus it (ours).
    """
    dcgan.check(image_size, latent, width)
    sizes = dcgan.map_sizes(image_size)
    if attend_at not in sizes:
        raise ValueError(f"attend_at must be one of {sizes} at image_size {image_size}")
    if regions < 1 or not 0 < mask_size <= 1 or sharpness <= 0 or encoder_width < 1:
        raise ValueError(
            "regions and encoder_width must be at least 1, mask_size in (0, 1], sharpness positive"
        )
    channels = width * image_size // (2 * attend_at)
    if not 0 <= bottleneck < channels:
        raise ValueError(
            f"bottleneck must lie in [0, {channels - 1}], below the {channels} channels of the map "
            f"at attend_at={attend_at}, not {bottleneck}"
        )
    if not 0 <= region_dropout < 1:
        raise ValueError(f"region_dropout must lie in [0, 1), not {region_dropout}")
    shape = (attend_at, attend_at, channels)

    def decoder():
        z, layer = keras.Input((latent,), name="noise"), keras.Input(shape, name="layer")
        add = keras.layers.Add(name="attend")
        image = dcgan.generator_map(z, image_size, width, at={attend_at: lambda g: add([layer, g])})
        return keras.Model([z, layer], image, name="decoder")

    def dae():
        encode = encoder(image_size, attend_at, channels, encoder_width, bottleneck)
        return attention(encode, regions, mask_size, sharpness, region_dropout)

    def with_reference():
        z = keras.Input((latent,), name="noise")
        x = keras.Input((image_size, image_size, 3), name="image")
        image = networks["decoder"]([z, networks["attention"](x)["layer"]])
        return keras.Model({"noise": z, "image": x}, image, name="generator_with_reference")

    def generator():
        z = keras.Input((latent,), name="noise")
        bank = AttentionBank(shape, dtype=keras.config.floatx(), name="bank")
        return keras.Model(z, networks["decoder"]([z, bank(z)]), name="generator")

    networks = Networks(
        {
            "generator": generator,
            "generator_with_reference": with_reference,
            "attention": dae,
            "discriminator": lambda: dcgan.discriminator(image_size, width),
        },
        optional={"decoder": decoder},
    )
    return networks

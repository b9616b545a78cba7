"""ATA-GAN: attention-aware generative adversarial networks (Kastaniotis et al., 2018).

    G   z(100) -> dense 4x4 -> up 8 -> ... -> up S -> tanh                            as in DCGAN
    D   image -> down S/2 -> ... -> down s -> keep = FM (s, s, K) -> average -> dense -> logit
                                                     FM * kernel  -> SOFT-CAM (s, s)
    T   image -> classifier, frozen -> SOFT-CAM
                                         (S = 64: D 32x32x64, 16x16x128, 8x8x256, keep 8x8x512)

| paper                                          | here                                          |
|------------------------------------------------|-----------------------------------------------|
| FM_i, W_ij, SM(j), equation 1                  | zoo.layers.cam                                |
| D with a decision and a Soft-CAM, figure 6     | `discriminator`, outputs logit and map        |
| one class in D, whose softmax is 1             | `logit`, a dense layer of one unit            |
| T, ResNet-18 trained on cell images            | `teacher`, any classifier with weights        |
| T_SCAM, D_SCAM, equations 2 and 3              | trainers.ata_gan                              |
"""

import keras

from . import dcgan, weights
from .layers import cam
from .layers.convolution import Conv2D
from .networks import Networks


def keep(x, filters, name):
    """(B, H, W, C) -> (B, H, W, filters): 3x3 convolution, BN, LeakyReLU 0.2."""
    x = Conv2D(
        filters, 3, padding="same", use_bias=False, kernel_initializer=dcgan.NORMAL, name=name
    )(x)
    return keras.layers.LeakyReLU(0.2, name=f"{name}_lrelu")(dcgan.norm(x, f"{name}_bn"))


def discriminator(image_size, width, map_size):
    """image (B, S, S, 3) in [-1, 1] -> [logit (B, 1), Soft-CAM (B, s, s)], s = map_size.

    The widths are DCGAN's. Blocks that would make the map smaller than s keep its size.
    """
    image = keras.Input((image_size, image_size, 3), name="image")
    x = image
    for i, size in enumerate(reversed(dcgan.map_sizes(image_size))):
        if size >= map_size:
            x = dcgan.down(x, width * 2**i, f"down{size}", dcgan.norm if i else None)
        else:
            x = keep(x, width * 2**i, f"keep{size}")  # (B, s, s, K)
    dense = keras.layers.Dense(
        1, kernel_initializer=dcgan.NORMAL, dtype=keras.config.floatx(), name="logit"
    )
    logit = dense(keras.layers.GlobalAveragePooling2D(name="features")(x))
    attention = cam.CAM(dtype=keras.config.floatx(), name="soft_cam")(
        cam.class_maps(x, dense), logit
    )
    return keras.Model(image, [logit, attention], name="discriminator")


def expert(name, tag, image_size):
    """The frozen network image (B, S, S, 3) -> Soft-CAM (B, s, s) of a classifier's weights.

    name, tag: as in zoo.weights.find. Images are resized to the size that the classifier takes. A
    network without class activation maps raises WeightsError.
    """
    try:
        network = cam.explained(weights.load(name, tag))
    except weights.WeightsError as error:
        raise weights.WeightsError(f"teacher: {error}; teacher=MODEL:TAG names another") from None
    except ValueError as error:
        raise weights.WeightsError(f"{name}:{tag} cannot teach attention: {error}") from None
    side = network.input_shape[1]
    x = image = keras.Input((image_size, image_size, 3), name="image")
    if side != image_size:
        x = keras.layers.Resizing(side, side, name="resize")(x)
    _, attention = network(x)
    network = keras.Model(image, attention, name="teacher")
    network.trainable = False
    return network


def build(image_size=64, latent=100, width=64, map_size=8, teacher="resnet9:creatures"):
    """-> Networks "generator": noise (B, latent) -> image (B, S, S, 3) in [-1, 1];
    "discriminator": image -> [logit (B, 1), Soft-CAM (B, s, s)]; not iterated over: "teacher",
    image -> Soft-CAM, and "annotator", noise -> [image, the discriminator's Soft-CAM of it], which
    shares the weights of generator and discriminator.

    width: channels of the largest feature map. map_size: s, side of the discriminator's last map.
    teacher: MODEL:TAG or MODEL:PLACE/TAG, the weights of a classifier of the zoo with global
    average pooling; the file is read when networks["teacher"] is first accessed.
    """
    dcgan.check(image_size, latent, width)
    sizes = dcgan.map_sizes(image_size)
    model, _, tag = teacher.partition(":")
    if map_size not in sizes:
        raise ValueError(f"map_size must be one of {sizes} at image_size {image_size}")
    if not tag:
        why = (
            f", not {teacher!r}" if teacher else ": there is no default here, train and publish one"
        )
        raise ValueError(f"teacher takes MODEL:TAG, a classifier of the same kind of images{why}")
    networks = Networks(
        {
            "generator": lambda: dcgan.generator(image_size, latent, width),
            "discriminator": lambda: discriminator(image_size, width, map_size),
        },
        optional={
            "teacher": lambda: expert(model, tag, image_size),
            "annotator": lambda: cam.annotator(networks["generator"], networks["discriminator"]),
        },
    )
    return networks

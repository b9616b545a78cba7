"""WGAN: Wasserstein GAN (Arjovsky et al., 2017), and WGAN-GP (Gulrajani et al., 2017).

    G       z(100) -> dense 4x4 -> up 8 -> ... -> up S -> tanh      the DCGAN generator
    critic  image -> down S/2 -> ... -> down 4x4 -> dense -> score  the DCGAN discriminator

| papers                                       | here                                          |
|----------------------------------------------|-----------------------------------------------|
| g_theta, f_w                                 | `generator`, `discriminator` (the critic)     |
| WGAN: weights of f_w clipped to [-c, c]      | loss="wgan": batch normalisation; trainers.wgan |
| WGAN-GP, section 4: no batch normalisation   | loss="wgan_gp": layer normalisation           |
"""

import keras

from . import dcgan
from .networks import Networks


def layer_norm(x, name):
    """Layer normalisation over (H, W, C), with a scale and an offset for each channel."""
    return keras.layers.GroupNormalization(groups=1, epsilon=1e-5, name=name)(x)


NORMS = {"wgan": dcgan.norm, "wgan_gp": layer_norm}


def build(image_size=32, latent=100, width=64, loss="wgan", self_attention=False):
    """-> Networks "generator": noise (B, latent) -> image; "discriminator": image -> score (B, 1).

    width: channels of the largest feature map. loss: "wgan" or "wgan_gp"; it decides how the critic
    is normalised. self_attention: whether the generator has a self-attention layer on
    its 8 x 8 map.
    """
    if loss not in NORMS:
        raise ValueError(f"unknown loss {loss!r}: wgan has {', '.join(NORMS)}")
    dcgan.check(image_size, latent, width)
    return Networks(
        {
            "generator": lambda: dcgan.generator(image_size, latent, width, self_attention),
            "discriminator": lambda: dcgan.discriminator(image_size, width, NORMS[loss]),
        }
    )

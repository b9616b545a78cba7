"""RAGAN's training (Wang et al., 2019): DCGAN's or WGAN's, with a generator that attends to the
real images of the batch, and a bank of attention layers for sampling without real images."""

import numpy as np

from ..common.images import to_float
from . import dcgan, wgan

RECIPES = dcgan.RECIPES


class RegionalAttention:
    """Mixed into the trainer of a GAN: G(z, X) in place of G(z). With `augment` the discriminator
    alone sees augmented images: X is the image of the batch as it is."""

    ema_network = "generator_with_reference"
    references = None  # (K, S, S, 3): the training images whose attention layers the bank stores

    def fake(self, z, x):
        return self.generator({"noise": z, "image": x}, training=True)

    def sample_with_reference(self, z, x):
        """z (B, latent), real images x (B, S, S, 3) -> images of the averaged generator."""
        pair = {"noise": z, "image": x}
        return self.infer(self.ema_networks["generator_with_reference"], pair)

    def attention(self, images, z):
        """The images and the masks M_i that the averaged localiser places in them."""
        x = to_float(images)
        masks = self.infer(self.ema_networks["attention"], x)["masks"][..., 0]
        return images, masks, (), [f"region {i + 1}" for i in range(masks.shape[1])]

    def prepare(self, batches):
        """Also keeps the first K training images, those of the bank."""
        started = super().prepare(batches)
        entries, images = self.ema_networks["generator"].get_layer("bank").entries, []
        for batch in batches:
            images.extend(np.asarray(batch["image"]))
            if len(images) >= entries:
                break
        self.references = np.stack([images[i % len(images)] for i in range(entries)])
        return started

    def before_save(self):
        """Writes sum_i lambda_i A_i of the kept images, with the averaged weights, to the bank."""
        attention = self.ema_networks["attention"]
        parts = np.array_split(self.references, 8)
        layers = [self.infer(attention, x)["layer"] for x in parts]
        self.ema_networks["generator"].get_layer("bank").bank.assign(np.concatenate(layers))


class RAGAN(RegionalAttention, dcgan.DCGAN):
    """The Letter's DCGAN loss."""


class RAGANWasserstein(RegionalAttention, wgan.WGAN):
    """The Letter's WGAN loss."""


VARIANTS = {"dcgan": (dcgan.HParams, RAGAN), "wgan": (wgan.HParams, RAGANWasserstein)}

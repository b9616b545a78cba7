"""RAGAN's training (Wang et al., 2019): DCGAN's or WGAN's, with a generator that looks at the real
images of the batch, and a bank of attention layers kept for sampling without them."""

import numpy as np

from ..common.images import to_float
from . import dcgan, wgan

RECIPES = dcgan.RECIPES


class RegionalAttention:
    """Mixed into a GAN's trainer: G(z, X) in place of G(z)."""

    ema_network = "generator_with_reference"
    references = None  # (K, S, S, 3): the training images whose attention layers the bank keeps

    def fake(self, z, x):
        return self.generator({"noise": z, "image": x}, training=True)

    def sample_with_reference(self, z, x):
        """z (B, latent), real images x (B, S, S, 3) -> images, by the averaged generator."""
        pair = {"noise": z, "image": x}
        return self.infer(self.ema_networks["generator_with_reference"], pair)

    def attention(self, images, z):
        """The masks M_i of the averaged localiser in images."""
        x = to_float(images)
        return images, self.infer(self.ema_networks["attention"], x)["masks"][..., 0], ()

    def prepare(self, batches):
        """Takes the bank's K training images from an iterable of batches, always the same ones."""
        entries, images = self.ema_networks["generator"].get_layer("bank").entries, []
        for batch in batches:
            images.extend(np.asarray(batch["image"]))
            if len(images) >= entries:
                break
        self.references = np.stack([images[i % len(images)] for i in range(entries)])

    def before_save(self):
        """Writes sum_i lambda_i A_i of the kept images, by the averaged weights, into the bank."""
        attention = self.ema_networks["attention"]
        parts = np.array_split(self.references, 8)
        layers = [self.infer(attention, x)["layer"] for x in parts]
        self.ema_networks["generator"].get_layer("bank").bank.assign(np.concatenate(layers))


class RAGAN(RegionalAttention, dcgan.DCGAN):
    """The Letter's DCGAN loss."""


class RAGANWasserstein(RegionalAttention, wgan.WGAN):
    """The Letter's WGAN loss."""


VARIANTS = {"dcgan": (dcgan.HParams, RAGAN), "wgan": (wgan.HParams, RAGANWasserstein)}

"""RAGAN's training (Wang et al., 2019): DCGAN's or WGAN's, with a generator that attends to the
real images of the batch, and a bank of attention layers for sampling without real images."""

import dataclasses
import itertools
from math import inf

import numpy as np
import tensorflow as tf

from ..common.images import to_float
from ..zoo.layers import dropout
from . import augment, base, dcgan, optimizers, wgan

RECIPES = dcgan.RECIPES
REFERENCES = 2 * augment.STREAMS  # the first stream of random numbers for X
DROPOUT = 3 * augment.STREAMS  # the same for the dropout of regions
REFERENCE_IMAGES = ("own", "other", "mirrored", "augmented")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Readings:
    """Ours, for what the Letter leaves open; the defaults change nothing.

    reference_images: the real images X that the generator looks at in training. own: those of the
    discriminator's batch. other: those of further batches, so that a step takes twice as many
    images. mirrored: those of the discriminator's batch, left and right exchanged. augmented: those
    of its batch, each with random changes of color, translation and cutout. For sampling, X is
    never changed. lambda_rate: the learning rate of the lambdas, divided by that of the other
    weights of the generator; at least 0.
    """

    reference_images: str = "own"
    lambda_rate: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        base.check(self, lambda_rate=(0, inf))
        if self.reference_images not in REFERENCE_IMAGES:
            known = ", ".join(REFERENCE_IMAGES)
            raise ValueError(f"reference_images is one of {known}, not {self.reference_images!r}")


@dataclasses.dataclass(frozen=True)
class HParams(Readings, dcgan.HParams):
    """The loss of DCGAN."""


@dataclasses.dataclass(frozen=True)
class WassersteinHParams(Readings, wgan.HParams):
    """The loss of WGAN."""


class RegionalAttention:
    """Mixed into the trainer of a GAN: G(z, X) in place of G(z). With `augment` the discriminator
    alone sees augmented images; X is as `reference_images` says."""

    ema_network = "generator_with_reference"
    references = None  # (K, S, S, 3): the training images whose attention layers the bank stores

    @property
    def batches_per_step(self):
        return super().batches_per_step * (2 if self.hp.reference_images == "other" else 1)

    def optimizers(self):
        pair = super().optimizers()
        if self.hp.lambda_rate != 1:
            lambdas = self.networks["attention"].get_layer("attention_layer").weight
            optimizers.scale_rate(pair[0], lambdas, self.hp.lambda_rate)
        return pair

    def images_and_references(self, images):
        """The images of a step -> (those of the discriminator, X), of equal shapes."""
        kind, count = self.hp.reference_images, super().batches_per_step
        if kind == "other":
            return tf.split(images, 2)
        if kind == "mirrored":
            return images, tf.reverse(images, [2])
        if kind == "augmented":
            transforms = augment.chosen("color,translation,cutout")
            parts = enumerate(tf.split(images, count), REFERENCES)
            changed = [augment.T(x, transforms, self.key(stream)) for stream, x in parts]
            return images, tf.concat(changed, 0)
        return images, images

    def train_step(self, batch):
        images, references = self.images_and_references(batch["image"])
        streams = itertools.count(DROPOUT)  # one for each pass of the generator
        with dropout.noise(lambda shape: base.uniform(shape, self.key(next(streams)))):
            return super().train_step({"image": images, "reference": references})

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


VARIANTS = {"dcgan": (HParams, RAGAN), "wgan": (WassersteinHParams, RAGANWasserstein)}

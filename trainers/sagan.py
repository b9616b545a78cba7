"""SAGAN's training (Zhang et al., 2019, sections 4 and 5): the hinge loss, or that of the document
on dogs, with separate learning rates for generator and discriminator."""

import dataclasses
from math import inf

import numpy as np
import tensorflow as tf

from ..common.images import to_float
from ..zoo.layers import self_attention
from ..zoo.layers.labels import labels
from . import augment, base, dcgan, losses, optimizers
from .base import Recipe


@dataclasses.dataclass(frozen=True)
class HParams(augment.HParams):
    """g_learning_rate, d_learning_rate, beta_1, beta_2: of Adam, for the generator and the
    discriminator (SAGAN, section 5). ema_decay: of the moving average of the weights (ours; 0:
    none)."""

    g_learning_rate: float = 1e-4
    d_learning_rate: float = 4e-4
    beta_1: float = 0.0
    beta_2: float = 0.9
    ema_decay: float = 0.999

    def __post_init__(self):
        super().__post_init__()
        base.check(self, g_learning_rate=(0, inf), d_learning_rate=(0, inf))
        base.check(self, beta_1=(0, 1), beta_2=(0, 1), ema_decay=(0, 1))


RECIPES = {
    **dcgan.RECIPES,
    "cifar10": Recipe(image_size=32, batch_size=64, steps=100_000),  # ours
    "stl10": Recipe(image_size=32, batch_size=64, steps=100_000),  # ours
    "stanford_dogs": Recipe(image_size=64, batch_size=64, steps=30_000),  # the document
    "folder": Recipe(image_size=64, batch_size=64, steps=30_000),
}


def inputs_of(x, y):
    """The inputs of a network: x, or with a label y both."""
    return x if y is None else [x, y]


class SAGAN(augment.GAN):
    d_loss = staticmethod(losses.hinge_discriminator)
    g_loss = staticmethod(losses.hinge_generator)

    def __init__(self, networks, ema_networks, hp, seed):
        super().__init__(networks, {"generator": ema_networks["generator"]}, hp, seed)

    def optimizers(self):
        def adam(rate):
            return optimizers.Adam(rate, self.hp.beta_1, self.hp.beta_2)

        return adam(self.hp.g_learning_rate), adam(self.hp.d_learning_rate)

    def train_step(self, batch):
        x, G, D, T = batch["image"], self.generator, self.discriminator, self.augmented
        y = batch["label"] if self.classes else None  # of real images, and of fakes too
        z = self.noise(tf.shape(x)[0])
        with tf.GradientTape() as g_tape:
            fake = G(inputs_of(z, y), training=True)
            with g_tape.stop_recording(), tf.GradientTape() as d_tape:
                real = T(x, 0)
                real_logits = D(inputs_of(real, y), training=True)
                fake_logits = D(inputs_of(T(tf.stop_gradient(fake), 1), y), training=True)
                d_loss = self.d_loss(real=real_logits, fake=fake_logits)
                total = d_loss + self.r1(real, y)
            with g_tape.stop_recording():
                self.update(d_tape, total, D, self.d_optimizer)
            g_loss = self.g_loss(fake=D(inputs_of(T(fake, 2), y), training=True))
        self.update(g_tape, g_loss, G, self.g_optimizer)
        self.update_average()
        return self.logs(d_loss, g_loss, real_logits, fake_logits) | self.adapt(real_logits)

    @property
    def classes(self):
        """Number of classes; 0 for networks that take no label."""
        conditional = len(self.generator.inputs) > 1
        return self.discriminator.get_layer("project").input_dim if conditional else 0

    def generator_inputs(self, z):
        """z, or for networks that take a label z and a label that is a function of z."""
        z = np.asarray(z, "float32")
        return inputs_of(z, labels(z, self.classes) if self.classes else None)

    def attention(self, images, z):
        """As in GAN; if the generator has no attention, the discriminator's in real images."""
        of_generator = super().attention(images, z)
        if of_generator or "attention" not in self.networks:
            return of_generator
        maps = self.infer(self.networks["attention"], to_float(images))
        return images, *self_attention.attention_at(maps, images.shape[1])


class NonSaturating(SAGAN):
    """The document's loss (equations 1 to 3)."""

    d_loss = staticmethod(losses.discriminator)
    g_loss = staticmethod(losses.non_saturating_generator)


VARIANTS = {"hinge": (HParams, SAGAN), "non_saturating": (HParams, NonSaturating)}

"""DCGAN's training (Radford et al., 2016, section 4; Goodfellow et al., 2014, algorithm 1)."""

import dataclasses
from math import inf

import tensorflow as tf

from . import augment, base, losses, optimizers
from .base import Recipe


@dataclasses.dataclass(frozen=True)
class HParams(augment.HParams):
    """learning_rate, beta_1: of Adam (section 4). beta_2: Adam's default. ema_decay: of the moving
    average of the weights (ours; 0: none). d_rate: the learning rate of the discriminator, divided
    by that of the generator (ours; a lower one calms a discriminator that is too far ahead, see
    docs/results/ragan.md)."""

    learning_rate: float = 2e-4
    beta_1: float = 0.5
    beta_2: float = 0.999
    ema_decay: float = 0.999
    d_rate: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        unit = (0, 1)
        base.check(self, learning_rate=(0, inf), beta_1=unit, beta_2=unit, ema_decay=unit)
        base.check(self, d_rate=(0, inf))


RECIPES = {  # by data set
    "creatures": Recipe(image_size=32, batch_size=32, steps=600),  # ours: minutes on a CPU
    "cifar10": Recipe(image_size=32, batch_size=64, steps=200_000),  # the RAGAN Letter
    "stl10": Recipe(image_size=32, batch_size=64, steps=200_000),  # the RAGAN Letter
    "celeb_a": Recipe(image_size=64, batch_size=64, steps=50_866),  # the Letter: 20 epochs
    "folder": Recipe(image_size=64, batch_size=64, steps=50_000),  # ours
}


class DCGAN(augment.GAN):
    def optimizers(self):
        def adam(rate):
            return optimizers.Adam(rate, self.hp.beta_1, self.hp.beta_2)

        return adam(self.hp.learning_rate), adam(self.hp.learning_rate * self.hp.d_rate)

    def fake(self, z, x):
        """G(z). x: the batch's "reference", or without one its "image", for generators that look
        at real images."""
        return self.generator(z, training=True)

    def train_step(self, batch):
        x, T = batch["image"], self.augmented
        z = self.noise(tf.shape(x)[0])
        D = self.discriminator
        with tf.GradientTape() as g_tape:
            fake = self.fake(z, batch.get("reference", x))
            with g_tape.stop_recording(), tf.GradientTape() as d_tape:
                real = T(x, 0)
                real_logits = D(real, training=True)
                fake_logits = D(T(tf.stop_gradient(fake), 1), training=True)
                d_loss = losses.discriminator(real=real_logits, fake=fake_logits)
                total = d_loss + self.r1(real)
            with g_tape.stop_recording():
                self.update(d_tape, total, D, self.d_optimizer)
            g_loss = losses.non_saturating_generator(fake=D(T(fake, 2), training=True))
        self.update(g_tape, g_loss, self.generator, self.g_optimizer)
        self.update_average()
        return self.logs(d_loss, g_loss, real_logits, fake_logits) | self.adapt(real_logits)


VARIANTS = {"dcgan": (HParams, DCGAN)}

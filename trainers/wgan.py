"""WGAN's training (Arjovsky et al., 2017, algorithm 1), and WGAN-GP's with a gradient penalty in
place of clipping (Gulrajani et al., 2017, algorithm 1)."""

import dataclasses
from math import inf

import keras
import tensorflow as tf

from ..zoo.layers.precision import in_full
from . import augment, base, dcgan, losses, optimizers
from .base import Recipe

RECIPES = {
    **dcgan.RECIPES,
    "celeb_a": Recipe(image_size=64, batch_size=64, steps=10_173),  # 20 epochs, 5 batches a step
}


@dataclasses.dataclass(frozen=True)
class HParams(augment.HParams):
    """learning_rate: of RMSProp. clip: the critic's weights are kept in [-clip, clip]. n_critic:
    updates of the critic for one of the generator (algorithm 1 of WGAN). ema_decay: of the moving
    average of the weights (ours; 0: none). augment_target and r1 cannot be used with this loss."""

    learning_rate: float = 5e-5
    clip: float = 0.01
    n_critic: int = 5
    ema_decay: float = 0.999

    def __post_init__(self):
        super().__post_init__()
        augment.check_critic(self)
        positive = (0, inf)
        base.check(self, learning_rate=positive, clip=positive)
        base.check(self, n_critic=(1, 100), ema_decay=(0, 1))


@dataclasses.dataclass(frozen=True)
class PenaltyHParams(augment.HParams):
    """learning_rate, beta_1, beta_2: of Adam. penalty: the weight lambda of the gradient penalty.
    n_critic: updates of the critic for one of the generator (algorithm 1 of WGAN-GP). ema_decay: of
    the moving average of the weights (ours; 0: none). augment_target and r1 cannot be used with
    this loss."""

    learning_rate: float = 1e-4
    beta_1: float = 0.0
    beta_2: float = 0.9
    penalty: float = 10.0
    n_critic: int = 5
    ema_decay: float = 0.999

    def __post_init__(self):
        super().__post_init__()
        augment.check_critic(self)
        base.check(self, learning_rate=(0, inf), penalty=(0, inf))
        base.check(self, beta_1=(0, 1), beta_2=(0, 1), n_critic=(1, 100), ema_decay=(0, 1))


class WGAN(augment.GAN):
    @property
    def batches_per_step(self):
        return self.hp.n_critic

    def optimizers(self):
        def rmsprop():
            return keras.optimizers.RMSprop(self.hp.learning_rate)

        return rmsprop(), rmsprop()

    def fake(self, z, x):
        """G(z). x: the batch's "reference", or without one its "image", for generators that look
        at real images."""
        return self.generator(z, training=True)

    def critic_loss(self, x, fake, t):
        """The loss of critic step t, 0 <= t < n_critic, for images as the critic sees them."""
        f = self.discriminator
        return losses.wasserstein_critic(real=f(x, training=True), fake=f(fake, training=True))

    def constrain(self):
        """w <- clip(w, -c, c), line 7."""
        for w in self.discriminator.trainable_variables:
            w.assign(tf.clip_by_value(w, -self.hp.clip, self.hp.clip))

    def train_step(self, batch):
        count, T = self.hp.n_critic, self.augmented
        batches = tf.split(batch["image"], count)  # fresh images for every critic step
        references = tf.split(batch["reference"], count) if "reference" in batch else batches
        for t, (x, reference) in enumerate(zip(batches, references)):
            fake = self.fake(self.noise(tf.shape(x)[0], stream=1 + t), reference)
            with tf.GradientTape() as tape:
                d_loss = self.critic_loss(T(x, 1 + t), T(fake, 1 + count + t), t)
            self.update(tape, d_loss, self.discriminator, self.d_optimizer)
            self.constrain()
        with tf.GradientTape() as tape:
            fake = self.fake(self.noise(tf.shape(x)[0]), reference)
            g_loss = losses.wasserstein_generator(
                fake=self.discriminator(T(fake, 0), training=True)
            )
        self.update(tape, g_loss, self.generator, self.g_optimizer)
        self.update_average()
        return {"d_loss": d_loss, "g_loss": g_loss}


class WGANGP(WGAN):
    def optimizers(self):
        def adam():
            return optimizers.Adam(self.hp.learning_rate, self.hp.beta_1, self.hp.beta_2)

        return adam(), adam()

    def critic_loss(self, x, fake, t):
        share = self.noise(tf.shape(x)[0], stream=1 + self.hp.n_critic + t)[:, :1, None, None]
        share = (share + 1) / 2  # epsilon ~ U[0, 1], line 4
        between = share * x + (1 - share) * fake  # line 6
        with tf.GradientTape() as tape:
            tape.watch(between)
            with in_full(self.discriminator):
                score = self.discriminator(between, training=True)
        penalty = losses.gradient_penalty(gradient=tape.gradient(score, between))
        return super().critic_loss(x, fake, t) + self.hp.penalty * penalty  # line 7

    def constrain(self):
        """Does nothing: the penalty takes the place of clipping."""


VARIANTS = {"wgan": (HParams, WGAN), "wgan_gp": (PenaltyHParams, WGANGP)}

"""DualGAN's training (Yi et al., 2017, section 3 and algorithm 1), and that of its authors' code of
August 2017, with the sigmoid cross entropy in place of the Wasserstein distance."""

import dataclasses
import itertools
from math import inf
from typing import ClassVar

import keras
import tensorflow as tf

from ..zoo.layers import dropout
from . import base, cyclegan, losses
from .base import Recipe

NOISE = 1_000  # the first stream of random numbers that dropout takes
EPSILON = 1e-10  # of RMSProp, in TensorFlow 1
LAYERS = 8  # more than a generator has with dropout


@dataclasses.dataclass(frozen=True)
class HParams:
    """learning_rate, rho: of RMSProp (the code). clip, n_critic, lambda_u, lambda_v: algorithm 1
    and equation 3; the values are the code's, within the ranges of section 3. flip: mirror half of
    the images (ours). ema_decay: of the moving average of the weights (ours; 0: none)."""

    pool: ClassVar[int] = 0  # there is no history buffer
    learning_rate: float = 5e-5
    rho: float = 0.9
    clip: float = 0.01
    n_critic: int = 3
    lambda_u: float = 200.0
    lambda_v: float = 200.0
    flip: bool = False
    ema_decay: float = 0.0

    def __post_init__(self):
        unit, positive = (0, 1), (0, inf)
        base.check(self, learning_rate=positive, clip=positive, n_critic=(1, 100))
        base.check(self, lambda_u=positive, lambda_v=positive, rho=unit, ema_decay=unit)


@dataclasses.dataclass(frozen=True)
class SigmoidHParams:
    """learning_rate, rho: of RMSProp (the code). g_steps: updates of the generators in a step (the
    code: 2). lambda_u, lambda_v: weights of the two reconstructions. flip: mirror half of the
    images (ours). ema_decay: of the moving average of the weights (ours; 0: none)."""

    pool: ClassVar[int] = 0
    learning_rate: float = 5e-5
    rho: float = 0.9
    g_steps: int = 2
    lambda_u: float = 20.0
    lambda_v: float = 20.0
    flip: bool = False
    ema_decay: float = 0.0

    def __post_init__(self):
        unit, positive = (0, 1), (0, inf)
        base.check(self, learning_rate=positive, g_steps=(1, 100))
        base.check(self, lambda_u=positive, lambda_v=positive, rho=unit, ema_decay=unit)


RECIPES = {  # by data set
    "creatures": Recipe(image_size=64, batch_size=4, steps=5_000, options={"width": 16}),  # ours
    "folder": Recipe(image_size=256, batch_size=1, steps=100_000),  # ours
    **{  # the code: 45 to 100 epochs; the critics take three images in a step
        name: Recipe(image_size=256, batch_size=1, steps=100 * count // 3)
        for name, count in cyclegan.IMAGES.items()
    },
}


class DualGAN(cyclegan.CycleGAN):
    @property
    def batches_per_step(self):
        return self.hp.n_critic

    def optimizer(self):
        return keras.optimizers.RMSprop(self.hp.learning_rate, self.hp.rho, epsilon=EPSILON)

    def translated(self, direction, images, number):
        """G(images, z): (B, S, S, 3). number: of the call in a step; each has a noise z of its
        own."""
        streams = itertools.count(NOISE + LAYERS * number)
        with dropout.noise(lambda shape: base.uniform(shape, self.key(next(streams)))):
            return self.networks[direction](images, training=True)["translated"]

    def critic_loss(self, real, fake):
        """l_d for one critic, whose scores are given (equations 1 and 2)."""
        return losses.wasserstein_critic(real=real, fake=fake)

    def adversarial_loss(self, fake):
        """The generators' loss for one critic's scores (equation 3)."""
        return losses.wasserstein_generator(fake=fake)

    def constrain(self):
        """w <- clip(w, -c, c) for all weights of the critics (algorithm 1)."""
        for critic in self.discriminators.values():
            for w in critic.trainable_variables:
                w.assign(tf.clip_by_value(w, -self.hp.clip, self.hp.clip))

    def update_critics(self, x, y, number):
        """One update; returns {critic: its loss}. number: of the first call of a generator."""
        fakes = self.translated("b2a", y, number), self.translated("a2b", x, number + 1)
        with tf.GradientTape() as tape:
            found = {
                name: self.critic_loss(D(real, training=True), D(fake, training=True))
                for (name, D), real, fake in zip(self.discriminators.items(), (x, y), fakes)
            }
            loss = sum(found.values())
        self.update_all(tape, loss, [self.optimizers_by_role[name] for name in self.discriminators])
        self.constrain()
        return found

    def loss_terms(self, x, y, number):
        """{name: loss} of the generators. number: of the first of four calls of them."""
        to_y, to_x = self.translated("a2b", x, number), self.translated("b2a", y, number + 1)
        again_x = self.translated("b2a", to_y, number + 2)
        again_y = self.translated("a2b", to_x, number + 3)
        scores = (D(z, training=True) for D, z in zip(self.discriminators.values(), (to_x, to_y)))
        return {
            "gan": sum(self.adversarial_loss(score) for score in scores),
            "cycle_u": losses.cycle(image=x, again=again_x),
            "cycle_v": losses.cycle(image=y, again=again_y),
        }

    def objective(self, terms):
        """l_g (equation 3)."""
        hp = self.hp
        return terms["gan"] + hp.lambda_u * terms["cycle_u"] + hp.lambda_v * terms["cycle_v"]

    def update_generators(self, x, y, number):
        """One update; returns {name: loss}."""
        with tf.GradientTape() as tape:
            terms = self.loss_terms(x, y, number)
            loss = self.objective(terms)
        self.update_all(tape, loss, [self.optimizers_by_role[name] for name in self.generators])
        return terms

    def train_step(self, batch):
        for t, (x, y) in enumerate(self.minibatches(batch)):  # fresh images for every critic step
            found = self.update_critics(x, y, 2 * t)
        terms = self.update_generators(x, y, 2 * self.hp.n_critic)
        self.update_average()
        return terms | found


class Sigmoid(DualGAN):
    """A step is an update of the critics, which are discriminators here, and g_steps of the
    generators, with the same images."""

    batches_per_step = 1

    def networks_and_optimizers(self):
        roles = super().networks_and_optimizers()  # the first one, with an update a step, counts
        return {name: roles[name] for name in (*self.discriminators, *self.generators)}

    def critic_loss(self, real, fake):
        return losses.discriminator(real=real, fake=fake)

    def adversarial_loss(self, fake):
        return losses.non_saturating_generator(fake=fake)

    def constrain(self):
        """Does nothing: these weights are not clipped."""

    def train_step(self, batch):
        x, y = self.drawn(batch)
        found = self.update_critics(x, y, 0)
        for number in range(self.hp.g_steps):
            terms = self.update_generators(x, y, 2 + 4 * number)
        self.update_average()
        return terms | found


VARIANTS = {"wgan": (HParams, DualGAN), "sigmoid": (SigmoidHParams, Sigmoid)}

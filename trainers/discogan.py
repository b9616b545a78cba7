"""DiscoGAN's training (Kim et al., 2017, section 3), and that of its authors' code."""

import dataclasses
import functools
from math import inf
from typing import ClassVar

import tensorflow as tf

from . import base, cyclegan, losses, optimizers
from .base import Recipe


@dataclasses.dataclass(frozen=True)
class HParams:
    """learning_rate, beta_1, beta_2, weight_decay: of Adam (section 4). flip: mirror half of the
    images (ours). ema_decay: of the moving average of the weights (ours; 0: none)."""

    pool: ClassVar[int] = 0  # there is no history buffer
    learning_rate: float = 2e-4
    beta_1: float = 0.5
    beta_2: float = 0.999
    weight_decay: float = 1e-4
    flip: bool = False
    ema_decay: float = 0.0

    def __post_init__(self):
        unit, positive = (0, 1), (0, inf)
        base.check(self, learning_rate=positive, weight_decay=positive)
        base.check(self, beta_1=unit, beta_2=unit, ema_decay=unit)


@dataclasses.dataclass(frozen=True)
class OfficialHParams(HParams):
    """The values of the authors' code. features: the share of feature matching in the adversarial
    part of the objective. r: the share of the reconstruction in all of it; it is r_first in the
    first r_steps steps (the code's 10,000 iterations, of which a step is three)."""

    weight_decay: float = 1e-5
    features: float = 0.9
    r: float = 0.5
    r_first: float = 0.01
    r_steps: int = 3_333

    def __post_init__(self):
        super().__post_init__()
        unit = (0, 1)
        base.check(self, features=unit, r=unit, r_first=unit, r_steps=(0, inf))


RECIPES = {  # by data set
    "creatures": Recipe(image_size=64, batch_size=4, steps=5_000, options={"width": 16}),  # ours
    "folder": Recipe(image_size=64, batch_size=64, steps=20_000),  # ours
    **{  # the code's batch; ours: 1,000 epochs
        name: Recipe(image_size=64, batch_size=64, steps=1_000 * count // 64)
        for name, count in cyclegan.IMAGES.items()
    },
}


class DiscoGAN(cyclegan.CycleGAN):
    def optimizer(self):
        hp = self.hp
        return optimizers.L2Adam(hp.learning_rate, hp.beta_1, hp.beta_2, hp.weight_decay)

    def discriminator_loss(self, real, fake):
        """L_D_A or L_D_B (section 3). real, fake: what the discriminator gives for a batch."""
        return losses.discriminator(real=real["logits"], fake=fake["logits"])

    def loss_terms(self, x, y, to_x, to_y):
        """{name: loss}, each the sum over both directions; `objective` weighs them."""
        G, F = self.networks["a2b"], self.networks["b2a"]
        again_x = F(to_y, training=True)["translated"]
        again_y = G(to_x, training=True)["translated"]
        D_A, D_B = self.networks["discriminator_a"], self.networks["discriminator_b"]
        fake_a, fake_b = D_A(to_x, training=True), D_B(to_y, training=True)
        terms = {
            "gan": losses.non_saturating_generator(fake=fake_a["logits"])
            + losses.non_saturating_generator(fake=fake_b["logits"]),
            "reconstruction": losses.squared_cycle(image=x, again=again_x)
            + losses.squared_cycle(image=y, again=again_y),
        }
        return terms | self.feature_terms(x, y, fake_a, fake_b)

    def feature_terms(self, x, y, fake_a, fake_b):
        """More losses, for what the discriminators give for generated images."""
        return {}

    def objective(self, terms):
        """L_G = L_GAN_A + L_GAN_B + L_CONST_A + L_CONST_B (section 3)."""
        return terms["gan"] + terms["reconstruction"]

    def update_generators(self, x, y, objective):
        """One update; returns ({name: loss}, F(y), G(x)). objective: {name: loss} -> a scalar."""
        G, F = self.networks["a2b"], self.networks["b2a"]
        with tf.GradientTape() as tape:
            to_y, to_x = (N(z, training=True)["translated"] for N, z in ((G, x), (F, y)))
            terms = self.loss_terms(x, y, to_x, to_y)
            loss = objective(terms)
        self.update_all(tape, loss, [self.optimizers_by_role[name] for name in self.generators])
        return terms, to_x, to_y

    def update_discriminators(self, x, y, to_x, to_y):
        """One update; returns {discriminator: its loss}."""
        with tf.GradientTape() as tape:
            found = {
                name: self.discriminator_loss(D(real, training=True), D(fake, training=True))
                for (name, D), real, fake in zip(self.discriminators.items(), (x, y), (to_x, to_y))
            }
            loss = sum(found.values())
        self.update_all(tape, loss, [self.optimizers_by_role[name] for name in self.discriminators])
        return found

    def train_step(self, batch):
        x, y = self.drawn(batch)
        terms, to_x, to_y = self.update_generators(x, y, self.objective)
        found = self.update_discriminators(x, y, to_x, to_y)
        self.update_average()
        return terms | found


class OfficialDiscoGAN(DiscoGAN):
    """A step is an update of the discriminators and two of the generators, each with images of its
    own."""

    batches_per_step = 3

    def networks_and_optimizers(self):
        roles = super().networks_and_optimizers()  # the first one, with an update a step, counts
        return {name: roles[name] for name in (*self.discriminators, *self.generators)}

    def discriminator_loss(self, real, fake):
        return super().discriminator_loss(real, fake) / 2

    def feature_terms(self, x, y, fake_a, fake_b):
        total = 0.0
        for D, image, fake in zip(self.discriminators.values(), (x, y), (fake_a, fake_b)):
            real = D(image, training=True)["features"]
            total += sum(
                losses.feature_matching(real=base.batch_mean(f), fake=base.batch_mean(g))
                for f, g in zip(real, fake["features"])
            )
        return {"features": total}

    def curriculum(self):
        """The value of r at this step."""
        return tf.where(self.step < self.hp.r_steps, self.hp.r_first, self.hp.r)

    def objective(self, terms, r):
        share = self.hp.features
        game = (1 - share) * terms["gan"] + share * terms["features"]
        return (1 - r) * game + r * terms["reconstruction"]

    def train_step(self, batch):
        r, (first, *others) = self.curriculum(), self.minibatches(batch)
        x, y = first
        G, F = self.networks["a2b"], self.networks["b2a"]
        to_y, to_x = (N(z, training=True)["translated"] for N, z in ((G, x), (F, y)))
        found = self.update_discriminators(x, y, to_x, to_y)
        for x, y in others:
            terms, *_ = self.update_generators(x, y, functools.partial(self.objective, r=r))
        self.update_average()
        return terms | found | {"r": r}


VARIANTS = {"paper": (HParams, DiscoGAN), "official": (OfficialHParams, OfficialDiscoGAN)}

"""GANimorph's training (Gokaslan et al., 2018, section 3): adversarial loss, feature matching, and
a cycle loss of multi-scale structural similarity and L1, each divided by its own moving average.

The weights and constants of the paper are those that public summaries of it state; where they state
none, and for `official`, those of the authors' code.
"""

import dataclasses
from math import inf
from typing import ClassVar

import tensorflow as tf

from . import base, cyclegan, losses
from .base import Recipe

EPSILON = 1e-10  # is added to what a loss is divided by
TERMS = ("gan", "features", "structure", "cycle")


@dataclasses.dataclass(frozen=True)
class HParams:
    """The generators' objective is

        lambda_gan gan + lambda_fm features + lambda_cycle (lambda_ss structure + lambda_l1 cycle)

    with each loss divided by its own value of the scheduled loss normalisation: a moving average
    with decay `normalise_decay`, which is taken over after every `normalise_every` steps, and once
    after `normalise_first` of them (0: not). Before that the divisors are 1; normalise_every=0:
    they remain so.

    d_every: steps from one update of the discriminators to the next; the generators are updated in
    every step (paper: 1 or 2, by data set; the authors' code: 2). learning_rate, beta_1, beta_2:
    of Adam (the authors' code). decay_steps: steps after which the rate is 0; it falls from the
    share `decay_from` of them on (the authors' code; decay_steps=0 or decay_from=1: it is
    constant). flip: mirror half of the images. ema_decay: of the moving average of the weights
    (ours; 0: none).
    """

    pool: ClassVar[int] = 0  # there is no history buffer

    lambda_gan: float = 0.49
    lambda_fm: float = 0.21
    lambda_cycle: float = 0.3
    lambda_ss: float = 0.7
    lambda_l1: float = 0.3
    normalise_every: int = 200
    normalise_first: int = 0
    normalise_decay: float = 0.99
    d_every: int = 2
    learning_rate: float = 2e-4
    beta_1: float = 0.5
    beta_2: float = 0.999
    decay_steps: int = 0
    decay_from: float = 0.5
    flip: bool = True
    ema_decay: float = 0.0

    def __post_init__(self):
        unit, positive = (0, 1), (0, inf)
        base.check(self, lambda_gan=positive, lambda_fm=positive, lambda_cycle=positive)
        base.check(self, lambda_ss=positive, lambda_l1=positive, normalise_decay=unit)
        base.check(self, normalise_every=positive, normalise_first=positive, d_every=(1, inf))
        base.check(self, learning_rate=positive, decay_steps=positive, decay_from=unit)
        base.check(self, beta_1=unit, beta_2=unit, ema_decay=unit)


@dataclasses.dataclass(frozen=True)
class OfficialHParams(HParams):
    """The values of the authors' code: 0.67 and 0.33 for the two halves of the objective, 0.7 and
    0.3 within each, and a slower moving average that is taken over more often."""

    lambda_gan: float = 0.67 * 0.7
    lambda_fm: float = 0.67 * 0.3
    lambda_cycle: float = 0.33
    normalise_every: int = 90
    normalise_first: int = 36
    normalise_decay: float = 0.9999


LARGE = {"image_size": 128, "load_size": 143}  # images are cut out at random
RECIPES = {  # by data set
    "creatures": Recipe(
        image_size=64, batch_size=4, steps=5_000, options={"width": 16, "blocks": 1}
    ),  # ours
    **{  # 200,000 updates for easy data sets (summaries of the paper), batches of the code
        name: Recipe(**LARGE, batch_size=16, steps=200_000) for name in ("folder", *cyclegan.IMAGES)
    },
}


def unit(images):
    """Images in [-1, 1] -> [0, 1], where the paper's losses compare them."""
    return (images + 1) / 2


class GANimorph(cyclegan.CycleGAN):
    """Trains generators "a2b" and "b2a" with discriminators that give {"logits", "features"}."""

    def __init__(self, networks, ema_networks, hp, seed):
        super().__init__(networks, ema_networks, hp, seed)
        first = tf.VariableAggregation.ONLY_FIRST_REPLICA
        self.averages, self.divisors = (
            tf.Variable(tf.ones(len(TERMS)), trainable=False, aggregation=first) for _ in range(2)
        )

    def networks_and_optimizers(self):
        found = super().networks_and_optimizers()
        for name, D in self.discriminators.items():
            found[name] = D, self.optimizer(self.hp.d_every)
        return found

    def state(self):
        """Also the moving averages of the losses, and what the losses are divided by."""
        own = {"loss_averages": self.averages, "loss_divisors": self.divisors}
        return super().state() | own

    def phase(self, step):
        """Whether the step updates the discriminators."""
        return step % self.hp.d_every == 0

    def loss_terms(self, x, y, to_x, to_y, pairs):
        """{name: loss}, each the sum over both directions; pairs: {discriminator: its outputs for
        (real, generated images)}."""
        G, F = self.networks["a2b"], self.networks["b2a"]
        again_x = F(to_y["translated"], training=True)["translated"]
        again_y = G(to_x["translated"], training=True)["translated"]
        terms = dict.fromkeys(TERMS, 0.0)
        for real, fake in pairs.values():
            terms["gan"] += losses.non_saturating_generator(fake=fake["logits"])
            maps = list(zip(real["features"], fake["features"]))
            for a, b in maps:
                a, b = tf.stop_gradient(base.batch_mean(a)), base.batch_mean(b)
                terms["features"] += losses.feature_matching(real=a, fake=b) / len(maps)
        for image, again in ((x, again_x), (y, again_y)):
            image, again = unit(image), unit(again)
            terms["structure"] += losses.structure(image=image, again=again)
            terms["cycle"] += losses.cycle(image=image, again=again)
        return terms

    def objective(self, terms):
        """The sum in HParams."""
        hp = self.hp
        weights = {
            "gan": hp.lambda_gan,
            "features": hp.lambda_fm,
            "structure": hp.lambda_cycle * hp.lambda_ss,
            "cycle": hp.lambda_cycle * hp.lambda_l1,
        }
        divisors = dict(zip(TERMS, tf.unstack(self.divisors + EPSILON)))
        return sum(weights[name] * terms[name] / divisors[name] for name in TERMS)

    def normalise(self, terms):
        """The scheduled loss normalisation, after the step's updates."""
        hp = self.hp
        terms = base.mean_over_replicas(terms)
        values = tf.stack([terms[name] for name in TERMS])
        averages = hp.normalise_decay * self.averages + (1 - hp.normalise_decay) * values
        due = (self.step % hp.normalise_every == 0) | (self.step == hp.normalise_first)
        self.averages.assign(averages)
        self.divisors.assign(tf.where(due, averages, self.divisors))

    def train_step(self, batch):
        phase = self.traced_phase
        updates = self.phase(int(self.step.numpy())) if phase is None else phase
        x, y = self.drawn(batch)
        G, F = self.networks["a2b"], self.networks["b2a"]
        with tf.GradientTape(persistent=True) as tape:
            to_y, to_x = G(x, training=True), F(y, training=True)
            pairs = {
                name: [self.networks[name](image, training=True) for image in images]
                for name, images in self.discriminator_pairs(x, y, to_x, to_y).items()
            }
            terms = self.loss_terms(x, y, to_x, to_y, pairs)
            loss = self.objective(terms)
            d_losses = {  # half of it, as in the authors' code
                name: losses.discriminator(real=real["logits"], fake=fake["logits"]) / 2
                for name, (real, fake) in pairs.items()
            }
            d_loss = sum(d_losses.values())
        self.update_all(tape, loss, [self.optimizers_by_role[name] for name in self.generators])
        if updates:
            roles = [self.optimizers_by_role[name] for name in self.discriminators]
            self.update_all(tape, d_loss, roles)
        self.update_average()
        if self.hp.normalise_every:
            self.normalise(terms)
        divisors = dict(zip([f"divisor_{name}" for name in TERMS], tf.unstack(self.divisors)))
        return terms | d_losses | divisors


VARIANTS = {"paper": (HParams, GANimorph), "official": (OfficialHParams, GANimorph)}

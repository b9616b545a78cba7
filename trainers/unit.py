"""UNIT's training (Liu, Breuel and Kautz, 2017, section 3, and the authors' code of that time)."""

import dataclasses
from math import inf, pi
from typing import ClassVar

import tensorflow as tf

from . import base, cyclegan, losses, optimizers
from .base import Recipe


@dataclasses.dataclass(frozen=True)
class HParams:
    """adversarial: the adversarial loss, least_squares, vanilla or minimax. lambda_gan,
    lambda_code, lambda_reconstruction, lambda_cycle_code, lambda_cycle: lambda_0 to lambda_4 of the
    paper. learning_rate, beta_1, beta_2, weight_decay (1/2 lambda |w|^2 is added to each loss),
    flip: the authors' code. ema_decay: of the moving average of the weights (ours; 0: none)."""

    adversarial: str = "vanilla"
    lambda_gan: float = 10.0
    lambda_code: float = 0.1
    lambda_reconstruction: float = 100.0
    lambda_cycle_code: float = 0.1
    lambda_cycle: float = 100.0
    learning_rate: float = 1e-4
    beta_1: float = 0.5
    beta_2: float = 0.999
    weight_decay: float = 1e-4
    flip: bool = True
    ema_decay: float = 0.0

    pool: ClassVar[int] = 0  # there is no history buffer

    def __post_init__(self):
        unit, positive = (0, 1), (0, inf)
        if self.adversarial not in cyclegan.ADVERSARIAL:
            known = ", ".join(cyclegan.ADVERSARIAL)
            raise ValueError(f"adversarial takes one of {known}, not {self.adversarial!r}")
        base.check(self, lambda_gan=positive, lambda_code=positive, lambda_reconstruction=positive)
        base.check(self, lambda_cycle_code=positive, lambda_cycle=positive)
        base.check(self, learning_rate=positive, weight_decay=positive)
        base.check(self, beta_1=unit, beta_2=unit, ema_decay=unit)


RECIPES = {  # by data set
    "creatures": Recipe(
        image_size=64, batch_size=4, steps=5_000, options={"width": 16, "blocks": 2}
    ),  # ours
    "folder": Recipe(**cyclegan.LARGE, batch_size=1, steps=200_000),  # ours
    **{  # the authors' code: 500,000 updates
        name: Recipe(**cyclegan.LARGE, batch_size=1, steps=500_000) for name in cyclegan.IMAGES
    },
}


class Together:
    """The variables of several networks, each once, for one optimiser."""

    def __init__(self, *networks):
        def unique(kind):
            found = {id(v): v for network in networks for v in getattr(network, kind)}
            return list(found.values())

        self.variables, self.trainable_variables = map(unique, ("variables", "trainable_variables"))


class UNIT(cyclegan.CycleGAN):
    """Trains encoders E_a, E_b and decoders G_a, G_b, which share layers and one optimiser, and two
    discriminators. "a2b" and "b2a" are made of the same layers."""

    def networks_and_optimizers(self):
        names = ("encoder_a", "encoder_b", "decoder_a", "decoder_b")
        self.discriminators = {
            name: self.networks[name] for name in ("discriminator_a", "discriminator_b")
        }
        networks = {"autoencoders": Together(*(self.networks[name] for name in names))}
        networks |= self.discriminators
        return {name: (network, self.optimizer()) for name, network in networks.items()}

    def optimizer(self):
        return optimizers.Adam(self.hp.learning_rate, self.hp.beta_1, self.hp.beta_2)

    def _averaged(self):
        """Each variable once, though both directions have it."""
        return {id(mean): (mean, value) for mean, value in super()._averaged()}.values()

    def noise(self, shape, stream):
        """Standard normal noise (B, h, w, C), uniform noise after Box and Muller's transform."""
        draw = base.uniform((2, *shape), self.key(stream), axis=1)
        return tf.sqrt(-2 * tf.math.log(1 - draw[0])) * tf.cos(2 * pi * draw[1])

    def draw(self, mean, stream):
        """z ~ q(z|x) = N(mean, I)."""
        return mean + self.noise(tf.unstack(tf.shape(mean)), stream)

    def decay(self, role):
        """1/2 lambda |w|^2 of the weights of a role."""
        network, _ = self.optimizers_by_role[role]
        squares = [tf.nn.l2_loss(w) for w in network.trainable_variables]
        return self.hp.weight_decay * tf.add_n(squares)

    def update_discriminators(self, pairs):
        """One step of both discriminators; returns {name: loss}."""
        d_loss, _ = cyclegan.ADVERSARIAL[self.hp.adversarial]
        d_losses, total = {}, 0.0
        with tf.GradientTape() as tape:
            for name, (real, fake) in pairs.items():
                real, fake = self.judge(name, real), self.judge(name, tf.stop_gradient(fake))
                d_losses[name] = d_loss(real=real, fake=fake)
                total += self.hp.lambda_gan * d_losses[name] + self.decay(name)
        self.update_all(tape, total, self.trained(pairs))
        return d_losses

    def objective(self, terms):
        """L_VAE, L_GAN and L_CC of both domains (section 3), with the authors' weight decay."""
        hp = self.hp
        return (
            hp.lambda_gan * terms["gan"]
            + hp.lambda_code * terms["code"]
            + hp.lambda_reconstruction * terms["reconstruction"]
            + hp.lambda_cycle_code * terms["cycle_code"]
            + hp.lambda_cycle * terms["cycle"]
            + self.decay("autoencoders")
        )

    def train_step(self, batch):
        x, y = self.drawn(batch)
        E_a, E_b = self.networks["encoder_a"], self.networks["encoder_b"]
        G_a, G_b = self.networks["decoder_a"], self.networks["decoder_b"]
        code, reconstruction = losses.code, losses.reconstruction
        with tf.GradientTape() as tape:
            mean_x, mean_y = E_a(x, training=True), E_b(y, training=True)
            z_x, z_y = self.draw(mean_x, 2), self.draw(mean_y, 3)
            same_x, to_y = G_a(z_x, training=True), G_b(z_x, training=True)
            same_y, to_x = G_b(z_y, training=True), G_a(z_y, training=True)
            pairs = {"discriminator_a": (x, to_x), "discriminator_b": (y, to_y)}
            with tape.stop_recording():
                d_losses = self.update_discriminators(pairs)
            mean_to_y, mean_to_x = E_b(to_y, training=True), E_a(to_x, training=True)
            again_x = G_a(self.draw(mean_to_y, 4), training=True)
            again_y = G_b(self.draw(mean_to_x, 5), training=True)
            terms = {
                "gan": self.adversarial_loss("discriminator", pairs),
                "code": code(mean=mean_x) + code(mean=mean_y),
                "reconstruction": reconstruction(image=x, again=same_x)
                + reconstruction(image=y, again=same_y),
                "cycle_code": code(mean=mean_to_y) + code(mean=mean_to_x),
                "cycle": reconstruction(image=x, again=again_x)
                + reconstruction(image=y, again=again_y),
            }
            loss = self.objective(terms)
        self.update_all(tape, loss, self.trained(["autoencoders"]))
        self.update_average()
        return terms | d_losses


VARIANTS = {"unit": (HParams, UNIT)}

"""ATA-GAN's training (Kastaniotis et al., 2018, section II.D): DCGAN's, and a teacher that shows
the discriminator where to look."""

import dataclasses
import hashlib
from math import inf

import tensorflow as tf
from keras import ops

from ..common.images import to_float
from ..zoo.layers import cam
from . import base, dcgan, losses
from .base import Recipe

SIZES = {"larger": max, "smaller": min}
PIXELS = {"mean": ops.mean, "sum": ops.sum}


@dataclasses.dataclass(frozen=True)
class HParams(dcgan.HParams):
    """DCGAN's, and of the attention loss, equations 2 and 3:

    attention_weight: its factor (none in the paper; 0: the regular GAN of figure 4). Ours, where
    the paper is silent: normalise, the scale on which maps are compared, a key of
    zoo.layers.cam.NORMALISE; resize, to the larger or the smaller of both maps' sizes; pixels, of
    which the mean or the sum is taken.
    """

    attention_weight: float = 1.0
    normalise: str = "min_max"
    resize: str = "larger"
    pixels: str = "mean"

    def __post_init__(self):
        super().__post_init__()
        base.check(self, attention_weight=(0, inf))
        for name, known in (("normalise", cam.NORMALISE), ("resize", SIZES), ("pixels", PIXELS)):
            value = getattr(self, name)
            if value not in known:
                raise ValueError(f"{name} takes one of {', '.join(known)}, not {value!r}")


CELLS = {"teacher": "resnet18:cells"}
CIFAR10 = {"teacher": "resnet9:cifar10"}
NONE = {"teacher": ""}  # which has to be given
RECIPES = {  # by data set; ours
    "creatures": Recipe(image_size=64, batch_size=32, steps=2_000),
    "cells": Recipe(image_size=64, batch_size=64, steps=20_000, options=CELLS),
    "hep2": Recipe(image_size=64, batch_size=64, steps=20_000, options=NONE),
    "cifar10": Recipe(image_size=32, batch_size=64, steps=50_000, options=CIFAR10),
    "folder": Recipe(image_size=64, batch_size=64, steps=50_000, options=NONE),
}


class ATAGAN(dcgan.DCGAN):
    """networks["teacher"] is loaded here; it is no part of the state, as no step changes it."""

    generator_loss = staticmethod(losses.non_saturating_generator)

    def __init__(self, networks, ema_networks, hp, seed):
        networks = {**networks, "teacher": networks["teacher"]}
        super().__init__(networks, ema_networks, hp, seed)
        self.ema_networks["annotator"] = cam.annotator(
            self.ema_networks["generator"], self.discriminator
        )

    def extra_config(self):
        digest = hashlib.sha256()
        for variable in self.networks["teacher"].variables:
            digest.update(ops.convert_to_numpy(variable).tobytes())
        return {"teacher": digest.hexdigest()[:16]}

    def attention_loss(self, x, shown):
        """Equation 2 of images x (B, S, S, 3) and the discriminator's maps of them (B, s, s)."""
        taught = tf.stop_gradient(self.networks["teacher"](x, training=False))
        size = SIZES[self.hp.resize](taught.shape[1], shown.shape[1])
        taught, shown = (
            cam.normalised(cam.resized(maps, size), self.hp.normalise) for maps in (taught, shown)
        )
        return losses.soft_cam(teacher=taught, discriminator=shown, over=PIXELS[self.hp.pixels])

    def train_step(self, batch):
        x, weight = batch["image"], self.hp.attention_weight
        z = self.noise(tf.shape(x)[0])
        D = self.discriminator
        with tf.GradientTape() as g_tape:
            fake = self.generator(z, training=True)
            with g_tape.stop_recording(), tf.GradientTape() as d_tape:
                still = tf.stop_gradient(fake)
                real_logits, real_shown = D(x, training=True)
                fake_logits, fake_shown = D(still, training=True)
                d_loss = losses.discriminator(real=real_logits, fake=fake_logits)
                total, extra = d_loss, {}
                if weight:
                    attention = self.attention_loss(x, real_shown)
                    attention += self.attention_loss(still, fake_shown)  # equation 3
                    total, extra = d_loss + weight * attention, {"attention_loss": attention}
            with g_tape.stop_recording():
                self.update(d_tape, total, D, self.d_optimizer)
            g_loss = self.generator_loss(fake=D(fake, training=True)[0])
        self.update(g_tape, g_loss, self.generator, self.g_optimizer)
        self.update_average()
        return self.logs(d_loss, g_loss, real_logits, fake_logits) | extra

    def attention(self, images, z):
        """The Soft-CAMs of images, the teacher's and the discriminator's, each from 0 to 1."""
        x = to_float(images)
        taught = self.infer(self.networks["teacher"], x)
        _, shown = self.infer(self.discriminator, x)
        maps = [cam.min_max(cam.resized(m, images.shape[1])) for m in (taught, shown)]
        return images, ops.convert_to_numpy(ops.stack(maps, axis=1)), ()


class ATAGANMinimax(ATAGAN):
    """Equation 4 as it stands, for the generator too."""

    generator_loss = staticmethod(losses.minimax_generator)


VARIANTS = {"non_saturating": (HParams, ATAGAN), "minimax": (HParams, ATAGANMinimax)}

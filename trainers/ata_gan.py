"""ATA-GAN's training (Kastaniotis et al., 2018, section II.D): DCGAN's, with a teacher whose
attention maps the discriminator's must match."""

import dataclasses
import hashlib
from math import inf

import tensorflow as tf
from keras import ops

from ..common.images import to_float
from ..zoo.layers import cam, precision
from . import base, dcgan, losses
from .base import Recipe

SIZES = {"larger": max, "smaller": min}
PIXELS = {"mean": ops.mean, "sum": ops.sum}


@dataclasses.dataclass(frozen=True)
class HParams(dcgan.HParams):
    """For the attention loss (equations 2 and 3), beside DCGAN's.

    attention_weight: weight of the attention loss (none in the paper; 0: the regular GAN of figure
    4). The paper does not say how maps are compared. normalise: how they are scaled before: none,
    min_max (to [0, 1]), sum or norm (each map is divided by it). resize: to the size of the larger
    or the smaller of both maps. pixels: mean or sum over the pixels.
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
HEP2 = {"teacher": "resnet18:hep2"}
CIFAR10 = {"teacher": "resnet9:cifar10"}
NONE = {"teacher": ""}  # there is no default: the user must name one
RECIPES = {  # by data set; ours
    "creatures": Recipe(image_size=64, batch_size=32, steps=2_000),
    "cells": Recipe(image_size=64, batch_size=64, steps=20_000, options=CELLS),
    "hep2": Recipe(image_size=64, batch_size=64, steps=20_000, options=HEP2),
    "cifar10": Recipe(image_size=32, batch_size=64, steps=50_000, options=CIFAR10),
    "folder": Recipe(image_size=64, batch_size=64, steps=50_000, options=NONE),
}


class ATAGAN(dcgan.DCGAN):
    """networks["teacher"] is read here. No step changes it, so that it is not part of the state.

    With `augment` the teacher sees the same augmented image T(x) as the discriminator, so that both
    maps are of one image: a shift or a cutout moves or hides the object for both.
    """

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

    def attention_loss(self, x, own):
        """Equation 2 for images x (B, S, S, 3) and the discriminator's maps (B, s, s) of them."""
        target = tf.stop_gradient(self.networks["teacher"](x, training=False))
        size = SIZES[self.hp.resize](target.shape[1], own.shape[1])
        target, own = (
            cam.normalised(precision.float32(cam.resized(maps, size)), self.hp.normalise)
            for maps in (target, own)
        )
        return losses.soft_cam(teacher=target, discriminator=own, over=PIXELS[self.hp.pixels])

    def train_step(self, batch):
        x, weight, T = batch["image"], self.hp.attention_weight, self.augmented
        z = self.noise(tf.shape(x)[0])
        D = self.discriminator
        with tf.GradientTape() as g_tape:
            fake = self.generator(z, training=True)
            with g_tape.stop_recording(), tf.GradientTape() as d_tape:
                real, still = T(x, 0), T(tf.stop_gradient(fake), 1)
                real_logits, real_maps = D(real, training=True)
                fake_logits, fake_maps = D(still, training=True)
                d_loss = losses.discriminator(real=real_logits, fake=fake_logits)
                total, extra = d_loss + self.r1(real), {}
                if weight:
                    attention = self.attention_loss(real, real_maps)
                    attention += self.attention_loss(still, fake_maps)  # equation 3
                    total, extra = total + weight * attention, {"attention_loss": attention}
            with g_tape.stop_recording():
                self.update(d_tape, total, D, self.d_optimizer)
            g_loss = self.generator_loss(fake=D(T(fake, 2), training=True)[0])
        self.update(g_tape, g_loss, self.generator, self.g_optimizer)
        self.update_average()
        extra |= self.adapt(real_logits)
        return self.logs(d_loss, g_loss, real_logits, fake_logits) | extra

    def attention(self, images, z):
        """The Soft-CAMs of teacher and discriminator in real images, each from 0 to 1."""
        x = to_float(images)
        target = self.infer(self.networks["teacher"], x)
        _, own = self.infer(self.discriminator, x)
        maps = [cam.min_max(cam.resized(m, images.shape[1])) for m in (target, own)]
        labels = ("teacher", "discriminator")
        return images, ops.convert_to_numpy(ops.stack(maps, axis=1)), (), labels


class ATAGANMinimax(ATAGAN):
    """Equation 4 as it is in the paper, for the generator too."""

    generator_loss = staticmethod(losses.minimax_generator)


VARIANTS = {"non_saturating": (HParams, ATAGAN), "minimax": (HParams, ATAGANMinimax)}

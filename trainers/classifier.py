"""Training of classifiers (He et al., 2016, sections 3.4 and 4.2), with a cosine schedule
(Loshchilov and Hutter, 2017, equation 5) after a linear warm-up."""

import dataclasses
from math import inf, pi

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from ..common import variables
from . import augment as transforms
from . import base, losses, optimizers
from .base import Recipe


@dataclasses.dataclass(frozen=True)
class CommonHParams:
    """learning_rate: the highest one. decay_steps: steps after which the rate is 0 (0: it is
    constant, without a warm-up). warm_up: share of decay_steps in which the rate rises (ours).
    momentum: section 3.4. weight_decay: of kernels (section 3.4: 1e-4). smoothing: of labels
    (Szegedy et al., 2016; Jordan, 2024: 0.2). head_rate: factor of the last layer's rate, for
    weights that start trained (`start`). frozen_statistics: batch normalisation uses the averages
    that training starts from, and keeps them. crop: pixels by which an image is shifted at most
    (section 4.2: 4; Jordan: 2). flip: mirror half of the images (section 4.2). ema_decay: of the
    moving average of the weights (ours; 0: none).
    """

    learning_rate: float = 0.1
    decay_steps: int = 0
    warm_up: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    smoothing: float = 0.1
    head_rate: float = 1.0
    frozen_statistics: bool = False
    crop: int = 2
    flip: bool = True
    ema_decay: float = 0.99

    def __post_init__(self):
        base.check(self, learning_rate=(0, inf), decay_steps=(0, inf), warm_up=(0, 1))
        base.check(self, momentum=(0, 1), weight_decay=(0, inf), crop=(0, 1000))
        base.check(self, smoothing=(0, 1), head_rate=(0, inf), ema_decay=(0, 1))


@dataclasses.dataclass(frozen=True)
class HParams(CommonHParams):
    """augment: further random changes of each image, of color, rotation, scale, translation and
    cutout, separated by commas, such as rotation,color (ours); "": none."""

    augment: str = ""

    def __post_init__(self):
        super().__post_init__()
        transforms.chosen(self.augment)


SLOW = {"learning_rate": 0.01}  # without batch normalisation; with more they never learn
CENTRED = {"centred": True}  # those whose padding moves maps
MODELS = {
    "efficientnet_lite0": {"learning_rate": 0.03, "weight_decay": 1e-5, **CENTRED},  # more explodes
    "resnet18": CENTRED,
    "squeezenet": {**SLOW, **CENTRED},
    "vgg16": SLOW,
}
CELLS = {**MODELS, "squeezenet": {"learning_rate": 0.004, **CENTRED}}
RECIPES = {  # by data set; ours
    "creatures": Recipe(image_size=64, batch_size=32, steps=500, variants=MODELS),
    "cifar10": Recipe(image_size=32, batch_size=64, steps=20_000, variants=MODELS),  # 25.6 epochs
    "cells": Recipe(image_size=64, batch_size=64, steps=3_000, variants=CELLS),
    "hep2": Recipe(image_size=128, batch_size=32, steps=3_000, variants=MODELS),  # maps that locate
    "folder": Recipe(image_size=64, batch_size=64, steps=10_000, variants=MODELS),
}


@keras.saving.register_keras_serializable("zoo")
class WarmUpCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly from 0 to peak in the first share of the steps, then falls along half a cosine
    to 0."""

    def __init__(self, peak, steps, share):
        self.peak, self.steps, self.share = peak, steps, share

    def __call__(self, step):
        t = ops.minimum(ops.cast(step, "float32") / self.steps, 1.0)
        rise = t / max(self.share, 1e-9)
        fall = (1 + ops.cos(pi * (t - self.share) / max(1 - self.share, 1e-9))) / 2
        return self.peak * ops.where(t < self.share, rise, fall)

    def get_config(self):
        return {"peak": self.peak, "steps": self.steps, "share": self.share}


def augment(x, crop, flip, key):
    """Images (B, S, S, 3), each shifted by up to `crop` pixels, padded with zeros, and with `flip`
    half of them mirrored, by stateless random numbers of a key."""
    count, size = tf.shape(x)[0], x.shape[1]
    draw = base.uniform((3, count), key, axis=1)
    if flip:
        x = tf.where(draw[0][:, None, None, None] < 0.5, x[:, :, ::-1], x)
    y0, x0 = tf.unstack(tf.cast(draw[1:] * (2 * crop + 1), tf.int32))  # (B,) each, 0 .. 2 crop
    x = tf.pad(x, [[0, 0], [crop, crop], [crop, crop], [0, 0]])
    span = tf.range(size)
    x = tf.gather(x, y0[:, None] + span, axis=1, batch_dims=1)
    return tf.gather(x, x0[:, None] + span, axis=2, batch_dims=1)


def whitening(images, side=2):
    """Images (N, S, S, 3) -> kernel (side, side, 3, 2 D), D = 3 side^2: the eigenvectors of the
    covariance of their patches, each divided by the root of its eigenvalue, and their negatives
    (Jordan, 2024, section 3.1).
    """
    windows = np.lib.stride_tricks.sliding_window_view(images, (side, side), axis=(1, 2))
    patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, side * side * 3)
    values, vectors = np.linalg.eigh(patches.T @ patches / len(patches))
    kernel = vectors / np.sqrt(values + 5e-4)
    return np.concatenate([kernel, -kernel], 1).reshape(side, side, 3, -1)


class Classifier(base.Trainer):
    ema_network = "classifier"

    def networks_and_optimizers(self):
        hp, rate = self.hp, self.hp.learning_rate
        if hp.decay_steps:
            rate = WarmUpCosine(rate, hp.decay_steps, hp.warm_up)
        network = self.networks["classifier"]
        head = variables.last_layer(network).trainable_variables
        optimizer = optimizers.SGD(rate, hp.momentum, True, head, hp.head_rate)
        return {"classifier": (network, optimizer)}

    def train_step(self, batch):
        network = self.networks["classifier"]
        x = augment(batch["image"], self.hp.crop, self.hp.flip, self.key())
        if self.hp.augment:
            chosen = transforms.chosen(self.hp.augment)
            x = transforms.T(x, chosen, self.key(transforms.STREAMS))
        kernels = [w for w in network.trainable_variables if len(w.shape) > 1]
        with tf.GradientTape() as tape:
            logits = network(x, training=not self.hp.frozen_statistics)
            loss = losses.cross_entropy(
                logits=logits, label=batch["label"], smoothing=self.hp.smoothing
            )
            decay = tf.add_n([tf.nn.l2_loss(w) for w in kernels])
            total = loss + self.hp.weight_decay * decay
        self.update(tape, total, network, self.first)
        self.update_average()
        right = tf.equal(tf.argmax(logits, -1, tf.int32), batch["label"])
        return {"loss": loss, "accuracy": tf.reduce_mean(tf.cast(right, tf.float32))}

    def prepare(self, batches):
        """Also sets the layer `whiten`, if there is one, from the first 2,000 images, unless its
        weights came with those that the run starts from."""
        if super().prepare(batches):
            return True
        networks = (self.networks["classifier"], self.ema_networks["classifier"])
        if not int(self.step.numpy()) and any(x.name == "whiten" for x in networks[0].layers):
            images = []
            while len(images) < 2000:
                images.extend(next(batches)["image"])
            kernel = whitening(np.stack(images[:2000]))
            for network in networks:
                network.get_layer("whiten").kernel.assign(kernel)
        return False


VARIANTS = {"cross_entropy": (HParams, Classifier)}

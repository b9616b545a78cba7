"""UAIT's training in two stages (Mejjati et al., 2018, section 3, and the authors' code)."""

import dataclasses

import keras
import tensorflow as tf

from ..zoo.layers.affine import Affine
from ..zoo.layers.instance_norm import InstanceNorm
from . import attention_gan, base, cyclegan
from .base import Recipe

MASKED = {"content": "contents", "composite": "translated"}  # fake images of the second stage


@dataclasses.dataclass(frozen=True)
class HParams(cyclegan.HParams):
    """For the two stages, beside CycleGAN's. learning_rate: the authors'.

    switch: the share of decay_steps after which the second stage begins (30 epochs of 100;
    decay_steps=0: never). threshold: tau, which the attention must reach for a pixel to be seen by
    a discriminator of the second stage. masked: what it sees there of a translation, F(s)
    (content, the paper) or s' (composite, the authors' code).
    """

    learning_rate: float = 1e-4
    switch: float = 0.3
    threshold: float = 0.1
    masked: str = "content"

    def __post_init__(self):
        super().__post_init__()
        if self.masked not in MASKED:
            raise ValueError(f"masked takes one of {', '.join(MASKED)}, not {self.masked!r}")
        base.check(self, switch=(0, 1), threshold=(0, 1))


RECIPES = {  # by data set
    "creatures": Recipe(
        image_size=64, batch_size=4, steps=5_000, options={"width": 16, "blocks": 4}
    ),  # ours
    "folder": Recipe(**cyclegan.LARGE, batch_size=1, steps=100_000),  # ours
    **{  # the authors' code: 100 epochs
        name: Recipe(**cyclegan.LARGE, batch_size=1, steps=100 * count)
        for name, count in cyclegan.IMAGES.items()
    },
}


def without_norms(network):
    """The same convolutions, of the same weights, without normalisation between them."""

    def part(layer):
        if isinstance(layer, InstanceNorm | Affine):
            return keras.layers.Identity(dtype=layer.dtype_policy, name=layer.name)
        return layer

    return keras.models.clone_model(network, clone_function=part)


class UAIT(cyclegan.CycleGAN):
    """Trains CycleGAN's game in two stages.

    In the first one the discriminators see whole images. In the second one the attention networks
    are frozen, and discriminators without normalisation see images where the attention of their
    source is at least tau, and 0 elsewhere.
    """

    def networks_and_optimizers(self):
        found = super().networks_and_optimizers()
        self.second = {name: without_norms(D) for name, D in self.discriminators.items()}
        for name in self.generators:  # F alone
            G = self.networks[name]
            self.second[name] = keras.Model(G.input, G.output["contents"])
        return found

    def phase(self, step):
        """Whether a step belongs to the second stage."""
        hp = self.hp
        return hp.decay_steps > 0 and step >= hp.switch * hp.decay_steps

    @property
    def in_second_stage(self):
        if self.traced_phase is not None:
            return self.traced_phase
        with tf.init_scope():  # outside of `fit`
            return self.phase(int(self.step.numpy()))

    def pooled_shape(self, network):
        """An image and its mask."""
        return (*network.input_shape[1:3], 4)

    def discriminator_pairs(self, x, y, to_x, to_y):
        """Images, each with the mask of its source: [x, A(x)] and [F(y), A(y)], or in the first
        stage [y', A(y)]."""
        made = MASKED[self.hp.masked] if self.in_second_stage else "translated"

        def fake(outputs):
            image = tf.reshape(outputs[made], tf.shape(outputs["translated"]))
            return tf.concat([image, outputs["masks"]], axis=-1)

        return {
            "discriminator_a": (tf.concat([x, to_y["masks"]], axis=-1), fake(to_x)),
            "discriminator_b": (tf.concat([y, to_x["masks"]], axis=-1), fake(to_y)),
        }

    def judge(self, name, images):
        image, mask = tf.split(images, (3, 1), axis=-1)
        if not self.in_second_stage:
            return self.networks[name](image, training=True)
        seen = tf.cast(mask >= self.hp.threshold, image.dtype)
        return self.second[name](image * seen, training=True)

    def trained(self, names):
        """In the second stage without the attention networks and the normalisation."""
        pairs = super().trained(names)
        if not self.in_second_stage:
            return pairs
        return [(self.second[name], optimizer) for name, (_, optimizer) in zip(names, pairs)]

    def extra_logs(self, to_x, to_y):
        """The stage, the logs of the masks, and the share of pixels where the attention is at least
        tau."""
        A = tf.concat([to_x["masks"], to_y["masks"]], axis=0)
        above = tf.cast(A >= self.hp.threshold, tf.float32)
        stage = tf.constant(2.0 if self.in_second_stage else 1.0)
        logs = attention_gan.attention_logs(to_x["masks"], to_y["masks"])
        return {"stage": stage, **logs, "mask_above": tf.reduce_mean(above)}


VARIANTS = {"uait": (HParams, UAIT)}

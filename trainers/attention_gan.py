"""AttentionGAN's training: CycleGAN's with the objective of the slides of Shauryam, Kar and Faizi
(2023), or with that of Tang et al.'s code of scheme 2 (2021)."""

import dataclasses
from math import inf

import tensorflow as tf

from . import base, cyclegan, losses
from .base import Recipe


@dataclasses.dataclass(frozen=True)
class HParams(cyclegan.HParams):
    """For the slides' final loss, beside CycleGAN's. The slides give no values.

    lambda_gan, lambda_pixel: weights of the adversarial and the pixel loss. lambda_tv: weight of
    the masks' total variation, a sum over pixels. r: the share of the reconstruction in the
    objective (values: the authors' code of scheme 1).
    For the first share r_share of decay_steps r is r_first, so that masks form before
    reconstruction constrains them (decay_steps=0: never). lambda_identity is weighed by r like
    lambda_cycle. own_attention (ours): an attention-guided discriminator sees a real picture beside
    that picture's own mask, by the generator that translates it.
    """

    adversarial: str = "vanilla"
    lambda_gan: float = 0.5
    lambda_pixel: float = 1.0
    lambda_tv: float = 1e-6
    r: float = 0.5
    r_first: float = 0.01
    r_share: float = 0.05
    own_attention: bool = False

    def __post_init__(self):
        super().__post_init__()
        positive = (0, inf)
        base.check(self, lambda_gan=positive, lambda_pixel=positive, lambda_tv=positive)
        base.check(self, r=(0, 1), r_first=(0, 1), r_share=(0, 1))


@dataclasses.dataclass(frozen=True)
class OfficialHParams(HParams):
    """The values of the authors' code of scheme 2: least squares, identity loss, a constant
    learning rate; no pixel loss, total variation or curriculum. With r = 1/2 throughout, the
    objective is half of theirs, for which Adam takes the same steps.
    """

    adversarial: str = "least_squares"
    lambda_identity: float = 5.0
    lambda_gan: float = 1.0
    lambda_pixel: float = 0.0
    lambda_tv: float = 0.0
    r_first: float = 0.5
    decay_from: float = 1.0


RECIPES = {  # by data set
    "creatures": Recipe(
        image_size=64, batch_size=4, steps=5_000, options={"width": 16, "blocks": 4, "masks": 4}
    ),  # ours
    "folder": Recipe(**cyclegan.LARGE, batch_size=4, steps=50_000),  # ours
    **{  # the authors' code of scheme 2, for horse2zebra: 60 epochs
        name: Recipe(**cyclegan.LARGE, batch_size=4, steps=60 * count // 4)
        for name, count in cyclegan.IMAGES.items()
    },
}


def attended(outputs):
    """A generator's outputs -> its attention to the foreground (B, H, W, 1), in [0, 1]."""
    count = outputs["contents"].shape[-2]
    return tf.reduce_sum(outputs["masks"][..., :count], axis=-1, keepdims=True)


def attention_logs(*maps):
    """{name: scalar} of maps (B, H, W, 1) in [0, 1]: their mean, and the shares of pixels where
    they are almost 0 and almost 1."""
    A = tf.concat(maps, axis=0)

    def share(where):
        return tf.reduce_mean(tf.cast(where, tf.float32))

    return {
        "mask_mean": tf.reduce_mean(A),
        "mask_low": share(A < 0.05),
        "mask_high": share(A > 0.95),
    }


class AttentionGAN(cyclegan.CycleGAN):
    """The networks decide whether there are attention-guided discriminators."""

    def __init__(self, networks, ema_networks, hp, seed):
        super().__init__(networks, ema_networks, hp, seed)
        if hp.own_attention and "attention_discriminator_a" not in networks:
            raise ValueError("own_attention needs attention_discriminators=true")

    def discriminator_pairs(self, x, y, to_x, to_y):
        """Also those of D_YA, [A_y, y] and [A_y, G(x)], with the mask A_y of G(x) in both, and of
        D_XA, likewise. With own_attention the real pair is [A, y] with the mask A of F(y)."""
        pairs = super().discriminator_pairs(x, y, to_x, to_y)
        for side, outputs, other in (("a", to_x, to_y), ("b", to_y, to_x)):
            if f"attention_discriminator_{side}" in self.networks:
                masks = attended(other if self.hp.own_attention else outputs), attended(outputs)
                guided = zip(masks, pairs[f"discriminator_{side}"])
                pairs[f"attention_discriminator_{side}"] = tuple(
                    tf.concat([A, image], axis=-1) for A, image in guided
                )
        return pairs

    def loss_terms(self, x, y, to_x, to_y, pairs):
        terms = super().loss_terms(x, y, to_x, to_y, pairs)
        if "attention_discriminator_a" in pairs:
            terms["attention_gan"] = self.adversarial_loss("attention_discriminator", pairs)
        terms["pixel"] = losses.pixel(image=x, translated=to_y["translated"])
        terms["pixel"] += losses.pixel(image=y, translated=to_x["translated"])
        terms["tv"] = losses.total_variation(masks=to_y["masks"])
        terms["tv"] += losses.total_variation(masks=to_x["masks"])
        return terms

    def curriculum(self):
        """The value of r at this step."""
        hp, step = self.hp, tf.cast(self.step, tf.float32)
        return tf.where(step < hp.r_share * hp.decay_steps, hp.r_first, hp.r)

    def objective(self, terms):
        """The slides' final loss."""
        hp, r = self.hp, self.curriculum()
        reconstruction = (
            hp.lambda_cycle * terms["cycle"]
            + hp.lambda_pixel * terms["pixel"]
            + hp.lambda_identity * terms.get("identity", 0.0)
        )
        game = (
            hp.lambda_gan * (terms["gan"] + terms.get("attention_gan", 0.0))
            + hp.lambda_tv * terms["tv"]
        )
        return reconstruction * r + game * (1 - r)

    def extra_logs(self, to_x, to_y):
        """r, and `attention_logs` of the attention to the foreground."""
        return {"r": self.curriculum()} | attention_logs(attended(to_x), attended(to_y))


VARIANTS = {"paper": (HParams, AttentionGAN), "official": (OfficialHParams, AttentionGAN)}

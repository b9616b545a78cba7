"""GAIN's training (Li et al., 2018, section 2 of the notes): a classifier that must find nothing of
a class once the pixels that it attends are masked, and GAIN_ext, which also learns from masks."""

import dataclasses
from math import inf

import numpy as np
import tensorflow as tf
from keras import ops

from ..common.images import scaled, to_float, to_uint8
from ..zoo.layers import cam, grad_cam, multi_scale, precision
from . import base, classifier, crops, losses
from .base import Recipe


def each(masks, here):
    """Masks (B, K, S, S) -> themselves: one masked image for each class."""
    return masks


def joint(masks, here):
    """Masks (B, K, S, S) of classes that are present or not (B, K) -> their union (B, 1, S, S)."""
    return ops.max(masks * here[..., None, None], axis=1, keepdims=True)


def picked(logits, classes):
    """Logits (..., C), broadcast if need be, and classes (...) -> their logits (...)."""
    return tf.reduce_sum(tf.one_hot(classes, logits.shape[-1], dtype=logits.dtype) * logits, -1)


MASKING = {"each": each, "joint": joint}
JUDGES = ("shared", "average")


@dataclasses.dataclass(frozen=True)
class HParams(classifier.CommonHParams):
    """For guided attention, beside those of a classifier. learning_rate: notes, section 3.

    alpha: weight of L_am (0: a plain classifier). omega: weight of L_e. steepness, sigma: of T. The
    notes give no values; these are those of public implementations (gain.py of
    AustinDoolittle/Pytorch-Gain and ilyak93/GAIN-pytorch). delay: share of decay_steps before L_am
    counts (ours; it counts at once if decay_steps is 0). masking: a masked image for each class
    present, or one joint image (cheaper). judge: the weights that classify the masked image:
    `shared` (the paper's; they can also learn to find no class in any masked image) or their moving
    `average`, so that L_am trains the mask alone (ours).
    scale_min, scale_max: images, and their masks, are scaled by a random number in between, and a
    random part is taken (ours; 1 and 1: whole images). The labels stay, although a
    class may be cut off.
    max_classes: classes of an image whose attention a step trains, drawn at random where there are
    more. masks: number of images with known masks, the first of the training set (notes, table: 200
    or 1464; 0: plain GAIN). mask_batch: how many of them join each batch, over all devices.
    """

    learning_rate: float = 1e-5
    warm_up: float = 0.0
    smoothing: float = 0.0
    alpha: float = 1.0
    omega: float = 10.0
    steepness: float = 10.0
    sigma: float = 0.5
    delay: float = 0.0
    masking: str = "each"
    judge: str = "shared"
    scale_min: float = 1.0
    scale_max: float = 1.0
    max_classes: int = 3
    masks: int = 0
    mask_batch: int = 4

    def __post_init__(self):
        super().__post_init__()
        base.check(self, alpha=(0, inf), omega=(0, inf), steepness=(0, inf), sigma=(0, 1))
        base.check(self, delay=(0, 1), max_classes=(1, inf), masks=(0, inf), mask_batch=(1, inf))
        crops.check(self)
        if self.masking not in MASKING:
            raise ValueError(f"masking takes one of {', '.join(MASKING)}, not {self.masking!r}")
        if self.judge not in JUDGES:
            raise ValueError(f"judge takes one of {', '.join(JUDGES)}, not {self.judge!r}")


@dataclasses.dataclass(frozen=True)
class PlainHParams(HParams):
    """For the same classifier without guided attention."""

    alpha: float = 0.0


@dataclasses.dataclass(frozen=True)
class ExtHParams(HParams):
    """For GAIN_ext."""

    masks: int = 200


OURS = {  # for weights that start at random: attention is guided once it has formed
    "options": {"backbone": "resnet9", "stages": 2, "width": 32},
    "hparams": {"learning_rate": 0.02, "warm_up": 0.2, "delay": 0.5, "judge": "average"},
}
BACKBONES = {  # what else goes with a backbone; ours
    "efficientnet_lite0": {
        "width": 32,
        "stages": 3,
        "normalise": "none",
        "output_stride": 16,
        "start": "efficientnet_lite0:imagenet",
        "learning_rate": 0.005,
        "head_rate": 10.0,
        "weight_decay": 1e-5,
    }
}
PHOTOGRAPHS = {"scale_min": 0.75, "scale_max": 1.5, "scales": "0.75,1,1.25"}  # ours
RECIPES = {  # by data set
    "creatures": Recipe(image_size=64, batch_size=16, steps=2_000, variants=BACKBONES, **OURS),
    "voc2012": Recipe(  # notes, section 3: 35 epochs of 10,582 images; their size: DeepLab's
        image_size=321,
        batch_size=1,
        steps=370_370,
        options={"normalise": "imagenet", "start": "vgg16:imagenet"},
        variants={name: {**values, **PHOTOGRAPHS} for name, values in BACKBONES.items()},
    ),
    "folder": Recipe(image_size=64, batch_size=16, steps=10_000, variants=BACKBONES, **OURS),
}


class GAIN(classifier.Classifier):
    mask_set = None  # images with known masks: {"image": uint8, "classes": uint8, "present"}

    def __init__(self, networks, ema_networks, hp, seed):
        super().__init__(networks, ema_networks, hp, seed)
        self.explained = tf.function(self._explained, reduce_retracing=True)

    def prepare(self, batches):
        """Also keeps the first images with their masks, as many as `masks` says."""
        if self.hp.masks:
            kept = {"image": [], "classes": [], "present": []}
            while len(kept["image"]) < self.hp.masks:
                batch = next(batches)
                if "classes" not in batch:
                    raise ValueError(
                        'with masks each batch needs "classes", the class of each pixel'
                    )
                kept["image"].extend(to_uint8(batch["image"]))
                kept["classes"].extend(batch["classes"])
                kept["present"].extend(np.asarray(self.present(batch)))
            self.mask_set = {k: tf.constant(np.stack(v[: self.hp.masks])) for k, v in kept.items()}
        return super().prepare(batches)

    def present(self, batch):
        """1 for the classes present in each image, float32 (B, C): "labels" (B, C), or "label"
        (B,) as one class each."""
        if "labels" in batch:
            return tf.cast(batch["labels"], tf.float32)
        return tf.one_hot(batch["label"], self.networks["head"].output_shape[-1])

    def masked_batch(self):
        """The next images with known masks (E, S, S, 3), the classes present (E, C), and the class
        of each pixel (E, S, S): 0 for none, c + 1 for class c, 255 for unknown."""
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        count = -(-self.hp.mask_batch // replicas)
        first = tf.cast(self.step, tf.int32) * replicas + replica
        turn = (first * count + tf.range(count)) % self.hp.masks
        x, pixels, present = (tf.gather(self.mask_set[k], turn) for k in self.mask_set)
        x = scaled(tf.cast(x, tf.float32))
        x, pixels = crops.random_crops(x, pixels, self.hp, self.key(4))
        both = tf.concat([x, tf.cast(pixels, tf.float32)], -1)
        both = classifier.augment(both, self.hp.crop, self.hp.flip, self.key(1))
        return both[..., :3], present, tf.ensure_shape(both[..., 3], pixels.shape[:3])

    def chosen(self, present, single, masked=0):
        """Classes (B, C) present in images -> K classes of each (B, K), and 1 where the class is
        present (B, K). single: there is one class in each image. masked: how many of the images,
        the last ones, come from `masked_batch`."""
        count = 1 if single else min(self.hp.max_classes, present.shape[1])
        images = tf.shape(present)[0]
        shape, parts = (images, present.shape[1]), (images - masked, masked)
        draw = tf.cast(base.uniform(shape, self.key(2), parts=parts), present.dtype)
        _, classes = tf.math.top_k(present * (1 + draw), count)
        return classes, tf.gather(present, classes, batch_dims=1)

    @staticmethod
    def attend(head, f, classes, size):
        """A^c of features f (B, h, w, D) for classes (B, K): (B, K, size, size) from 0 to 1."""
        count = classes.shape[1]
        f = tf.repeat(f, count, axis=0)  # (B K, h, w, D)
        with tf.GradientTape() as tape:
            tape.watch(f)
            logits = head(f, training=False)
            s = tf.reduce_sum(picked(logits, tf.reshape(classes, [-1])))
        f, gradient = map(precision.float32, (f, tape.gradient(s, f)))
        A = grad_cam.grad_cam(f, gradient)
        return grad_cam.to_image_size(tf.reshape(A, (-1, count, *A.shape[1:])), size)

    def masked_scores(self, x, masks, classes):
        """s^c(I*) (B, K) of images x with masks (B, M, S, S), M = K or 1, for classes (B, K).

        Batch normalisation uses its moving statistics and does not update them.
        """
        star = tf.reshape(grad_cam.masked(x, masks), (-1, *x.shape[1:]))  # (B M, S, S, 3)
        networks = self.networks if self.hp.judge == "shared" else self.ema_networks
        logits = networks["classifier"](star, training=False)
        logits = tf.reshape(logits, (-1, masks.shape[1], logits.shape[1]))  # (B, M, C)
        return tf.sigmoid(precision.float32(picked(logits, classes)))

    @property
    def first_mining_step(self):
        """Number of the step from which L_am counts."""
        return int(self.hp.delay * self.hp.decay_steps)

    def phase(self, step):
        """Whether L_am counts in the step."""
        return step >= self.first_mining_step

    def when_begun(self, scores, before):
        """The result of the function `scores` once L_am counts, else `before`."""
        if self.traced_phase is None:
            return tf.cond(self.step >= self.first_mining_step, scores, lambda: before)
        return scores() if self.traced_phase else before

    def loss_terms(self, x, present, single=False, pixels=None):
        """{name: loss}, and as "mask" the mean of T, of images x (B, S, S, 3) with the classes
        present (B, C). single: there is one class in each image. pixels (E, S, S): the class of
        each pixel of the last E images."""
        hp, head = self.hp, self.networks["head"]
        f = self.networks["features"](x, training=not hp.frozen_statistics)  # (B, h, w, D)
        logits = head(f, training=not hp.frozen_statistics)
        smooth = present * (1 - hp.smoothing) + hp.smoothing / 2
        terms = {"loss": losses.sigmoid_cross_entropy(logits=logits, label=smooth)}
        if hp.alpha or pixels is not None:
            masked = 0 if pixels is None else pixels.shape[0]
            classes, here = self.chosen(present, single, masked)  # (B, K)
            A = self.attend(head, f, classes, x.shape[1])  # (B, K, S, S)
        if hp.alpha:
            T = grad_cam.soft_mask(A, hp.steepness, hp.sigma)
            masks = MASKING[hp.masking](T, here)
            scores = self.when_begun(lambda: self.masked_scores(x, masks, classes), 0 * here)
            terms["am_loss"] = losses.attention_mining(score=scores, present=here)
            terms["mask"] = losses.mean_over_present(ops.mean(T, (2, 3)), here)
        if pixels is not None:
            last = slice(-pixels.shape[0], None)
            H = tf.equal(pixels[:, None], tf.cast(classes[last, :, None, None] + 1, tf.float32))
            terms["e_loss"] = losses.attention_supervision(
                attention=A[last], mask=H, known=pixels != 255, present=here[last]
            )
        return terms

    def train_step(self, batch):
        hp, network = self.hp, self.networks["classifier"]
        x, _ = crops.random_crops(batch["image"], None, hp, self.key(3))
        x = classifier.augment(x, hp.crop, hp.flip, self.key())
        present, pixels = self.present(batch), None
        if hp.masks:
            more, theirs, pixels = self.masked_batch()
            x, present = tf.concat([x, more], 0), tf.concat([present, theirs], 0)
        kernels = [w for w in network.trainable_variables if len(w.shape) > 1]
        with tf.GradientTape() as tape:
            terms = self.loss_terms(x, present, "labels" not in batch, pixels)
            total = terms["loss"] + hp.alpha * terms.get("am_loss", 0.0)
            total += hp.omega * terms.get("e_loss", 0.0)
            total += hp.weight_decay * tf.add_n([tf.nn.l2_loss(w) for w in kernels])
        self.update(tape, total, network, self.first)
        self.update_average()
        return terms

    def _explained(self, x):
        network = self.ema_networks.get("attention")
        if network and multi_scale.is_averaged(network):  # options of the network: scales
            outputs = network(x, training=False)
            return outputs["logits"], outputs["attention"]
        features, head = self.ema_networks["features"], self.ema_networks["head"]
        f = features(x, training=False)
        logits = head(f, training=False)
        every = tf.broadcast_to(tf.range(logits.shape[1]), tf.shape(logits))
        every.set_shape(logits.shape)
        return logits, self.attend(head, f, every, x.shape[1])

    def explain(self, x, batch=16):
        """Images (N, S, S, 3) in [-1, 1] -> arrays: logits (N, C), and A^c of every class (N, C, S,
        S), each from 0 to 1; the mean over the network's `scales`, if it has any. Computed with the
        averaged weights, `batch` images at a time."""
        parts = [self.explained(tf.constant(x[i : i + batch])) for i in range(0, len(x), batch)]
        return tuple(np.concatenate([np.asarray(v) for v in column]) for column in zip(*parts))

    def attention(self, images, z):
        """A^c of the two likeliest classes of each image, times the class's score."""
        logits, maps = self.explain(to_float(images))
        likeliest = np.argsort(-logits, axis=1)[:, :2, None, None]
        scores = 1 / (1 + np.exp(-logits[..., None, None]))
        bright = np.take_along_axis(scores * maps, likeliest, axis=1)
        return images, bright, (), cam.LIKELIEST


VARIANTS = {
    "gain": (HParams, GAIN),
    "classifier": (PlainHParams, GAIN),
    "gain_ext": (ExtHParams, GAIN),
}

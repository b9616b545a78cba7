"""GAIN's training (Li et al., 2018, section 2 of the notes): a classifier that must not find
anything of a class where its own attention has been, and GAIN_ext, which is shown some masks."""

import dataclasses
from math import inf

import numpy as np
import tensorflow as tf
from keras import ops

from ..common.images import scaled, to_float, to_uint8
from ..zoo.layers import grad_cam
from . import base, classifier, losses
from .base import Recipe


def each(masks, here):
    """Masks (B, K, S, S) as they are: an image for each class."""
    return masks


def joint(masks, here):
    """-> (B, 1, S, S): the masks of the classes that are there (B, K), as one."""
    return ops.max(masks * here[..., None, None], axis=1, keepdims=True)


def picked(logits, classes):
    """Logits (..., C), which may be broadcast, classes (...) -> those classes' logits (...)."""
    return tf.reduce_sum(tf.one_hot(classes, logits.shape[-1], dtype=logits.dtype) * logits, -1)


MASKING = {"each": each, "joint": joint}
JUDGES = ("shared", "average")


RENAMED_HPARAMS = {"most": "max_classes"}  # name in run directories of earlier versions -> name now


@dataclasses.dataclass(frozen=True)
class HParams(classifier.HParams):
    """The optimiser's as trainers.classifier has them; learning_rate: notes, section 3.

    alpha: of L_am (0: a plain classifier). omega: of L_e. steepness, sigma: of T. None has a value
    in the notes; these are those of the implementations that are public (gain.py of
    AustinDoolittle/Pytorch-Gain and ilyak93/GAIN-pytorch). delay: share of the steps before L_am
    counts (ours). masking: a masked image for each class that is there, or a joint one (cheaper).
    judge: the weights that look at the masked image, `shared` (the paper's: they can also learn to
    answer no where anything is masked) or their moving `average`: L_am moves the mask alone (ours).
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
    max_classes: int = 3
    masks: int = 0
    mask_batch: int = 4

    def __post_init__(self):
        super().__post_init__()
        base.check(self, alpha=(0, inf), omega=(0, inf), steepness=(0, inf), sigma=(0, 1))
        base.check(self, delay=(0, 1), max_classes=(1, inf), masks=(0, inf), mask_batch=(1, inf))
        if self.masking not in MASKING:
            raise ValueError(f"masking takes one of {', '.join(MASKING)}, not {self.masking!r}")
        if self.judge not in JUDGES:
            raise ValueError(f"judge takes one of {', '.join(JUDGES)}, not {self.judge!r}")


@dataclasses.dataclass(frozen=True)
class PlainHParams(HParams):
    """Of the same classifier without guidance."""

    alpha: float = 0.0


@dataclasses.dataclass(frozen=True)
class ExtHParams(HParams):
    """Of GAIN_ext."""

    masks: int = 200


OURS = {  # of weights that start at random: attention is guided once there is some
    "options": {"backbone": "resnet9", "stages": 2, "width": 32},
    "hparams": {"learning_rate": 0.02, "warm_up": 0.2, "delay": 0.5, "judge": "average"},
}
RECIPES = {  # by data set
    "creatures": Recipe(image_size=64, batch_size=16, steps=2_000, **OURS),
    "voc2012": Recipe(  # notes, section 3: 35 epochs of 10,582 images; their size: DeepLab's
        image_size=321,
        batch_size=1,
        steps=370_370,
        options={"normalise": "imagenet", "start": "vgg16:imagenet"},
    ),
    "folder": Recipe(image_size=64, batch_size=16, steps=10_000, **OURS),
}


class GAIN(classifier.Classifier):
    mask_set = None  # the images whose masks are known: image uint8, classes uint8, present

    def __init__(self, networks, average, hp, seed):
        super().__init__(networks, average, hp, seed)
        self.explained = tf.function(self._explained, reduce_retracing=True)

    def prepare(self, batches):
        """Keeps the images whose masks are known, and sets the weights that a run begins with."""
        if self.hp.masks:
            found = {"image": [], "classes": [], "present": []}
            while len(found["image"]) < self.hp.masks:
                batch = next(batches)
                found["image"].extend(to_uint8(batch["image"]))
                found["classes"].extend(batch["classes"])
                found["present"].extend(np.asarray(self.present(batch)))
            self.mask_set = {k: tf.constant(np.stack(v[: self.hp.masks])) for k, v in found.items()}
        return super().prepare(batches)

    def present(self, batch):
        """Which classes are in the images, float32 (B, C): "labels" (B, C), else "label" (B,)."""
        if "labels" in batch:
            return tf.cast(batch["labels"], tf.float32)
        return tf.one_hot(batch["label"], self.networks["head"].output_shape[-1])

    def masked_batch(self):
        """The next images (E, S, S, 3) whose masks are known, their classes (E, C), and the numbers
        of their pixels' classes (E, S, S): 0 for none, c + 1 for class c, 255 for unknown."""
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        share = -(-self.hp.mask_batch // replicas)
        first = tf.cast(self.step, tf.int32) * replicas + replica
        turn = (first * share + tf.range(share)) % self.hp.masks
        x, numbers, present = (tf.gather(self.mask_set[k], turn) for k in self.mask_set)
        x = scaled(tf.cast(x, tf.float32))
        both = tf.concat([x, tf.cast(numbers, tf.float32)], -1)
        both = classifier.augment(both, self.hp.crop, self.hp.flip, self.key(1))
        return both[..., :3], present, tf.ensure_shape(both[..., 3], numbers.shape[:3])

    def chosen(self, present, single, taught=0):
        """Of images with classes (B, C): K of them (B, K), and 1 where those are there (B, K).
        taught: how many of them, the last, `taught` gave."""
        count = 1 if single else min(self.hp.max_classes, present.shape[1])
        images = tf.shape(present)[0]
        shape, parts = (images, present.shape[1]), (images - taught, taught)
        draw = tf.cast(base.uniform(shape, self.key(2), parts=parts), present.dtype)
        _, found = tf.math.top_k(present * (1 + draw), count)
        return found, tf.gather(present, found, batch_dims=1)

    @staticmethod
    def attend(head, f, classes, size):
        """A^c of features f (B, h, w, D) for classes (B, K): (B, K, size, size) from 0 to 1."""
        count = classes.shape[1]
        f = tf.repeat(f, count, axis=0)  # (B K, h, w, D)
        with tf.GradientTape() as tape:
            tape.watch(f)
            logits = head(f, training=False)
            s = tf.reduce_sum(picked(logits, tf.reshape(classes, [-1])))
        f, gradient = (tf.cast(x, head.variable_dtype) for x in (f, tape.gradient(s, f)))
        A = grad_cam.grad_cam(f, gradient)
        return grad_cam.shown(tf.reshape(A, (-1, count, *A.shape[1:])), size)

    def masked_scores(self, x, masks, classes):
        """s^c(I*) (B, K) of images x with masks (B, M, S, S), M = K or 1, for classes (B, K).

        Batch normalisation takes its moving statistics, and leaves them.
        """
        star = tf.reshape(grad_cam.masked(x, masks), (-1, *x.shape[1:]))  # (B M, S, S, 3)
        networks = self.networks if self.hp.judge == "shared" else self.ema_networks
        logits = networks["classifier"](star, training=False)
        logits = tf.reshape(logits, (-1, masks.shape[1], logits.shape[1]))  # (B, M, C)
        return tf.sigmoid(picked(logits, classes))

    def loss_terms(self, x, present, single=False, numbers=None):
        """{name: its loss}, and the mean of T as "mask", of images x (B, S, S, 3) with classes
        (B, C), of which single: one each. numbers (E, S, S): of the last E images' pixels."""
        hp, head = self.hp, self.networks["head"]
        f = self.networks["features"](x, training=True)  # (B, h, w, D)
        logits = head(f, training=True)
        smooth = present * (1 - hp.smoothing) + hp.smoothing / 2
        found = {"loss": losses.sigmoid_cross_entropy(logits=logits, label=smooth)}
        if hp.alpha or numbers is not None:
            taught = 0 if numbers is None else numbers.shape[0]
            classes, here = self.chosen(present, single, taught)  # (B, K)
            A = self.attend(head, f, classes, x.shape[1])  # (B, K, S, S)
        if hp.alpha:
            T = grad_cam.soft_mask(A, hp.steepness, hp.sigma)
            masks = MASKING[hp.masking](T, here)
            begun = self.step >= int(hp.delay * hp.decay_steps)
            scores = tf.cond(begun, lambda: self.masked_scores(x, masks, classes), lambda: 0 * here)
            found["am_loss"] = losses.attention_mining(score=scores, present=here)
            found["mask"] = losses.mean_over_present(ops.mean(T, (2, 3)), here)
        if numbers is not None:
            last = slice(-numbers.shape[0], None)
            H = tf.equal(numbers[:, None], tf.cast(classes[last, :, None, None] + 1, tf.float32))
            found["e_loss"] = losses.attention_supervision(
                attention=A[last], mask=H, known=numbers != 255, present=here[last]
            )
        return found

    def train_step(self, batch):
        hp, network = self.hp, self.networks["classifier"]
        x = classifier.augment(batch["image"], hp.crop, hp.flip, self.key())
        present, numbers = self.present(batch), None
        if hp.masks:
            more, theirs, numbers = self.masked_batch()
            x, present = tf.concat([x, more], 0), tf.concat([present, theirs], 0)
        kernels = [w for w in network.trainable_variables if len(w.shape) > 1]
        with tf.GradientTape() as tape:
            terms = self.loss_terms(x, present, "labels" not in batch, numbers)
            total = terms["loss"] + hp.alpha * terms.get("am_loss", 0.0)
            total += hp.omega * terms.get("e_loss", 0.0)
            total += hp.weight_decay * tf.add_n([tf.nn.l2_loss(w) for w in kernels])
        self.update(tape, total, network, self.first)
        self.update_average()
        return terms

    def _explained(self, x):
        features, head = self.ema_networks["features"], self.ema_networks["head"]
        f = features(x, training=False)
        logits = head(f, training=False)
        every = tf.broadcast_to(tf.range(logits.shape[1]), tf.shape(logits))
        every.set_shape(logits.shape)
        return logits, self.attend(head, f, every, x.shape[1])

    def explain(self, x, batch=16):
        """Images (N, S, S, 3) in [-1, 1] -> logits (N, C), A^c of every class (N, C, S, S), each
        from 0 to 1, arrays; by the averaged weights, `batch` images at a time."""
        parts = [self.explained(tf.constant(x[i : i + batch])) for i in range(0, len(x), batch)]
        return tuple(np.concatenate([np.asarray(v) for v in column]) for column in zip(*parts))

    def attention(self, images, z):
        """A^c of the two likeliest classes of images, as bright as each is likely."""
        logits, maps = self.explain(to_float(images))
        likeliest = np.argsort(-logits, axis=1)[:, :2, None, None]
        scores = 1 / (1 + np.exp(-logits[..., None, None]))
        return images, np.take_along_axis(scores * maps, likeliest, axis=1), ()


VARIANTS = {
    "gain": (HParams, GAIN),
    "classifier": (PlainHParams, GAIN),
    "gain_ext": (ExtHParams, GAIN),
}

"""Training of segmenters (Chen et al., ICLR 2015, section 5): from class maps, which are true or
pseudo labels made from attention (GAIN), or from cues and labels alone (SEC: Kolesnikov and
Lampert, Seed, Expand and Constrain, ECCV 2016).

A batch holds "image" (B, S, S, 3) in [-1, 1], "classes" (B, S, S, 1), 255 where a pixel has no
class or no cue, and for SEC "labels" (B, C), 1 for the classes present. The background is the first
of the K = C + 1 classes.
"""

import dataclasses
from math import inf

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from ..common import interpolation
from ..common.images import image_grid, scaled, to_float
from ..zoo.layers import precision
from . import base, crops, losses, optimizers
from .base import Recipe

POLICIES = {  # share of decay_steps done -> factor of the learning rate
    "step": lambda t: ops.power(0.1, ops.floor(ops.minimum(4 * t, 3.0))),
    "poly": lambda t: ops.power(1 - ops.minimum(t, 1.0), 0.9),
}
FLOOR = 1e-4  # added to SEC's probabilities
SEC_SIDE = 41  # side of SEC's maps, which its decays are for; VOC's images are 12 times as large


@dataclasses.dataclass(frozen=True)
class HParams:
    """learning_rate, policy: over decay_steps the rate is divided by 10 after each quarter (step:
    GAIN's notes, 2,000 of 8,000), or falls as (1 - t)^0.9 (poly: Chen et al., 2017); with
    decay_steps=0 it is constant. momentum, weight_decay (of kernels), head_rate (factor of the last
    layer's rate): section 5. flip: mirror half of the images. scale_min, scale_max: images and
    class maps are scaled by a random number in between, and a random part is taken
    (1 and 1: whole images; Chen et al., 2018: 0.5 and 1.5). frozen_statistics:
    batch normalisation uses the averages that training starts from, and keeps them. ema_decay: of
    the moving average of the weights (ours; 0: none).
    """

    learning_rate: float = 1e-3
    decay_steps: int = 0
    policy: str = "step"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    head_rate: float = 10.0
    flip: bool = True
    scale_min: float = 1.0
    scale_max: float = 1.0
    frozen_statistics: bool = False
    ema_decay: float = 0.99

    def __post_init__(self):
        base.check(self, learning_rate=(0, inf), decay_steps=(0, inf), momentum=(0, 1))
        base.check(self, weight_decay=(0, inf), head_rate=(0, inf), ema_decay=(0, 1))
        crops.check(self)
        if self.policy not in POLICIES:
            known = ", ".join(POLICIES)
            raise ValueError(f"policy takes one of {known}, not {self.policy!r}")


@dataclasses.dataclass(frozen=True)
class SECHParams(HParams):
    """For SEC. decay_present, decay_absent, decay_background: d of the rank pooling, for maps of 41
    x 41; for maps of n pixels it is d^(1681 / n), so that the same share of the pixels counts. w1,
    sigma_alpha, sigma_beta, w2, sigma_gamma: weights and deviations of the CRF, for images of VOC's
    size (its authors' code). iterations: of the CRF (0: Q is the network's output).
    """

    decay_present: float = 0.996
    decay_absent: float = 0.0
    decay_background: float = 0.999
    w1: float = 10.0
    sigma_alpha: float = 80.0
    sigma_beta: float = 13.0
    w2: float = 3.0
    sigma_gamma: float = 3.0
    iterations: int = 5

    def __post_init__(self):
        super().__post_init__()
        base.check(self, decay_present=(0, 1), decay_absent=(0, 1), decay_background=(0, 1))
        base.check(self, w1=(0, inf), w2=(0, inf), iterations=(0, inf))
        base.check(self, **dict.fromkeys(("sigma_alpha", "sigma_beta", "sigma_gamma"), (0.01, inf)))


BACKBONES = {  # what else goes with a backbone; ours
    "efficientnet_lite0": {
        "width": 32,
        "fc": 256,
        "stride": 8,
        "normalise": "none",
        "start": "efficientnet_lite0:imagenet",
        "learning_rate": 0.005,
        "head_rate": 10.0,
        "policy": "poly",
        "weight_decay": 1e-5,
    }
}
PHOTOGRAPHS = {"scale_min": 0.5, "scale_max": 1.5}  # Chen et al., 2018
ANIMALS = {"width": 16, "fc": 256, "stride": 4, "dilation": 4}  # ours; weights start at random
OURS = {
    "image_size": 64,
    "batch_size": 8,
    "steps": 4_000,
    "hparams": {"learning_rate": 0.02, "policy": "poly", "head_rate": 1.0},
    "variants": {"sec": {"learning_rate": 0.005}, **BACKBONES},  # sec: more: all background
}
RECIPES = {  # by data set
    "creatures": Recipe(options={"classes": 9, **ANIMALS}, **OURS),
    "folder": Recipe(options=ANIMALS, **OURS),  # of arrays with maps: a folder has none
    "voc2012": Recipe(  # GAIN's notes
        image_size=321,
        batch_size=15,
        steps=8_000,
        options={"normalise": "imagenet", "start": "vgg16:imagenet"},
        variants={name: {**values, **PHOTOGRAPHS} for name, values in BACKBONES.items()},
    ),
}


@keras.saving.register_keras_serializable("zoo")
class Policy(keras.optimizers.schedules.LearningRateSchedule):
    """The rate peak * POLICIES[policy](step / steps)."""

    def __init__(self, peak, steps, policy):
        self.peak, self.steps, self.policy = peak, steps, policy

    def __call__(self, step):
        return self.peak * POLICIES[self.policy](ops.cast(step, "float32") / self.steps)

    def get_config(self):
        return {"peak": self.peak, "steps": self.steps, "policy": self.policy}


def mirrored(tensors, key):
    """Tensors (B, S, S, C) with half of the examples mirrored, the same ones in each tensor."""
    draw = base.uniform((tf.shape(tensors[0])[0], 1, 1, 1), key)
    return [tf.where(draw < 0.5, x[:, :, ::-1], x) for x in tensors]


def palette():
    """VOC's colours, uint8 (256, 3): bit 3 j + c of a class is bit 7 - j of its channel c."""
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)[:, ::-1]
    channels = [
        sum(bits[:, 3 * j + c] << 7 - j for j in range(3) if 3 * j + c < 8) for c in (0, 1, 2)
    ]
    return np.stack(channels, 1).astype(np.uint8)


def map_picture(images, classes, predicted):
    """Images uint8 (B, S, S, 3) and two class maps (B, S, S) of each, side by side, one row per
    image, in VOC's colours; uint8 (rows, columns, 3)."""
    cells = np.stack((images, palette()[classes], palette()[predicted]), 1)
    return image_grid(scaled(cells.reshape(-1, *images.shape[1:])), 3)


class DeepLab(base.Trainer):
    ema_network = "segmenter"

    def networks_and_optimizers(self):
        hp, network, rate = self.hp, self.networks["segmenter"], self.hp.learning_rate
        if hp.decay_steps:
            rate = Policy(rate, hp.decay_steps, hp.policy)
        head = network.get_layer("logits").trainable_variables
        optimizer = optimizers.SGD(rate, hp.momentum, head=head, head_rate=hp.head_rate)
        return {"segmenter": (network, optimizer)}

    def loss_terms(self, image, classes, batch):
        """{name: loss} of a batch; their sum is minimised."""
        logits = self.networks["segmenter"](image, training=not self.hp.frozen_statistics)
        loss = losses.pixel_cross_entropy(logits=logits, classes=classes[..., 0])
        return {"cross_entropy": loss * base.replica_weight(tf.not_equal(classes, 255))}

    def train_step(self, batch):
        network = self.networks["segmenter"]
        image, classes = batch["image"], batch["classes"]
        image, classes = crops.random_crops(image, classes, self.hp, self.key(1))
        if self.hp.flip:
            image, classes = mirrored((image, classes), self.key())
        kernels = [w for w in network.trainable_variables if len(w.shape) > 1]
        with tf.GradientTape() as tape:
            terms = self.loss_terms(image, classes, batch)
            decay = tf.add_n([tf.nn.l2_loss(w) for w in kernels])
            total = tf.add_n([*terms.values()]) + self.hp.weight_decay * decay
        self.update(tape, total, network, self.first)
        self.update_average()
        return terms

    def probabilities(self, images):
        """Images uint8 (B, S, S, 3) -> float32 (B, S, S, K), of the averaged network."""
        logits = self.infer(self.ema_networks["segmenter"], to_float(images))
        return ops.convert_to_numpy(ops.softmax(logits))

    def picture(self, images, classes):
        """Images uint8 (B, S, S, 3), class maps (B, S, S, 1) -> a picture uint8 (rows, columns, 3)
        with one row per image: the image, its map and the predicted map, in VOC's colours."""
        return map_picture(images, classes[..., 0], self.probabilities(images).argmax(-1))


def kernel(features):
    """Features (B, n, d) -> k_ij = exp(-|f_i - f_j|^2 / 2) (B, n, n), divided by the square roots
    of its sums over i and over j."""
    features = features - ops.mean(features, axis=1, keepdims=True)
    product = precision.matmul(features, ops.transpose(features, (0, 2, 1)))
    half = ops.sum(ops.square(features), axis=-1) / 2
    k = ops.exp(ops.minimum(product - half[:, :, None] - half[:, None], 0))
    root = ops.rsqrt(ops.sum(k, axis=-1))
    return root[:, :, None] * k * root[:, None]


def mean_field(log_p, image, hp, scale):
    """log P (B, s, s, K), images (B, s, s, 3) in [-1, 1] -> log Q of the fully connected CRF of
    evaluate.crf.refined, with the exact kernel."""
    side, classes = log_p.shape[1], log_p.shape[3]
    places = np.indices((side, side)).reshape(1, 2, -1).swapaxes(1, 2).astype("float32")
    colours = ops.reshape(image, (-1, side * side, 3)) * (127.5 / hp.sigma_beta)
    placed = ops.repeat(places / (scale * hp.sigma_alpha), ops.shape(image)[0], axis=0)
    appearance = kernel(ops.concatenate((placed, colours), axis=-1))
    smoothness = kernel(ops.convert_to_tensor(places / (scale * hp.sigma_gamma)))
    message = hp.w1 * appearance + hp.w2 * smoothness  # (B, n, n)
    unary = ops.reshape(log_p, (-1, side * side, classes))
    log_q = ops.log_softmax(unary)
    for _ in range(hp.iterations):
        log_q = ops.log_softmax(unary + precision.matmul(message, ops.exp(log_q)))
    return ops.reshape(log_q, (-1, side, side, classes))


def floored(p):
    """Probabilities (..., K) + FLOOR, divided by their new sum."""
    return (p + FLOOR) / (1 + FLOOR * p.shape[-1])


class SEC(DeepLab):
    """All losses are of the scores before their interpolation, as in the paper."""

    def __init__(self, networks, ema_networks, hp, seed):
        super().__init__(networks, ema_networks, hp, seed)
        segmenter = networks["segmenter"]
        self.scores = keras.Model(segmenter.input, segmenter.get_layer("logits").output)
        self.stride = segmenter.get_layer("segmentation").stride

    def loss_terms(self, image, classes, batch):
        hp, size = self.hp, image.shape[1]
        scores = precision.float32(self.scores(image, training=not hp.frozen_statistics))
        p = floored(ops.softmax(scores))  # (B, s, s, K)
        side = p.shape[1]
        at = slice(
            (size - 1 - self.stride * (side - 1)) // 2, None, self.stride
        )  # the pixels of the scores
        weights = interpolation.weights(size, side, antialias=True).astype("float32")
        small = precision.float32(ops.einsum("ih,bhwc,jw->bijc", weights, image, weights))
        log_p = ops.log(p)
        q = ops.exp(mean_field(ops.stop_gradient(log_p), small, hp, side / (12 * SEC_SIDE)))
        share = SEC_SIDE**2 / side**2
        return {
            "seed": losses.seed(log_p=log_p, classes=classes[:, at, at, 0]),
            "expand": losses.expand(
                p=p,
                labels=ops.cast(batch["labels"], p.dtype),
                present=hp.decay_present**share,
                absent=hp.decay_absent**share,
                background=hp.decay_background**share,
            ),
            "constrain": losses.constrain(log_p=log_p, log_q=ops.log(floored(q))),
        }


VARIANTS = {"pseudo": (HParams, DeepLab), "sec": (SECHParams, SEC)}

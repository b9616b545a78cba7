"""Training with few pictures: the discriminator D sees T(x), random changes of each image (Zhao et
al., 2020), whose probability may be adapted (ADA: Karras et al., NeurIPS 2020), and the gradient of
D at real images is penalised (Mescheder et al., 2018), in few steps (StyleGAN2: Karras et al., CVPR
2020)."""

import dataclasses
from math import inf, pi

import tensorflow as tf

from ..zoo.layers import batch_norm, precision
from . import base, losses

STREAMS = 1000  # the random numbers of T: those of the noise have lower streams
INTERVAL = 4  # steps between changes of p (ADA, section 3)
IMAGES = 500_000  # in which p can rise from 0 to 1 (the same section)


def brightness(x, a, b):
    """x + U(-1/2, 1/2); a and b (B, 1, 1, 1) are uniform in [0, 1), here and below."""
    return x + a - 0.5


def saturation(x, a, b):
    """The distance from the mean of each pixel's channels, times U(0, 2)."""
    mean = tf.reduce_mean(x, axis=3, keepdims=True)
    return (x - mean) * 2 * a + mean


def contrast(x, a, b):
    """The distance from the mean of each image, times U(1/2, 3/2)."""
    mean = tf.reduce_mean(x, axis=(1, 2, 3), keepdims=True)
    return (x - mean) * (a + 0.5) + mean


def turned(x, angle, factor):
    """Each image turned about its middle by an angle and enlarged by a factor, (B, 1, 1, 1) each,
    bilinear. What comes in from beyond an edge is the image's reflection."""
    size = x.shape[1]
    line = tf.range(size, dtype=tf.float32) - (size - 1) / 2
    cos, sin = (f(angle[..., 0]) / factor[..., 0] for f in (tf.cos, tf.sin))  # (B, 1, 1)
    places = (cos * line[:, None] - sin * line, sin * line[:, None] + cos * line)  # (B, S, S) each
    places = [place + (size - 1) / 2 for place in places]
    firsts = [tf.floor(place) for place in places]
    pixels, period = tf.reshape(x, (-1, size**2, x.shape[3])), 2 * (size - 1)
    total = 0.0
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
        index, weight = 0, 1.0
        for place, first, more in zip(places, firsts, corner):
            beyond = (tf.cast(first, tf.int32) + more) % period
            index = index * size + tf.minimum(beyond, period - beyond)
            weight *= 1 - tf.abs(place - first - more)
        values = tf.gather(pixels, tf.reshape(index, (-1, size**2)), axis=1, batch_dims=1)
        total += tf.reshape(values, tf.shape(x)) * weight[..., None]
    return total


def rotation(x, a, b):
    """Turned by U(0, 360) degrees (ours)."""
    return turned(x, 2 * pi * a, tf.ones_like(a))


def scale(x, a, b):
    """Enlarged by 2^U(-1/2, 1/2) (ours)."""
    return turned(x, tf.zeros_like(a), 2 ** (a - 0.5))


def whole(u, low, count):
    """u (B, 1, 1, 1), uniform in [0, 1) -> (B, 1), uniform in low, low + 1 ... low + count - 1."""
    return tf.cast(u[:, 0, 0] * count, tf.int32) + low


def translation(x, a, b):
    """Shifts by up to an eighth of the side in both directions; zeros come in."""
    size = x.shape[1]
    reach = int(size / 8 + 0.5)
    for axis, u in ((1, a), (2, b)):
        source = tf.range(size) - whole(u, -reach, 2 * reach + 1)  # (B, S)
        known = (source >= 0) & (source < size)
        x = tf.gather(x, tf.where(known, source, 0), axis=axis, batch_dims=1)
        known = known[:, :, None, None] if axis == 1 else known[:, None, :, None]
        x = tf.where(known, x, 0.0)
    return x


def cutout(x, a, b):
    """A square of half the side is 0. Its centre lies anywhere in the image."""
    size = x.shape[1]
    side = int(size / 2 + 0.5)

    def inside(u):
        place = tf.range(size) - whole(u, -(side // 2), size + 1 - side % 2)
        return (place >= 0) & (place < side)  # (B, S)

    return tf.where(inside(a)[:, :, None, None] & inside(b)[:, None, :, None], 0.0, x)


TRANSFORMS = {  # in the order of the code of Zhao et al., 2020, which has the ranges too
    "color": (brightness, saturation, contrast),
    "rotation": (rotation,),
    "scale": (scale,),
    "translation": (translation,),
    "cutout": (cutout,),
}


def chosen(augment):
    """ "color,cutout" -> the functions of these words. Another word raises ValueError."""
    words = augment.split(",") if augment else []
    if unknown := [word for word in words if word not in TRANSFORMS]:
        known = ",".join(TRANSFORMS)
        raise ValueError(f"augment takes words of {known}, separated by commas, not {unknown[0]!r}")
    return [f for word, functions in TRANSFORMS.items() if word in words for f in functions]


def T(x, transforms, key, p=None):
    """Images (B, S, S, 3) in [-1, 1], each changed by random numbers of its own, in float32. Values
    may leave [-1, 1]. The gradient of T(x) flows to x.

    key: of the stateless numbers. p: the probability with which each of the transforms applies to
    an image; None: all apply to all (Zhao et al., 2020).
    """
    x = precision.float32(x)
    shape = (len(transforms), tf.shape(x)[0], 3)  # a, b and whether the transform applies
    numbers = base.uniform(shape, key, axis=1)
    for transform, u in zip(transforms, tf.unstack(numbers[..., None, None, None])):
        changed = transform(x, u[:, 0], u[:, 1])
        x = changed if p is None else tf.where(u[:, 2] < p, changed, x)
    return precision.float32(x)  # what lies between two of them is not rewritten


@dataclasses.dataclass(frozen=True, kw_only=True)
class HParams:
    """For training with few pictures; all are off by default.

    augment: random changes of the images that the discriminator sees: color, rotation, scale,
    translation or cutout, or several, separated by commas; "": none. augment_target: the
    probability p of each transform starts at 0 and is adapted so that r_t, the mean sign of the
    logits of real images, approaches this value (ADA, section 3: 0.6); 0: all transforms apply to
    all images. r1: gamma of the penalty R_1 (Mescheder et al., 2018, section 4.1: 10; what is best
    depends on the size of images and batches); 0: none. r1_every: steps from one penalty to the
    next; each counts this many times (StyleGAN2, section 3.1: 16). The learning rate is not
    corrected for it, since the penalty is added to the loss of a step.
    """

    augment: str = ""
    augment_target: float = 0.0
    r1: float = 0.0
    r1_every: int = 16

    def __post_init__(self):
        chosen(self.augment)
        base.check(self, augment_target=(0, 1), r1=(0, inf), r1_every=(1, inf))
        if self.augment_target and not self.augment:
            known = ",".join(TRANSFORMS)
            raise ValueError(f"augment_target needs augment, such as augment={known}")


def check_critic(hparams):
    """Raises ValueError for what does not go with a Wasserstein loss."""
    if hparams.r1:
        raise ValueError(
            "r1 does not go with a Wasserstein loss, whose clipping or gradient penalty bounds the "
            "critic's gradient already: leave r1 out, or choose another loss or model"
        )
    if hparams.augment_target:
        raise ValueError(
            "augment_target does not go with a Wasserstein loss, since the sign of a critic's "
            "score has no meaning: leave augment_target out"
        )


class GAN(base.GAN):
    """A GAN whose `train_step` gives its discriminator `augmented` images, adds `r1` to its loss
    and calls `adapt`. Its HParams are those above."""

    def __init__(self, networks, ema_networks, hp, seed):
        super().__init__(networks, ema_networks, hp, seed)
        if hp.augment_target:
            first = tf.VariableAggregation.ONLY_FIRST_REPLICA
            self.p, self.signs = (
                tf.Variable(0.0, trainable=False, aggregation=first) for _ in range(2)
            )

    def state(self):
        """Also p and the sum of r_t since its last change."""
        if not self.hp.augment_target:
            return super().state()
        return super().state() | {"augment_p": self.p, "augment_signs": self.signs}

    def augmented(self, x, stream):
        """T(x) for images x (B, S, S, 3), or x itself without `augment`. stream: another number for
        each call of a step."""
        if not self.hp.augment:
            return x
        p = self.p if self.hp.augment_target else None
        return T(x, chosen(self.hp.augment), self.key(STREAMS + stream), p)

    def phase(self, step):
        """Whether the step has the penalty R_1."""
        return self.hp.r1 > 0 and step % self.hp.r1_every == 0

    def r1(self, x, y=None):
        """R_1 = gamma / 2 E |grad D(x)|^2 times r1_every in each step that has it, else 0; x (B, S,
        S, 3) are real images as D sees them, y (B,) the labels of a D that takes some.

        |...|^2 is the sum over an image's pixels and channels. D, at inference, has the weights'
        precision. Batch normalisation uses the statistics of x, which are constants for grad and
        functions of the weights in the penalty: so D(x) is a function of one image, and the scale
        of normalised weights does not count.
        """
        hp, D = self.hp, self.discriminator
        if not hp.r1 or self.traced_phase is False:
            return 0.0
        with tf.GradientTape() as tape:
            tape.watch(x)
            with precision.in_full(D), batch_norm.constant_statistics(tape):
                logits = tf.nest.flatten(D(x if y is None else [x, y], training=False))[0]
        weight = hp.r1 * hp.r1_every
        if self.traced_phase is None:  # outside of `fit`, where a step is not known beforehand
            weight = tf.where(self.step % hp.r1_every == 0, weight, 0.0)
        return weight * losses.r1(gradient=tape.gradient(logits, x))

    def adapt(self, real_logits):
        """Changes p every INTERVAL steps, after the step's updates: p <- p + sign(r_t - target)
        INTERVAL B / IMAGES within [0, 1], where r_t is the mean of these steps and B the number of
        images in a step (ADA, section 3). Returns {name: scalar} for the logs."""
        if not self.hp.augment_target:
            return {}
        r_t = tf.reduce_mean(tf.sign(precision.float32(real_logits)))
        r_t = base.mean_over_replicas({"r_t": r_t})["r_t"]
        signs, due = self.signs + r_t, self.step % INTERVAL == 0
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        images = tf.cast(INTERVAL * replicas * tf.shape(real_logits)[0], tf.float32)
        move = tf.sign(signs / INTERVAL - self.hp.augment_target) * images / IMAGES
        p = tf.where(due, tf.clip_by_value(self.p + move, 0.0, 1.0), self.p)
        self.p.assign(p)
        self.signs.assign(tf.where(due, 0.0, signs))
        return {"r_t": r_t, "augment_p": p}

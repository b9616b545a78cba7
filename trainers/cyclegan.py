"""CycleGAN's training (Zhu et al., 2017, sections 3 and 4 and the appendix)."""

import dataclasses
from math import inf

import keras
import tensorflow as tf
from keras import ops

from ..zoo.layers.convolution import size_multiple
from . import base, losses, optimizers
from .base import Recipe

ADVERSARIAL = {  # name -> loss of the discriminators, loss of the generators
    "least_squares": (losses.least_squares_discriminator, losses.least_squares_generator),
    "vanilla": (losses.discriminator, losses.non_saturating_generator),
    "minimax": (losses.discriminator, losses.minimax_generator),
}


@dataclasses.dataclass(frozen=True)
class HParams:
    """adversarial: the adversarial loss, least_squares (section 4), vanilla or minimax.
    lambda_cycle: weight of the cycle loss (section 4). lambda_identity: weight of the identity loss
    (section 5.2: 0, but 5 for paintings). pool: images that each discriminator's history buffer
    holds (section 4; 0: none). learning_rate, beta_1, beta_2: of Adam (the appendix and its code).
    decay_steps: steps after which the rate is 0; it falls from the share `decay_from` of them on
    (decay_steps=0 or decay_from=1: it is constant). flip: mirror half of the images. ema_decay: of
    the moving average of the weights (ours; 0: none).
    """

    adversarial: str = "least_squares"
    lambda_cycle: float = 10.0
    lambda_identity: float = 0.0
    pool: int = 50
    learning_rate: float = 2e-4
    beta_1: float = 0.5
    beta_2: float = 0.999
    decay_steps: int = 0
    decay_from: float = 0.5
    flip: bool = True
    ema_decay: float = 0.0

    def __post_init__(self):
        unit, positive = (0, 1), (0, inf)
        if self.adversarial not in ADVERSARIAL:
            known = ", ".join(ADVERSARIAL)
            raise ValueError(f"adversarial takes one of {known}, not {self.adversarial!r}")
        base.check(self, lambda_cycle=positive, lambda_identity=positive, pool=(0, 10_000))
        base.check(self, learning_rate=positive, decay_steps=positive, decay_from=unit)
        base.check(self, beta_1=unit, beta_2=unit, ema_decay=unit)


IMAGES = {  # training images of TFDS' cycle_gan/*, in the larger of A and B
    "apple2orange": 1_019,
    "summer2winter_yosemite": 1_231,
    "horse2zebra": 1_334,
    "monet2photo": 6_287,
    "cezanne2photo": 6_287,
    "ukiyoe2photo": 6_287,
    "vangogh2photo": 6_287,
    "maps": 1_096,
    "facades": 400,
    "iphone2dslr_flower": 3_325,
}
LARGE = {"image_size": 256, "load_size": 286}  # images are cut out at random (appendix)
RECIPES = {  # by data set
    "creatures": Recipe(
        image_size=64, batch_size=4, steps=5_000, options={"width": 16, "blocks": 4}
    ),  # ours
    "folder": Recipe(**LARGE, batch_size=1, steps=200_000),  # ours
    **{  # the appendix: 200 epochs
        name: Recipe(**LARGE, batch_size=1, steps=200 * count) for name, count in IMAGES.items()
    },
}


@keras.saving.register_keras_serializable("zoo")
class LinearDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Is `rate` for the first share of the steps, then falls linearly to 0 at the last."""

    def __init__(self, rate, steps, share):
        self.rate, self.steps, self.share = rate, steps, share

    def __call__(self, step):
        left = 1 - ops.minimum(ops.cast(step, "float32") / self.steps, 1.0)
        return self.rate * ops.minimum(left / max(1 - self.share, 1e-9), 1.0)

    def get_config(self):
        return {"rate": self.rate, "steps": self.steps, "share": self.share}


def crop(x, size, flip, key):
    """Images (B, H, W, 3) -> (B, size, size, 3), cut out at random places; with `flip` half of them
    are mirrored."""
    draw = base.uniform((3, tf.shape(x)[0]), key, axis=1)
    if flip:
        x = tf.where(draw[0][:, None, None, None] < 0.5, x[:, :, ::-1], x)
    for axis in (1, 2):
        if x.shape[axis] != size:
            first = tf.cast(draw[axis] * (x.shape[axis] - size + 1), tf.int32)  # (B,)
            x = tf.gather(x, first[:, None] + tf.range(size), axis=axis, batch_dims=1)
    return x


class CycleGAN(base.Trainer):
    """Trains generators "a2b" and "b2a", image -> {"translated": image, ...}, both with a moving
    average, and discriminators "KIND_a", "KIND_b" of images in A and in B."""

    ema_network = "a2b"
    generators = {"a2b": "b2a", "b2a": "a2b"}  # direction -> the opposite direction

    def __init__(self, networks, ema_networks, hp, seed):
        super().__init__(networks, {k: ema_networks[k] for k in self.generators}, hp, seed)
        self.pools = {
            name: tf.Variable(
                tf.zeros((hp.pool, *self.pooled_shape(network))),
                trainable=False,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,  # each has the same
            )
            for name, network in self.discriminators.items()
            if hp.pool
        }

    def networks_and_optimizers(self):
        networks = self.networks
        self.discriminators = {k: m for k, m in networks.items() if k not in self.generators}
        names = (*self.generators, *self.discriminators)
        return {name: (networks[name], self.optimizer()) for name in names}

    def pooled_shape(self, network):
        """The shape (S, S, C) of what a discriminator's history buffer holds."""
        return network.input_shape[1:]

    def optimizer(self, every=1):
        """A new optimiser, for one network, which is updated once in `every` steps."""
        hp, rate = self.hp, self.hp.learning_rate
        if hp.decay_steps:
            rate = LinearDecay(rate, hp.decay_steps / every, hp.decay_from)
        return optimizers.Adam(rate, hp.beta_1, hp.beta_2)

    def _averaged(self):
        for name in self.generators:
            yield from zip(self.ema_networks[name].variables, self.networks[name].variables)

    def state(self):
        return super().state() | {f"pool/{name}": pool for name, pool in self.pools.items()}

    def drawn(self, batch, first=0):
        """The images of A and of B (B, S, S, 3), augmented; S is the discriminators' size. first:
        of the two streams of random numbers."""
        size = self.discriminators["discriminator_a"].input_shape[1]
        for stream, key in enumerate(("image_a", "image_b"), first):
            yield crop(batch[key], size, self.hp.flip, self.key(stream))

    def minibatches(self, batch):
        """Yields the images of each of a step's batches_per_step minibatches, as `drawn`."""
        parts = [tf.split(batch[key], self.batches_per_step) for key in ("image_a", "image_b")]
        for number, (a, b) in enumerate(zip(*parts)):
            yield self.drawn({"image_a": a, "image_b": b}, 2 * number)

    def discriminator_pairs(self, x, y, to_x, to_y):
        """{discriminator: (real, fake)}: the inputs of each discriminator."""
        return {
            "discriminator_a": (x, to_x["translated"]),
            "discriminator_b": (y, to_y["translated"]),
        }

    def judge(self, name, images):
        """A discriminator's logits for a batch of one of its `discriminator_pairs`."""
        return self.networks[name](images, training=True)

    def trained(self, names):
        """[(network, optimizer)] of the roles that a step updates."""
        return [self.optimizers_by_role[name] for name in names]

    def adversarial_loss(self, kind, pairs):
        """The generators' adversarial loss for the two discriminators of a kind."""
        _, loss = ADVERSARIAL[self.hp.adversarial]
        names = (f"{kind}_a", f"{kind}_b")
        return sum(loss(fake=self.judge(name, pairs[name][1])) for name in names)

    def loss_terms(self, x, y, to_x, to_y, pairs):
        """{name: loss}, each the sum over both directions; `objective` weighs them."""
        G, F = self.networks["a2b"], self.networks["b2a"]
        again_x = F(to_y["translated"], training=True)["translated"]
        again_y = G(to_x["translated"], training=True)["translated"]
        terms = {
            "gan": self.adversarial_loss("discriminator", pairs),
            "cycle": losses.cycle(image=x, again=again_x) + losses.cycle(image=y, again=again_y),
        }
        if self.hp.lambda_identity:
            same_x, same_y = (N(z, training=True)["translated"] for N, z in ((F, x), (G, y)))
            terms["identity"] = losses.identity(image=x, translated=same_x)
            terms["identity"] += losses.identity(image=y, translated=same_y)
        return terms

    def objective(self, terms):
        """Equation 3 with the identity loss of section 5.2."""
        return (
            terms["gan"]
            + self.hp.lambda_cycle * terms["cycle"]
            + self.hp.lambda_identity * terms.get("identity", 0.0)
        )

    def extra_logs(self, to_x, to_y):
        """{name: scalar}: what a step logs beside its losses."""
        return {}

    def from_history_buffer(self, name, fake):
        """Images (B, S, S, C) from a discriminator's history buffer, in place of the current fake
        ones (section 4).

        The first images fill the buffer and are returned. After that each image, with probability
        1/2, is returned and not stored; otherwise it replaces a random image of the buffer, which
        is returned. The images of all replicas pass through one buffer in order. Every replica
        holds a copy of it, and it is part of the state.
        """
        if not self.hp.pool:
            return fake
        pool, size = self.pools[name], self.hp.pool
        context = tf.distribute.get_replica_context()
        images = context.all_gather(fake, axis=0)
        count = tf.shape(images)[0]
        order = tf.range(count)
        stream = 2 + list(self.discriminators).index(name)
        draw = base.stateless_uniform((2, count), self.key(stream, shared=True))
        place = tf.cast(self.step, tf.int32) * count + order  # number of the image in the run
        fills = place < size
        place = tf.where(fills, place, tf.cast(draw[0] * size, tf.int32))
        swaps = ~fills & (draw[1] < 0.5)
        writes = fills | swaps

        def kept(places, until):
            """The images at places (K,) once `until` (K,) images of this step have passed."""
            wrote = writes & (place == places[:, None]) & (order < until[:, None])  # (K, B)
            last = tf.reduce_max(tf.where(wrote, order, -1), axis=1)
            new = tf.gather(images, tf.maximum(last, 0))
            return tf.where(last[:, None, None, None] < 0, tf.gather(pool, places), new)

        returned = tf.where(swaps[:, None, None, None], kept(place, order), images)
        pool.assign(kept(tf.range(size), tf.fill([size], count)))
        own = tf.shape(fake)[0]
        first = context.replica_id_in_sync_group * own
        return returned[first : first + own]

    def train_step(self, batch):
        x, y = self.drawn(batch)
        G, F = self.networks["a2b"], self.networks["b2a"]
        with tf.GradientTape() as tape:
            to_y, to_x = G(x, training=True), F(y, training=True)
            pairs = self.discriminator_pairs(x, y, to_x, to_y)
            terms = self.loss_terms(x, y, to_x, to_y, pairs)
            loss = self.objective(terms)
        past = {name: self.from_history_buffer(name, fake) for name, (_, fake) in pairs.items()}
        self.update_all(tape, loss, self.trained(self.generators))
        d_loss, _ = ADVERSARIAL[self.hp.adversarial]
        with tf.GradientTape() as tape:
            d_losses = {}
            for name, (real, _) in pairs.items():
                judged = {"real": self.judge(name, real), "fake": self.judge(name, past[name])}
                d_losses[name] = d_loss(**judged)
            loss = sum(d_losses.values())
        self.update_all(tape, loss, self.trained(self.discriminators))
        self.update_average()
        return terms | d_losses | self.extra_logs(to_x, to_y)

    def translate(self, images, direction):
        """Images (B, H, W, 3) in [-1, 1] -> {name: array}, all outputs of the averaged generator.

        direction: "a2b" or "b2a". Sides below 8, or that are not multiples of size_multiple(the
        generator), raise ValueError.
        """
        (height, width), network = images.shape[1:3], self.ema_networks[direction]
        multiple = size_multiple(network)
        if min(height, width) < 8 or height % multiple or width % multiple:
            raise ValueError(
                f"pad the images: their sides must be multiples of {multiple} from 8, not "
                f"{height}, {width}"
            )
        return self.infer(network, images)

    def preview(self, images_a, images_b):
        """{direction: {"image": the images, the outputs of `translate`, "again": the translation,
        translated back}}."""
        previews = {}
        for images, (direction, back) in zip((images_a, images_b), self.generators.items()):
            outputs = self.translate(images, direction)
            again = self.translate(outputs["translated"], back)["translated"]
            previews[direction] = {"image": images, **outputs, "again": again}
        return previews


VARIANTS = {"cyclegan": (HParams, CycleGAN)}

"""What all trainers share: updates under a tf.distribute strategy, stateless noise, the moving
average of the weights, and the complete state by name, so that a resumed run is the same run.

The number of replicas does not change the result: each replica takes its part of the batch, of the
noise and of the loss that one device would have.
"""

import dataclasses
import itertools

import keras
import numpy as np
import tensorflow as tf

from ..common.images import to_uint8
from ..zoo.layers import precision, self_attention
from ..zoo.layers.inference import Inference
from . import optimizers


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The defaults of a run on one data set.

    image_size: the images' height and width in pixels. batch_size: images, or pairs, in an update.
    steps: updates of the network that is measured. load_size: the size at which images are kept,
    if each update cuts a part of image_size out of them. options: of the networks. hparams: values
    that differ from the defaults of HParams; variants: what differs further, options or hparams,
    with a key of VARIANTS, a backbone, or one model of several: {"sec": {"learning_rate": 0.005}}.
    """

    image_size: int
    batch_size: int
    steps: int
    load_size: int | None = None
    options: dict = dataclasses.field(default_factory=dict)
    hparams: dict = dataclasses.field(default_factory=dict)
    variants: dict = dataclasses.field(default_factory=dict)


def check(hparams, **ranges):
    """Raises ValueError if a value lies outside its range (low, high), both ends included."""
    for name, (low, high) in ranges.items():
        value = getattr(hparams, name)
        if not low <= value <= high:
            raise ValueError(f"{name} must lie in [{low}, {high}], not {value}")


def stateless_uniform(shape, key, low=0, high=1):
    """The numbers of tf.random.stateless_uniform, under XLA too.

    XLA itself turns the same bits into other numbers.
    """
    bits = tf.random.stateless_uniform(shape, key, None, None, tf.int32, alg="philox")
    return tf.cast(bits & 0x7FFFFF, tf.float32) / 2**23 * (high - low) + low


def uniform(shape, key, low=0, high=1, axis=0, parts=None):
    """Stateless uniform numbers (shape) for the examples of one replica, which lie along an axis.

    They are this replica's part of the numbers that one device would draw for all examples. parts:
    the sizes of several batches that lie end to end along the axis; None: they are one batch.
    """
    context = tf.distribute.get_replica_context()
    replicas, replica = context.num_replicas_in_sync, context.replica_id_in_sync_group
    whole = (*shape[:axis], replicas * shape[axis], *shape[axis + 1 :])
    whole = stateless_uniform(whole, key, low, high)
    if replicas == 1:
        return whole
    own, first = [], 0
    for count in parts or (shape[axis],):
        own.append(tf.gather(whole, first + replica * count + tf.range(count), axis=axis))
        first += replicas * count
    return tf.concat(own, axis)


def replica_weight(counted):
    """The number of true values in a replica's `counted`, divided by its mean over all replicas.

    A mean over the counted elements of one replica, times this weight, has the mean over the
    counted elements of all replicas as its mean over replicas.
    """
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return 1.0
    count = tf.reduce_sum(tf.cast(counted, tf.float32))
    return tf.math.divide_no_nan(count, context.all_reduce(tf.distribute.ReduceOp.MEAN, count))


def finite_together(gradients):
    """A replica's gradients, all NaN if those of any replica are not finite.

    Keras' LossScaleOptimizer checks only the first replica, and all must take the same decision.
    """
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return gradients
    finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in gradients])
    share = context.all_reduce(tf.distribute.ReduceOp.MEAN, tf.cast(finite, tf.float32))
    return [tf.where(share == 1, g, float("nan")) for g in gradients]


def batch_mean(maps):
    """Maps (B, h, w, C) of each replica -> their mean over the whole batch (1, h, w, C)."""
    mean = tf.reduce_mean(precision.float32(maps), axis=0, keepdims=True)
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return mean
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, mean)


def mean_over_replicas(logs):
    """{name: scalar} of one replica -> {name: mean over all replicas}, in one message."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return logs
    values = tf.stack([tf.cast(value, tf.float32) for value in logs.values()])
    return dict(zip(logs, tf.unstack(context.all_reduce(tf.distribute.ReduceOp.MEAN, values))))


def in_bfloat16(function):
    """A tf.function -> the same, in which TensorFlow's graph compiler rewrites convolutions,
    products and what lies between them to bfloat16."""
    options = tf.config.optimizer
    name = "auto_mixed_precision_onednn_bfloat16"

    def call(*args):
        options.set_experimental_options({name: True})
        try:
            with precision.training_step(rewritten=True):
                return function(*args)
        finally:
            options.set_experimental_options({name: False})

    return call


def repeated_arrays(data, strategy):
    """An endless iterator over the batches of what `Trainer.fit` takes, as dicts of arrays."""

    def array(value):
        parts = strategy.experimental_local_results(value)
        return np.concatenate([np.asarray(part) for part in parts])

    while True:
        batch = None
        for batch in [data] if isinstance(data, dict) else data:
            yield {name: array(value) for name, value in batch.items()}
        if batch is None:
            raise ValueError("the data set is empty, or can be read only once: call prepare first")


class Trainer(keras.Model):
    """Trains {name: keras.Model} by `fit`, which needs nothing to be called before or after it.

    A subclass defines `ema_network`, `networks_and_optimizers` and `train_step`.

    networks: those of zoo.create. ema_networks: a second set built in the same way; its network
    `ema_network` becomes the exponential moving average of the trained one, which is measured,
    sampled and saved. hp: the frozen HParams. seed: seed of all random numbers. The statistics of
    batch normalisation are averaged like the weights. For networks in mixed float16 each optimiser
    scales its loss by a factor of its own.
    """

    ema_network = ""  # name of the network whose weights are averaged
    prepared = False  # has `prepare` been called?
    bfloat16 = False  # is the step's graph rewritten to bfloat16? See zoo.layers.precision
    traced_phase = None  # what `phase` said of the step that is being traced

    def __init__(self, networks, ema_networks, hp, seed):
        super().__init__()
        self.load_start_weights = getattr(networks, "load_start_weights", lambda: False)
        self.networks, self.hp, self.seed = dict(networks), hp, seed
        self.ema_networks = {k: ema_networks[k] for k in ema_networks if k != "discriminator"}
        self._inference = Inference()
        for mean, value in self._averaged():
            mean.assign(value)
        self.optimizers_by_role = self.networks_and_optimizers()
        self.scaled = networks[self.ema_network].compute_dtype == "float16"
        if self.scaled:
            self.optimizers_by_role = {
                role: (network, keras.optimizers.LossScaleOptimizer(optimizer))
                for role, (network, optimizer) in self.optimizers_by_role.items()
            }
            first = tf.VariableAggregation.ONLY_FIRST_REPLICA
            self.scaled_steps = tf.Variable(0, dtype=tf.int64, trainable=False, aggregation=first)
        for network, optimizer in self.optimizers_by_role.values():
            optimizer.build(network.trainable_variables)
        self.first = next(iter(self.optimizers_by_role.values()))[1]
        self.compile(optimizer=self.first, jit_compile=False, steps_per_execution=1)
        self.built = True

    def networks_and_optimizers(self):
        """{role: (network, optimizer)} with the paper's optimisers; the first one counts steps."""
        raise NotImplementedError

    @property
    def batches_per_step(self):
        """Number of minibatches in the batch that one train_step takes."""
        return 1

    def phase(self, step):
        """What differs between steps and is known before them: any hashable value for step number
        `step`, the first of which is 0. There is a graph for each value, in which train_step finds
        it as traced_phase (None outside of `fit`)."""
        return None

    @property
    def step(self):
        """Number of updates so far, including those that loss scaling skipped."""
        return self.scaled_steps if self.scaled else self.first.iterations

    def key(self, stream=0, shared=False):
        """A seed (2,) for stateless random numbers, a function of seed, step and stream.

        shared: the numbers belong to no example and are the same on all replicas; for those of
        examples see `uniform`.
        """
        key = tf.stack([tf.cast(self.seed, tf.int64), tf.cast(self.step, tf.int64)])
        for number in (stream,) if shared else (stream, 0):
            number = tf.cast(number, tf.int64)
            key = tf.random.experimental.stateless_fold_in(key, number, alg="philox")
        return key

    def _maybe_symbolic_build(self, *_, **__):
        """Does nothing, as all networks are built; Keras' own fails when there are workers."""

    def fit(self, x, *args, **kwargs):
        """keras.Model.fit, with `prepare` before it, unless that was called, and `before_save`
        after it, so that the trainer can be sampled at once.

        x: a tf.data.Dataset of dicts of arrays, one that a strategy distributes, or such a dict.
        For `prepare` the data are read from their beginning once more.
        """
        if not self.prepared:
            self.prepare(repeated_arrays(x, self.distribute_strategy))
        kwargs.setdefault("shuffle", isinstance(x, dict))  # else Keras warns that it cannot
        history = super().fit(x, *args, **kwargs)
        self.before_save()
        return history

    def make_train_function(self, force=False):
        """Sets train_function, which `fit` calls.

        It takes an iterator of batches and returns the logs of the last of steps_per_execution
        steps.
        """
        if self.train_function is not None and not force:
            return
        strategy, count = self.distribute_strategy, self.steps_per_execution

        @tf.function(jit_compile=self.jit_compile, reduce_retracing=True, autograph=False)
        def one(batch, phase):
            self.traced_phase = phase
            logs = strategy.run(
                lambda batch: mean_over_replicas(self.train_step(batch)), args=(batch,)
            )
            self.traced_phase = None
            return {k: strategy.experimental_local_results(v)[0] for k, v in logs.items()}

        @tf.function(reduce_retracing=True, autograph=False)
        def execution(iterator, phase, steps):
            def body(i):
                one(iterator.get_next(), phase)
                return i + 1

            if count > 1:
                tf.while_loop(lambda i: i < steps - 1, body, [0], parallel_iterations=1)
            return one(iterator.get_next(), phase)

        run = in_bfloat16(execution) if self.bfloat16 else execution

        def next_steps(iterator):
            first = int(self.step.numpy())
            phases = itertools.groupby(map(self.phase, range(first, first + count)))
            with precision.training_step():
                for phase, steps in phases:
                    logs = run(iterator, phase, tf.constant(len(list(steps))))
            return logs

        next_steps.compiled = execution  # what a test looks at
        self.train_function = next_steps

    def update(self, tape, loss, network, optimizer):
        """One optimiser step on the network's trainable weights; see `update_all`."""
        self.update_all(tape, loss, [(network, optimizer)])

    def update_all(self, tape, loss, pairs):
        """One step of each (network, optimizer) on the network's trainable weights.

        Keras adds up the gradients of all replicas. They are divided by the number of replicas, so
        that the step is that of the mean loss of the global batch. Optimisers with loss scaling
        expect gradients scaled by their own factor: these are computed with the smallest factor,
        then rescaled.
        """
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        variables = [network.trainable_variables for network, _ in pairs]
        scales, least = [optimizer.scale_loss(1.0) for _, optimizer in pairs], None
        if self.scaled:
            least = tf.reduce_min(tf.stack(scales))
        all_gradients = tape.gradient(loss, variables, output_gradients=least)
        for (_, optimizer), own, gradients, scale in zip(pairs, variables, all_gradients, scales):
            gradients = [precision.float32(tf.convert_to_tensor(g)) / replicas for g in gradients]
            if self.scaled:
                gradients = finite_together([g * (scale / least) for g in gradients])
            optimizer.apply(gradients, own)

    def _averaged(self):
        return zip(
            self.ema_networks[self.ema_network].variables, self.networks[self.ema_network].variables
        )

    def update_average(self):
        """mean <- d * mean + (1 - d) * value, for every variable of the averaged network.

        d = min(ema_decay, (1 + t) / (10 + t)) after t steps. With a fixed decay the initial values
        would weigh for thousands of steps; those of batch normalisation's variances make samples
        pale.
        """
        if self.scaled:
            self.scaled_steps.assign_add(1)
        t = tf.cast(self.step, tf.float32)
        decay = tf.minimum(self.hp.ema_decay, (1 + t) / (10 + t))
        for mean, value in self._averaged():
            optimizers.move_towards(mean, value, 1 - decay)

    def extra_config(self):
        """{name: JSON value}: what a resumed run must share, beside its configuration."""
        return {}

    def prepare(self, batches):
        """Takes what the trainer needs from the training data before the first step.

        batches: an endless iterator of training batches as arrays, from the beginning of the data.
        Also sets the weights that a new run starts from; returns whether there are any. `fit` calls
        it unless that was done. Of several workers each must call it with the same batches.
        """
        self.prepared = True
        if int(self.step.numpy()) or not self.load_start_weights():
            return False
        for mean, value in self._averaged():
            mean.assign(value)
        return True

    def before_save(self):
        """Brings up to date what samples and checkpoints need; called before both, and by `fit`."""

    def infer(self, network, inputs):
        """The network's outputs as arrays; see zoo.layers.inference."""
        return self._inference(network, inputs)

    def state(self):
        """{name: variable} of everything that a resumed run needs, each variable once."""
        groups = {role: network.variables for role, (network, _) in self.optimizers_by_role.items()}
        groups |= {f"average/{k}": m.variables for k, m in self.ema_networks.items()}
        for role, (_, optimizer) in self.optimizers_by_role.items():
            if self.scaled:
                groups[f"{role}_scale"] = [optimizer.dynamic_scale, optimizer.step_counter]
                optimizer = optimizer.inner_optimizer
            groups[f"{role}_optimizer"] = optimizer.variables
        state, seen = {"step": self.scaled_steps} if self.scaled else {}, set()
        for group, variables in groups.items():
            for variable in variables:
                if id(variable) not in seen:
                    seen.add(id(variable))
                    path = variable.path
                    if group.endswith(("_optimizer", "_scale")):
                        path = path.partition("/")[2]  # without Keras' number of the optimiser
                    state[f"{group}/{path}"] = variable
        return state


class GAN(Trainer):
    """Trains a generator of noise and a discriminator.

    A subclass defines `optimizers` and `train_step`.
    """

    ema_network = "generator"
    map = None  # noise -> the averaged generator's attention

    def optimizers(self):
        """The paper's optimisers: (generator's, discriminator's)."""
        raise NotImplementedError

    def networks_and_optimizers(self):
        self.generator = self.networks[self.ema_network]
        self.discriminator = self.networks["discriminator"]
        pair = (self.generator, self.discriminator)
        return dict(zip(("generator", "discriminator"), zip(pair, self.optimizers())))

    @property
    def g_optimizer(self):
        return self.optimizers_by_role["generator"][1]

    @property
    def d_optimizer(self):
        return self.optimizers_by_role["discriminator"][1]

    def noise(self, count, stream=0):
        """z (count, latent), uniform in [-1, 1], a function of seed, step, stream and position in
        the batch."""
        latent = self.networks["generator"].inputs[0].shape[-1]
        return uniform((count, latent), self.key(stream), -1, 1)

    @staticmethod
    def logs(d_loss, g_loss, real_logits, fake_logits):
        """{name: scalar} of a step of generator and discriminator, for the logs."""
        return {
            "d_loss": d_loss,
            "g_loss": g_loss,
            "real_logit": tf.reduce_mean(precision.float32(real_logits)),
            "fake_logit": tf.reduce_mean(precision.float32(fake_logits)),
        }

    def generator_inputs(self, z):
        """z (B, latent) -> the generator's inputs."""
        return z

    def sample(self, z):
        """z (B, latent) -> images (B, S, S, 3) in [-1, 1] of the averaged generator."""
        return self.infer(self.ema_networks["generator"], self.generator_inputs(z))

    def attention(self, images, z):
        """(pictures uint8 (B, S, S, 3), attention (B, N, S, S) in [0, 1], places, labels) or None.

        images: real ones, uint8 (B, S, S, 3). z: (B, latent). places: the N positions in pixels
        that attend, (N, 2), or () if the attention belongs to no position. labels: what each of the
        N is, in a few words. Here: the generator's self-attention at four positions of samples;
        None without self-attention.
        """
        generator = self.ema_networks["generator"]
        if not self_attention.attends(generator):
            return None
        if self.map is None:
            self.map = self_attention.attention_map(generator)
        pictures = to_uint8(self.sample(z))
        maps = self.infer(self.map, self.generator_inputs(z))
        return pictures, *self_attention.attention_at(maps, pictures.shape[1])

"""What every trainer shares: scaled updates under a strategy, stateless noise, the moving average,
and the whole state by name, so that a resumed run is the same run.

How many replicas there are does not show: each takes its part of the batch, of the noise and of
the loss that one device would have.
"""

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from ..common.images import to_uint8
from ..zoo.layers import self_attention


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a run on one data set takes unless it is told otherwise.

    image_size: the images' height and width in pixels. batch_size: images, or pairs, in an update.
    steps: updates of the network that is measured. load_size: the size at which images are kept,
    if each update cuts a part of image_size out of them. options: of the networks. hparams: values
    that differ from the defaults of HParams; variants: the same for one key of VARIANTS.
    """

    image_size: int
    batch_size: int
    steps: int
    load_size: int | None = None
    options: dict = dataclasses.field(default_factory=dict)
    hparams: dict = dataclasses.field(default_factory=dict)
    variants: dict = dataclasses.field(default_factory=dict)


def check(hparams, **ranges):
    """Raises ValueError where a value lies outside its (low, high), both included."""
    for name, (low, high) in ranges.items():
        value = getattr(hparams, name)
        if not low <= value <= high:
            raise ValueError(f"{name} must lie in [{low}, {high}], not {value}")


def stateless_uniform(shape, key, low=0, high=1):
    """Those of tf.random.stateless_uniform, also under XLA, which would make others of the same
    bits."""
    bits = tf.random.stateless_uniform(shape, key, None, None, tf.int32, alg="philox")
    return tf.cast(bits & 0x7FFFFF, tf.float32) / 2**23 * (high - low) + low


def uniform(shape, key, low=0, high=1, axis=0, parts=None):
    """Stateless uniform numbers (shape) for a replica's examples, which lie along the axis: its
    part of those that one device would draw for all. parts: how many examples each of several
    batches has that lie there end to end; None: it is one batch."""
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
    """How many are true of a replica's `counted`, over the mean of that number over all replicas:
    by this factor a mean over them becomes one whose mean over replicas is that over all."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return 1.0
    count = tf.reduce_sum(tf.cast(counted, tf.float32))
    return tf.math.divide_no_nan(count, context.all_reduce(tf.distribute.ReduceOp.MEAN, count))


def finite_together(gradients):
    """A replica's gradients, NaN where another's are not finite: Keras' LossScaleOptimizer looks at
    the first replica alone, and every replica must come to the same end."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return gradients
    finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in gradients])
    share = context.all_reduce(tf.distribute.ReduceOp.MEAN, tf.cast(finite, tf.float32))
    return [tf.where(share == 1, g, float("nan")) for g in gradients]


def mean_over_replicas(logs):
    """{name: scalar} of one replica -> the means over all of them, in one message."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return logs
    values = tf.stack([tf.cast(value, tf.float32) for value in logs.values()])
    return dict(zip(logs, tf.unstack(context.all_reduce(tf.distribute.ReduceOp.MEAN, values))))


class Trainer(keras.Model):
    """Trains {name: keras.Model}; a subclass gives `main`, `players` and a `train_step`.

    networks: what zoo.create returned; average: a second, equal set, whose `main` network becomes
    the exponential moving average that is measured, sampled and saved. hp: the frozen HParams.
    seed: of all that is random. The batch norm statistics are averaged with the weights. Networks
    of mixed float16 have their losses scaled, for each optimiser by its own factor.
    """

    ema_network = ""  # key of the network whose weights are averaged

    def __init__(self, networks, average, hp, seed):
        super().__init__()
        self.networks, self.hp, self.seed = networks, hp, seed
        self.load_start_weights = getattr(networks, "load_start_weights", lambda: False)
        self.ema_networks = {k: m for k, m in average.items() if k != "discriminator"}
        self._inference = {}
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
            self.taken = tf.Variable(0, dtype=tf.int64, trainable=False, aggregation=first)
        for network, optimizer in self.optimizers_by_role.values():
            optimizer.build(network.trainable_variables)
        self.first = next(iter(self.optimizers_by_role.values()))[1]
        self.compile(optimizer=self.first, jit_compile=False, steps_per_execution=1)
        self.built = True

    def networks_and_optimizers(self):
        """{role: (network, optimizer)}, as the paper sets them; the first one's steps count."""
        raise NotImplementedError

    @property
    def batches_per_step(self):
        """Minibatches that one train_step takes from the data."""
        return 1

    @property
    def step(self):
        """Updates of the main network so far, with those that loss scaling left out."""
        return self.taken if self.scaled else self.first.iterations

    def key(self, stream=0, shared=False):
        """A seed (2,) for stateless random numbers: of seed, step and stream. shared: those of no
        example, which all replicas need; of examples see `uniform`."""
        key = tf.stack([tf.cast(self.seed, tf.int64), tf.cast(self.step, tf.int64)])
        for number in (stream,) if shared else (stream, 0):
            number = tf.cast(number, tf.int64)
            key = tf.random.experimental.stateless_fold_in(key, number, alg="philox")
        return key

    def _maybe_symbolic_build(self, *_, **__):
        """Keras' own reduces a batch over the workers to build by, and fails; all is built."""

    def make_train_function(self, force=False):
        """Sets train_function, which `fit` calls: an iterator of batches -> the logs of the last of
        steps_per_execution steps."""
        if self.train_function is not None and not force:
            return
        strategy, count = self.distribute_strategy, self.steps_per_execution

        @tf.function(jit_compile=self.jit_compile, reduce_retracing=True, autograph=False)
        def one(batch):
            logs = strategy.run(
                lambda batch: mean_over_replicas(self.train_step(batch)), args=(batch,)
            )
            return {k: strategy.experimental_local_results(v)[0] for k, v in logs.items()}

        @tf.function(reduce_retracing=True, autograph=False)
        def execution(iterator):
            def body(i):
                one(iterator.get_next())
                return i + 1

            if count > 1:
                tf.while_loop(lambda i: i < count - 1, body, [0], parallel_iterations=1)
            return one(iterator.get_next())

        self.train_function = execution

    def update(self, tape, loss, network, optimizer):
        """One optimiser step on the network's trainable weights; see `update_all`."""
        self.update_all(tape, loss, [(network, optimizer)])

    def update_all(self, tape, loss, players):
        """One step of each (network, optimizer) on the network's trainable weights.

        Keras adds gradients up over the replicas of a strategy: each is divided by their number,
        so that the step is the one of the global batch's mean loss. Optimisers that scale losses
        are given gradients scaled by their own factor, found with the least of them.
        """
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        variables = [network.trainable_variables for network, _ in players]
        scales, least = [optimizer.scale_loss(1.0) for _, optimizer in players], None
        if self.scaled:
            least = tf.reduce_min(tf.stack(scales))
        found = tape.gradient(loss, variables, output_gradients=least)
        for (_, optimizer), own, gradients, scale in zip(players, variables, found, scales):
            gradients = [tf.convert_to_tensor(g) / replicas for g in gradients]  # embeddings' too
            if self.scaled:
                gradients = finite_together([g * (scale / least) for g in gradients])
            optimizer.apply(gradients, own)

    def _averaged(self):
        return zip(
            self.ema_networks[self.ema_network].variables, self.networks[self.ema_network].variables
        )

    def update_average(self):
        """mean <- d * mean + (1 - d) * value, for every variable of the main network.

        d = min(ema_decay, (1 + t) / (10 + t)) after t steps: a fixed decay would hold on to the
        first values for thousands of steps, and those of batch norm's variances wash samples out.
        """
        if self.scaled:
            self.taken.assign_add(1)
        t = tf.cast(self.step, tf.float32)
        decay = tf.minimum(self.hp.ema_decay, (1 + t) / (10 + t))
        for mean, value in self._averaged():
            mean.assign(mean + (1 - decay) * (value - mean))

    def extra_config(self):
        """{name: JSON value} of what else is the same in a run that is resumed."""
        return {}

    def prepare(self, batches):
        """Called before training with an iterator of the training batches as arrays. Where a run
        begins, sets the weights that it starts from; True if there are any."""
        if int(self.step.numpy()) or not self.load_start_weights():
            return False
        for mean, value in self._averaged():
            mean.assign(value)
        return True

    def before_save(self):
        """Called before samples are drawn and before the state is saved."""

    def infer(self, network, inputs):
        """The network's outputs as arrays, in inference mode and on one device.

        keras.Model.predict_on_batch would give the whole batch to every replica of a strategy.
        """
        if id(network) not in self._inference:
            self._inference[id(network)] = tf.function(
                lambda x: network(x, training=False), reduce_retracing=True
            )
        inputs = tf.nest.map_structure(tf.convert_to_tensor, inputs)
        return tf.nest.map_structure(np.asarray, self._inference[id(network)](inputs))

    def state(self):
        """{name: variable}: all that a resumed run needs, each variable once."""
        groups = {role: network.variables for role, (network, _) in self.optimizers_by_role.items()}
        groups |= {f"average/{k}": m.variables for k, m in self.ema_networks.items()}
        for role, (_, optimizer) in self.optimizers_by_role.items():
            if self.scaled:
                groups[f"{role}_scale"] = [optimizer.dynamic_scale, optimizer.step_counter]
                optimizer = optimizer.inner_optimizer
            groups[f"{role}_optimizer"] = optimizer.variables
        state, seen = {"step": self.taken} if self.scaled else {}, set()
        for group, variables in groups.items():
            for variable in variables:
                if id(variable) not in seen:
                    seen.add(id(variable))
                    path = variable.path
                    if group.endswith(("_optimizer", "_scale")):
                        path = path.partition("/")[2]  # without Keras' count of optimisers
                    state[f"{group}/{path}"] = variable
        return state


class GAN(Trainer):
    """A generator of noise and a discriminator; a subclass gives `optimizers` and `train_step`."""

    ema_network = "generator"
    map = None  # noise -> the averaged generator's attention

    def optimizers(self):
        """(generator's, discriminator's), as the paper sets them."""
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
        """z (count, latent), uniform in [-1, 1]: a function of seed, step, stream and place in the
        batch."""
        latent = self.networks["generator"].inputs[0].shape[-1]
        return uniform((count, latent), self.key(stream), -1, 1)

    @staticmethod
    def logs(d_loss, g_loss, real_logits, fake_logits):
        """What a step of two players tells."""
        return {
            "d_loss": d_loss,
            "g_loss": g_loss,
            "real_logit": tf.reduce_mean(real_logits),
            "fake_logit": tf.reduce_mean(fake_logits),
        }

    def generator_inputs(self, z):
        """z (B, latent) -> what the generator takes for it."""
        return z

    def sample(self, z):
        """z (B, latent) -> images (B, S, S, 3) in [-1, 1], by the averaged generator."""
        return self.infer(self.ema_networks["generator"], self.generator_inputs(z))

    def attention(self, images, z):
        """What there is to see of attention, or None: (pictures uint8 (B, S, S, 3), masks (B, N, S,
        S) from 0 to 1, places (N, 2) in pixels that look, or none).

        images: real ones, uint8 (B, S, S, 3); z (B, latent). Here: where four places of samples
        look, by the generator's self-attention.
        """
        generator = self.ema_networks["generator"]
        if not self_attention.attends(generator):
            return None
        if self.map is None:
            self.map = self_attention.attention_map(generator)
        pictures = to_uint8(self.sample(z))
        maps = self.infer(self.map, self.generator_inputs(z))
        return pictures, *self_attention.looks(maps, pictures.shape[1])

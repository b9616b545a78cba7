"""What every trainer shares: scaled updates under a strategy, stateless noise, the moving average,
and the whole state by name, so that a resumed run is the same run."""

import keras
import numpy as np
import tensorflow as tf


def check(hparams, **ranges):
    """Raises ValueError where a value lies outside its (low, high), both included."""
    for name, (low, high) in ranges.items():
        value = getattr(hparams, name)
        if not low <= value <= high:
            raise ValueError(f"{name} must lie in [{low}, {high}], not {value}")


class Trainer(keras.Model):
    """Trains {name: keras.Model}; a subclass gives `optimizers` and a `train_step`.

    networks: what zoo.create returned; average: a second, equal set, whose generator side becomes
    the exponential moving average that is sampled and saved. hp: the frozen HParams. seed: of all
    noise. The batch norm statistics are averaged with the weights.
    """

    generator_key = "generator"  # the network whose weights are the generator's

    def __init__(self, networks, average, hp, seed):
        super().__init__()
        self.networks, self.hp, self.seed = networks, hp, seed
        self.average = {k: m for k, m in average.items() if k != "discriminator"}
        self._inference = {}
        self.generator = networks[self.generator_key]
        self.discriminator = networks["discriminator"]
        for mean, value in self._averaged():
            mean.assign(value)
        self.g_optimizer, self.d_optimizer = self.optimizers()
        self.g_optimizer.build(self.generator.trainable_variables)
        self.d_optimizer.build(self.discriminator.trainable_variables)
        self.compile(optimizer=self.g_optimizer, jit_compile=False, steps_per_execution=1)
        self.built = True

    def optimizers(self):
        """(generator's, discriminator's), as the paper sets them."""
        raise NotImplementedError

    @property
    def batches_per_step(self):
        """Minibatches that one train_step takes from the data."""
        return 1

    def noise(self, count, stream=0):
        """z (count, latent), uniform in [-1, 1]: a function of seed, step, stream and replica."""
        key = tf.stack([tf.cast(self.seed, tf.int64), tf.cast(self.step, tf.int64)])
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        for number in (stream, replica):
            key = tf.random.experimental.stateless_fold_in(key, tf.cast(number, tf.int64))
        latent = self.networks["generator"].input_shape[-1]
        return tf.random.stateless_uniform((count, latent), key, -1, 1)

    @property
    def step(self):
        """Updates of the generator so far."""
        return self.g_optimizer.iterations

    def update(self, tape, loss, network, optimizer):
        """One optimiser step on the network's trainable weights.

        Keras adds gradients up over the replicas of a strategy: each is divided by their number,
        so that the step is the one of the global batch's mean loss.
        """
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        variables = network.trainable_variables
        gradients = tape.gradient(loss, variables)
        optimizer.apply([g / replicas for g in gradients], variables)

    def _averaged(self):
        return zip(self.average[self.generator_key].variables, self.generator.variables)

    def update_average(self):
        """mean <- d * mean + (1 - d) * value, for every variable of the generator.

        d = min(ema_decay, (1 + t) / (10 + t)) after t steps: a fixed decay would hold on to the
        first values for thousands of steps, and those of batch norm's variances wash samples out.
        """
        t = tf.cast(self.step, tf.float32)
        decay = tf.minimum(self.hp.ema_decay, (1 + t) / (10 + t))
        for mean, value in self._averaged():
            mean.assign(mean + (1 - decay) * (value - mean))

    def before_save(self):
        """Called before samples are drawn and before the state is saved."""

    def sample(self, z):
        """z (B, latent) -> images (B, S, S, 3) in [-1, 1], by the averaged generator."""
        return self.infer(self.average["generator"], z)

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
        groups = {"generator": self.generator.variables}
        groups |= {"discriminator": self.discriminator.variables}
        groups |= {f"average/{k}": m.variables for k, m in self.average.items()}
        groups |= {"g_optimizer": self.g_optimizer.variables}
        groups |= {"d_optimizer": self.d_optimizer.variables}
        state, seen = {}, set()
        for group, variables in groups.items():
            for variable in variables:
                if id(variable) not in seen:
                    seen.add(id(variable))
                    path = variable.path
                    if group.endswith("optimizer"):
                        path = path.partition("/")[2]  # without Keras' count of optimisers
                    state[f"{group}/{path}"] = variable
        return state

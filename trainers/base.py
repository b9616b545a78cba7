"""What every trainer shares: scaled updates under a strategy, stateless noise, the moving average,
and the whole state by name, so that a resumed run is the same run."""

import keras
import numpy as np
import tensorflow as tf

from trainers import callbacks
from zoo.layers import self_attention


def check(hparams, **ranges):
    """Raises ValueError where a value lies outside its (low, high), both included."""
    for name, (low, high) in ranges.items():
        value = getattr(hparams, name)
        if not low <= value <= high:
            raise ValueError(f"{name} must lie in [{low}, {high}], not {value}")


class Trainer(keras.Model):
    """Trains {name: keras.Model}; a subclass gives `main`, `players` and a `train_step`.

    networks: what zoo.create returned; average: a second, equal set, whose `main` network becomes
    the exponential moving average that is measured, sampled and saved. hp: the frozen HParams.
    seed: of all that is random. The batch norm statistics are averaged with the weights.
    """

    main = ""  # key of the network whose weights are averaged

    def __init__(self, networks, average, hp, seed):
        super().__init__()
        self.networks, self.hp, self.seed = networks, hp, seed
        self.average = {k: m for k, m in average.items() if k != "discriminator"}
        self._inference = {}
        for mean, value in self._averaged():
            mean.assign(value)
        self.played = self.players()
        for network, optimizer in self.played.values():
            optimizer.build(network.trainable_variables)
        self.first = next(iter(self.played.values()))[1]
        self.compile(optimizer=self.first, jit_compile=False, steps_per_execution=1)
        self.built = True

    def players(self):
        """{role: (network, optimizer)}, as the paper sets them; the first one's steps count."""
        raise NotImplementedError

    @property
    def batches_per_step(self):
        """Minibatches that one train_step takes from the data."""
        return 1

    @property
    def step(self):
        """Updates of the main network so far."""
        return self.first.iterations

    def key(self, stream=0, shared=False):
        """A seed (2,) for stateless random numbers: of seed, step, stream and, unless it is shared
        by all, replica."""
        key = tf.stack([tf.cast(self.seed, tf.int64), tf.cast(self.step, tf.int64)])
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        for number in (stream,) if shared else (stream, replica):
            key = tf.random.experimental.stateless_fold_in(key, tf.cast(number, tf.int64))
        return key

    def update(self, tape, loss, network, optimizer):
        """One optimiser step on the network's trainable weights; see `update_all`."""
        self.update_all(tape, loss, [(network, optimizer)])

    def update_all(self, tape, loss, players):
        """One step of each (network, optimizer) on the network's trainable weights.

        Keras adds gradients up over the replicas of a strategy: each is divided by their number,
        so that the step is the one of the global batch's mean loss.
        """
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        variables = [network.trainable_variables for network, _ in players]
        found = tape.gradient(loss, variables)
        for (_, optimizer), own, gradients in zip(players, variables, found):
            gradients = [tf.convert_to_tensor(g) / replicas for g in gradients]  # embeddings' too
            optimizer.apply(gradients, own)

    def _averaged(self):
        return zip(self.average[self.main].variables, self.networks[self.main].variables)

    def update_average(self):
        """mean <- d * mean + (1 - d) * value, for every variable of the main network.

        d = min(ema_decay, (1 + t) / (10 + t)) after t steps: a fixed decay would hold on to the
        first values for thousands of steps, and those of batch norm's variances wash samples out.
        """
        t = tf.cast(self.step, tf.float32)
        decay = tf.minimum(self.hp.ema_decay, (1 + t) / (10 + t))
        for mean, value in self._averaged():
            mean.assign(mean + (1 - decay) * (value - mean))

    def facts(self):
        """{name: JSON value} of what else is the same in a run that is resumed."""
        return {}

    def prepare(self, batches):
        """Called before training with an iterator of the training batches as arrays."""

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
        groups = {role: network.variables for role, (network, _) in self.played.items()}
        groups |= {f"average/{k}": m.variables for k, m in self.average.items()}
        groups |= {f"{role}_optimizer": o.variables for role, (_, o) in self.played.items()}
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


class GAN(Trainer):
    """A generator of noise and a discriminator; a subclass gives `optimizers` and `train_step`."""

    main = "generator"
    map = None  # noise -> the averaged generator's attention

    def optimizers(self):
        """(generator's, discriminator's), as the paper sets them."""
        raise NotImplementedError

    def players(self):
        self.generator = self.networks[self.main]
        self.discriminator = self.networks["discriminator"]
        self.g_optimizer, self.d_optimizer = self.optimizers()
        return {
            "generator": (self.generator, self.g_optimizer),
            "discriminator": (self.discriminator, self.d_optimizer),
        }

    def noise(self, count, stream=0):
        """z (count, latent), uniform in [-1, 1]: a function of seed, step, stream and replica."""
        latent = self.networks["generator"].inputs[0].shape[-1]
        return tf.random.stateless_uniform((count, latent), self.key(stream), -1, 1)

    @staticmethod
    def logs(d_loss, g_loss, real_logits, fake_logits):
        """What a step of two players tells."""
        return {
            "d_loss": d_loss,
            "g_loss": g_loss,
            "real_logit": tf.reduce_mean(real_logits),
            "fake_logit": tf.reduce_mean(fake_logits),
        }

    def given(self, z):
        """z (B, latent) -> what the generator takes for it."""
        return z

    def sample(self, z):
        """z (B, latent) -> images (B, S, S, 3) in [-1, 1], by the averaged generator."""
        return self.infer(self.average["generator"], self.given(z))

    def attention(self, images, z):
        """What there is to see of attention, or None: (pictures uint8 (B, S, S, 3), masks (B, N, S,
        S) from 0 to 1, places (N, 2) in pixels that look, or none).

        images: real ones, uint8 (B, S, S, 3); z (B, latent). Here: where four places of samples
        look, by the generator's self-attention.
        """
        generator = self.average["generator"]
        if not self_attention.attends(generator):
            return None
        if self.map is None:
            self.map = self_attention.attention_map(generator)
        pictures = callbacks.to_uint8(self.sample(z))
        maps = self.infer(self.map, self.given(z))
        return pictures, *self_attention.looks(maps, pictures.shape[1])

"""Trains small networks of TensorFlow Addons' layers with TensorFlow 2.15 and saves, for each,
NAME.h5 by save_weights, NAME-whole.h5 by save, and NAME.npz: inputs and outputs at inference.

    .venv-addons/bin/python tests/parity_addons_model.py FOLDER
"""

import sys

import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa

layers = tf.keras.layers
SN = tfa.layers.SpectralNormalization


def spectral(transposed):
    """image (B, 8, 8, 3), label (B,) -> (B, 5); transposed: with transposed convolutions, too."""
    image, label = layers.Input((8, 8, 3)), layers.Input((), dtype="int32")
    x = SN(layers.Conv2D(8, 3, strides=2, padding="same"), name="c1")(image)
    x = tfa.layers.InstanceNormalization(name="in1")(x)
    x = layers.LeakyReLU(0.2)(x)
    if transposed:
        x = SN(layers.Conv2DTranspose(6, 4, strides=2, padding="same"), name="t1")(x)
        x = layers.BatchNormalization(name="bn")(x)
        x = SN(layers.Conv2DTranspose(6, 3, padding="same", use_bias=False), name="t2")(x)
    x = SN(layers.Conv2D(12, 3, padding="same", use_bias=False))(x)  # a name that Keras counts
    x = tfa.layers.GroupNormalization(4, name="gn1")(x)
    x = layers.Flatten()(tf.nn.leaky_relu(x, 0.2))
    x = SN(layers.Dense(5), name="d1")(x)
    return tf.keras.Model([image, label], x * SN(layers.Embedding(4, 5), name="e1")(label))


def plain():
    """The same without spectral normalisation, as a subclass with a network inside."""

    class Generator(tf.keras.Model):
        def __init__(self):
            super().__init__(name="theirs")
            self.c1 = layers.Conv2D(8, 3, padding="same", name="c1")
            self.in1 = tfa.layers.InstanceNormalization(name="in1")
            self.block = tf.keras.Sequential(
                [
                    layers.Conv2DTranspose(6, 4, strides=2, padding="same", name="t1"),
                    tfa.layers.GroupNormalization(3, epsilon=1e-5, name="gn1"),
                ],
                name="block",
            )

        def call(self, inputs, training=None):
            return self.block(self.in1(self.c1(inputs[0])))

    return Generator()


def train(network, image, label, steps):
    """Updates that make the outputs of the first half of the batch large, of the second small."""
    optimizer = tf.keras.optimizers.Adam(2e-3, beta_1=0.5)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            y = network([image, label], training=True)
            half = len(image) // 2
            loss = tf.reduce_mean(tf.nn.softplus(-y[:half])) + tf.reduce_mean(y[half:] ** 2)
        optimizer.apply_gradients(
            zip(tape.gradient(loss, network.trainable_variables), network.trainable_variables)
        )

    for _ in range(steps):
        step()


def save(network, folder, name, image, label):
    network.save_weights(f"{folder}/{name}.h5")
    if name != "plain":
        network.save(f"{folder}/{name}-whole.h5")
    made = network([image, label], training=False)
    np.savez(f"{folder}/{name}.npz", image=image, label=label, made=made)


def main(folder):
    tf.keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    image = rng.uniform(-1, 1, (16, 8, 8, 3)).astype("float32")
    label = rng.integers(0, 4, 16).astype("int32")
    network = spectral(transposed=True)
    train(network, image, label, 50)
    save(network, folder, "trained", image, label)
    network = spectral(transposed=False)
    train(network, image, label, 50)
    for _ in range(2000):  # the power iteration comes to rest: every sigma is 1
        network([image, label], training=True)
    save(network, folder, "rest", image, label)
    network = plain()
    train(network, image, label, 50)
    save(network, folder, "plain", image, label)


if __name__ == "__main__":
    main(sys.argv[1])

"""The scale and offset of a normalisation as a layer of their own."""

import keras


@keras.saving.register_keras_serializable("zoo")
class ChannelAffine(keras.layers.Layer):
    """x (B, H, W, C) -> gamma x + beta, with a gamma, from N(1, 0.02), and a beta, from 0, for each
    channel."""

    def build(self, shape):
        initializer = keras.initializers.RandomNormal(1.0, 0.02)
        self.gamma = self.add_weight(shape=shape[-1:], initializer=initializer, name="gamma")
        self.beta = self.add_weight(shape=shape[-1:], initializer="zeros", name="beta")

    def call(self, x):
        return x * self.gamma + self.beta

    def compute_output_shape(self, shape):
        return shape

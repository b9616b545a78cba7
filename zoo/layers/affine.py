"""A learned scale and offset of each channel."""

import keras


@keras.saving.register_keras_serializable("zoo")
class Affine(keras.layers.Layer):
    """x (B, H, W, C) -> gamma x + beta, the same shape: what normalisation layers here leave out.

    deviation: of gamma's initial values, which have mean 1; beta starts at 0.
    """

    def __init__(self, deviation=0.0, **kwargs):
        super().__init__(**kwargs)
        self.deviation = deviation

    def build(self, shape):
        around_one = keras.initializers.RandomNormal(1.0, self.deviation)
        self.gamma = self.add_weight(shape=shape[-1:], initializer=around_one, name="gamma")
        self.beta = self.add_weight(shape=shape[-1:], initializer="zeros", name="beta")

    def call(self, x):
        return x * self.gamma + self.beta

    def compute_output_shape(self, shape):
        return shape

    def get_config(self):
        return {**super().get_config(), "deviation": self.deviation}

"""Networks in inference mode, array in, array out."""

import numpy as np
import tensorflow as tf


class Inference:
    """Calls networks on one device, each by a compiled function of its own.

    keras.Model.predict_on_batch would give the whole batch to every replica of a strategy.
    """

    def __init__(self):
        self.functions = {}

    def __call__(self, network, inputs):
        """The outputs for a batch of inputs, as arrays in the structure that the network gives."""
        if id(network) not in self.functions:
            self.functions[id(network)] = (
                network,
                tf.function(
                    lambda x: network(x, training=False), autograph=False, reduce_retracing=True
                ),
            )
        inputs = tf.nest.map_structure(tf.convert_to_tensor, inputs)
        return tf.nest.map_structure(np.asarray, self.functions[id(network)][1](inputs))

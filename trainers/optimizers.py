"""Adam and SGD, and a moving average, each variable in one pass over memory; a rate of its own for
one variable.

TensorFlow's kernels compute what Keras' optimisers compose of ten operations.
"""

import keras
import tensorflow as tf


class Adam(keras.optimizers.Adam):
    """keras.optimizers.Adam (Kingma and Ba, 2015, algorithm 1)."""

    def __init__(self, learning_rate, beta_1, beta_2):
        super().__init__(learning_rate, beta_1, beta_2)

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].handle,
            v=self._velocities[index].handle,
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=tf.pow(self.beta_2, step),
            lr=tf.cast(learning_rate, tf.float32),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


class L2Adam(Adam):
    """Adam with the penalty l2/2 |w|^2, whose gradient l2 w is added to that of each weight w
    before the moments are computed, as weight_decay of PyTorch's Adam."""

    def __init__(self, learning_rate, beta_1, beta_2, l2):
        super().__init__(learning_rate, beta_1, beta_2)
        self.l2 = l2

    def update_step(self, gradient, variable, learning_rate):
        gradient = gradient + self.l2 * tf.convert_to_tensor(variable)
        super().update_step(gradient, variable, learning_rate)


class SGD(keras.optimizers.SGD):
    """keras.optimizers.SGD with momentum. head: variables whose learning rate is head_rate times as
    high."""

    def __init__(self, learning_rate, momentum=0.0, nesterov=False, head=(), head_rate=1.0):
        super().__init__(learning_rate, momentum, nesterov)
        self.head, self.head_rate = {v.path for v in head}, head_rate

    def apply(self, grads, trainable_variables=None):
        if self.head_rate != 1:
            paths = [v.path for v in trainable_variables]
            grads = [g * self.head_rate if p in self.head else g for g, p in zip(grads, paths)]
        super().apply(grads, trainable_variables)

    def update_step(self, gradient, variable, learning_rate):
        if not self.momentum:
            super().update_step(gradient, variable, learning_rate)
            return
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=self.momentums[self._get_variable_index(variable)].handle,
            lr=tf.cast(learning_rate, tf.float32),
            grad=gradient,
            momentum=self.momentum,
            use_nesterov=self.nesterov,
        )


def scale_rate(optimizer, variable, factor):
    """Multiplies an optimiser's learning rate for one of its variables."""
    update_step, key = optimizer.update_step, optimizer._var_key

    def scaled(gradient, v, learning_rate):
        own = key(v) == key(variable)
        update_step(gradient, v, learning_rate * factor if own else learning_rate)

    optimizer.update_step = scaled


def move_towards(mean, value, share):
    """mean <- mean + share (value - mean), for two variables."""
    if tf.distribute.get_strategy().num_replicas_in_sync > 1:  # keeps the variables in step
        mean.assign(mean + share * (value - mean))
        return
    difference = tf.convert_to_tensor(mean) - value
    tf.raw_ops.ResourceApplyGradientDescent(var=mean.handle, alpha=share, delta=difference)

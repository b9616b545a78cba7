"""What layers know of a training step that is being traced, and what stays float32 in one whose
graph TensorFlow's compiler rewrites to bfloat16 (trainers.base.Trainer.bfloat16).

The rewrite goes by lists of operations: convolutions and products become bfloat16, and so does what
lies between or behind them, losses and optimisers included. It leaves alone the operations that are
used here, and what follows them as far as the next product.
"""

import contextlib
import functools

import keras
from keras import ops

_steps = []  # for each training step that is being traced: whether it will be rewritten


@contextlib.contextmanager
def training_step(rewritten=False):
    """Marks the functions that are traced within the context as parts of a training step.

    All threads see the mark, since the replicas of a strategy are traced in threads of their own.
    """
    _steps.append(rewritten)
    try:
        yield
    finally:
        _steps.remove(rewritten)


def in_training_step():
    return bool(_steps)


def is_rewritten():
    """Whether the function that is being traced will be rewritten."""
    return any(_steps)


def accelerated():
    """Whether TensorFlow has a GPU or a TPU."""
    import tensorflow as tf

    return any(tf.config.list_logical_devices(kind) for kind in ("GPU", "TPU"))


def float32(x):
    """x (...) in half precision or float32 -> its values in float32, which is then the type of what
    is computed from them too, and of their gradient."""
    if x.dtype in ("bfloat16", "float16"):
        x = ops.cast(x, "float32")
    return _operations()[0](x) if is_rewritten() else x


def matmul(a, b):
    """Float32 arrays a (..., n, k), b (..., k, m) -> a b, a float32 product with float32
    gradients."""
    return _operations()[1](a, b) if is_rewritten() else ops.matmul(a, b)


@contextlib.contextmanager
def in_full(network):
    """Within the context the layers of a network in mixed precision, and the layers that they are
    made of, compute in the type of their weights. The replicas of a strategy, which share the
    layers, enter and leave it together."""
    policies = {}

    def enter():
        for layer in network._flatten_layers(include_self=False):
            policies[layer] = layer.dtype_policy
            layer.dtype_policy = layer.variable_dtype

    def leave():
        for layer, policy in policies.items():
            layer.dtype_policy = policy

    _together(enter)
    try:
        yield
    except BaseException:
        leave()
        raise
    _together(leave)


def _together(function):
    """Calls a function () once all replicas have come here, for all of them."""
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        function()
    else:
        context.merge_call(lambda _: function())


def of_float32(function):
    """A function of arrays and other values -> the same function of float32 for float arrays."""

    def cast(x):
        tensor = keras.ops.is_tensor(x) and keras.backend.is_float_dtype(x.dtype)
        return float32(x) if tensor else x

    @functools.wraps(function)
    def call(*args, **kwargs):
        return function(*map(cast, args), **{name: cast(x) for name, x in kwargs.items()})

    return call


@functools.cache
def _operations():
    """(x -> x, a, b -> a b) that the rewrite does not know: their gradients are made of them."""
    import tensorflow as tf

    @tf.custom_gradient
    def same(x):
        return tf.bitcast(tf.bitcast(x, tf.int32), tf.float32), same

    @tf.custom_gradient
    def product(a, b):
        y = tf.raw_ops.BatchMatMulV3(x=a, y=b, Tout=tf.float32)
        turned = tf.linalg.matrix_transpose
        return y, lambda d: (product(d, turned(b)), product(turned(a), d))

    tensor = tf.convert_to_tensor  # variables would need gradients of their own
    return lambda x: same(tensor(x)), lambda a, b: product(tensor(a), tensor(b))


@keras.saving.register_keras_serializable("zoo")
class Float32Dense(keras.layers.Dense):
    """keras.layers.Dense, (B, C) -> (B, units), in float32."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **{"dtype": "float32"} | kwargs)

    def call(self, x):
        return self.activation(matmul(float32(x), self.kernel) + self.bias)


@keras.saving.register_keras_serializable("zoo")
class Float32(keras.layers.Layer):
    """x (...) -> the same in float32; see `float32`."""

    def __init__(self, **kwargs):
        super().__init__(**{"dtype": "float32"} | kwargs)

    def call(self, x):
        return float32(x)

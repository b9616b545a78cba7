"""Optimisers in one pass, against Keras' own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from attention_zoo.tests.helpers import drawn
from attention_zoo.trainers import optimizers

PAIRS = {
    "adam": (lambda: optimizers.Adam(2e-3, 0.5, 0.999), lambda: keras.optimizers.Adam(2e-3, 0.5)),
    "adam without momentum": (
        lambda: optimizers.Adam(1e-3, 0.0, 0.9),
        lambda: keras.optimizers.Adam(1e-3, 0.0, 0.9),
    ),
    "sgd": (lambda: optimizers.SGD(0.1), lambda: keras.optimizers.SGD(0.1)),
    "momentum": (lambda: optimizers.SGD(0.1, 0.9), lambda: keras.optimizers.SGD(0.1, 0.9)),
    "nesterov": (
        lambda: optimizers.SGD(0.1, 0.9, nesterov=True),
        lambda: keras.optimizers.SGD(0.1, 0.9, nesterov=True),
    ),
}


def after_steps(make, strategy=None):
    """The variable and the optimiser's state after three steps, by path."""
    strategy = strategy or tf.distribute.get_strategy()
    with strategy.scope():
        variable, optimizer = keras.Variable(drawn(5, 7)), make()
        optimizer.build([variable])
    replicas = strategy.num_replicas_in_sync

    @tf.function
    def step(gradient):
        strategy.run(lambda: optimizer.apply([gradient / replicas], [variable]))

    for seed in range(3):
        step(tf.constant(drawn(5, 7, seed=seed)))
    values = {v.path.partition("/")[2]: np.asarray(v) for v in optimizer.variables}
    return values | {"variable": np.asarray(variable)}


@pytest.mark.parametrize("name", PAIRS)
def test_an_optimiser_is_keras_own(name, mirrored):
    ours, theirs = (after_steps(make) for make in PAIRS[name])
    names = [k.split("_")[-1] for k in theirs]
    assert [k.split("_")[-1] for k in ours] == names
    for (key, a), b in zip(ours.items(), theirs.values()):
        assert abs(a - b).max() <= 1e-6 * max(1, abs(b).max()), key
    two = after_steps(PAIRS[name][0], mirrored)
    assert abs(two["variable"] - ours["variable"]).max() < 1e-6


def test_a_schedule_sets_the_rate():
    rate = keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)
    ours = after_steps(lambda: optimizers.SGD(rate, 0.9))
    theirs = after_steps(lambda: keras.optimizers.SGD(rate, 0.9))
    assert abs(ours["variable"] - theirs["variable"]).max() < 1e-6


def test_a_mean_moves_towards_a_value(mirrored):
    mean, value = drawn(4, 3), drawn(4, 3, seed=2)
    expected = mean + np.float32(0.25) * (value - mean)
    for strategy in (tf.distribute.get_strategy(), mirrored):
        with strategy.scope():
            a, b = keras.Variable(mean), keras.Variable(value)
        strategy.run(lambda a=a, b=b: optimizers.move_towards(a, b, tf.constant(0.25)))
        assert abs(np.asarray(a) - expected).max() < 1e-7
        assert np.array_equal(np.asarray(b), value)


@pytest.mark.parametrize(
    "make", [lambda: optimizers.Adam(0.1, 0.5, 0.9), lambda: keras.optimizers.RMSprop(0.1)]
)
def test_one_variable_has_a_rate_of_its_own(make, mirrored):
    for strategy in (tf.distribute.get_strategy(), mirrored):
        with strategy.scope():
            a, b, optimizer = keras.Variable([1.0]), keras.Variable([1.0]), make()
            optimizer.build([a, b])
        optimizers.scale_rate(optimizer, b, 0.25)
        for _ in range(2):
            strategy.run(lambda a=a, b=b, o=optimizer: o.apply([tf.ones(1)] * 2, [a, b]))
        moved = 1 - float(a[0]), 1 - float(b[0])
        assert moved[0] > 0.19 and moved[1] == pytest.approx(moved[0] / 4, rel=1e-5)

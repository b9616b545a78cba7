"""The zoo's convolutions and instance normalisation against Keras' composed forms: values, and
gradients of the first and second order, in each form that they take."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from attention_zoo.tests.helpers import drawn, gap
from attention_zoo.zoo.layers import convolution, precision
from attention_zoo.zoo.layers.convolution import Conv2D, Conv2DTranspose, DoublingConv2DTranspose
from attention_zoo.zoo.layers.gelu import Gelu
from attention_zoo.zoo.layers.instance_norm import MOST, InstanceNorm

PAD, CROP = keras.layers.ZeroPadding2D, keras.layers.Cropping2D
CASES = {  # name: (ours, Keras' layers, shape of the input)
    "around": (
        lambda: Conv2D(7, 3, strides=2, around=1),
        lambda: [PAD(1), keras.layers.Conv2D(7, 3, strides=2)],
        (2, 12, 9, 5),
    ),
    "around 3": (
        lambda: Conv2D(4, 7, around=3),
        lambda: [PAD(3), keras.layers.Conv2D(4, 7)],
        (1, 8, 8, 2),
    ),
    "dilated": (
        lambda: Conv2D(7, 3, padding="same", dilation_rate=3),
        lambda: [keras.layers.Conv2D(7, 3, padding="same", dilation_rate=3)],
        (2, 12, 16, 5),
    ),
    "dilated, small": (
        lambda: Conv2D(7, 3, padding="same", dilation_rate=2),
        lambda: [keras.layers.Conv2D(7, 3, padding="same", dilation_rate=2)],
        (2, 6, 8, 5),
    ),
    "wide": (
        lambda: Conv2D(256, 3, padding="same"),
        lambda: [keras.layers.Conv2D(256, 3, padding="same")],
        (1, 9, 9, 2),
    ),
    "gelu": (
        lambda: Gelu(),
        lambda: [keras.layers.Activation("gelu")],
        (2, 5, 4, 3),
    ),
    "doubling": (
        lambda: DoublingConv2DTranspose(7),
        lambda: [keras.layers.Conv2DTranspose(7, 3, strides=2), CROP(((1, 0), (1, 0)))],
        (2, 5, 6, 3),
    ),
    **{
        f"{cls.__name__} {side}/{stride} of {size}": (
            lambda cls=cls, s=side, t=stride: cls(7, s, strides=t, padding="same", use_bias=s > 1),
            lambda cls=cls, s=side, t=stride: [
                getattr(keras.layers, cls.__name__)(7, s, strides=t, padding="same", use_bias=s > 1)
            ],
            (2, size, size + 2, 5),
        )
        for cls in (Conv2D, Conv2DTranspose)
        for side, stride, size in ((4, 2, 8), (4, 2, 7), (3, 1, 4), (1, 1, 4), (2, 2, 6), (3, 2, 6))
        if cls is Conv2D or size != 7
    },
    "instance norm": (
        lambda: InstanceNorm(),
        lambda: [
            keras.layers.GroupNormalization(groups=-1, epsilon=1e-5, center=False, scale=False)
        ],
        (3, 6, 5, 4),
    ),
}


def outcome(layer, x):
    """Output, gradients of a loss of it, and the gradients of the first one's square, as arrays."""

    @tf.function(autograph=False)
    def of(x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = tf.cast(layer(x), tf.float32)
                loss = tf.reduce_sum(tf.sin(y) * tf.range(1.0, y.shape[-1] + 1))
            gradients = tape.gradient(loss, [x, *layer.trainable_variables])
            again = tf.reduce_sum(gradients[0] ** 2)
        return [y, *gradients, outer.gradient(again, x)]

    return [np.asarray(v) for v in of(tf.constant(x))]


@pytest.mark.parametrize("form", ["plain", "rewritten"])
@pytest.mark.parametrize("name", CASES)
def test_it_is_the_composed_form(name, form):
    make, composed, shape = CASES[name]
    ours, theirs, x = make(), keras.Sequential(composed()), drawn(*shape)
    ours.build(shape)
    theirs.build(shape)
    theirs.set_weights(ours.get_weights())
    expected = outcome(theirs, x)
    assert tuple(ours.compute_output_shape(shape)) == expected[0].shape
    step = precision.training_step(rewritten=True)
    with step if form == "rewritten" else contextlib.nullcontext():
        found = outcome(ours, x)
    for a, b in zip(found, expected, strict=True):
        assert abs(a - b).max() < 2e-5 * max(1, abs(b).max())


@pytest.mark.parametrize("name", ["around", "doubling", "Conv2D 4/2 of 8", "instance norm"])
def test_replicas_compute_it_of_their_shares(name, mirrored):
    make, _, (_, *shape) = CASES[name]
    x = drawn(4, *shape)
    with mirrored.scope():
        layer = make()
        layer.build((2, *shape))

    @tf.function
    def of_replicas():
        def own():
            first = 2 * tf.distribute.get_replica_context().replica_id_in_sync_group
            return layer(tf.ensure_shape(tf.constant(x)[first : first + 2], (2, *shape)))

        return mirrored.run(own)

    parts = mirrored.experimental_local_results(of_replicas())
    assert gap([np.concatenate(parts)], [np.asarray(layer(x))]) < 1e-5


def test_products_take_the_place_of_slow_gradients_in_rewritten_graphs_alone(monkeypatch):
    calls, original = [], convolution.kernel_gradient
    monkeypatch.setattr(
        convolution, "kernel_gradient", lambda *a: calls.append(a[2:]) or original(*a)
    )
    layer, x = Conv2D(3, 4, strides=2, padding="same"), drawn(2, 8, 8, 3)
    layer.build(x.shape)
    for whole in (x, drawn(2, 32, 32, 3)):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(whole))
        assert tape.gradient(loss, layer.kernel.value) is not None
    assert calls == []
    with precision.training_step(rewritten=True), tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x))
    tape.gradient(loss, layer.kernel.value)
    assert calls == [(4, 2, 1)]


@pytest.mark.parametrize(("size", "padding"), [(8, "same"), (9, "same"), (9, "valid")])
def test_dilation_has_gradients_without_those_of_tensorflow(size, padding):
    """Of float16 oneDNN has none, and without oneDNN there are none at all on a CPU."""
    assert convolution._dilates("float32") and not convolution._dilates("float16")
    x, found = drawn(2, size, size, 3), []
    for policy in ("float32", "mixed_float16"):
        keras.utils.set_random_seed(0)
        layer = Conv2D(4, 3, padding=padding, dilation_rate=3, dtype=policy)
        layer.build(x.shape)
        found.append(outcome(layer, x))
    for whole, half in zip(*found, strict=True):
        assert whole.shape == half.shape
        assert abs(whole - half).max() < 0.02 * abs(whole).max()


def test_instance_norm_of_many_images_is_that_of_each():
    x = drawn(MOST + 1, 5, 6, 3) * 4 + 7
    layer = InstanceNorm()
    each = np.concatenate([layer(i[None]) for i in x])
    assert abs(np.asarray(layer(x)) - each).max() < 1e-5
    assert abs(each.mean((1, 2))).max() < 1e-5 and abs(each.std((1, 2)) - 1).max() < 1e-4
    assert layer(x.astype("float16")).dtype == "float32"
    half = InstanceNorm(dtype="mixed_bfloat16")
    assert half(x[:2]).dtype == half(x).dtype == "bfloat16"
    assert abs(np.asarray(half(x), "float32") - each).max() < 0.05


def test_options_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match="around=1 takes no padding='same'"):
        Conv2D(3, 3, around=1, padding="same")

"""Layers that papers share: self-attention and spectral normalisation, against plain references."""

import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from attention_zoo.zoo.layers import self_attention
from attention_zoo.zoo.layers.scoped import Scoped
from attention_zoo.zoo.layers.self_attention import SelfAttention
from attention_zoo.zoo.layers.spectral_norm import SNConv2D, SNConv2DTranspose, SNDense, SNEmbedding

VARIANTS = self_attention.VARIANTS


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def attention_layer(variant="paper", shape=(2, 4, 6, 16), gamma=1.0, **options):
    keras.utils.set_random_seed(0)
    layer = SelfAttention(variant, **options)
    layer.build(shape)
    layer.gamma.assign(gamma)
    return layer


def by_a_loop(layer, x, pooled):
    """o and beta of SelfAttention, place by place."""
    batch, height, width, channels = x.shape
    seen = [(r, c) for r in range(0, height, 1 + pooled) for c in range(0, width, 1 + pooled)]

    def at(conv, b, row, column, window=1):
        values = [
            np.asarray(conv.kernel)[0, 0].T @ x[b, row + i, column + j]
            for i in range(window)
            for j in range(window)
        ]
        return np.max(values, 0)

    o = np.zeros_like(x)
    beta = np.zeros((batch, height * width, len(seen)))
    for b in range(batch):
        for row in range(height):
            for column in range(width):
                q, j = at(layer.query, b, row, column), row * width + column
                s = np.array([q @ at(layer.key, b, *place, 1 + pooled) for place in seen])
                beta[b, j] = np.exp(s) / np.exp(s).sum()
                values = [at(layer.value, b, *place, 1 + pooled) for place in seen]
                o[b, row, column] = np.pad(
                    sum(w * v for w, v in zip(beta[b, j], values)),
                    (0, channels - len(values[0])),
                )
    if pooled:
        o = o[..., : channels // 2] @ np.asarray(layer.out.kernel)[0, 0]
    return o, beta


@pytest.mark.parametrize("variant", VARIANTS)
def test_self_attention_is_the_loop_over_places(variant):
    layer, x = attention_layer(variant), normal(2, 4, 6, 16)
    o, beta = by_a_loop(layer, x, pooled=variant == "official")
    assert beta.shape == (2, 24, {"paper": 24, "official": 6}[variant])
    assert beta.std(-1).max() > 0.01
    assert abs(np.asarray(layer(x)) - (x + o)).max() < 1e-5
    assert abs(np.asarray(layer(x, return_attention=True)) - beta).max() < 1e-6
    layer.gamma.assign(-2.0)
    assert abs(np.asarray(layer(x)) - (x - 2 * o)).max() < 1e-5
    assert abs(o).max() > 0.1


@pytest.mark.parametrize("variant", VARIANTS)
def test_self_attention_starts_as_the_identity_and_its_maps_sum_to_1(variant):
    layer, x = SelfAttention(variant), normal(2, 4, 6, 16)
    assert np.array_equal(np.asarray(layer(x)), x)
    rows = np.asarray(layer(100 * x, return_attention=True)).sum(-1)
    assert abs(rows - 1).max() < 1e-5


@pytest.mark.parametrize("variant", VARIANTS)
def test_self_attention_by_blocks_is_the_whole(variant, monkeypatch):
    layer, x = attention_layer(variant, (2, 6, 6, 16)), tf.constant(normal(2, 6, 6, 16))

    def step():
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x, training=True) ** 2)
        return [loss, *tape.gradient(loss, [x, *layer.trainable_variables])]

    whole, calls = step(), []
    monkeypatch.setattr(self_attention, "BLOCK", 7 * {"paper": 36, "official": 9}[variant])
    remat = keras.remat
    monkeypatch.setattr(keras, "remat", lambda f: calls.append(f) or remat(f))
    blocks = step()
    assert calls == [self_attention.attend]
    for a, b in zip(whole, blocks):
        assert abs(a - b).numpy().max() < 1e-4 * max(1, abs(a.numpy()).max())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("spectral_norm", [False, True])
def test_self_attention_saves_and_loads_with_its_map(variant, spectral_norm, tmp_path):
    inputs = keras.Input((4, 4, 16))
    layer = SelfAttention(variant, spectral_norm=spectral_norm, name="attention")
    y = layer(inputs)
    model = keras.Model(inputs, [y, layer(inputs, return_attention=True)])
    for i, v in enumerate(model.variables):
        v.assign(normal(*v.shape, seed=i))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    x = normal(2, 4, 4, 16)
    made = model.predict_on_batch(x)
    assert [p.shape for p in made] == [
        (2, 4, 4, 16),
        (2, 16, {"paper": 16, "official": 4}[variant]),
    ]
    assert all(np.array_equal(a, b) for a, b in zip(made, again.predict_on_batch(x)))


def test_spectral_norm_of_self_attention_divides_its_kernels():
    plain = attention_layer()
    layer = attention_layer(spectral_norm=True)
    x = normal(2, 4, 6, 16)
    for name in ("query", "key", "value"):
        conv = getattr(layer, name)
        kernel = np.asarray(conv.kernel)
        conv.u.assign(np.linalg.svd(kernel[0, 0])[2][:1])
        getattr(plain, name).kernel.assign(kernel / np.linalg.norm(kernel[0, 0], 2))
    found = np.asarray(layer(x))
    assert abs(found - np.asarray(plain(x))).max() < 1e-4
    u = layer.query.u.numpy()
    layer.query.u.assign(u[:, ::-1])
    assert abs(np.asarray(layer(x)) - found).max() > 1e-4
    layer(x, training=True)
    assert not np.array_equal(layer.query.u.numpy(), u[:, ::-1])


def test_self_attention_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="there are paper, official"):
        SelfAttention("other")
    with pytest.raises(ValueError, match="even sides, not 5 x 4"):
        SelfAttention("official").build((None, 5, 4, 8))


LAYERS = {  # the layer, its input, the axis of outputs, Keras' own layer
    "conv": (SNConv2D, (6, 3), {"strides": 2, "padding": "same"}, (2, 8, 8, 5), -1),
    "transpose": (SNConv2DTranspose, (6, 4), {"strides": 2, "padding": "same"}, (2, 4, 4, 5), 2),
    "dense": (SNDense, (6,), {"activation": "tanh"}, (3, 5), -1),
    "embedding": (SNEmbedding, (7, 6), {}, (4,), -1),
}


def spectral(kind, **more):
    """(layer, x, the layer of Keras it is made of, the variable that is W)."""
    keras.utils.set_random_seed(0)
    cls, args, options, shape, _ = LAYERS[kind]
    layer, plain = cls(*args, **options, **more), cls.__bases__[1](*args, **options)
    x = normal(*shape) if kind != "embedding" else np.array([0, 6, 3, 3])
    layer(x)
    plain(x)
    weights = layer.embeddings if kind == "embedding" else layer.kernel
    weights.assign(normal(*weights.shape, seed=1))
    if kind != "embedding":
        layer.bias.assign(normal(6, seed=2))
    return layer, x, plain, weights


def as_matrix(kind, weights):
    """W as (rest, out)."""
    return np.moveaxis(np.asarray(weights), LAYERS[kind][4], -1).reshape(-1, 6)


def spread(kind, weights):
    """Gives W the singular values 8, 4, 2, ..."""
    a, _, b = np.linalg.svd(as_matrix(kind, weights), full_matrices=False)
    values = 8.0 * 0.5 ** np.arange(6)
    axis = LAYERS[kind][4]
    shape = np.moveaxis(np.asarray(weights), axis, -1).shape
    made = (a * values[: a.shape[1]]) @ b[: a.shape[1]]
    weights.assign(np.moveaxis(made.reshape(shape), -1, axis))


@pytest.mark.parametrize("kind", LAYERS)
def test_spectral_norm_is_that_of_the_svd_and_the_layer_uses_w_over_sigma(kind):
    layer, x, plain, weights = spectral(kind)
    spread(kind, weights)
    kept = np.array(weights.numpy())
    for _ in range(12):
        layer(x, training=True)
    sigma = np.linalg.svd(as_matrix(kind, kept))[1][0]
    used = np.asarray(layer.normalised(weights, training=False))
    assert abs(sigma - 8) < 1e-4
    assert abs(np.linalg.svd(as_matrix(kind, used))[1][0] - 1) < 1e-3
    assert np.array_equal(weights.numpy(), kept)
    assert layer.u.shape == (1, 6)
    assert layer.u.path.endswith("/u")
    plain.set_weights([kept / sigma, *([] if kind == "embedding" else [layer.bias.numpy()])])
    expected = np.asarray(plain(x))
    assert abs(np.asarray(layer(x)) - expected).max() < 1e-3 * abs(expected).max()


@pytest.mark.parametrize("kind", LAYERS)
def test_spectral_norm_has_the_gradient_of_something_without_scale(kind):
    layer, x, _, weights = spectral(kind)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.sin(3 * layer(x, training=True)))
    gradient = tf.convert_to_tensor(tape.gradient(loss, weights.value)).numpy()
    kernel = weights.numpy()
    sizes = np.linalg.norm(gradient) * np.linalg.norm(kernel)
    assert sizes > 0.1
    assert abs((gradient * kernel).sum()) < 1e-5 * sizes

    before = np.asarray(layer(x))
    weights.assign(5 * kernel)
    assert abs(np.asarray(layer(x)) - before).max() < 1e-5 * abs(before).max()


@pytest.mark.parametrize("kind", LAYERS)
def test_u_moves_in_training_only_by_one_power_iteration_a_call(kind):
    layer, x, _, weights = spectral(kind)
    start = layer.u.numpy()
    assert abs(np.linalg.norm(start) - 1) < 1e-6
    layer(x)
    layer(x, training=False)
    assert np.array_equal(layer.u.numpy(), start)
    layer(x, training=True)
    matrix = as_matrix(kind, weights)
    expected = start @ matrix.T @ matrix
    assert abs(layer.u.numpy() - expected / np.linalg.norm(expected)).max() < 1e-5
    thrice, x, _, weights = spectral(kind, power_iterations=3)
    thrice(x, training=True)
    expected = start @ np.linalg.matrix_power(matrix.T @ matrix, 3)
    assert abs(thrice.u.numpy() - expected / np.linalg.norm(expected)).max() < 1e-4
    with pytest.raises(ValueError, match="at least 1"):
        spectral(kind, power_iterations=0)


@pytest.mark.parametrize("kind", LAYERS)
def test_spectral_norm_saves_and_loads_exactly(kind, tmp_path):
    layer, x, _, weights = spectral(kind, power_iterations=2)
    inputs = keras.Input(x.shape[1:], dtype=x.dtype.name)
    model = keras.Model(inputs, layer(inputs))
    layer(x, training=True)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.layers[-1].power_iterations == 2
    for a, b in zip(model.variables, again.variables):
        assert a.path == b.path
        assert np.array_equal(a.numpy(), b.numpy())
    assert np.array_equal(model.predict_on_batch(x), again.predict_on_batch(x))
    assert "u" in [v.name for v in again.non_trainable_variables]
    model.save_weights(tmp_path / "model.weights.h5")
    layer.u.assign(normal(1, 6))
    model.load_weights(tmp_path / "model.weights.h5")
    assert np.array_equal(layer.u.numpy(), again.layers[-1].u.numpy())


def test_u_is_in_step_on_two_replicas_and_is_that_of_one(mirrored):
    u = []
    for strategy in (tf.distribute.get_strategy(), mirrored):
        with strategy.scope():
            layers = [spectral(kind)[0] for kind in LAYERS]
        inputs = [spectral(kind)[1] for kind in LAYERS]

        @tf.function
        def step(strategy=strategy, layers=layers, inputs=inputs):
            def call():  # twice, as a discriminator is
                return [sum(tf.reduce_sum(f(x, training=True)) for _ in "ab") for f, x in pairs]

            pairs = list(zip(layers, inputs))
            return strategy.run(call)

        step()
        step()
        u.append([strategy.experimental_local_results(layer.u.value) for layer in layers])
    for one, two in zip(*u):
        assert len(two) == 2
        assert np.array_equal(two[0].numpy(), two[1].numpy())
        assert abs(one[0].numpy() - two[0].numpy()).max() < 1e-6


def test_spectral_norm_is_float32_under_mixed_precision():
    for cls, args, options, shape, _ in LAYERS.values():
        layer = cls(*args, **options, dtype="mixed_float16")
        x = normal(*shape) if cls is not SNEmbedding else np.array([0, 6, 3, 3])
        assert layer(x, training=True).dtype == "float16"
        assert layer.u.dtype == "float32"
        assert abs(np.linalg.norm(layer.u.numpy()) - 1) < 1e-6


def test_a_scoped_value_is_that_of_its_block_and_thread():
    scoped, elsewhere = Scoped(), []
    with scoped.set(1):
        with pytest.raises(KeyError), scoped.set(2):
            assert scoped.value == 2
            raise KeyError
        thread = threading.Thread(target=lambda: elsewhere.append(scoped.value))
        thread.start()
        thread.join()
        assert (scoped.value, elsewhere) == (1, [None])
    assert scoped.value is None

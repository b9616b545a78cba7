"""DualGAN: networks against loops, noise, clipping, one step of the paper and of the code."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from attention_zoo.serving import signatures
from attention_zoo.tasks.translation import padded
from attention_zoo.tests.helpers import (
    Descends,
    convolved,
    descend,
    enlarged,
    gap,
    images,
    resumed,
    shaken,
    shared,
)
from attention_zoo.trainers import dualgan as training
from attention_zoo.zoo import dualgan
from attention_zoo.zoo.layers import dropout
from attention_zoo.zoo.layers.convolution import size_multiple

TINY = {"image_size": 32, "width": 2}
NAMES = ("a2b", "b2a", "discriminator_a", "discriminator_b")


class Paper(Descends, training.DualGAN):
    pass


class Code(Descends, training.Sigmoid):
    pass


def make(cls=Paper, hp=None, **options):
    keras.utils.set_random_seed(0)
    hp = hp or (training.SigmoidHParams if issubclass(cls, Code) else training.HParams)()
    options = {**TINY, **options}
    return cls(dualgan.build(**options), dualgan.build(**options), hp, seed=3)


def pairs(count, seed=1):
    names = ("image_a", "image_b")
    return {key: tf.constant(images(count, seed=seed + i)) for i, key in enumerate(names)}


def start(trainer):
    return {n: [v.numpy() for v in trainer.networks[n].trainable_variables] for n in NAMES}


def leaky(x):
    return np.where(x > 0, x, 0.2 * x)


def test_the_generator_is_a_loop_over_pixels():
    network = shaken(dualgan.generator(32, 2, 0.5, "a2b"))
    weights = {v.path: np.asarray(v) for v in network.variables}

    def normal(x, name):
        x = (x - x.mean((0, 1))) / np.sqrt(x.var((0, 1)) + 1e-5)
        return x * weights[f"{name}_affine/gamma"] + weights[f"{name}_affine/beta"]

    def biased(x, name):
        return x + weights[f"{name}/bias"]

    x, maps = images(2, 64)[:, :, :32], []
    y = x[1]
    for i in (1, 2, 3, 4, 5):
        y = leaky(y) if i > 1 else y
        y = biased(convolved(y, weights[f"down{i}/kernel"], 2, (1, 2)), f"down{i}")
        y = normal(y, f"down{i}") if 1 < i < 5 else y
        maps.append(y)
    assert y.shape == (2, 1, 16)  # twice as high as an image of 32 x 32
    maps.pop()
    for i in (1, 2, 3, 4):
        y = biased(enlarged(np.maximum(y, 0), weights[f"up{i}/kernel"], 1), f"up{i}")
        y = np.concatenate([normal(y, f"up{i}"), maps.pop()], axis=-1)
    y = biased(enlarged(np.maximum(y, 0), weights["to_rgb/kernel"], 1), "to_rgb")
    found = np.asarray(network(x, training=False)["translated"])
    assert abs(found[1] - np.tanh(y)).max() < 1e-3
    assert found.shape == x.shape and found.std() > 0.1
    assert size_multiple(network) == 32


def test_the_networks_by_size_and_option():
    network = dualgan.generator(64, 2, 0.5, "a2b")
    filters = {k.name: k.filters for k in network.layers if hasattr(k, "filters")}
    downs = [filters[f"down{i}"] for i in range(1, 7)]
    assert downs == [2, 4, 8, 16, 16, 16]
    assert [filters[f"up{i}"] for i in range(1, 6)] == [16, 16, 8, 4, 2]
    names = {layer.name for layer in network.layers}
    assert [i for i in range(1, 6) if f"up{i}_dropout" in names] == [1, 2, 3]
    assert [i for i in range(1, 7) if f"down{i}_norm" in names] == [2, 3, 4, 5]
    assert "up1_dropout" not in {k.name for k in dualgan.generator(32, 2, 0, "a2b").layers}
    assert dualgan.build(**TINY)["discriminator_b"].output_shape == (None, 2, 2, 1)
    critic = dualgan.build(**TINY, critic="global")["discriminator_b"]
    assert critic.output_shape == (None, 1)
    assert critic.get_layer("flat").output.shape == (None, 4 * 4 * 16)
    for wrong in ({"image_size": 48}, {"width": 0}, {"dropout": 1.0}, {"critic": "dense"}):
        with pytest.raises(ValueError, match=f"{[*wrong][0]} (must|takes)"):
            dualgan.build(**{**TINY, **wrong})


def test_dropout_drops_by_the_numbers_that_it_is_given():
    layer = dropout.Dropout(0.25)
    x = tf.constant([[1.0, 2.0, 3.0, 6.0]])
    with dropout.noise(lambda shape: tf.constant([[0.2, 0.25, 0.9, 0.0]])):
        assert layer(x).numpy()[0] == pytest.approx([0, 2 / 0.75, 4, 0])
    assert layer(x, training=True).numpy().tolist() == x.numpy().tolist()


def test_each_call_of_a_step_has_noise_of_its_own():
    trainer, x = make(), tf.constant(images(2))
    first, same, other = (trainer.translated("a2b", x, k).numpy() for k in (0, 0, 1))
    assert np.array_equal(first, same) and abs(first - other).max() > 1e-4
    trainer.first.iterations.assign(1)
    assert abs(trainer.translated("a2b", x, 0) - first).numpy().max() > 1e-4
    still = trainer.translate(x.numpy(), "a2b")["translated"]
    assert abs(still - first).max() > 1e-4
    assert np.array_equal(still, trainer.translate(x.numpy(), "a2b")["translated"])
    seen = []
    with dropout.noise(lambda shape: seen.append(tuple(shape)) or tf.ones(shape)):
        trainer.networks["b2a"](x)
    assert seen == [(2, 2, 2, 16), (2, 4, 4, 8), (2, 8, 8, 4)]


def scores(trainer, name, z):
    return tf.reduce_mean(trainer.networks[name](z, training=True))


def test_a_step_is_algorithm_1():
    hp = training.HParams(n_critic=2, lambda_u=3.0, lambda_v=5.0, clip=0.05)
    ours, plain = make(hp=hp), make(hp=hp)
    batch, before, n = pairs(4), start(ours), plain.networks
    for t, (x, y) in enumerate(zip(*(tf.split(v, 2) for v in batch.values()))):
        to_x = plain.translated("b2a", y, 2 * t)
        to_y = plain.translated("a2b", x, 2 * t + 1)

        def d_loss(x=x, y=y, to_x=to_x, to_y=to_y):
            a = scores(plain, NAMES[2], to_x) - scores(plain, NAMES[2], x)
            b = scores(plain, NAMES[3], to_y) - scores(plain, NAMES[3], y)
            return a + b, {NAMES[2]: a, NAMES[3]: b}

        expected = descend(d_loss, n[NAMES[2]], n[NAMES[3]])
        for w in n[NAMES[2]].trainable_variables + n[NAMES[3]].trainable_variables:
            w.assign(tf.clip_by_value(w, -0.05, 0.05))

    def g_loss():
        to_y, to_x = plain.translated("a2b", x, 4), plain.translated("b2a", y, 5)
        again_x, again_y = plain.translated("b2a", to_y, 6), plain.translated("a2b", to_x, 7)
        terms = {
            "gan": -scores(plain, NAMES[2], to_x) - scores(plain, NAMES[3], to_y),
            "cycle_u": tf.reduce_mean(tf.abs(again_x - x)),
            "cycle_v": tf.reduce_mean(tf.abs(again_y - y)),
        }
        return terms["gan"] + 3 * terms["cycle_u"] + 5 * terms["cycle_v"], terms

    expected |= descend(g_loss, n["a2b"], n["b2a"])
    logs = ours.train_step(batch)
    assert logs.keys() == expected.keys()
    for name, value in expected.items():
        assert float(logs[name]) == pytest.approx(float(value), rel=1e-3, abs=1e-5), name
    found, after = start(ours), start(plain)
    for name in NAMES:
        moved = gap(found[name], before[name])
        assert moved > 1e-4 and gap(found[name], after[name]) < 1e-2 * moved, name
    largest = max(abs(w).max() for w in found[NAMES[2]] + found[NAMES[3]])
    assert largest == pytest.approx(0.05)
    assert (int(ours.step), ours.batches_per_step) == (1, 2)
    assert int(ours.optimizers_by_role[NAMES[2]][1].iterations) == 2


def test_every_term_moves_the_generators():
    trainer, batch = make(), pairs(2)
    x, y = batch.values()

    def slopes(**terms):
        with tf.GradientTape() as tape:
            found = trainer.loss_terms(x, y, 0)
            loss = trainer.objective({k: v * terms.get(k, 1) for k, v in found.items()})
        gradients = tape.gradient(loss, trainer.networks["a2b"].trainable_variables)
        return [g.numpy() for g in gradients]

    whole = slopes()
    largest = max(abs(g).max() for g in whole)
    for name in ("gan", "cycle_u", "cycle_v"):
        assert gap(whole, slopes(**{name: 0})) > 1e-5 * largest, name


def test_a_step_of_the_code_is_two_updates_of_the_generators_on_the_same_images():
    hp = training.SigmoidHParams(lambda_u=2.0, lambda_v=3.0)
    ours, plain = make(Code, hp), make(Code, hp)
    batch, n = pairs(2), plain.networks
    x, y = batch.values()
    before = start(ours)
    to_x, to_y = plain.translated("b2a", y, 0), plain.translated("a2b", x, 1)

    def softplus(z):
        return tf.reduce_mean(tf.math.softplus(z))

    def d_loss():
        found = {}
        for name, real, fake in ((NAMES[2], x, to_x), (NAMES[3], y, to_y)):
            found[name] = softplus(-n[name](real)) + softplus(n[name](fake))
        return sum(found.values()), found

    expected = descend(d_loss, n[NAMES[2]], n[NAMES[3]])
    plain.first.iterations.assign(1)  # the discriminators count the steps
    for k in (2, 6):

        def g_loss(k=k):
            to_y, to_x = plain.translated("a2b", x, k), plain.translated("b2a", y, k + 1)
            again_x = plain.translated("b2a", to_y, k + 2)
            again_y = plain.translated("a2b", to_x, k + 3)
            gan = softplus(-n[NAMES[2]](to_x)) + softplus(-n[NAMES[3]](to_y))
            u, v = (tf.reduce_mean(tf.abs(a - b)) for a, b in ((again_x, x), (again_y, y)))
            return gan + 2 * u + 3 * v, {"gan": gan, "cycle_u": u, "cycle_v": v}

        terms = descend(g_loss, n["a2b"], n["b2a"])
    logs, expected = ours.train_step(batch), expected | terms
    for name, value in expected.items():
        assert float(logs[name]) == pytest.approx(float(value), rel=1e-3, abs=1e-5), name
    found, after = start(ours), start(plain)
    for name in NAMES:
        moved = gap(found[name], before[name])
        assert moved > 1e-4 and gap(found[name], after[name]) < 1e-2 * moved, name
    assert (int(ours.step), ours.batches_per_step) == (1, 1)
    assert training.SigmoidHParams().lambda_u == 20


@pytest.mark.parametrize("wrong", [{"clip": -1.0}, {"n_critic": 0}, {"rho": 2.0}])
def test_hyper_parameters_are_checked(wrong):
    with pytest.raises(ValueError, match=f"{[*wrong][0]} must"):
        training.HParams(**wrong)


@pytest.mark.slow
def test_two_replicas_take_the_step_of_one(mirrored):
    found, x = [], pairs(8)
    hp = training.HParams(n_critic=2, flip=True)
    for strategy in (tf.distribute.get_strategy(), mirrored):
        with strategy.scope():
            trainer = make(hp=hp)
        before = start(trainer)
        strategy.run(trainer.train_step, args=(shared(strategy, x, 2),))
        found.append(start(trainer))
    one, two = found
    for name in NAMES:
        moved = gap(one[name], before[name])
        assert moved > 1e-4 and gap(one[name], two[name]) < 0.02 * moved, name


@pytest.mark.slow
def test_state_is_all_that_a_resume_needs():
    hp = training.HParams(n_critic=1, ema_decay=0.5)
    resumed(lambda: make(training.DualGAN, hp), [pairs(2, seed=2 * i) for i in range(2)])


@pytest.mark.parametrize("shape", [(40, 70), (9, 64)])
def test_pictures_are_mirrored_to_the_sides_that_a_network_takes(shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), "uint8")
    image, sides = signatures.padded(pixels, 64)
    expected = padded(pixels[None] / np.float32(127.5) - 1, 64)
    assert tuple(int(side) for side in sides) == shape
    assert image.shape == expected.shape[1:] == (64, -(-shape[1] // 64) * 64, 3)
    assert abs(image - expected[0]).numpy().max() < 1e-6

"""DiscoGAN: networks against loops, losses, one step of the paper and of the authors' code."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from attention_zoo.tasks import tiles
from attention_zoo.tasks.base import Origin
from attention_zoo.tasks.translation import Translator
from attention_zoo.tests.helpers import (
    Descends,
    convolved,
    descend,
    drawn,
    enlarged,
    gap,
    images,
    resumed,
    shaken,
    shared,
    weights_of,
)
from attention_zoo.trainers import discogan as training
from attention_zoo.trainers import losses, optimizers
from attention_zoo.zoo import discogan
from attention_zoo.zoo.layers.convolution import size_multiple

TINY = {"image_size": 32, "width": 2}
NAMES = ("a2b", "b2a", "discriminator_a", "discriminator_b")


class Paper(Descends, training.DiscoGAN):
    pass


class Official(Descends, training.OfficialDiscoGAN):
    pass


def make(cls=Paper, hp=None):
    keras.utils.set_random_seed(0)
    hp = hp or (training.OfficialHParams if "Official" in cls.__name__ else training.HParams)()
    return cls(discogan.build(**TINY), discogan.build(**TINY), hp, seed=3)


def pairs(count, seed=1):
    names = ("image_a", "image_b")
    return {key: tf.constant(images(count, seed=seed + i)) for i, key in enumerate(names)}


def weight(network, name, leaf="kernel"):
    return {v.path: np.asarray(v) for v in network.variables}[f"{name}/{leaf}"]


def normal(x, network, name):
    """Batch normalisation by the moving averages."""
    gamma, beta, mean, variance = (
        weight(network, f"{name}_bn", leaf)
        for leaf in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta


def leaky(x):
    return np.where(x > 0, x, 0.2 * x)


def descended(x, network, count):
    """The activations of `count` layers down, of one image in [-1, 1]."""
    x, found = (x + 1) / 2, []
    for i in range(1, count + 1):
        x = convolved(x, weight(network, f"down{i}"), 2, (1, 1))
        x = leaky(normal(x, network, f"down{i}") if i > 1 else x)
        found.append(x)
    return found


def test_the_papers_counts_are_of_trained_parameters():
    networks = discogan.build()
    counts = [
        sum(np.prod(v.shape) for v in networks[name].trainable_variables)
        for name in ("b2a", "discriminator_a")
    ]
    assert counts == [5_513_856, 2_765_568]


def test_the_generator_is_a_loop_over_pixels():
    network = shaken(discogan.generator(2, "a2b"))
    x = images(2, 32)[:, :, :16]
    y = descended(x[1], network, 4)[-1]
    for i in (1, 2, 3):
        y = enlarged(y, weight(network, f"up{i}"), 1)
        y = np.maximum(normal(y, network, f"up{i}"), 0)
    y = enlarged(y, weight(network, "to_rgb"), 1)
    found = np.asarray(network(x, training=False)["translated"])
    assert found.shape == (2, 32, 16, 3)
    assert abs(found[1] - (2 / (1 + np.exp(-y)) - 1)).max() < 1e-4
    assert found.std() > 0.1
    assert size_multiple(network) == 16


def test_the_discriminator_is_a_loop_over_pixels():
    network, x = shaken(discogan.discriminator(32, 2, "d")), images(2)
    maps = descended(x[1], network, 3)
    found = network(x, training=False)
    assert [f.shape for f in found["features"]] == [(2, 8, 8, 4), (2, 4, 4, 8)]
    for f, expected in zip(found["features"], maps[1:]):
        assert abs(f[1] - expected).numpy().max() < 1e-4
    logit = np.einsum("hwc,hwcd->d", maps[-1], weight(network, "logit"))
    assert abs(found["logits"][1] - logit).numpy().max() < 1e-4


@pytest.mark.parametrize(("size", "channels"), [(64, [4, 8, 16]), (128, [4, 8, 16, 16])])
def test_the_discriminator_has_one_logit_at_every_size(size, channels):
    *features, logits = discogan.discriminator(size, 2, "d").outputs  # by key
    assert logits.shape == (None, 1)
    assert [f.shape[1:] for f in features] == [
        (size // 2**i, size // 2**i, c) for i, c in enumerate(channels, 2)
    ]


def test_initial_weights_are_pytorchs_of_that_time():
    network = discogan.generator(16, "a2b")
    for name, inputs in (("down2", 16 * 16), ("up1", 64 * 16)):  # PyTorch counts a ct's outputs
        kernel = weight(network, name)
        assert 0.98 < abs(kernel).max() * inputs**0.5 <= 1
    gamma = weight(network, "down4_bn", "gamma")
    assert 0 <= gamma.min() < 0.1 and 0.9 < gamma.max() <= 1


def test_losses_by_hand():
    image, again = np.array([[[[0.0, 1.0]]]]), np.array([[[[1.0, -1.0]]]])
    assert float(losses.squared_cycle(image=image, again=again)) == (0.25 + 1) / 2
    real, fake = np.array([[[1.0, 2.0]]]), np.array([[[0.0, 5.0]]])
    assert float(losses.feature_matching(real=real, fake=fake)) == (1 + 9) / 2


def test_weight_decay_is_a_part_of_the_gradient():
    w, g = np.array([0.5, -2.0, 1.0]), np.array([1e-3, 2e-3, -1e-3])
    variable = keras.Variable(w, dtype="float32")
    optimizer = optimizers.L2Adam(0.1, 0.5, 0.9, 0.01)
    m = v = 0
    for t in (1, 2):
        optimizer.apply([tf.constant(g, tf.float32)], [variable])
        d = g + 0.01 * w
        m, v = 0.5 * m + 0.5 * d, 0.9 * v + 0.1 * d**2
        w = w - 0.1 * m / (1 - 0.5**t) / (np.sqrt(v / (1 - 0.9**t)) + 1e-7)
    assert abs(variable.numpy() - w).max() < 1e-5
    assert make(training.DiscoGAN).optimizers_by_role["a2b"][1].l2 == 1e-4


def test_the_objectives():
    terms = {"gan": 2.0, "reconstruction": 3.0, "features": 5.0}
    assert make().objective(terms) == 5
    trainer = make(Official)
    assert trainer.objective(terms, 0.25) == pytest.approx(0.75 * (0.2 + 4.5) + 0.75)
    found = []
    for step in (0, 3_332, 3_333, 9_999):
        trainer.first.iterations.assign(step)
        found.append(float(trainer.curriculum()))
    assert found == pytest.approx([0.01, 0.01, 0.5, 0.5])


@pytest.mark.parametrize("wrong", [{"weight_decay": -1.0}, {"r": 2.0}, {"features": -0.1}])
def test_hyper_parameters_are_checked(wrong):
    with pytest.raises(ValueError, match=f"{[*wrong][0]} must"):
        training.OfficialHParams(**wrong)


def softplus(x):
    return tf.reduce_mean(tf.math.softplus(x))


def d_loss(D, x, y, to_x, to_y, factor):
    """() -> the sum of both discriminators' losses, and each."""

    def loss():
        found = {}
        for name, real, fake in (("discriminator_a", x, to_x), ("discriminator_b", y, to_y)):
            real, fake = (D[name](z, training=True)["logits"] for z in (real, fake))
            found[name] = factor * (softplus(-real) + softplus(fake))
        return sum(found.values()), found

    return loss


def g_terms(networks, x, y):
    """{name: loss} of the generators, F(y) and G(x)."""
    G, F, D_A, D_B = (networks[name] for name in NAMES)
    to_y, to_x = (N(z, training=True)["translated"] for N, z in ((G, x), (F, y)))
    terms = {"gan": 0.0, "reconstruction": 0.0, "features": 0.0}
    for D, image, made, back, real in ((D_B, x, to_y, F, y), (D_A, y, to_x, G, x)):
        judged, truly = D(made, training=True), D(real, training=True)
        again = back(made, training=True)["translated"]
        terms["gan"] += softplus(-judged["logits"])
        terms["reconstruction"] += tf.reduce_mean(((again + 1) / 2 - (image + 1) / 2) ** 2)
        for f, g in zip(judged["features"], truly["features"]):
            means = tf.reduce_mean(f, 0) - tf.reduce_mean(g, 0)
            terms["features"] += tf.reduce_mean(means**2)
    return terms, to_x, to_y


def compare(ours, plain, before):
    """Every trained weight went as far as the plain step's."""
    for name in NAMES:
        weights = ours.networks[name].trainable_variables, plain[name].trainable_variables
        moved = max(abs(v.numpy() - w).max() for v, w in zip(weights[0], before[name]))
        assert moved > 1e-6
        apart = max(abs(v.numpy() - w.numpy()).max() for v, w in zip(*weights))
        assert apart < 1e-2 * moved, name


def start(ours):
    return {n: [v.numpy() for v in ours.networks[n].trainable_variables] for n in NAMES}


def test_a_step_is_the_papers():
    ours, plain = make(), make().networks
    batch, before = pairs(3), start(ours)
    x, y = batch["image_a"], batch["image_b"]

    def g_loss():
        terms, to_x, to_y = g_terms(plain, x, y)
        return terms["gan"] + terms["reconstruction"], (terms, to_x, to_y)

    terms, to_x, to_y = descend(g_loss, plain["a2b"], plain["b2a"])
    critics = [plain[name] for name in NAMES[2:]]
    terms |= descend(d_loss(plain, x, y, to_x, to_y, 1.0), *critics)
    logs = ours.train_step(batch)
    assert logs.keys() == terms.keys() - {"features"}
    for name, value in logs.items():
        assert float(value) == pytest.approx(float(terms[name]), rel=1e-4), name
    compare(ours, plain, before)
    for name in NAMES[:2]:
        assert gap(weights_of(ours.networks[name]), weights_of(ours.ema_networks[name])) == 0
    assert int(ours.step) == 1


def test_a_step_of_the_code_is_one_update_of_the_discriminators_and_two_of_the_generators():
    hp = training.OfficialHParams(features=0.7, r_first=0.2)
    ours, plain = make(Official, hp), make(Official).networks
    batch, before = pairs(6), start(ours)
    parts = list(zip(*(tf.split(batch[key], 3) for key in ("image_a", "image_b"))))
    x, y = parts[0]
    to_y, to_x = (plain[n](z, training=True)["translated"] for n, z in (("a2b", x), ("b2a", y)))
    critics = [plain[name] for name in NAMES[2:]]
    expected = descend(d_loss(plain, x, y, to_x, to_y, 0.5), *critics)
    for x, y in parts[1:]:

        def g_loss(x=x, y=y):
            terms, *_ = g_terms(plain, x, y)
            game = 0.3 * terms["gan"] + 0.7 * terms["features"]
            return 0.8 * game + 0.2 * terms["reconstruction"], terms

        terms = descend(g_loss, plain["a2b"], plain["b2a"])
    logs = ours.train_step(batch)
    expected |= terms | {"r": 0.2}
    assert logs.keys() == expected.keys()
    for name, value in expected.items():
        assert float(logs[name]) == pytest.approx(float(value), rel=1e-3), name
    compare(ours, plain, before)
    assert int(ours.step) == 1 and ours.batches_per_step == 3


@pytest.mark.slow
def test_two_replicas_take_the_step_of_one(mirrored):
    """Feature matching compares the means over the batch of all replicas."""
    found, x = [], pairs(12)
    hp = training.OfficialHParams(flip=True)
    for strategy in (tf.distribute.get_strategy(), mirrored):
        with strategy.scope():
            trainer = make(Official, hp)
        before = start(trainer)
        strategy.run(trainer.train_step, args=(shared(strategy, x, 3),))
        found.append(start(trainer))
    one, two = found
    for name in NAMES:
        moved = gap(one[name], before[name])
        assert moved > 1e-6 and gap(one[name], two[name]) < 0.02 * moved, name


@pytest.mark.slow
def test_state_is_all_that_a_resume_needs():
    resumed(lambda: make(training.OfficialDiscoGAN), [pairs(3, seed=2 * i) for i in range(2)])


def test_pictures_of_any_size_are_translated_in_tiles_without_seams(monkeypatch):
    monkeypatch.setattr(tiles, "PIXELS", 192**2)
    network = shaken(discogan.generator(2, "a2b"))
    model = Translator("discogan", {"a2b": network}, TINY, Origin("none", "none"))
    image = ((drawn(197, 60, 3) + 1) * 127).astype("uint8")
    expected = model.translate(image[None]).images[0]
    whole, count = np.zeros_like(image), 0
    for rows, columns, translation in model.translate_tiles(image):
        whole[rows, columns] = translation.images[0]
        count += 1
    assert count == 4 and expected.shape == image.shape and expected.std() > 5
    assert abs(whole.astype(int) - expected).max() <= 1

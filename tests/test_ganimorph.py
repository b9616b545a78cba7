"""GANimorph: networks, MS-SSIM, scheduled loss normalisation, two steps of training."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from attention_zoo.tests.helpers import Descends, gap, resumed, shaken, shared, weights_of
from attention_zoo.trainers import ganimorph as training
from attention_zoo.trainers import losses
from attention_zoo.zoo import ganimorph
from attention_zoo.zoo.layers.convolution import size_multiple

TINY = {"image_size": 32, "width": 2, "blocks": 1}
LEVELS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])


def pictures(count, high=32, wide=32, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, high, wide, 3)).astype("float32")


class Descent(Descends, training.GANimorph):
    pass


def make(cls=training.GANimorph, **hp):
    keras.utils.set_random_seed(0)
    pair = [ganimorph.build(**TINY) for _ in range(2)]
    return cls(*pair, training.HParams(**hp), seed=3)


# networks, against loops over places


def convolved(x, kernel, stride=1, rate=1):
    """x (H, W, C) by a kernel (k, k, C, D), with zeros around x as "same" has them."""
    k, (high, wide, _) = kernel.shape[0], x.shape
    reach = (k - 1) * rate + 1
    rows, columns = -(-high // stride), -(-wide // stride)
    before = [max((n - 1) * stride + reach - s, 0) // 2 for n, s in ((rows, high), (columns, wide))]
    x = np.pad(x, ((before[0], reach), (before[1], reach), (0, 0)))
    y = np.zeros((rows, columns, kernel.shape[3]))
    for i, j in np.ndindex(rows, columns):
        part = x[i * stride :, j * stride :][:reach:rate, :reach:rate]
        y[i, j] = np.einsum("abc,abcd->d", part, kernel)
    return y


def leaky(x):
    return np.where(x > 0, x, 0.2 * x)


def active(x, network, name):
    gamma, beta = (np.asarray(w) for w in network.get_layer(f"{name}_norm").weights)
    x = (x - x.mean((0, 1))) / np.sqrt(x.var((0, 1)) + 1e-5)
    return leaky(x * gamma + beta)


def layer(x, network, name, stride=1, rate=1):
    return active(convolved(x, kernel(network, name), stride, rate), network, name)


def kernel(network, name):
    return np.asarray(network.get_layer(name).kernel)


def test_a_residual_block_concatenates():
    x = keras.Input((4, 6, 3))
    block = shaken(keras.Model(x, ganimorph.residual(x, 2, "block")))
    image = pictures(1, 4, 6)
    y = layer(layer(image[0], block, "block_1"), block, "block_2")
    expected = layer(np.concatenate([image[0], y], -1), block, "block_3")
    assert expected.shape == (4, 6, 2) and abs(expected).max() > 0.2
    assert abs(np.asarray(block(image))[0] - expected).max() < 1e-4


def test_a_discriminator_is_the_loop_over_places():
    D = shaken(ganimorph.discriminator(32, 1, "d"))
    image = pictures(1)
    found = D(image)
    x = leaky(convolved((image[0] + 1) / 2, kernel(D, "down1"), 2))
    maps = [layer(x, D, "down2", 2)]
    maps.append(layer(maps[-1], D, "down3", 2))
    maps.append(layer(maps[-1], D, "flat"))
    for rate in (2, 4, 8):
        maps.append(layer(maps[-1], D, f"dilated{rate}", rate=rate))
    maps.append(layer(np.concatenate([maps[2], maps[5]], -1), D, "merged"))
    assert [m.shape for m in maps] == [(8, 8, 4), *[(4, 4, 8)] * 6]
    for ours, expected in zip(found["features"], maps, strict=True):
        assert abs(np.asarray(ours)[0] - expected).max() < 1e-3
    logits = convolved(maps[-1], kernel(D, "logits"))
    assert abs(np.asarray(found["logits"])[0] - logits).max() < 1e-3 < logits.std()


def test_a_generator_takes_multiples_of_its_stride_and_its_skips_matter():
    G = shaken(ganimorph.generator(2, 1, "a2b"))
    assert size_multiple(G) == ganimorph.STRIDE
    x = pictures(2, 32, 48)
    made = np.asarray(G(x)["translated"])
    assert made.shape == x.shape and -1 <= made.min() < -0.5 and 0.5 < made.max() <= 1
    assert np.asarray(G(x[:, :16, :16])["translated"]).shape == (2, 16, 16, 3)
    for level, parts in ((2, (8, 8)), (1, (4, 4))):  # the map from below, and the one beside it
        name = f"up{level}_block0_1"
        weights = kernel(G, name)
        assert weights.shape[2] == sum(parts)
        G.get_layer(name).kernel.assign(weights * (np.arange(sum(parts)) < parts[0])[:, None])
        assert abs(np.asarray(G(x)["translated"]) - made).max() > 1e-2
        G.get_layer(name).kernel.assign(weights)


@pytest.mark.parametrize("wrong", [{"image_size": 40}, {"image_size": 16}, {"blocks": 0}])
def test_options_without_meaning_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{[*wrong][0]} must be"):
        ganimorph.build(**{**TINY, **wrong})


# losses


def ms_ssim(a, b, weights):
    """MS-SSIM of two channels (S, S), by loops."""
    line = np.exp(-((np.arange(8) - 3.5) ** 2) / 4.5)
    window, value = np.outer(line, line) / line.sum() ** 2, 1.0
    for weight in weights:
        places = len(a) - 7
        cs = np.zeros((places, places))
        l = np.zeros((places, places))  # noqa: E741
        for i, j in np.ndindex(places, places):
            p, q = a[i : i + 8, j : j + 8], b[i : i + 8, j : j + 8]
            mu_p, mu_q = (window * p).sum(), (window * q).sum()
            s_pp, s_qq = (window * (p - mu_p) ** 2).sum(), (window * (q - mu_q) ** 2).sum()
            s_pq = (window * (p - mu_p) * (q - mu_q)).sum()
            cs[i, j] = (2 * abs(s_pq) + 0.0025) / (s_pp + s_qq + 0.0025)
            l[i, j] = (2 * mu_p * mu_q + 0.0009) / (mu_p**2 + mu_q**2 + 0.0009)
        last = weight == weights[-1]
        value *= (l * cs if last else cs).mean() ** (weight / sum(weights))
        a, b = (x.reshape(len(x) // 2, 2, -1, 2).mean((1, 3)) for x in (a, b))
    return value


def test_ms_ssim_against_loops():
    a = (pictures(2) + 1) / 2
    b = np.clip(a[::-1] / 2 + a / 2, 0, 1)
    values = [ms_ssim(a[i, ..., c], b[i, ..., c], LEVELS[:3]) for i in range(2) for c in range(3)]
    assert 0.1 < min(values) < max(values) < 0.9
    found = float(losses.structure(image=a, again=b))
    assert found == pytest.approx(1 - np.mean(values), abs=1e-5)
    assert float(losses.structure(image=a, again=a)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("size", "levels"), [(32, 3), (64, 4), (128, 5), (144, 5), (256, 5)])
def test_ms_ssim_of_constants_is_l_at_the_last_level(size, levels):
    a, b = (np.full((1, size, size, 3), value, "float32") for value in (0.25, 0.75))
    power = LEVELS[levels - 1] / LEVELS[:levels].sum()
    expected = 1 - (0.3759 / 0.6259) ** power  # 2 a b + C1 and a^2 + b^2 + C1
    assert float(losses.structure(image=a, again=b)) == pytest.approx(expected, abs=1e-3)


def test_feature_matching_by_hand():
    real, fake = np.zeros((1, 2, 1, 2)), np.array([[[[1.0, 0.0]], [[2.0, -1.0]]]])
    assert float(losses.feature_matching(real=real, fake=fake)) == (1 + 4 + 1) / 4


# training


def test_the_objective_weighs_losses_by_what_they_are_divided_by():
    trainer = make()
    trainer.divisors.assign([2.0, 4.0, 5.0, 10.0])
    terms = dict(zip(training.TERMS, (1.0, 10.0, 100.0, 1000.0)))
    expected = 0.49 / 2 + 0.21 * 10 / 4 + 0.3 * 0.7 * 100 / 5 + 0.3 * 0.3 * 1000 / 10
    assert float(trainer.objective(terms)) == pytest.approx(expected, rel=1e-6)
    trainer.hp = training.OfficialHParams()
    expected = 0.469 / 2 + 0.201 * 10 / 4 + 0.231 * 100 / 5 + 0.099 * 1000 / 10
    assert float(trainer.objective(terms)) == pytest.approx(expected, rel=1e-6)


def test_the_schedule_of_the_normalisation():
    trainer = make(normalise_every=3, normalise_first=1, normalise_decay=0.5)
    found = []
    for step, value in enumerate((3.0, 4.0, 7.0, 9.0), 1):
        trainer.first.iterations.assign(step)
        trainer.normalise(dict(zip(training.TERMS, (value, 1.0, 2 * value, 0.0))))
        found.append(trainer.divisors.numpy().tolist())
    # averages of the first: 1, 2, 3, 5, 7; of the third: 1, 3.5, 5.75, 9.875, 13.9375
    first, third = [2.0, 1.0, 3.5, 0.5], [5.0, 1.0, 9.875, 0.125]
    assert found == [first, first, third, third]
    assert trainer.averages.numpy().tolist() == [7.0, 1.0, 13.9375, 0.0625]
    official = training.OfficialHParams()
    assert (official.normalise_first, official.normalise_every) == (36, 90)


@pytest.mark.parametrize(
    "wrong", [{"lambda_ss": -1.0}, {"d_every": 0}, {"normalise_decay": 2.0}, {"decay_from": 2.0}]
)
def test_hyper_parameters_are_checked(wrong):
    with pytest.raises(ValueError, match=f"{[*wrong][0]} must"):
        training.HParams(**wrong)


def similarity(a, b):
    """MS-SSIM of images in [-1, 1] at 32 x 32, as convolutions."""
    a, b, value = (a + 1) / 2, (b + 1) / 2, 1.0
    line = tf.exp(-((tf.range(8.0) - 3.5) ** 2) / 4.5)
    line /= tf.reduce_sum(line)
    window = tf.tile((line[:, None] * line)[..., None, None], (1, 1, 3, 1))

    def mean(x):
        return tf.nn.depthwise_conv2d(x, window, (1, 1, 1, 1), "VALID")

    for level in range(3):
        mu_a, mu_b = mean(a), mean(b)
        cs = (2 * abs(mean(a * b) - mu_a * mu_b) + 0.0025) / (
            mean(a * a) - mu_a**2 + mean(b * b) - mu_b**2 + 0.0025
        )
        if level == 2:
            cs *= (2 * mu_a * mu_b + 0.0009) / (mu_a**2 + mu_b**2 + 0.0009)
        value *= tf.reduce_mean(cs, (1, 2)) ** (LEVELS[level] / LEVELS[:3].sum())
        a, b = (tf.nn.avg_pool2d(x, 2, 2, "VALID") for x in (a, b))
    return tf.reduce_mean(value)


def test_two_steps_are_the_papers():
    hp = {"flip": False, "d_every": 2, "normalise_every": 1, "normalise_decay": 0.75}
    ours, plain = (make(Descent, **hp) for _ in range(2))
    x, y = pictures(2), pictures(2, seed=1)
    networks = plain.networks
    G, F = networks["a2b"], networks["b2a"]
    averages = np.ones(4)
    for step in (0, 1):
        divisors = averages
        terms, d_losses = dict.fromkeys(training.TERMS, 0.0), {}
        with tf.GradientTape(persistent=True) as tape:
            for end, there, back, image, target in (("b", G, F, x, y), ("a", F, G, y, x)):
                D, made = networks[f"discriminator_{end}"], there(image)["translated"]
                real, fake = D(target), D(made)
                terms["gan"] += tf.reduce_mean(tf.math.softplus(-fake["logits"]))
                for a, b in zip(real["features"], fake["features"]):
                    distance = tf.reduce_mean(a, 0) - tf.reduce_mean(b, 0)
                    terms["features"] += tf.reduce_mean(distance**2) / 7
                again = back(made)["translated"]
                terms["structure"] += 1 - similarity(image, again)
                terms["cycle"] += tf.reduce_mean(abs(image - again)) / 2
                d_losses[f"discriminator_{end}"] = (
                    tf.reduce_mean(tf.math.softplus(-real["logits"]))
                    + tf.reduce_mean(tf.math.softplus(fake["logits"]))
                ) / 2
            weights = np.array([0.49, 0.21, 0.21, 0.09]) / divisors
            loss = sum(w * term for w, term in zip(weights, terms.values()))
        expected = {}
        roles = {"a2b": loss, "b2a": loss} | d_losses
        for name, own in roles.items():
            variables = networks[name].trainable_variables
            rate = 0.1 if step == 0 or "discriminator" not in name else 0.0
            gradients = tape.gradient(own, variables)
            expected[name] = [v - rate * g for v, g in zip(variables, gradients)]
        alone = [tape.gradient(t, G.get_layer("down1").kernel).numpy() for t in terms.values()]
        assert min(abs(g).max() for g in alone) > 1e-6  # every term reaches the generators
        before = {k: weights_of(m) for k, m in ours.networks.items()}
        logs = ours.train_step({"image_a": tf.constant(x), "image_b": tf.constant(y)})
        for name, value in (terms | d_losses).items():
            assert float(logs[name]) == pytest.approx(float(value), rel=1e-3), name
        for name, network in ours.networks.items():
            moved = gap(before[name], weights_of(network))
            assert (moved > 1e-5) == ("discriminator" not in name or step == 0)
            wanted = [np.asarray(w) for w in expected[name]]
            assert gap(weights_of(network), wanted) <= 0.01 * moved, name
            for variable, value in zip(networks[name].variables, weights_of(network)):
                variable.assign(value)
        averages = 0.75 * averages + 0.25 * np.array([float(t) for t in terms.values()])
        assert np.allclose(ours.divisors, averages, rtol=1e-3)


def test_the_rates_of_both_players_fall_together():
    """Though the discriminators take a third of the updates."""
    trainer = make(decay_steps=12, d_every=3, learning_rate=1.0)
    for step, rate in ((0, 1.0), (6, 1.0), (9, 0.5), (12, 0.0)):
        for name, (_, optimizer) in trainer.optimizers_by_role.items():
            optimizer.iterations.assign(step // 3 if "discriminator" in name else step)
            assert float(optimizer.learning_rate) == rate, name


@pytest.mark.slow
def test_state_is_all_that_a_resume_needs():
    batch = {f"image_{k}": tf.constant(pictures(2, seed=i)) for i, k in enumerate("ab")}
    hp = {"normalise_every": 1, "decay_steps": 4}
    half, whole = resumed(lambda: make(**hp), [batch, batch])
    assert abs(whole["loss_divisors"] - half["loss_divisors"]).min() > 0


@pytest.mark.slow
def test_two_replicas_take_the_step_of_one(mirrored):
    x, y, found = pictures(4), pictures(4, seed=1), []
    for strategy in (tf.distribute.get_strategy(), mirrored):
        with strategy.scope():
            trainer = make(Descent, flip=False, normalise_every=1)
        start = {k: v.numpy() for k, v in trainer.state().items()}
        batch = shared(strategy, {"image_a": x, "image_b": y})
        strategy.run(trainer.train_step, args=(batch,))
        found.append({k: v.numpy() for k, v in trainer.state().items() if "iter" not in k})
    one, two = found
    moved = max(abs(one[k] - start[k]).max() for k in one if "loss" not in k)
    assert moved > 1e-3
    for name, value in one.items():
        assert abs(value - two[name]).max() < 0.01 * moved, name

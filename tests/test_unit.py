"""UNIT: networks and what they share, losses, one step of training, what is shown."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from attention_zoo import zoo
from attention_zoo.common.images import translation_grid
from attention_zoo.experiments import translating
from attention_zoo.serving import demo
from attention_zoo.serving.export import Served
from attention_zoo.tasks import tiles
from attention_zoo.tasks.base import Origin
from attention_zoo.tasks.translation import Translator
from attention_zoo.tests.helpers import (
    Descends,
    gap,
    images,
    loss_of,
    shaken,
    shared,
    weights_of,
)
from attention_zoo.tests.torch_layers import convolved, enlarged, normal
from attention_zoo.trainers import losses
from attention_zoo.trainers import unit as training
from attention_zoo.zoo import unit

TINY = {"image_size": 16, "width": 2, "blocks": 2}
SMALL = {**TINY, "blocks": 1}
PARTS = ("encoder_a", "encoder_b", "decoder_a", "decoder_b")
RATE = 0.02  # of gradient descent


class Descent(Descends, training.UNIT):
    rate = RATE


def make(**hparams):
    keras.utils.set_random_seed(0)
    pair = [unit.build(**SMALL) for _ in range(2)]
    return Descent(*pair, training.HParams(**{"flip": False} | hparams), seed=3)


@pytest.fixture(scope="module")
def trainers():
    """Two trainers of equal weights, and a function (**hparams) that sets them back to these."""
    pair = make(), make()
    start = {name: weights_of(network) for name, network in pair[0].networks.items()}

    def reset(**hparams):
        for trainer in pair:
            trainer.hp = training.HParams(**{"flip": False} | hparams)
            trainer.first.iterations.assign(0)
            for name, network in trainer.networks.items():
                network.set_weights(start[name])

    return *pair, reset


def batch(count=2):
    return {f"image_{end}": tf.constant(images(count, 16, seed=ord(end))) for end in "ab"}


# networks


def test_both_domains_have_the_paper_s_count():
    networks = zoo.registry.networks("unit")
    together = training.Together(*(networks[name] for name in PARTS))
    assert sum(np.prod(v.shape) for v in together.variables) == 18_017_286
    one = training.Together(networks["encoder_a"], networks["decoder_b"])
    assert sum(np.prod(v.shape) for v in one.trainable_variables) == 10_188_803


@pytest.mark.parametrize(("shared", "common"), [(0, 0), (1, 4), (2, 8)])
def test_domains_share_the_blocks_next_to_the_code(shared, common):
    networks = unit.build(**TINY, shared=shared)
    held = {name: {id(v): v.path for v in networks[name].variables} for name in networks}
    for kind in ("encoder", "decoder"):
        both = held[f"{kind}_a"].keys() & held[f"{kind}_b"].keys()
        paths = {held[f"{kind}_a"][key] for key in both}
        assert len(both) == common and all(path.startswith(f"{kind}_block") for path in paths)
    numbers = {
        path[len("encoder_block")] for path in held["encoder_a"].values() if "_a" not in path
    }
    assert numbers == {str(i) for i in range(2 - shared, 2)}
    assert held["a2b"].keys() == held["encoder_a"].keys() | held["decoder_a"].keys() | (
        held["decoder_b"].keys()
    )


def test_a_translation_by_numpy():
    networks = unit.build(**TINY)
    network = shaken(networks["a2b"])
    state = {}
    for v in network.variables:
        name, leaf = v.path.split("/")
        if leaf == "kernel":
            state[f"{name}.weight"] = v.numpy().transpose(3, 2, 0, 1)
        else:
            state[f"{name}.bias"] = v.numpy()

    def block(x, name):
        y = np.maximum(normal(convolved(x, state, f"{name}_1", zeros=1)), 0)
        return x + normal(convolved(y, state, f"{name}_2", zeros=1))

    def decoded(z, own):
        x = block(block(z, "decoder_block0"), f"{own}_block1")
        for i in (1, 2):
            x = np.maximum(normal(enlarged(x, state, f"{own}_up{i}")), 0)
        return np.tanh(convolved(x, state, f"{own}_to_rgb")).transpose(1, 2, 0)

    image = images(1, 16)
    x = convolved(image[0].transpose(2, 0, 1), state, "encoder_a_stem", zeros=3)
    x = np.where(x > 0, x, 0.01 * x)
    for i in (1, 2):
        x = np.maximum(normal(convolved(x, state, f"encoder_a_down{i}", 2, 1)), 0)
    mean = block(block(x, "encoder_a_block0"), "encoder_block1")
    made = {k: np.asarray(v)[0] for k, v in network(image, training=False).items()}
    assert abs(np.asarray(networks["encoder_a"](image))[0] - mean.transpose(1, 2, 0)).max() < 1e-3
    assert abs(made["translated"] - decoded(mean, "decoder_b")).max() < 1e-3
    assert abs(made["reconstructed"] - decoded(mean, "decoder_a")).max() < 1e-3
    power = (mean**2).mean(0)
    assert abs(made["latent"][::4, ::4, 0] - power / (1 + power)).max() < 1e-4
    assert gap([made["translated"]], [made["reconstructed"]]) > 0.1


def test_the_latent_map_is_the_share_of_the_mean_in_the_code_s_power():
    mean = np.array([[[[1.0, 3.0], [0.0, 0.0]]]], "float32")  # means of squares 5 and 0
    maps = np.asarray(unit.signal(mean))
    assert maps.shape == (1, 4, 8, 1)
    assert abs(maps[0, :, :4] - 5 / 6).max() < 1e-6 and maps[0, :, 4:].max() == 0


def test_the_discriminator_ends_in_four_by_four():
    sides = (16, 32, 64, 128, 132, 216, 256, 512)
    assert [unit.levels(side) for side in sides] == [2, 3, 4, 5, 6, 6, 6, 6]
    for side in (32, 64, 216):
        assert unit.discriminator(side, 1, "d").output_shape == (None, 4, 4, 1)


@pytest.mark.parametrize(
    ("option", "value"), [("image_size", 12), ("image_size", 30), ("width", 0), ("shared", 3)]
)
def test_options_without_meaning_are_refused(option, value):
    with pytest.raises(ValueError, match=f"{option}.* must be"):
        unit.build(**{**TINY, option: value})


# training


def test_losses_by_hand():
    assert loss_of(losses.code, mean=np.array([[1.0, -2.0], [0.0, 3.0]])) == 14 / 4
    image, again = np.array([0.0, 1.0, -1.0, 0.5]), np.array([1.0, 1.0, 1.0, 0.0])
    assert loss_of(losses.reconstruction, image=image, again=again) == 3.5 / 4


def test_noise_is_standard_normal_and_a_function_of_seed_step_and_stream(trainers):
    trainer, _, reset = trainers
    reset()
    noise = trainer.noise((20, 8, 8, 16), 2).numpy()
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02
    assert abs((abs(noise) < 1).mean() - 0.6827) < 0.01
    assert abs((abs(noise) > 2).mean() - 0.0455) < 0.005
    assert np.array_equal(noise, trainer.noise((20, 8, 8, 16), 2))
    assert gap([noise], [trainer.noise((20, 8, 8, 16), 3).numpy()]) > 1
    trainer.first.iterations.assign(1)
    assert gap([noise], [trainer.noise((20, 8, 8, 16), 2).numpy()]) > 1


def test_a_step_is_the_paper_s(trainers):
    hparams = {"lambda_gan": 2.0, "lambda_code": 3.0, "lambda_reconstruction": 5.0}
    hparams |= {"lambda_cycle_code": 7.0, "lambda_cycle": 11.0, "weight_decay": 0.1}
    ours, plain, reset = trainers
    reset(**hparams)
    data = batch()
    x, y = data["image_a"], data["image_b"]
    E_a, E_b, G_a, G_b = (plain.networks[name] for name in PARTS)
    D_a, D_b = (plain.networks[f"discriminator_{end}"] for end in "ab")
    eta = [plain.noise((2, 4, 4, 8), stream) for stream in (2, 3, 4, 5)]
    softplus = tf.math.softplus

    def mean(value):
        return tf.reduce_mean(value)

    def half_squares(variables):
        return sum(0.5 * tf.reduce_sum(w * w) for w in variables)

    expected, sums = {}, {}
    to_y, to_x = G_b(E_a(x) + eta[0]), G_a(E_b(y) + eta[1])
    for name, D, real, fake in (("a", D_a, x, to_x), ("b", D_b, y, to_y)):
        own = D.trainable_variables
        with tf.GradientTape() as tape:
            loss = mean(softplus(-D(real))) + mean(softplus(D(fake)))
            total = 2 * loss + 0.1 * half_squares(own)
        sums[f"discriminator_{name}"] = loss
        for w, g in zip(own, tape.gradient(total, own)):
            w.assign_sub(RATE * g)
        expected[f"discriminator_{name}"] = weights_of(D)
    own = list({id(w): w for N in (E_a, E_b, G_a, G_b) for w in N.trainable_variables}.values())
    with tf.GradientTape() as tape:
        mu_a, mu_b = E_a(x), E_b(y)
        to_y, to_x = G_b(mu_a + eta[0]), G_a(mu_b + eta[1])
        mu_ab, mu_ba = E_b(to_y), E_a(to_x)
        sums["gan"] = mean(softplus(-D_a(to_x))) + mean(softplus(-D_b(to_y)))
        sums["code"] = mean(mu_a**2) + mean(mu_b**2)
        sums["cycle_code"] = mean(mu_ab**2) + mean(mu_ba**2)
        sums["reconstruction"] = mean(abs(G_a(mu_a + eta[0]) - x)) + mean(
            abs(G_b(mu_b + eta[1]) - y)
        )
        sums["cycle"] = mean(abs(G_a(mu_ab + eta[2]) - x)) + mean(abs(G_b(mu_ba + eta[3]) - y))
        total = 2 * sums["gan"] + 3 * sums["code"] + 5 * sums["reconstruction"]
        total += 7 * sums["cycle_code"] + 11 * sums["cycle"] + 0.1 * half_squares(own)
    for w, g in zip(own, tape.gradient(total, own)):
        w.assign_sub(RATE * g)
    before = {name: weights_of(ours.networks[name]) for name in ours.networks}
    logs = ours.train_step(data)
    assert logs.keys() == sums.keys()
    for name, value in sums.items():
        assert float(logs[name]) == pytest.approx(float(value), rel=1e-4), name
    for name, network in ours.networks.items():
        moved, found = gap(before[name], weights_of(network)), weights_of(network)
        assert moved > 1e-5
        assert gap(found, weights_of(plain.networks[name])) < 1e-3 * moved, name
        if name in ours.ema_networks:
            assert gap(found, weights_of(ours.ema_networks[name])) == 0


TERMS = ("lambda_gan", "lambda_code", "lambda_reconstruction", "lambda_cycle_code")
TERMS += ("lambda_cycle", "weight_decay")


def test_every_term_acts(trainers):
    trainer, _, reset = trainers

    def trained(**hparams):
        reset(**hparams)
        trainer.train_step(batch(1))
        return {name: weights_of(trainer.networks[name]) for name in ("a2b", "discriminator_b")}

    usual = trained()
    for term in TERMS:
        found = trained(**{term: 0.0})
        assert gap(found["a2b"], usual["a2b"]) > 1e-8, term
        of_both = term in ("lambda_gan", "weight_decay")
        assert (gap(found["discriminator_b"], usual["discriminator_b"]) > 1e-8) == of_both, term


@pytest.mark.parametrize(
    "wrong", [{"adversarial": "hinge"}, {"lambda_code": -1.0}, {"beta_1": 2.0}]
)
def test_hyper_parameters_are_checked(wrong):
    with pytest.raises(ValueError, match=f"{[*wrong][0]} (must|takes)"):
        training.HParams(**wrong)


def test_what_is_shared_is_averaged_once(trainers):
    trainer, _, reset = trainers
    reset(ema_decay=0.5)
    for mean, value in trainer._averaged():
        mean.assign(value)
    before = weights_of(trainer.networks["encoder_a"])
    trainer.train_step(batch(1))
    after = weights_of(trainer.networks["encoder_a"])
    found = {v.path: v.numpy() for v in trainer.ema_networks["a2b"].variables}
    d = 2 / 11  # after one step
    for v, old, new in zip(trainer.networks["encoder_a"].variables, before, after):
        assert abs(found[v.path] - (d * old + (1 - d) * new)).max() < 1e-7, v.path
    assert sum("encoder_block0_1/kernel" in name for name in trainer.state()) == 2  # and the mean


@pytest.mark.slow
def test_two_replicas_take_the_steps_of_one(mirrored):
    found, data = [], batch(4)
    for strategy in (tf.distribute.get_strategy(), mirrored):
        with strategy.scope():
            trainer = make()
        start = {k: v.numpy() for k, v in trainer.state().items()}
        strategy.run(trainer.train_step, args=(shared(strategy, data),))
        found.append({k: v.numpy() for k, v in trainer.state().items() if "iter" not in k})
    one, two = found
    moved = max(abs(one[k] - start[k]).max() for k in one)
    assert moved > 1e-3
    assert max(abs(one[k] - two[k]).max() for k in one) < 0.01 * moved


# what is shown


@pytest.fixture(scope="module")
def model():
    networks = unit.build(**TINY)
    for network in (networks["a2b"], networks["b2a"]):
        shaken(network)
    return Translator("unit", networks, TINY, Origin("tiny", "none"), "a2b")


def test_reconstruction_and_latent_code_are_shown(model, tmp_path, monkeypatch):
    pictures = np.random.default_rng(0).integers(0, 256, (2, 13, 18, 3), np.uint8)
    translation = model.translate(pictures)
    assert translation.images.shape == translation.reconstructed.shape == pictures.shape
    assert translation.latent.shape == (2, 13, 18, 1) and translation.attention is None
    assert 0 <= translation.latent.min() < translation.latent.max() < 1
    grid = translation_grid([model.preview(images(2, 16))])
    assert grid.shape == (2 * 16, 5 * 16, 3)
    for i, picture in enumerate(pictures):
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "in" / f"{i}.png")
    for folder in ("out", "tiles"):
        assert translating.translate_folder(model, tmp_path / "in", tmp_path / folder).images == 2
        for kind in ("latent", "reconstructed"):
            assert Image.open(tmp_path / folder / kind / "1.png").size == (18, 13)
        monkeypatch.setattr(tiles, "PIXELS", 12**2)
    latent = np.asarray(Image.open(tmp_path / "out" / "latent" / "1.png"))
    assert abs(latent - 255 * translation.latent[1, ..., 0]).max() <= 0.5 + 1e-3
    served = Served("unit", "a2b", {"a2b": model.network}, 16, 0.5, {})
    shown = demo.translations(served, "a2b", pictures[0])
    assert [name.partition(":")[0] for _, name in shown] == [
        "translation",
        "reconstruction",
        "latent",
    ]

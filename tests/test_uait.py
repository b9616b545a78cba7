"""UAIT: networks, the two stages, one step of each, the pool of images and masks, what is shown."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from attention_zoo.common.images import translation_grid
from attention_zoo.serving import signatures
from attention_zoo.tasks.base import Origin
from attention_zoo.tasks.translation import Translator
from attention_zoo.tests.helpers import (
    Descends,
    gap,
    images,
    resumed,
    shaken,
    shared,
    weights_of,
)
from attention_zoo.tests.torch_layers import convolved, normal, reflected
from attention_zoo.trainers import uait as training
from attention_zoo.zoo import uait
from attention_zoo.zoo.layers.affine import Affine

TINY = {"image_size": 16, "width": 2, "blocks": 1}
SECOND = {"decay_steps": 10, "switch": 0.0, "threshold": 0.5}


class Descent(Descends, training.UAIT):
    rate = 0.01


def loud(network, seed=0):
    """The generator with weights at which its masks lie on both sides of 1/2."""
    logit = shaken(network, seed).get_layer("mask_logit")
    logit.kernel.assign(30 * logit.kernel)
    mask = np.asarray(network(images(1, 16))["masks"]).clip(1e-6, 1 - 1e-6)
    logit.bias.assign_sub([np.log(mask / (1 - mask)).mean()])
    return network


def make(cls=Descent, **hparams):
    keras.utils.set_random_seed(0)
    pair = [uait.build(**TINY) for _ in range(2)]
    for seed, (name, network) in enumerate(pair[0].items()):
        (loud if "2" in name else shaken)(network, seed)
    return cls(*pair, training.HParams(**{"flip": False, "pool": 0} | hparams), seed=3)


@pytest.fixture(scope="module")
def trainers():
    """Two trainers of equal weights, and a function (**hparams) that sets them back to these."""
    pair = make(), make()
    start = {name: weights_of(network) for name, network in pair[0].networks.items()}

    def reset(**hparams):
        for trainer in pair:
            trainer.hp = training.HParams(**{"flip": False, "pool": 0} | hparams)
            trainer.first.iterations.assign(0)
            for name, network in trainer.networks.items():
                network.set_weights(start[name])

    return *pair, reset


def batch(count=2, seed=0):
    return {f"image_{end}": tf.constant(images(count, 16, seed=seed + ord(end))) for end in "ab"}


# networks


def test_a_scale_and_an_offset_for_each_channel():
    layer = Affine(0.1)
    x = images(2)
    layer.build(x.shape)
    assert not layer.beta.numpy().any() and 0 < abs(layer.gamma.numpy() - 1).max() < 0.5
    layer.gamma.assign([1.0, 2.0, 3.0])
    layer.beta.assign([0.0, -1.0, 0.5])
    assert gap([np.asarray(layer(x))], [x * [1, 2, 3] + [0, -1, 0.5]]) < 1e-6
    assert Affine.from_config(layer.get_config()).deviation == 0.1


def test_the_second_stage_s_discriminator_lacks_the_normalisation_alone():
    D = uait.discriminator(256, 64, "d")
    plain = training.without_norms(D)
    assert (D.count_params(), plain.count_params()) == (2_766_657, 2_764_737)
    assert D.output_shape == plain.output_shape == (None, 35, 35, 1)
    assert [uait.discriminator(side, 1, "d").output_shape[1] for side in (128, 64, 32)] == [
        19,
        11,
        7,
    ]


def spread(x):
    return x.repeat(2, 1).repeat(2, 2)


def after(x):
    """Padding as TensorFlow's of a kernel of 3 with stride 2."""
    return np.pad(x, ((0, 0), (0, 1), (0, 1)))


def by_numpy(network, image, wide):
    """(mask, content) of a generator: (H, W, 1), (H, W, 3)."""
    state, scales = {}, {}
    for v in network.variables:
        name, leaf = v.path.split("/")
        if leaf == "kernel":
            state[f"{name}.weight"] = v.numpy().transpose(3, 2, 0, 1)
        elif leaf == "bias":
            state[f"{name}.bias"] = v.numpy()
        else:
            scales[v.path] = v.numpy()[:, None, None]

    def norm(x, name):
        return normal(x) * scales[f"{name}_affine/gamma"] + scales[f"{name}_affine/beta"]

    def active(x, name, *options):
        return np.maximum(norm(convolved(x, state, name, *options), name), 0)

    def residual(x, name, pad):
        y = active(pad(x), f"{name}_1")
        return np.maximum(x + norm(convolved(pad(y), state, f"{name}_2"), f"{name}_2"), 0)

    def enlarged(x, name):
        """Of 2H + 1 rows the last one is cropped."""
        w, b = state[f"{name}.weight"], state[f"{name}.bias"]
        _, high, wide = x.shape
        y = np.zeros((w.shape[1], 2 * high + 1, 2 * wide + 1)) + b[:, None, None]
        for i, j, k, m in np.ndindex(high, wide, 3, 3):
            y[:, 2 * i + k, 2 * j + m] += x[:, i, j] @ w[:, :, k, m]
        return np.maximum(norm(y[:, :-1, :-1], name), 0)

    x = image.transpose(2, 0, 1).astype("float64")
    sides = (3, 3, 7) if wide else (1, 1, 1)
    A = active(reflected(x, 3), "mask_stem", 2)
    A = residual(active(after(A), "mask_down", 2), "mask_block", lambda z: reflected(z, 1))
    for i in (0, 1):
        A = active(reflected(spread(A), sides[i] // 2), f"mask_up{i + 1}")
    A = convolved(reflected(A, sides[2] // 2), state, "mask_logit")
    F = active(x, "stem", 1, 3)
    F = active(after(active(after(F), "down1", 2)), "down2", 2)
    F = residual(F, "block0", lambda z: np.pad(z, ((0, 0), (1, 1), (1, 1))))
    F = np.tanh(convolved(enlarged(enlarged(F, "up1"), "up2"), state, "to_rgb", 1, 3))
    return 1 / (1 + np.exp(-A.transpose(1, 2, 0))), F.transpose(1, 2, 0)


@pytest.mark.parametrize("wide", [False, True])
def test_a_translation_by_numpy(wide):
    network = loud(uait.build(**TINY, wide=wide)["a2b"])
    image = images(1, 16)
    made = {k: np.asarray(v)[0] for k, v in network(image, training=False).items()}
    mask, content = by_numpy(network, image[0], wide)
    assert mask.std() > 0.05 and content.std() > 0.1
    assert abs(made["masks"] - mask).max() < 1e-3
    assert abs(made["contents"][..., 0, :] - content).max() < 1e-3
    assert abs(made["translated"] - (mask * content + (1 - mask) * image[0])).max() < 1e-3
    squares = made["masks"].reshape(4, 4, 4, 4)
    assert (np.ptp(squares, axis=(1, 3)).max() < 1e-6) != wide  # constant on 4 x 4 pixels


@pytest.mark.parametrize(("option", "value"), [("image_size", 18), ("width", 0), ("blocks", 0)])
def test_options_without_meaning_are_refused(option, value):
    with pytest.raises(ValueError, match=f"{option}.* must be"):
        uait.build(**{**TINY, option: value})


# training


def test_the_second_stage_begins_at_its_share_of_the_steps(trainers):
    trainer, _, reset = trainers

    def stages(**hparams):
        reset(**hparams)
        return [trainer.phase(step) for step in (0, 2, 3, 9, 10)]

    assert stages(decay_steps=10) == [False, False, True, True, True]
    assert stages(decay_steps=10, switch=0.95) == [False] * 4 + [True]
    assert stages(decay_steps=0, switch=0.0) == [False] * 5
    reset(decay_steps=10)
    assert not trainer.in_second_stage
    trainer.first.iterations.assign(3)
    assert trainer.in_second_stage
    trainer.traced_phase = False  # what `fit` says
    assert not trainer.in_second_stage
    trainer.traced_phase = None


def squares(value):
    return tf.reduce_mean(tf.square(value))


def absolute(value):
    return tf.reduce_mean(tf.abs(value))


@pytest.mark.parametrize(
    ("second", "masked"), [(False, "content"), (True, "content"), (True, "composite")]
)
def test_a_step_of_each_stage(second, masked, trainers):
    ours, plain, reset = trainers
    reset(**(SECOND if second else {}) | {"masked": masked, "lambda_cycle": 3.0})
    data = batch()
    x, y = data["image_a"], data["image_b"]
    G, F = plain.networks["a2b"], plain.networks["b2a"]

    def convolved(x, layer, strides):
        x = tf.pad(x, [[0, 0], [2, 2], [2, 2], [0, 0]])
        return tf.nn.conv2d(x, layer.kernel, strides, "VALID") + layer.bias

    def judged(name, image, mask):
        D = plain.networks[name]
        if not second:
            return D(image)
        z = tf.where(mask >= 0.5, image, 0.0)
        for i, strides in enumerate((2, 2, 2, 1), 1):
            z = tf.nn.leaky_relu(convolved(z, D.get_layer(f"down{i}"), strides), 0.2)
        return convolved(z, D.get_layer("logits"), 1)

    def shown(outputs):
        if second and masked == "content":
            return outputs["contents"][..., 0, :]
        return outputs["translated"]

    def players(network, mine):
        return [v for v in network.trainable_variables if mine(v.path)]

    mine = (lambda path: "mask" not in path) if second else (lambda path: True)
    with tf.GradientTape() as tape:
        to_y, to_x = G(x), F(y)
        sums = {"gan": squares(judged("discriminator_a", shown(to_x), to_x["masks"]) - 1)}
        sums["gan"] += squares(judged("discriminator_b", shown(to_y), to_y["masks"]) - 1)
        sums["cycle"] = absolute(F(to_y["translated"])["translated"] - x)
        sums["cycle"] += absolute(G(to_x["translated"])["translated"] - y)
        loss = sums["gan"] + 3 * sums["cycle"]
    own = [players(network, mine) for network in (G, F)]
    steps = list(zip(own, tape.gradient(loss, own)))
    for end, real, source, fake in (("a", x, to_y, to_x), ("b", y, to_x, to_y)):
        name = f"discriminator_{end}"
        own = players(plain.networks[name], lambda path: not second or "affine" not in path)
        with tf.GradientTape() as tape:
            sums[name] = 0.5 * squares(judged(name, real, source["masks"]) - 1)
            sums[name] += 0.5 * squares(judged(name, shown(fake), fake["masks"]))
        steps.append((own, tape.gradient(sums[name], own)))
    for own, gradients in steps:
        for w, g in zip(own, gradients):
            w.assign_sub(0.01 * g)
    before = {name: weights_of(network) for name, network in ours.networks.items()}
    logs = {name: float(value) for name, value in ours.train_step(data).items()}
    assert logs.pop("stage") == 1 + second
    for name, value in sums.items():
        assert logs[name] == pytest.approx(float(value), rel=1e-4), name
    A = np.concatenate([to_x["masks"], to_y["masks"]])
    assert logs["mask_mean"] == pytest.approx(A.mean(), rel=1e-4)
    assert logs["mask_above"] == pytest.approx((A >= (0.5 if second else 0.1)).mean())
    assert 0.05 < (A >= 0.5).mean() < 0.95
    for name, network in ours.networks.items():
        found = weights_of(network)
        moved = gap(before[name], found)
        assert moved > 1e-5
        assert gap(found, weights_of(plain.networks[name])) < 2e-3 * moved, name
    for v, old in zip(ours.networks["a2b"].variables, before["a2b"]):  # A is frozen to the bit
        if "mask" in v.path:
            assert np.array_equal(v.numpy(), old) == second or v.path.endswith("bias"), v.path


def test_every_option_acts(trainers):
    trainer, _, reset = trainers

    def trained(**hparams):
        reset(**SECOND | hparams)
        trainer.train_step(batch(1))
        return [w for network in trainer.networks.values() for w in weights_of(network)]

    usual = trained()
    changes = {"threshold": 0.7, "masked": "composite", "lambda_cycle": 0.0, "switch": 1.0}
    for name, value in changes.items():
        assert gap(trained(**{name: value}), usual) > 1e-6, name


@pytest.mark.parametrize("wrong", [{"masked": "mask"}, {"switch": 1.5}, {"threshold": -1.0}])
def test_hyper_parameters_are_checked(wrong):
    with pytest.raises(ValueError, match=f"{[*wrong][0]} (must|takes)"):
        training.HParams(**wrong)


@pytest.mark.slow
def test_a_run_resumes_before_and_after_the_switch():
    hparams = {"pool": 2, "decay_steps": 4, "switch": 0.5, "ema_decay": 0.9}
    batches = [batch(1, seed=i) for i in range(4)]
    half, whole = resumed(lambda: make(training.UAIT, **hparams), batches)
    assert whole["pool/discriminator_a"].shape == (2, 16, 16, 4)
    stem = "mask_stem/kernel"
    assert np.array_equal(whole[f"a2b/{stem}"], half[f"a2b/{stem}"])
    assert abs(whole["a2b/stem/kernel"] - half["a2b/stem/kernel"]).max() > 1e-6
    affine = "discriminator_a/down2_affine/gamma"
    assert np.array_equal(whole[affine], half[affine])


def test_fit_goes_from_stage_to_stage(without_graphs):
    trainer = make(decay_steps=4, switch=0.5)
    data = tf.data.Dataset.from_tensors(batch(1)).repeat()
    history = trainer.fit(data, epochs=2, steps_per_epoch=2, verbose=0)
    assert history.history["stage"] == [1.0, 2.0]
    assert np.isfinite(history.history["discriminator_a"]).all()


@pytest.mark.slow
def test_two_replicas_take_the_steps_of_one(mirrored):
    found, data = [], batch(4)
    for strategy in (tf.distribute.get_strategy(), mirrored):
        with strategy.scope():
            trainer = make(pool=3, **SECOND)
        start = {k: v.numpy() for k, v in trainer.state().items()}
        trainer.traced_phase = True  # as `fit` sets it
        strategy.run(trainer.train_step, args=(shared(strategy, data),))
        found.append({k: v.numpy() for k, v in trainer.state().items() if "iter" not in k})
    one, two = found
    moved = max(abs(one[k] - start[k]).max() for k in one if "pool" not in k)
    assert moved > 1e-3
    for name, value in one.items():
        assert abs(value - two[name]).max() < 0.01 * (1 if "pool" in name else moved), name


# what is shown


def test_attention_is_shown_as_attention_gan_s_is():
    networks = uait.build(**TINY)
    for network in (networks["a2b"], networks["b2a"]):
        shaken(network)
    model = Translator("uait", networks, TINY, Origin("tiny", "none"), "a2b")
    pictures = np.random.default_rng(0).integers(0, 256, (2, 13, 18, 3), np.uint8)
    translation = model.translate(pictures)
    assert translation.attention.shape == (2, 13, 18)
    assert translation.contents.shape == (2, 13, 18, 1, 3)
    assert translation_grid([model.preview(images(2, 16))]).shape == (2 * 16, 5 * 16, 3)
    function, _ = signatures.build({"a2b": networks["a2b"]}, "a2b", 16, 0.5)["serving_default"]
    x = tf.constant(images(2, 16))
    answer = function(x)
    expected = networks["a2b"](x)["masks"][..., 0]
    assert answer.keys() == {"translated", "attention"}
    assert abs(answer["attention"] - expected).numpy().max() < 1e-5

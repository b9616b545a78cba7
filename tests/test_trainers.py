"""The algorithms: one step of each against a plain reference, at tiny width."""

import functools
import signal
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from attention_zoo import zoo
from attention_zoo.common.images import image_grid, to_uint8
from attention_zoo.experiments import run_directory as run
from attention_zoo.tests.helpers import gap, images, resumed, weights_of
from attention_zoo.trainers import (
    base,
    callbacks,
    classifier,
    dcgan,
    get,
    losses,
    ragan,
    sagan,
    wgan,
)
from attention_zoo.zoo.layers import self_attention


def make(cls, hp, model, **options):
    keras.utils.set_random_seed(0)
    options = {"image_size": 32, "width": 8, **options}
    average = zoo.registry.networks(model, **options)
    return cls(zoo.create(model, **options), average, hp, seed=3)


def test_noise_is_a_function_of_seed_step_and_stream():
    trainer = make(dcgan.DCGAN, dcgan.HParams(), "dcgan")
    z = trainer.noise(500).numpy()
    assert z.shape == (500, 100)
    assert abs(z).max() <= 1
    assert abs(z.mean()) < 0.02
    assert abs(z.std() - 1 / np.sqrt(3)) < 0.01
    assert np.array_equal(z, trainer.noise(500).numpy())
    assert not np.array_equal(z, trainer.noise(500, stream=1).numpy())
    trainer.g_optimizer.iterations.assign(1)
    assert not np.array_equal(z, trainer.noise(500).numpy())
    trainer.g_optimizer.iterations.assign(0)
    trainer.seed = 4
    assert not np.array_equal(z, trainer.noise(500).numpy())


def test_dcgan_step_is_algorithm_1():
    trainer = make(dcgan.DCGAN, dcgan.HParams(), "dcgan")
    plain = make(dcgan.DCGAN, dcgan.HParams(), "dcgan")
    x = images(8)
    z, G, D = plain.noise(8), plain.generator, plain.discriminator
    with tf.GradientTape() as tape:
        fake = G(z, training=True)
        d_loss = losses.discriminator(real=D(x, training=True), fake=D(fake, training=True))
    gradients = tape.gradient(d_loss, D.trainable_variables)
    with tf.GradientTape() as tape:
        plain.d_optimizer.apply(gradients, D.trainable_variables)
        g_loss = losses.non_saturating_generator(fake=D(G(z, training=True), training=True))
    gradients = tape.gradient(g_loss, G.trainable_variables)
    plain.g_optimizer.apply(gradients, G.trainable_variables)

    before = weights_of(trainer.generator)
    logs = trainer.train_step({"image": x})
    assert float(logs["d_loss"]) == pytest.approx(float(d_loss), abs=1e-5)
    assert float(logs["g_loss"]) == pytest.approx(float(g_loss), abs=1e-5)
    for ours, theirs in ((trainer.generator, G), (trainer.discriminator, D)):
        for a, b in zip(ours.trainable_variables, theirs.trainable_variables):
            assert abs(a - b).numpy().max() < 2e-5, a.path
    assert gap(before, weights_of(trainer.generator)) > 1e-4


@pytest.mark.parametrize(("ema_decay", "decay"), [(0.0, 0.0), (0.1, 0.1), (0.9, 2 / 11)])
def test_moving_average_covers_every_variable_and_ramps_up(ema_decay, decay):
    trainer = make(dcgan.DCGAN, dcgan.HParams(ema_decay=ema_decay), "dcgan")
    old = weights_of(trainer.generator)
    assert gap(old, weights_of(trainer.ema_networks["generator"])) == 0
    trainer.train_step({"image": images(8)})
    new = weights_of(trainer.generator)
    expected = [decay * a + (1 - decay) * b for a, b in zip(old, new)]
    assert gap(expected, weights_of(trainer.ema_networks["generator"])) < 1e-6
    assert all(abs(a - b).max() > 0 for a, b in zip(old, new))


@pytest.mark.parametrize("loss", ["wgan", "wgan_gp"])
def test_wgan_step_is_algorithm_1(loss):
    hp, cls = wgan.VARIANTS[loss]
    hp = hp(n_critic=2, learning_rate=1e-3)
    trainer, plain = (make(cls, hp, "wgan", loss=loss) for _ in range(2))
    G, f, x = plain.generator, plain.discriminator, tf.constant(images(8))
    assert trainer.batches_per_step == 2

    def optimizer():
        if loss == "wgan":
            return keras.optimizers.RMSprop(1e-3)
        return keras.optimizers.Adam(1e-3, 0.0, 0.9)

    def penalty(real, fake, share):
        between = share * real + (1 - share) * fake
        with tf.GradientTape() as tape:
            tape.watch(between)
            score = f(between, training=True)
        gradient = tf.reshape(tape.gradient(score, between), (4, -1))
        return tf.reduce_mean((tf.norm(gradient, axis=1) - 1) ** 2)

    def descend(tape, loss, network, optimizer):
        gradients = tape.gradient(loss, network.trainable_variables)
        gradients = [tf.convert_to_tensor(g) for g in gradients]
        optimizer.apply(gradients, network.trainable_variables)

    of_critic, of_generator = optimizer(), optimizer()
    for t, real in enumerate(tf.split(x, 2)):
        fake = G(plain.noise(4, stream=1 + t), training=True)
        with tf.GradientTape() as tape:
            d_loss = tf.reduce_mean(f(fake, training=True)) - tf.reduce_mean(f(real, training=True))
            if loss == "wgan_gp":
                share = (plain.noise(4, stream=3 + t)[:, 0] + 1) / 2
                d_loss += 10 * penalty(real, fake, share[:, None, None, None])
        descend(tape, d_loss, f, of_critic)
        if loss == "wgan":
            for w in f.trainable_variables:
                w.assign(tf.clip_by_value(w, -0.01, 0.01))
    with tf.GradientTape() as tape:
        g_loss = -tf.reduce_mean(f(G(plain.noise(4), training=True), training=True))
    descend(tape, g_loss, G, of_generator)

    before = weights_of(trainer.generator)
    logs = trainer.train_step({"image": x})
    assert float(logs["d_loss"]) == pytest.approx(float(d_loss), rel=1e-4)
    assert float(logs["g_loss"]) == pytest.approx(float(g_loss), rel=1e-4)
    assert gap(before, weights_of(trainer.generator)) > 1e-3
    for ours, theirs in ((trainer.generator, G), (trainer.discriminator, f)):
        for a, b in zip(ours.trainable_variables, theirs.trainable_variables):
            assert abs(a - b).numpy().max() < 2e-5, a.path
    assert int(trainer.d_optimizer.iterations) == 2
    assert int(trainer.g_optimizer.iterations) == 1


@pytest.mark.parametrize("clip", [0.01, 0.003])
def test_wgan_weights_stay_within_the_clip_bound(clip):
    trainer = make(wgan.WGAN, wgan.HParams(clip=clip), "wgan")
    assert max(abs(w.numpy()).max() for w in trainer.discriminator.trainable_variables) > 0.5
    trainer.train_step({"image": images(10)})
    largest = max(abs(w.numpy()).max() for w in trainer.discriminator.trainable_variables)
    assert abs(largest - clip) < 1e-9


def test_wgan_gp_penalises_the_gradient_norm_between_real_and_fake():
    hp = wgan.PenaltyHParams(penalty=10.0)
    trainer = make(wgan.WGANGP, hp, "wgan", loss="wgan_gp")
    image = keras.Input((32, 32, 3))
    dense = keras.layers.Dense(1, use_bias=False)
    product = dense(keras.layers.Flatten()(image))
    trainer.discriminator = keras.Model(image, product * product / 2)  # f(x) = (w x)^2 / 2
    w = np.zeros((3072, 1), "float32")
    w[:4] = 1.5  # |w| = 3, so |grad f| = 3 |w x|
    dense.kernel.assign(w)
    real, fake = np.ones((4, 32, 32, 3), "float32"), np.zeros((4, 32, 32, 3), "float32")
    share = (trainer.noise(4, stream=6).numpy()[:, 0] + 1) / 2  # w x = 6 share
    expected = 10 * np.mean((18 * share - 1) ** 2) - 18
    assert np.ptp(share) > 0.2
    assert float(trainer.critic_loss(real, fake, 0)) == pytest.approx(expected, rel=1e-5)
    trainer.constrain()
    assert np.array_equal(dense.kernel, w)


def gradient_sizes(trainer):
    """Largest gradient of the generator's loss by the part of the DAE it reaches."""
    x = tf.constant(images(4))
    with tf.GradientTape() as tape:
        logits = trainer.discriminator(trainer.fake(trainer.noise(4), x), training=True)
        loss = losses.non_saturating_generator(fake=logits)
    dae = trainer.networks["attention"]
    parts = {
        "E": dae.get_layer("encoder").trainable_variables[0],
        "F": dae.get_layer("localise").kernel,
        "lambda": dae.get_layer("attention_layer").weight,
    }
    found = tape.gradient(loss, list(parts.values()))
    return {k: float(tf.reduce_max(tf.abs(g))) for k, g in zip(parts, found)}


def test_gradient_reaches_the_encoder_and_the_localiser_once_lambda_is_not_zero():
    trainer = make(ragan.RAGAN, ragan.HParams(), "ragan")
    sizes = gradient_sizes(trainer)
    assert sizes["E"] == sizes["F"] == 0
    assert sizes["lambda"] > 0
    trainer.networks["attention"].get_layer("attention_layer").weight.assign([0.5] * 4)
    assert min(gradient_sizes(trainer).values()) > 1e-9


@pytest.mark.parametrize(
    ("cls", "hp"),
    [(ragan.RAGAN, ragan.HParams()), (ragan.RAGANWasserstein, ragan.WassersteinHParams())],
)
def test_ragan_trains_lambda_and_then_the_encoder_with_both_losses(cls, hp):
    trainer = make(cls, hp, "ragan")
    dae = trainer.networks["attention"]
    encoder, weight = dae.get_layer("encoder"), dae.get_layer("attention_layer").weight
    start = weights_of(encoder)
    batch = {"image": tf.constant(images(4 * trainer.batches_per_step))}
    trainer.train_step(batch)
    assert abs(weight.numpy()).min() > 0
    trainer.train_step(batch)
    assert gap(start, weights_of(encoder)) > 0


def test_bank_holds_the_attention_layers_of_the_kept_training_images():
    trainer = make(ragan.RAGAN, ragan.HParams(ema_decay=0.0), "ragan")
    trainer.networks["attention"].get_layer("attention_layer").weight.assign([1.0, 2, 3, 4])
    trainer.update_average()
    batches = [{"image": images(100, seed=s)} for s in range(9)]
    trainer.prepare(batches)
    trainer.before_save()
    bank = trainer.ema_networks["generator"].get_layer("bank")
    assert trainer.references.shape == (256, 32, 32, 3)
    assert np.array_equal(trainer.references[250], batches[2]["image"][50])
    expected = trainer.ema_networks["attention"].predict_on_batch(trainer.references[:5])["layer"]
    assert abs(np.asarray(bank.bank)[:5] - expected).max() < 1e-2 * abs(expected).max()
    z = np.zeros((1, 100), "float32")
    z[0, 0] = -1 + 2 * 3.5 / 256  # entry 3
    pair = {"noise": z, "image": trainer.references[3:4]}
    by_image = trainer.ema_networks["generator_with_reference"].predict_on_batch(pair)
    assert abs(trainer.sample(z) - by_image).max() < 2e-2


def hinge(real, fake):
    return tf.reduce_mean(tf.maximum(0.0, 1 - real)) + tf.reduce_mean(tf.maximum(0.0, 1 + fake))


@pytest.mark.parametrize(
    ("cls", "d_loss", "g_loss", "conditional"),
    [
        (sagan.SAGAN, hinge, lambda fake: -tf.reduce_mean(fake), True),
        (
            sagan.NonSaturating,
            lambda real, fake: tf.reduce_mean(tf.math.softplus(-real) + tf.math.softplus(fake)),
            lambda fake: tf.reduce_mean(tf.math.softplus(-fake)),
            False,
        ),
    ],
)
def test_sagan_step_is_one_of_each_player_at_its_own_rate(cls, d_loss, g_loss, conditional):
    options = {"conditional": conditional, "classes": 3}
    trainer = make(cls, sagan.HParams(d_learning_rate=1e-3), "sagan", **options)
    plain = make(cls, sagan.HParams(), "sagan", **options)
    G, D, z, x = plain.generator, plain.discriminator, plain.noise(8), tf.constant(images(8))
    y = tf.range(8) % 3
    optimizers = [keras.optimizers.Adam(rate, 0.0, 0.9) for rate in (1e-4, 1e-3)]

    def judge(images):
        return D([images, y] if conditional else images, training=True)

    with tf.GradientTape() as tape:
        fake = G([z, y] if conditional else z, training=True)
        with tape.stop_recording(), tf.GradientTape() as d_tape:
            expected = {"d_loss": d_loss(judge(x), judge(fake))}
        with tape.stop_recording():
            gradients = d_tape.gradient(expected["d_loss"], D.trainable_variables)
            gradients = [tf.convert_to_tensor(g) for g in gradients]
            optimizers[1].apply(gradients, D.trainable_variables)
        expected["g_loss"] = g_loss(judge(fake))
    gradients = [
        tf.convert_to_tensor(g) for g in tape.gradient(expected["g_loss"], G.trainable_variables)
    ]
    optimizers[0].apply(gradients, G.trainable_variables)

    logs = trainer.train_step({"image": x, "label": y})
    for name, value in expected.items():
        assert float(logs[name]) == pytest.approx(float(value), abs=1e-5)
    for ours, theirs in ((trainer.generator, G), (trainer.discriminator, D)):
        for a, b in zip(ours.variables, theirs.variables):
            assert abs(a - b).numpy().max() < 2e-5, a.path
    assert int(trainer.step) == 1


def test_sagan_trains_gamma_and_then_all_of_its_attention():
    trainer = make(sagan.SAGAN, sagan.HParams(), "sagan")
    layers = [n.get_layer("attention") for n in (trainer.generator, trainer.discriminator)]
    start = [weights_of(layer) for layer in layers]
    for _ in range(2):
        trainer.train_step({"image": tf.constant(images(8))})
    for layer, before in zip(layers, start):
        assert float(abs(layer.gamma.numpy())) > 0
        moved = {v.path: abs(v - a).numpy().max() for v, a in zip(layer.variables, before)}
        assert min(moved[v.path] for v in layer.trainable_variables) > 0, moved
        assert moved["attention/value/u"] > 0


def test_a_conditional_sample_is_a_function_of_its_z_and_of_all_classes_alike():
    trainer = make(sagan.SAGAN, sagan.HParams(), "sagan", conditional=True, classes=3)
    seen = []
    infer = trainer.infer
    object.__setattr__(trainer, "infer", lambda n, x: seen.append(x) or infer(n, x))
    z = np.random.default_rng(0).uniform(-1, 1, (300, 128)).astype("float32")
    whole = trainer.sample(z)
    assert whole.shape == (300, 32, 32, 3)
    y = seen[0][1]
    assert (y == seen[0][1]).all() and np.bincount(y, minlength=3).min() > 80
    assert abs(trainer.sample(z[7:9]) - whole[7:9]).max() < 1e-5
    assert np.array_equal(seen[1][1], y[7:9])
    assert abs(np.corrcoef(y, z[:, 0])[0, 1]) < 0.15


@pytest.mark.parametrize("variant", ["paper", "official"])
def test_attention_shows_where_the_middles_of_the_quarters_look(variant):
    options = {"attend_at": 8, "attention_variant": variant}
    trainer = make(sagan.SAGAN, sagan.HParams(), "sagan", **options)
    pictures = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), "uint8")
    z = np.random.default_rng(1).uniform(-1, 1, (2, 128)).astype("float32")
    generator = trainer.ema_networks["generator"]
    of_samples = self_attention.attention_map(generator).predict_on_batch(z)
    samples = to_uint8(generator.predict_on_batch(z))
    blind = make(sagan.SAGAN, sagan.HParams(), "sagan", attention="discriminator", **options)
    of_images = blind.networks["attention"].predict_on_batch(pictures.astype("float32") / 127.5 - 1)
    side = {"paper": 8, "official": 4}[variant]
    scale = 32 // side
    for one, seen, beta in ((trainer, samples, of_samples), (blind, pictures, of_images)):
        shown, masks, places, labels = one.attention(pictures, z)
        assert abs(shown.astype(int) - seen).max() <= 1
        assert places.tolist() == [[10, 10], [10, 26], [26, 10], [26, 26]]
        assert labels == ("at top left", "at top right", "at bottom left", "at bottom right")
        row = beta[1, 2 * 8 + 6].reshape(side, side)  # the second quarter's middle: row 2, column 6
        assert masks.shape == (2, 4, 32, 32)
        assert abs(masks[1, 1, ::scale, ::scale] - row / row.max()).max() < 1e-5
        assert np.array_equal(masks[:, :, 1::scale, 1::scale], masks[:, :, ::scale, ::scale])
        assert masks.max((2, 3)).min() == 1


def test_without_attention_there_is_none_to_show():
    nowhere = make(sagan.SAGAN, sagan.HParams(), "sagan", attention="none")
    assert nowhere.attention(np.zeros((2, 32, 32, 3), "uint8"), np.zeros((2, 128))) is None


class Plain:
    """Gradient descent, which does not hide a gradient's scale, and given noise."""

    def optimizers(self):
        return keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.1)

    def noise(self, count, stream=0):
        shape = (8, self.networks["generator"].inputs[0].shape[-1])
        z = np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return tf.constant(z)[replica * count : (replica + 1) * count]


class PlainDCGAN(Plain, dcgan.DCGAN):
    pass


def test_two_replicas_take_the_step_of_one(mirrored):
    batch = {"image": images(8), "label": np.arange(8, dtype="int32") % 3}
    data = tf.data.Dataset.from_tensors(batch).repeat()
    weights = []
    for strategy in (tf.distribute.get_strategy(), mirrored):
        with strategy.scope():
            trainer = make(PlainDCGAN, dcgan.HParams(), "dcgan")
            start = weights_of(trainer.generator) + weights_of(trainer.discriminator)
        trainer.fit(data, steps_per_epoch=2, verbose=0, shuffle=False)
        state = {k: v.numpy() for k, v in trainer.state().items() if "optimizer" not in k}
        weights.append(list(state.values()))
        for v in trainer.generator.variables + trainer.discriminator.variables:
            copies = mirrored.experimental_local_results(v.value)
            assert all(np.array_equal(copies[0], c) for c in copies), v.path
    moved = gap(start, weights[0][: len(start)])
    assert moved > 1e-2
    assert gap(*weights) < 0.01 * moved


def test_replicas_draw_different_noise(mirrored):
    with mirrored.scope():
        trainer = make(dcgan.DCGAN, dcgan.HParams(), "dcgan")
    first, second = mirrored.experimental_local_results(mirrored.run(lambda: trainer.noise(4)))
    assert abs(first.numpy() - second.numpy()).max() > 0.1


FAST = {  # options that make a network's step short
    "ragan": {"encoder_width": 4},
    "cyclegan": {"blocks": 1},
    "attention_gan": {"blocks": 1, "masks": 3, "attention_discriminators": True},
    "unit": {"blocks": 1},
    "uait": {"blocks": 1},
    "ganimorph": {"blocks": 1},
    "ra": {"levels": 1},
    "gain": {"backbone": "resnet9"},
    "deeplab": {"fc": 8},
}


def examples(model, count):
    """{key: array} of `count` images with all that a batch of a model may hold."""
    rng, (height, width) = np.random.default_rng(0), (32, 32)
    found = {key: images(count, seed=i) for i, key in enumerate(("image", "image_a", "image_b"))}
    found["label"] = rng.integers(0, 3, count).astype("int32")
    found["labels"] = rng.integers(0, 2, (count, 2 if model == "deeplab" else 3)).astype("uint8")
    found["classes"] = rng.integers(0, 3, (count, height, width, 1)).astype("uint8")
    keys = (*zoo.get(model).batch, *(["classes"] if model == "gain" else []))
    return {key: found[key] for key in keys}


SLOW = (  # whose trainers prepare nothing of their own
    "ata_gan",
    "attention_gan",
    "discogan",
    "dualgan",
    "ganimorph",
    "ra",
    "uait",
    "unit",
    "efficientnet_lite0",
    "resnet18",
    "squeezenet",
)
VARIANTS = [
    pytest.param(name, None, marks=[pytest.mark.slow] * (name in SLOW)) for name in zoo.names()
]
VARIANTS += [("ragan", "wgan"), ("gain", "gain_ext"), ("deeplab", "sec")]


@pytest.mark.parametrize(("model", "loss"), VARIANTS)
@pytest.mark.filterwarnings("error:.*shuffle")
def test_a_bare_fit_trains_and_the_trainer_can_be_used_at_once(model, loss, without_graphs):
    spec, options = zoo.get(model), {"width": 4, **FAST.get(model, {})}
    if "classes" in zoo.options(model):
        options["classes"] = 3
    variants = get(spec.trainer or model).VARIANTS
    hp, cls = variants[loss or next(iter(variants))]
    rate = {"learning_rate": 0.01} if model == "efficientnet_lite0" else {}  # more is too much
    trainer = make(cls, hp(**rate), model, **options)
    start = {name: v.numpy() for name, v in trainer.state().items()}
    count = 4 * trainer.batches_per_step
    data = tf.data.Dataset.from_tensor_slices(examples(model, count)).batch(count).repeat()
    history = trainer.fit(data, steps_per_epoch=3, verbose=0)
    assert int(trainer.step) == 3 and trainer.prepared
    assert all(np.isfinite(values).all() for values in history.history.values())
    moved = {k for k, v in trainer.state().items() if not np.array_equal(v, start[k])}
    trained = [n.trainable_variables for n, _ in trainer.optimizers_by_role.values()]
    assert len(moved) > sum(map(len, trained)) / 2
    x = images(2)
    if spec.kind == "generation":
        z = np.zeros((2, trainer.networks["generator"].inputs[0].shape[1]), "float32")
        assert trainer.sample(z).shape == (2, 32, 32, 3)
    elif spec.kind == "translation":
        assert trainer.translate(x, "b2a")["translated"].shape == (2, 32, 32, 3)
    elif spec.kind == "guided":
        assert trainer.explain(x)[1].shape == (2, 3, 32, 32)
    else:
        assert trainer.infer(trainer.ema_networks[spec.serve], x).shape[-1] == 3
    if model == "ragan":
        assert trainer.ema_networks["generator"].get_layer("bank").bank.numpy().any()
    if loss == "gain_ext":
        assert trainer.mask_set["image"].shape == (200, 32, 32, 3)  # the four, again and again


def test_fit_takes_a_dict_of_arrays_and_leaves_what_was_prepared(monkeypatch):
    data = {"image": images(6), "label": np.array([0, 1, 2, 2, 1, 0], "int32")}
    trainer = make(classifier.Classifier, classifier.HParams(), "resnet9", classes=3)
    trainer.fit(data, batch_size=3, epochs=2, shuffle=False, verbose=0)
    assert int(trainer.step) == 4
    kernel = classifier.whitening(np.concatenate([data["image"]] * 334)[:2000])
    found = np.asarray(trainer.networks["classifier"].get_layer("whiten").kernel)
    assert abs(found - kernel).max() < 1e-6
    called = []
    monkeypatch.setattr(classifier.Classifier, "prepare", lambda *_: called.append(1))
    trainer.fit(data, batch_size=3, shuffle=False, verbose=0)
    assert int(trainer.step) == 6 and called == []


def test_prepare_reads_what_a_strategy_distributes(mirrored):
    x = images(8)
    data = mirrored.experimental_distribute_dataset(
        tf.data.Dataset.from_tensor_slices({"image": x}).batch(4)
    )
    batches = base.repeated_arrays(data, mirrored)
    read = np.concatenate([next(batches)["image"] for _ in range(3)])
    assert np.array_equal(read, np.concatenate([x, x[:4]]))
    once = base.repeated_arrays(iter([{"image": x}]), tf.distribute.get_strategy())
    next(once)
    with pytest.raises(ValueError, match="can be read only once: call prepare first"):
        next(once)


@pytest.mark.parametrize(
    "model",
    ["resnet9", "gain", "deeplab", "cyclegan", "uait"],
)
def test_without_decay_steps_the_rate_is_constant(model):
    module = get(zoo.get(model).trainer or model)
    hp, cls = next(iter(module.VARIANTS.values()))
    rates = {}
    for steps in (0, 10):
        trainer = make(cls, hp(decay_steps=steps), model, **{"width": 4, **FAST.get(model, {})})
        rates[steps] = []
        for step in (0, 3, 9, 10, 1000):
            trainer.first.iterations.assign(step)
            rates[steps].append(float(trainer.first.learning_rate))
    assert rates[0] == pytest.approx([hp().learning_rate] * 5)
    assert rates[10][-1] < 0.01 * max(rates[10])


@pytest.mark.parametrize(
    ("model", "loss", "critic"),
    [
        ("wgan", "wgan", 2),
        ("wgan", "wgan_gp", 2),
        ("ragan", "wgan", 2),
        pytest.param("sagan", "hinge", None, marks=pytest.mark.slow),
    ],
)
def test_state_is_all_that_a_resume_needs(model, loss, critic):
    hp, cls = get(model).VARIANTS[loss]
    options = {"loss": loss} if model == "wgan" else {}
    hp = hp(n_critic=critic) if critic else hp()
    batches = [{"image": x} for x in tf.split(tf.constant(images(4 * 4 * 2)), 4)]
    resumed(lambda: make(cls, hp, model, **options), batches)


def test_nan_keeps_the_last_good_checkpoint(tmp_path):
    def batches():
        for step in range(1, 9):
            yield {"image": images(8) * (np.nan if step == 5 else 1)}

    shape = {"image": tf.TensorSpec((8, 32, 32, 3), tf.float32)}
    data = tf.data.Dataset.from_generator(batches, output_signature=shape)
    config = dict.fromkeys(run.CONFIG)
    record = run.Run(tmp_path / "r", config, {}, metric="score")
    trainer = make(dcgan.DCGAN, dcgan.HParams(), "dcgan")
    every = {"log": 1, "sample": 2, "save": 2, "eval": 2}

    def draw():
        return image_grid(trainer.sample(np.zeros((4, 100), "float32")))

    recorder = callbacks.Record(record, every, 8, lambda: {"score": 1.0}, draw)
    with pytest.raises(callbacks.NotFinite, match="d_loss and .* at step 5: the last good"):
        trainer.fit(
            data,
            steps_per_epoch=8,
            verbose=0,
            shuffle=False,
            callbacks=[callbacks.NaNGuard(), recorder],
        )
    assert [run.step_of(p) for p in run.list_checkpoints(record.folder)] == [2, 4]
    arrays = run.read_checkpoint(run.list_checkpoints(record.folder)[-1])
    assert all(np.isfinite(a).all() for a in arrays.values())
    assert "NaN" not in record.metrics.read_text()
    trainer.generator.trainable_variables[0].assign_add(
        np.full_like(trainer.generator.trainable_variables[0], np.inf)
    )
    with pytest.raises(callbacks.NotFinite, match="became NaN or infinite by step 6"):
        recorder.prepare(6)


def test_two_replicas_sample_and_save_as_one_does(mirrored):
    found, z = [], np.random.default_rng(0).uniform(-1, 1, (3, 100)).astype("float32")
    for strategy in (tf.distribute.get_strategy(), mirrored):
        with strategy.scope():
            trainer = make(ragan.RAGAN, ragan.HParams(), "ragan")
        attention = trainer.ema_networks["attention"].get_layer("attention_layer")
        attention.weight.assign([0.1, 0.2, 0.3, 0.4])
        trainer.prepare([{"image": images(256)}])
        trainer.before_save()
        bank = trainer.ema_networks["generator"].get_layer("bank").bank.numpy()
        pictures = trainer.sample(z), trainer.sample_with_reference(z, images(3))
        found.append([bank, *pictures])
    assert [a.shape for a in found[0][1:]] == [(3, 32, 32, 3)] * 2
    for one, two in zip(*found):
        assert one.std() > 1e-3 and abs(one - two).max() < 2e-3 * abs(one).max()


class Step:
    """A model that stands at a step."""

    stop_training = False

    def __init__(self, step):
        self.step = tf.constant(step)


def test_tensorboard_is_given_arrays(tmp_path, monkeypatch):
    """TensorFlow caches every Python number that becomes a tensor, and never frees it."""
    given = []

    def noted(write, name, value):
        given.append((type(value), type(tf.summary.experimental.get_step())))
        return write(name, value)

    for kind in ("scalar", "image"):
        write = getattr(tf.summary, kind)
        monkeypatch.setattr(tf.summary, kind, functools.partial(noted, write))
    record = run.Run(tmp_path / "r", dict.fromkeys(run.CONFIG), {})
    every = {"log": 1, "sample": 1, "save": 9, "eval": 9}
    picture = np.zeros((8, 8, 3), np.uint8)
    recorder = callbacks.Record(record, every, 9, lambda: {}, lambda: picture)
    recorder.set_model(Step(3))
    recorder.prepare = lambda step: None
    recorder.on_train_begin()
    recorder.on_train_batch_end(0, {"loss": tf.constant(0.25)})
    record.close()
    assert given == [(np.ndarray, np.ndarray)] * 3  # loss, steps_per_second, the picture
    assert record.rows() == [{"step": 3, "loss": 0.25}]
    (path,) = (tmp_path / "r").glob("events.out.*")
    events = [e for e in tf.compat.v1.train.summary_iterator(str(path)) if e.summary.value]
    values = {v.tag: tf.make_ndarray(v.tensor) for e in events for v in e.summary.value}
    assert {e.step for e in events} == {3} and values["loss"] == np.float32(0.25)


def test_signals_are_handled_in_the_main_thread_alone():
    stop = callbacks.Stop(None, None)
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    thread = threading.Thread(target=stop.on_train_begin)
    thread.start()
    thread.join()
    assert {n: signal.getsignal(n) for n in before} == before
    try:
        stop.on_train_begin()
        assert {signal.getsignal(n) for n in before} == {stop.ask}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

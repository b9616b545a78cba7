"""Training of classifiers: augmentation, schedule, one step, and what a run of it needs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from attention_zoo import zoo
from attention_zoo.common import variables
from attention_zoo.experiments import run_directory as run
from attention_zoo.tests.helpers import publish
from attention_zoo.trainers import classifier, gain, losses
from attention_zoo.zoo import efficientnet_lite, resnet, resnet9, squeezenet, vgg
from attention_zoo.zoo.layers import cam


def make(**hp):
    keras.utils.set_random_seed(0)
    options = {"image_size": 16, "classes": 3, "width": 4}
    networks = [zoo.create("resnet9", **options) for _ in range(2)]
    return classifier.Classifier(*networks, classifier.HParams(**hp), seed=3)


def images(count, seed=1, size=16):
    return np.random.default_rng(seed).uniform(-1, 1, (count, size, size, 3)).astype("float32")


def test_an_augmented_image_is_a_window_of_the_padded_one_or_its_mirror():
    x = images(64, size=8)
    key = tf.constant([5, 7], tf.int64)
    found = classifier.augment(tf.constant(x), 2, True, key).numpy()
    places, mirrored = set(), 0
    for before, after in zip(x, found):
        hits = [
            (dy, dx, flip)
            for flip in (0, 1)
            for dy in range(5)
            for dx in range(5)
            if np.array_equal(
                np.pad(before[:, :: 1 - 2 * flip], ((2, 2), (2, 2), (0, 0)))[
                    dy : dy + 8, dx : dx + 8
                ],
                after,
            )
        ]
        assert len(hits) == 1
        places.add(hits[0][:2])
        mirrored += hits[0][2]
    assert len(places) > 15
    assert 16 < mirrored < 48
    assert np.array_equal(found, classifier.augment(tf.constant(x), 2, True, key).numpy())
    other = classifier.augment(tf.constant(x), 2, True, key + 1).numpy()
    assert not np.array_equal(found, other)
    assert np.array_equal(classifier.augment(tf.constant(x), 0, False, key).numpy(), x)


def test_augment_adds_random_changes():
    """The loss of a step on a constant image: brightness alone changes it."""
    batch = {"image": tf.zeros((4, 16, 16, 3)), "label": tf.constant([0, 1, 2, 0])}
    steps = [make(augment=words, crop=0).train_step(batch) for words in ("", "rotation", "color")]
    plain, turned, coloured = (float(step["loss"]) for step in steps)
    assert turned == pytest.approx(plain, abs=1e-6) and abs(coloured - plain) > 1e-3
    with pytest.raises(ValueError, match="augment takes words of"):
        classifier.HParams(augment="colour")
    assert "augment" not in vars(gain.HParams())  # whose masks would not follow


def test_the_rate_rises_and_falls_to_zero():
    rate = classifier.WarmUpCosine(0.4, 100, 0.2)
    expected = {0: 0, 10: 0.2, 20: 0.4, 60: 0.2, 100: 0, 150: 0}
    assert {t: pytest.approx(float(rate(t)), abs=1e-6) for t in expected} == expected
    again = classifier.WarmUpCosine.from_config(rate.get_config())
    assert float(again(37)) == float(rate(37))


def test_cross_entropy_literal():
    logits = np.array([[0.0, 0.0], [0.0, np.log(3.0)]], "float32")
    loss = losses.cross_entropy(logits=logits, label=np.array([0, 1]))
    assert float(loss) == pytest.approx((np.log(2) + np.log(4 / 3)) / 2, abs=1e-6)
    loss = losses.cross_entropy(logits=logits, label=np.array([0, 1]), smoothing=0.2)
    second = 0.9 * np.log(4 / 3) + 0.1 * np.log(4)
    assert float(loss) == pytest.approx((np.log(2) + second) / 2, abs=1e-6)


def test_whitened_patches_are_white():
    x = images(400, size=12)
    x = (x + x[:, :1] + x[:, :, :1] + 0.3 * x[..., :1]).astype("float32")  # correlated
    kernel = classifier.whitening(x)
    assert kernel.shape == (2, 2, 3, 24)
    found = np.asarray(keras.ops.conv(x, kernel.astype("float32"), padding="valid"))
    flat = found.reshape(-1, 24)
    second_moments = flat.T @ flat / len(flat)
    expected = np.block([[np.eye(12), -np.eye(12)], [-np.eye(12), np.eye(12)]])
    assert abs(second_moments - expected).max() < 0.05
    flat = classifier.whitening(np.zeros((2, 4, 4, 3)))  # divided by the root of 5e-4 alone
    assert np.sqrt((flat**2).sum((0, 1, 2))) == pytest.approx([44.72136] * 24)


def test_the_whitening_layer_is_set_from_the_data_and_stays():
    keras.utils.set_random_seed(0)
    networks = [zoo.create("resnet9", image_size=16, classes=3, width=4) for _ in range(2)]
    trainer = classifier.Classifier(*networks, classifier.HParams(decay_steps=3), 0)
    trainer.prepare(iter([{"image": images(100, seed)} for seed in range(21)]))
    layers = [n["classifier"].get_layer("whiten") for n in networks]
    expected = classifier.whitening(np.concatenate([images(100, seed) for seed in range(20)]))
    for layer in layers:
        assert abs(np.asarray(layer.kernel) - expected).max() < 1e-6
    batch = {"image": tf.constant(images(6)), "label": tf.constant([0, 1, 2, 0, 1, 2])}
    trainer.train_step(batch)
    trainer.train_step(batch)
    assert abs(np.asarray(layers[0].kernel) - expected).max() < 1e-6
    assert abs(np.asarray(layers[1].kernel) - expected).max() < 1e-6


def test_a_step_is_nesterov_on_loss_and_decay():
    hp = {"learning_rate": 0.3, "decay_steps": 10, "warm_up": 0.0, "crop": 0, "flip": False}
    hp["smoothing"] = 0.0
    trainer, plain = (make(weight_decay=0.1, **hp) for _ in range(2))
    batch = {"image": tf.constant(images(6)), "label": tf.constant([0, 1, 2, 0, 1, 2])}
    network = plain.networks["classifier"]
    with tf.GradientTape() as tape:
        logits = network(batch["image"], training=True)
        loss = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(batch["label"], logits)
        )
    trained = network.trainable_variables
    gradients = tape.gradient(loss, trained)
    logs = trainer.train_step(batch)
    assert float(logs["loss"]) == pytest.approx(float(loss), abs=1e-6)
    for w, g, after in zip(trained, gradients, trainer.networks["classifier"].trainable_variables):
        g = g + 0.1 * w.value if len(w.shape) > 1 else g
        expected = w.value - 0.3 * (1 + 0.9) * g  # the first step: v = -lr g, w + 0.9 v - lr g
        assert abs(np.asarray(after) - expected.numpy()).max() < 1e-5


def test_a_resume_keeps_the_whitening_of_the_run(monkeypatch):
    def batches(seed=0):
        return iter([{"image": images(100, s)} for s in range(seed, seed + 20)])

    first = make(decay_steps=4)
    first.prepare(batches())
    batch = {"image": tf.constant(images(6)), "label": tf.constant([0, 1, 2, 0, 1, 2])}
    first.train_step(batch)
    second = make(decay_steps=4)
    run.assign(second.state(), {k: v.numpy() for k, v in first.state().items()}, "state")
    second.prepare(batches(50))  # other images: what was restored must stand
    for trainer in (first, second):
        trainer.train_step(batch)
    ours, theirs = ({k: v.numpy() for k, v in t.state().items()} for t in (first, second))
    assert [k for k in ours if ours[k].tobytes() != theirs[k].tobytes()] == []


@pytest.mark.slow
def test_two_replicas_take_the_step_of_one(mirrored):
    hp = {"decay_steps": 4, "learning_rate": 0.1, "crop": 0, "flip": False}
    x, label = images(8), np.array([0, 1, 2, 0, 1, 2, 0, 1])
    data = tf.data.Dataset.from_tensors({"image": x, "label": label.astype("int32")}).repeat()
    weights = []
    for strategy in (tf.distribute.get_strategy(), mirrored):
        with strategy.scope():
            trainer = make(**hp)
        start = [v.numpy() for v in trainer.networks["classifier"].variables]
        trainer.fit(data, steps_per_epoch=2, verbose=0, shuffle=False)
        weights.append([v.numpy() for v in trainer.networks["classifier"].variables])
    moved = max(abs(a - b).max() for a, b in zip(start, weights[0]))
    assert moved > 1e-2
    assert max(abs(a - b).max() for a, b in zip(*weights)) < 0.02 * moved


def test_it_learns_three_colours_and_its_average_answers():
    trainer = make(decay_steps=40, ema_decay=0.5, learning_rate=0.1)
    colours = np.array([[0.8, -0.5, -0.5], [-0.5, 0.8, -0.5], [-0.5, -0.5, 0.8]])

    def batch(seed, count=32):
        rng = np.random.default_rng(seed)
        label = rng.integers(0, 3, count)
        noise = rng.normal(0, 0.2, (count, 16, 16, 3))
        x = np.clip(colours[label][:, None, None] + noise, -1, 1).astype("float32")
        return x, label.astype("int32")

    step = tf.function(trainer.train_step)
    for seed in range(40):
        x, label = batch(seed)
        step({"image": tf.constant(x), "label": tf.constant(label)})
    x, label = batch(99, 230)
    logits = trainer.infer(trainer.ema_networks["classifier"], x)
    assert logits.shape == (230, 3)
    assert (logits.argmax(1) == label).mean() > 0.95


def test_the_default_hyper_parameters_learn():
    trainer = make()
    colours = np.array([[0.8, -0.5, -0.5], [-0.5, 0.8, -0.5], [-0.5, -0.5, 0.8]])
    label = np.random.default_rng(0).integers(0, 3, 32).astype("int32")
    x = (colours[label][:, None, None] + 0.2 * images(32)).astype("float32")
    data = tf.data.Dataset.from_tensors({"image": x, "label": label}).repeat()
    network = trainer.networks["classifier"]
    start = [np.array(v) for v in network.trainable_variables]
    loss = trainer.fit(data, steps_per_epoch=1, epochs=20, verbose=0).history["loss"]
    moved = [abs(a - b).max() for a, b in zip(start, network.trainable_variables)]
    assert min(moved) > 1e-3
    assert np.mean(loss[-3:]) < 0.7 * loss[0]


def test_every_hyper_parameter_is_checked_and_acts():
    with pytest.raises(ValueError, match="warm_up must lie in"):
        classifier.HParams(warm_up=2.0)
    batch = {"image": tf.constant(images(8)), "label": tf.constant([0, 1, 2, 0, 1, 2, 0, 1])}
    first = make()
    pair = first.networks, first.ema_networks  # for all, as to build them takes longest
    start = [v.numpy() for v in first.networks["classifier"].variables]

    def after(**hp):
        pair[0]["classifier"].set_weights(start)
        hparams = classifier.HParams(**{"decay_steps": 4, **hp})
        trainer = classifier.Classifier(*pair, hparams, seed=3)
        for _ in range(2):
            trainer.train_step(batch)
        return np.concatenate([np.ravel(v) for v in trainer.ema_networks["classifier"].variables])

    usual = after()
    assert np.array_equal(after(), usual)
    for hp in (
        {"learning_rate": 0.01},
        {"decay_steps": 8},
        {"warm_up": 0.9},
        {"momentum": 0.5},
        {"weight_decay": 0.1},
        {"smoothing": 0.5},
        {"head_rate": 3.0},
        {"frozen_statistics": True},
        {"crop": 1},
        {"flip": False},
        {"ema_decay": 0.0},
    ):
        assert abs(after(**hp) - usual).max() > 1e-7, hp


def test_the_head_s_rate_is_a_factor_of_the_backbone_s():
    """Of two trainers of equal weights one moves its last layer five times as far, and all else
    equally far."""
    batch = {"image": tf.constant(images(6)), "label": tf.constant([0, 1, 2, 0, 1, 2])}
    moves = []
    for rate in (1.0, 5.0):
        trainer = make(learning_rate=0.01, head_rate=rate)
        trained = trainer.networks["classifier"].trainable_variables
        before = [np.array(v) for v in trained]
        trainer.train_step(batch)
        moves.append({v.path: np.asarray(v) - old for v, old in zip(trained, before)})
    usual, fast = moves
    for path, move in usual.items():
        factor = 5 if path.startswith("logits/") else 1
        assert abs(fast[path] - factor * move).max() < 1e-6, path
    assert abs(usual["logits/kernel"]).max() > 1e-4


def test_frozen_statistics_are_used_and_kept():
    trainer = make(frozen_statistics=True)
    network = trainer.networks["classifier"]
    averages = [v for v in network.variables if "moving_" in v.path]
    for v in averages:
        v.assign(v + 0.5)
    before = [np.array(v) for v in averages]
    x, label = images(4), tf.constant([0, 1, 2, 0])
    x_shifted = classifier.augment(tf.constant(x), 2, True, trainer.key())
    logits = network(x_shifted, training=False)
    expected = losses.cross_entropy(logits=logits, label=label, smoothing=0.1)
    loss = trainer.train_step({"image": tf.constant(x), "label": label})["loss"]
    assert float(loss) == pytest.approx(float(expected), abs=1e-6)
    assert before and all(np.array_equal(old, v) for old, v in zip(before, averages))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet9", {"width": 4}),
        ("resnet18", {"width": 4}),
        ("squeezenet", {"width": 4, "head": "conv"}),
        ("vgg16", {"width": 2}),
        ("efficientnet_lite0", {"width": 4}),
    ],
)
def test_every_classifier_starts_from_weights_of_other_classes(name, options, tmp_path):
    """All but the last layer is that of the published network, at another image size too."""
    old = {**options, "image_size": 32, "classes": 5}
    published = zoo.create(name, **old)["classifier"]
    for i, v in enumerate(published.variables):
        v.assign(v + images(1, seed=i).mean() + 0.01)
    publish(name, published, old, tmp_path)
    new = {**options, "image_size": 48, "classes": 3, "start": f"{name}:{tmp_path}/mine"}
    made = [zoo.create(name, **new) for _ in range(2)]
    trainer = classifier.Classifier(*made, classifier.HParams(), seed=0)
    last = variables.last_layer(made[0]["classifier"]).name
    head = [np.array(v) for v in made[0]["classifier"].get_layer(last).weights]
    trainer.prepare(iter([]))
    for networks in made:
        ours = {v.path: np.asarray(v) for v in networks["classifier"].variables}
        theirs = {v.path: np.asarray(v) for v in published.variables}
        assert theirs.keys() == ours.keys()
        for path in theirs:
            if not path.startswith(f"{last}/"):
                assert abs(ours[path] - theirs[path]).max() < 2e-3, path  # stored in float16
    kept = made[0]["classifier"].get_layer(last).weights
    assert all(np.array_equal(old, v) for old, v in zip(head, kept))
    with pytest.raises(zoo.WeightsError, match="does not fit the backbone"):
        zoo.create(name, **{**new, "width": 8}).load_start_weights()


def test_the_paper_s_resnet_18_by_hand():
    stages = 0
    for inputs, width in ((64, 64), (64, 128), (128, 256), (256, 512)):
        first = 9 * inputs * width + 9 * width * width + 2 * 4 * width
        shortcut = (inputs * width + 4 * width) if inputs != width else 0
        stages += first + shortcut + 2 * (9 * width * width + 4 * width)
    stem, head = 49 * 3 * 64 + 4 * 64, 512 * 1000 + 1000
    setting = "image_size=224,width=64,classes=1000"
    assert zoo.get("resnet18").params[setting] == {"classifier": stem + stages + head}


def test_resnet_9_by_hand():
    def stage(inputs, width):
        return 9 * inputs * width + 2 * 9 * width * width + 3 * 4 * width

    whiten = 4 * 3 * 24 + 24
    stages = stage(24, 64) + stage(64, 128) + stage(128, 256)
    assert zoo.get("resnet9").params["image_size=32"] == {
        "classifier": whiten + stages + 256 * 10 + 10
    }
    assert zoo.get("resnet9").params["image_size=32,stages=2"] == {
        "classifier": whiten + stages - stage(128, 256) + 128 * 10 + 10
    }
    with pytest.raises(ValueError, match="stages takes 2 or 3"):
        resnet9.build(stages=1)


def test_maps_have_the_paper_s_sizes():
    small = resnet9.build(image_size=32, width=4)["classifier"]
    assert small.get_layer("middle").output.shape[1:] == (8, 8, 8)
    assert small.get_layer("map").output.shape[1:] == (4, 4, 16)
    assert small.get_layer("features").output.shape[1:] == (16,)
    finer = resnet9.build(image_size=32, width=4, stages=2)["classifier"]
    assert finer.get_layer("map").output.shape[1:] == (8, 8, 8)
    small = resnet.build(image_size=32, width=4)["classifier"]
    assert small.get_layer("map").output.shape[1:] == (4, 4, 32)
    assert small.get_layer("middle").output.shape[1:] == (8, 8, 16)
    assert small.get_layer("features").output.shape[1:] == (32,)
    large = resnet.build(image_size=224, width=4)["classifier"]
    assert large.get_layer("map").output.shape[1:] == (7, 7, 32)
    with pytest.raises(ValueError, match="classes 2"):
        resnet.build(classes=1)


def test_squeezenet_and_vgg_16_by_hand():
    def fire(inputs, squeeze):
        return inputs * squeeze + squeeze + (1 + 9) * squeeze * 4 * squeeze + 8 * squeeze

    widths = [16, 16, 32, 32, 48, 48, 64, 64]
    fires = sum(fire(inputs, s) for inputs, s in zip([64, *(8 * s for s in widths)], widths))
    whole = 27 * 64 + 64 + fires + 512 * 1000 + 1000
    setting = "image_size=224,classes=1000,head=conv"
    assert zoo.get("squeezenet").params[setting] == {"classifier": whole}

    channels = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    convolutions = sum(9 * a * b + b for a, b in zip(channels, channels[1:]))
    units = [512 * 49, 4096, 4096, 1000]
    dense = sum(a * b + b for a, b in zip(units, units[1:]))
    assert zoo.get("vgg16").params == {
        "image_size=32": {"classifier": convolutions + 512 * 10 + 10},
        "image_size=224,classes=1000,head=fc": {"classifier": convolutions + dense},
    }


@pytest.mark.parametrize(
    ("build", "options", "shapes"),
    [
        (squeezenet.build, {"image_size": 32}, [(8, 8, 48), (8, 8, 64), (64,)]),
        (squeezenet.build, {"image_size": 67}, [(16, 16, 48), (16, 16, 64), (64,)]),
        (squeezenet.build, {"image_size": 224}, [(13, 13, 48), (13, 13, 64), (64,)]),
        (squeezenet.build, {"image_size": 64, "head": "conv"}, [(16, 16, 48), (16, 16, 5), (5,)]),
        (
            squeezenet.build,
            {"image_size": 224, "output_stride": 8},
            [(27, 27, 48), (27, 27, 64), (64,)],
        ),
        (resnet.build, {"image_size": 224}, [(14, 14, 32), (7, 7, 64), (64,)]),
        (
            resnet.build,
            {"image_size": 224, "output_stride": 8},
            [(28, 28, 32), (28, 28, 64), (64,)],
        ),
        (
            resnet.build,
            {"image_size": 32, "output_stride": 4},
            [(8, 8, 32), (8, 8, 64), (64,)],
        ),
        (efficientnet_lite.build, {"image_size": 64}, [(4, 4, 28), (2, 2, 320), (320,)]),
        (efficientnet_lite.build, {"image_size": 75}, [(5, 5, 28), (3, 3, 320), (320,)]),
        (
            efficientnet_lite.build,
            {"image_size": 64, "output_stride": 16},
            [(4, 4, 28), (4, 4, 320), (320,)],
        ),
        (
            efficientnet_lite.build,
            {"image_size": 64, "output_stride": 8},
            [(8, 8, 28), (8, 8, 320), (320,)],
        ),
        (vgg.build, {"image_size": 32}, [(4, 4, 64), (4, 4, 64), (64,)]),
        (vgg.build, {"image_size": 128}, [(16, 16, 64), (8, 8, 64), (64,)]),
        (vgg.build, {"image_size": 32, "head": "fc"}, [(4, 4, 64), (2, 2, 64), (512,)]),
    ],
)
def test_maps_and_features(build, options, shapes, without_graphs):
    keras.utils.set_random_seed(0)
    network = build(classes=5, width=8, **options)["classifier"]
    layers = [network.get_layer(name) for name in ("middle", "map", "features")]
    assert [layer.output.shape[1:] for layer in layers] == shapes
    inner = keras.Model(network.input, [layer.output for layer in layers] + [network.output])
    _, maps, features, logits = inner.predict_on_batch(images(3, size=options["image_size"]))
    assert logits.shape == (3, 5)
    assert abs(logits - logits[0]).max() > 1e-6
    if options.get("head") == "fc":
        with pytest.raises(ValueError, match="no global average"):
            cam.explained(network)
        return
    assert abs(maps.mean((1, 2)) - features).max() < 1e-5 * features.max()
    if options.get("head") == "conv":
        assert np.array_equal(features, logits)
        assert logits.min() >= 0
    _, shown = cam.explained(network).predict_on_batch(images(3, size=options["image_size"]))
    share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    dense = network.get_layer("logits")
    kernel = np.asarray(dense.kernel) if hasattr(dense, "kernel") else np.eye(5)
    expected = np.einsum("bhwi,ij,bj->bhw", maps, kernel, share)
    assert abs(shown - expected).max() < 1e-5 * abs(expected).max()


@pytest.mark.parametrize(
    ("build", "wrong", "line"),
    [
        (squeezenet.build, {"image_size": 31}, "image_size must be at least 32"),
        (squeezenet.build, {"width": 6}, "width a multiple of 4"),
        (squeezenet.build, {"head": "fc"}, "squeezenet has gap, conv"),
        (efficientnet_lite.build, {"width": 6}, "width a multiple of 4"),
        (efficientnet_lite.build, {"output_stride": 4}, "must be one of 8, 16, 32, not 4"),
        (squeezenet.build, {"output_stride": 4}, "must be one of 8, 16, 32, not 4"),
        (resnet.build, {"output_stride": 64}, "must be one of 4, 8, 16, 32, not 64"),
        (resnet9.build, {"maps": "max"}, "unknown maps 'max': there are soft"),
        (vgg.build, {"image_size": 31}, "image_size must be at least 32"),
        (vgg.build, {"classes": 1}, "classes 2"),
        (vgg.build, {"head": "conv"}, "vgg16 has gap, fc"),
        (vgg.build, {"normalise": "caffe"}, "there are none, imagenet"),
        (resnet.build, {"normalise": "caffe"}, "there are none, imagenet"),
    ],
)
def test_a_classifier_that_cannot_be_built_is_refused(build, wrong, line):
    with pytest.raises(ValueError, match=line):
        build(**wrong)


def test_efficientnet_lite0_by_hand():
    """The rows of its table 1: kernels, a scale and an offset for each normalised channel, and two
    statistics, which its authors do not count."""
    rows = ((1, 3, 16, 1), (6, 3, 24, 2), (6, 5, 40, 2), (6, 3, 80, 3))
    rows += ((6, 5, 112, 3), (6, 5, 192, 4), (6, 3, 320, 1))
    total, inputs = 27 * 32 + 2 * 32, 32
    for expansion, side, outputs, count in rows:
        for _ in range(count):
            inner = expansion * inputs
            total += (inputs * inner + 2 * inner) * (expansion > 1)
            total += side**2 * inner + 2 * inner + inner * outputs + 2 * outputs
            inputs = outputs
    total += 320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000
    assert total == 4_652_008
    network = efficientnet_lite.build()["classifier"]
    assert sum(np.prod(v.shape) for v in network.trainable_variables) == total
    statistics = sum(np.prod(v.shape) for v in network.non_trainable_variables)
    params = zoo.get("efficientnet_lite0").params
    assert params == {"image_size=224,classes=1000": {"classifier": total + statistics}}


@pytest.mark.parametrize(
    ("build", "strides", "places"),
    [
        (resnet.build, (32, 16), np.s_[:, ::2, ::2]),
        (resnet.build, (32, 4), np.s_[:, ::8, ::8]),
        (squeezenet.build, (32, 8), np.s_[:, 1::2, 1::2]),
    ],
)
def test_a_smaller_output_stride_adds_values_between_those_of_the_strided_map(
    build, strides, places
):
    found = []
    for stride in strides:
        keras.utils.set_random_seed(0)
        network = build(image_size=128, width=4, classes=2, output_stride=stride)["classifier"]
        inner = keras.Model(network.input, network.get_layer("map").output)
        found.append(inner.predict_on_batch(images(1, size=128)))
    strided, dense = found
    assert dense.shape[1] > 1.9 * strided.shape[1]
    assert abs(strided - dense[places]).max() < 1e-4 * abs(strided).max()


def test_dilation_takes_the_place_of_strides():
    """With output stride 16 or 8 the kernels see the same pixels: the dilated map holds the values
    of the strided one at every second place, where the image's size puts both at the same pixels.
    """
    options = {"image_size": 129, "classes": 2, "width": 8}
    networks = {}
    for stride in (32, 16, 8):
        keras.utils.set_random_seed(0)
        network = efficientnet_lite.build(**options, output_stride=stride)["classifier"]
        networks[stride] = keras.Model(network.input, network.get_layer("block10_project").output)
    x = images(1, size=129)
    strided, same, dense = (networks[s].predict_on_batch(x) for s in (32, 16, 8))
    assert np.array_equal(strided, same)  # block 10 has stride 16
    assert dense.shape == (1, 17, 17, 28)
    assert abs(strided - dense[:, ::2, ::2]).max() < 1e-4 * abs(strided).max()


@pytest.mark.parametrize("build", [resnet.build, squeezenet.build, vgg.build])
def test_imagenet_s_scale_is_that_of_pictures_from_0_to_1(build):
    plain = build(classes=5, width=4)["classifier"]
    scaled = build(classes=5, width=4, normalise="imagenet")["classifier"]
    assert [v.path for v in scaled.variables] == [v.path for v in plain.variables]
    scaled.set_weights(plain.get_weights())
    x = images(3, size=32)
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = plain.predict_on_batch((((x + 1) / 2 - mean) / deviation).astype("float32"))
    found = scaled.predict_on_batch(x)
    assert abs(found - expected).max() < 1e-5 * abs(expected).max()
    assert abs(found - plain.predict_on_batch(x)).max() > 0.01 * abs(expected).max()


@pytest.mark.parametrize("size", [1, 3, 7, 10, 14])
def test_the_average_to_7_against_a_loop(size):
    x = images(2, size=size)
    found = np.asarray(vgg.AverageTo(7)(x))
    for i in range(7):
        for j in range(7):
            rows, columns = ((k * size // 7, -(-(k + 1) * size // 7)) for k in (i, j))
            cell = x[:, slice(*rows), slice(*columns)].mean((1, 2))
            assert abs(found[:, i, j] - cell).max() < 1e-6
    assert size != 7 or np.array_equal(found, x)

"""Soft-CAM against equation 1 in a loop; ATA-GAN's two outputs, its teacher, and its step."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from attention_zoo import zoo
from attention_zoo.tests.helpers import drawn, gap, shared, weights_of
from attention_zoo.trainers import ata_gan, dcgan, losses
from attention_zoo.zoo import weights
from attention_zoo.zoo.layers import cam, convolution


def dense(channels, classes):
    """A dense layer whose kernel and bias are not small."""
    layer = keras.layers.Dense(classes)
    layer.build((None, channels))
    layer.kernel.assign(drawn(channels, classes, seed=2))
    layer.bias.assign(drawn(classes, seed=3) * 5)
    return layer


@pytest.mark.parametrize("classes", [1, 3])
def test_soft_cam_is_equation_1(classes):
    features, layer = drawn(2, 3, 4, 5), dense(5, classes)
    logits = np.asarray(layer(features.mean((1, 2))))
    found = np.asarray(cam.soft_cam(cam.class_maps(features, layer), logits))
    kernel = np.asarray(layer.kernel)
    for b in range(2):
        response = np.exp(logits[b]) / np.exp(logits[b]).sum()
        for y in range(3):
            for x in range(4):
                expected = 0
                for j in range(classes):
                    for i in range(5):
                        expected += response[j] * features[b, y, x, i] * kernel[i, j]
                assert abs(found[b, y, x] - expected) < 1e-5


def test_the_weights_of_the_classes_sum_to_one():
    one = drawn(2, 4, 4)
    maps = np.repeat(one[..., None], 7, axis=-1)
    assert abs(np.asarray(cam.soft_cam(maps, 10 * drawn(2, 7))) - one).max() < 1e-6


def test_soft_cam_lies_between_the_classes_and_a_sure_answer_is_plain_cam():
    maps = np.stack([np.full((1, 2, 2), 3.0), np.full((1, 2, 2), 7.0)], -1)
    third = np.log([[2.0, 1.0]])
    assert np.asarray(cam.soft_cam(maps, third)).ravel() == pytest.approx([13 / 3] * 4, rel=1e-6)
    assert np.asarray(cam.cam(maps, [1])).ravel().tolist() == [7.0] * 4
    assert np.asarray(cam.soft_cam(maps, [[0.0, 99.0]])).ravel().tolist() == [7.0] * 4


def test_with_one_class_soft_cam_is_plain_cam():
    maps, logits = drawn(3, 4, 4, 1), drawn(3, 1)
    assert np.array_equal(cam.soft_cam(maps, logits), cam.cam(maps, [0, 0, 0]))
    assert np.array_equal(cam.soft_cam(maps, logits), maps[..., 0])


def test_normalised_by_hand():
    maps = np.array([[[1.0, 2.0], [3.0, 5.0]], [[-4.0, 4.0], [4.0, 4.0]]])
    expected = {
        "none": maps,
        "min_max": [[[0, 0.25], [0.5, 1]], [[0, 1], [1, 1]]],
        "sum": [[[0, 1 / 7], [2 / 7, 4 / 7]], [[0, 1 / 3], [1 / 3, 1 / 3]]],
        "norm": [maps[0] / 39**0.5, maps[1] / 8],
    }
    assert set(expected) == set(cam.NORMALISE)
    for how, values in expected.items():
        assert abs(np.asarray(cam.normalised(maps, how)) - values).max() < 1e-6, how
        flat = np.asarray(cam.normalised(np.full((1, 3, 3), 2.0), how))
        assert np.isfinite(flat).all()
    with pytest.raises(ValueError, match="none, min_max, sum, norm"):
        cam.normalised(maps, "max")


def test_resized_by_hand():
    # 2 -> 4 samples: places 0, 1/4, 3/4, 1 between the two
    maps = np.array([[[0.0, 4.0], [8.0, 12.0]]], "float32")
    rows = np.array([0.0, 2.0, 6.0, 8.0])[:, None]
    assert np.asarray(cam.resized(maps, 4))[0].tolist() == (rows + [0, 1, 3, 4]).tolist()
    # 4 -> 2 samples: a triangle four wide, 1, 3, 3, 1 of 8 parts, of which the rim cuts one off
    line = np.broadcast_to([0.0, 7.0, 70.0, 700.0], (1, 4, 4)).astype("float32")
    assert np.asarray(cam.resized(line, 2))[0] == pytest.approx(
        np.array([[(3 * 7 + 70) / 7, (7 + 3 * 70 + 3 * 700) / 7]] * 2), rel=1e-6
    )
    assert np.array_equal(cam.resized(line, 4), line)
    assert cam.resized(drawn(2, 3, 5), 4).shape == (2, 4, 4)


def test_resized_agrees_with_keras():
    maps = drawn(2, 5, 5)
    for size in (12, 3):
        theirs = keras.ops.image.resize(maps[..., None], (size, size), antialias=True)[..., 0]
        assert abs(np.asarray(cam.resized(maps, size)) - np.asarray(theirs)).max() < 1e-6


def answer(network, x):
    return [np.asarray(out) for out in keras.tree.flatten(network(x, training=False))]


@pytest.mark.parametrize(
    ("name", "options"), [("resnet18", {}), ("squeezenet", {}), ("squeezenet", {"head": "conv"})]
)
def test_a_classifier_is_explained_by_its_own_weights(name, options, tmp_path):
    classifier = zoo.create(name, image_size=32, width=4, classes=3, **options)["classifier"]
    for i, v in enumerate(classifier.trainable_variables):
        v.assign_add(0.1 * drawn(*v.shape, seed=i))
    network = cam.explained(classifier, classes="winner", normalise="norm", size=9)
    x = drawn(2, 32, 32, 3)
    logits, shown = answer(network, x)
    assert shown.shape == (2, 9, 9)
    assert np.array_equal(logits, answer(classifier, x)[0])
    assert len(network.variables) == len(classifier.variables)
    network.save(tmp_path / "network.keras")
    again = answer(keras.saving.load_model(tmp_path / "network.keras"), x)
    assert np.array_equal(again[0], logits)
    assert np.array_equal(again[1], shown)

    logits, shown = answer(cam.explained(classifier), x)
    [features] = answer(keras.Model(classifier.input, classifier.get_layer("map").output), x)
    dense = classifier.get_layer("logits")
    maps = np.asarray(cam.class_maps(features, dense))
    assert abs(np.asarray(cam.soft_cam(maps, logits)) - shown).max() < 1e-6 * abs(maps).max()
    gaps = maps.mean((1, 2)) + np.asarray(getattr(dense, "bias", 0)) - logits
    assert abs(gaps).max() < 1e-6 * abs(maps).max()
    assert abs(shown).max() > 1e-3


def test_every_option_of_the_layer_changes_the_map():
    maps, logits = drawn(2, 4, 4, 3), drawn(2, 3)
    usual = np.asarray(cam.CAM()(maps, logits))
    assert np.array_equal(usual, cam.soft_cam(maps, logits))
    winner = np.asarray(cam.CAM(classes="winner")(maps, logits))
    assert np.array_equal(winner, cam.cam(maps, logits.argmax(1)))
    assert abs(winner - usual).max() > 0.1
    assert np.asarray(cam.CAM(normalise="min_max")(maps, logits)).min() == 0
    assert cam.CAM(size=6)(maps, logits).shape == (2, 6, 6)
    positive = np.asarray(cam.CAM(relu=True)(maps, logits))
    assert np.array_equal(positive, np.maximum(usual, 0)) and usual.min() < -0.1
    for wrong in ({"classes": "all"}, {"normalise": "max"}):
        with pytest.raises(ValueError, match="there are"):
            cam.CAM(**wrong)


def test_the_option_maps_chooses_the_map_that_explains_a_classifier():
    x, found = drawn(2, 32, 32, 3), {}
    for maps in cam.MAPS:
        keras.utils.set_random_seed(0)
        options = {"image_size": 32, "width": 4, "classes": 3, "maps": maps}
        network = zoo.create("resnet9", **options)["classifier"]
        [features] = answer(keras.Model(network.input, network.get_layer("map").output), x)
        mean, kernel = features[0].mean((0, 1)), drawn(16, 3, seed=2)
        kernel -= np.outer(mean, mean @ kernel) / (mean @ mean)  # maps have both signs
        network.get_layer("logits").kernel.assign(kernel)
        network.get_layer("logits").bias.assign([0.0, 0.5, 0.2])
        logits, found[maps] = answer(cam.explained(network), x)
    classes = features @ kernel
    share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    soft = np.einsum("bhwc,bc->bhw", classes, share)
    winner = classes[np.arange(2), :, :, logits.argmax(1)]
    expected = {"soft": soft, "soft_relu": np.maximum(soft, 0), "winner": winner}
    expected |= {"winner_relu": np.maximum(winner, 0), "activation": (features**2).sum(-1)}
    for maps, values in found.items():
        assert abs(values - expected[maps]).max() < 1e-5 * abs(expected[maps]).max(), maps
    assert abs(soft - winner).max() > 1e-2 and soft.min() < -1e-2 < 1e-2 < soft.max()
    assert np.array_equal(answer(cam.explained(network, "soft"), x)[1], found["soft"])
    with pytest.raises(ValueError, match="unknown maps 'max': there are soft, soft_relu"):
        zoo.create("resnet9", maps="max")


CONV = keras.layers.Conv2D
STACKS = {  # on images of an even and an odd size
    "same": lambda: [CONV(4, 3, strides=2, padding="same"), CONV(4, 5, 2, padding="same")],
    "padded": lambda: [keras.layers.ZeroPadding2D(1), CONV(4, 3, 2), CONV(4, 3, padding="same")],
    "uneven": lambda: [keras.layers.ZeroPadding2D(((2, 1), (2, 1))), CONV(4, 5, 2)],
    "around": lambda: [convolution.Conv2D(4, 7, strides=2, around=3)],
    "valid": lambda: [CONV(4, 3, 2), keras.layers.AveragePooling2D(3, 2), CONV(4, 1, 2)],
    "dilated": lambda: [CONV(4, 3, 2, padding="same"), CONV(4, 3, padding="same", dilation_rate=2)],
    "pooled": lambda: [CONV(4, 3, padding="same"), keras.layers.AveragePooling2D(2)],
}


@pytest.mark.parametrize("size", [48, 49])
@pytest.mark.parametrize("stack", STACKS)
def test_centres_are_the_middle_of_the_pixels_that_a_value_depends_on(stack, size):
    image = x = keras.Input((size, size, 3))
    for layer in STACKS[stack]():
        x = layer(x)
    network = keras.Model(image, x)
    first, step = cam.centres(network, x)
    pixels = tf.constant(drawn(1, size, size, 3))
    for i in (4, 5):
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            value = tf.reduce_sum(network(pixels)[:, i, i])
        seen = np.flatnonzero(abs(tape.gradient(value, pixels)).numpy().sum((0, 2, 3)))
        assert (seen[0] + seen[-1]) / 2 == first + i * step


@pytest.mark.parametrize(
    ("name", "size", "stride", "expected"),
    [
        ("resnet18", 128, 32, (0, 32)),
        ("resnet18", 128, 16, (0, 16)),
        ("resnet18", 64, 8, (0, 8)),
        ("efficientnet_lite0", 128, 32, (31, 32)),
        ("efficientnet_lite0", 128, 16, (7, 16)),
        ("efficientnet_lite0", 129, 16, (0, 16)),
        ("squeezenet", 64, 32, (3, 4)),
        ("vgg16", 128, None, (7.5, 16)),
        ("resnet9", 32, None, (4, 8)),
    ],
)
def test_centres_of_the_classifiers(name, size, stride, expected):
    stride = {} if stride is None else {"output_stride": stride}
    network = zoo.create(name, image_size=size, width=4, **stride)["classifier"]
    assert cam.centres(network, network.get_layer("map").output) == expected


def test_a_centred_map_has_each_value_where_it_belongs():
    options = {"image_size": 64, "width": 4, "classes": 3, "output_stride": 8}
    x, found = drawn(2, 64, 64, 3), []
    for centred in (False, True):
        keras.utils.set_random_seed(0)
        network = zoo.create("resnet18", centred=centred, **options)["classifier"]
        found.append(answer(cam.explained(network, "winner_relu"), x))
    (logits, small), (same, large) = found
    assert np.array_equal(logits, same)
    assert small.shape == (2, 8, 8) and large.shape == (2, 64, 64)
    assert abs(large[:, ::8, ::8] - small).max() < 1e-6 * small.max()
    between = (small[:, 1:, :-1] + small[:, :-1, :-1] + small[:, 1:, 1:] + small[:, :-1, 1:]) / 4
    assert abs(large[:, 4::8, 4::8][:, :7, :7] - between).max() < 1e-6 * small.max()
    assert np.array_equal(large[:, 56:, 56:], np.broadcast_to(small[:, -1:, -1:], (2, 8, 8)))


def test_a_network_without_a_global_average_is_refused():
    classifier = zoo.create("vgg16", image_size=32, width=4, head="fc")["classifier"]
    with pytest.raises(ValueError, match="no global average"):
        cam.explained(classifier)


# ATA-GAN

TINY = {"image_size": 32, "width": 8}


def make(cls=ata_gan.ATAGAN, options=(), **hp):
    keras.utils.set_random_seed(0)
    options = {**TINY, **dict(options)}
    networks = [zoo.create("ata_gan", **options) for _ in range(2)]
    return cls(*networks, ata_gan.HParams(**hp), seed=3)


def test_ata_gan_counts_by_hand():
    down = 16 * 3 * 64 + 64 + 16 * 64 * 128 + 4 * 128
    at_32 = down + 9 * 128 * 256 + 4 * 256 + 257
    at_64 = down + 16 * 128 * 256 + 4 * 256 + 9 * 256 * 512 + 4 * 512 + 513
    params = zoo.get("ata_gan").params
    assert params["image_size=32"]["discriminator"] == at_32
    assert params["image_size=64"]["discriminator"] == at_64


def test_the_decision_is_the_mean_of_the_map_that_the_discriminator_shows():
    network = zoo.create("ata_gan", **TINY)["discriminator"]
    network.get_layer("logit").bias.assign([2.0])
    network.get_layer("logit").kernel.assign(100 * drawn(32, 1))
    logit, shown = answer(network, drawn(3, 32, 32, 3))
    assert shown.shape == (3, 8, 8)
    assert abs(shown.mean((1, 2)) + 2 - logit[:, 0]).max() < 1e-5
    assert abs(shown).max() > 0.1
    assert zoo.create("ata_gan", map_size=4, **TINY)["discriminator"].outputs[1].shape[1] == 4


@pytest.mark.parametrize("wrong", [{"map_size": 5}, {"teacher": "resnet9"}, {"teacher": ""}])
def test_ata_gan_refuses_options_without_meaning(wrong):
    with pytest.raises(ValueError, match=f"{[*wrong][0]} (must|takes)"):
        zoo.create("ata_gan", **wrong)


def test_a_missing_teacher_is_explained():
    with pytest.raises(ValueError, match="there is no default here, train and publish one"):
        zoo.create("ata_gan", **{**TINY, "teacher": ""})


def test_the_teacher_is_read_where_it_is_asked_for():
    networks = zoo.create("ata_gan", teacher="resnet9:nobody", **TINY)
    assert list(networks) == ["generator", "discriminator"]
    with pytest.raises(zoo.WeightsError, match="resnet9 has no weights 'nobody'"):
        networks["teacher"]
    with pytest.raises(KeyError):
        networks["pupil"]


def test_the_teacher_is_soft_cam_of_the_zoo_s_weights(monkeypatch):
    x = drawn(2, 64, 64, 3)
    teacher = zoo.create("ata_gan", image_size=64, width=4)["teacher"]
    _, expected = answer(cam.explained(zoo.load("resnet9", "creatures")), x)
    assert np.array_equal(answer(teacher, x)[0], expected)
    small = zoo.create("ata_gan", **TINY)["teacher"]  # the same network sees the image enlarged
    wide = keras.ops.image.resize(x[:, ::2, ::2], (64, 64))
    assert gap(answer(small, x[:, ::2, ::2]), answer(teacher, wide)) < 1e-4
    monkeypatch.setattr(weights, "load", lambda *_: zoo.create("dcgan")["discriminator"])
    with pytest.raises(zoo.WeightsError, match="dcgan:any cannot teach attention: No such layer"):
        zoo.create("ata_gan", teacher="dcgan:any")["teacher"]


def test_without_weight_it_is_the_regular_gan_bit_for_bit():
    ours = make(attention_weight=0.0)
    keras.utils.set_random_seed(0)
    networks = [dict(zoo.create("ata_gan", **TINY)) for _ in range(2)]
    seen = networks[0]["discriminator"]
    networks[0]["discriminator"] = keras.Model(seen.input, seen.outputs[0], name="discriminator")
    plain = dcgan.DCGAN(*networks, dcgan.HParams(), seed=3)
    start = weights_of(ours.discriminator)
    for i in range(2):
        batch = {"image": tf.constant(drawn(8, 32, 32, 3, seed=i))}
        logs, theirs = ours.train_step(batch), plain.train_step(batch)
        assert {k: float(v) for k, v in logs.items()} == {k: float(v) for k, v in theirs.items()}
    assert gap(start, weights_of(ours.discriminator)) > 1e-4
    for role in ("generator", "discriminator"):
        pairs = zip(weights_of(getattr(ours, role)), weights_of(getattr(plain, role)))
        assert all(a.tobytes() == b.tobytes() for a, b in pairs)


class Descent(ata_gan.ATAGAN):
    """With gradient descent, which does not hide a gradient's scale."""

    rates = (0.1, 0.1)

    def optimizers(self):
        return tuple(keras.optimizers.SGD(rate) for rate in self.rates)


def test_the_discriminator_takes_the_step_of_equations_2_to_4():
    ours, plain = (make(Descent, attention_weight=3.0) for _ in range(2))
    x = drawn(4, 32, 32, 3)
    D, fake = plain.discriminator, plain.generator(plain.noise(4), training=True)
    taught = [np.asarray(plain.networks["teacher"](v, training=False)) for v in (x, fake)]
    taught = [(t - t.min((1, 2), keepdims=True)) / np.ptp(t, (1, 2), keepdims=True) for t in taught]
    with tf.GradientTape() as tape:
        seen = [D(v, training=True) for v in (x, fake)]
        game = losses.discriminator(real=seen[0][0], fake=seen[1][0])
        attention = 0.0
        for t, (_, d) in zip(taught, seen):
            low, high = (f(d, (1, 2), keepdims=True) for f in (tf.reduce_min, tf.reduce_max))
            attention += tf.reduce_mean(((d - low) / (high - low) - t) ** 2) / 2
        loss = game + 3.0 * attention
    before, weights = weights_of(D), D.trainable_variables
    expected = [w - 0.1 * g for w, g in zip(weights, tape.gradient(loss, weights))]
    logs = ours.train_step({"image": x})
    assert float(logs["d_loss"]) == pytest.approx(float(game), rel=1e-4)
    assert float(logs["attention_loss"]) == pytest.approx(float(attention), rel=1e-4)
    found = [np.array(w) for w in ours.discriminator.trainable_variables]
    moved = gap(before, weights_of(ours.discriminator))
    assert gap(found, [np.asarray(w) for w in expected]) < 1e-3 * moved


def test_the_attention_loss_reaches_the_discriminator_and_no_teacher_or_generator():
    trainer = make()
    teacher, G, D = trainer.networks["teacher"], trainer.generator, trainer.discriminator
    with tf.GradientTape() as tape:
        tape.watch([v.value for v in teacher.variables])
        fake = G(trainer.noise(4), training=True)
        still = tf.stop_gradient(fake)
        loss = trainer.attention_loss(still, D(still, training=True)[1])
    sources = [D.get_layer("down16").kernel, D.get_layer("logit").kernel]
    sources += [G.trainable_variables[0], *teacher.variables]
    found = tape.gradient(loss, [v.value for v in sources])
    assert all(tf.reduce_max(abs(g)) > 1e-6 for g in found[:2])
    assert all(g is None for g in found[2:])


class OnlyGenerator(Descent):
    rates = (0.1, 0.0)


def test_the_generator_s_update_does_not_see_the_attention_loss():
    trainers = [make(OnlyGenerator, attention_weight=weight) for weight in (0.0, 9.0)]
    start = weights_of(trainers[0].generator)
    for trainer in trainers:
        trainer.train_step({"image": drawn(4, 32, 32, 3)})
    first, second = (weights_of(t.generator) for t in trainers)
    assert gap(start, first) > 1e-3
    assert all(a.tobytes() == b.tobytes() for a, b in zip(first, second))


def test_the_teacher_stays_and_is_no_part_of_a_checkpoint():
    trainer = make()
    teacher = weights_of(trainer.networks["teacher"])
    for seed in range(2):
        trainer.train_step({"image": drawn(4, 32, 32, 3, seed=seed)})
    assert gap(teacher, weights_of(trainer.networks["teacher"])) == 0
    state = trainer.state()
    parts = {name.split("/")[0] for name in state}
    assert parts == {"generator", "discriminator", "average"} | {
        f"{role}_optimizer" for role in ("generator", "discriminator")
    }
    assert not any("teacher" in name for name in state)
    held = {id(v) for v in state.values()}
    assert not any(id(v) in held for v in trainer.networks["teacher"].variables)


def test_every_hyper_parameter_of_attention_is_checked_and_acts():
    trainer, coarse = make(), make(options={"map_size": 4})
    x = drawn(4, 32, 32, 3)

    def loss(trainer, **hp):
        trainer.hp = ata_gan.HParams(**hp)
        return float(trainer.attention_loss(x, trainer.discriminator(x, training=True)[1]))

    usual = loss(trainer)
    assert loss(trainer, pixels="sum") == pytest.approx(64 * usual, rel=1e-5)
    scales = {how: loss(trainer, normalise=how) for how in cam.NORMALISE}
    assert scales["min_max"] == usual
    assert all(abs(v / w - 1) > 0.1 for v, w in itertools.combinations(scales.values(), 2))
    assert abs(loss(coarse, resize="smaller") / loss(coarse) - 1) > 0.01
    wrong = {"attention_weight": -1.0, "normalise": "max", "resize": "teacher", "pixels": "all"}
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=f"{name} (must|takes)"):
            ata_gan.HParams(**{name: value})


def test_the_minimax_generator_descends_what_the_other_ascends():
    x = {"image": drawn(4, 32, 32, 3)}
    usual, minimax = (make(cls, attention_weight=0.0) for _, cls in ata_gan.VARIANTS.values())
    logs = [trainer.train_step(x) for trainer in (usual, minimax)]
    assert float(logs[0]["d_loss"]) == float(logs[1]["d_loss"])
    assert float(logs[0]["g_loss"]) > 0 > float(logs[1]["g_loss"])
    assert gap(weights_of(usual.generator), weights_of(minimax.generator)) > 1e-5


def test_the_report_shows_the_teacher_s_and_the_discriminator_s_maps():
    trainer = make()
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), "uint8")
    shown, found, places, labels = trainer.attention(images, None)
    assert shown is images and not places
    assert found.shape == (5, 2, 32, 32) and labels == ("teacher", "discriminator")
    assert found.min() == 0 and 0.99 < found.max() <= 1
    assert abs(found[:, 0] - found[:, 1]).max() > 0.1
    _, alone, *_ = trainer.attention(images[:1], None)
    assert abs(alone - found[:1]).max() < 1e-4


class Given(Descent):
    """With noise that does not depend on the number of replicas."""

    def noise(self, count, stream=0):
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return tf.constant(drawn(8, 100))[replica * count : (replica + 1) * count]


@pytest.mark.slow
def test_two_replicas_take_the_step_of_one(mirrored):
    x, found = drawn(8, 32, 32, 3), []
    for strategy in (tf.distribute.get_strategy(), mirrored):
        with strategy.scope():
            trainer = make(Given)
        start = [v.numpy() for v in trainer.discriminator.variables]
        strategy.run(trainer.train_step, args=(shared(strategy, {"image": x}),))
        found.append([v.numpy() for v in trainer.discriminator.variables])
    moved = gap(start, found[0])
    assert moved > 1e-3
    assert gap(*found) < 0.01 * moved

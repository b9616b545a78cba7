"""Segmentation: mIoU and pseudo labels by hand, the CRF where its answer is known, DeepLab's
network, and its losses and step against numbers worked out on paper or in a loop."""

import dataclasses
import math
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import attention_zoo as az
from attention_zoo import zoo
from attention_zoo.evaluate import crf, segmentation
from attention_zoo.tasks import segmentation as task
from attention_zoo.tasks.base import EvaluationRequest
from attention_zoo.tests.helpers import drawn, loss_of, publish
from attention_zoo.trainers import deeplab as training
from attention_zoo.trainers import losses
from attention_zoo.zoo import deeplab, efficientnet_lite, vgg
from attention_zoo.zoo.networks import copy_backbone

TRUTH = np.array([[0, 0, 0], [1, 1, 2], [255, 255, 2]], np.uint8)
FOUND = np.array([[0, 0, 1], [1, 1, 0], [2, 3, 2]])


# mIoU


def test_mean_iou_by_hand_with_255_and_an_absent_class():
    matrix = segmentation.confusion(TRUTH, FOUND, 4)
    assert matrix.dtype == np.int64
    assert matrix.tolist() == [[2, 1, 0, 0], [0, 2, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    assert segmentation.iou(matrix)[:3].tolist() == [2 / 4, 2 / 3, 1 / 2]
    assert math.isnan(segmentation.iou(matrix)[3])  # only found where the truth is 255
    assert segmentation.mean_iou(matrix) == pytest.approx(5 / 9, abs=1e-12)
    found = FOUND.copy()
    found[0, 0] = 3  # now the fourth class is found, and never true: 0
    matrix = segmentation.confusion(TRUTH, found, 4)
    assert segmentation.mean_iou(matrix) == pytest.approx((1 / 4 + 2 / 3 + 1 / 2) / 4, abs=1e-12)


def test_mean_iou_is_of_all_pixels_not_of_pictures():
    first = segmentation.confusion([0, 0, 0, 0], [0, 0, 0, 1], 2)
    second = segmentation.confusion([1], [1], 2)
    assert segmentation.mean_iou(first + second) == (3 / 4 + 1 / 2) / 2
    assert segmentation.confusion([0, 1, 2], [0, 1, 1], 2, ignore=2).tolist() == [[1, 0], [0, 1]]


def test_scores_of_each_class_and_of_the_frequent_ones_by_hand(monkeypatch):
    """Three pictures of two pixels: class 1 is in two of them, class 2 in one, class 3 in none."""
    truth = np.array([[[0, 1]], [[1, 255]], [[2, 0]]], np.uint8)[..., None]
    found = np.array([[[0, 1]], [[0, 3]], [[2, 2]]])
    arrays = {"image": np.zeros((3, 1, 2, 3), np.uint8), "classes": truth}
    data = types.SimpleNamespace(
        name="three", image_size=2, arrays=lambda split: arrays, identity=lambda split: "id"
    )
    model = types.SimpleNamespace(
        name="deeplab", options={"classes": 4}, logits=lambda x: np.eye(4)[found]
    )
    monkeypatch.setattr(task, "FREQUENT", 2)
    every, frequent = task.evaluate(model, data, EvaluationRequest())
    assert (every.metric, every.value) == (
        "miou_3_test",
        pytest.approx((1 / 3 + 1 / 2 + 1 / 2) / 3),
    )
    assert every.details["iou_by_class"] == [1 / 3, 1 / 2, 1 / 2, None]
    assert every.details["pictures_by_class"] == [2, 2, 1, 0]
    assert frequent.metric == "miou_classes_with_2_pictures_3_test"
    assert frequent.value == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert frequent.details["classes"] == [0, 1]
    assert "iou_by_class" not in frequent.details
    assert task.pixel_scores(model.logits, arrays, "test", 4) == {every.metric: every.value}
    monkeypatch.setattr(task, "FREQUENT", 3)  # no class has as many
    assert len(task.evaluate(model, data, EvaluationRequest())) == 1


def test_maps_that_are_none_are_refused():
    for truth, found in (([0, 4], [0, 0]), ([0, 0], [0, 4]), ([0], [-1])):
        with pytest.raises(ValueError, match=r"classes lie in 0 \.\. 3"):
            segmentation.confusion(truth, found, 4)
    with pytest.raises(ValueError, match="differ in shape"):
        segmentation.confusion([0, 0], [0], 4)
    with pytest.raises(ValueError, match="no pixel has a true class"):
        segmentation.mean_iou(segmentation.confusion([255], [0], 4))


def test_scores_are_resized_to_a_picture_s_own_size():
    scores = np.array([[[0.0, 8.0], [4.0, 8.0]]])  # (1, 2, 2)
    found = segmentation.resized(scores, 3, 4)
    assert found[..., 0].tolist() == [[0, 1, 3, 4]] * 3
    assert (found[..., 1] == 8).all()


# Pseudo labels

MAPS = np.zeros((2, 2, 3, 3))
MAPS[0, ..., 0] = [[10, 2.5, 1.5], [0, 0, 0]]  # shares of the maximum: 1, 0.25, 0.15
MAPS[0, ..., 2] = [[0.3, 0.5, 0], [0.5, 0, 0.15]]  # 0.6, 1, 0; 1, 0, 0.3
LABELS = np.array([[1, 0, 1], [0, 0, 0]])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [[1, 3, 0], [3, 0, 3]]),
        ({"foreground": 0.4}, [[1, 3, 0], [3, 0, 0]]),
        ({"foreground": 0.4, "background": 0.2}, [[1, 3, 0], [3, 0, 255]]),
        ({"background": 0.1}, [[1, 3, 255], [3, 0, 3]]),
        ({"background": 0.1, "ignore": 99}, [[1, 3, 99], [3, 0, 3]]),
        ({"conflict": "smallest"}, [[1, 1, 0], [3, 0, 3]]),
        ({"conflict": "ignore"}, [[255, 255, 0], [3, 0, 3]]),
    ],
)
def test_pseudo_labels_by_hand(options, expected):
    found = segmentation.pseudo_labels(MAPS, LABELS, (2, 3), **options)
    assert found.dtype == np.uint8
    assert found.tolist() == [expected, [[0] * 3] * 2]  # an image of no class is background


def test_a_share_at_a_threshold_does_not_exceed_it():
    maps = np.array([[[[2.0], [1.0], [0.5], [0.25]]]])
    found = segmentation.pseudo_labels(maps, [[1]], (1, 4), foreground=0.5, background=0.25)
    assert found.tolist() == [[[1, 255, 0, 0]]]


def test_pseudo_labels_of_the_present_classes_alone_are_the_same():
    maps = [image[..., np.flatnonzero(label)] for image, label in zip(MAPS, LABELS)]
    expected = segmentation.pseudo_labels(MAPS, LABELS, 4)
    assert np.array_equal(segmentation.pseudo_labels(maps, LABELS, 4), expected)


# of a map of maximum 2: shares 1, 0.5, 0.25, 0; the object is the first two pixels of each image
CENTRED = [np.array([[[2.0], [1.0], [0.5], [0.0]]]), np.array([[[0.0], [0.5], [1.0], [2.0]]])]
MARKED = np.array([[[1, 1, 0, 255]], [[1, 1, 0, 0]]])


def test_recall_and_precision_of_attention_by_hand():
    found = segmentation.recall_precision(CENTRED, [[1], [1]], MARKED, (0.1, 0.3, 0.7))
    # of 4 pixels of objects 2 + 1, 2 + 0 and 1 + 0; attended 3 + 3, 2 + 2 and 1 + 1
    np.testing.assert_allclose(found, [[3 / 4, 2 / 4, 1 / 4], [3 / 6, 2 / 4, 1 / 2]])
    none = segmentation.recall_precision(CENTRED, [[0], [0]], MARKED, (0.1,))
    assert np.array_equal(none, [[0], [0]])


def test_the_best_threshold_is_the_lowest_of_equals():
    maps, truth = CENTRED[:1], np.array([[[1, 1, 0, 0]]])
    thresholds = (0.6, 0.4, 0.3, 0.1)
    assert segmentation.best_threshold(maps, [[1]], truth, thresholds) == 0.3
    assert segmentation.best_threshold(maps, [[1]], 0 * truth + [[1, 0, 0, 0]], thresholds) == 0.6


def test_pseudo_labels_are_as_large_as_asked_and_a_map_of_nothing_gives_none():
    found = segmentation.pseudo_labels(MAPS, [[1, 1, 0]] * 2, 4)
    assert found.shape == (2, 4, 4)
    assert set(np.unique(found[0])) == {0, 1} and not found[1].any()
    for wrong in ({"foreground": 1.0}, {"background": 0.3}, {"conflict": "first"}):
        with pytest.raises(ValueError, match="conflict|background"):
            segmentation.pseudo_labels(MAPS, LABELS, 4, **wrong)


# CRF

PAIR = np.array([[[0.9, 0.1], [0.4, 0.6]]])  # (1, 2, 2)
COLOURS = np.array([[[10, 20, 30], [13, 20, 34]]], np.uint8)  # 5 apart


def by_hand(w1, alpha, beta, w2, gamma):
    """One step of algorithm 1 for two pixels: each kernel over its rows' sum, 1 + k."""
    near = math.exp(-1 / (2 * alpha**2) - 25 / (2 * beta**2))
    beside = math.exp(-1 / (2 * gamma**2))
    found = []
    for own, other in ((PAIR[0, 0], PAIR[0, 1]), (PAIR[0, 1], PAIR[0, 0])):
        energy = []
        for label in (0, 1):
            message = w1 * (own[label] + near * other[label]) / (1 + near)
            message += w2 * (own[label] + beside * other[label]) / (1 + beside)
            energy.append(own[label] * math.exp(message))
        found.append([value / sum(energy) for value in energy])
    return found


def test_the_crf_of_two_pixels_by_hand():
    given = {"w1": 4.0, "sigma_alpha": 2.0, "sigma_beta": 5.0, "w2": 3.0, "sigma_gamma": 1.5}
    expected = by_hand(4.0, 2.0, 5.0, 3.0, 1.5)
    found = crf.refined(PAIR, COLOURS, iterations=1, **given)
    assert abs(found - [expected]).max() < 1e-6
    assert abs(found - PAIR).max() > 0.05
    twice = crf.refined(PAIR, COLOURS, iterations=1, scale=2.0, **given)
    assert abs(twice - [by_hand(4.0, 4.0, 5.0, 3.0, 3.0)]).max() < 1e-6
    assert abs(twice - found).max() > 1e-3
    assert abs(crf.refined(PAIR, COLOURS, iterations=0) - PAIR).max() < 1e-6
    with pytest.raises(ValueError, match="goes with"):
        crf.refined(PAIR, COLOURS[:, :1])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_crf_gives_a_pixel_that_is_not_finite_what_its_neighbours_have(value):
    p = np.full((4, 4, 2), (0.9, 0.1))
    image = np.full((4, 4, 3), 50, np.float32)
    for exact in (0, 16):
        whole = crf.refined(p, image, exact=exact)
        even, holed = p.copy(), p.copy()
        even[1, 2], holed[1, 2, 0] = 0.5, value
        found = crf.refined(holed, image, exact=exact)
        assert abs(found - crf.refined(even, image, exact=exact)).max() < 1e-6
        assert (found[..., 0] > 0.9).all() and abs(found - whole)[0, 0].max() < 0.01
        torn = image.copy()
        torn[1, 2, 0] = value
        assert np.isfinite(crf.refined(p, torn, exact=exact)).all()
    nothing = crf.refined(np.full((2, 2, 2), np.nan), np.zeros((2, 2, 3), np.uint8))
    assert nothing.tolist() == [[[0.5, 0.5]] * 2] * 2


def noisy(side):
    """A disc of one colour on another, shaded and grainy; scores that are wrong for a third."""
    rng = np.random.default_rng(0)
    y, x = np.indices((side, side))
    disc = (y - side / 2) ** 2 + (x - side / 2) ** 2 < (side / 3) ** 2
    image = np.where(disc[..., None], (200, 80, 60), (60, 110, 180)) + 0.5 * x[..., None]
    image = np.uint8(image + rng.normal(0, 3, image.shape))
    share = np.clip(np.where(disc, 0.6, 0.4) + rng.normal(0, 0.25, disc.shape), 0.02, 0.98)
    return disc, image, np.stack((1 - share, share), -1)


def test_the_crf_finds_the_two_regions_of_a_noisy_picture_exactly_and_by_the_lattice():
    """The lattice's error at 40 x 40: Q differs by 0.0004 in the mean, by 0.04 at the most."""
    disc, image, p = noisy(40)
    assert ((p[..., 1] > 0.5) != disc).mean() > 0.3
    exact, fast = (crf.refined(p, image, exact=limit) for limit in (1600, 1599))
    assert ((exact[..., 1] > 0.5) != disc).mean() < 0.005
    assert ((fast[..., 1] > 0.5) != disc).mean() < 0.005
    assert abs(fast.sum(-1) - 1).max() < 1e-5
    assert 0 < abs(fast - exact).mean() < 0.001
    assert abs(fast - exact).max() < 0.1

    usual = crf.refined(p, image, exact=0, iterations=2)
    changed = {"w1": 1.0, "sigma_alpha": 5.0, "sigma_beta": 40.0, "w2": 0.0, "sigma_gamma": 0.3}
    for option, value in {**changed, "scale": 0.1}.items():
        other = crf.refined(p, image, exact=0, iterations=2, **{option: value})
        assert abs(other - usual).mean() > 1e-3, option


def test_the_lattice_blurs_like_the_gaussian():
    """Along one feature, points close together: the same but for the kernel's shape."""
    features = np.linspace(-4, 4, 400, dtype="float32")[:, None]
    q = np.stack([features[:, 0] > 0, np.cos(features[:, 0])], 1).astype("float32")
    exact, fast = (crf.normalised(kind(features), 400)(q) for kind in (crf.dense, crf.lattice))
    assert abs(fast - exact).max() < 0.04 < abs(q - exact).max()
    plane = np.indices((5, 7)).reshape(2, -1).T / np.float32(1.7)
    values = drawn(35, 2)
    assert abs(crf.separable(5, 7, 1.7)(values) - crf.dense(plane)(values)).max() < 1e-5


# The network


def test_deeplab_large_fov_counts_by_hand():
    convolutions = 14_714_688  # of VGG16
    dense = (3 * 3 * 512 * 1024 + 1024) + (1024 * 1024 + 1024) + (1024 * 21 + 21)
    network = deeplab.build()["segmenter"]
    assert network.count_params() == convolutions + dense == 20_505_429
    assert network.get_layer("logits").output.shape == (None, 41, 41, 21)
    assert network.output_shape == (None, 321, 321, 21)
    rates = {
        name: network.get_layer(name).dilation_rate[0]
        for name in ("conv1_1", "conv4_3", "conv5_1", "conv5_3", "fc6", "fc7")
    }
    assert rates == {"conv1_1": 1, "conv4_3": 1, "conv5_1": 2, "conv5_3": 2, "fc6": 12, "fc7": 1}


TINY = {"image_size": 32, "classes": 3, "width": 2, "fc": 4, "stride": 4, "dilation": 2}


def tiny(seed=0, **options):
    keras.utils.set_random_seed(seed)
    return deeplab.build(**{**TINY, **options})["segmenter"]


def test_every_option_of_the_network_changes_it():
    x = drawn(1, 32, 32, 3)
    usual = np.asarray(tiny()(x))
    assert usual.shape == (1, 32, 32, 3)
    for option in ({"dilation": 1}, {"stride": 8}, {"stride": 2}, {"normalise": "imagenet"}):
        assert abs(np.asarray(tiny(**option)(x)) - usual).max() > 1e-6, option
    counts = [tiny(**option).count_params() for option in ({}, {"width": 3}, {"fc": 5})]
    assert len(set(counts)) == 3
    assert tiny(image_size=33, stride=8).get_layer("logits").output.shape[1] == 5
    for wrong in ({"stride": 3}, {"image_size": 34}, {"image_size": 28}, {"classes": 1}):
        with pytest.raises(ValueError, match="must be"):
            tiny(**wrong)
    with pytest.raises(ValueError, match="backbone takes one of vgg16, efficientnet_lite0"):
        tiny(backbone="resnet9")
    with pytest.raises(ValueError, match="one of 8, 16 with backbone=efficientnet_lite0"):
        tiny(backbone="efficientnet_lite0")


def test_scores_are_interpolated_about_the_pixels_that_they_are_of():
    ramp = np.array([0.0, 4.0, 8.0], "float32")[None, :, None, None] * np.ones((1, 1, 3, 1), "f")
    corners = np.asarray(deeplab.Interpolated(9, 4)(ramp))[0, :, 0, 0]
    assert corners.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    inner = np.asarray(deeplab.Interpolated(12, 4)(ramp.swapaxes(1, 2)))[0, 5, :, 0]
    assert inner.tolist() == [0, 0, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8, 8]


@pytest.mark.parametrize(("size", "stride", "first"), [(64, 8, 3), (97, 16, 0)])
def test_scores_of_efficientnet_lie_in_the_middle_of_their_pixels(size, stride, first):
    """With all kernels at their middle tap alone, a score depends on one pixel, its own; it is
    interpolated as if it lay half a pixel further at most."""
    network = tiny(backbone="efficientnet_lite0", width=4, image_size=size, stride=stride)
    for v in network.trainable_variables:
        if len(v.shape) == 4:
            kernel = np.zeros(v.shape)
            middle = v.shape[0] // 2
            kernel[middle, middle] = abs(drawn(*v.shape[2:])) + 0.1
            v.assign(kernel / kernel.sum((0, 1, 2), keepdims=True))
    scores = keras.Model(network.input, network.get_layer("logits").output)
    x = tf.constant(np.full((1, size, size, 3), 0.5, "float32"))
    with tf.GradientTape() as tape:
        tape.watch(x)
        one = tf.reduce_sum(scores(x)[0, 2, 1])
    (row, column), *more = np.argwhere(abs(tape.gradient(one, x)[0]).numpy().sum(-1) > 0)
    assert (row, column) == (first + 2 * stride, first + stride) and not more
    weights = network.get_layer("segmentation")._weights(scores.output_shape[1])
    places = weights @ np.arange(scores.output_shape[1])  # of each pixel among the scores
    assert abs(places[first + stride] - 1) <= 0.5 / stride


def test_a_segmenter_starts_from_efficientnet_and_from_a_segmenter():
    usual = {"backbone": "efficientnet_lite0", "width": 4, "image_size": 64, "stride": 8}
    network = tiny(**usual)
    source = efficientnet_lite.build(image_size=32, width=4, classes=5)["classifier"]
    for i, v in enumerate(source.variables):
        v.assign(drawn(*v.shape, seed=i) ** 2)
    before = {v.path: np.array(v) for v in network.variables}
    copy_backbone(network, source, new=("fc6", "fc7"))
    theirs = {v.path: np.asarray(v) for v in source.variables}
    for v in network.variables:
        own = v.path.partition("/")[0] in ("fc6", "fc7", "logits")
        assert np.array_equal(v, (before if own else theirs)[v.path]), v.path
    other, logits = tiny(**usual), network.get_layer("logits").kernel
    logits.assign(logits + 1)
    copy_backbone(other, network)
    assert np.array_equal(other.get_layer("fc6").kernel, network.get_layer("fc6").kernel)
    assert abs(np.asarray(other.get_layer("logits").kernel) - np.asarray(logits)).min() > 0.9


def test_a_segmenter_starts_from_a_classifier_s_convolutions(tmp_path):
    classifier = vgg.build(image_size=64, width=2, classes=3)["classifier"]
    for i, v in enumerate(classifier.trainable_variables):
        v.assign(drawn(*v.shape, seed=i))
    network = tiny(image_size=64, stride=8)
    before = np.asarray(network.get_layer("fc6").kernel)
    copy_backbone(network, classifier, new=("fc6", "fc7"))
    x = drawn(1, 64, 64, 3)
    ours = keras.Model(network.input, network.get_layer("conv5_3_relu").output)(x)
    theirs = np.asarray(keras.Model(classifier.input, classifier.get_layer("map").output)(x))
    assert abs(theirs).max() > 1
    assert abs(np.asarray(ours) - theirs).max() < 1e-5 * abs(theirs).max()
    assert np.array_equal(network.get_layer("fc6").kernel, before)
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    assert np.array_equal(again(x), network(x))

    other = tiny(width=3)
    values = [np.array(v) for v in other.variables]
    with pytest.raises(ValueError, match="does not fit the backbone .conv1_1/kernel"):
        copy_backbone(other, classifier, new=("fc6", "fc7"))
    assert all(np.array_equal(a, b) for a, b in zip(values, other.variables))


def test_a_run_begins_with_the_classifier_s_convolutions(tmp_path):
    classifier = vgg.build(image_size=64, width=2, classes=3)["classifier"]
    publish("vgg16", classifier, {"image_size": 64, "width": 2, "classes": 3}, tmp_path)
    made = [deeplab.build(**{**TINY, "start": f"vgg16:{tmp_path}/mine"}) for _ in range(2)]
    trainer = training.DeepLab(*made, training.HParams(decay_steps=10), seed=3)
    trainer.prepare(iter([]))
    for network in (trainer.networks["segmenter"], trainer.ema_networks["segmenter"]):
        ours, theirs = (n.get_layer("conv5_1").kernel for n in (network, classifier))
        assert abs(np.asarray(ours) - np.asarray(theirs)).max() < 1e-3  # stored in float16
    with pytest.raises(zoo.WeightsError, match="give the backbone, width and head"):
        deeplab.build(
            **{**TINY, "width": 3, "start": f"vgg16:{tmp_path}/mine"}
        ).load_start_weights()
    with pytest.raises(ValueError, match="start takes MODEL:TAG"):
        deeplab.build(**{**TINY, "start": "vgg16"})


# The losses

P = np.array([[[[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]], [[0.1, 0.8, 0.1], [0.4, 0.3, 0.3]]]])
P = P.astype("float32")  # (1, 2, 2, 3)
CUES = np.array([[[0, 255], [1, 255]]], np.uint8)


def test_pixel_cross_entropy_and_seed():
    # -(log 0.5 + log 0.8) / 2
    expected = (0.69314718 + 0.22314355) / 2
    logits = np.log(P) + np.array([[[[3.0]]]])  # of which softmax knows nothing
    assert expected == loss_of(losses.pixel_cross_entropy, logits=logits, classes=CUES)
    assert expected == loss_of(losses.seed, log_p=np.log(P), classes=CUES)
    # and an image with one cue, 2 at 0.25: pixels weigh alike, then images
    two, cues = np.concatenate((P, P)), np.concatenate((CUES, [[[2, 255], [255, 255]]]))
    both = {"classes": cues}
    assert (2 * expected + 1.38629436) / 3 == loss_of(
        losses.pixel_cross_entropy, logits=np.log(two), **both
    )
    assert (expected + 1.38629436) / 2 == loss_of(losses.seed, log_p=np.log(two), **both)
    nothing = {"classes": np.full((1, 2, 2), 255, np.uint8)}
    assert loss_of(losses.pixel_cross_entropy, logits=np.log(P), **nothing) == 0.0
    assert loss_of(losses.seed, log_p=np.log(P), **nothing) == 0.0
    assert loss_of(losses.seed, log_p=np.log(P), classes=CUES, ignore=0) != expected


def test_pixels_to_ignore_give_no_gradient():
    logits = tf.constant(np.log(P))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = losses.pixel_cross_entropy(logits=logits, classes=CUES)
    found = tape.gradient(loss, logits).numpy()
    assert (found[0, :, 1] == 0).all()
    # (p - q) / 2
    assert found[0, :, 0] == pytest.approx(
        np.array([[-0.25, 0.125, 0.125], [0.05, -0.1, 0.05]]), abs=1e-6
    )


def test_rank_pooling_by_hand():
    p = np.array([[[0.2], [0.8], [0.4]]], "float32")
    expected = {0.0: 0.8, 0.5: (0.8 + 0.5 * 0.4 + 0.25 * 0.2) / 1.75, 1.0: 1.4 / 3}
    for decay, pooled in expected.items():
        assert np.asarray(losses.ranked(p, decay)) == pytest.approx(pooled, abs=1e-6)


def test_expand_and_constrain_by_hand():
    """Of class 1, which is there: 0.8, 0.3, 0.25, 0.2; of 2, which is not: 0.6 at the most."""
    present = (0.8 + 0.3 / 2 + 0.25 / 4 + 0.2 / 8) / 1.875
    background = (0.5 + 0.4 + 0.2 + 0.1) / 4
    expected = -math.log(present) - math.log(1 - 0.6) - math.log(background)
    given = {"p": P, "labels": np.array([[1.0, 0.0]], "float32")}
    decays = {"present": 0.5, "absent": 0.0, "background": 1.0}
    assert expected == loss_of(losses.expand, **given, **decays)
    for name in decays:
        assert loss_of(losses.expand, **given, **{**decays, name: 0.7}) != expected
    # KL((1/2, 1/2) to (1/4, 3/4)) and 0
    p, q = (np.log([[[first, [0.3, 0.7]]]]) for first in ([0.25, 0.75], [0.5, 0.5]))
    expected = (0.5 * math.log(2) + 0.5 * math.log(2 / 3)) / 2
    assert expected == loss_of(losses.constrain, log_p=p, log_q=q)


# The trainer


def make(loss="pseudo", seed=0, **hp):
    hparams, trainer = training.VARIANTS[loss]
    networks = [{"segmenter": tiny(seed)} for _ in range(2)]
    return trainer(*networks, hparams(decay_steps=8, **hp), seed=3)


def batch(count=4, size=32):
    classes = np.random.default_rng(0).choice([0, 1, 2, 255], (count, size, size, 1))
    labels = np.array([[1, 0], [0, 1], [1, 1], [0, 0]], np.uint8)[:count]
    values = {"image": drawn(count, size, size, 3), "classes": np.uint8(classes), "labels": labels}
    return {k: tf.constant(v) for k, v in values.items()}


def test_the_step_is_descent_on_the_cross_entropy_with_a_faster_head_and_smaller_kernels():
    trainer, seen = make(flip=False, learning_rate=0.5, weight_decay=0.01), batch()
    network = trainer.networks["segmenter"]
    with tf.GradientTape() as tape:
        logits = network(seen["image"])
        loss = losses.pixel_cross_entropy(logits=logits, classes=seen["classes"][..., 0])
    weights = network.trainable_variables
    before = [np.array(w) for w in weights]
    expected = []
    for w, g in zip(before, tape.gradient(loss, weights)):
        g = np.asarray(g) + (0.01 * w if w.ndim > 1 else 0)
        expected.append(w - 0.5 * g * (10 if len(expected) >= len(weights) - 2 else 1))
    assert [w.path.split("/")[-2] for w in weights[-2:]] == ["logits", "logits"]
    logs = trainer.train_step(seen)
    assert float(logs["cross_entropy"]) == pytest.approx(float(loss), rel=1e-5)
    moved = [abs(a - b).max() for a, b in zip(before, expected)]
    assert max(moved) > 1e-2
    for w, aim in zip(weights, expected):
        assert abs(np.asarray(w) - aim).max() < 1e-4 * max(moved)
    mean = trainer.ema_networks["segmenter"].trainable_variables[-1]
    assert 0 < abs(np.asarray(mean) - before[-1]).max() < moved[-1]


def test_the_schedule_and_what_is_checked():
    step, poly = (training.Policy(1.0, 8, policy) for policy in ("step", "poly"))
    rates = [float(step(t)) for t in (0, 1, 2, 3, 4, 6, 7, 8, 9)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 1e-3, 1e-3, 1e-3, 1e-3], rel=1e-5)
    assert float(poly(4)) == pytest.approx(0.53588673, abs=1e-6)  # 0.5 ** 0.9
    assert float(poly(8)) == 0
    assert float(make(policy="poly").first.learning_rate) == pytest.approx(1e-3)
    wrong = {"policy": "cosine", "momentum": 2.0, "head_rate": -1.0, "learning_rate": -1.0}
    for name, value in {**wrong, "decay_present": 2.0, "sigma_beta": 0.0}.items():
        with pytest.raises(ValueError, match=f"{name} (must|takes)"):
            training.SECHParams(**{name: value})


def test_images_are_mirrored_with_their_classes():
    image = np.arange(64.0)[:, None, None, None] + np.zeros((2, 1, 1)) + np.arange(3)[:, None] / 4
    classes = np.uint8(image * 4 % 4)
    assert image.shape == (64, 2, 3, 1)
    seen, known = training.mirrored((tf.constant(image), tf.constant(classes)), [1, 2])
    turned = np.asarray(seen)[:, 0, 0, 0] != image[:, 0, 0, 0]
    assert 16 < turned.sum() < 48
    assert np.array_equal(np.asarray(seen)[turned], image[turned][:, :, ::-1])
    assert np.array_equal(np.uint8(np.asarray(seen) * 4 % 4), np.asarray(known))
    seen = batch()
    assert (
        abs(
            float(make(flip=True).train_step(seen)["cross_entropy"])
            - float(make(flip=False).train_step(seen)["cross_entropy"])
        )
        > 1e-7
    )


def test_the_trainer_s_mean_field_is_that_of_the_evaluation():
    hp = training.SECHParams(iterations=3)
    images = np.random.default_rng(0).integers(0, 256, (2, 6, 6, 3), dtype=np.uint8)
    images[:, :, :3] = images[:, :1, :1]
    log_p = np.log(np.asarray(keras.ops.softmax(2 * drawn(2, 6, 6, 3))))
    found = np.exp(training.mean_field(log_p, images / np.float32(127.5) - 1, hp, 0.05))
    names = ("w1", "sigma_alpha", "sigma_beta", "w2", "sigma_gamma", "iterations")
    options = {name: getattr(hp, name) for name in names}
    for q, p, image in zip(found, np.exp(log_p), images):
        assert abs(q - crf.refined(p, image, scale=0.05, **options)).max() < 1e-4
        assert abs(q - p).max() > 0.1


def test_every_hyper_parameter_of_sec_changes_its_terms():
    trainer, seen = make("sec"), batch()
    trainer.networks["segmenter"].get_layer("logits").kernel.assign(3 * drawn(1, 1, 4, 3))

    def terms(**hp):
        trainer.hp = dataclasses.replace(training.SECHParams(), **hp)
        found = trainer.loss_terms(seen["image"], seen["classes"], seen)
        return {name: float(v) for name, v in found.items()}

    usual = terms()
    assert list(usual) == ["seed", "expand", "constrain"]
    p = np.asarray(keras.ops.softmax(trainer.scores(seen["image"])))
    cues = np.asarray(seen["classes"])[:, 1::4, 1::4, 0]  # stride 4: centred at 1.5, 5.5, ...
    expected = [
        np.mean([-np.log(v[c]) for v, c in zip(a[k != 255], k[k != 255])]) for a, k in zip(p, cues)
    ]
    assert usual["seed"] == pytest.approx(np.mean(expected), rel=1e-2)
    share = 41**2 / 8**2  # SEC's maps have 41 x 41 pixels, these 8 x 8
    decays = {"present": 0.996**share, "absent": 0.99**share, "background": 0.999**share}
    p = (p + 1e-4) / (1 + 3e-4)
    expand = loss_of(losses.expand, p=p, labels=np.float32(seen["labels"]), **decays)
    assert terms(decay_absent=0.99)["expand"] == expand
    changed = {"decay_present": 0.9, "decay_absent": 0.9, "decay_background": 0.9}
    for name, number in changed.items():
        assert abs(terms(**{name: number})["expand"] - usual["expand"]) > 1e-4, name
    for name, number in {
        "w1": 1.0,
        "sigma_alpha": 9.0,
        "sigma_beta": 60.0,
        "w2": 0.5,
        "sigma_gamma": 30.0,
    }.items():
        assert abs(terms(**{name: number})["constrain"] / usual["constrain"] - 1) > 1e-3, name
    assert terms(iterations=1)["constrain"] > 1e-3
    assert abs(terms(iterations=0)["constrain"]) < 1e-5


def test_sec_learns_from_all_its_terms_and_not_through_the_crf():
    trainer, seen = make("sec", flip=False), batch()
    with tf.GradientTape() as tape:
        constrained = trainer.loss_terms(seen["image"], seen["classes"], seen)["constrain"]
    # d/d logits of the mean of KL(Q || P), Q held: (P - Q) / n, which the bias sums
    found = tape.gradient(constrained, trainer.networks["segmenter"].get_layer("logits").bias)
    p = training.floored(keras.ops.softmax(trainer.scores(seen["image"])))
    weights = training.interpolation.weights(32, 8, True).astype("float32")
    small = np.einsum("ih,bhwc,jw->bijc", weights, seen["image"], weights)
    q = np.exp(training.mean_field(keras.ops.log(p), small, trainer.hp, 8 / 492))
    assert np.asarray(found) == pytest.approx((np.asarray(p) - q).mean((0, 1, 2)), abs=1e-3)
    q = (q + 1e-4) / (1 + 3e-4)
    expected = (q * np.log(q / p)).sum(-1).mean()
    assert float(constrained) == pytest.approx(expected, rel=1e-5)
    logs = trainer.train_step(seen)
    assert sorted(logs) == ["constrain", "expand", "seed"]


def test_probabilities_and_pictures_are_the_averaged_network_s():
    trainer = make()
    trainer.ema_networks["segmenter"].get_layer("logits").bias.assign([0.0, 9.0, 0.0])
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    found = trainer.probabilities(images)
    assert found.shape == (2, 32, 32, 3)
    assert abs(found.sum(-1) - 1).max() < 1e-5 and (found.argmax(-1) == 1).all()
    classes = np.full((2, 32, 32, 1), 255, np.uint8)
    picture = trainer.picture(images, classes)
    assert picture.shape == (64, 96, 3)
    assert np.array_equal(picture[32:, :32], images[1])
    # VOC's colours of 255 and 1
    assert (picture[:, 32:64] == (224, 224, 192)).all() and (picture[:, 64:] == (128, 0, 0)).all()
    assert training.palette()[[0, 8, 15, 20]].tolist() == [
        [0, 0, 0],
        [64, 0, 0],
        [192, 128, 128],
        [0, 64, 128],
    ]


def test_deeplab_trains_on_arrays_with_maps(tmp_path, without_graphs):
    """The classes are those of the labels and the background."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 32, 32, 3), np.uint8)
    data = {"image": images, "labels": np.eye(2)[[0, 1, 1, 0]], "classes": images[..., :1] % 3}
    az.train("deeplab", data, run_dir=tmp_path / "run", steps=1, batch_size=2, width=4, fc=8)
    model = az.open_run(tmp_path / "run")
    assert model.options["classes"] == 3
    assert model.segment(images).shape == (4, 32, 32)
    with pytest.raises(az.UsageError, match="have no label each"):
        az.train("deeplab", {k: data[k] for k in ("image", "classes")}, run_dir=tmp_path / "no")
    for name in "ab":
        (tmp_path / "d" / name).mkdir(parents=True)
        Image.fromarray(images[0]).save(tmp_path / "d" / name / "0.png")
    with pytest.raises(az.UsageError, match="has no classes, labels: it holds image, label"):
        options = {"run_dir": tmp_path / "no", "data_dir": tmp_path, "width": 4, "fc": 8}
        az.train("deeplab", f"folder:{tmp_path / 'd'}", **options)

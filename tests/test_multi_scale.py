"""Attention over several sizes and mirror images: by explicit loops, and where it is used."""

import json

import keras
import numpy as np
import pytest

from attention_zoo import tasks, zoo
from attention_zoo.common import interpolation
from attention_zoo.experiments import annotation
from attention_zoo.tasks import guided, scoring
from attention_zoo.tasks.base import EvaluationRequest, Origin
from attention_zoo.tests.helpers import drawn
from attention_zoo.trainers import gain
from attention_zoo.zoo.layers import multi_scale

TINY = {"image_size": 32, "classes": 2, "width": 2, "backbone": "resnet9", "stages": 2}


def made(scales, **options):
    networks = zoo.create("gain", **{**TINY, **options}, scales=scales)
    for i, v in enumerate(networks["classifier"].variables):
        v.assign(0.5 * drawn(*v.shape, seed=i) + 0.5 * ("variance" in v.path))
    networks["classifier"].get_layer("logits").kernel.assign(30 * abs(drawn(4, 2)))
    return networks


def by_hand(x, side, kind):
    """The ReLU of the class maps (N, 32, 32, 2), or the Soft-CAM (N, 32, 32, 1), of pictures at one
    size, by a network of that size."""
    network = made("", image_size=side)["classifier"]
    x = np.moveaxis(interpolation.resized(np.moveaxis(x, -1, 1), side, side, True), 1, -1)
    f = keras.Model(network.input, network.get_layer("map").output)(x.astype("float32"))
    maps = np.asarray(f) @ np.asarray(network.get_layer("logits").kernel)
    if kind == "soft":
        share = np.asarray(keras.ops.softmax(network(x.astype("float32"))))
        maps = (maps * share[:, None, None]).sum(-1, keepdims=True)
    else:
        maps = maps.clip(0)
    return np.moveaxis(interpolation.resized(np.moveaxis(maps, -1, 1), 32, 32), 1, -1)


def mean_by_hand(x, sides, kind):
    parts = [by_hand(x, side, kind) for side in sides]
    parts += [by_hand(x[:, :, ::-1], side, kind)[:, :, ::-1] for side in sides]
    return np.mean(parts, 0)


def test_attention_is_the_mean_over_sizes_and_mirror_images(tmp_path):
    x, networks = drawn(2, 32, 32, 3), made("0.75,1.5")
    network = networks["attention"]
    found = network.predict_on_batch(x)
    mean = mean_by_hand(x, (24, 48), "classes").transpose(0, 3, 1, 2)
    low, high = (f(mean, (2, 3), keepdims=True) for f in (np.min, np.max))
    assert (high > 0.01).all()
    assert abs(found["attention"] - (mean - low) / (high - low)).max() < 1e-3
    plain = made("")["attention"].predict_on_batch(x)
    assert abs(found["logits"] - plain["logits"]).max() < 1e-5  # of the picture itself
    assert abs(found["attention"] - plain["attention"]).max() > 0.05
    assert len(network.variables) == len(networks["classifier"].variables)
    network.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    assert len(again.variables) == len(network.variables)
    assert np.array_equal(again.predict_on_batch(x)["attention"], found["attention"])

    hp = gain.HParams()
    trainer = gain.GAIN(networks, made("0.75,1.5"), hp, seed=0)
    logits, maps = trainer.explain(x)
    assert abs(maps - found["attention"]).max() < 1e-4
    assert abs(logits - found["logits"]).max() < 1e-4


def test_evaluation_and_annotation_use_it_and_say_so(tmp_path, monkeypatch):
    networks = made("0.75,1.5")
    options = {**TINY, "scales": "0.75,1.5"}
    model = guided.Model("gain", networks, options, Origin("mine", "none"), "attention")
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), "uint8")
    mean = mean_by_hand(images / np.float32(127.5) - 1, (24, 48), "soft")[..., 0]
    mean -= mean.min((1, 2), keepdims=True)
    mean /= mean.max((1, 2), keepdims=True)
    assert abs(model.object_maps(images) - mean).max() < 1e-3
    maps = networks["attention"].predict_on_batch(images / np.float32(127.5) - 1)["attention"]
    assert abs(model.explain(images) - maps).max() < 1e-4

    monkeypatch.setattr(scoring, "localize", lambda *_: [guided.Score("iou_3_test", 0.5)])
    request = EvaluationRequest(metrics=("localization",))
    (score,) = guided.evaluate(model, None, request)
    assert score.row() == {"metric": "iou_3_test", "value": 0.5, "scales": "0.75,1.5"}
    monkeypatch.setattr(guided, "evaluate", lambda *_: [])
    data = type("Data", (), {"arrays": lambda self, split: {"image": images}})()
    said = "mean of the scales 0.75,1.5 and of mirror images"
    assert guided.card(model, data, request).caption.endswith(said)
    from PIL import Image

    Image.fromarray(images[0]).save(tmp_path / "a.png")
    annotation.annotate(model, tmp_path / "a.png", tmp_path / "out", threshold=0.5)
    about = json.loads((tmp_path / "out" / "annotations.json").read_text())["info"]
    assert about["description"].endswith(said)
    single = guided.Model("gain", made(""), TINY, Origin("mine", "none"), "attention")
    assert not single.scales and single.object_batch == tasks.base.BATCH


def test_sides_keep_the_stride_of_the_network():
    """VOC's squares of 321 = 20 * 16 + 1, and 320; 0.75 of 321 is 240.75."""
    assert multi_scale.sides(321, 21, (0.75, 1, 1.25)) == [241, 321, 401]
    assert multi_scale.sides(320, 40, (0.5, 1.03)) == [160, 328]
    for scales in ((1, 1.01), (0.05,)):
        with pytest.raises(ValueError, match="give scales that differ more, and none"):
            multi_scale.sides(64, 8, scales)


@pytest.mark.parametrize("wrong", ["a", "0.75;1", "0.1", "5", "1,", "nan"])
def test_what_is_no_list_of_scales_is_refused(wrong):
    with pytest.raises(ValueError, match="scales takes numbers from 0.25 to 4, as 0.75,1,1.25"):
        zoo.create("gain", **TINY, scales=wrong)


def test_scales_need_a_map_of_any_size():
    for options in ({"layer": "middle"}, {"head": "fc", "backbone": "vgg16"}):
        with pytest.raises(ValueError, match="scales needs layer=map and head=gap"):
            zoo.create("gain", **{"image_size": 64, "classes": 2, **options}, scales="1")


def test_maps_of_efficientnet_at_each_size():
    """At an output stride of 16, maps of 65 pixels are 5 x 5, of half of them 3 x 3."""
    options = {"width": 4, "backbone": "efficientnet_lite0", "output_stride": 16}
    network = zoo.create("gain", image_size=65, classes=2, **options, scales="0.5,1.5")["attention"]
    (mean,) = (layer for layer in network.layers if isinstance(layer, multi_scale.MeanOfMaps))
    assert [maps.shape for maps in mean.input] == [(None, 3, 3, 2), (None, 7, 7, 2)]

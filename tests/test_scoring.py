"""Which features score which data set."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

from attention_zoo import zoo
from attention_zoo.common.errors import UsageError
from attention_zoo.common.images import to_float
from attention_zoo.datasets import open_dataset
from attention_zoo.evaluate import inception
from attention_zoo.tasks import base, generation, guided, scoring, segmentation


@pytest.fixture
def no_inception(monkeypatch):
    monkeypatch.setattr(inception, "find", lambda *_: None)


def test_the_default_is_the_data_set_s_classifier_or_imagenet_s(no_inception):
    names = {d: scoring.extractor(None, None, d).name for d in ("creatures/many", "cifar10", "x")}
    assert names == {
        "creatures/many": "resnet9-creatures",
        "cifar10": "resnet9-cifar10",
        "x": "efficientnet_lite0-imagenet",
    }


def test_photographs_are_resized_by_a_bicubic_kernel(no_inception):
    found = scoring.extractor(None, None, "folder:pictures")
    pictures = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3)).astype("uint8")
    outputs = found.run(pictures)
    shapes = {kind: value.shape for kind, value in outputs.items()}
    assert shapes == {"features": (2, 1280), "logits": (2, 1000), "spatial": (2, 14 * 14 * 7)}
    network = zoo.load("efficientnet_lite0", "imagenet")
    x = keras.ops.image.resize(to_float(pictures), (224, 224), "bicubic", antialias=True)
    assert abs(np.asarray(network(x)) - outputs["logits"]).max() < 1e-4
    assert found.digest == zoo.get("efficientnet_lite0").weights["imagenet"].sha256[:16]


@pytest.mark.parametrize("count", [1, 3, 8, 9])
def test_few_training_images_are_scored_without_empty_parts(count):
    images = np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3)).astype("uint8")
    sizes = []

    def sample(z):
        sizes.append(len(z))
        return np.zeros((len(z), 16, 16, 3), "float32")

    trainer = SimpleNamespace(sample=sample, attention=lambda *_: None)
    config = SimpleNamespace(options={"latent": 4}, seed=0)
    data = SimpleNamespace(arrays=lambda split: {"image": images})
    assert generation.monitor(trainer, config, data).score()[f"swd_{count}_train"] > 0
    assert sum(sizes) == count and min(sizes) > 0


def test_one_picture_is_a_batch_of_one():
    for channels in (1, 3):
        assert base.checked(np.zeros((6, 5, channels), "uint8")).shape == (1, 6, 5, 3)
    assert base.checked(np.zeros((2, 6, 5), "uint8")).shape == (2, 6, 5, 3)  # grey ones
    with pytest.raises(UsageError, match=r"not \(1, 6, 5, 4\)"):
        base.checked(np.zeros((6, 5, 4), "uint8"))
    with pytest.raises(UsageError, match="one image at least"):
        base.checked(np.zeros((0, 6, 5, 3), "uint8"))


def test_maps_cannot_find_objects_where_there_are_none():
    arrays = {"image": np.zeros((2, 4, 4, 3), "uint8"), "mask": np.ones((2, 4, 4, 1), "uint8")}
    with pytest.raises(UsageError, match="none of the images shows an object"):
        scoring.objects(lambda images: images[..., 0], arrays)


@pytest.mark.parametrize("task", [guided, segmentation])
def test_what_changes_no_score_is_refused(task):
    request, model = base.EvaluationRequest(seed=3), SimpleNamespace(name="gain")
    with pytest.raises(UsageError, match="seed does not go with gain, which makes no images"):
        task.evaluate(model, None, request)


def test_pictures_without_a_label_do_not_count_as_wrong():
    images = np.zeros((3, 8, 8, 3), "uint8")
    model = SimpleNamespace(
        name="gain", options={"classes": 2}, logits=lambda x: np.eye(2)[[0] * 3]
    )
    data = open_dataset({"image": images, "label": [0, 1, -1]})
    with pytest.raises(UsageError, match="have no label each"):
        guided.evaluate(model, data, base.EvaluationRequest(split="train"))
    data = open_dataset({"image": images, "label": [0, 1, 0]})
    (score,) = guided.evaluate(model, data, base.EvaluationRequest(split="train"))
    assert (score.metric, score.value) == ("accuracy_3_train", 2 / 3)


def test_pictures_without_maps_are_refused():
    arrays = {"image": np.zeros((2, 4, 4, 3), "uint8"), "classes": np.full((2, 4, 4, 1), 255)}
    with pytest.raises(UsageError, match="no pixel of these pictures has a class"):
        segmentation.counts(lambda x: np.zeros((*x.shape[:3], 2)), arrays, 2)


def test_no_samples_are_refused():
    with pytest.raises(UsageError, match="at least 1, not 0"):
        generation.Generator("dcgan", {}, {}, None).sample(0)

"""Which features score which data set."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

from attention_zoo import zoo
from attention_zoo.common.images import to_float
from attention_zoo.evaluate import inception
from attention_zoo.tasks import generation, scoring


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

"""Which features score which data set."""

import keras
import numpy as np
import pytest

from attention_zoo import zoo
from attention_zoo.common.images import to_float
from attention_zoo.evaluate import inception
from attention_zoo.tasks import scoring


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

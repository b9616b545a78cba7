"""The door by which weights enter: what was published comes back, all else is refused."""

import dataclasses
import hashlib
import json

import keras
import numpy as np
import pytest

import zoo
from zoo import registry, weights

OPTIONS = {"image_size": 32, "classes": 3, "width": 4}


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder with one published network, in place of the zoo's own."""
    keras.utils.set_random_seed(0)
    network = zoo.create("resnet9", **OPTIONS)["classifier"]
    about = {
        "network": "classifier",
        "options": OPTIONS,
        "dataset": "d-1",
        "scores": {"accuracy_9_test": 0.5},
        "origin": {"command": "c"},
        "license": "Apache-2.0",
    }
    entry = weights.publish("resnet9", "t", network, about, tmp_path)
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    monkeypatch.setitem(registry.get("resnet9").weights, "t", entry)
    return tmp_path, network, entry


def test_what_was_published_comes_back(shelf):
    folder, network, entry = shelf
    again = zoo.load("resnet9", weights="t")
    assert [v.path for v in again.variables] == [v.path for v in network.variables]
    for a, b in zip(again.variables, network.variables):
        assert np.array_equal(a, b)
    row = json.loads((folder / "manifest.json").read_text())["resnet9"]["t"]
    assert registry.Weights(**row) == entry
    assert entry.sha256 == hashlib.sha256((folder / entry.file).read_bytes()).hexdigest()
    with np.load(folder / entry.file) as held:
        assert held["first_1/kernel"].dtype == np.float16
        assert held["first_1_bn/gamma"].dtype == np.float32


def test_another_tag_leaves_the_first(shelf):
    folder, network, entry = shelf
    about = {f.name: getattr(entry, f.name) for f in dataclasses.fields(entry)}
    for name in ("file", "sha256", "probe"):
        del about[name]
    weights.publish("resnet9", "u", network, about, folder)
    assert list(json.loads((folder / "manifest.json").read_text())["resnet9"]) == ["t", "u"]


def test_what_float16_cannot_hold_is_not_published(shelf):
    folder, network, entry = shelf
    network.get_layer("logits").kernel.assign(np.full((16, 3), 1e6))
    with pytest.raises(zoo.WeightsError, match="logits/kernel is not finite, or too large"):
        weights.publish("resnet9", "u", network, {}, folder)


def test_an_unknown_tag_names_those_there_are(shelf):
    with pytest.raises(zoo.WeightsError, match="resnet9 has no weights 'x': it has .*t"):
        zoo.load("resnet9", weights="x")
    with pytest.raises(zoo.WeightsError, match="wgan has no weights 'x': it has none yet"):
        zoo.load("wgan", weights="x")


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_other_bytes_are_refused(shelf, damage):
    folder, _, entry = shelf
    path = folder / entry.file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data if damage == "flip" else data[:100])
    with pytest.raises(zoo.WeightsError, match="cannot be read" if damage == "gone" else "sha256"):
        zoo.load("resnet9", weights="t")


def replace(shelf, monkeypatch, arrays, **changes):
    """Other arrays under a manifest that vouches for their bytes."""
    folder, _, entry = shelf
    np.savez(folder / entry.file, **arrays)
    digest = hashlib.sha256((folder / entry.file).read_bytes()).hexdigest()
    changed = dataclasses.replace(entry, sha256=digest, **changes)
    monkeypatch.setitem(registry.get("resnet9").weights, "t", changed)


def test_what_does_not_fit_is_refused(shelf, monkeypatch):
    folder, _, entry = shelf
    with np.load(folder / entry.file) as file:
        whole = dict(file)
    less = {k: v for k, v in whole.items() if k != "first_1/kernel"}
    replace(shelf, monkeypatch, less)
    with pytest.raises(zoo.WeightsError, match="does not fit classifier: first_1/kernel of 1"):
        zoo.load("resnet9", weights="t")
    replace(shelf, monkeypatch, {**whole, "more": np.zeros(1)})
    with pytest.raises(zoo.WeightsError, match="does not fit classifier: more of 1"):
        zoo.load("resnet9", weights="t")
    replace(shelf, monkeypatch, {**whole, "first_1/kernel": np.zeros((3, 3, 24, 5))})
    with pytest.raises(zoo.WeightsError, match="does not fit classifier: first_1/kernel of 1"):
        zoo.load("resnet9", weights="t")
    replace(shelf, monkeypatch, {**whole, "first_1/kernel": whole["first_1/kernel"] * 1.1 + 0.05})
    with pytest.raises(zoo.WeightsError, match="does not give the output that was stored"):
        zoo.load("resnet9", weights="t")
    replace(shelf, monkeypatch, {**whole, "logits/bias": np.full(3, np.nan)})
    with pytest.raises(zoo.WeightsError, match="does not give the output that was stored"):
        zoo.load("resnet9", weights="t")
    replace(shelf, monkeypatch, {**whole, "first_1/kernel": np.array([{"a": 1}], object)})
    with pytest.raises(zoo.WeightsError, match="is damaged"):
        zoo.load("resnet9", weights="t")
    replace(shelf, monkeypatch, whole)
    zoo.load("resnet9", weights="t")


@pytest.mark.parametrize(
    ("name", "tag"), [(n, tag) for n in zoo.names() for tag in zoo.get(n).weights]
)
def test_every_bundled_file_passes_the_door(name, tag):
    network = zoo.load(name, weights=tag)
    assert network.name == zoo.get(name).weights[tag].network


def test_the_metrics_have_a_classifier():
    entry = zoo.get("resnet9").weights["creatures"]
    assert entry.scores["accuracy_2k_test"] >= 0.95

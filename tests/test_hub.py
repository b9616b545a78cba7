"""Weights of the Hugging Face hub, by a server in its place."""

import json
import re
import shutil

import numpy as np
import pytest

import attention_zoo as az
from attention_zoo import zoo
from attention_zoo.common.hub import request
from attention_zoo.tests import helpers
from attention_zoo.tests.helpers import lines, mistake, publish
from attention_zoo.zoo import weights

COMMIT = "0123456789" * 4
OPTIONS = {"image_size": 32, "latent": 4, "width": 8}
SAMPLE = ["--mode=sample", "--num=4"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder that holds dcgan:mine."""
    folder = tmp_path_factory.mktemp("published")
    publish("dcgan", zoo.create("dcgan", **OPTIONS)["generator"], OPTIONS, folder)
    return folder


@pytest.fixture
def hub(folder, tmp_path, monkeypatch):
    with helpers.hub(folder, tmp_path / "cache", monkeypatch) as server:
        yield server


def found(place):
    """(model, file, its bytes) of weights of the hub."""
    name, entry, address = weights.find(None, f"hf://{place}")
    return name, entry.file, weights.read(address, entry.sha256)


def asked(hub):
    """The paths that the hub was asked for since the last call, without the start they share."""
    paths = [path.partition("/resolve/")[2] for path in hub.asked if path.startswith("/me/zoo/")]
    hub.asked.clear()
    return paths


def test_an_address_alone_gives_the_model(hub, folder, tmp_path, capsys, monkeypatch):
    with np.load(folder / "dcgan-mine.npz") as arrays:
        model = az.load("hf://me/zoo/mine")
        assert model.name == "dcgan"
        for variable in model.network.variables:
            assert np.array_equal(variable, arrays[variable.path])
    assert found("me/zoo")[:2] == ("dcgan", "dcgan-mine.npz")
    assert asked(hub) == ["main/manifest.json", "main/dcgan-mine.npz", "main/manifest.json"]
    monkeypatch.chdir(tmp_path)
    once = lines(capsys, *SAMPLE, "--weights=hf://me/zoo/mine", "--output=a.png")
    lines(capsys, *SAMPLE, f"--weights={folder}/mine", "--output=b.png")
    assert once == ["samples: a.png"]
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_revision_is_taken_and_a_commit_is_asked_for_once(hub, folder, tmp_path):
    old = shutil.copytree(folder, tmp_path / "old")
    rows = json.loads((old / "manifest.json").read_text())
    rows["dcgan"]["mine"]["dataset"] = "older"
    (old / "manifest.json").write_text(json.dumps(rows))
    hub.revisions |= {"refs/pr/1": old, COMMIT: old}
    for revision, dataset in (("", "none"), ("@main", "none"), ("@refs/pr/1", "older")):
        assert weights.find("dcgan", f"hf://me/zoo/mine{revision}")[1].dataset == dataset
    assert asked(hub) == [*["main/manifest.json"] * 2, "refs%2Fpr%2F1/manifest.json"]
    for _ in range(2):
        found(f"me/zoo/mine@{COMMIT}")
    assert asked(hub) == [f"{COMMIT}/manifest.json", f"{COMMIT}/dcgan-mine.npz"]


def test_a_private_repository_needs_the_token(hub, monkeypatch):
    hub.token = "Bearer secret"
    with pytest.raises(zoo.WeightsError, match="does not exist or is private: check its name, and"):
        found("me/zoo/mine")
    monkeypatch.setenv("HF_TOKEN", "secret\n")
    assert found("me/zoo/mine")[:2] == ("dcgan", "dcgan-mine.npz")
    monkeypatch.delenv("HF_TOKEN")  # the manifest in the cache does not take its place
    with pytest.raises(zoo.WeightsError, match="does not exist or is private"):
        found("me/zoo/mine")


def test_what_was_loaded_once_needs_no_network(folder, tmp_path, monkeypatch, capsys, caplog):
    with helpers.hub(folder, tmp_path / "cache", monkeypatch):
        whole = found("me/zoo/mine")
    assert found("me/zoo/mine") == whole
    line = r"hf://me/zoo/manifest.json could not be downloaded: localhost:\d+ does not answer"
    assert re.search(f"{line}; the copy in the cache is used", caplog.text)
    said = mistake(capsys, *SAMPLE, "--weights=hf://me/other/mine")
    assert re.fullmatch(f"main.py: {line}\n".replace("zoo", "other"), said)


@pytest.mark.parametrize(
    ("place", "line"),
    [
        (
            "me/other/mine",
            "hf://me/other does not exist or is private: check its name, and HF_TOKEN",
        ),
        ("me/zoo/mine@v9", "hf://me/zoo has no revision v9: see its list of commits"),
        ("me/zoo/your", "hf://me/zoo/manifest.json lists no weights 'your': it has dcgan:mine"),
        ("me/zoo/part/mine", "hf://me/zoo holds no part/manifest.json: it is not a folder that"),
        ("zoo", "hf://zoo: takes hf://OWNER/NAME/TAG, or hf://OWNER/NAME/TAG@REVISION with"),
        ("me/zoo/mine@", "hf://me/zoo/mine@: takes hf://OWNER/NAME/TAG, or"),
    ],
)
def test_a_mistake_is_one_sentence(place, line, hub, capsys):
    assert mistake(capsys, *SAMPLE, f"--weights=hf://{place}").startswith(f"main.py: {line}")


def test_several_weights_and_models_are_named(hub, folder, tmp_path):
    hub.revisions["main"] = several = shutil.copytree(folder, tmp_path / "several")
    rows = json.loads((several / "manifest.json").read_text())
    row = rows["dcgan"]["mine"]
    (several / "manifest.json").write_text(
        json.dumps({"dcgan": {"mine": row, "two": row}, "wgan": {"two": row}, "new": {"x": row}})
    )
    for place, line in (
        ("me/zoo/mine", None),
        ("me/zoo/two", "manifest.json has several models: name one of dcgan, wgan too"),
        ("me/zoo", "has several models: name one of dcgan, wgan, new too"),
        ("me/zoo/x", "unknown model 'new'"),
    ):
        if line is None:
            assert found(place)[0] == "dcgan"
        else:
            with pytest.raises(az.UsageError, match=line):
                found(place)
    assert weights.find("wgan", "hf://me/zoo/two")[0] == "wgan"
    with pytest.raises(zoo.WeightsError, match="^hf://me/zoo names no tag: dcgan has mine, two$"):
        weights.find("dcgan", "hf://me/zoo")


@pytest.mark.parametrize("file", ["https://host/dcgan-mine.npz", "../other/dcgan-mine.npz"])
def test_files_elsewhere_are_not_fetched(file, hub, folder, tmp_path):
    hub.revisions["main"] = changed = shutil.copytree(folder, tmp_path / "changed")
    text = (changed / "manifest.json").read_text()
    (changed / "manifest.json").write_text(text.replace("dcgan-mine.npz", file))
    with pytest.raises(zoo.WeightsError, match="hf://me/zoo/manifest.json names a file elsewhere"):
        found("me/zoo/mine")
    assert asked(hub) == ["main/manifest.json"]


def test_a_damaged_file_is_refused_and_not_kept(hub, folder, tmp_path, capsys):
    hub.revisions["main"] = damaged = shutil.copytree(folder, tmp_path / "damaged")
    (damaged / "dcgan-mine.npz").write_bytes(b"PK")
    said = mistake(capsys, *SAMPLE, "--weights=hf://me/zoo/mine")
    assert said == (
        "main.py: hf://me/zoo/dcgan-mine.npz is not the published file: its sha256 differs\n"
    )
    assert list((tmp_path / "cache" / "attention_zoo" / "weights").iterdir()) == []


def test_the_hub_is_asked_where_no_endpoint_is_given(monkeypatch):
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.setenv("HF_TOKEN", "t")
    address = "https://huggingface.co/me/zoo/resolve/v1/a/manifest.json"
    assert request("hf://me/zoo/a/manifest.json@v1") == (address, {"Authorization": "Bearer t"})

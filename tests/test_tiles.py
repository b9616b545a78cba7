"""Large pictures in tiles."""

import numpy as np
import pytest
from PIL import Image

import attention_zoo as az
from attention_zoo.common.images import to_uint8
from attention_zoo.experiments import translating
from attention_zoo.tasks import tiles
from attention_zoo.tasks.translation import padded
from attention_zoo.zoo import cyclegan, ganimorph, ra
from attention_zoo.zoo.layers.inference import Inference


@pytest.fixture
def model(monkeypatch):
    """A published translator of 4 blocks; 44 pixels around a tile change it."""
    monkeypatch.setattr(tiles, "PIXELS", 128**2)
    return az.load("attention_gan", "plain2striped")


def picture(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), "uint8")


def test_tiles_have_no_seams(model):
    image = picture(141, 146)
    whole = np.zeros_like(image)
    for rows, columns, translation in model.translate_tiles(image):
        whole[rows, columns] = translation.images[0]
    x = padded(image[None] / np.float32(127.5) - 1)
    expected = model.infer(model._tiles.network, x)["translated"][0, :141, :146]
    difference = abs(whole.astype(int) - to_uint8(expected))
    assert difference.max() <= 1 and whole.std() > 10


def test_the_field_of_a_network_by_hand():
    # stem 3, down 1 and 2, residual blocks 8 each, up 2 and 1, to_rgb 3
    assert tiles.field(cyclegan.generator(2, 3, "a2b")) == (12 + 24, 4)
    # down 2, 4, 8, 16; blocks 12, 24, 48, 24, 12; up 16, 8, 4, 2
    assert tiles.field(ganimorph.generator(2, 1, "a2b")) == (180, 16)


@pytest.mark.parametrize("make", [ganimorph.generator, ra.generator])
def test_strides_of_16_have_no_seams_either(make, monkeypatch):
    network, infer = make(2, 1 if make is ganimorph.generator else 2, "a2b"), Inference()
    rng, image = np.random.default_rng(0), picture(32, 464)
    for v in network.variables:
        v.assign(rng.normal(0, 0.5, v.shape))
    parts = tiles.Tiles(network, infer, padded)
    monkeypatch.setattr(tiles, "PIXELS", (2 * parts.margin + 160) ** 2)
    whole = np.concatenate([outputs["translated"] for _, _, outputs in parts(image)], axis=2)
    expected = infer(parts.network, image[None] / np.float32(127.5) - 1)["translated"]
    assert whole.shape == expected.shape and expected.std() > 0.1
    assert abs(whole - expected).max() < 1e-3


def test_statistics_of_the_whole_picture_give_its_translation(model):
    image = picture(40, 52)
    ((_, _, translation),) = model.translate_tiles(image[:40, :40])
    expected = model.translate(image[None, :40, :40])
    assert abs(translation.images.astype(int) - expected.images).max() <= 1
    assert abs(translation.masks - expected.masks).max() < 1e-2


def test_a_large_picture_keeps_its_size_and_one_beyond_the_memory_is_skipped(
    model, tmp_path, monkeypatch, caplog
):
    (tmp_path / "in").mkdir()
    for name, size in {"a": (150, 140), "b": (20, 24), "c": (20, 24), "d": (16, 16)}.items():
        Image.fromarray(picture(*size)).save(tmp_path / "in" / f"{name}.png")
    translate, calls = model.translate, []

    def limited(images):
        calls.append(len(images))
        if len(images) > 1 or len(calls) == 2:
            raise MemoryError
        return translate(images)

    monkeypatch.setattr(model, "translate", limited)
    made = translating.translate_folder(model, tmp_path / "in", tmp_path / "out")
    assert made.images == 3 and calls == [2, 1, 1, 1]
    assert "needs more memory than there is, make it smaller: b.png" in caplog.text
    names = sorted(p.name for p in (tmp_path / "out").glob("*.png"))
    assert names == ["a.png", "c.png", "d.png"]
    for folder in ("", "attention"):
        assert Image.open(tmp_path / "out" / folder / "a.png").size == (140, 150)

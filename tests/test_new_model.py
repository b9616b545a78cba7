"""A new model of an existing kind needs its file in zoo/, its file in trainers/ and its spec, and
nothing else: a toy generator and a toy translator go the whole way."""

import json
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest

import attention_zoo as az
from attention_zoo import trainers, zoo
from attention_zoo.experiments import exporting
from attention_zoo.experiments.publishing import publish
from attention_zoo.experiments.translating import translate_folder
from attention_zoo.serving import signatures
from attention_zoo.trainers import base
from attention_zoo.zoo import registry

pytestmark = pytest.mark.usefixtures("eager")

GUIDE = (Path(__file__).parents[1] / "docs" / "guides" / "add_a_model.md").read_text()
FILES = {
    # the toy generator is that of docs/guides/add_a_model.md
    **dict(re.findall(r'```python title="(.+?)"\n(.+?)```', GUIDE, re.S)),
    "zoo/toy_translator.py": """
        import keras

        from .networks import Networks

        def build(image_size=32, width=2):
            def generator(name):
                image = keras.Input((None, None, 3), name="image")
                x = keras.layers.Conv2D(width, 3, padding="same", name="hidden")(image)
                x = keras.layers.Conv2D(3, 3, padding="same", activation="tanh", name="rgb")(x)
                return keras.Model(image, {"translated": x}, name=name)

            def discriminator(name):
                image = keras.Input((image_size, image_size, 3), name="image")
                logits = keras.layers.Conv2D(1, 4, 4, name="logits")(image)
                return keras.Model(image, logits, name=name)

            makers = {name: lambda name=name: generator(name) for name in ("a2b", "b2a")}
            for name in ("discriminator_a", "discriminator_b"):
                makers[name] = lambda name=name: discriminator(name)
            return Networks(makers)
        """,
    "trainers/toy_translator.py": """
        from . import base, cyclegan

        RECIPES = {"creatures": base.Recipe(image_size=32, batch_size=2, steps=4)}
        VARIANTS = {"toy": (cyclegan.HParams, cyclegan.CycleGAN)}
        """,
}


@pytest.fixture
def toys(tmp_path, monkeypatch):
    """A toy generator and a toy translator in the zoo, their files in a folder of their own."""
    for name, text in FILES.items():
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    for room in (zoo, trainers):
        place = tmp_path / "source" / room.__name__.rpartition(".")[2]
        monkeypatch.setattr(room, "__path__", [*room.__path__, str(place)])
    about = {"paper": "Nobody: Toys, 2020", "source": "here", "datasets": ("creatures",)}
    specs = (
        registry.ModelSpec("toy_gan", task="toys", module="toy_gan", kind="generation", **about),
        registry.ModelSpec(
            "toy_translator",
            task="toys",
            module="toy_translator",
            kind="translation",
            batch=("image_a", "image_b"),
            **about,
        ),
    )
    for spec in specs:
        monkeypatch.setitem(registry._TABLE, spec.name, spec)
    return tmp_path


OPTIONS = {"log_every": 1, "save_every": 2, "sample_every": 2}


def go_on(model, data, folder, **options):
    """A run of 4 steps in two parts, whose rows are those of one in a single part."""
    options |= {**OPTIONS, "data_dir": str(folder)}
    az.train(model, data, steps=2, run_dir=folder / "run", **options)
    run = az.train(model, data, steps=4, run_dir=folder / "run", **options)
    assert (run.resumed_at, run.step) == (2, 4)
    whole = az.train(model, data, steps=4, run_dir=folder / "whole", **options)
    metrics = [(r.folder / "metrics.jsonl").read_text() for r in (run, whole)]
    assert metrics[0] == metrics[1]
    return run


def test_a_generator(toys):
    run = go_on("toy_gan", "creatures/tiny", toys)
    model = az.open_run(run.folder)
    assert model.sample(3).shape == (3, 32, 32, 3)
    scores = az.evaluate(model, metrics=("fid",), num=16, data_dir=str(toys))
    assert scores[0].value > 0
    place = toys / "published"
    published = publish(
        run.folder, "first", output=str(place), num=16, metrics=("fid",), data_dir=str(toys)
    )
    assert "Nobody: Toys, 2020" in published.card.read_text()
    loaded = az.load("toy_gan", f"{place}/first")
    assert (loaded.sample(2) == az.open_run(run.best).sample(2)).mean() > 0.9
    exported = az.export(loaded, toys / "exported")
    assert "generate_png" in exported[0].signatures


def test_a_translator(toys):
    run = go_on(
        "toy_translator", "creatures/plain2striped/tiny", toys, decay_steps=4, pool=4, image_size=32
    )
    model = az.open_run(run.folder, direction="b2a")
    images = np.zeros((2, 30, 34, 3), np.uint8)
    assert model.translate(images).images.shape == images.shape
    scores = az.evaluate(model, metrics=("kid",), data_dir=str(toys))
    assert scores[0].metric == "kid_resnet9-creatures_16_test_a"
    assert any(score.metric.startswith("background_psnr_") for score in scores)
    place = toys / "published"
    publish(run.folder, "back", output=str(place), direction="b2a", data_dir=str(toys))
    rows = json.loads((place / "manifest.json").read_text())["toy_translator"]
    assert rows["back"]["network"] == "b2a"
    loaded = az.load("toy_translator", f"{place}/back")
    assert loaded.direction == "b2a"
    pictures = toys / "pictures"
    pictures.mkdir()
    from PIL import Image

    Image.new("RGB", (37, 21), "red").save(pictures / "a.png")
    assert translate_folder(loaded, str(pictures), toys / "out").images == 1
    assert Image.open(toys / "out" / "a.png").size == (37, 21)
    served = exporting.served(az.open_run(run.folder))
    endpoints = signatures.build(served.networks, served.role, served.size, served.threshold)
    assert "translate_back_png" in endpoints


def test_a_toy_is_no_part_of_the_zoo():
    assert "toy_gan" not in zoo.names()
    assert base.Recipe(image_size=32, batch_size=8, steps=4).options == {}

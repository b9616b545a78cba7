"""RunConfig: recipes, overrides, types, and the record of today's run directories."""

import dataclasses
import json

import numpy as np
import pytest

from attention_zoo import UsageError, trainers, zoo
from attention_zoo.experiments.config import RunConfig


def test_a_recipe_and_overrides_give_complete_values():
    config = RunConfig.resolve(
        "ragan", "creatures/tiny", steps=8, settings={"regions": 2, "learning_rate": "0.001"}
    )
    assert (config.image_size, config.batch_size, config.steps, config.loss) == (32, 32, 8, "dcgan")
    assert config.options["regions"] == 2
    assert config.options["width"] == 64
    assert config.hparams["learning_rate"] == 1e-3
    assert config.hparams["beta_1"] == 0.5
    assert config.every == {"log": 50, "sample": 500, "save": 500, "eval": 500}


def test_no_placeholder_is_left():
    assert RunConfig.resolve("resnet9", "creatures/tiny", steps=7).hparams["decay_steps"] == 7
    asked = RunConfig.resolve("resnet9", "creatures/tiny", steps=7, settings={"decay_steps": 0})
    assert asked.hparams["decay_steps"] == 0
    assert RunConfig.resolve("resnet9", "creatures/tiny").options["classes"] == 8
    assert RunConfig.resolve("deeplab", "creatures/many/tiny").options["classes"] == 9


def test_a_recipe_can_give_a_loss_values_of_its_own():
    asked = [{}, {"loss": "sec"}, {"loss": "sec", "learning_rate": 0.1}]
    found = [RunConfig.resolve("deeplab", "creatures/many", settings=s).hparams for s in asked]
    assert [hp["learning_rate"] for hp in found] == [0.02, 0.005, 0.1]
    assert "sigma_alpha" in found[1]
    assert found[1]["policy"] == "poly"


@pytest.mark.parametrize("model", ["gain", "deeplab"])
def test_efficientnet_as_a_backbone_starts_from_imagenet_s_weights(model):
    data, asked = "creatures/many", {"backbone": "efficientnet_lite0"}
    assert RunConfig.resolve(model, data).options["start"] == ""
    config = RunConfig.resolve(model, data, settings=asked)
    options = config.options
    assert options["start"] == "efficientnet_lite0:imagenet" and options["normalise"] == "none"
    assert options["width"] == 32 and config.hparams["head_rate"] == 10
    own = RunConfig.resolve(model, data, settings=asked | {"start": "", "head_rate": 2})
    assert own.options["start"] == "" and own.hparams["head_rate"] == 2


def test_efficientnet_on_photographs_sees_parts_at_several_scales(tmp_path):
    for split in ("train", "val"):
        path = tmp_path / "ImageSets" / "Segmentation" / f"{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a\n")
    (tmp_path / "JPEGImages").mkdir()
    data, asked = f"voc2012:{tmp_path}", {"backbone": "efficientnet_lite0"}
    found = {m: RunConfig.resolve(m, data, settings=asked) for m in ("gain", "deeplab")}
    scales = {m: (c.hparams["scale_min"], c.hparams["scale_max"]) for m, c in found.items()}
    assert scales == {"gain": (0.75, 1.5), "deeplab": (0.5, 1.5)}
    options = found["gain"].options
    assert (options["scales"], options["output_stride"]) == ("0.75,1,1.25", 16)
    assert found["deeplab"].options["stride"] == 8
    plain = RunConfig.resolve("gain", data)
    assert (plain.options["scales"], plain.hparams["scale_max"]) == ("", 1.0)
    small = RunConfig.resolve("gain", "creatures/many", settings=asked)
    assert (small.options["scales"], small.hparams["scale_max"]) == ("", 1.0)


def test_pictures_larger_than_the_network_keep_their_ratio():
    config = RunConfig.resolve("cyclegan", "horse2zebra", image_size=128)
    assert (config.image_size, config.load_size) == (128, 143)
    assert RunConfig.resolve("dcgan", "creatures").load_size is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"widht": 8}, "there are attend_at=8"),
        ({"width": "wide"}, "width takes a whole number"),
        ({"width": 8.5}, "width takes a whole number"),
        ({"width": True}, "width takes a whole number"),
        ({"mask_size": "half"}, "mask_size takes a number"),
        ({"learning_rate": float("nan")}, "learning_rate takes a number"),
        ({"learning_rate": -1}, r"learning_rate must lie in \[0, inf\], not -1.0"),
        ({"loss": "hinge"}, "ragan has dcgan, wgan"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        RunConfig.resolve("ragan", "creatures", settings=settings)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps is a whole number from 1, not 0"),
        ({"batch_size": -4}, "batch_size is a whole number from 1"),
        ({"seed": -1}, "seed is a whole number from 0"),
        ({"precision": "float8"}, "precision is one of float32"),
        ({"steps": 10, "steps_per_execution": 4}, "steps_per_execution must divide steps=10"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        RunConfig.resolve("dcgan", "creatures", **options)


def test_a_model_and_its_data_must_go_together():
    with pytest.raises(UsageError, match="trains on a data set of two domains"):
        RunConfig.resolve("cyclegan", "creatures")
    with pytest.raises(UsageError, match="trains on creatures, cifar10, cells"):
        RunConfig.resolve("resnet9", "celeb_a")


def test_arrays_train_at_their_own_size():
    config = RunConfig.resolve("dcgan", np.zeros((4, 32, 32, 3), np.uint8))
    assert (config.dataset, config.image_size) == ("arrays", 32)


def test_the_record_is_read_back():
    for model, data in (("ragan", "creatures"), ("cyclegan", "horse2zebra")):
        config = RunConfig.resolve(model, data, steps=10)
        record = json.loads(json.dumps(config.record()))
        assert RunConfig.from_record({**record, "data": "x", "replicas": 1}) == config
    assert "load_size" not in RunConfig.resolve("dcgan", "creatures").record()


def test_a_configuration_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunConfig.resolve("dcgan", "creatures").steps = 3


def test_the_default_folder_names_what_was_changed():
    config = RunConfig.resolve("ragan", "creatures/tiny")
    assert config.default_folder() == "runs/ragan-creatures_tiny"
    changed = config.default_folder({"width": "8", "loss": "wgan"})
    assert changed == "runs/ragan-creatures_tiny-loss=wgan-width=8"


@pytest.mark.parametrize("name", zoo.names())
def test_every_recipe_of_every_model_resolves(name):
    module = trainers.get(zoo.get(name).trainer or name)
    for variant in module.VARIANTS:
        make, _ = module.VARIANTS[variant]
        names = {field.name for field in dataclasses.fields(make)}
        for recipe in module.RECIPES.values():
            assert recipe.hparams.keys() <= names | {"masks"}
            assert recipe.variants.keys() <= {*module.VARIANTS, *zoo.names("classification")}

"""The public API: one line each, typed results, no output that was not asked for."""

import dataclasses
import subprocess
import sys
import threading

import numpy as np
import pytest
import tensorflow as tf

import attention_zoo as az
from attention_zoo import datasets, zoo
from attention_zoo.experiments import evaluation

pytestmark = pytest.mark.usefixtures("eager")

TINY = {"width": 4, "latent": 8, "batch_size": 8, "save_every": 2, "sample_every": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="module")
def run(folder):
    return az.train(
        "dcgan", "creatures/tiny", steps=4, run_dir=folder / "run", data_dir=str(folder), **TINY
    )


def test_the_package_imports_neither_tensorflow_nor_keras():
    program = (
        "import sys; sys.path.insert(0, '.'); import main, attention_zoo as az; az.load; "
        "sys.exit(bool({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_the_room_evaluate_does_not_hide_the_function():
    import attention_zoo.evaluate.fid  # noqa: F401

    assert callable(az.evaluate)


def test_published_weights_sample(capfd):
    model = az.load("ragan", "cifar10")
    images = model.sample(5, seed=0)
    assert (images.shape, images.dtype) == ((5, 32, 32, 3), np.uint8)
    assert (images == model.sample(5, seed=0)).all()
    assert (images != model.sample(5, seed=1)).any()
    assert images.std() > 20
    assert model.capabilities == {"sample"}
    out, _ = capfd.readouterr()
    assert out == ""


def test_the_default_weights_are_those_of_the_first_data_set():
    assert az.load("ragan").origin.weights == "cifar10"
    with pytest.raises(az.UsageError, match="no weights of cyclegan are published"):
        az.load("cyclegan")


def test_published_weights_translate():
    model = az.load("attention_gan", "plain2striped")
    images = np.random.default_rng(0).integers(0, 256, (3, 30, 41, 3), np.uint8)
    made = model.translate(images)
    assert made.images.shape == images.shape
    assert made.masks.shape[:3] == made.attention.shape == (3, 30, 41)
    assert model.direction == "a2b"
    assert az.load("attention_gan", "striped2plain").direction == "b2a"
    with pytest.raises(az.UsageError, match="direction=a2b: striped2plain has the network b2a"):
        az.load("attention_gan", "striped2plain", direction="a2b")
    with pytest.raises(az.UsageError, match="for models that translate: resnet9 does not"):
        az.load("resnet9", "creatures", direction="a2b")


def test_published_weights_explain_and_classify():
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    gain = az.load("gain", "many")
    assert gain.explain(images).shape == (3, 8, 64, 64)
    assert gain.classify(images).logits.shape == (3, 8)
    classifier = az.load("resnet9", "creatures")
    assert classifier.classify(images).probabilities.sum(1) == pytest.approx([1, 1, 1])
    maps = classifier.explain(images)
    assert maps.shape == (3, 64, 64)
    assert maps.min() == 0
    assert maps.max() == 1
    assert az.load("deeplab", "many").segment(images).shape == (3, 64, 64)
    small = images[:, ::2, ::2]  # of another size than the networks'
    assert gain.explain(small).shape == (3, 8, 32, 32)
    assert classifier.explain(small[:, :20]).shape == (3, 20, 32)
    assert az.load("deeplab", "many").segment(small[:, :20]).shape == (3, 20, 32)
    cells = az.load("ata_gan", "cells")
    assert cells.capabilities == {"sample", "explain"}
    assert cells.explain(cells.sample(2)).shape == (2, 64, 64)


def test_what_a_model_cannot_do_is_one_sentence():
    model = az.load("ragan", "cifar10")
    with pytest.raises(az.UsageError, match="^ragan cannot translate: it can sample$"):
        model.translate(np.zeros((1, 32, 32, 3), np.uint8))
    with pytest.raises(az.UsageError, match="takes no reference images"):
        model.sample(1, references=np.zeros((1, 32, 32, 3), np.uint8))
    with pytest.raises(az.UsageError, match=r"images are \(N, H, W, 3\), not \(4,\)"):
        az.load("resnet9", "creatures").classify(np.zeros(4, np.uint8))


def test_a_run_is_typed_and_silent(run, folder, capfd):
    assert (run.folder, run.step, run.resumed_at) == (folder / "run", 4, 0)
    assert run.best.exists()
    assert run.samples.name == "step_00000004.png"
    assert run.report.exists()
    again = az.train(
        "dcgan", "creatures/tiny", steps=6, run_dir=folder / "run", data_dir=str(folder), **TINY
    )
    assert (again.step, again.resumed_at) == (6, 4)
    assert capfd.readouterr().out == ""


def test_a_run_opens_without_a_trainer(run, monkeypatch):
    from attention_zoo.trainers import base

    monkeypatch.setattr(base.Trainer, "__init__", None)  # calling it would fail
    model = az.open_run(run.folder)
    assert model.sample(3).shape == (3, 32, 32, 3)
    assert model.networks.networks.built == ("generator",)
    assert az.open_run(run.best).origin.step == int(run.best.stem[-8:])


def test_a_run_samples_as_its_trainer_did(run):
    from attention_zoo.experiments.training import restore_trainer
    from attention_zoo.tasks.generation import latents

    trainer, _ = restore_trainer(run.folder)
    z = latents(4, 8, 0)
    assert np.array_equal(az.open_run(run.folder).sample_latents(z), trainer.sample(z))


def test_scores_are_typed_and_kept(run, folder):
    model = az.open_run(run.folder)
    scores = az.evaluate(model, metrics=("fid", "kid"), num=16, data_dir=str(folder))
    assert [s.metric for s in scores] == [
        "fid_resnet9-creatures_16_test",
        "kid_resnet9-creatures_16_test",
    ]
    assert scores[0].value > 0
    assert scores[1].deviation >= 0
    assert scores[0].details["model"] == "dcgan"
    assert scores[0].row()["metric"] == scores[0].metric
    assert "fid_resnet9-creatures_16_test" in (run.folder / "evaluation.jsonl").read_text()


def test_images_from_anywhere_are_scored(folder):
    images = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8)
    same = az.evaluate(
        images=images,
        reference=images,
        extractor="zoo:resnet9-creatures",
        data_dir=str(folder),
    )
    assert same[0].metric == "fid_resnet9-creatures_20_train"
    assert abs(same[0].value) < 1e-5
    other = az.evaluate(
        images=images, reference="creatures/tiny", metrics=("kid",), data_dir=str(folder)
    )
    assert other[0].value > 0.01
    with pytest.raises(az.UsageError, match="takes a model, or images"):
        az.evaluate()
    with pytest.raises(az.UsageError, match="need a reference"):
        az.evaluate(images=images)


def test_training_takes_arrays_and_streams(folder):
    images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), np.uint8)
    arrays = az.train("dcgan", images, steps=2, run_dir=folder / "arrays", **TINY)
    assert arrays.step == 2
    stream = tf.data.Dataset.from_tensor_slices(images).batch(4)
    assert az.train("wgan", stream, steps=2, run_dir=folder / "stream", **TINY).step == 2
    label = np.arange(16) % 2
    labelled = {"image": images, "label": label}
    trained = az.train(
        "resnet9", labelled, steps=2, batch_size=4, run_dir=folder / "labelled", width=4
    )
    assert az.open_run(trained.folder).classify(images).logits.shape == (16, 2)
    with pytest.raises(az.UsageError, match="give reference="):
        az.evaluate(az.open_run(arrays.folder), num=16)
    scores = az.evaluate(
        az.open_run(arrays.folder),
        reference=images,
        num=16,
        split="train",
        extractor="zoo:resnet9-creatures",
        data_dir=str(folder),
    )
    assert scores[0].value > 0


def test_training_works_in_a_thread(folder):
    runs = []

    def work():
        options = {"run_dir": folder / "thread", "data_dir": str(folder)}
        runs.append(az.train("dcgan", "creatures/tiny", steps=2, **options, **TINY))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert runs[0].step == 2


def test_mistakes_are_one_sentence(folder):
    with pytest.raises(az.UsageError, match="did you mean 'ragan'"):
        az.train("ragn", run_dir=folder / "x")
    with pytest.raises(az.UsageError, match="there are "):
        az.train("dcgan", "creatures/tiny", run_dir=folder / "x", widht=4)
    with pytest.raises(az.UsageError, match="holds no run.json"):
        az.open_run(folder / "nowhere")
    with pytest.raises(az.UsageError, match="ragan has no weights 'x'"):
        az.load("ragan", "x")
    assert not (folder / "x").exists()


def test_export_and_publish(run, folder):
    exported = az.export(az.open_run(run.folder), folder / "exported")
    assert exported[0].path == folder / "exported" / "dcgan" / "1"
    assert exported[0].signatures == ("generate", "generate_png", "serving_default")


def test_an_ata_gan_run_is_opened_without_its_teacher(folder, monkeypatch):
    trained = az.train(
        "ata_gan",
        "cells/tiny",
        steps=2,
        image_size=32,
        run_dir=folder / "ata",
        data_dir=str(folder),
        **TINY,
    )
    monkeypatch.setattr(zoo.weights, "load", None)
    model = az.open_run(trained.folder)
    images = model.sample(2)
    assert model.explain(images).shape == (2, 32, 32)
    assert set(model.networks.networks.built) == {"generator", "discriminator"}


def test_references_are_taken_by_runs_that_have_an_encoder(folder):
    trained = az.train(
        "ragan",
        "creatures/tiny",
        steps=2,
        run_dir=folder / "ragan",
        data_dir=str(folder),
        encoder_width=4,
        **TINY,
    )
    model = az.open_run(trained.folder)
    references = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    assert model.accepts_reference
    assert model.sample(2, references=references).shape == (2, 32, 32, 3)
    with pytest.raises(az.UsageError, match="a reference for each of 3 samples"):
        model.sample(3, references=references)


def moved(model):
    """Makes the samples of a run of few steps depend on its references."""
    model.networks["generator_with_reference"].get_layer("attention").get_layer(
        "attention_layer"
    ).weight.assign([5.0] * 4)
    return model


def test_references_are_drawn_from_the_training_images(folder):
    model = moved(az.open_run(folder / "ragan"))
    options = {"seed": 3, "data_dir": str(folder)}
    images = model.sample(5, references="training", **options)
    assert np.array_equal(images, model.sample(5, references="training", **options))
    assert (
        abs(images[:2].astype(int) - model.sample(2, references="training", **options)).max() <= 1
    )
    real = datasets.arrays("creatures/tiny", "train", image_size=32, data_dir=str(folder))["image"]
    drawn = np.random.default_rng([3, 1]).integers(len(real), size=5)
    assert np.array_equal(images, model.sample(5, seed=3, references=real[drawn]))
    assert (images != model.sample(5, seed=3, references=real[drawn - 1])).any()
    bank = model.sample(5, seed=3)
    assert (images != bank).any()
    assert np.array_equal(bank, model.sample(5, seed=3, references="bank"))


def test_a_score_says_that_its_references_are_training_images(folder):
    model = az.open_run(folder / "ragan")
    options = {"metrics": ("kid", "is"), "num": 20, "data_dir": str(folder)}
    asked = {"references": "training", **options}
    kid, inception_score = az.evaluate(model, **asked)
    assert kid.metric == "kid_resnet9-creatures_20_test_training-references"
    assert inception_score.metric == "is_resnet9-creatures_20_training-references"
    assert kid.row()["references"] == inception_score.row()["references"] == "training"
    banks = [az.evaluate(model, **{**options, **more}) for more in ({}, {"references": "bank"})]
    assert [s.value for s in banks[0]] == [s.value for s in banks[1]]
    assert banks[0][0].metric == "kid_resnet9-creatures_20_test"
    assert "references" not in banks[0][0].row()
    with pytest.raises(az.UsageError, match="no metric in common"):
        evaluation.differences([kid], [banks[0][0].row()])


def test_references_are_refused_where_none_are_taken(folder, run):
    model = az.open_run(run.folder)
    for references in ("bank", "training"):
        with pytest.raises(az.UsageError, match="takes no reference images: leave references out"):
            model.sample(1, references=references)
        with pytest.raises(az.UsageError, match="references does not go with .*run, which takes"):
            az.evaluate(model, references=references)
    with pytest.raises(az.UsageError, match="references needs a model"):
        az.evaluate(images=model.sample(12), reference="creatures/tiny", references="training")
    ragan = az.open_run(folder / "ragan")
    with pytest.raises(az.UsageError, match="references is one of bank, training, or images"):
        ragan.sample(1, references="test")
    ragan.origin = dataclasses.replace(ragan.origin, dataset="arrays")
    with pytest.raises(az.UsageError, match="was trained on images in memory"):
        ragan.sample(1, references="training")


def test_a_tag_that_is_a_run_directory_too_is_refused(folder, run, monkeypatch):
    from attention_zoo.experiments.models import is_published, open_model

    monkeypatch.chdir(folder)
    (folder / "cifar10").symlink_to(run.folder)
    with pytest.raises(az.UsageError, match="write ./cifar10 for the directory"):
        open_model("cifar10", "ragan")
    assert open_model("./cifar10").name == "dcgan"
    assert is_published("https://host/folder/tag")
    assert not is_published(str(run.folder))
    assert is_published("creatures", "ragan")


def test_types_are_imported_when_they_are_used():
    assert az.RunConfig.resolve("dcgan", "creatures", steps=3).steps == 3
    assert isinstance(az.load("ragan"), az.LoadedModel)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        az.nothing  # noqa: B018

"""The studies of GAIN, each of one network of two steps, and what they are made of."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from attention_zoo.cli import main
from attention_zoo.common.errors import UsageError
from attention_zoo.datasets import open_dataset
from attention_zoo.evaluate import multilabel
from attention_zoo.studies import base, gain

pytestmark = pytest.mark.usefixtures("eager")

TINY = ["--set=backbone=resnet9", "--set=width=4", "--batch_size=4", "--steps=2"]


@pytest.fixture(autouse=True)
def one(monkeypatch):
    monkeypatch.setattr(gain, "RUNS", {"Grad-CAM": {"loss": "classifier"}})
    monkeypatch.setattr(gain, "SHARES", ())
    monkeypatch.setattr(gain, "CLASSIFIERS", 2)  # of erasing


@pytest.mark.slow
def test_from_attention_to_segmentation(tmp_path, capsys, monkeypatch):
    flags = ["--mode=study", "--study=gain", "--dataset=creatures/many/tiny", "--set=fc=8"]
    flags += ["--set=head_rate=10", "--threshold=0.3"]
    monkeypatch.setattr(sys, "argv", ["main.py", *flags])
    monkeypatch.setattr(gain, "FREQUENT", 3)  # of four pictures
    assert main.main([*flags, *TINY, "--num=4", f"--output={tmp_path}"]) == 0
    record = json.loads((tmp_path / "gain.json").read_text())
    rows, plain = record["rows"], record["rows"]["Grad-CAM"]
    assert list(rows) == ["Grad-CAM", "AE-PSL", "SEC", "full supervision"]
    assert rows["AE-PSL"]["recall"][0] > plain["recall"][0]  # of more than one classifier
    assert list(rows["SEC"]) == list(rows["full supervision"]) == ["deeplab", "crf"]
    scores = [row[key] for row in rows.values() for key in ("deeplab", "crf")]
    for score in (plain["labels"], plain["labels_by_masks"], *scores):
        assert 0 < score["miou"] < 1 and len(score["iou_by_class"]) == 9
    assert 0 in record["frequent_classes"] and plain["labels"]["miou_frequent"] > 0
    at = dict(zip(gain.SWEPT, plain["swept"]))
    assert plain["labels"]["miou"] == at[0.3] and len(set(at.values())) > 3
    assert 0 < plain["classification_map"] < 1 and plain["threshold_by_masks"] in gain.THRESHOLDS
    at = dict(zip(gain.SWEPT, plain["recall"][2:]))
    assert plain["recall"][0] == at[0.3] and list(at.values()) == sorted(at.values(), reverse=True)
    assert [len(plain[key]) for key in ("recall", "precision")] == [2 + len(gain.SWEPT)] * 2
    trainings = ["Grad-CAM", "AE-PSL: classifier 2", *(f"{name}: deeplab" for name in rows)]
    assert list(record["costs"]) == trainings
    assert all(cost["minutes"] > 0 for cost in record["costs"].values())
    table = (tmp_path / "gain.md").read_text()
    assert "| SEC | – | – |" in table and "| Grad-CAM: deeplab | " in table
    for name in ("gain", "gain_pseudo_labels"):
        assert np.asarray(Image.open(tmp_path / f"{name}.png")).std() > 20
    configs = {
        name: json.loads((tmp_path / name / "run.json").read_text())["config"]
        for name in ("Grad_CAM", "Grad_CAM__deeplab", "SEC__deeplab")
    }
    assert configs["Grad_CAM"]["options"]["backbone"] == "resnet9"
    assert configs["SEC__deeplab"]["loss"] == "sec"
    assert configs["SEC__deeplab"]["options"]["classes"] == 9
    data = {name: config["data"] for name, config in configs.items()}  # with the labels' digest
    assert len(set(data.values())) == 3

    made = {"Grad_CAM": ("gain", "map_32_test"), "SEC__deeplab": ("deeplab", "miou_32_test")}
    for run, (model, metric) in made.items():
        capsys.readouterr()
        assert main.main(["--mode=evaluate", f"--weights={tmp_path / run}"]) == 0
        row = json.loads(capsys.readouterr().out.splitlines()[0])
        assert row["metric"] == metric and 0 < row["value"] < 1
        publish = ["--mode=publish", f"--run_dir={tmp_path / run}", "--tag=mine"]
        assert main.main([*publish, f"--output={tmp_path / 'zoo'}"]) == 0
        weights = [f"--model={model}", f"--weights={tmp_path / 'zoo' / 'mine'}"]
        assert main.main(["--mode=evaluate", *weights]) == 0
        again = [json.loads(v) for v in capsys.readouterr().out.splitlines() if v[0] == "{"][0]
        assert abs(again["value"] - row["value"]) < 0.05  # kernels in float16
        assert (tmp_path / "zoo" / f"{model}-mine.png").exists()
        assert (
            f"the weights of its run `{run}`."
            in (tmp_path / "zoo" / f"{model}-mine.md").read_text()
        )


def test_attention_on_objects_of_own_and_of_other_scenes(tmp_path, capsys):
    flags = ["--mode=study", "--study=biased", "--dataset=creatures/biased/tiny"]
    flags += ["--set=scales=0.5,1"]
    assert main.main([*flags, *TINY, f"--output={tmp_path}"]) == 0
    record = json.loads((tmp_path / "biased.json").read_text())
    assert record["scales"] == "0.5,1"
    (row,) = record["rows"].values()
    assert len(row) == 4 and all(0 <= v <= 1 for v in row) and row[2] != row[3]
    assert "accuracy, other scene" in capsys.readouterr().out


def test_a_data_set_without_maps_is_refused(capsys):
    assert main.main(["--mode=study", "--study=gain", "--dataset=creatures/tiny"]) == 2
    assert "needs labels, classes, which creatures/tiny lacks" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--study=gain", "--threshold=0.3", "--background=0.4"], "background lies above"),
        (["--study=biased", "--threshold=0.3"], "--threshold does not go with --study=biased"),
    ],
)
def test_thresholds_without_meaning_are_refused(flags, said, capsys):
    assert main.main(["--mode=study", *flags]) == 2
    assert said in capsys.readouterr().err


def test_pixels_that_are_not_labelled_count_as_background():
    truth = np.array([[[[0], [1]], [[1], [255]]]])
    found = gain.scored(truth, np.array([[[255, 1], [255, 1]]]), 3, np.array([1]))
    assert found == {"miou": 0.5, "miou_frequent": 0.5, "iou_by_class": [0.5, 0.5, None]}
    found = gain.scored(truth, np.array([[[0, 1], [0, 0]]]), 3, np.array([], int))
    assert found["miou_frequent"] is None


def test_mean_average_precision_by_hand():
    scores = [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]]
    labels = [[1, 0], [0, 0], [1, 1]]
    assert abs(multilabel.mean_average_precision(scores, labels) - (5 / 6 + 1) / 2) < 1e-12
    nowhere = [[1, 0], [0, 0], [1, 0]]
    assert abs(multilabel.mean_average_precision(scores, nowhere) - 5 / 6) < 1e-12


IMAGES = np.array([[[[0] * 3, [30] * 3, [60] * 3]], [[[90] * 3, [120] * 3, [0] * 3]]], np.uint8)
FIRST = [np.array([[[1], [0.5], [0]]]), np.array([[[0.1, 0], [0.2, 0], [0.4, 0]]])]  # (1, 3, P)
SECOND = [np.array([[[0.2], [0], [0.4]]]), np.array([[[0, 0.3], [0, 0.9], [0, 0]]])]


def test_mined_regions_get_the_mean_colour_and_all_else_stays():
    regions = np.array([[[True, False, False]], [[False, True, True]]])
    left = gain.erased(IMAGES, regions)
    assert left.dtype == np.uint8
    assert left[..., 0].tolist() == [[[50, 30, 60]], [[90, 50, 50]]]


def test_regions_of_a_class_are_united():
    found = [m.tolist() for m in gain.united(FIRST, SECOND)]
    assert found[0] == [[[1], [0.5], [1]]]
    np.testing.assert_allclose(found[1], [[[0.25, 1 / 3], [0.5, 1], [1, 0]]])


class Attentive:
    """A trainer whose attention is SECOND, to class 1 of the first image and 0 and 2 of the
    second."""

    def __init__(self):
        self.seen = []

    def explain(self, x):
        self.seen.append(np.rint((x[:, 0, :, 0] + 1) * 127.5).tolist())
        every = np.zeros((2, 3, 1, 3))
        for one, maps, classes in zip(every, SECOND, ([1], [0, 2])):
            one[classes] = np.moveaxis(maps, -1, 0)
        return None, every


def test_each_classifier_of_erasing_learns_from_what_the_ones_before_it_left(monkeypatch):
    """Thresholds of 0.6: the first classifier mines pixel 0 of the first image and pixel 2 of the
    second, the next ones, whose attention is the same, pixels 2 and 1."""
    monkeypatch.setattr(gain, "CLASSIFIERS", 3)
    trained, trainer = [], Attentive()

    class Runs:
        folder = staticmethod(str)

        def train(self, study, name, model, data, settings, replace, others):
            trained.append((name, model, settings, replace["image"][:, 0, :, 0].tolist()))

    monkeypatch.setattr(gain, "restore_trainer", lambda folder: (trainer, None))
    train = {"image": IMAGES, "labels": np.array([[0, 1, 0], [1, 0, 1]], np.float32)}
    found, maps = gain.erasing("gain", Runs(), "data", train, FIRST, 0.6)
    left = [[[50, 30, 60], [90, 120, 50]], [[50, 30, 50], [90, 50, 50]]]
    plain = {"loss": "classifier"}
    assert trained == [(f"AE-PSL: classifier {n + 2}", "gain", plain, left[n]) for n in (0, 1)]
    assert trainer.seen == left and found is trainer
    assert maps[0][0, :, 0].tolist() == [1, 0.5, 1]
    np.testing.assert_allclose(maps[1][0], [[0.25, 1 / 3], [0.5, 1], [1, 0]], rtol=1e-3)


def test_attention_is_of_the_classes_of_each_image():
    class Trainer:
        def explain(self, x):
            return None, np.arange(x.shape[0] * 3 * 4).reshape(-1, 3, 2, 2) + x.mean()

    labels = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0]])
    maps = gain.attention_of(Trainer(), np.full((3, 2, 2, 3), 255, np.uint8), labels)
    assert [m.shape for m in maps] == [(2, 2, 2), (2, 2, 0), (2, 2, 1)]
    assert maps[0].tolist() == [[[1, 9], [2, 10]], [[3, 11], [4, 12]]]
    assert maps[2][..., 0].tolist() == [[29, 30], [31, 32]] and maps[0].dtype == np.float16


def test_deeplab_learns_from_labels_at_the_threshold_that_is_asked_for(monkeypatch, tmp_path):
    """Maps of 0.3, and 1 on the object, whose best threshold is above 0.3 on any masks."""
    data = "creatures/many/tiny"
    train = open_dataset(data, 64).arrays("train")
    maps = [
        np.maximum(0.3, classes == np.flatnonzero(label) + 1)
        for classes, label in zip(train["classes"], train["labels"])
    ]
    trained = {}

    def train_run(self, study, name, model, data, settings, *, replace, others):
        trained[name] = replace["classes"][..., 0]

    model = SimpleNamespace(probabilities=lambda images: np.eye(9)[np.zeros((2, 64, 64), int)])
    monkeypatch.setattr(base.StudyRuns, "train", train_run)
    monkeypatch.setattr(gain, "attention_by_run", lambda *_: [("Grad-CAM", None, maps)])
    monkeypatch.setattr(gain, "mean_average_precision", lambda *_: 0.5)
    monkeypatch.setattr(gain, "open_run", lambda folder: model)
    monkeypatch.setattr(gain, "refined", lambda p, *_: p.argmax(-1))
    runs = base.StudyRuns(tmp_path)
    for by_masks in (False, True):
        study = gain.gain("gain", runs, data, by_masks=by_masks, num=2)
        row = study.numbers["Grad-CAM"]
        assert row["threshold_by_masks"] == 0.3
        assert row["labels"]["miou"] < 0.2 and row["labels_by_masks"]["miou"] > 0.9
    wide, narrow = trained["Grad-CAM: deeplab"], trained["Grad-CAM: deeplab, threshold by masks"]
    assert (wide > 0).all() and np.array_equal(narrow, train["classes"][..., 0])
    assert np.array_equal(trained["full supervision: deeplab"], train["classes"][..., 0])
    with pytest.raises(UsageError, match="background does not go with thresholds by masks"):
        gain.gain("gain", runs, data, background=0.1, by_masks=True)


def test_attention_of_two_runs_side_by_side_first_where_the_second_is_better(monkeypatch):
    truth = np.array([[[2, 0, 255]], [[0, 1, 0]]])
    train = {"image": IMAGES, "labels": np.array([[0, 1, 0], [1, 0, 1]], np.float32)}
    train["classes"] = truth[..., None]
    better = np.array([[[2, 0, 0]], [[0, 1, 0]]])
    labels = {"one": np.where([[[True]], [[False]]], 0, better), "two": better * [[[1]], [[0]]]}
    drawn = []
    monkeypatch.setattr(gain, "SHOWN", 2)
    monkeypatch.setattr(gain, "restore_trainer", lambda folder: (Attentive(), None))
    monkeypatch.setattr(gain, "attention_grid", lambda *given: drawn.append(given))
    monkeypatch.setattr(gain, "png", lambda picture: b"png")
    for names in (("one", "two"), ("two", "one")):
        assert gain.contrasted(base.StudyRuns("folder"), train, labels, names) == b"png"
    (images, maps, _, said), (others, *_) = drawn
    assert np.array_equal(images, IMAGES) and np.array_equal(others, IMAGES[::-1])
    assert said == ("true region", "one", "two")
    assert maps[:, 0].tolist() == [[[1, 0, 0]], [[0, 1, 0]]]
    np.testing.assert_allclose(maps[:, 1], [[[0.2, 0, 0.4]], [[0, 0, 0]]], rtol=1e-3)
    assert np.array_equal(maps[:, 1], maps[:, 2])


def test_what_a_training_takes_is_added_up_over_its_calls(monkeypatch, tmp_path):
    ends, clock = [KeyboardInterrupt(), "", "trained already"], iter(range(0, 600, 60))

    def train(*_, **__):
        end = ends.pop(0)
        if isinstance(end, str):
            return SimpleNamespace(message=end)
        raise end

    monkeypatch.setattr(base.training, "train", train)
    monkeypatch.setattr(base, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    runs = base.StudyRuns(tmp_path)
    assert runs.costs() == {}
    with pytest.raises(KeyboardInterrupt):
        runs.train("study", "run", "dcgan", "creatures/tiny", {})
    assert runs.costs()["run"]["minutes"] == 1
    for _ in range(2):
        runs.train("study", "run", "dcgan", "creatures/tiny", {})
    assert list(runs.costs()) == ["run"] and runs.costs()["run"]["minutes"] == 2
    assert 100 < runs.costs()["run"]["peak_mib"] < 10_000

"""The studies of GAIN, each of one network of two steps, and what they are made of."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from attention_zoo.cli import main
from attention_zoo.evaluate import multilabel
from attention_zoo.studies import gain

pytestmark = pytest.mark.usefixtures("eager")

TINY = ["--set=backbone=resnet9", "--set=width=4", "--batch_size=4", "--steps=2"]


@pytest.fixture(autouse=True)
def one(monkeypatch):
    monkeypatch.setattr(gain, "RUNS", {"Grad-CAM": {"loss": "classifier"}})
    monkeypatch.setattr(gain, "SHARES", ())


def test_from_attention_to_segmentation(tmp_path, capsys, monkeypatch):
    flags = ["--mode=study", "--study=gain", "--dataset=creatures/many/tiny", "--set=fc=8"]
    flags += ["--set=head_rate=10", "--threshold=0.3"]
    monkeypatch.setattr(sys, "argv", ["main.py", *flags])
    assert main.main([*flags, *TINY, "--num=8", f"--output={tmp_path}"]) == 0
    rows = json.loads((tmp_path / "gain.json").read_text())["rows"]
    assert list(rows) == ["Grad-CAM", "SEC"] and rows["SEC"][0] is None
    values = [v for row in rows.values() for v in row if v is not None]
    assert len(values) == 5 + len(gain.SWEPT) and all(0 < v < 1 for v in values)
    labels, *_, swept = rows["Grad-CAM"][0], rows["Grad-CAM"][3:]
    at = dict(zip(gain.SWEPT, swept))
    assert labels == at[0.3] and len(set(swept)) > 3
    assert "| SEC | – |" in (tmp_path / "gain.md").read_text()
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
    assert gain.mean_iou(truth, np.array([[[255, 1], [255, 1]]]), 2) == 0.5


def test_mean_average_precision_by_hand():
    scores = [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]]
    labels = [[1, 0], [0, 0], [1, 1]]
    assert abs(multilabel.mean_average_precision(scores, labels) - (5 / 6 + 1) / 2) < 1e-12
    nowhere = [[1, 0], [0, 0], [1, 0]]
    assert abs(multilabel.mean_average_precision(scores, nowhere) - 5 / 6) < 1e-12

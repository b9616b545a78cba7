"""Runs side by side."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from attention_zoo.cli import main
from attention_zoo.reports import comparison

pytestmark = pytest.mark.usefixtures("eager")


@pytest.mark.slow
def test_teaching_trains_both_goes_on_and_says_whose_map_finds_the_object(tmp_path, capsys):
    flags = ["--mode=study", "--study=teaching", "--dataset=creatures/tiny", "--image_size=32"]
    flags += ["--set=width=4", "--batch_size=8", "--num=50", "--metrics=kid", "--eval_every=1"]
    flags += ["--extractor=zoo:resnet9-creatures", "--sample_every=2", f"--output={tmp_path}"]
    assert main.main([*flags, "--steps=1"]) == 0
    assert main.main([*flags, "--steps=2"]) == 0
    err = capsys.readouterr().err
    assert err.count("resumes at step 1") == 2
    rows = {
        name: [json.loads(r) for r in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("regular_GAN", "ATA_GAN")
    }
    assert [r["step"] for r in rows["ATA_GAN"] if "kid_resnet9-creatures_50_test" in r] == [1, 2]
    assert not any("attention_loss" in r for r in rows["regular_GAN"])
    assert any("attention_loss" in r for r in rows["ATA_GAN"])

    found = json.loads((tmp_path / "localization.json").read_text())
    assert list(found) == ["teacher", "regular GAN", "ATA-GAN"]
    iou = {k: {r["metric"]: r["value"] for r in v}["iou_64_test"] for k, v in found.items()}
    assert iou["teacher"] > 0.3 and len(set(iou.values())) == 3
    table = (tmp_path / "localization.md").read_text()
    assert f"{iou['ATA-GAN']:.3f}" in table and "| regular GAN |" in table
    assert np.asarray(Image.open(tmp_path / "localization.png")).std() > 20
    page = (tmp_path / "teaching.html").read_text()
    assert page.count("data:image/png") == 3 and "regular GAN" in page

    published = ["--mode=publish", f"--run_dir={tmp_path / 'ATA_GAN'}", "--tag=mine"]
    published += ["--metrics=kid", "--num=50", "--extractor=zoo:resnet9-creatures"]
    assert main.main([*published, f"--output={tmp_path / 'mine'}"]) == 0
    entry = json.loads((tmp_path / "mine" / "manifest.json").read_text())["ata_gan"]["mine"]
    assert entry["network"] == "annotator" and "kid_resnet9-creatures_50_test" in entry["scores"]
    assert abs(entry["scores"]["iou_64_test"] - iou["ATA-GAN"]) < 0.02  # kernels in float16
    annotate = ["--mode=annotate", "--model=ata_gan", f"--weights={tmp_path / 'mine' / 'mine'}"]
    assert main.main([*annotate, "--num=1", f"--output={tmp_path / 'coco'}"]) == 0
    made = json.loads((tmp_path / "coco" / "annotations.json").read_text())["info"]["description"]
    assert f"threshold {entry['scores']['threshold']:.3g}" in made


@pytest.mark.parametrize("flag", ["--weights=cifar10", "--model=dcgan"])
def test_a_contrast_has_models_of_its_own(flag, capsys):
    assert main.main(["--mode=study", "--study=regional", flag]) == 2
    assert "does not go with --study=regional" in capsys.readouterr().err


def test_table_by_hand():
    rows = [{"step": 1, "fid": 4.0}, {"step": 2, "fid": 3.0}, {"step": 3, "fid": 3.5}]
    rows[0] |= {"is_x": 2.0}
    runs = [comparison.Run("a", rows, []), comparison.Run("b", rows[:1], [], loss_rest=2000)]
    lines = comparison.table(runs, ["fid", "is_x", "kid_x"])
    assert lines[0][2:] == [f"{m}: last; best (step)" for m in ("fid", "is_x", "kid_x")] + ["stop"]
    assert lines[1] == ["a", "3", "3.5; 3 (2)", "2; 2 (1)", "not reached", "not reached"]
    assert lines[2] == ["b", "1", "4; 4 (1)", "2; 2 (1)", "not reached", "2,000"]


def test_a_comparison_reads_only_the_pictures_that_it_shows(tmp_path):
    """Of 100 steps only those shown exist as files; run b has no picture at the last one."""
    runs = []
    for name, count in (("a", 100), ("b", 99)):
        paths = [(step, tmp_path / f"{name}_{step}.png") for step in range(1, count + 1)]
        for step in (1, 50, 99):
            Image.new("RGB", (64, 64), (step, 0, 0)).save(paths[step - 1][1])
        runs.append(comparison.Run(name, [], paths))
    picture = np.asarray(Image.open(io.BytesIO(comparison.grids(runs, most=3))))[..., 0]
    assert {1, 50, 99} <= set(np.unique(picture))
    with pytest.raises(FileNotFoundError):
        comparison.grids(runs, most=4)


def test_a_run_that_ended_before_its_first_row_and_picture(tmp_path):
    Image.new("RGB", (64, 64), "black").save(tmp_path / "a.png")
    rows = [{"step": 1, "fid": 4.0}]
    runs = [comparison.Run("a", rows, [(1, tmp_path / "a.png")]), comparison.Run("b", [])]
    picture = Image.open(io.BytesIO(comparison.grids(runs))).convert("L")
    left, right = np.split(np.asarray(picture), [picture.width // 2], 1)
    assert (left == 0).mean() > 0.5 and (right == 255).mean() > 0.8
    lines = comparison.table(runs, ["fid"])
    assert lines[2] == ["b", "0", "not reached", "not reached"]
    for drawn in (comparison.curves(runs, ["fid"], ["fid"]), comparison.losses(runs, "fid", "fid")):
        assert Image.open(io.BytesIO(drawn)).width > 100


def test_the_page_of_a_comparison_is_escaped_and_has_its_figures():
    figures = {"<b>first": comparison.pictures({"row": np.zeros((2, 8, 8, 3), "uint8")})}
    page = comparison.comparison("<i>?", ["a & b"], [["run", "fid"], ["<u>", "1.5"]], figures)
    assert "<h1>&lt;i&gt;?</h1>" in page and "<p>a &amp; b</p>" in page
    assert (
        '<th scope="row">&lt;u&gt;</th><td>1.5</td>' in page and "<h2>&lt;b&gt;first</h2>" in page
    )
    (data,) = re.findall('src="data:image/png;base64,([^"]+)"', page)
    assert base64.b64decode(data) == figures["<b>first"]
    assert "https://" not in page

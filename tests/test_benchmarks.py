"""What the benchmarks count, what they call a change, and what they hand on; nothing is timed."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from attention_zoo import zoo
from attention_zoo.benchmarks import __main__ as suite
from attention_zoo.benchmarks import extraction, flops, growth, machine, results, train_step
from attention_zoo.datasets.folder import Folder
from attention_zoo.evaluate import features
from attention_zoo.tasks import scoring

ROOT = Path(__file__).parents[1]
SMALL = ("--set=width=8",)
PAIRS = ("--image_size=32", "--set=blocks=2", *SMALL)


@pytest.mark.parametrize(
    ("model", "flags", "expected", "tolerance"),
    [
        ("dcgan", (), 384_958_464, 0),
        ("ragan", (), 475_201_536, 2e-3),  # F and the weighted sum are not counted
        ("sagan", (), 1_304_922_112, 0),
        ("wgan", SMALL, 27_619_328 / 5, 1e-6),
        ("ata_gan", SMALL, 194_526_592, 1e-3),  # nor are class activation maps
        ("cyclegan", PAIRS, 158_236_672, 0),
        ("attention_gan", (*PAIRS, "--set=masks=3"), 201_883_648, 0),
        ("unit", PAIRS, 207_978_496, 0),
        ("uait", PAIRS, 364_685_312, 0),
        ("discogan", ("--image_size=32", *SMALL), 33_964_032, 0),
        ("dualgan", ("--image_size=32", *SMALL), 140_099_584 / 3, 1e-6),
        ("ra", ("--image_size=32", *SMALL), 242_778_112, 0),
        ("resnet9", SMALL, 16_516_992, 0),
        ("resnet18", SMALL, 52_793_088, 0),
        ("squeezenet", SMALL, 9_010_944, 0),
        ("vgg16", SMALL, 38_047_488, 0),
        ("gain", (*SMALL, "--set=stages=3"), 313_833_984, 1e-3),  # nor Grad-CAM's mean
        ("deeplab", ("--set=width=4", "--set=fc=16"), 105_013_248, 0),
    ],
)
def test_flops_are_those_that_pytorch_counts_in_its_step(model, flags, expected, tolerance):
    """torch.utils.flop_counter on the PyTorch side, 4 images less 2."""
    found = flops.per_image(train_step.config_for(model, *flags))
    assert abs(found / expected - 1) <= tolerance


def test_flops_of_gain_follow_how_images_are_masked_and_judged():
    def of(*pairs):
        pairs = ("stages=3", *pairs)
        config = train_step.config_for("gain", *SMALL, *(f"--set={pair}" for pair in pairs))
        return flops.per_image(config)

    plain, joint = of("loss=classifier", "alpha=0"), of("masking=joint")
    assert abs((of() - plain) / (joint - plain) - 3) < 1e-9  # three classes, each masked
    judged = of("masking=joint", "judge=average") - plain  # no gradients by weights
    assert 2 / 3 < judged / (joint - plain) < 0.7  # a first layer that is not trained has none


@pytest.mark.parametrize("model", zoo.names())
def test_every_model_has_a_pytorch_side_that_is_given_options_that_there_are(model):
    side, options, _ = train_step.MODELS[model]
    assert set(options.split()) <= zoo.options(model).keys()
    assert "." in side


def test_a_step_s_batch_is_the_run_s():
    config = train_step.config_for("attention_gan")
    assert (config.image_size, config.batch_size) == (256, 1)
    assert (config.options["scheme"], config.options["width"]) == (2, 64)
    assert {k: v.shape for k, v in train_step.batch(config).items()} == {
        "image_a": (1, 286, 286, 3),
        "image_b": (1, 286, 286, 3),
    }
    found = train_step.batch(train_step.config_for("wgan", "--batch_size=2"))
    assert found["image"].shape == (10, 32, 32, 3)  # a batch for each of five critic steps
    found = train_step.batch(train_step.config_for("deeplab", "--batch_size=2"))
    assert found["classes"].shape == (2, 64, 64, 1)


@pytest.mark.parametrize(
    ("a", "b", "p"),
    [
        ([1, 2, 3, 4, 5], [6, 7, 8, 9, 10], 2 / 252),
        ([6, 7, 8, 9, 10], [1, 2, 3, 4, 5], 2 / 252),
        ([1, 2, 4], [3, 5, 6], 4 / 20),  # rank sums 6, 7, 14, 15 of 20
        ([1, 1], [1, 2], 1.0),
        ([1, 4], [2, 3], 1.0),
        ([1, 2], [2, 3], 4 / 6),  # ranks 1, 2.5, 2.5, 4: sums 3.5 twice, 6.5 twice of 6
    ],
)
def test_rank_test(a, b, p):
    assert abs(results.rank_test(a, b) - p) < 1e-12


NOISY = [100.0, 93.0, 108.0, 97.0, 104.0, 89.0, 111.0, 99.0, 102.0]
AGAIN = [96.0, 107.0, 101.0, 90.0, 112.0, 98.0, 103.0, 94.0, 105.0]


def test_noise_is_noise_and_a_fifth_is_a_change():
    ratio, _, said = results.verdict(NOISY, AGAIN)
    assert (said, round(ratio, 3)) == ("noise", 1.01)
    ratio, p, said = results.verdict(NOISY, [0.8 * v for v in AGAIN])
    assert (said, round(ratio, 3)) == ("change", 0.808)
    assert p < 1e-3
    assert results.verdict(NOISY, [v + 0.2 * (i % 2) for i, v in enumerate(NOISY)])[2] == "noise"
    steady = [100 + v / 100 for v in range(9)]  # ranks all apart, the median 1 % lower
    assert results.verdict(steady, [0.99 * v for v in steady])[2] == "noise"
    assert results.verdict(steady, [0.96 * v for v in steady])[2] == "change"
    assert results.verdict(NOISY[:4], [0.5 * v for v in NOISY[:4]])[2] == "too few rounds"


def written(path, scale, seconds, memory=1000, cores=2):
    """A file of results: a machine, a step with two sides, a latency."""
    rows = [
        {"machine": {"cpu": "some", "cores": cores, "date": str(path)}},
        {"name": "dcgan", "side": "ours", "unit": "images/s", "rounds": [scale * v for v in NOISY]}
        | {"megabytes": memory, "flops": 2_000_000_000, "peak": 400.0},
        {"name": "dcgan", "side": "torch", "unit": "images/s", "rounds": [v / 2 for v in NOISY]},
        {"name": "exported", "side": "ours", "unit": "ms", "rounds": [seconds * v for v in AGAIN]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_two_files_are_compared(tmp_path, capsys):
    old = written(tmp_path / "old", 1.0, 1.0)
    new = written(tmp_path / "new", 0.8, 0.7, memory=1200, cores=4)
    assert suite.run(["--compare", str(old), str(new)]) == 0
    first = "dcgan, ours: 0.800 of before, p 4.1e-05: change, worse"  # 2 of 48,620 ways
    assert capsys.readouterr().out.splitlines() == [
        "machine: cores was 2, is 4",
        f"{first}; peak memory 1.200 of before: change",
        "dcgan, torch: 1.000 of before, p 1: noise",
        "exported, ours: 0.700 of before, p 4.1e-05: change, better",
        "dcgan, ours / torch: 0.800 of before, p 4.1e-05: change, worse",
    ]


def test_the_table_of_a_file(tmp_path, capsys):
    assert suite.run(["--table", str(written(tmp_path / "file", 1.0, 0.01))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("cpu some, cores 2, ")
    assert lines[4:] == [
        "| dcgan | ours | 100 (89.0 to 111) images/s | 1000 | 200 GFLOP/s, 50% of 400 |",
        "| dcgan | torch | 50.0 (44.5 to 55.5) images/s |  | ours / torch: 2.00 (2.00 to 2.00) |",
        "| exported | ours | 1.01 (0.900 to 1.12) ms |  |  |",
    ]


def test_the_table_of_training_steps():
    def side(name, side, rounds, **more):
        about = {"unit": "images/s", "megabytes": 99.6, "flops": 10**9, "peak": 400.0}
        return {"name": name, "side": side, "rounds": rounds, **about, **more}

    rows = [side("gan, 8 x 8", "ours", [100.0, 200.0, 80.0])]
    assert len(results.step_table(rows)) == 2  # without the other sides there is no line
    rows += [side("gan, 8 x 8", "torch eager", [90.0, 0.5, 1.0], megabytes=50)]
    rows += [side("gan, 8 x 8", "torch compiled", [50.0, 50.0, 100.0], megabytes=51)]
    rows += [{**row, "name": "gan, 8 x 8 in bfloat16"} for row in rows]
    rows += [side("gan, 8 x 8, bfloat16 / float32", "ours", [1.0, 1.0, 1.0])]
    cells = "100 (80.0 to 200) | 1.00 (0.500 to 90.0) | 50.0 (50.0 to 100) | 2.00 (0.80 to 4.00)"
    assert results.step_table(rows)[2:] == [
        f"| `gan`, 8 x 8 | float32 | {cells} | 25% | 100, 50, 51 |",
        f"|  | bfloat16 | {cells} | 25% | 100, 50, 51 |",
    ]
    rows += [side("b", name, [1.0, 1.0, 1.0]) for name in ("torch eager", "torch compiled")]
    rows += [side("b", "ours", [0.5, 0.5, 2.0])]
    summary = {"networks": 2, "ahead": 1, "mean": 1.0}
    found = results.step_summary(rows)
    assert {key: found[f"float32/{key}"] for key in summary} == pytest.approx(summary)
    assert found["bfloat16/networks"] == found["bfloat16/ahead"] == 1


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "file").write_text("{}\n")
    with pytest.raises(SystemExit, match="file is not a file of results"):
        suite.run(["--table", str(tmp_path / "file")])


def test_replicas_are_shown_beside_one():
    one = {"name": "a", "side": "ours", "unit": "images/s", "rounds": [10.0, 20.0]}
    two = {"name": "a", "side": "ours 2", "unit": "images/s", "rounds": [15.0, 32.0]}
    found = results.side_ratios([one, two])
    assert [(row["side"], row["rounds"]) for row in found] == [("ours 2 / ours", [1.5, 1.6])]


def test_what_fails_is_named_and_the_rest_measured(tmp_path, monkeypatch, capsys):
    def measure(model, flags):
        if model == "wgan":
            raise SystemExit("the side 'ours' ended")
        return [{"name": model, "side": "ours", "unit": "images/s", "rounds": NOISY}]

    monkeypatch.setattr(suite, "PARTS", {"step": (measure, ("wgan", "dcgan"))})
    path = tmp_path / "results.jsonl"
    assert suite.run([f"--output={path}"]) == 1
    out = capsys.readouterr()
    assert "step wgan failed: the side 'ours' ended" in out.err
    about, rows = results.read(path)
    assert {"cpu", "cores", "memory_gib", "load", "date", "keras", "tensorflow"} <= about.keys()
    assert [row["name"] for row in rows] == ["dcgan"]
    assert "| dcgan | ours | 100 (89.0 to 111) images/s |" in out.out


def test_peak_memory_is_that_of_the_process_alone():
    program = (
        "from benchmarks import machine; before = machine.peak_megabytes(); "
        "held = b'x' * 200 * 2**20; del held; print(before, machine.peak_megabytes() - before)"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    before, more = map(float, done.stdout.split())
    assert 5 < before < 100 < machine.peak_megabytes()  # with TensorFlow in this one
    assert 195 < more < 215


def test_growth_s_slopes_and_picture():
    assert abs(growth.slope([32, 64, 128], [3.0, 12.0, 48.0]) - 2) < 1e-12
    assert growth.flags_of({"image_size": 64, "batch_size": 2, "width": 8}) == [
        "--set=width=8",
        "--image_size=64",
        "--batch_size=2",
    ]
    rows = [
        {"model": "dcgan", "grown": grown, "value": v, "seconds": [0.1 * v], "megabytes": 500.0 + v}
        | {"flops": 1000 * math.prod([v] * 2)}
        for grown, values in growth.GROWN.items()
        for v in values
    ]
    assert growth.picture(rows).startswith(b"\x89PNG")


def test_fid_of_two_folders_of_pictures(tmp_path):
    ours = extraction.Ours.__new__(extraction.Ours)  # without Inception, which takes seconds
    ours.extractor = scoring.extractor("zoo:resnet9-creatures", None, "creatures")
    ours.features, ours.folder, ours.place = features, Folder, tmp_path
    extraction.make_pictures(tmp_path / "a", 12, 32)
    extraction.make_pictures(tmp_path / "b", 12, 32)
    assert ours.fid() == pytest.approx(0, abs=1e-6)
    extraction.make_pictures(tmp_path / "other" / "b", 12, 32, seed=1)
    shutil.copytree(tmp_path / "other" / "b", tmp_path / "b", dirs_exist_ok=True)
    assert ours.fid() > 1e-3

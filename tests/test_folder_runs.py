"""Runs on a user's own folder: resumed after the folder was moved, refused after it was changed."""

import json
import os
import shlex
import shutil

import numpy as np
import pytest
from PIL import Image

from attention_zoo import datasets
from attention_zoo.cli import commands, main, parser
from attention_zoo.experiments import run_directory as run
from attention_zoo.experiments import training
from attention_zoo.experiments.config import RunConfig

pytestmark = pytest.mark.usefixtures("eager")

TINY = ["--model=dcgan", "--batch_size=4", "--image_size=32", "--set=width=4", "--log_every=1"]


def write(root, count=6, seed=0):
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True)
    for number in range(count):
        values = rng.integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(values).save(root / f"{number}.png")


def state(*roots):
    """{path: (size, mtime)} of all files below folders."""
    files = [path for root in roots for path in root.rglob("*") if path.is_file()]
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """A run of two steps on tmp_path/d, in the default run directory; the flags of its data."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "d")
    flags = [*TINY, f"--data_dir={tmp_path / 'data'}"]
    assert main.main([*flags, "--dataset=folder:d/", "--steps=2"]) == 0
    return tmp_path / "runs" / "dcgan-folder-d-width=4", flags


def test_a_run_goes_on_wherever_the_same_data_lie(trained, tmp_path, capsys):
    folder, flags = trained
    capsys.readouterr()
    os.utime(tmp_path / "d" / "0.png")
    more = ["--dataset=folder:./d", "--steps=3", "--sample_every=7"]
    assert main.main([*flags, *more]) == 0
    assert "resumes at step 2" in capsys.readouterr().err
    (tmp_path / "d").rename(tmp_path / "e")
    flags = [*flags, f"--run_dir={folder}", "--log_every=2"]
    assert main.main([*flags, f"--dataset=folder:{tmp_path / 'e'}", "--steps=4"]) == 0
    assert "resumes at step 3" in capsys.readouterr().err
    config = run.read_record(folder)["config"]
    assert config["dataset"] == f"folder:{tmp_path / 'e'}"
    assert (config["every"]["log"], config["every"]["sample"]) == (2, 500)

    record = json.loads((folder / "run.json").read_text())  # as an earlier version wrote it
    record["config"]["data"] = datasets.stream.legacy_identity(f"folder:{tmp_path / 'e'}")
    (folder / "run.json").write_text(json.dumps(record))
    assert main.main([*flags, "--dataset=folder:e", "--steps=5"]) == 0
    assert "resumes at step 4" in capsys.readouterr().err
    data = datasets.identity(f"folder:{tmp_path / 'e'}")
    assert run.read_record(folder)["config"]["data"] == data


def test_a_refused_resume_names_the_data_and_writes_nothing(trained, tmp_path, capsys):
    folder, flags = trained
    shutil.rmtree(tmp_path / "d")
    write(tmp_path / "d", seed=1)
    before = state(folder, tmp_path / "data")
    capsys.readouterr()
    assert main.main([*flags, "--dataset=folder:d", "--steps=3"]) == 2
    said = capsys.readouterr().err
    assert "was trained on other data than folder:d has now" in said
    assert "restore that data, or give another --run_dir" in said
    assert state(folder, tmp_path / "data") == before


def test_names_that_are_not_utf8_go_all_the_way(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / os.fsdecode(b"d_\xe9")
    write(root)
    (root / "0.png").rename(root / os.fsdecode(b"latin_\xe9.png"))
    (root / os.fsdecode(b"cut_\xe9.png")).write_bytes(b"")
    flags = [*TINY, f"--data_dir={tmp_path / 'data'}", f"--dataset=folder:{root}", "--steps=1"]
    assert main.main(flags) == 0
    said = capsys.readouterr()
    assert "cut_" in said.err and "skipped 1 of 7 files" in said.err
    assert "run directory: runs/dcgan-folder-" in said.out
    assert "Traceback" not in said.err and "Logging error" not in said.err


@pytest.mark.parametrize(
    "model, parts, flags",
    [
        ("dcgan", [""], "--metrics=fid,kid --num=1000 --split=train"),
        ("dcgan", ["train", "test"], "--metrics=fid,kid --num=1000"),
        ("resnet9", ["x", "y"], "--split=train"),
        ("cyclegan", ["trainA", "trainB"], "--split=train"),
        ("cyclegan", ["trainA", "trainB", "testA", "testB"], ""),
    ],
)
def test_the_command_that_evaluates_a_run_fits_its_model_and_folder(model, parts, flags, tmp_path):
    for part in parts:
        write(tmp_path / "d" / part)
    data = datasets.open_dataset(f"folder:{tmp_path / 'd'}")
    config, has_test = RunConfig.resolve(model, data), data.has_split("test")
    printed = shlex.split(commands.evaluation_of(config, "runs/my run", has_test))
    assert printed == ["attention-zoo", "--mode=evaluate", "--weights=runs/my run", *flags.split()]
    mode, given = parser.parse(printed[1:], "main.py")
    assert (mode, given["weights"]) == ("evaluate", "runs/my run")
    line = commands.evaluation_of(config, "r", has_test, tmp_path)
    assert line.endswith(f" --data_dir={tmp_path}")


def test_the_folder_is_not_read_again_after_the_training(tmp_path, monkeypatch, capsys):
    for split in ("train", "test"):
        write(tmp_path / "d" / split, 1)

    def train(*_, **__):
        shutil.rmtree(tmp_path / "d")
        return training.TrainedRun(tmp_path / "r", 1, 0, None, None, None, tmp_path / "page")

    monkeypatch.setattr(training, "train", train)
    assert main.main([*TINY, f"--dataset=folder:{tmp_path / 'd'}", "--steps=1"]) == 0
    assert "--split=train" not in capsys.readouterr().out.splitlines()[-1]


def test_a_training_says_what_it_reads_and_how_to_evaluate_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for label in ("x", "y"):
        write(tmp_path / "d" / label)
    (tmp_path / "d" / "x" / "cut.png").write_bytes(b"")
    flags = [*TINY[1:], "--model=resnet9", "--dataset=folder:d", "--data_dir=data", "--steps=1"]
    monkeypatch.setattr("sys.argv", ["main.py", *flags])
    monkeypatch.setattr("sys.orig_argv", ["python", "-Xdev", "main.py", *flags])
    assert main.main(flags) == 0
    said = capsys.readouterr()
    assert said.err.count("folder:d: 12 pictures to train on") == 1
    assert said.err.count("skipped 1 of 13 files") == 1
    python, *command = shlex.split(said.out.splitlines()[-1].removeprefix("evaluate it: "))
    assert (python, command[:2]) == ("python", ["-Xdev", "main.py"])
    assert main.main(command[2:]) == 0
    said = capsys.readouterr()
    row, _ = map(json.loads, said.out.splitlines())
    assert row["metric"] == "accuracy_12_train"
    line = f"accuracy_12_train: {row['value']:.4g}, 12 images, higher is better"
    assert said.err.splitlines()[-2] == line


def test_a_gan_with_few_pictures_gets_a_hint_unless_it_is_followed(tmp_path, monkeypatch):
    write(tmp_path / "d")
    data = datasets.open_dataset(f"folder:{tmp_path / 'd'}", 8)

    def hint(model, **settings):
        config = RunConfig.resolve(model, data.name, settings=settings)
        return training.few_pictures_hint(data, config.hparams)

    assert "--set augment=color,translation,cutout in a new run" in hint("dcgan")
    assert hint("dcgan", augment="color") == "" == hint("vgg16", classes=2)
    monkeypatch.setattr(training, "FEW", 5)
    assert hint("dcgan") == ""


def test_the_pictures_of_both_domains_are_counted(tmp_path):
    write(tmp_path / "trainA", 3)
    write(tmp_path / "trainB", 2)
    data = datasets.open_dataset(f"folder:{tmp_path}", 8)
    line = f"folder:{tmp_path}: 3 pictures of domain a and 2 of domain b to train on"
    assert training.training_pictures(data) == line

"""The command line: real runs, a real kill -9, and mistakes that end in one line."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import attention_zoo as az
from attention_zoo import datasets, studies, zoo
from attention_zoo.cli import commands, listing, main, parser
from attention_zoo.common.images import image_grid, to_float
from attention_zoo.datasets import creatures
from attention_zoo.evaluate import spatial
from attention_zoo.experiments import publishing, training
from attention_zoo.experiments import run_directory as run
from attention_zoo.studies import base, floor
from attention_zoo.tests.helpers import command, hub, lines, mistake, publish, same_run
from attention_zoo.zoo.weights import probe

ROOT = Path(__file__).parent.parent
TINY = [
    "--dataset=creatures/tiny",
    "--image_size=32",
    "--batch_size=16",
    "--set=width=8",
    "--set=encoder_width=8",
    "--log_every=1",
    "--sample_every=4",
    "--save_every=3",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def finished(folder):
    """A RAGAN run of 12 steps that nothing disturbed."""
    flags = [*TINY, f"--data_dir={folder}", "--steps=12", f"--run_dir={folder / 'whole'}"]
    done = subprocess.run(command(*flags), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[-5] == f"samples: {folder / 'whole' / 'samples' / 'step_00000012.png'}"
    assert said[-4].startswith("best checkpoint by swd_256_train: ")
    assert Path(said[-4].split(": ")[1]).exists()
    assert said[-2] == f"run directory: {folder / 'whole'}"
    evaluation = f"--mode=evaluate --weights={folder / 'whole'} --metrics=fid,kid --num=1000"
    start = f"evaluate it: {sys.executable} main.py"
    assert said[-1] == f"{start} {evaluation} --data_dir={folder}"
    assert "12/12" in done.stderr
    return folder / "whole"


def test_the_run_directory_holds_what_it_should(finished):
    record = run.read_record(finished)
    assert record["config"]["model"] == "ragan"
    assert record["config"]["hparams"]["learning_rate"] == 2e-4
    assert record["config"]["options"]["width"] == 8
    assert record["config"]["data"] == "creatures-tiny-1.0.0"
    start = record["starts"][0]
    assert start["command"][:2] == TINY[:2]
    assert set(start["versions"]) >= {"python", "keras", "tensorflow", "commit"}
    assert start["versions"]["attention-zoo"] == az.__version__
    assert f"attention-zoo {az.__version__}, python" in (finished / "report.html").read_text()
    rows = [json.loads(x) for x in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rows if "d_loss" in r] == list(range(1, 13))
    assert [r["step"] for r in rows if "swd_256_train" in r] == [3, 6, 9, 12]
    assert sorted(p.name for p in (finished / "samples").iterdir()) == [
        "step_00000004.png",
        "step_00000008.png",
        "step_00000012.png",
    ]
    grid = np.asarray(Image.open(finished / "samples" / "step_00000012.png"))
    assert grid.shape == (8 * 32, 8 * 32, 3)
    seen = np.asarray(Image.open(finished / "attention" / "step_00000012.png")).astype(int)
    assert seen.shape == (19 + 8 * 132 - 4, 5 * 132 + 44, 3)  # an image, and four regions of it
    for x in range(132, 5 * 132, 132):  # yellow, which is inside a region, has little blue
        column = seen[19:, x : x + 128]
        assert 0.1 < (column[..., 0] > column[..., 2] + 40).mean() < 0.6
    assert list(finished.glob("events*"))
    kept = [run.step_of(p) for p in run.list_checkpoints(finished)]
    assert kept[-2:] == [9, 12]


def test_a_checkpoint_holds_bank_and_optimisers(finished):
    arrays = run.read_checkpoint(run.list_checkpoints(finished)[-1])
    assert abs(arrays["average/generator/bank/bank"].astype("float32")).max() > 0
    assert arrays["generator_optimizer/iteration"] == 12
    assert "discriminator_optimizer/down16_kernel_momentum" in arrays


def test_a_killed_run_goes_on_bit_identically(finished, folder, capsys):
    killed = folder / "killed"
    flags = [*TINY, f"--data_dir={folder}", "--steps=12", f"--run_dir={killed}"]
    child = subprocess.Popen(command(*flags), cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        while child.poll() is None:
            metrics = killed / "metrics.jsonl"
            if metrics.exists() and metrics.read_text().count("\n") >= 7:
                os.kill(child.pid, signal.SIGKILL)
                break
            time.sleep(0.002)
    finally:
        child.kill()
    assert child.wait() == -signal.SIGKILL
    steps = [run.step_of(p) for p in run.list_checkpoints(killed)]
    assert steps[0] >= 3
    assert steps[-1] < 12
    assert main.main(flags) == 0
    assert f"resumes at step {steps[-1]}" in capsys.readouterr().err

    same_run(killed, finished)


def test_a_finished_run_is_not_trained_again(finished, folder, capsys):
    before = {p: p.read_bytes() for p in finished.rglob("*.npz")}
    flags = [*TINY, f"--data_dir={folder}", "--steps=12", f"--run_dir={finished}"]
    assert main.main(flags) == 0
    assert "trained 12 steps already" in capsys.readouterr().out
    assert {p: p.read_bytes() for p in finished.rglob("*.npz")} == before


def test_a_resume_with_other_values_is_refused(finished, folder, capsys):
    flags = [*TINY, f"--data_dir={folder}", "--steps=12", f"--run_dir={finished}", "--seed=5"]
    assert "seed was 0, now 5" in mistake(capsys, *flags)
    flags[-1] = "--set=learning_rate=0.1"
    assert "learning_rate was 0.0002, now 0.1" in mistake(capsys, *flags)


def test_a_cut_checkpoint_falls_back_to_the_one_before(finished, folder, capsys):
    copy = folder / "cut"
    shutil.copytree(finished, copy)
    newest = run.list_checkpoints(copy)[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    flags = [*TINY, f"--data_dir={folder}", "--steps=12", f"--run_dir={copy}"]
    assert main.main(flags) == 0
    err = capsys.readouterr().err
    assert "step_00000012.npz is damaged" in err and "resumes at step 9" in err
    same_run(copy, finished)


def test_sample_is_a_function_of_the_seed(finished, tmp_path):
    grids = []
    for seed in (1, 1, 2):
        path = tmp_path / f"{len(grids)}.png"
        flags = [f"--weights={finished}", f"--seed={seed}", "--num=10", f"--output={path}"]
        assert main.main(["--mode=sample", *flags]) == 0
        grids.append(np.asarray(Image.open(path)))
    assert grids[0].shape == (2 * 32, 8 * 32, 3)
    assert (grids[0][32:, 2 * 32 :] == 255).all()
    assert np.array_equal(grids[0], grids[1])
    assert not np.array_equal(grids[0], grids[2])


@pytest.mark.parametrize(
    ("name", "options"),
    [("dcgan", {"self_attention": True}), ("sagan", {"conditional": True, "classes": 3})],
)
def test_sample_shows_where_places_look(name, options, capsys, tmp_path):
    options = {"image_size": 32, "width": 8, "latent": 128, **options}
    network = zoo.create(name, **options)["generator"]
    publish(name, network, options, tmp_path, "t")
    flags = ["--mode=sample", f"--model={name}", f"--weights={tmp_path}/t", "--num=3"]
    lines(capsys, *flags, "--attention", f"--output={tmp_path}/looks.png")
    lines(capsys, *flags, f"--output={tmp_path}/plain.png")
    looks = np.asarray(Image.open(tmp_path / "looks.png"))
    plain = np.asarray(Image.open(tmp_path / "plain.png"))
    assert looks.shape == (19 + 3 * 132 - 4, 5 * 132 + 44, 3)  # a row a sample, 4 x as large
    assert np.array_equal(looks[19 + 132 : 19 + 260 : 4, :128:4], plain[:32, 32:64])
    assert (looks == (0, 255, 0)).all(-1).sum() == 3 * 4 * 8 * 8
    without = ["--mode=sample", "--model=resnet9", "--weights=creatures", "--attention"]
    assert "resnet9 cannot sample: it can classify" in mistake(capsys, *without)


def test_memorisation_report(finished, folder, capsys):
    flags = [f"--weights={finished}", f"--data_dir={folder}", "--num=16"]
    flags += ["--mode=study", "--study=memorisation"]
    assert main.main([*flags, f"--output={folder / 'report'}"]) == 0
    report = json.loads((folder / "report" / "memorisation.json").read_text())
    assert report["step"] == 12
    assert report["samples"] == 16
    assert report["pixel"]["spread_over_z_one_reference"] > 0
    assert report["feature_own_discriminator"]["test_image_to_nearest_train"] > 0
    assert Image.open(folder / "report" / "memorisation.png").size == (16 * 32, 4 * 32)
    capsys.readouterr()
    assert "must lie in [2, 256], not 300" in mistake(capsys, *flags, "--num=300")


def test_memorisation_of_a_generator_that_sees_no_references(folder, capsys, without_graphs):
    place = folder / "unconditional"
    train = ["--model=dcgan", *TINY, "--steps=1", f"--run_dir={place}"]
    train.remove("--set=encoder_width=8")
    assert main.main([*train, f"--data_dir={folder}"]) == 0
    flags = [f"--weights={place}", f"--data_dir={folder}", "--num=20"]
    flags += ["--mode=study", "--study=memorisation", f"--output={folder / 'nearest'}"]
    assert main.main(flags) == 0
    found = json.loads((folder / "nearest" / "memorisation.json").read_text())
    assert (found["samples"], found["train"]) == (20, 256)
    assert 0 <= found["pixel"]["share_nearer_to_train"] <= 1
    assert Image.open(folder / "nearest" / "memorisation.png").size == (12 * 32, 4 * 32)
    capsys.readouterr()
    line = mistake(capsys, *flags[1:], "--weights=creatures", "--model=resnet9")
    assert "resnet9 has no discriminator with a layer 'features', as dcgan has" in line


def test_evaluate_a_run(finished, folder, capsys):
    metrics = "--metrics=fid,sfid,kid,is,precision_recall,density_coverage"
    flags = ["--mode=evaluate", f"--weights={finished}", f"--data_dir={folder}", "--num=120"]
    rows = [json.loads(line) for line in lines(capsys, *flags, metrics)]
    assert [row["metric"] for row in rows] == [
        "fid_resnet9-creatures_120_test",
        "sfid_resnet9-creatures_120_test",
        "kid_resnet9-creatures_120_test",
        "is_resnet9-creatures_120",
        "precision_resnet9-creatures_120_test",
        "recall_resnet9-creatures_120_test",
        "density_resnet9-creatures_120_test",
        "coverage_resnet9-creatures_120_test",
    ]
    fid = rows[0]
    assert fid["value"] > 1
    wanted = {"model": "ragan", "step": 12, "ema": True, "seed": 0, "count": 120, "real_count": 64}
    assert wanted.items() <= fid.items()
    assert fid["digest"] == zoo.get("resnet9").weights["creatures"].sha256[:16]
    assert set(fid["versions"]) >= {"keras", "tensorflow", "numpy"}
    kept = (finished / "evaluation.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in kept] == rows
    assert fid["metric"] in (finished / "report.html").read_text()

    once = [json.loads(line)["value"] for line in lines(capsys, *flags)]
    assert once == [fid["value"]]
    other = json.loads(lines(capsys, *flags, "--seed=1")[0])
    assert other["value"] != fid["value"]

    assert main.main([*flags, f"--against={finished}"]) == 0
    assert f"{fid['metric']}: {fid['value']:.6g}, against" in capsys.readouterr().err
    assert main.main([*flags[:-1], "--num=100", f"--against={finished}"]) == 2
    assert "no metric in common: fid_resnet9-creatures_100_test" in capsys.readouterr().err
    assert "need 10 images" in mistake(capsys, *flags[:-1], "--num=9")
    assert "extractor=zoo:x: there are inception, zoo:" in mistake(
        capsys, *flags, "--extractor=zoo:x"
    )
    said = mistake(capsys, *flags, f"--inception={folder / 'gone.pb'}")
    assert "gone.pb is neither a file" in said
    assert "what works without it: --extractor=zoo:" in said
    (folder / "wrong.pb").write_bytes(b"PK wrong")
    assert "(sha256 " in mistake(capsys, *flags, f"--inception={folder / 'wrong.pb'}")


def test_samples_and_scores_take_training_images_as_references(finished, folder, capsys, tmp_path):
    asked = [f"--weights={finished}", f"--data_dir={folder}", "--references=training"]
    row = lines(capsys, "--mode=evaluate", *asked, "--metrics=kid", "--num=16")
    name = "kid_resnet9-creatures_16_test_training-references"
    assert json.loads(row[0])["metric"] == name
    path = tmp_path / "grid.png"
    sampled = ["--mode=sample", f"--output={path}", "--num=4"]
    assert lines(capsys, *sampled, *asked) == [f"samples: {path}"]
    said = mistake(capsys, *sampled, *asked[:2])
    assert "--data_dir needs --references=training" in said
    published = ["--model=dcgan", "--weights=cifar10", "--references=training"]
    assert "takes no reference images" in mistake(capsys, *sampled, *published)
    assert "takes no reference images" in mistake(capsys, "--mode=evaluate", *published)


def test_a_generator_is_published_and_sampled(finished, folder, capsys, tmp_path, monkeypatch):
    flags = ["--mode=publish", f"--run_dir={finished}", "--tag=mine", f"--data_dir={folder}"]
    said = lines(capsys, *flags, "--num=100", f"--output={tmp_path}", "--metrics=is,fid")
    row = json.loads((tmp_path / "manifest.json").read_text())["ragan"]["mine"]
    assert said[0].endswith(f"sha256 {row['sha256']}")
    assert list(row["scores"]) == ["is_resnet9-creatures_100", "fid_resnet9-creatures_100_test"]
    assert row["origin"]["digest"] == zoo.get("resnet9").weights["creatures"].sha256[:16]
    assert (row["origin"]["steps"], row["network"]) == (12, "generator")
    card = (tmp_path / "ragan-mine.md").read_text()
    assert "![64 samples](ragan-mine.png)" in card
    assert row["sha256"] in card
    value = row["scores"]["is_resnet9-creatures_100"]
    assert f"| `is_resnet9-creatures_100` | {value:.6g} |" in card
    readme = (tmp_path / "README.md").read_text()
    assert readme.startswith("---\nlicense: apache-2.0\n")
    assert f'      name: "is_resnet9-creatures_100"\n      value: {value:.6g}\n' in readme
    assert readme.partition("---\n\n")[2].startswith("# ragan:mine\n")
    assert "--mode=sample --model=ragan --weights=hf://OWNER/NAME/mine --output" in readme
    again = [*flags[:2], f"--data_dir={folder}", "--num=100", f"--output={tmp_path}"]
    lines(capsys, *again, "--tag=two", "--metrics=is")
    readme = (tmp_path / "README.md").read_text()
    assert "# ragan:two\n" in readme and "too: [ragan-mine](ragan-mine.md).\n" in readme
    assert '- name: "ragan:mine"\n' in readme and '- name: "ragan:two"\n' in readme
    (tmp_path / "README.md").write_text("# Mine\n")
    said = mistake(capsys, *again, "--tag=three")
    assert "README.md is not a model card of the zoo: take another --output" in said
    assert (tmp_path / "README.md").read_text() == "# Mine\n"
    assert not (tmp_path / "ragan-three.npz").exists()

    people = ["--mode=publish", f"--run_dir={finished}", "--tag=people", f"--data_dir={folder}"]
    own, save = tmp_path / "zoo", publishing.door.save
    with monkeypatch.context() as here:  # the zoo's own folder
        here.setattr(publishing, "CARDS", tmp_path / "cards")
        here.setattr(publishing.door, "save", lambda *given: save(*given[:4], own))
        here.setattr(publishing.table, "shows_people", lambda name: name == "creatures/tiny")
        lines(capsys, *people, "--num=100", "--metrics=is")
    assert [path.name for path in (tmp_path / "cards").iterdir()] == ["ragan-people.md"]

    grids = []
    for weights in (f"{tmp_path}/mine", f"{tmp_path}/ragan-mine.npz", str(finished)):
        path = tmp_path / f"grid{len(grids)}.png"
        sample = ["--mode=sample", f"--weights={weights}", "--model=ragan", f"--output={path}"]
        lines(capsys, *sample)
        grids.append(np.asarray(Image.open(path)).astype(int))
    assert np.array_equal(grids[0], grids[1])
    assert np.array_equal(grids[0], np.asarray(Image.open(tmp_path / "ragan-mine.png")))
    assert 0 < (grids[0] != grids[2]).mean() < 0.2  # float16 on disk
    assert grids[0].std() > 0.3
    assert "published weights need --model too" in mistake(
        capsys, "--mode=sample", "--weights=mine"
    )

    with hub(tmp_path, folder / "cache", monkeypatch) as server:  # the folder as it is
        model = az.load("hf://me/zoo/mine")
        assert [path.rpartition("/")[2] for path in server.asked] == [
            "manifest.json",
            "ragan-mine.npz",
            "ragan-mine.npz",  # from the hub's other host
        ]
    assert probe(model.network) == pytest.approx(row["probe"], abs=1e-5)
    assert np.array_equal(image_grid(to_float(model.sample(64, seed=0)), 8), grids[0])


def test_evaluate_a_folder_of_images(folder, capsys):
    source = datasets.arrays("creatures/tiny", "test", image_size=32, data_dir=folder)["image"]
    place = folder / "pictures"
    place.mkdir()
    for i, image in enumerate(source):
        Image.fromarray(image).save(place / f"{i:03d}.png")
    flags = ["--mode=evaluate", f"--input={place}", f"--data_dir={folder}"]
    flags.append("--dataset=creatures/tiny")
    row = json.loads(lines(capsys, *flags)[0])
    assert row["metric"] == "fid_resnet9-creatures_64_test"
    assert row["value"] == pytest.approx(0, abs=1e-6)
    assert row["image_size"] == 32
    train = json.loads(lines(capsys, *flags, "--split=train", "--num=60")[0])
    assert train["metric"] == "fid_resnet9-creatures_60_train"
    assert (train["count"], train["real_count"]) == (60, 256)
    assert train["value"] > 0.1
    assert "needs --dataset" in mistake(capsys, *flags[:-1])


def test_a_classifier_is_trained_evaluated_and_published(folder, capsys, tmp_path):
    place = folder / "classifier"
    flags = ["--model=resnet9", "--dataset=creatures/tiny", "--image_size=32", "--steps=8"]
    flags += ["--batch_size=16", "--set=width=4", "--save_every=4", f"--data_dir={folder}"]
    flags.append(f"--run_dir={place}")
    assert main.main(flags) == 0
    config = run.read_record(place)["config"]
    assert (config["options"]["classes"], config["hparams"]["decay_steps"]) == (8, 8)
    assert not (place / "samples").exists()
    row, by_class = map(
        json.loads, lines(capsys, "--mode=evaluate", f"--weights={place}", f"--data_dir={folder}")
    )
    assert row["metric"] == "accuracy_64_test"
    counts = np.array(row["confusion"])
    shares = [line[i] / line.sum() for i, line in enumerate(counts) if line.sum()]
    assert by_class["metric"] == "mean_class_accuracy_64_test"
    assert by_class["value"] == pytest.approx(np.mean(shares), abs=1e-12)
    line = " | ".join(["", creatures.LABELS[0], *map(str, counts[0]), ""])
    assert line.strip() in (place / "confusion_test.md").read_text()
    assert Image.open(place / "confusion_test.png").size[0] > 400
    assert np.sum(row["confusion"]) == 64
    assert np.trace(row["confusion"]) / 64 == row["value"]
    assert row["value"] == run.read_rows(place / "metrics.jsonl")[-1]["accuracy_64_test"]

    test = datasets.arrays("creatures/tiny", "test", image_size=32, data_dir=folder)
    shared_name = ["--mode=evaluate", "--model=resnet9", "--weights=creatures"]
    shared_name += ["--dataset=creatures/tiny", f"--data_dir={folder}"]
    best = json.loads(lines(capsys, *shared_name, f"--output={tmp_path / 'out'}")[0])
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "confusion_test.md",
        "confusion_test.png",
    }
    assert best["value"] > 0.9
    assert best["count"] == len(test["label"])
    assert "resnet9 has no weights 'nope': it has creatures" in mistake(
        capsys, "--mode=evaluate", "--model=resnet9", "--weights=nope"
    )
    for i, name in enumerate(("cat", "dog")):
        (folder / "two" / name).mkdir(parents=True)
        Image.fromarray(test["image"][i]).save(folder / "two" / name / "0.png")
    flags_of_two = [*shared_name[:3], f"--dataset=folder:{folder / 'two'}", "--split=train"]
    assert "two has 2 classes, the network 8" in mistake(capsys, *flags_of_two)

    offer = ["--mode=publish", f"--run_dir={place}", "--tag=mine", f"--data_dir={folder}"]
    offer += [f"--output={tmp_path}", "--set=maps=winner"]
    assert "resnet9:mine" in lines(capsys, *offer)[0]
    assert "accuracy_64_test" in (tmp_path / "resnet9-mine.md").read_text()
    held = json.loads((tmp_path / "manifest.json").read_text())["resnet9"]["mine"]
    assert held["options"]["maps"] == "winner" and "start" not in held["options"]
    assert held["options"]["width"] == 4
    assert held["origin"]["steps"] == 8
    assert held["origin"]["classes"] == list(creatures.LABELS)
    assert "--steps=8" in held["origin"]["command"]
    assert str(folder) not in held["origin"]["command"]
    assert "takes small letters" in mistake(capsys, *offer[:2], "--tag=../x")
    assert "holds resnet9:mine already: take another --tag" in mistake(capsys, *offer)
    assert "the score of a classifier is" in mistake(capsys, *offer, "--seed=1", "--tag=m")
    assert "makes no images" in mistake(capsys, *flags, "--metrics=fid")
    judge = ["--mode=evaluate", f"--weights={place}", "--metrics=fid"]
    assert "resnet9 has an accuracy" in mistake(capsys, *judge)
    assert "resnet9 cannot sample" in mistake(capsys, "--mode=sample", f"--weights={place}")


def test_a_published_command_tells_of_no_folders():
    found = publishing.public_command(
        ["--run_dir=/home/me/a b", "--data_dir", "/home/me", "--dataset=folder:/home/me/cats"]
        + ["--dataset", "hep2:/data/x", "--steps=3", "--set", "width=8"]
    )
    expected = ["--dataset=folder:cats", "--dataset", "hep2:x", "--steps=3", "--set", "width=8"]
    assert found == expected


def test_two_stage_stop_ends_a_run_and_stays(folder, capsys, without_graphs):
    place = folder / "stopped_early"
    flags = ["--model=dcgan", *TINY, f"--data_dir={folder}", "--steps=40", f"--run_dir={place}"]
    flags.remove("--set=encoder_width=8")
    flags += ["--metrics=is,fid", "--num=64", "--eval_every=2", "--stop=two_stage"]
    flags += ["--stop_window=2", "--stop_tolerance=0.9"]
    said = "\n".join(lines(capsys, *flags))
    rows = run.read_rows(place / "metrics.jsonl")
    scored = [r["step"] for r in rows if "fid_resnet9-creatures_64_test" in r]
    assert scored == list(range(2, scored[-1] + 1, 2))
    assert 6 <= scored[-1] < 40
    assert rows[-1]["step"] == scored[-1]
    values = {r["step"]: r["is_resnet9-creatures_64"] for r in rows if "is_resnet9-" in str(r)}
    best = max(values, key=values.get)
    assert f"best checkpoint by is_resnet9-creatures_64: {place}/checkpoints" in said
    assert f"step_{best:08d}.npz" in said
    assert (place / "checkpoints" / f"step_{best:08d}.npz").exists()
    assert f"trained {scored[-1]} steps already" in "\n".join(lines(capsys, *flags))
    assert run.read_rows(place / "metrics.jsonl") == rows


@pytest.mark.parametrize("study", ["regional", "gain", "biased", "translation"])
def test_a_study_trains_in_the_precision_that_is_given(study, monkeypatch, tmp_path):
    asked = {}

    def answer(name, runs, **options):
        asked.update(runs.options)
        return base.Study(tmp_path, "", tmp_path / "page.html")

    monkeypatch.setattr(studies, "get", lambda name: answer)
    flags = ["--precision=bfloat16", "--jit", f"--output={tmp_path}"]
    assert main.main(["--mode=study", f"--study={study}", *flags]) == 0
    assert asked == {"precision": "bfloat16", "jit": True}


@pytest.mark.slow
def test_study_of_runs_side_by_side(folder, without_graphs):
    place = folder / "regional"
    flags = ["--mode=study", "--study=regional", "--dataset=creatures/tiny", "--image_size=32"]
    flags += ["--batch_size=16", "--set=width=8", "--steps=4", "--eval_every=2", "--num=64"]
    flags += ["--sample_every=2", f"--data_dir={folder}", f"--output={place}"]
    assert main.main(flags) == 0
    lines = (place / "regional.md").read_text().splitlines()
    names = [line.split(" | ")[0] for line in lines if line.startswith("| ")]
    assert names == ["| run", "| dcgan", "| dcgan + self-attention", "| ragan"]
    assert "64 samples of the averaged generator, 64 real images of the test split" in lines[2]
    assert "stop: the step at which the two-stage rule would end the run (window 5, " in lines[2]
    configs = [
        run.read_record(place / name)["config"]
        for name in ("dcgan", "dcgan___self_attention", "ragan")
    ]
    assert [c["options"].get("self_attention") for c in configs] == [False, True, None]
    assert {(c["seed"], c["steps"], c["options"]["width"]) for c in configs} == {(0, 4, 8)}
    rows = run.read_rows(place / "ragan" / "metrics.jsonl")
    last = next(row for row in rows if row["step"] == 4 and "classes_resnet9-creatures_64" in row)
    assert f"| {last['fid_resnet9-creatures_64_test']:.4g}; " in lines[-1]
    for name in ("grids", "curves", "losses"):
        assert Image.open(place / f"regional_{name}.png").width > 600
    page = (place / "regional.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "https://" not in page


def test_study_of_broken_layout(folder, capsys, monkeypatch):
    monkeypatch.setattr(spatial, "METRICS", ("fid", "kid", "is"))  # sFID of each row takes seconds
    place = folder / "spatial"
    flags = ["--mode=study", "--study=fid_spatial", "--dataset=creatures/tiny", "--image_size=32"]
    flags += [f"--data_dir={folder}", f"--output={place}", "--num=40"]
    said = lines(capsys, *flags)
    assert said[-1] == f"study: {place}"
    found = json.loads((place / "fid_spatial.json").read_text())
    rows = {row["images"]: row["fid_resnet9-creatures_40_test"] for row in found["rows"]}
    assert rows["the same images"] == pytest.approx(0, abs=1e-6)
    assert rows["noise"] > rows["other real images (train)"] > rows["the same images"]
    assert (place / "fid_spatial.md").read_text().count("\n| ") == len(rows)
    assert Image.open(place / "fid_spatial.png").size[0] > 1000


def test_study_of_the_floor(folder, capsys, monkeypatch):
    """More real images bring FID closer to 0; KID has no such bias."""
    monkeypatch.setattr(floor, "COUNTS", (20, 60, 120, 500))
    place = folder / "floor"
    flags = ["--mode=study", "--study=floor", "--dataset=creatures/tiny", f"--output={place}"]
    said = lines(capsys, *flags, f"--data_dir={folder}", "--image_size=32")
    assert said[-1] == f"study: {place}"
    found = json.loads((place / "floor.json").read_text())
    assert found["extractor"] == "resnet9-creatures"
    assert [row["count"] for row in found["rows"]] == [20, 60, 120]
    fid = [row["fid"] for row in found["rows"]]
    assert fid[0] > 1.5 * fid[1] > 1.5 * fid[2] > 0
    assert all(row["fid_low"] <= row["fid"] <= row["fid_high"] for row in found["rows"])
    assert abs(found["rows"][2]["kid"]) < 0.2 * abs(fid[2])
    assert (place / "floor.md").read_text().count("\n| ") == 3
    assert Image.open(place / "floor.png").size[0] > 800
    flags += ["--num=19", f"--data_dir={folder}"]
    needs = "the study needs 40 training images, and --num=20 or more: creatures/tiny has 256"
    assert needs in mistake(capsys, *flags)


def test_nan_stops_the_run_with_one_line(folder, capsys):
    place = folder / "nan"
    flags = [*TINY, f"--data_dir={folder}", "--steps=12", f"--run_dir={place}", "--save_every=1"]
    flags += ["--model=wgan", "--set=learning_rate=1e38", "--set=clip=1e38"]
    flags.remove("--set=encoder_width=8")
    assert main.main(flags) == 1
    err = capsys.readouterr().err
    last = err.strip().splitlines()[-1]
    assert last.startswith("main.py: ")
    assert "became NaN or infinite at step 1: the last good checkpoint is kept" in last
    assert "Traceback" not in err


def test_a_stopped_run_goes_on_bit_identically(finished, folder):
    stopped = folder / "stopped"
    flags = [*TINY, f"--data_dir={folder}", "--steps=12", f"--run_dir={stopped}"]
    child = subprocess.Popen(command(*flags), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while child.poll() is None and not (stopped / "metrics.jsonl").exists():
        time.sleep(0.01)
    child.send_signal(signal.SIGTERM)
    _, err = child.communicate(timeout=120)
    assert child.returncode == 0, err
    assert "the same command goes on from here" in err
    assert "Traceback" not in err
    reached = json.loads((stopped / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    assert 1 <= reached < 12
    assert run.step_of(run.list_checkpoints(stopped)[-1]) == reached
    assert main.main(flags) == 0
    same_run(stopped, finished)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model=ragn"], "did you mean 'ragan'? the zoo has dcgan, wgan, ragan"),
        (["--model=RAGAN"], "did you mean 'ragan'?"),
        (["--dataset=cifar"], "unknown data set 'cifar'"),
        (["--dataset=/"], "unknown data set '/': did you mean 'folder:/'?"),
        (["--set=widht=8"], "unknown setting widht=8: did you mean width? there are attend_at=8"),
        (["--set=width=wide"], "width takes a whole number"),
        (["--set=mask_size=half"], "mask_size takes a number"),
        (["--set=loss=hinge"], "ragan has dcgan, wgan"),
        (["--model=wgan", "--set=penalty=1"], "augment_target=0.0, clip=0.01"),
        (["--model=dcgan", "--set=regions=2"], "augment_target=0.0, beta_1=0.5"),
        (["--image_size=33"], "must be a power of two from 32, not 33"),
        (["--set=regions=0"], "regions and encoder_width must be at least 1"),
        (["--dataset=folder:/nowhere"], "--dataset=folder:/nowhere does not exist: give a folder"),
        (["--dataset=cifar10", "--data_dir=/dev/null/x"], "give another --data_dir"),
        (["--mode=sample", "--weights=/nowhere"], "it holds no run.json"),
        (
            ["--mode=sample", "--weights=cifar10"],
            "cifar10 is not a run directory: published weights need --model",
        ),
        (["--mode=sample", "--model=ragan", "--weights=x"], "ragan has no weights 'x': it has"),
        (["--set=learning_rate=nan"], "learning_rate takes a number"),
        (["--set=learning_rate=-1"], "learning_rate must lie in [0, inf], not -1.0"),
        (
            [
                "--model=attention_gan",
                "--dataset=creatures/plain2striped",
                "--set=own_attention=true",
            ],
            "own_attention needs attention_discriminators=true",
        ),
        (["--set=ema_decay=1.5"], "ema_decay must lie in [0, 1], not 1.5"),
        (["--model=wgan", "--set=n_critic=0"], "n_critic must lie in [1, 100], not 0"),
        (["--set=latent=0"], "latent and width must be at least 1"),
        (["--dataset=folder:"], "--dataset=folder: does not exist: give a folder"),
        (["--model=resnet9", "--dataset=celeb_a"], "trains on creatures, cifar10, cells"),
        (["--mode=evaluate"], "takes --weights=TAG|RUN_DIR|FILE or --input=FOLDER"),
        (["--split=train"], "--split needs --metrics"),
        (["--stop_window=3", "--metrics=fid"], "--stop_window needs --stop=two_stage"),
        (["--mode=evaluate", "--weights=x", "--image_size=64"], "--image_size needs --input"),
        (["--mode=study", "--study=fid_spatial", "--weights=x"], "does not go with --study=fid_sp"),
        (["--mode=study", "--study=memorisation", "--steps=5"], "does not go with --study=mem"),
        (["--mode=study", "--study=regional", "--model=x"], "does not go with --study=regional"),
        (["--model=sagan", "--set=conditional=true", "--dataset=celeb_a"], "must have one"),
        (
            ["--model=ata_gan", "--dataset=cells", "--set=teacher=resnet18:none"],
            "teacher=MODEL:TAG names another",
        ),
        (["--mode=evaluate", "--weights=/nowhere"], "it holds no run.json"),
        (["--mode=evaluate", "--input=x", "--direction=b2a"], "--direction needs --weights"),
        (["--mode=evaluate", "--input=x"], "--input=FOLDER needs --dataset"),
        (
            ["--mode=evaluate", "--input=/nowhere", "--dataset=creatures"],
            "--input=/nowhere does not exist: give a folder",
        ),
        (
            ["--mode=evaluate", "--model=resnet9", "--weights=creatures", "--direction=a2b"],
            "direction is for models that translate: resnet9 does not",
        ),
        (
            ["--mode=evaluate", "--model=dcgan", "--weights=creatures", "--output=x"],
            "output is for a classifier's confusion matrix; dcgan is not a classifier",
        ),
        (["--mode=annotate", "--weights=x", "--input=y", "--num=3"], "is for generated images"),
        (["--mode=evaluate", "--weights=x", "--against=/nowhere"], "/nowhere holds no scores"),
    ],
)
def test_a_mistake_ends_in_one_line_and_exit_code_2(flags, message, capsys, tmp_path, monkeypatch):
    from attention_zoo.datasets import stream

    def refuse(*_, **__):
        raise OSError

    monkeypatch.setattr(stream.socket, "create_connection", refuse)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    assert message in mistake(capsys, *flags)
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model=ragn"], "did you mean 'ragan'?"),
        (["--mode=sample", "--model=ragn", "--weights=x"], "did you mean 'ragan'?"),
        (["--mode=sample", "--weights=x", "--output=a.jpg"], "--output=a.jpg: samples are written"),
        (
            ["--mode=sample", "--model=ragan", "--weights=creature"],
            "ragan has no weights 'creature': did you mean 'creatures'? it has cifar10",
        ),
        (["--dataset=creature"], "did you mean 'creatures'?"),
        (["--dataset=folder:/nowhere"], "--dataset=folder:/nowhere does not exist: give a folder"),
        (
            [
                "--mode=translate",
                "--model=attention_gan",
                "--weights=plain2striped",
                "--input=/nowhere",
            ],
            "--input=/nowhere does not exist: give a folder or a file",
        ),
    ],
)
def test_a_name_that_does_not_exist_is_noticed_before_tensorflow(
    flags, message, capsys, monkeypatch
):
    monkeypatch.setattr(commands, "import_tensorflow", lambda **_: pytest.fail("imported"))
    assert message in mistake(capsys, *flags)


def test_places_that_cannot_be_written_are_named(finished, folder, capsys):
    (folder / "file").write_text("")
    flags = [*TINY, f"--data_dir={folder}", "--steps=1", f"--run_dir={folder / 'file' / 'r'}"]
    assert "cannot write the run directory" in mistake(capsys, *flags)
    flags = ["--mode=sample", f"--weights={finished}", f"--output={folder / 'file' / 'g.png'}"]
    assert "cannot write" in mistake(capsys, *flags)
    flags = ["--mode=sample", f"--weights={finished}", "--model=dcgan"]
    assert "holds ragan, not dcgan" in mistake(capsys, *flags)


def test_every_option_reaches_the_networks_and_the_trainer():
    flags = ["--set=regions=2", "--set=ema_decay=0.5", "--image_size=32"]
    trainer = training.make_trainer(commands.run_config(parser.parse(flags).given))
    assert trainer.hp.ema_decay == 0.5
    assert trainer.networks["attention"].output["centres"].shape[1] == 2


def test_a_recipe_can_give_a_loss_values_of_its_own():
    flags = ["--model=deeplab", "--dataset=creatures/many"]
    asked = [[], ["--set=loss=sec"], ["--set=loss=sec", "--set=learning_rate=0.1"]]
    found = [commands.run_config(parser.parse(flags + more).given).hparams for more in asked]
    assert [hp["learning_rate"] for hp in found] == [0.02, 0.005, 0.1]
    assert "sigma_alpha" in found[1] and found[1]["policy"] == "poly"


def test_strategy_and_batch_must_agree(folder, capsys):
    flags = [*TINY, f"--data_dir={folder}", "--strategy=mirrored", "--batch_size=15"]
    said = mistake(capsys, *flags, f"--run_dir={folder / 'm'}")
    assert "must be a multiple of 2, the number of devices" in said


INTERRUPT = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["INTERRUPT_AT"]:
            os.kill(os.getpid(), signal.Signals[os.environ.get("SIGNAL", "SIGINT")])

sys.meta_path.insert(0, Interrupt())
"""
SWALLOWS = """
import os, signal

try:
    os.kill(os.getpid(), signal.SIGINT)
    print("goes on")
except BaseException as error:
    raise ImportError("as libraries turn an interrupt into another error") from error
"""


def interrupted(tmp_path, module, *flags, **options):
    """A command whose process gets SIGINT as it imports a module."""
    (tmp_path / "sitecustomize.py").write_text(INTERRUPT)
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "INTERRUPT_AT": module}
    options |= {"cwd": ROOT, "env": env, "capture_output": True, "text": True}
    return subprocess.run(command(*flags or ["--mode=list"]), **options)


SAMPLE = ("--mode=sample", "--model=resnet9", "--weights=creatures")  # cannot sample: no picture


@pytest.mark.parametrize(
    ("module", "flags"),
    [
        ("attention_zoo.cli.parser", ()),
        ("argparse", ()),
        ("numpy", ()),
        ("attention_zoo.zoo.registry", ()),
        ("tensorflow", SAMPLE),
        ("tensorflow.python.framework.ops", SAMPLE),
        ("keras", SAMPLE),
    ],
)
def test_an_interrupt_during_the_imports_ends_in_one_line(module, flags, tmp_path):
    done = interrupted(tmp_path, module, *flags)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_an_interrupt_before_the_command_line_begins_prints_nothing(tmp_path):
    done = interrupted(tmp_path, "attention_zoo.cli.main")
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize(("strategy", "status"), [("one", 0), ("multi_worker", 130)])
def test_sigterm_during_the_imports_ends_a_training_in_one_line(
    strategy, status, tmp_path, monkeypatch
):
    monkeypatch.setenv("SIGNAL", "SIGTERM")
    flags = [f"--strategy={strategy}", f"--run_dir={tmp_path / 'r'}"]
    done = interrupted(tmp_path, "keras", *flags)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr == "stopped by SIGTERM: the same command goes on from here\n"


def test_an_import_that_swallows_an_interrupt_ends_all_the_same(tmp_path):
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text(SWALLOWS)
    done = interrupted(tmp_path, "none", *SAMPLE)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


def test_an_ignored_interrupt_stays_ignored(tmp_path):
    def ignore():
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    done = interrupted(tmp_path, "numpy", preexec_fn=ignore)
    assert (done.returncode, done.stderr) == (0, "")
    assert "ragan" in done.stdout


@pytest.mark.parametrize(
    ("mode", "line"),
    [
        (["--mode=report", "--run_dir=x"], "interrupted\n"),
        ([], "interrupted: the same command goes on from here\n"),
    ],
)
def test_an_interrupted_command_says_whether_it_can_go_on(mode, line, capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "dispatch", interrupt)
    assert main.main(mode) == 130
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("flags", [["--mode=list"], ["--help"], ["--mode=train", "--help"]])
def test_a_reader_that_goes_away_is_no_error(flags):
    child = subprocess.Popen(
        command(*flags), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    child.stdout.close()
    assert child.stderr.read() == ""
    assert child.wait() == 0


def test_a_reader_of_both_streams_that_goes_away_is_no_error():
    read, write = os.pipe()
    child = subprocess.Popen(command("--mode=list"), cwd=ROOT, stdout=write, stderr=write)
    os.close(write)
    os.close(read)
    assert child.wait() == 0
    read, write = os.pipe()
    child = subprocess.Popen(command("--xyzzy"), cwd=ROOT, stdout=write, stderr=write)
    os.close(write)
    os.close(read)
    assert child.wait() == 2


def test_a_training_whose_progress_nobody_reads_ends_quietly(finished, folder):
    place = folder / "unread"
    flags = [*TINY, f"--data_dir={folder}", "--steps=1000000", f"--run_dir={place}"]
    child = subprocess.Popen(
        command(*flags), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    start = child.stdout.read(100)
    child.stdout.close()
    assert child.wait() == 1
    assert b"| 0/1000000" in start
    assert (place / "run.json").exists()


def test_another_broken_pipe_is_a_failed_run(capsys, monkeypatch):
    def broken(*_):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(main, "dispatch", broken)
    monkeypatch.setattr(main, "reader_gone", lambda: False)
    assert main.main(["--mode=list"]) == 1
    assert capsys.readouterr().err == "main.py: [Errno 32] Broken pipe\n"


@pytest.mark.parametrize("flags", [["--mode=list"], ["--help"], ["--mode=train", "--help"]])
def test_output_that_finds_no_room_is_a_mistake_in_one_line(flags):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command(*flags), cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2
    assert done.stderr == "main.py: [Errno 28] No space left on device\n"


def test_the_command_line_starts_without_tensorflow():
    program = (
        "import sys, main; from attention_zoo.cli.main import main; "
        "assert main(['--mode=evaluate', '--help']) == main(['--help']) == 0; "
        "assert main(['--xyzzy']) == 2; "
        "heavy = {'tensorflow', 'keras', 'tensorflow_datasets', 'numpy'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_python_without_the_packages_ends_in_one_line():
    command = [sys.executable, "-S", "main.py", "--mode=list"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("main.py: absl is not installed for this Python: activate its ")
    assert done.stderr.count("\n") == 1


@pytest.fixture
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "110")


def test_list_is_a_table_of_models_and_data_sets(capsys, wide, monkeypatch):
    said = lines(capsys, "--mode=list")
    rows = {line.split()[0]: line for line in said if line[:2] == "  " and line[2] != " "}
    assert {*zoo.names(), *datasets.names()} <= rows.keys()
    cells = "sagan", "image generation, self-attention", "stanford_dogs +1", "creatures"
    assert tuple(re.split("  +", rows["sagan"].strip())) == cells
    assert said[0].startswith("models (+N: N more data sets; details of one: ")
    assert len(said) < 90 and max(map(len, said)) <= 110
    assert not any("{" in line for line in said)
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, lines(capsys, "--mode=list"))) <= 80


def test_list_shows_one_model(capsys, wide):
    said = lines(capsys, "--mode=list", "--model=deeplab")
    assert said[0] == "deeplab: segmentation from pseudo labels"
    text = " ".join(" ".join(said).split())
    for part in (
        "Fully Connected CRFs, ICLR 2015 (arXiv:1412.7062)",
        "many: segmenter of creatures/many; miou_500_test 0.5194; Apache-2.0; sha256 beedb7dc613b",
        "image_size=321 classes=21 backbone=vgg16 width=64",
        'start=""',
        "hyper-parameters with --set loss=pseudo, the default (--set NAME=VALUE)",
        "hyper-parameters with --set loss=sec (--set NAME=VALUE)",
        "decay_present=0.996",
        "flip=true",
        "decay_present, decay_absent, decay_background: d of the rank pooling",
        "image_size=321: segmenter 20,505,429",
        "miou_voc2012_val, SEC (GAIN's notes, table): 50.7",
        "Predictions are those of an exponential moving average of the weights.",
    ):
        assert part in text, part
    assert {"  fc: of fc6 and fc7.", "  dilation: of fc6, in scores."} <= {*said}
    assert text.count("with decay_steps=0 it is constant") == 1  # not again for the other loss
    assert max(map(len, said)) <= 110
    for name in zoo.names():  # nobody has to look into the code
        said = listing.model(name)
        inner = re.search(r"(trainers|zoo)\.[a-z]|Those of|others:|a key of|[A-Z]{7}", said)
        assert not inner, (name, inner)
    assert "hyper-parameters (--set NAME=VALUE)" in lines(capsys, "--mode=list", "--model=vgg16")
    assert "did you mean 'ragan'?" in mistake(capsys, "--mode=list", "--model=rgan")

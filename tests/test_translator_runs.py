"""Translators on the command line: trained, scored, published, and used on pictures of any size."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import attention_zoo as az
from attention_zoo import zoo
from attention_zoo.cli import main
from attention_zoo.common.images import to_float
from attention_zoo.datasets import open_dataset
from attention_zoo.experiments import translating
from attention_zoo.experiments.config import RunConfig
from attention_zoo.experiments.evaluation import evaluate
from attention_zoo.experiments.models import open_run
from attention_zoo.studies import translation
from attention_zoo.tasks.translation import Translator

pytestmark = pytest.mark.usefixtures("eager")

DATA = "creatures/plain2striped/tiny"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two steps."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    flags = ["--model=attention_gan", f"--dataset={DATA}", "--image_size=32", "--batch_size=2"]
    flags += ["--set=width=4", "--set=blocks=1", "--set=masks=3", "--steps=2"]
    assert main.main([*flags, f"--run_dir={folder}"]) == 0
    return folder


def test_a_run_draws_both_directions_and_tells_of_its_masks(trained, capsys):
    (grid,) = (trained / "samples").glob("*.png")
    assert Image.open(grid).size == (8 * 32, 8 * 32)  # image, result, back, 3 masks, 2 contents
    rows = [json.loads(r) for r in (trained / "metrics.jsonl").read_text().splitlines()]
    last = {k: v for row in rows for k, v in row.items()}
    assert {"swd_32_train", "cycle", "tv", "mask_a2b_mask3_mean", "mask_b2a_entropy"} <= set(last)
    sums = sum(last[f"mask_a2b_mask{k}_mean"] for k in (1, 2, 3))
    assert abs(sums - 1) < 1e-4
    assert abs(last["mask_a2b_foreground_mean"] + last["mask_a2b_mask3_mean"] - 1) < 1e-4
    assert "mask_a2b_mask1_mean" in (trained / "report.html").read_text()


def test_both_directions_are_scored(trained, capsys):
    flags = ["--mode=evaluate", f"--weights={trained}", "--metrics=kid_blocks10"]
    flags += ["--extractor=zoo:resnet9-creatures"]
    assert main.main(flags) == 0
    rows = [json.loads(r) for r in capsys.readouterr().out.splitlines()]
    found = {row["metric"]: row for row in rows}
    for end, other, way in (("a", "b", "a2b"), ("b", "a", "b2a")):
        assert found[f"kid_blocks10_resnet9-creatures_16_test_{other}"]["direction"] == way
        for name in ("background_psnr", "background_ssim", "l1_truth", "attention_iou"):
            assert found[f"{name}_16_test_{end}"]["direction"] == way
    both = [found[f"l1_truth_16_test_{end}"]["value"] for end in "ab"]
    assert both[0] != both[1]


def test_a_pair_without_test_pictures_is_scored_on_its_training_pictures(trained, tmp_path, capsys):
    for place in ("trainA", "trainB"):
        (tmp_path / "d" / place).mkdir(parents=True)
        for number in range(12):
            values = np.random.default_rng(number).integers(0, 256, (32, 32, 3), "uint8")
            Image.fromarray(values).save(tmp_path / "d" / place / f"{number}.png")
    flags = ["--mode=evaluate", f"--weights={trained}", f"--dataset=folder:{tmp_path / 'd'}"]
    flags += ["--metrics=kid", "--extractor=zoo:resnet9-creatures", "--direction=a2b"]
    assert main.main(flags) == 2
    assert "give --split=train to use these" in capsys.readouterr().err
    assert main.main([*flags, "--split=train"]) == 0
    (row,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert row["metric"] == "kid_resnet9-creatures_12_train_b" and row["split"] == "train_b"


def test_one_picture_is_translated(trained, tmp_path, capsys):
    path = tmp_path / "a b.jpg"
    Image.fromarray(np.full((9, 14, 3), 77, np.uint8)).save(path)
    flags = ["--mode=translate", f"--weights={trained}", f"--output={tmp_path / 'out'}"]
    assert main.main([*flags, f"--input={path}"]) == 0
    said = capsys.readouterr().out
    assert "1 image translated from domain a to domain b: " in said
    assert Image.open(tmp_path / "out" / "a b.png").size == (14, 9)
    assert f"overview: {tmp_path / 'out' / 'overview.html'}" in said
    page = (tmp_path / "out" / "overview.html").read_text()
    about = (
        f"Translated from domain a to domain b by {trained}, trained on {DATA}. The first 1: image"
    )
    assert about in page
    assert "masks/NAME_3.png is the background" in page and page.count("<img") == 1
    for given, message in ((path.name, "does not exist"), (__file__, "is not a readable picture")):
        assert main.main([*flags, f"--input={given}"]) == 2
        assert f"--input={given} {message}" in capsys.readouterr().err


def test_the_study_goes_on_and_sets_both_directions_side_by_side(
    trained, tmp_path, monkeypatch, capsys
):
    shutil.copytree(trained, tmp_path / "scheme_2")
    monkeypatch.setattr(translation, "SYSTEMS", [("scheme 2", "attention_gan", {})])
    flags = ["--mode=study", "--study=translation", f"--dataset={DATA}", "--image_size=32"]
    flags += ["--batch_size=2", "--set=width=4", "--set=blocks=1", "--set=masks=3", "--steps=2"]
    assert main.main([*flags, "--seed=1", f"--output={tmp_path}"]) == 2  # another run's folder
    translate, counts = Translator.translate_batch, []

    def counted(model, x):
        counts.append(len(x))
        return translate(model, x)

    with monkeypatch.context() as here:
        here.setattr(Translator, "translate_batch", counted)
        assert main.main([*flags, f"--output={tmp_path}"]) == 0
    assert sum(counts) == 2 * 2 * 16  # the images of each domain, once there and back
    assert "trained 2 steps already" in capsys.readouterr().err
    for way, end, other in (("a2b", "a", "b"), ("b2a", "b", "a")):
        scores = json.loads((tmp_path / f"translation_{way}.json").read_text())["scheme 2"]
        value = scores[f"kid_resnet9-creatures_16_test_{other}"]
        assert f"| {value:.4g} |" in (tmp_path / f"translation_{way}.md").read_text()
        assert 0 < scores[f"attention_iou_best_16_test_{end}"] <= 1
        both = scores["kid_target_and_source_resnet9-creatures_16_test"]
        model = open_run(tmp_path / "scheme_2", way)
        arrays = [open_dataset(DATA, 32).arrays(f"test_{k}")["image"][:] for k in (end, other)]
        made = model.translate(arrays[0]).images
        options = {"metrics": ("kid",), "extractor": "zoo:resnet9-creatures"}
        kids = [evaluate(images=made, reference=x, **options)[0].value for x in arrays]
        assert both == pytest.approx(np.mean(kids), abs=1e-6) and value == pytest.approx(kids[1])
        again = model.back().translate(made).images
        gap = abs(again.astype(float) - arrays[0]).mean() / 255
        assert scores[f"cycle_l1_16_test_{end}"] == pytest.approx(gap)
        assert np.asarray(Image.open(tmp_path / f"translation_{way}.png")).std() > 10
    costs = json.loads((tmp_path / "translation_costs.json").read_text())["scheme 2"]
    assert costs["images"] == 0 and costs["parameters"] == model.network.count_params()
    assert main.main([*flags, "--metrics=kid"]) == 2
    assert "does not go with --study=translation" in capsys.readouterr().err
    with pytest.raises(az.UsageError, match="metrics does not go with this study"):
        translation.translation("s", None, request=az.EvaluationRequest(metrics=("kid",)))


def test_systems_of_the_study():
    systems = translation.parsed("cyclegan, attention_gan:scheme=1:masks=3")
    assert systems == [
        ("cyclegan", "cyclegan", {}),
        ("attention_gan scheme=1 masks=3", "attention_gan", {"scheme": "1", "masks": "3"}),
    ]
    for text, message in (
        ("cyclegan,dcgan", "dcgan translates no images; there are cyclegan, attention_gan"),
        ("cyclegan:blocks", "takes MODEL or MODEL:NAME=VALUE"),
        ("unit,unit", "a model is named twice with the same settings"),
    ):
        with pytest.raises(az.UsageError, match=message):
            translation.parsed(text)
    parts = {
        text: translation.batches(RunConfig.resolve(model, DATA, settings=settings))
        for text in ("unit", "discogan:loss=official", "dualgan:n_critic=5", "dualgan:loss=sigmoid")
        for _, model, settings in translation.parsed(text)
    }
    assert list(parts.values()) == [1, 3, 5, 1]


def test_both_directions_are_published_and_translate_pictures_of_any_size(
    trained, tmp_path, capsys
):
    publish = ["--mode=publish", f"--run_dir={trained}", f"--output={tmp_path / 'zoo'}"]
    publish += ["--extractor=zoo:resnet9-creatures", "--metrics=kid_blocks10"]
    assert main.main([*publish, "--tag=there"]) == 0
    assert main.main([*publish, "--tag=back", "--direction=b2a"]) == 0
    card = (tmp_path / "zoo" / "attention_gan-back.md").read_text()
    assert "--mode=translate" in card and "samples of seed" not in card
    back = zoo.load("attention_gan", f"{tmp_path / 'zoo' / 'back'}")

    rng, given = np.random.default_rng(0), tmp_path / "given"
    sizes = {"a.png": (37, 50), "b.jpg": (37, 50), "sub/c.png": (5, 3)}
    (given / "sub").mkdir(parents=True)
    for name, size in sizes.items():
        Image.fromarray(rng.integers(0, 255, (*size, 3), "uint8")).save(given / name)
    (given / "broken.png").write_bytes(b"")
    capsys.readouterr()
    flags = ["--mode=translate", "--model=attention_gan", f"--input={given}"]
    out = tmp_path / "out"
    assert main.main([*flags, f"--weights={tmp_path / 'zoo' / 'back'}", f"--output={out}"]) == 0
    told = capsys.readouterr()
    assert "3 images translated from domain b to domain a" in told.out and "broken.png" in told.err
    pictures = {"a.png": "a.png", "b.jpg": "b.png", "sub/c.png": "sub/c.png"}
    for name, made in pictures.items():
        stem = made.removesuffix(".png")
        files = [made, f"attention/{made}", *(f"masks/{stem}_{k}.png" for k in (1, 2, 3))]
        files += [f"contents/{stem}_{k}.png" for k in (1, 2)]
        for file in files:
            assert Image.open(out / file).size == sizes[name][::-1]

    pixels = np.asarray(Image.open(given / "a.png"))[None]
    x = to_float(np.pad(pixels, ((0, 0), (0, 3), (0, 2), (0, 0)), mode="reflect"))
    expected = np.asarray(back(x, training=False)["translated"])[0, :37, :50]
    assert abs(np.asarray(Image.open(out / "a.png")) - (expected + 1) * 127.5).max() <= 1
    flags += [f"--weights={tmp_path / 'zoo' / 'back'}", "--direction=a2b"]
    assert main.main(flags) == 2
    assert "has the network b2a" in capsys.readouterr().err


def test_batches_hold_neighbours_of_one_size():
    sizes = [(8, 8), (8, 8), (8, 8), (8, 4), (8, 8)]
    pictures = [(i, np.zeros((*size, 3), "uint8")) for i, size in enumerate(sizes)]
    assert [names for names, _ in translating.batches(pictures, 2)] == [[0, 1], [2], [3], [4]]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--model=attention_gan", "--dataset=creatures"],
            "give creatures/plain2striped, or folder:PATH with trainA/ and trainB/",
        ),
        (["--model=dcgan", f"--dataset={DATA}"], "one domain, not creatures/plain2striped"),
        (["--model=cyclegan", f"--dataset={DATA}", "--metrics=fid"], "scored by --mode=evaluate"),
        (["--mode=translate", "--model=dcgan", "--weights=cifar10"], "needs --input=FOLDER"),
        (
            ["--mode=translate", "--model=dcgan", "--weights=cifar10", "--input=."],
            "dcgan translates no images",
        ),
        (
            ["--mode=evaluate", "--model=dcgan", "--weights=cifar10", "--direction=a2b"],
            "is for models that translate",
        ),
    ],
)
def test_mistakes(flags, message, capsys):
    assert main.main(flags) == 2
    assert message in capsys.readouterr().err

"""What the page of --mode=demo shows, without Gradio; tests/browser_demo.py opens the page."""

import dataclasses
import json
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from PIL import Image

from attention_zoo import zoo
from attention_zoo.cli import main
from attention_zoo.common import images, interpolation
from attention_zoo.datasets import creatures
from attention_zoo.experiments import demo as demo_models
from attention_zoo.experiments import models
from attention_zoo.experiments import run_directory as run
from attention_zoo.serving import demo, export, signatures
from attention_zoo.tasks.base import Origin
from attention_zoo.zoo.layers import self_attention

RED = (255, 0, 0)


def served(name, role, about=None, **options):
    networks = zoo.create(name, image_size=32, width=4, **options)
    return export.Served(name, role, networks, 32, 0.5, about or {})


@pytest.fixture(scope="module")
def attending():
    keras.utils.set_random_seed(1)
    made = served("dcgan", "generator", self_attention=True)
    for variable in made.networks["generator"].trainable_variables:  # a trained one's are larger
        variable.assign(variable * 10)
    return made


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("ten", "'ten'"),
        ("", "''"),
        ("-1", "0 to 9, not '-1'"),
        ("10", "'10'"),
        ("1.5", "'1.5'"),
        ("9" * 5000, "9, not '99999999999999999999'$"),
    ],
)
def test_what_is_no_whole_number(typed, message):
    with pytest.raises(demo.Refused, match=message):
        demo.integer(typed, 0, 9, "the seed")
    assert demo.integer(" 7 ", 0, 9, "the seed") == demo.integer(7, 0, 9, "the seed") == 7


def test_a_sample_is_a_function_of_its_seed(attending):
    drawn, masks = demo.samples(attending, 3, 3)
    assert drawn.shape == (3, 32, 32, 3) and drawn.dtype == np.uint8 and masks is None
    again, _ = demo.samples(attending, 5, 1)
    assert abs(drawn[2].astype(int) - again[0]).max() <= 1
    assert abs(drawn[1].astype(int) - again[0]).max() > 20
    z = signatures.noise(np.array([5]), 100)
    made = np.asarray(attending.networks["generator"](z, training=False))[0]
    assert abs(again[0] - (made + 1) * 127.5).max() <= 0.51


def test_where_a_pixel_looks(attending):
    image = np.full((32, 32, 3), 200, np.uint8)
    z = signatures.noise(np.array([4]), 100)
    maps = self_attention.attention_map(attending.networks["generator"])
    beta = np.asarray(maps(z, training=False))[0].reshape(8, 8, 8, 8)  # place -> seen
    for row, column in ((4, 19), (31, 0)):
        shown, what = demo.explain_sample(attending, 4, image, row, column)
        assert "seed 4" in what and shown.shape == (512, 512 + 4 + 4 * 21, 3)  # with the scale
        assert shown[0, 516].tolist() == [195, 200, 71]  # the colour of 1 over grey
        small = shown[8:512:16, 8:512:16].astype(int)
        assert tuple(small[row, column]) == RED
        looked = beta[row // 4, column // 4].repeat(4, 0).repeat(4, 1)
        expected = images.heat(image, looked / looked.max())
        expected[row, column] = RED
        assert abs(small - expected).max() <= 1
        assert np.ptp(expected[..., 2]) > 20


def test_labels_and_references():
    about = {"options": {"classes": 3}}
    labelled = served("sagan", "generator", about, conditional=True, classes=3)
    assert demo.samples(labelled, 0, 2)[0].shape == (2, 32, 32, 3)
    assert demo.explain_sample(labelled, 0, np.zeros((32, 32, 3), np.uint8), 1, 1)[0].any()
    ragan = served("ragan", "generator", attend_at=8, encoder_width=4)
    photograph = np.random.default_rng(0).integers(0, 256, (30, 20, 3), np.uint8)
    drawn, masks = demo.samples(ragan, 0, 2, photograph)
    assert drawn.shape == (2, 32, 32, 3) and masks.shape == (4, 32, 32)
    assert abs(masks.sum((1, 2)) - 256).max() < 8  # half the image wide, edges soft
    assert demo.explain_sample(ragan, 0, drawn[0], 1, 1)[1] == "seed 0"


def test_a_grid_and_what_a_click_on_it_means():
    drawn = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 16, 16, 3), np.uint8)
    drawn[4, 2, 7] = 99
    grid = demo.grid(drawn)  # 2 rows of 3, each pixel 22 x 22
    assert grid.shape == (2 * 16 * 22, 3 * 16 * 22, 3)
    assert (grid[352:, 704:] == 255).all() and (grid[:352, 704:] == 2).all()
    x, y = (16 + 7) * 22 + 21, (16 + 2) * 22
    assert tuple(grid[y, x]) == (99, 99, 99)
    assert demo.grid_position(x, y, drawn) == (4, 2, 7)
    assert demo.grid_position(0, 0, drawn) == (0, 0, 0)
    assert demo.grid_position(1055, 703, drawn) is None


def test_a_box_is_drawn_by_shares_and_nothing_where_there_is_none():
    picture = np.zeros((100, 200, 3), np.uint8)
    drawn = demo.boxed(picture, (0.1, 0.25, 0.5, 0.75))
    rows, columns = np.nonzero(drawn[..., 0])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 49, 50, 149)
    assert not drawn[12:48, 52:148].any() and not demo.boxed(picture, (0, 0, 0, 0)).any()


def test_a_box_of_less_than_a_pixel_is_drawn():
    drawn = demo.boxed(np.zeros((4, 600, 3), np.uint8), (0.5, 0.5, 0.6, 0.6))
    assert drawn[2, 300:360, 0].any()


def test_looks():
    photograph = np.random.default_rng(0).integers(0, 256, (20, 40, 3), np.uint8)
    classifier = served("resnet9", "classifier", {"classes": ("cat", "dog")}, classes=2)
    ((shown, what),), scores = demo.explain(classifier, photograph)
    assert shown.shape == (260, 520 + 4 + 4 * 21, 3) and "0.5" in what
    assert list(scores) == ["cat", "dog"] and abs(sum(scores.values()) - 1) < 1e-5
    bright = photograph.repeat(13, 0).repeat(13, 1)
    red = (shown[:, :520] == RED).all(-1)
    answer = demo._answer(classifier, "serving_default", demo._square(photograph, 32)[None])
    expected = images.heat(bright, interpolation.resized(answer["attention"][0], 260, 520))
    assert red.any() and np.array_equal(shown[:, :520][~red], expected[~red])
    assert shown[-1, 524].tolist() == [58, 55, 132]  # the colour of 0 over grey

    guided = served("gain", "attention", backbone="resnet9", classes=4)
    shown, scores = demo.explain(guided, photograph)
    best = sorted(scores, key=scores.get, reverse=True)[:3]
    assert [what for _, what in shown] == [f"{name}: {scores[name]:.2f}" for name in best]
    assert set(scores) == {f"class {i}" for i in range(4)}

    networks = zoo.create("ata_gan", image_size=32, width=4, map_size=8)
    judge = export.Served("ata_gan", "generator", networks, 32, 0.5, {})
    ((shown, _),), scores = demo.explain(judge, photograph)
    assert 0 < scores["real"] < 1
    image = demo.samples(judge, 0, 1)[0][0]
    assert np.array_equal(
        demo.explain_sample(judge, 0, image, 3, 3)[0], demo.explain(judge, image)[0][0][0]
    )


def test_translations():
    image = keras.Input((None, None, 3), name="image")
    masks = keras.layers.Lambda(lambda x: x[..., :1] * 0 + np.array([0.5, 0.2, 0.3], "float32"))
    contents = keras.layers.Lambda(lambda x: keras.ops.stack([x, -x], -2))
    outputs = {"translated": -image, "masks": masks(image), "contents": contents(image)}
    network = keras.Model(image, outputs)
    translator = export.Served("toy", "a2b", {"b2a": network}, 16, 0.5, {})
    assert demo.directions(translator) == ["b2a"]
    photograph = np.random.default_rng(0).integers(0, 256, (10, 33, 3), np.uint8)
    made = dict((what, p) for p, what in demo.translations(translator, "b2a", photograph))
    assert list(made) == [
        "translation",
        "attention: what is new",
        "mask 1",
        "mask 2",
        "mask of the background",
        "content 1",
        "content 2",
    ]
    small = {what: picture[8::16, 8::16] for what, picture in made.items()}  # 33 -> 528
    assert abs(small["translation"] - (255.0 - photograph)).max() <= 1
    assert abs(small["content 1"] - photograph.astype(float)).max() <= 1
    greys = [small[name][0, 0, 0] for name in list(made)[1:5]]
    assert [int(g) for g in greys] == [178, 128, 51, 76]  # of 255: 0.7, 0.5, 0.2, 0.3
    with pytest.raises(demo.Refused, match="translate b2a only"):
        demo.translations(translator, "a2b", photograph)


def test_pictures(tmp_path):
    half = np.zeros((4, 6, 4), np.uint8)
    half[:, :3, 3] = 255
    Image.fromarray(half).save(tmp_path / "half.png")
    found = demo_models.picture(tmp_path / "half.png")
    assert found.shape == (4, 6, 3) and not found[:, :3].any() and (found[:, 3:] == 255).all()
    exif = Image.Exif()
    exif[274] = 6  # turned by a quarter
    Image.fromarray(half[..., :3]).save(tmp_path / "turned.jpg", exif=exif)
    assert demo_models.picture(tmp_path / "turned.jpg").shape == (6, 4, 3)
    (tmp_path / "broken.png").write_bytes((tmp_path / "half.png").read_bytes()[:50])
    Image.new("L", (10_000, 5_000)).save(tmp_path / "huge.png")
    wrong = {"broken.png": "not a picture", "huge.png": "50 million pixels", "none": "not a pict"}
    for name, message in wrong.items():
        with pytest.raises(demo.Refused, match=message):
            demo_models.picture(tmp_path / name)
    with pytest.raises(demo.Refused, match="give a picture"):
        demo_models.picture(None)
    assert len(demo_models.examples(tmp_path)) == 6
    assert demo_models.picture(tmp_path / "5.png").shape == (64, 64, 3)


def test_models_of_the_zoo_and_of_runs(tmp_path):
    found = demo_models.models(None)
    samplers, translators, lookers = demo_models.tabs(found)
    assert "ragan:cifar10" in samplers and "resnet9:creatures" in lookers
    assert "resnet9:creatures" not in samplers and "ragan:cifar10" not in lookers
    for name, model in (("b", "attention_gan"), ("a", "ata_gan"), ("new", "gain")):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        record = {"config": dict.fromkeys(run.CONFIG) | {"model": model}, "starts": []}
        (tmp_path / name / "run.json").write_text(json.dumps(record))
        if name != "new":
            (tmp_path / name / "checkpoints" / "step_00000001.npz").touch()
    more = demo_models.models(str(tmp_path))
    names = [f"ata_gan, {tmp_path / 'a'}", f"attention_gan, {tmp_path / 'b'}"]
    assert list(more) == names + list(found)
    assert demo_models.tabs(more) == (
        [names[0], *samplers],
        [names[1], *translators],
        [names[0], *lookers],
    )
    assert list(demo_models.models(str(tmp_path / "b"))) == [names[1], *found]
    with pytest.raises(demo.Refused, match="step_00000001.npz"):
        demo_models.loaded(more, names[1])


def test_published_weights_know_their_classes():
    found = demo_models.models(None)
    made = demo_models.loaded(found, "resnet9:creatures")
    assert made.about["classes"][1] == "bear" and made.threshold == 0.5
    bear = creatures.render(np.random.default_rng(1), label=1)["image"]
    _, scores = demo.explain(made, bear)
    assert max(scores, key=scores.get) == "bear"


def test_a_run_knows_its_classes_while_its_data_are_here(tmp_path):
    for i, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        rendered = creatures.render(np.random.default_rng(i), label=i, size=32)["image"]
        Image.fromarray(rendered).save(tmp_path / name / "0.png")
    origin = Origin(weights="r", dataset=f"folder:{tmp_path}", folder=tmp_path)
    known = {"options": {"classes": 2}}
    assert models.class_names(SimpleNamespace(origin=origin, **known)) == ("cat", "dog")
    assert models.class_names(SimpleNamespace(origin=origin, options={})) == ()  # of a generator
    gone = dataclasses.replace(origin, dataset="folder:/nowhere")
    assert models.class_names(SimpleNamespace(origin=gone, **known)) == ()
    published = dataclasses.replace(gone, folder=None, details={"classes": ["fox"]})
    assert models.class_names(SimpleNamespace(origin=published, **known)) == ("fox",)


def test_without_gradio_one_line_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main.main(["--mode=demo"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install -r requirements-demo.txt" in line
    assert main.main(["--mode=sample", "--port=1"]) == 2
    assert "does not use --port" in capsys.readouterr().err


def test_a_folder_without_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", object())
    assert main.main(["--mode=demo", f"--weights={tmp_path}"]) == 2
    assert "not a run directory with a checkpoint" in capsys.readouterr().err

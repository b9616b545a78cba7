"""Images with weak annotations, and the scores of the maps they are made from."""

import json
import os

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from attention_zoo import zoo
from attention_zoo.cli import main
from attention_zoo.evaluate import localization
from attention_zoo.experiments import annotation


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Weights of a small annotator, not trained, whose threshold is 0.3."""
    folder = tmp_path_factory.mktemp("published")
    options = zoo.options("ata_gan") | {"image_size": 32, "width": 4}
    network = zoo.create("ata_gan", **options)["annotator"]
    about = {
        "network": "annotator",
        "options": options,
        "dataset": "creatures/tiny",
        "scores": {"threshold": 0.3},
        "origin": {},
        "license": "Apache-2.0",
    }
    zoo.save("ata_gan", "small", network, about, folder, exact=True)
    return f"{folder}/small", network


def opened(path):
    return np.asarray(Image.open(path))


def test_generated_images(published, tmp_path, capsys):
    weights, network = published
    flags = ["--mode=annotate", "--model=ata_gan", f"--weights={weights}", "--num=3", "--seed=5"]
    assert main.main([*flags, f"--output={tmp_path}"]) == 0
    coco = COCO(tmp_path / "annotations.json")
    z = np.random.default_rng(5).uniform(-1, 1, (3, 100)).astype("float32")
    images = np.asarray(network(z, training=False)[0])
    assert len(coco.imgs) == 3 and "overview" in capsys.readouterr().out
    for i, image in coco.imgs.items():
        name = image["file_name"]
        assert (image["width"], image["height"]) == (32, 32)
        whole = np.clip(np.rint((images[i - 1] + 1) * 127.5), 0, 255)
        stored = opened(tmp_path / "images" / name)
        assert abs(stored - whole).max() <= 1
        critic = network.get_layer("discriminator")
        attention = critic(stored[None].astype("float32") / 127.5 - 1, training=False)[1]
        shown = opened(tmp_path / "maps" / name) / 255
        assert abs(shown - localization.prepared(attention, 32)[0]).max() <= 0.6 / 255
        (found,) = coco.loadAnns(coco.getAnnIds(imgIds=i))
        mask = coco.annToMask(found).astype(bool)
        x, y, width, height = found["bbox"]
        box = np.s_[y : y + height, x : x + width]
        assert mask.sum() == mask[box].sum() == found["area"] > 0
        outside = abs(shown - 0.3) > 1 / 255  # of 8 bits one cannot tell which side
        assert (mask[box] == (shown >= 0.3)[box])[outside[box]].all()
    page = (tmp_path / "overview.html").read_text()
    assert page.count("<img") == 3


def test_a_folder_of_images_keeps_their_sizes_and_names_the_broken(published, tmp_path, capsys):
    weights, _ = published
    rng = np.random.default_rng(0)
    for name, size in (("a.png", (40, 56, 3)), ("a.jpg", (30, 20, 3))):
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, size, "uint8")).save(tmp_path / "in" / name)
    (tmp_path / "in" / "b.png").write_bytes(b"no picture")
    latin = os.fsdecode(b"latin_\xe9.png")
    Image.fromarray(rng.integers(0, 255, (9, 9), "uint8")).save(tmp_path / "in" / latin)
    flags = ["--mode=annotate", "--model=ata_gan", f"--weights={weights}", "--threshold=0.6"]
    out = tmp_path / "out"
    assert main.main([*flags, f"--input={tmp_path / 'in'}", f"--output={out}"]) == 0
    assert "b.png" in capsys.readouterr().err
    held = json.loads((out / "annotations.json").read_text())
    sizes = {i["file_name"]: (i["height"], i["width"]) for i in held["images"]}
    assert sizes == {"a.jpg.png": (30, 20), "a.png": (40, 56), latin: (9, 9)}
    assert (out / "images" / latin).exists() and "latin_" in (out / "overview.html").read_text()
    assert opened(out / "images" / "a.png").shape == (40, 56, 3)
    assert opened(out / "maps" / "a.jpg.png").shape == (30, 20)
    assert "threshold 0.6" in held["info"]["description"]
    made = [a["segmentation"]["size"] for a in held["annotations"]]
    assert made == [[30, 20], [40, 56], [9, 9]]


def test_sampling_takes_the_generator_out_of_the_published_pair(published, tmp_path):
    weights, network = published
    out = tmp_path / "grid.png"
    flags = ["--mode=sample", "--model=ata_gan", f"--weights={weights}", "--num=2"]
    assert main.main([*flags, f"--output={out}"]) == 0
    z = np.random.default_rng(0).uniform(-1, 1, (2, 100)).astype("float32")
    images = np.concatenate(list(network(z, training=False)[0]), axis=1)
    assert abs(opened(out) - (images + 1) * 127.5).max() <= 1


def test_run_lengths_by_hand():
    mask = np.array([[0, 1, 1], [0, 1, 0], [0, 0, 0]], bool)
    found = annotation.annotation(7, 2, mask)
    assert found["segmentation"] == {"size": [3, 3], "counts": [3, 2, 1, 1, 2]}
    assert found["bbox"] == [1, 0, 2, 2] and found["area"] == 3
    assert (found["id"], found["image_id"], found["iscrowd"]) == (7, 2, 0)
    whole = annotation.annotation(1, 1, np.ones((2, 2), bool))
    assert whole["segmentation"]["counts"] == [0, 4]


def test_localization_of_published_classifiers(capsys):
    flags = ["--mode=evaluate", "--model=resnet9", "--weights=creatures"]
    flags += ["--metrics=localization", "--dataset=creatures/tiny"]
    assert main.main(flags) == 0
    rows = {r["metric"]: r for r in map(json.loads, capsys.readouterr().out.splitlines())}
    assert list(rows) == ["maxboxacc_64_test", "pxap_64_test", "iou_64_test", "pointing_64_test"]
    assert rows["iou_64_test"]["value"] > 0.35 and rows["pointing_64_test"]["value"] > 0.5
    assert 0 < rows["iou_64_test"]["threshold"] < 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--mode=annotate", "--model=dcgan", "--weights=cifar10"],
            "dcgan:cifar10: the discriminator of dcgan makes no map",
        ),
        (["--mode=annotate", "--model=resnet9", "--weights=cifar10"], "give --input=FOLDER"),
        (
            ["--mode=evaluate", "--model=dcgan", "--weights=cifar10", "--metrics=fid,localization"],
            "no other metrics",
        ),
    ],
)
def test_what_cannot_be_annotated(flags, message, capsys):
    assert main.main(flags) == 2
    assert message in capsys.readouterr().err

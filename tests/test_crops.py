"""Pictures cut out by their boxes: where a cut lies, Stanford Dogs through TFDS, creatures."""

import dataclasses
import io

import numpy as np
import pytest

from attention_zoo import datasets
from attention_zoo.datasets import crops, resize, stream

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


@pytest.mark.parametrize(
    ("bbox", "box", "cut"),
    [  # ymin, xmin, ymax, xmax of a picture 100 high and 200 wide
        ((0.4, 0.4, 0.6, 0.5), [[40, 80], [60, 100]], [[40, 80], [60, 100]]),  # a square stays
        ((0.4, 0.4, 0.6, 0.6), [[40, 80], [60, 120]], [[30, 80], [70, 120]]),  # a wide box
        ((0.2, 0.5, 0.8, 0.55), [[20, 100], [80, 110]], [[20, 75], [80, 135]]),  # a high box
        ((0.0, 0.4, 0.1, 0.6), [[0, 80], [10, 120]], [[0, 80], [40, 120]]),  # at the upper border
        ((0.5, 0.9, 1.0, 1.0), [[50, 180], [100, 200]], [[50, 150], [100, 200]]),  # at a corner
        ((0.4, 0.1, 0.6, 0.9), [[40, 20], [60, 180]], [[0, 20], [100, 180]]),  # wider than high
        ((0.0, 0.0, 1.0, 1.0), [[0, 0], [100, 200]], [[0, 0], [100, 200]]),  # all of the picture
        ((-0.5, -0.5, 0.5, 0.2), [[0, 0], [50, 40]], [[0, 0], [50, 50]]),  # partly outside
        ((0.9, 0.9, 1.5, 7.0), [[90, 180], [100, 200]], [[80, 180], [100, 200]]),
        ((0.301, 0.2, 0.304, 0.3), None, None),  # thinner than half a pixel
        ((0.3, 0.2, 0.3, 0.4), None, None),
        ((0.3, 0.2, 0.5, 0.2), None, None),
        ((0.6, 0.2, 0.5, 0.4), None, None),  # inside out
        ((0.1, 1.2, 0.5, 1.6), None, None),  # beside the picture
        ((-0.4, 0.2, -0.1, 0.6), None, None),
    ],
)
def test_where_the_cut_of_a_box_lies(bbox, box, cut):
    found = crops.window(np.float32(bbox), 100, 200)
    assert (found and [part.tolist() for part in found]) == (box and [box, cut])


def test_cuts_hold_image_mask_and_the_box_in_them():
    image = np.zeros((10, 20, 3), np.uint8)
    image[3:5, 4:8] = RED
    mask = image[..., :1].copy()
    held = {"image": image, "mask": mask, "bbox": np.float32((0.3, 0.2, 0.5, 0.4)), "label": 7}
    (example,) = crops.cut([held])
    assert example["image"].shape == (4, 4, 3)
    expected = [[0] * 4, [255] * 4, [255] * 4, [0] * 4]
    assert example["image"][..., 0].tolist() == expected
    assert example["mask"][..., 0].tolist() == expected
    assert example["bbox"].tolist() == [0.25, 0, 0.75, 1]
    assert example["label"] == 7


def test_whole_stretches_and_keeps_every_border():
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, :10], image[:, 10:30], image[:, 30:] = RED, GREEN, BLUE
    made = resize.whole(image, 8)
    assert made.shape == (8, 8, 3) and made.dtype == np.uint8
    assert made[0, [0, 3, 4, 7]].tolist() == [list(c) for c in (RED, GREEN, GREEN, BLUE)]
    assert (made == made[:1]).all()


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (2, [[113, 0], [0, 0]]),  # 1 of 1.5 x 1.5 pixels
        (3, [[255, 0, 0], [0, 0, 0], [0, 0, 0]]),
        (4, [[255, 85, 0, 0], [85, 28, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]),  # a third, a ninth
    ],
)
def test_a_mask_of_any_ratio_is_the_share_of_object(size, expected):
    mask = np.zeros((3, 3, 1), np.uint8)
    mask[0, 0] = 255
    assert resize.area(mask, size)[..., 0].tolist() == expected


def dog(label, size, boxes):
    """A TFDS example of dogs: a black picture (height, width) with boxes of each its colour."""
    import tensorflow_datasets as tfds

    image = np.zeros((*size, 3), np.uint8)
    for (top, left, bottom, right), colour in boxes:
        image[top:bottom, left:right] = colour
    fractions = [np.float64(box) / (*size, *size) for box, _ in boxes]
    return {
        "image": image,
        "image/filename": f"dog{label}.jpg",
        "label": label,
        "objects": [{"bbox": tfds.features.BBox(*map(float, box))} for box in fractions],
    }


@pytest.fixture
def dogs(monkeypatch, tmp_path):
    """TFDS's own stanford_dogs, prepared from drawn examples in place of the download."""
    import tensorflow_datasets as tfds

    train = [
        dog(5, (60, 100), [((10, 10, 26, 26), RED), ((20, 60, 52, 92), GREEN)]),
        dog(119, (80, 80), [((0, 40, 40, 80), BLUE), ((7, 9, 7, 30), RED)]),
        dog(0, (10, 20), [((0, 0, 10, 20), RED), ((0, 0, 10, 5), BLUE)]),
        dog(1, (30, 30), []),
    ]
    test = [dog(3, (64, 64), [((0, 0, 64, 64), GREEN)])]

    def generate(self, examples):
        yield from enumerate(examples)

    def generators(self, _):
        return {"train": generate(self, train), "test": generate(self, test)}

    builder = tfds.builder_cls("stanford_dogs")
    monkeypatch.setattr(builder, "_split_generators", generators)
    monkeypatch.setattr(stream.socket, "create_connection", lambda *_, **__: io.BytesIO())
    return tmp_path


def test_stanford_dogs_cuts_every_dog_out(dogs, caplog):
    held = datasets.arrays("stanford_dogs", image_size=16, data_dir=dogs)
    assert sorted(held) == ["image", "label"]
    assert held["image"].shape == (5, 16, 16, 3)
    assert sorted(held["label"].tolist()) == [0, 0, 5, 5, 119]
    said = caplog.text
    assert "skipped, a box of no area: [0.0875 0.1125 0.0875 0.375 ] of dog119.jpg" in said
    assert "skipped 1 of 6 boxes" in said

    ends = [  # the colour at the left and the right of each picture, the same in every row
        (label, tuple(image[0, 2].tolist()), tuple(image[0, 13].tolist()))
        for image, label in zip(held["image"], held["label"].tolist())
        if (image == image[0]).all()
    ]
    assert sorted(ends) == [
        (0, BLUE, RED),  # the whole picture, stretched: a quarter is blue
        (0, BLUE, RED),  # its left half, square: half is blue
        (5, GREEN, GREEN),
        (5, RED, RED),
        (119, BLUE, BLUE),
    ]
    blue = [(i[0, :, 2] > 127).sum() for i in held["image"][held["label"] == 0]]
    assert blue == [4, 8]


def test_stanford_dogs_has_splits_classes_and_a_size(dogs):
    held = datasets.labelled("stanford_dogs", "test", 120, data_dir=dogs)
    assert held["image"].shape == (1, 64, 64, 3)
    assert held["label"].tolist() == [3]
    assert datasets.classes("stanford_dogs") == 120
    assert datasets.has_split("stanford_dogs", "test")
    assert not datasets.has_split("stanford_dogs", "validation")
    assert datasets.identity("stanford_dogs", data_dir=dogs) == "stanford_dogs-0.2.0-crops"
    batch = next(datasets.load("stanford_dogs", batch_size=8, data_dir=dogs).as_numpy_iterator())
    assert batch["image"].shape == (8, 64, 64, 3)
    assert batch["image"].min() == -1 and batch["image"].max() == 1
    assert batch["label"].dtype == np.int32


def test_pictures_without_a_box_to_cut_out_are_refused():
    nothing = {"image": np.zeros((4, 4, 3), np.uint8), "bbox": np.zeros(4, np.float32)}
    for examples in ([], [nothing]):
        with pytest.raises(datasets.DataError, match="has a box to crop it to"):
            list(crops.cut(examples))


def test_stanford_dogs_as_tfds_makes_them():
    """Mock examples have any boxes, many of them inside out."""
    import tensorflow_datasets as tfds

    spec = datasets.DATASETS["stanford_dogs"]
    with tfds.testing.mock_data(num_examples=5):
        data = tfds.builder(spec.tfds).as_dataset(split="train")
        made = list(stream.examples_of(data, spec, image_size=64))
        count = 0
        for example in data.as_numpy_iterator():
            height, width, _ = example["image"].shape
            for top, left, bottom, right in example["objects"]["bbox"].tolist():
                high = round(bottom * height) > round(top * height)
                count += high and round(right * width) > round(left * width)
    assert len(made) == count > 5
    for example in made:
        assert set(example) == {"image", "label"}
        assert example["image"].shape == (64, 64, 3) and example["image"].dtype == np.uint8
        assert 0 <= example["label"] < 120


@pytest.fixture(scope="module")
def creatures(tmp_path_factory):
    """Where creatures/crops is of the few animals of creatures/tiny."""
    spec = dataclasses.replace(datasets.DATASETS["creatures/crops"], tfds="creatures/tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(datasets.DATASETS, "creatures/crops", spec)
        yield tmp_path_factory.mktemp("data")


@pytest.mark.parametrize("size", [32, 64])
def test_each_creature_fills_its_cut(creatures, size):
    held = datasets.arrays("creatures/crops", "test", image_size=size, data_dir=creatures)
    full = datasets.arrays("creatures/tiny", "test", data_dir=creatures)
    assert list(held) == list(full) == ["bbox", "coat", "image", "label", "mask", "scene"]
    assert held["image"].shape == (64, size, size, 3) and held["image"].dtype == np.uint8
    assert held["mask"].shape == (64, size, size, 1)
    for key in ("label", "coat", "scene"):
        np.testing.assert_array_equal(held[key], full[key])
    sides = held["bbox"][:, 2:] - held["bbox"][:, :2]
    assert (sides.max(1) == 1).all()
    assert 0.2 < sides.min() < 0.5
    before = full["bbox"][:, 2:] - full["bbox"][:, :2]
    np.testing.assert_allclose(sides[:, 0] / sides[:, 1], before[:, 0] / before[:, 1], rtol=1e-5)
    for mask, box, was in zip(held["mask"][..., 0], held["bbox"], full["mask"]):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        edges = [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]
        assert abs(edges - box * size).max() <= 1
        side = max(was.any((1, 2)).sum(), was.any((0, 2)).sum())
        assert abs(mask.mean() * side**2 / 64**2 - was.mean()) < 0.5  # of 255


def test_a_cut_at_the_size_of_its_box_is_the_picture_itself(creatures):
    held = datasets.arrays("creatures/crops", "test", image_size=48, data_dir=creatures)
    full = datasets.arrays("creatures/tiny", "test", data_dir=creatures)
    boxes = np.rint(64 * full["bbox"]).astype(int)
    same = np.flatnonzero((boxes[:, 2:] - boxes[:, :2]).max(1) == 48)
    assert len(same) == 3
    for i in same:
        top, left = boxes[i, :2] - np.rint(48 * held["bbox"][i, :2]).astype(int)
        for key in ("image", "mask"):
            part = full[key][i, top : top + 48, left : left + 48]
            np.testing.assert_array_equal(held[key][i], part)


def test_creatures_crops_are_kept_beside_the_whole_pictures(creatures):
    source = {"image_size": 32, "data_dir": creatures}
    whole = datasets.arrays("creatures/tiny", "test", **source)["image"].copy()
    cuts = datasets.arrays("creatures/crops", "test", **source)["image"].copy()
    assert (whole != cuts).mean() > 0.9
    assert datasets.identity("creatures/crops", data_dir=creatures) == "creatures-tiny-1.0.0-crops"
    assert datasets.identity("creatures/tiny", data_dir=creatures) == "creatures-tiny-1.0.0"
    place = creatures / "attention_zoo" / "creatures-tiny-1.0.0-crops-test-32"
    place.rename(creatures / "elsewhere")
    again = datasets.arrays("creatures/crops", "test", **source)["image"]
    np.testing.assert_array_equal(again, cuts)


def test_creatures_crops_are_labelled_by_body_plan(creatures):
    assert datasets.classes("creatures/crops") == 8
    assert datasets.has_split("creatures/crops", "test")
    train = datasets.labelled("creatures/crops", "train", 8, data_dir=creatures)
    assert train["image"].shape == (256, 64, 64, 3)
    assert np.bincount(train["label"]).min() > 16
    batch = next(
        datasets.load("creatures/crops", batch_size=4, data_dir=creatures).as_numpy_iterator()
    )
    assert batch["mask"].shape == (4, 64, 64, 1) and batch["mask"].max() == 1
    assert batch["bbox"].shape == (4, 4)


def test_the_list_names_both(capsys):
    from attention_zoo.cli import main

    assert main.main(["--mode=list"]) == 0
    said = capsys.readouterr().out
    said = " ".join(said.split())
    assert "creatures/crops the same 20,000 + 2,000 animals, each cut out by its box" in said
    assert "stanford_dogs 12,000 + 8,580 photographs of dogs, each dog cut out by" in said

"""VOC's pictures and maps from a folder like its archive's, drawn small."""

import numpy as np
import pytest
from PIL import Image

from attention_zoo.datasets import voc
from attention_zoo.datasets.table import DataError

XML = "<annotation>{}</annotation>"
OBJECT = "<object><name>{}</name><part><name>head</name></part></object>"


def save_map(path, classes, mode="P"):
    """Class numbers as a PNG: with a palette that maps every number to another colour, or grey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(classes.astype(np.uint8))
    if mode == "P":
        image.putpalette([value for k in range(256) for value in (255 - k, k, 7)])
    image.save(path)


@pytest.fixture
def root(tmp_path):
    """Pictures a (8 x 4, map), b (4 x 8, map), c (map of the augmented set), d (annotation)."""
    place = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Segmentation"):
        (place / folder).mkdir(parents=True)
    sizes = {"a": (8, 4), "b": (4, 8), "c": (4, 4), "d": (4, 4)}
    for value, (name, (height, width)) in enumerate(sizes.items()):
        picture = np.full((height, width, 3), 50 * value, np.uint8)
        Image.fromarray(picture).save(place / "JPEGImages" / f"{name}.jpg", quality=95)
    first = np.zeros((8, 4), np.uint8)
    first[:4, 2:], first[6:] = 15, 255
    save_map(place / "SegmentationClass" / "a.png", first)
    save_map(place / "SegmentationClass" / "b.png", np.full((4, 8), 20))
    save_map(place / "SegmentationClassAug" / "b.png", np.full((4, 8), 3), "L")
    save_map(place / "SegmentationClassAug" / "c.png", np.full((4, 4), 3), "L")
    listed = "".join(map(OBJECT.format, ("dog", "aeroplane", "dog")))
    (place / "Annotations" / "d.xml").write_text(XML.format(listed))
    for name, names in {"train": "ab", "val": "b", "trainval": "ab"}.items():
        lines = "\n".join(names) + "\n"
        (place / "ImageSets" / "Segmentation" / f"{name}.txt").write_text(lines)
    return place


def augment(root, name="train_aug.txt", line="{}"):
    lines = "\n".join(line.format(name, name) for name in "abcd")
    (root / "ImageSets" / "Segmentation" / name).write_text(lines)


def held(path, split="train", size=8):
    return list(voc.Voc(path, split).examples(size))


def test_squares_hold_the_whole_picture_its_numbers_and_bars_to_ignore(root):
    a, b = held(root)
    assert {k: (v.shape, v.dtype) for k, v in a.items()} == {
        "image": ((8, 8, 3), np.uint8),
        "classes": ((8, 8, 1), np.uint8),
        "labels": ((20,), np.float32),
    }
    expected = np.full((8, 8), 255)
    expected[:6, 2:6] = 0
    expected[:4, 4:6] = 15
    np.testing.assert_array_equal(a["classes"][..., 0], expected)
    assert abs(a["image"][:, 2:6].astype(int)).max() <= 2
    assert a["image"][:, [0, 1, 6, 7]].reshape(-1, 3).tolist() == [[124, 116, 104]] * 32
    assert np.flatnonzero(a["labels"]).tolist() == [14]
    assert (b["classes"][2:6] == 20).all() and (b["classes"][[0, 1, 6, 7]] == 255).all()
    assert np.flatnonzero(b["labels"]).tolist() == [19]
    assert voc.CLASSES[14] == "person" and voc.CLASSES[19] == "tvmonitor"


def test_another_size_takes_the_nearest_number(root):
    a, b = held(root, size=12)
    assert set(np.unique(a["classes"])) == {0, 15, 255}
    assert (a["classes"][:6, 6:9] == 15).all() and (a["classes"][9:] == 255).all()
    assert set(np.unique(b["classes"])) == {20, 255}
    assert voc.placed(375, 500, 321) == (slice(40, 281), slice(0, 321))


def test_originals_are_as_they_are(root):
    (name, image, classes), _ = voc.Voc(root, "train").originals()
    assert (name, image.shape, classes.shape) == ("a", (8, 4, 3), (8, 4))
    assert np.bincount(classes.ravel(), minlength=256)[[0, 15, 255]].tolist() == [16, 8, 8]


@pytest.mark.parametrize(
    ("list_name", "line"),
    [
        ("train_aug.txt", "{}"),
        ("trainaug.txt", "/JPEGImages/{}.jpg /SegmentationClassAug/{}.png"),
    ],
)
def test_the_augmented_list_is_the_training_split_where_there_is_one(root, list_name, line):
    augment(root, list_name, line)
    _, b, c, d = held(root)
    assert np.unique(b["classes"]).tolist() == [20, 255]  # VOC's own map comes first
    assert np.unique(c["classes"]).tolist() == [3] and c["labels"].argmax() == 2
    assert np.unique(d["classes"]).tolist() == [255]
    assert np.flatnonzero(d["labels"]).tolist() == [0, 11]  # aeroplane, dog
    counts = {split: len(voc.Voc(root, split).names) for split in voc.Voc.splits(root)}
    assert counts == {"train": 4, "train_official": 2, "val": 1, "test": 1, "trainval": 2}


def test_a_list_may_begin_with_a_byte_order_mark(root):
    augment(root, line="\ufeff{}")
    assert voc.Voc(root, "train").names[0] == "a"


@pytest.mark.parametrize("up", [0, 1, 2])
def test_a_path_is_the_folder_or_one_of_those_above_it(root, up):
    path = [root, *root.parents][up]
    assert voc.Voc(str(path), "val").names == ["b"]


def test_the_key_tells_other_files_from_these(root):
    before = voc.Voc(root, "train").key
    assert voc.Voc(root.parent, "train").key == before
    save_map(root / "SegmentationClass" / "a.png", np.zeros((8, 4)))
    assert voc.Voc(root, "train").key != before


def test_what_cannot_be_read_is_named_and_left_out(root, caplog):
    augment(root)
    save_map(root / "SegmentationClass" / "a.png", np.full((8, 4), 21))  # no class of VOC's
    save_map(root / "SegmentationClass" / "b.png", np.zeros((4, 4)))  # of another picture
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(root / "SegmentationClass" / "c.png")
    assert [np.flatnonzero(e["labels"]).tolist() for e in held(root)] == [[0, 11]]
    assert "skipped 3 of 4 pictures" in caplog.text
    (root / "Annotations" / "d.xml").write_text(XML.format(OBJECT.format("unicorn")))
    with pytest.raises(DataError, match="holds no readable picture with its map: expected JPEG"):
        held(root)


def test_mistakes_are_told_in_one_line(root, tmp_path):
    for path, message in (
        (tmp_path / "none", "--dataset=voc2012:.*none does not exist: give a folder"),
        (root / "JPEGImages", "a VOCdevkit folder: expected JPEGImages/.*ImageSets/Segmentation"),
    ):
        with pytest.raises(DataError, match=message) as error:
            voc.Voc(str(path), "train")
        assert "\n" not in str(error.value)
    (root / "ImageSets" / "Segmentation" / "val.txt").unlink()
    with pytest.raises(DataError, match="'val': it has train, train_official, trainval$"):
        voc.Voc(root, "val")

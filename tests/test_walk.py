"""One walk of a user's folder: what is a picture, a class, a split, and what is left out."""

import os

import numpy as np
import pytest
from PIL import Image

from attention_zoo import datasets
from attention_zoo.datasets import folder, pairs, walk
from attention_zoo.datasets.table import DataError
from attention_zoo.experiments import translating


def write(root, *names, size=(8, 8)):
    """Pictures below a folder, each of another grey."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size, 10 * number + 10).save(path)


def source(root, **more):
    return {"name": f"folder:{root}", "image_size": 8, "data_dir": root.parent / "data", **more}


def greys(held):
    return held["image"][:, 0, 0, 0].tolist()


def test_hidden_files_and_folders_are_no_pictures_and_no_classes(tmp_path, caplog):
    root = tmp_path / "d"
    write(root, "cat/a.png", "dog/b.png", ".git/c.png", "__MACOSX/cat/d.png", "cat/.e.png")
    (root / "cat" / "._a.png").write_bytes(b"\0\5\26\7")
    (root / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    held = datasets.arrays(**source(root))
    assert (greys(held), held["label"].tolist()) == ([10, 20], [0, 1])
    assert datasets.classes(f"folder:{root}") == 2
    assert "left out" not in caplog.text and "skipped" not in caplog.text


def test_links_are_followed_but_not_in_circles(tmp_path):
    root, store = tmp_path / "d", tmp_path / "store"
    write(store, "cats/a.png", "b.png")
    write(root, "dog/c.png")
    (root / "cat").symlink_to(store / "cats")
    (root / "dog" / "d.png").symlink_to(store / "b.png")
    (root / "dog" / "up").symlink_to(root)
    (store / "cats" / "self").symlink_to(store / "cats")
    found = walk.walk(root)
    assert found.names == ["cat/a.png", "dog/c.png", "dog/d.png"]
    assert datasets.arrays(**source(root))["label"].tolist() == [0, 1, 1]


def test_what_is_left_out_is_counted_in_one_line(tmp_path, caplog):
    root = tmp_path / "d"
    write(root, "cat/a.png", "dog/b.PNG")
    (root / "empty" / "deep").mkdir(parents=True)
    (root / "cat" / "notes.txt").write_text("")
    (root / "cat" / "more.txt").write_text("")
    (root / "photo.jfif").write_text("")
    (root / "cat" / "gone.png").symlink_to(tmp_path / "gone.png")
    (root / "bird").symlink_to(tmp_path / "nowhere")
    os.mkfifo(root / "cat" / "pipe.png")
    assert len(datasets.arrays(**source(root))["image"]) == 2
    (line,) = [line for line in caplog.text.splitlines() if "left out" in line]
    expected = (
        "left out 3 files for the ending (.txt, .jfif), 1 folder without pictures (empty), 2 links "
        "to nowhere, 1 file or folder that cannot be opened"
    )
    assert expected in line


def test_the_names_of_classes_are_logged_once(tmp_path, caplog):
    root = tmp_path / "d"
    write(root, "train/cat/a.png", "train/dog/b.png", "test/cat/c.png")
    data = datasets.open_dataset(f"folder:{root}", 8, tmp_path)
    with caplog.at_level("INFO", "absl"):
        for split in ("train", "test", "train"):
            data.resized(16).arrays(split)
            next(data.batches(batch_size=1).as_numpy_iterator())
    assert caplog.text.count("2 classes: cat, dog") == 1


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("train test", {"train": [10], "test": [20]}),
        ("Train TEST", {"train": [10], "test": [20]}),
        ("train val", {"train": [10], "test": [20], "validation": [20]}),
        ("Train Valid", {"train": [10], "test": [20], "validation": [20]}),
        ("train validation test", {"train": [10], "test": [30], "validation": [20]}),
        ("train", {"train": [10]}),
    ],
)
def test_folders_named_like_splits_are_splits_in_any_case(tmp_path, names, expected):
    root = tmp_path / "d"
    write(root, *(f"{name}/cat/a.png" for name in names.split()))
    (root / ".cache").mkdir()
    held = {split: datasets.arrays(**source(root, split=split)) for split in expected}
    assert {split: greys(arrays) for split, arrays in held.items()} == expected
    assert held["train"]["label"].tolist() == [0]
    for split in ("train", "validation", "test"):
        assert datasets.has_split(f"folder:{root}", split) == (split in expected)


def test_train_among_other_classes_is_a_class(tmp_path):
    write(tmp_path / "d", "bus/a.png", "train/b.png", "truck/c.png")
    assert datasets.arrays(**source(tmp_path / "d"))["label"].tolist() == [0, 1, 2]


def test_two_folders_for_one_split_are_refused(tmp_path):
    write(tmp_path / "d", "train/a.png", "val/b.png", "valid/c.png")
    with pytest.raises(DataError, match="has both val/ and valid/: rename one of them"):
        datasets.arrays(**source(tmp_path / "d"))


def test_two_domains_have_validation_pictures_for_test_and_any_case(tmp_path):
    root = tmp_path / "d"
    write(root, "TrainA/a.png", "TrainB/b.png", "valA/c.png", "valB/d.png")
    assert pairs.Pairs.splits(root)[-2:] == ["test_a", "test_b"]
    assert greys(datasets.arrays(**source(root, split="test_b"))) == [40]
    write(tmp_path / "body", "testa/a.png", "mano/b.png")
    assert not datasets.paired(f"folder:{tmp_path / 'body'}")


def test_a_flat_folder_without_test_names_the_flag(tmp_path):
    write(tmp_path / "d", "a.png")
    with pytest.raises(DataError, match="has no split 'test': give --split=train, or put images"):
        datasets.arrays(**source(tmp_path / "d", split="test"))


def test_a_path_that_does_not_exist_and_a_file_are_told_apart(tmp_path):
    write(tmp_path, "a.png")
    for path, message in (
        (tmp_path / "none", "--dataset=folder:.*/none does not exist: give a folder"),
        (tmp_path / "a.png", "--dataset=folder:.*/a.png is a file: give a folder"),
    ):
        with pytest.raises(DataError, match=message):
            datasets.arrays(f"folder:{path}")
    for path, message in (
        (tmp_path / "none", "^--input=.*/none does not exist"),
        (tmp_path / "text.png", "^--input=.*/text.png is not a readable picture: no picture in a"),
    ):
        (tmp_path / "text.png").write_text("no picture")
        with pytest.raises(DataError, match=message):
            folder.read_all(path, "--input=")


def test_the_side_is_the_median_of_the_smaller_sides(tmp_path):
    root = tmp_path / "d"
    write(root, "a.png", size=(1, 1))
    write(root, "b.png", "c.png", "d.png", size=(64, 80))
    write(root, "e.png", size=(3000, 2000))
    (root / "f.png").write_text("no picture")
    assert folder.Folder(root, "train").side() == 64
    write(tmp_path / "large", "a.png", size=(4000, 3000))
    assert folder.Folder(tmp_path / "large", "train").side() == folder.LARGEST == 1024


def test_mixed_sizes_are_one_line_also_from_the_cache(tmp_path, caplog):
    root = tmp_path / "d"
    write(root, "b.png", size=(40, 30))
    datasets.arrays(**source(root))
    assert "become" not in caplog.text
    write(root, "a.png", size=(1, 1))
    for _ in range(2):
        caplog.clear()
        datasets.arrays(**source(root))
        (line,) = [line for line in caplog.text.splitlines() if "become" in line]
        assert line.endswith("pictures of 1 x 1 to 40 x 30 pixels become 8 x 8, 1 of them enlarged")
    write(tmp_path / "small", "a.png", "b.png", size=(6, 9))
    caplog.clear()
    datasets.arrays(**source(tmp_path / "small"))
    assert "small: pictures of 6 x 9 pixels become 8 x 8, 2 of them enlarged" in caplog.text


def test_few_results_wait_while_pictures_are_read():
    started = []

    def square(value):
        started.append(value)
        return value * value

    results = folder.in_order(square, range(100), ahead=4)
    assert next(results) == (0, 0)
    assert len(started) <= 6
    assert list(results) == [(n, n * n) for n in range(1, 100)]


def test_a_step_of_translation_has_at_most_a_number_of_pixels(monkeypatch):
    monkeypatch.setattr(translating.tiles, "PIXELS", 200)
    images = [(f"{i}", np.zeros((10, 8, 3), np.uint8)) for i in range(5)]
    assert [names for names, _ in translating.batches(images, 4)] == [["0", "1"], ["2", "3"], ["4"]]

"""Data sets: what a batch is, order and position, folders of any images, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from attention_zoo import datasets
from attention_zoo.datasets import pictures, resize, stream


def write_images(root, count, size=(40, 30)):
    root.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.new("RGB", size, (i, 2 * i, 3 * i)).save(root / f"{i:03d}.png")


def first(data):
    return next(data.as_numpy_iterator())


@pytest.fixture
def colours(tmp_path):
    """A folder of 10 images, image i being of colour (i, 2i, 3i)."""
    write_images(tmp_path / "colours", 10)
    return {"name": f"folder:{tmp_path / 'colours'}", "data_dir": tmp_path, "image_size": 8}


def numbers(batch):
    """Which of the `colours` a batch holds."""
    return np.rint((batch["image"][:, 0, 0, 0] + 1) * 127.5).astype(int).tolist()


def test_a_batch_is_float32_in_minus_one_to_one(colours):
    batch = first(datasets.load(**colours, batch_size=4, shuffle=False))
    assert batch["image"].shape == (4, 8, 8, 3)
    assert batch["image"].dtype == np.float32
    expected = np.array([3, 6, 9]) / 127.5 - 1
    assert abs(batch["image"][3] - expected).max() < 1e-6


def test_unshuffled_data_is_every_image_once_in_order(colours):
    data = datasets.load(**colours, batch_size=4, shuffle=False).as_numpy_iterator()
    assert [numbers(batch) for batch in data] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_each_epoch_is_a_permutation_of_its_own(colours):
    data = datasets.load(**colours, batch_size=5, seed=1).as_numpy_iterator()
    batches = [numbers(next(data)) for _ in range(6)]
    epochs = [batches[i] + batches[i + 1] for i in (0, 2, 4)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_batches_run_over_the_end_of_an_epoch(colours):
    data = datasets.load(**colours, batch_size=4, seed=1).as_numpy_iterator()
    seen = sum((numbers(next(data)) for _ in range(5)), [])
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))


def test_a_batch_larger_than_the_data_set_repeats_it(colours):
    batch = first(datasets.load(**colours, batch_size=25, seed=1))
    assert sorted(numbers(batch)[:10]) == sorted(numbers(batch)[10:20]) == list(range(10))


def test_order_is_by_seed_and_goes_on_from_a_position(colours):
    def batches(seed, start, count):
        data = datasets.load(**colours, batch_size=4, seed=seed, start=start).as_numpy_iterator()
        return [numbers(next(data)) for _ in range(count)]

    assert batches(1, 0, 8)[5:] == batches(1, 5, 3)
    assert batches(1, 0, 8) != batches(2, 0, 8)


def test_sub_folders_are_classes(tmp_path):
    write_images(tmp_path / "d" / "cat", 2)
    write_images(tmp_path / "d" / "ant", 3)
    held = datasets.arrays(f"folder:{tmp_path / 'd'}", image_size=8, data_dir=tmp_path)
    assert held["label"].tolist() == [0, 0, 0, 1, 1]
    with pytest.raises(datasets.DataError, match="pictures of each class into a sub-folder"):
        datasets.classes(f"folder:{tmp_path / 'd' / 'ant'}")


def test_train_and_test_folders_are_splits(tmp_path):
    write_images(tmp_path / "d" / "train", 3)
    write_images(tmp_path / "d" / "test", 2)
    name = f"folder:{tmp_path / 'd'}"
    assert len(datasets.arrays(name, "train", data_dir=tmp_path)["image"]) == 3
    assert len(datasets.arrays(name, "test", data_dir=tmp_path)["image"]) == 2


def test_every_kind_of_picture_becomes_rgb():
    grey16 = Image.fromarray(np.full((4, 4), 32768, np.uint16))
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    half = Image.new("LA", (4, 4), (0, 128))
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    expected = [
        (Image.new("L", (4, 4), 77), (77, 77, 77)),
        (Image.new("1", (4, 4), 1), (255, 255, 255)),
        (grey16, (128, 128, 128)),
        (clear, (255, 255, 255)),
        (half, (127, 127, 127)),
        (palette, (10, 20, 30)),
        (Image.new("CMYK", (4, 4), (255, 0, 0, 0)), (0, 255, 255)),
    ]
    for image, colour in expected:
        assert np.asarray(pictures.to_rgb(image))[0, 0].tolist() == list(colour), image.mode


def test_the_centred_square_is_kept_and_antialiased():
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200
    assert (resize.square(wide, 10) == 200).all()
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    inner = resize.square(stripes, 16)[:, 2:-2].astype(int)  # the border sees half its taps
    assert abs(inner - 127).max() < 4


def test_a_mask_is_resized_to_the_share_of_object():
    mask = np.zeros((4, 4, 1), np.uint8)
    mask[0, :3] = 255
    assert resize.area(mask, 2)[..., 0].tolist() == [[128, 64], [0, 0]]


def test_broken_files_are_named_counted_and_skipped(tmp_path, caplog):
    root = tmp_path / "d"
    write_images(root, 3)
    whole = (root / "000.png").read_bytes()
    (root / "cut.png").write_bytes(whole[: len(whole) // 2])
    (root / "text.jpg").write_text("no image")
    (root / "notes.txt").write_text("not counted")
    held = datasets.arrays(f"folder:{root}", image_size=8, data_dir=tmp_path)
    assert held["image"].shape == (3, 8, 8, 3)
    said = caplog.text
    assert "cut.png" in said
    assert "text.jpg" in said
    assert "skipped 2 of 5 files" in said


def test_a_changed_folder_is_read_again(tmp_path):
    write_images(tmp_path / "d", 3)
    source = {"name": f"folder:{tmp_path / 'd'}", "image_size": 8, "data_dir": tmp_path}
    assert len(datasets.arrays(**source)["image"]) == 3
    write_images(tmp_path / "d", 5)
    assert len(datasets.arrays(**source)["image"]) == 5


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("folder:/nowhere", "train", "--dataset=folder:/nowhere does not exist: give a folder"),
        ("folder:{}/empty", "train", "holds no images"),
        ("folder:{}/broken", "train", "holds no readable image"),
        ("folder:{}/plain", "test", "has no split 'test': give --split=train, or"),
        ("cifar11", "train", "did you mean 'cifar10'"),
        ("cifar10", "validation", "has no split 'validation'"),
        ("creatures/tiny", "dev", "it has train, test"),
    ],
)
def test_what_cannot_be_had_is_refused_and_leaves_nothing(tmp_path, name, split, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_text("x")
    write_images(tmp_path / "plain", 2)
    with pytest.raises(datasets.DataError, match=message):
        datasets.load(name.format(tmp_path), split, image_size=8, data_dir=tmp_path / "data")
    assert not list((tmp_path / "data").glob("attention_zoo/*"))


def test_what_is_not_there_and_cannot_be_downloaded_says_what_works(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(stream.socket, "create_connection", refuse)
    with pytest.raises(datasets.DataError, match=r"cifar10 is not in .*--dataset=creatures or"):
        datasets.load("cifar10", data_dir=tmp_path)


def test_a_full_disk_is_one_line_and_leaves_nothing(colours, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stream._Column, "append", full)
    with pytest.raises(datasets.DataError, match="No space left on device.*another --data_dir"):
        datasets.arrays(**colours)
    assert not list((colours["data_dir"] / "attention_zoo").iterdir())


def test_identity_tells_other_examples(tmp_path):
    write_images(tmp_path / "a", 2)
    first = datasets.identity(f"folder:{tmp_path / 'a'}")
    assert first == datasets.identity(f"folder:{tmp_path / 'a'}")
    write_images(tmp_path / "a", 2, size=(40, 31))
    assert first != datasets.identity(f"folder:{tmp_path / 'a'}")


def test_unknown_keys_are_refused(colours):
    with pytest.raises(datasets.DataError, match="has no mask: it holds image"):
        datasets.load(**colours, keys=["image", "mask"])


@pytest.mark.parametrize(
    ("name", "size"), [("cifar10", 32), ("stl10", 32), ("celeb_a", 64), ("celeb_a", 128)]
)
def test_tfds_sets_are_read_as_tfds_makes_them(name, size):
    import tensorflow_datasets as tfds

    spec = datasets.DATASETS[name]
    with tfds.testing.mock_data(num_examples=5):
        builder = tfds.builder(spec.tfds)
        examples = list(
            stream.examples_of(builder.as_dataset(split="train"), spec, image_size=size)
        )
    assert len(examples) == 5
    assert set(examples[0]) == set(spec.keys)
    assert examples[0]["image"].shape == (size, size, 3)
    assert examples[0]["image"].dtype == np.uint8


def test_creatures_through_the_loader(tmp_path):
    data = datasets.load(
        "creatures/tiny", "test", image_size=32, batch_size=64, shuffle=False, data_dir=tmp_path
    )
    batches = list(data.as_numpy_iterator())
    assert len(batches) == 1
    batch = batches[0]
    assert set(batch) == {"image", "mask", "bbox", "label", "coat", "scene"}
    assert batch["image"].shape == (64, 32, 32, 3)
    assert batch["mask"].shape == (64, 32, 32, 1)
    assert batch["mask"].dtype == np.float32
    assert batch["mask"].max() == 1
    assert set(batch["label"]) == set(range(8))
    for mask, (top, left, bottom, right) in zip(batch["mask"][..., 0], batch["bbox"]):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert rows[0] == int(top * 32)
        assert columns[0] == int(left * 32)
        assert abs((rows[-1] + 1) - bottom * 32) < 1
        assert abs((columns[-1] + 1) - right * 32) < 1

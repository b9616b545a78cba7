"""Data sets as objects: names, arrays in memory, tf.data."""

import numpy as np
import pytest
import tensorflow as tf
from absl import logging
from PIL import Image

from attention_zoo.datasets import DataError, dataset, open_dataset, stream


def pictures(count=10, size=32):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


def test_a_name_gives_its_arrays_and_batches_at_the_size(tmp_path):
    data = open_dataset("creatures/tiny", 32, str(tmp_path))
    assert data.arrays("test")["image"].shape == (64, 32, 32, 3)
    assert (data.classes, data.paired, data.has_split("test")) == (8, False, True)
    batch = next(data.batches(batch_size=4, keys=("image", "label")).as_numpy_iterator())
    assert batch["image"].shape == (4, 32, 32, 3)
    assert data.resized(16).arrays("test")["image"].shape == (64, 16, 16, 3)


def test_arrays_are_a_data_set_of_one_split():
    images, label = pictures(), np.arange(10) % 3
    data = open_dataset({"image": images, "label": label})
    assert (data.side, data.classes, data.has_split("test")) == (32, 3, False)
    assert data.arrays("train")["image"].tobytes() == images.tobytes()
    batch = next(data.batches(batch_size=10, seed=1).as_numpy_iterator())
    order = [np.flatnonzero((images == image).all((1, 2, 3)))[0] for image in rounded(batch)]
    assert sorted(order) == list(range(10)) != order
    assert batch["label"].tolist() == label[order].tolist()
    with pytest.raises(DataError, match="no split 'test'"):
        data.arrays("test")


def rounded(batch):
    return np.rint((batch["image"] + 1) * 127.5).astype(np.uint8)


def test_the_identity_of_arrays_is_their_content():
    images = pictures()
    other = images.copy()
    other[3, 4, 5, 0] ^= 1
    names = [open_dataset(x).identity() for x in (images, images.copy(), other)]
    assert names[0] == names[1] != names[2]


def test_arrays_are_resized_and_floats_and_grey_ones_converted():
    assert open_dataset(pictures(size=48), 32).arrays()["image"].shape == (10, 32, 32, 3)
    floats = pictures().astype("float32") / 127.5 - 1
    assert (open_dataset(floats).arrays()["image"] == pictures()).all()
    grey = open_dataset(pictures()[..., 0]).arrays()["image"]
    assert (grey == pictures()[..., :1]).all()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((0, 32, 32, 3), np.uint8), "at least one image"),
        ({"label": np.zeros(3)}, 'need "image"'),
        (np.zeros((2, 32, 32, 4), np.uint8), r"images are \(N, H, W, 3\)"),
        (np.full((2, 32, 32, 3), 200.0), r"float images lie in \[-1, 1\]"),
        (np.zeros((2, 32, 32, 3), np.int64), "images are uint8, or float"),
        ({"image": pictures(4), "label": np.zeros(3)}, "label has 3 entries for 4 images"),
        ({"image": pictures(3), "label": np.eye(3)}, r"not float64 \(3, 3\); .* give \"labels\""),
        ({"image": pictures(2), "label": np.array([0.5, 1])}, '"label" is one whole number'),
        ({"image": pictures(2), "label": np.array(["a", "b"])}, "not <U1"),
        ({"image": pictures(2), "mask": np.zeros((2, 9, 9, 1))}, r"as \(2, 32, 32, 1\), not"),
    ],
)
def test_arrays_that_are_no_images_are_refused(data, message):
    with pytest.raises(DataError, match=message):
        open_dataset(data)


def test_labels_of_keras_data_sets_have_an_axis_less():
    data = open_dataset({"image": pictures(4), "label": np.array([[2], [0], [1], [2]])})
    assert data.arrays()["label"].tolist() == [2, 0, 1, 2] and data.classes == 3


def test_masks_and_classes_are_cut_and_resized_with_their_images():
    classes = np.zeros((1, 8, 12, 1), np.int64)
    classes[:, :3, :5] = 7  # of the centred square the first three rows and columns
    mask = np.uint8(255 * (classes > 0))
    images = np.broadcast_to(mask, (1, 8, 12, 3))
    arrays = open_dataset({"image": images, "mask": mask, "classes": classes}, 4).arrays()
    share = np.outer((255, 127.5, 0, 0), (1, 0.5, 0, 0))
    assert np.abs(arrays["mask"][0, ..., 0] - share).max() <= 1
    assert set(np.unique(arrays["classes"])) == {0, 7}
    assert arrays["classes"].shape == arrays["mask"].shape == (1, 4, 4, 1)
    assert arrays["image"].shape == (1, 4, 4, 3)
    with pytest.raises(DataError, match="must be square, not 8 x 12"):
        open_dataset({"image": images, "bbox": np.zeros((1, 4))})


def test_a_path_is_a_folder_of_pictures(tmp_path):
    place = tmp_path / "my pictures"
    (place / "cats").mkdir(parents=True)
    Image.fromarray(pictures(1)[0]).save(place / "cats" / "a.png")
    data = open_dataset(place, 32, str(tmp_path / "data"))
    assert data.name == f"folder:{place}"
    assert (data.arrays()["image"] == pictures(1)).all()
    with pytest.raises(DataError, match="only one class, and a classifier needs two"):
        data.labelled("train", 2)


def test_a_stream_is_rebatched_repeated_and_skipped():
    images = pictures(10)
    data = open_dataset(tf.data.Dataset.from_tensor_slices(images).batch(3))
    assert (data.side, data.image_size) == (32, 32)
    assert data.arrays()["image"].tobytes() == images.tobytes()
    batches = data.batches(batch_size=4, start=1)
    first, second = (rounded(batch) for batch in batches.take(2).as_numpy_iterator())
    assert (first == images[4:8]).all()
    assert (second == images[[8, 9, 0, 1]]).all()


def test_a_stream_gives_pairs_of_images_and_labels():
    images, labels = pictures(4), np.array([2, 0, 1, 0])
    data = open_dataset(tf.data.Dataset.from_tensor_slices((images, labels)).batch(2))
    batch = next(data.batches(batch_size=3).as_numpy_iterator())
    assert batch["label"].tolist() == [2, 0, 1] and (rounded(batch) == images[:3]).all()
    assert data.classes == 3


def test_a_stream_is_known_by_its_first_images(monkeypatch):
    monkeypatch.setattr(dataset, "SAMPLED", 3)

    def stream_of(**arrays):
        arrays = {"image": pictures(4), **arrays}
        return open_dataset(tf.data.Dataset.from_tensor_slices(arrays).batch(2))

    data = stream_of(labels=np.eye(4))
    assert data.classes == 4 and data.arrays()["image"].tobytes() == pictures(4)[:3].tobytes()
    with pytest.raises(DataError, match="have no label each"):
        data.labelled("train", 4)
    with pytest.raises(DataError, match="have no label each"):
        stream_of(label=[0, 1, -1, 1]).labelled("train", 2)
    with pytest.raises(DataError, match="have 3 classes, the network 2"):
        stream_of(label=[0, 1, 2, 1]).labelled("train", 2)
    with pytest.raises(DataError, match="no split 'test', only train"):
        data.arrays("test")


@pytest.mark.parametrize("images", [pictures(2)[:, 8:], pictures(2)[..., :1]])
def test_a_stream_trains_on_squares_in_colour(images):
    data = open_dataset(tf.data.Dataset.from_tensor_slices(images).batch(2))
    with pytest.raises(DataError, match=r"training takes images \(B, S, S, 3\), not"):
        data.batches(batch_size=2)


def test_a_stream_that_lacks_a_key_is_refused():
    data = open_dataset(tf.data.Dataset.from_tensor_slices(pictures()).batch(2))
    with pytest.raises(DataError, match="gives no label"):
        data.batches(batch_size=2, keys=("image", "label"))
    with pytest.raises(DataError, match="has no arrays to be replaced"):
        data.batches(batch_size=2, replace={"image": pictures()})


def test_what_is_logged_while_tfds_is_silent_leaves_no_handler(monkeypatch):
    """absl gives a root logger without handlers one for the stderr of that moment."""
    root = logging.get_absl_logger().root
    monkeypatch.setattr(root, "handlers", [])
    with stream._silent_tfds():
        logging.error("unseen")
        assert root.handlers
    assert root.handlers == []

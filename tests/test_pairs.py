"""Two domains in one data set: order, position, augmentation, folders, TFDS's sets; and rendered
scenarios: two coats, several animals, scenes that give the animal away."""

import io

import numpy as np
import pytest
from PIL import Image

from attention_zoo import datasets
from attention_zoo.datasets import creatures, scenarios, stream


def write_images(root, values, size=8):
    root.mkdir(parents=True, exist_ok=True)
    for value in values:
        Image.new("RGB", (size, size), (value,) * 3).save(root / f"{value:03d}.png")


@pytest.fixture
def greys(tmp_path):
    """A folder of two domains: a of greys 0 to 4, b of 100 to 106; in test 50, 51 and 150."""
    root = tmp_path / "greys"
    places = {"trainA": range(5), "trainB": range(100, 107), "testA": (50, 51), "testB": (150,)}
    for place, values in places.items():
        write_images(root / place, values)
    return {"name": f"folder:{root}", "data_dir": tmp_path, "image_size": 8}


def numbers(images):
    return np.rint((images[:, 0, 0, 0] + 1) * 127.5).astype(int).tolist()


def batches(source, count, **more):
    keys = ("image_a", "image_b")
    data = datasets.load(**source, keys=keys, batch_size=3, **more).as_numpy_iterator()
    held = [next(data) for _ in range(count)]
    assert all(set(batch) == set(keys) for batch in held)
    return [numbers(batch["image_a"]) for batch in held], [numbers(b["image_b"]) for b in held]


def test_each_domain_has_its_order_and_its_epochs(greys):
    a, b = batches(greys, 7, seed=1)
    a, b = np.array(a).ravel(), np.array(b).ravel()
    for epoch in range(4):
        assert sorted(a[5 * epoch : 5 * epoch + 5]) == [0, 1, 2, 3, 4]
    for epoch in range(3):
        assert sorted(b[7 * epoch : 7 * epoch + 7]) == [100, 101, 102, 103, 104, 105, 106]
    # domain a's is the order of a data set of one domain; b's is another
    assert a[:5].tolist() == np.random.default_rng([1, 0]).permutation(5).tolist()
    assert a[5:10].tolist() == np.random.default_rng([1, 1]).permutation(5).tolist()
    assert (b[:7] - 100).tolist() == np.random.default_rng([1, 0, 1]).permutation(7).tolist()


def test_a_resumed_run_sees_the_same_pairs(greys):
    a, b = batches(greys, 6, seed=1)
    assert batches(greys, 2, seed=1, start=4) == (a[4:], b[4:])
    assert batches(greys, 6, seed=2) != (a, b)


def test_the_images_of_one_domain_are_replaced(greys):
    own, others = batches(greys, 2, seed=1)
    darker = np.array(datasets.arrays(split="train_b", **greys)["image"]) - 50
    a, b = batches(greys, 2, seed=1, replace={"image_b": darker})
    assert a == own and np.array_equal(b, np.array(others) - 50)


def test_a_domain_alone_is_read_in_order_with_plain_keys(greys):
    for split, expected in (("train_a", [0, 1, 2, 3, 4]), ("test_a", [50, 51]), ("test_b", [150])):
        data = datasets.load(split=split, shuffle=False, batch_size=9, **greys)
        (batch,) = data.as_numpy_iterator()
        assert list(batch) == ["image"] and numbers(batch["image"]) == expected
    held = datasets.arrays(split="train_b", **greys)["image"]
    assert held.shape == (7, 8, 8, 3) and held[6].min() == held[6].max() == 106


def test_splits_and_identity_of_two_domains(greys, tmp_path):
    name = greys["name"]
    assert datasets.paired(name) and datasets.paired("horse2zebra")
    assert not datasets.paired("creatures") and not datasets.paired(f"folder:{tmp_path}")
    for split in ("train", "test", "train_a", "test_b"):
        assert datasets.has_split(name, split) and datasets.has_split("maps", split)
    assert not datasets.has_split(name, "validation") and not datasets.has_split(name, "a")
    before = datasets.identity(name)
    assert before == "+".join(datasets.identity(name, f"train_{end}") for end in "ab")
    assert datasets.identity(name, "test") != before
    write_images(tmp_path / "greys" / "trainB", [110])
    assert datasets.identity(name) != before
    assert datasets.identity(name, "train_a") == before.split("+")[0]


@pytest.mark.parametrize(
    ("places", "split", "message"),
    [
        ("trainA", "train", "has only trainA: two domains are trainA/ and trainB/"),
        ("trainB", "test_b", "has only trainB: two domains"),
        ("testA testB", "train_a", "has only testA, testB: two domains"),
        ("trainA trainB testA", "test", "has no split 'test_a': it has train_a, train_b; two"),
        ("trainA trainB", "dev", "has no split 'dev'"),
        ("images", "train", "holds image, label; creatures/plain2striped has two domains, and f"),
    ],
)
def test_a_folder_that_lacks_a_domain_is_told_what_was_expected(tmp_path, places, split, message):
    for place in places.split():
        write_images(tmp_path / "d" / place, [1])
    with pytest.raises(datasets.DataError, match=message) as raised:
        datasets.load(f"folder:{tmp_path / 'd'}", split, keys=["image_a"], data_dir=tmp_path)
    assert "\n" not in str(raised.value)


def test_what_two_domains_do_not_give_is_refused(greys):
    for split, shuffle, message in (
        ("train", False, "has two domains: read one of them, train_a or train_b"),
        ("train_a", True, "has no mask"),
    ):
        with pytest.raises(datasets.DataError, match=message):
            datasets.load(split=split, shuffle=shuffle, keys=["mask"] * shuffle, **greys)
    with pytest.raises(datasets.DataError, match="'train': it has train_a, train_b, test_a"):
        datasets.arrays("horse2zebra", "train")
    with pytest.raises(datasets.DataError, match="no split 'train': it has train_a"):
        datasets.classes(greys["name"])


def test_cycle_gans_sets_are_read_as_tfds_makes_them(tmp_path, monkeypatch):
    """TFDS's own builder, prepared from drawn examples in place of the download."""
    import tensorflow_datasets as tfds

    sides = {"trainA": (20, 300), "trainB": (256, 256), "testA": (10, 10), "testB": (30, 20)}

    def examples(split):
        for number in range(3):
            image = np.full((*sides[split], 3), 50 * number, np.uint8)
            yield number, {"image": image, "label": split[-1]}

    def generators(self, _):
        return {split: examples(split) for split in sides}

    builder = tfds.builder_cls("cycle_gan")
    monkeypatch.setattr(builder, "_split_generators", generators)
    monkeypatch.setattr(stream.socket, "create_connection", lambda *_, **__: io.BytesIO())
    source = {"data_dir": tmp_path}
    held = datasets.arrays("horse2zebra", "test_b", **source)
    assert list(held) == ["image"] and held["image"].shape == (3, 256, 256, 3)
    assert sorted(held["image"][:, 0, 0, 0]) == [0, 50, 100]
    a, b = batches({"name": "horse2zebra", "image_size": 16, **source}, 1)
    assert sorted(a[0]) == sorted(b[0]) == [0, 50, 100]
    assert datasets.identity("horse2zebra", **source) == "cycle_gan-horse2zebra-3.0.0"

    def refuse(address, **_):
        raise OSError(f"no network to {address}")

    monkeypatch.setattr(stream.socket, "create_connection", refuse)
    with pytest.raises(datasets.DataError, match="efrosgans.eecs.berkeley.edu cannot be reached"):
        datasets.arrays("apple2orange", "train_a", **source)


def test_every_set_of_cycle_gan_is_one_of_tfds():
    import tensorflow_datasets as tfds

    configs = set(tfds.builder_cls("cycle_gan").builder_configs)
    ours = {
        s.tfds.removeprefix("cycle_gan/") for s in datasets.DATASETS.values() if "cycle" in s.tfds
    }
    assert ours == configs and len(ours) == 10


# ----------------------------------------------------------------------------------------------
# Scenarios
# ----------------------------------------------------------------------------------------------


def grown(mask):
    """A mask (S, S) and the eight pixels around each of its own."""
    padded = np.pad(mask, 1)
    size = len(mask)
    return np.any([padded[y : y + size, x : x + size] for y in range(3) for x in range(3)], 0)


def roughness(image, where):
    """Mean step of grey from a pixel to the next one to the right, inside a mask."""
    grey = image.astype(float).mean(-1)
    return abs(np.diff(grey, axis=1))[where[:, 1:] & where[:, :-1]].mean()


@pytest.mark.parametrize("size", [32, 64])
def test_plain_and_striped_counterparts_differ_in_the_coat_alone(size):
    rougher = []
    for domain, index in [(d, i) for d in "ab" for i in range(12)]:
        example = scenarios.plain2striped(f"test_{domain}", index, size)
        assert example["image"].shape == example["truth"].shape == (size, size, 3)
        mask = example["mask"][..., 0] == 255
        assert set(np.unique(example["mask"])) == {0, 255}
        changed = (example["image"] != example["truth"]).any(-1)
        assert not changed[~grown(mask)].any()
        assert changed[mask].mean() > 0.08
        pair = (example["image"], example["truth"])
        plain, striped = pair if domain == "a" else pair[::-1]
        rougher.append(roughness(striped, mask) > 1.2 * roughness(plain, mask))
    assert np.mean(rougher) > 0.9


def test_training_pictures_are_unpaired_and_no_test_picture():
    splits = ("train_a", "train_b", "test_a", "test_b")
    held = {split: [scenarios.plain2striped(split, i) for i in range(20)] for split in splits}
    assert all(set(example) == {"image"} for s in ("train_a", "train_b") for example in held[s])
    every = [example["image"].tobytes() for split in held.values() for example in split]
    every += [e["truth"].tobytes() for s in ("test_a", "test_b") for e in held[s]]
    assert len(set(every)) == len(every) == 120
    # the ground along the border tells the seed: none is that of two pictures
    rows = [example["image"][-1].tobytes() for split in held.values() for example in split]
    assert len(set(rows)) == 80


@pytest.fixture(scope="module")
def herds():
    return [scenarios.many("train", index) for index in range(100)]


def test_labels_and_map_of_many_tell_the_same(herds):
    for example in herds:
        assert example["image"].shape == (64, 64, 3) and example["image"].dtype == np.uint8
        assert example["classes"].shape == (64, 64, 1) and example["classes"].dtype == np.uint8
        assert example["labels"].shape == (8,) and example["labels"].dtype == np.float32
        here = np.flatnonzero(example["labels"]) + 1
        assert sorted(set(np.unique(example["classes"])) - {0}) == here.tolist()
        assert min((example["classes"] == k).sum() for k in here) >= 40
    labels = np.array([example["labels"] for example in herds])
    assert set(labels.sum(1)) == {1, 2, 3}
    assert labels.mean(0).min() > 0.12 and labels.mean(0).max() < 0.35
    again = scenarios.many("train", 7)
    assert all((again[key] == herds[7][key]).all() for key in again)
    assert (scenarios.many("test", 7)["image"] != herds[7]["image"]).mean() > 0.5


def test_maps_of_many_are_drawn_at_their_size_not_blended(herds):
    for index in (1, 3, 11):
        large = scenarios.many("train", index, 128)
        np.testing.assert_array_equal(large["labels"], herds[index]["labels"])
        assert set(np.unique(large["classes"])) == set(np.unique(herds[index]["classes"]))
        corners = large["classes"][::2, ::2], large["classes"][1::2, 1::2]
        agree = [(corner == herds[index]["classes"]).mean() for corner in corners]
        assert min(agree) > 0.95


def test_each_animal_of_many_is_in_sight_and_the_nearer_is_before():
    shares, overlaps = [], 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        herd = [creatures.pose(rng, label) for label in rng.integers(8, size=3)]
        herd = scenarios.arranged(rng, herd)
        alpha = np.zeros((3, 64, 64))
        for own, animal in zip(alpha, herd):
            shape = creatures.silhouette(animal, 64)
            own[shape.rows, shape.cols] = creatures.paint(rng, 0, animal, shape, 64)[1]
        masks = alpha >= 0.5
        feet = [np.flatnonzero(mask.any(1))[-1] for mask in masks]
        assert feet[0] <= feet[1] + 1 and feet[1] <= feet[2] + 1
        for own, before in zip(masks, (masks[1] | masks[2], masks[2], np.zeros((64, 64), bool))):
            shares.append((own & ~before).sum() / own.sum())
        border = np.concatenate([alpha[:, 0], alpha[:, -1], alpha[..., 0], alpha[..., -1]], 1)
        assert border.max() == 0
        overlaps += (masks.sum(0) > 1).any()
    assert min(shares) > 0.45  # 0.6 of the coarse grid on which places are chosen
    assert overlaps > 15


def test_in_training_each_body_plan_has_its_own_scene():
    held = [scenarios.biased("train", index) for index in range(120)]
    pairs = {(int(e["label"]), int(e["scene"])) for e in held}
    assert pairs == {(0, 0), (1, 1), (2, 2), (3, 3), (4, 0), (5, 1), (6, 2), (7, 3)}
    assert all(e["context"] == 1 for e in held)
    assert {int(e["coat"]) for e in held} == {0, 1, 2}


def test_in_test_each_animal_stands_on_its_own_scene_and_on_another():
    others = set()
    for number in range(40):
        inside, outside = (scenarios.biased("test", 2 * number + k) for k in (0, 1))
        assert (inside["context"], outside["context"]) == (1, 0)
        assert inside["scene"] == inside["label"] % 4 != outside["scene"]
        others.add((int(inside["scene"]), int(outside["scene"])))
        for key in ("mask", "bbox", "label", "coat"):
            np.testing.assert_array_equal(inside[key], outside[key])
        mask = inside["mask"][..., 0] == 255
        core = ~grown(~mask)
        differ = (inside["image"] != outside["image"]).any(-1)
        assert differ[core].mean() < 0.05  # a gap between limbs lets the scene through
        assert differ[~grown(mask)].mean() > 0.5
    assert len(others) >= 10  # of 12


def test_scenarios_through_the_loader(tmp_path):
    source = {"data_dir": tmp_path, "batch_size": 32, "shuffle": False}
    (batch,) = datasets.load("creatures/many/tiny", "test", **source).as_numpy_iterator()
    expected = [scenarios.many("test", index) for index in range(32)]
    assert set(batch) == {"image", "labels", "classes"}
    assert batch["classes"].dtype == np.uint8 and batch["labels"].dtype == np.float32
    for key in ("classes", "labels"):
        np.testing.assert_array_equal(batch[key], [example[key] for example in expected])
    assert batch["image"].min() >= -1 and batch["image"].max() > 0.5

    (batch,) = datasets.load("creatures/biased/tiny", "test", **source).as_numpy_iterator()
    assert batch["context"].tolist() == [1, 0] * 16 and batch["context"].dtype == np.int32
    assert batch["mask"].max() == 1 and batch["bbox"].shape == (32, 4)
    train = datasets.labelled("creatures/biased/tiny", "train", 8, data_dir=tmp_path)
    assert (train["label"] % 4 == train["scene"]).all() and len(train["label"]) == 64
    assert datasets.classes("creatures/many") == 8 and not datasets.paired("creatures/many")
    full = {
        name: datasets.DATASETS[f"creatures/{name}"].splits
        for name in ("plain2striped", "many", "biased")
    }
    assert full == {
        "plain2striped": {"train_a": 2000, "train_b": 2000, "test_a": 200, "test_b": 200},
        "many": {"train": 4000, "test": 500},
        "biased": {"train": 4000, "test": 1000},
    }
    assert datasets.identity("creatures/many") == "creatures-many-1.0.0"

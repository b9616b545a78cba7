"""The rendered animals: masks, boxes and pictures agree, and the seed decides everything."""

import itertools

import numpy as np
import pytest

from attention_zoo.datasets import creatures
from attention_zoo.datasets.creatures import COATS, LABELS, SCENES, render


def rng(seed):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def examples():
    return [creatures.render_example("train", index) for index in range(200)]


def shape_of(seed, label, size=64):
    """The silhouette's coverage (size, size), by the steps of `render`."""
    draws = rng(seed)
    draws.integers((8, 3, 4))
    pose_rng, coat_rng, _ = map(rng, draws.integers(2**63, size=3))
    animal = creatures.pose(pose_rng, label)
    shape = creatures.silhouette(animal, size)
    alpha = np.zeros((size, size), np.float32)
    alpha[shape.rows, shape.cols] = creatures.paint(coat_rng, 0, animal, shape, size)[1]
    return animal, alpha


@pytest.mark.parametrize("size", [32, 64, 100, 256])
def test_example_has_the_stated_shapes_types_and_ranges(size):
    example = render(rng(3), size=size)
    assert example["image"].shape == (size, size, 3) and example["image"].dtype == np.uint8
    assert example["mask"].shape == (size, size, 1) and example["mask"].dtype == np.uint8
    assert set(np.unique(example["mask"])) == {0, 255}
    assert len(example["bbox"]) == 4 and all(type(edge) is float for edge in example["bbox"])
    assert type(example["label"]) is type(example["coat"]) is type(example["scene"]) is int


def test_names():
    assert LABELS == (
        "fox", "bear", "giraffe", "horse", "pig", "dachshund", "elephant", "tortoise"
    )  # fmt: skip
    assert COATS == ("plain", "striped", "spotted")
    assert SCENES == ("grass", "sand", "water", "snow")


def test_the_seed_decides_every_byte():
    first, again, other = render(rng(1)), render(rng(1)), render(rng(2))
    assert first["image"].tobytes() == again["image"].tobytes()
    assert first["mask"].tobytes() == again["mask"].tobytes()
    assert first["bbox"] == again["bbox"]
    assert (first["image"] != other["image"]).mean() > 0.5


def test_one_generator_gives_one_picture_after_another():
    draws = rng(1)
    assert (render(draws)["image"] != render(draws)["image"]).mean() > 0.5


def test_train_and_test_differ(examples):
    train = {example["image"].tobytes() for example in examples}
    test = {creatures.render_example("test", index)["image"].tobytes() for index in range(100)}
    assert len(train) == 200 and len(test) == 100 and not train & test


def test_given_classes_are_kept():
    for label, coat, scene in [(0, 0, 0), (7, 2, 3), (3, 1, 2)]:
        example = render(rng(5), label=label, coat=coat, scene=scene)
        assert (example["label"], example["coat"], example["scene"]) == (label, coat, scene)


def test_box_is_the_tight_box_of_the_mask(examples):
    for example in examples[:50]:
        rows, cols = [], []
        for y, x in itertools.product(range(64), range(64)):
            if example["mask"][y, x, 0] == 255:
                rows.append(y)
                cols.append(x)
        assert example["bbox"] == (
            min(rows) / 64,
            min(cols) / 64,
            (max(rows) + 1) / 64,
            (max(cols) + 1) / 64,
        )


def test_mask_is_half_coverage_and_leaves_a_margin():
    for seed, label in itertools.product(range(4), range(8)):
        for size in (32, 64):
            _, alpha = shape_of(seed, label, size)
            mask = render(rng(seed), label=label, size=size)["mask"][..., 0]
            np.testing.assert_array_equal(mask, np.where(alpha >= 0.5, 255, 0))
            border = np.concatenate([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]])
            assert border.max() == 0


def test_outside_the_animal_the_picture_is_the_scene():
    for seed, scene in itertools.product(range(6), range(4)):
        draws = rng(seed)
        label = int(draws.integers((8, 3, 4))[0])
        scene_rng = rng(draws.integers(2**63, size=3)[2])
        animal, alpha = shape_of(seed, label)
        bare = creatures.background(scene_rng, scene, 64) * creatures.contact_shadow(animal, 64)
        bare = creatures.to_bytes(bare)
        picture = render(rng(seed), scene=scene)["image"]
        np.testing.assert_array_equal(picture[alpha == 0], bare[alpha == 0])
        assert (picture[alpha > 0.9] != bare[alpha > 0.9]).any(-1).mean() > 0.9


def test_two_animals_share_the_scene_far_from_both():
    for seed in range(5):
        fox, tortoise = (render(rng(seed), label=label) for label in (0, 7))
        assert fox["scene"] == tortoise["scene"]
        np.testing.assert_array_equal(fox["image"][0], tortoise["image"][0])
        assert (fox["mask"] != tortoise["mask"]).mean() > 0.02


def test_another_coat_changes_the_animal_alone():
    for seed, label in itertools.product(range(3), range(8)):
        _, alpha = shape_of(seed, label)
        coats = [render(rng(seed), label=label, coat=coat) for coat in range(3)]
        for one, other in itertools.combinations(coats, 2):
            changed = (one["image"] != other["image"]).any(-1)
            assert not changed[alpha == 0].any()
            assert changed[alpha >= 0.5].mean() > 0.08
            np.testing.assert_array_equal(one["mask"], other["mask"])
            assert one["bbox"] == other["bbox"] and one["scene"] == other["scene"]


def test_another_scene_leaves_the_animal_alone():
    for seed in range(5):
        one, other = (render(rng(seed), scene=scene) for scene in (0, 3))
        _, alpha = shape_of(seed, one["label"])
        inside, outside = alpha == 1, alpha == 0
        np.testing.assert_array_equal(one["image"][inside], other["image"][inside])
        assert (one["image"][outside] != other["image"][outside]).any(-1).mean() > 0.5


def test_animals_cover_a_fair_share_of_the_image(examples):
    shares = np.array([example["mask"].mean() / 255 for example in examples])
    assert shares.min() > 0.06 and shares.max() < 0.45
    assert 0.12 < shares.mean() < 0.25


def test_classes_are_balanced_and_independent():
    drawn = [rng((0, index)).integers((8, 3, 4)) for index in range(6_000)]
    label, coat, scene = np.array(drawn).T
    for values, count in ((label, 8), (coat, 3), (scene, 4)):
        shares = np.bincount(values, minlength=count) / len(drawn)
        assert abs(shares - 1 / count).max() < 0.02
    joint = np.histogramdd((label, coat, scene), (8, 3, 4))[0] / len(drawn)
    assert abs(joint - 1 / 96).max() < 0.007


def test_silhouettes_tell_the_body_plans_apart():
    """The nearest mean mask, of masks cut to their boxes and turned either way, is most often
    the right one; chance is one in eight."""

    def descriptor(example):
        y0, x0, y1, x1 = (round(64 * edge) for edge in example["bbox"])
        mask = example["mask"][y0:y1, x0:x1, 0] > 0
        rows = np.arange(24) * mask.shape[0] // 24
        cols = np.arange(24) * mask.shape[1] // 24
        small = mask[rows][:, cols].astype(float)
        return np.append((small + small[:, ::-1]) / 2, 6 * np.log(mask.shape[1] / mask.shape[0]))

    train = [[descriptor(render(rng((9, i)), label=k)) for i in range(12)] for k in range(8)]
    means = np.array(train).mean(1)
    hits = [
        np.argmin(((means - descriptor(render(rng((10, i)), label=k))) ** 2).sum(1)) == k
        for k in range(8)
        for i in range(10)
    ]
    assert np.mean(hits) > 0.8


def test_seed_gives_the_same_composition_at_every_size():
    small, large = (render(rng(4), size=size) for size in (64, 128))
    assert np.abs(np.subtract(small["bbox"], large["bbox"])).max() <= 0.02
    halved = large["image"].reshape(64, 2, 64, 2, 3).mean((1, 3))
    assert np.abs(halved - small["image"]).mean() < 10


def test_rendering_processes_give_the_same_bytes():
    from attention_zoo.datasets import creatures_builder as builder

    serial = list(builder.examples("test", 9))
    parallel = list(builder.examples("test", 9, workers=2))
    assert len(serial) == 9
    assert serial == parallel


def test_builder(tmp_path):
    from attention_zoo.datasets.creatures_builder import Creatures

    assert Creatures(data_dir=str(tmp_path)).builder_config.name == "full"
    builder = Creatures(config="tiny", data_dir=str(tmp_path))
    builder.download_and_prepare()
    assert (tmp_path / "creatures" / "tiny" / "1.0.0").is_dir()
    assert builder.info.splits["train"].num_examples == 256
    assert builder.info.splits["test"].num_examples == 64
    assert tuple(builder.info.features["label"].names) == LABELS
    held = list(builder.as_dataset(split="test", shuffle_files=False).as_numpy_iterator())
    sources = [creatures.render_example("test", index) for index in range(64)]
    rendered = {source["image"].tobytes(): source for source in sources}
    assert len(held) == len(rendered) == 64
    for example in held:
        assert example["image"].shape == (64, 64, 3) and example["image"].dtype == np.uint8
        assert example["mask"].shape == (64, 64, 1) and example["mask"].dtype == np.uint8
        assert example["bbox"].shape == (4,) and example["bbox"].dtype == np.float32
        source = rendered[example["image"].tobytes()]
        np.testing.assert_array_equal(example["mask"], source["mask"])
        np.testing.assert_array_equal(example["bbox"], np.float32(source["bbox"]))
        for name in ("label", "coat", "scene"):
            assert example[name].dtype == np.int64 and example[name] == source[name]

"""The rendered cells: masks, boxes and pictures agree, each pattern is what its name says."""

import itertools

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from attention_zoo import datasets
from attention_zoo.datasets import cells
from attention_zoo.datasets.cells import BLOCK, INTENSITIES, LABELS, render

HOMOGENEOUS, SPECKLED, NUCLEOLAR, CENTROMERE, GOLGI, MEMBRANE = range(6)


def rng(seed):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def each():
    """By pattern: (pictures (64, 128, 128) in [0, 1], t of their pixels) of positive cells."""
    made = {}
    for label in range(6):
        pictures = render(rng(1), label=label, intensity=1, size=128)["image"][..., 0] / 255
        d = {**cells.draw(rng(1), BLOCK), "label": np.full(BLOCK, label)}
        made[label] = pictures, cells.on_grid(*cells.place(d), d["a"], 128).t
    return made


@pytest.fixture(scope="module")
def many():
    """Eight blocks of each split: 512 cells."""
    made = {}
    for split in ("train", "test"):
        blocks = [cells.block(split, number) for number in range(8)]
        made[split] = {key: np.concatenate([block[key] for block in blocks]) for key in blocks[0]}
    return made


def near(pictures):
    """Pixels (B, S, S) with the eight around each, (B, S, S, 9)."""
    padded = np.pad(pictures, ((0, 0), (1, 1), (1, 1)), mode="edge")
    return sliding_window_view(padded, (3, 3), (1, 2)).reshape(*pictures.shape, 9)


def means(pictures, where):
    """Mean (B,) of each picture over its own pixels."""
    return (pictures * where).sum((1, 2)) / where.sum((1, 2))


def inside(pictures, t, limit=0.9):
    """The pixels of each picture where t is below a limit, a list of (n,)."""
    return [picture[own < limit] for picture, own in zip(pictures, t)]


def groups(lit):
    """How many groups of touching pixels there are in an array (S, S) of bool."""
    left, count = set(map(tuple, np.argwhere(lit).tolist())), 0
    while left:
        count, todo = count + 1, [left.pop()]
        while todo:
            y, x = todo.pop()
            touching = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= touching
            todo += touching
    return count


def bright_groups(pictures, t):
    """(B,) of groups of pixels in the nucleus that are brighter than halfway to its brightest."""
    smooth = near(pictures).mean(3)
    halves = [(np.median(p) + np.quantile(p, 0.995)) / 2 for p in inside(smooth, t)]
    return np.array([groups((p > h) & (own < 1)) for p, h, own in zip(smooth, halves, t)])


@pytest.mark.parametrize("size", [64, 128])
def test_pictures_have_the_stated_shapes_types_and_ranges(size):
    made = render(rng(3), 10, size=size)
    assert made["image"].shape == made["mask"].shape == (10, size, size, 1)
    assert made["image"].dtype == made["mask"].dtype == np.uint8
    assert set(np.unique(made["mask"])) == {0, 255}
    assert made["bbox"].shape == (10, 4) and made["bbox"].dtype == np.float32
    assert made["label"].shape == made["intensity"].shape == (10,)
    assert made["label"].dtype == made["intensity"].dtype == np.int64


def test_names():
    assert LABELS == (
        "homogeneous", "speckled", "nucleolar", "centromere", "golgi", "nuclear membrane"
    )  # fmt: skip
    assert INTENSITIES == ("intermediate", "positive")


def test_a_block_is_always_the_same_bytes_and_no_other():
    first, again = cells.block("train", 3), cells.block("train", 3)
    for key, values in first.items():
        assert values.tobytes() == again[key].tobytes(), key
    for split, number in (("train", 4), ("test", 3)):
        assert (cells.block(split, number)["image"] != first["image"]).mean() > 0.5


def test_no_two_pictures_are_alike(many):
    pictures = {image.tobytes() for made in many.values() for image in made["image"]}
    assert len(pictures) == 1024


def test_patterns_and_intensities_are_drawn_evenly(many):
    made = many["train"]
    joint = np.histogram2d(made["label"], made["intensity"], (6, 2))[0] / 512
    assert abs(joint - 1 / 12).max() < 0.04


def test_given_classes_are_kept_and_leave_the_rest_as_it_was():
    drawn, given = render(rng(5)), render(rng(5), label=HOMOGENEOUS, intensity=1)
    assert set(given["label"]) == {HOMOGENEOUS} and set(given["intensity"]) == {1}
    same = (drawn["label"] == HOMOGENEOUS) & (drawn["intensity"] == 1)
    assert same.sum() == 2
    np.testing.assert_array_equal(drawn["image"][same], given["image"][same])
    nuclear = drawn["label"] != GOLGI
    np.testing.assert_array_equal(drawn["mask"][nuclear], given["mask"][nuclear])


def test_box_is_the_tight_box_of_the_mask(many):
    for mask, box in zip(many["train"]["mask"][:40, ..., 0], many["train"]["bbox"]):
        lit = [(y, x) for y, x in itertools.product(range(64), range(64)) if mask[y, x] == 255]
        ys, xs = zip(*lit)
        assert (64 * box).tolist() == [min(ys), min(xs), max(ys) + 1, max(xs) + 1]


def test_cells_keep_a_distance_from_the_border_and_differ_in_place_and_size(many):
    boxes = np.concatenate([made["bbox"] for made in many.values()])
    assert boxes.min() >= 2 / 64 and boxes.max() <= 62 / 64
    shares = many["train"]["mask"].mean((1, 2, 3)) / 255
    assert 0.12 < shares.min() < 0.17 and 0.27 < shares.max() < 0.36
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert (np.ptp(middles, 0) > 0.3).all()


def test_mask_is_where_the_cell_is_lit():
    """An even nucleus is brighter than halfway to it from its surroundings on its mask alone."""
    made = render(rng(6), label=HOMOGENEOUS, intensity=1)
    pictures, masks = made["image"][..., 0] / 255, made["mask"][..., 0] > 0
    spread = near(masks).any(3) & ~masks  # the pixels that touch the mask
    halves = (means(pictures, masks) + means(pictures, ~masks & ~spread)) / 2
    lit = pictures > halves[:, None, None]
    assert (lit & masks).sum() / masks.sum() > 0.96
    assert (lit & spread).sum() / spread.sum() < 0.25


def test_golgi_granules_belong_to_the_cell_and_no_other_pattern_leaves_the_nucleus():
    d = {**cells.draw(rng(1), BLOCK), "label": np.full(BLOCK, GOLGI)}
    nuclei = cells.on_grid(*cells.place(d), d["a"], 64)
    made = render(rng(1), label=GOLGI, intensity=1)
    masks, pictures = made["mask"][..., 0] > 0, made["image"][..., 0] / 255
    outside = masks & (nuclei.t > 1)
    assert (masks >= (nuclei.t <= 1)).all()
    assert 0.02 < (outside.sum((1, 2)) / masks.sum((1, 2))).min()
    assert (means(pictures, outside) > 3 * means(pictures, nuclei.t < 0.9)).all()


def test_the_seed_gives_the_same_cells_at_every_size():
    small, large = (render(rng(4), size=size) for size in (64, 128))
    assert abs(small["bbox"] - large["bbox"]).max() <= 0.02
    halved = large["image"].reshape(BLOCK, 64, 2, 64, 2).mean((2, 4))
    assert abs(halved - small["image"][..., 0]).mean() < 4


def test_intermediate_cells_are_dimmer_and_the_two_do_not_meet():
    positive, intermediate = (render(rng(2), intensity=i) for i in (1, 0))
    bright, dim = (
        np.quantile(made["image"].reshape(BLOCK, -1), 0.995, axis=1)
        for made in (positive, intermediate)
    )
    assert (bright > 1.5 * dim).all()
    assert 30 < dim.min() and dim.max() < 180
    np.testing.assert_array_equal(positive["mask"], intermediate["mask"])


def test_background_is_uneven_and_holds_debris(each):
    pictures, t = each[HOMOGENEOUS]
    smooth = near(pictures).mean(3)
    beyond = t > 1.6
    spread = [np.quantile(p[own], (0.02, 0.5)) for p, own in zip(smooth, beyond)]
    low, middle = np.transpose(spread)
    assert np.median(middle / low) > 1.5
    specks = np.array([(p[own] > m + 0.15).any() for p, own, m in zip(smooth, beyond, middle)])
    assert 0.5 < specks.mean() < 1


def test_homogeneous_is_even(each):
    flat = [p.std() / p.mean() for p in inside(*each[HOMOGENEOUS], 0.8)]
    assert max(flat) < 0.15
    for label in (SPECKLED, NUCLEOLAR, CENTROMERE):
        assert min(p.std() / p.mean() for p in inside(*each[label], 0.8)) > 0.18


def test_speckled_is_a_dense_grain_on_a_lit_nucleus(each):
    pictures, t = each[SPECKLED]
    lit = [(p > 0.5 * np.quantile(p, 0.99)).mean() for p in inside(pictures, t)]
    assert np.median(lit) > 0.4
    dots = [(p > 0.5 * np.quantile(p, 0.99)).mean() for p in inside(*each[CENTROMERE])]
    assert np.median(dots) < 0.3


def test_nucleolar_is_one_to_six_bright_clusters(each):
    counts = bright_groups(*each[NUCLEOLAR])
    assert counts.min() >= 1 and counts.max() <= 6
    expected = np.ceil(6 * cells.draw(rng(1), BLOCK)["nucleoli"])
    assert set(expected) == {1, 2, 3, 4, 5, 6}
    assert np.mean(counts == expected) > 0.6 and np.mean(counts > expected) < 0.06  # some touch
    share = [(p > (np.median(p) + p.max()) / 2).mean() for p in inside(*each[NUCLEOLAR])]
    assert 0.02 < min(share) and max(share) < 0.25


def test_centromere_is_40_to_60_small_dots(each):
    pictures, t = each[CENTROMERE]
    smooth = near(pictures).mean(3)
    least = np.array([0.35 * np.quantile(p, 0.99) for p in inside(smooth, t)])
    peaks = (smooth == near(smooth).max(3)) & (smooth > least[:, None, None]) & (t < 1.05)
    counts = [groups(peak) for peak in peaks]
    assert 38 <= min(counts) and max(counts) <= 60
    assert bright_groups(pictures, t).min() > 10


def test_golgi_is_bright_on_one_side_outside_a_dark_nucleus(each):
    pictures, t = each[GOLGI]
    assert (means(pictures, t < 0.9) < means(pictures, (t > 1.1) & (t < 1.45))).all()
    for picture, own in zip(pictures, t):
        cell = own < 1.45
        brightest = np.argwhere(cell & (picture >= np.quantile(picture[cell], 0.97)))
        assert (own[tuple(brightest.T)] > 0.95).mean() > 0.9
        middle = np.argwhere(own < 1).mean(0)
        away = brightest - middle
        away /= np.linalg.norm(away, axis=1, keepdims=True)
        assert np.linalg.norm(away.mean(0)) > 0.75  # of 1, were all in one direction


def test_nuclear_membrane_is_a_ring(each):
    pictures, t = each[MEMBRANE]
    assert (means(pictures, (t > 0.86) & (t < 1)) > 1.6 * means(pictures, t < 0.7)).all()
    for label in (HOMOGENEOUS, SPECKLED, NUCLEOLAR, CENTROMERE):
        pictures, t = each[label]
        assert (means(pictures, (t > 0.86) & (t < 1)) < 1.35 * means(pictures, t < 0.7)).all()


def accuracy(features, many):
    """Share of the test cells whose nearest mean of the training cells' features, each by its
    deviation, is that of their own pattern."""
    found = {}
    for split, made in many.items():
        pairs = zip(made["image"][..., 0] / 255, made["mask"][..., 0] > 0)
        found[split] = np.array([features(image, mask) for image, mask in pairs])
    train, labels = found["train"], many["train"]["label"]
    middles = np.array([train[labels == label].mean(0) for label in range(6)])
    distance = (((found["test"][:, None] - middles) / train.std(0)) ** 2).sum(2)
    return np.mean(distance.argmin(1) == many["test"]["label"])


def test_patterns_are_told_apart_by_their_texture_but_not_by_brightness(many):
    """Chance is one in six."""

    def brightness(image, mask):
        return [image.mean(), image[mask].mean(), image[~mask].mean()]

    def texture(image, mask):
        eroded = near(near(mask[None]).all(3)).all(3)[0]
        cell = image[mask] / np.quantile(image[mask], 0.98)
        rim = image[mask & ~eroded].mean() / image[eroded].mean()
        slope = np.hypot(*np.gradient(image))[eroded].mean() / image[mask].mean()
        return [cell.mean(), np.median(cell), cell.std(), np.log(rim), np.log(slope)]

    assert 0.25 < accuracy(brightness, many) < 0.4
    assert accuracy(texture, many) > 0.9


def test_examples_are_those_of_the_blocks_whatever_the_count():
    from attention_zoo.datasets import cells_builder

    longer = list(cells_builder.examples("test", BLOCK + 6, 64))
    assert len(longer) == 70
    assert longer[:5] == list(cells_builder.examples("test", 5, 64))
    images = cells.block("test", 1)["image"]
    held = [example["image"] for example in longer[BLOCK:]]
    assert [cells_builder.creatures.png(image) for image in images[:6]] == held


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.mark.parametrize(("split", "count"), [("train", 256), ("test", 64)])
def test_cells_through_the_loader(place, split, count):
    held = datasets.arrays("cells/tiny", split, data_dir=place)
    assert sorted(held) == ["bbox", "image", "intensity", "label", "mask"]
    assert held["image"].shape == (count, 64, 64, 3) and held["mask"].shape == (count, 64, 64, 1)
    assert (held["image"] == held["image"][..., :1]).all()
    blocks = [cells.block(split, number) for number in range(count // BLOCK)]
    made = {key: np.concatenate([block[key] for block in blocks]) for key in blocks[0]}
    places = {image.tobytes(): place for place, image in enumerate(made["image"])}
    order = [places[image.tobytes()] for image in held["image"][..., 0]]
    assert sorted(order) == list(range(count))
    for key in ("mask", "bbox", "label", "intensity"):
        np.testing.assert_array_equal(held[key], made[key][order], key)


def test_cells_have_classes_splits_and_a_name(place):
    for name in ("cells", "cells/128", "cells/tiny"):
        assert datasets.classes(name) == 6
        assert datasets.has_split(name, "test") and not datasets.has_split(name, "dev")
    assert datasets.identity("cells/tiny", data_dir=place) == "cells-tiny-1.0.0"
    held = datasets.labelled("cells/tiny", "train", 6, data_dir=place)
    assert np.bincount(held["label"]).min() > 25
    stream = datasets.load("cells/tiny", image_size=32, batch_size=8, data_dir=place)
    batch = next(stream.as_numpy_iterator())
    assert batch["image"].shape == (8, 32, 32, 3) and -1 <= batch["image"].min() < -0.7
    assert batch["mask"].shape == (8, 32, 32, 1) and batch["mask"].max() == 1


@pytest.mark.parametrize(
    ("config", "size", "train", "test"),
    [("full", 64, 20_000, 2_000), ("128", 128, 10_000, 1_000), ("tiny", 64, 256, 64)],
)
def test_configurations(tmp_path, config, size, train, test):
    from attention_zoo.datasets.cells_builder import Cells

    builder = Cells(config=config, data_dir=str(tmp_path))
    assert builder.builder_config.counts == {"train": train, "test": test}
    features = builder.info.features
    assert features["image"].shape == features["mask"].shape == (size, size, 1)
    assert tuple(features["label"].names) == LABELS
    assert tuple(features["intensity"].names) == INTENSITIES
    assert builder.info.full_name == f"cells/{config}/1.0.0"


def test_the_list_names_them(capsys):
    from attention_zoo.cli import main

    assert main.main(["--mode=list"]) == 0
    said = capsys.readouterr().out
    said = " ".join(said.split())
    assert "cells 20,000 + 2,000 rendered HEp-2 cells, grey, 64 x 64: 6 staining patterns," in said
    assert "cells/128 10,000 + 1,000 of the same, 128 x 128; offline" in said
    assert "hep2:PATH HEp-2 cells of MIVIA (ICPR 2012) or of I3A's task 1, each cut out" in said

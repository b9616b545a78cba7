"""Localisation metrics on maps and boxes drawn by hand."""

import numpy as np
import pytest

from attention_zoo.evaluate import localization
from attention_zoo.tasks import scoring


def drawn(*rows):
    """A map (1, S, S) from lines of digits, tenths each."""
    return np.array([[int(digit) / 10 for digit in row] for row in rows])[None]


# two hills: the left one is higher and smaller until they meet at 0.2
HILLS = drawn(
    "000000",
    "090000",
    "080044",
    "022244",
    "000044",
    "000000",
)


def test_prepared_by_hand():
    # 2 -> 4 samples: places 0, 1/4, 3/4, 1 between the two
    maps = np.array([[[1.0, 5.0], [1.0, 5.0]], [[7.0, 7.0], [7.0, 7.0]], [[0.0, 0.0], [2.0, 4.0]]])
    found = localization.prepared(maps.astype("float32"), 4)
    assert found.dtype == np.float64
    assert found[0].tolist() == [[0.0, 0.25, 0.75, 1.0]] * 4
    assert found[1].tolist() == [[0.0] * 4] * 4
    assert found[2, 1].tolist() == [0.125, 0.15625, 0.21875, 0.25]
    assert np.array_equal(localization.prepared(HILLS, 6), HILLS / HILLS.max())


def test_the_largest_component_changes_with_the_threshold():
    found = localization.largest_boxes(HILLS, [0.1, 0.2, 0.3, 0.4, 0.5, 0.8, 0.9, 0.95])
    assert found[:, 0].tolist() == [
        [1, 1, 5, 6],
        [1, 1, 5, 6],
        [2, 4, 5, 6],
        [2, 4, 5, 6],
        [1, 1, 3, 2],
        [1, 1, 3, 2],
        [1, 1, 2, 2],
        [0, 0, 0, 0],
    ]


def test_corners_connect_and_the_first_of_equals_counts():
    corner = drawn("9000", "0900", "0000", "0099")
    assert localization.largest_boxes(corner, [0.5])[0, 0].tolist() == [0, 0, 2, 2]
    other = drawn("0009", "0090", "0000", "9900")
    assert localization.largest_boxes(other, [0.5])[0, 0].tolist() == [0, 2, 2, 4]


def test_the_box_of_an_empty_mask_is_none():
    assert localization.largest_box(np.zeros((3, 4), bool)) is None
    mask = np.zeros((3, 4), bool)
    mask[1, 2:] = True
    assert localization.largest_box(mask) == (slice(1, 2), slice(2, 4))
    assert localization.largest_boxes(HILLS, [1.0]).tolist() == [[[0, 0, 0, 0]]]


def flood(mask):
    """The box of the largest component of a mask (S, S), pixel by pixel."""
    left, best = {tuple(p) for p in np.argwhere(mask)}, []
    for start in sorted(left):
        if start in left:
            left.remove(start)
            part, new = [start], [start]
            while new:
                y, x = new.pop()
                near = {(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
                left -= near
                new += near
                part += near
            best = max(best, part, key=len)
    low, high = np.min(best, 0), np.max(best, 0)
    return [*low, *(high + 1)]


@pytest.mark.parametrize("coarse", [13, 4])  # noise, and hills
def test_largest_boxes_by_a_flood(monkeypatch, coarse):
    monkeypatch.setattr(localization, "BLOCK", 3)
    noise = np.random.default_rng(0).normal(size=(5, coarse, coarse))
    maps = np.round(localization.prepared(noise, 13), 2)
    thresholds = np.linspace(0, 1, 41)
    found = localization.largest_boxes(maps, thresholds)
    assert found.shape == (41, 5, 4)
    for k, threshold in enumerate(thresholds):
        expected = [flood(m >= threshold) for m in maps]
        assert found[k].tolist() == expected, threshold
        assert localization.largest_boxes(maps, [threshold])[0].tolist() == expected, threshold


def test_box_iou_by_hand():
    ours = [[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.75, 1]]
    theirs = [[0.25, 0.0, 0.75, 0.5], [0.5, 0.5, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1, 1]]
    assert localization.box_iou(ours, theirs) == pytest.approx([1 / 3, 0, 0, 3 / 8], rel=1e-12)


def test_max_box_acc_takes_one_threshold_for_the_whole_set():
    # an object of 2 x 2 pixels, in a hill of height 0.3 and in one whose foot of 0.4 is wide
    low = drawn("0000", "0330", "0330", "0009")
    wide = drawn("4444", "4994", "4994", "4444")
    maps, boxes = np.concatenate([low, low, wide]), np.tile([0.25, 0.25, 0.75, 0.75], (3, 1))
    assert localization.max_box_acc(maps[2:], boxes[2:]) == (1.0, 0.401)
    assert localization.max_box_acc(maps[:2], boxes[:2]) == (0.0, 0.0)  # the corner pixel joins
    maps[:2, 3, 3] = 0
    assert localization.max_box_acc(maps, boxes) == (2 / 3, 0.001)
    assert localization.max_box_acc(maps, boxes, thresholds=[0.9]) == (1 / 3, 0.9)
    # at IoU 0.25, a box of the whole image will do
    assert localization.max_box_acc(maps, boxes, iou=0.25) == (1.0, 0.0)


MASK = np.array([[[True, True], [False, False]], [[True, False], [False, False]]])
MAPS = np.array([[[1.0, 0.5], [0.5, 0.0]], [[0.0, 1.0], [0.5, 0.2]]])


def test_pixel_counts_by_hand():
    inside, above, held = localization.pixel_counts(MAPS, MASK, [0.0, 0.3, 0.5, 0.7])
    assert inside.tolist() == [[2, 2, 2, 1], [1, 0, 0, 0]]
    assert above.tolist() == [[4, 3, 3, 1], [4, 2, 2, 1]]
    assert held.tolist() == [2, 1]


def test_pxap_by_hand():
    # t = 1: 1 of 2 right, recall 1/3; t = 0.5: 2 of 5, 2/3; t = 0.2: 2 of 6; t = 0: 3 of 8, 1
    expected = 1 / 2 * 1 / 3 + 2 / 5 * 1 / 3 + 3 / 8 * 1 / 3
    assert localization.pxap(MAPS, MASK) == pytest.approx(expected, rel=1e-12)
    assert localization.pxap(MASK.astype(float), MASK) == pytest.approx(1, rel=1e-12)
    # only t = 0 tells nothing: the share of the image that is object
    assert localization.pxap(MAPS, MASK, [0.0]) == pytest.approx(3 / 8, rel=1e-12)


def test_iou_at_a_threshold_chosen_on_other_images():
    found = localization.mask_iou(MAPS, MASK, [0.0, 0.5, 0.7])
    assert found == pytest.approx(np.array([[2 / 4, 2 / 3, 1 / 2], [1 / 4, 0, 0]]), rel=1e-12)
    assert localization.best_threshold(MAPS, MASK, [0.0, 0.5, 0.7]) == 0.0
    assert localization.best_threshold(MAPS[:1], MASK[:1], [0.0, 0.5, 0.7]) == 0.5
    assert localization.best_threshold(MAPS[:1], MASK[:1]) == 0.001


def test_each_half_of_the_images_has_the_threshold_of_the_other_half():
    """The first image of MAPS has its best threshold at 0.001, the second one at 0."""
    iou, thresholds = localization.halved_iou(MAPS, MASK)
    assert thresholds == [0.0, 0.001]
    assert iou.tolist() == [2 / 4, 0]
    found = localization.scores(MAPS, MASK, [[0, 0, 0.5, 1], [0, 0, 0.5, 0.5]], None)
    assert found[2] == ("iou", 0.25, {"thresholds": [0.0, 0.001]})


def test_baselines_that_know_nothing():
    images = np.zeros((2, 3, 3, 3), np.uint8)
    images[0, 1, 1] = 200, 0, 100
    images[0, 0, 0] = 25
    bright = localization.brightness(images)
    assert bright[0].tolist() == [[0.25, 0, 0], [0, 1, 0], [0, 0, 0]] and not bright[1].any()
    near = localization.nearness(images)
    side = 1 - 2**-0.5
    expected = [[0, side, 0], [side, 1, side], [0, side, 0]]
    assert near == pytest.approx(np.array([expected] * 2), abs=1e-12)


class Split:
    """A data set of noise with a square on the lower right, brighter in the test images."""

    name, image_size = "squares", 8

    def arrays(self, split):
        rng = np.random.default_rng(len(split))
        images = rng.integers(0, 100, ({"train": 6, "test": 3}[split], 8, 8, 3)).astype(np.uint8)
        images[:, 4:, 4:] += {"train": 40, "test": 120}[split]
        mask = np.zeros((len(images), 8, 8, 1), np.uint8)
        mask[:, 4:, 4:] = 255
        boxes = np.tile(np.float32([0.5, 0.5, 1, 1]), (len(images), 1))
        return {"image": images, "mask": mask, "bbox": boxes}

    def identity(self, split):
        return f"squares-{split}"


def test_all_images_of_a_data_set_are_measured_together():
    data = Split()
    found = scoring.localize(localization.brightness, data, "all")
    names = ["maxboxacc", "pxap", "iou", "pointing"]
    assert [score.metric for score in found] == [f"{name}_9_all" for name in names]
    alone = scoring.localize(localization.brightness, data)
    assert [score.metric for score in alone] == [f"{name}_3_test" for name in names]
    assert len(found[2].details["thresholds"]) == 2 and found[2].details["count"] == 9
    assert 0 < alone[2].details["threshold"] < 1
    parts = [data.arrays(split) for split in ("train", "test")]
    images, masks = (np.concatenate([part[key] for part in parts]) for key in ("image", "mask"))
    expected = localization.pointing_game(localization.brightness(images), masks[..., 0] > 0)
    assert found[3].value == expected
    assert found[1].value != alone[1].value


def test_pointing_game():
    assert localization.pointing_game(MAPS, MASK) == 0.5
    assert localization.pointing_game(1 - MAPS, MASK) == 0.5
    assert localization.pointing_game(1 - MAPS, ~MASK) == 0.5
    assert localization.pointing_game(MAPS[:1], MASK[:1]) == 1.0


def test_what_these_metrics_are_not_about_is_refused():
    with pytest.raises(ValueError, match="lie in"):
        localization.pxap(MAPS * 2, MASK)
    with pytest.raises(ValueError, match="lie in"):
        localization.pointing_game(MAPS * np.nan, MASK)
    with pytest.raises(ValueError, match="maps are"):
        localization.largest_boxes(MAPS[0])
    for masks in (MASK[:1], MASK.astype("uint8") * 255, MASK & False):
        with pytest.raises(ValueError, match="masks are bool"):
            localization.mask_iou(MAPS, masks, [0.5])
    for boxes in ([[0, 0, 1, 1]], [[0, 0, 1, 1], [0.5, 0, 0.5, 1]]):
        with pytest.raises(ValueError, match="low before high"):
            localization.max_box_acc(MAPS, boxes)


def test_a_map_on_the_object_beats_noise_beats_its_negative():
    rng = np.random.default_rng(0)
    y, x = rng.integers(4, 12, (2, 20, 1, 1))
    grid = np.arange(24)
    inside = (abs(grid[:, None] - 4 - y) <= 4) & (abs(grid - 4 - x) <= 4)  # (20, 24, 24)
    boxes = np.concatenate([y, x, y + 9, x + 9], -1).reshape(20, 4) / 24
    hill = np.exp(-((grid[:, None] - 4 - y) ** 2 + (grid - 4 - x) ** 2) / 40.0)
    maps = [hill, rng.normal(size=hill.shape), -hill]
    scores = []
    for values in (localization.prepared(m, 24) for m in maps):
        pixels = localization.pxap(values, inside)
        iou = localization.mask_iou(values, inside, localization.THRESHOLDS).mean(0).max()
        box = localization.max_box_acc(values, boxes)[0]
        scores.append((pixels, iou, box, localization.pointing_game(values, inside)))
    assert min(scores[0]) > 0.9
    assert all(a > b for a, b in zip(scores[0], scores[1]))
    assert scores[1][0] > scores[2][0] and scores[1][3] >= scores[2][3] == 0

"""Random crops at random scales: by hand, alike for pictures and maps, and in the trainers."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from attention_zoo.tests.helpers import drawn
from attention_zoo.trainers import base, crops, deeplab, gain

ROWS, COLUMNS = np.mgrid[:4, :4]
IMAGE = np.stack([ROWS, COLUMNS, 1 + 0 * ROWS], -1)[None].astype("float32")  # pixel: (y, x, 1)
MAP = np.uint8(10 * ROWS + COLUMNS)[None, ..., None]


def cut(low, high, *draws, image=IMAGE, classes=MAP, monkeypatch):
    """(image, map) of one picture for draws of the scale, y and x in [0, 1]."""
    numbers = tf.constant(draws, tf.float32)[:, None]
    monkeypatch.setattr(base, "uniform", lambda *_, **__: numbers)
    hp = deeplab.HParams(scale_min=low, scale_max=high)
    return [np.asarray(v)[0] for v in crops.random_crops(image, classes, hp, None)]


def test_a_part_of_a_larger_picture_by_hand(monkeypatch):
    image, classes = cut(1, 2, 1, 0, 1, monkeypatch=monkeypatch)  # twice the size, top right
    assert image[:, 0, 0] == pytest.approx([0, 0.25, 0.75, 1.25])
    assert image[0, :, 1] == pytest.approx([1.75, 2.25, 2.75, 3])
    assert (image[..., 2] == 1).all()
    assert classes[..., 0].tolist() == [[2, 2, 3, 3]] * 2 + [[12, 12, 13, 13]] * 2
    assert classes.dtype == np.uint8


def test_a_smaller_picture_lies_between_grey_bars_to_ignore(monkeypatch):
    image, classes = cut(0.5, 1, 0, 0, 1, monkeypatch=monkeypatch)  # half the size, top right
    # a triangle two pixels wide: 3 : 3 : 1
    assert image[:, 2, 0] == pytest.approx([5 / 7, 16 / 7, 0, 0])
    assert image[0, :, 1] == pytest.approx([0, 0, 5 / 7, 16 / 7])
    assert image[..., 2].tolist() == [[0, 0, 1, 1]] * 2 + [[0] * 4] * 2
    assert classes[:2, 2:, 0].tolist() == [[11, 13], [31, 33]]
    assert (classes[2:] == 255).all() and (classes[:, :2] == 255).all()


def test_pictures_have_numbers_of_their_own_and_the_same_key_gives_the_same():
    hp = deeplab.HParams(scale_min=0.5, scale_max=2)
    x = np.ones((40, 8, 8, 3), "float32")
    first, again, other = (
        np.asarray(crops.random_crops(x, None, hp, key)[0]) for key in ([1, 2], [1, 2], [1, 3])
    )
    assert first.tobytes() == again.tobytes() != other.tobytes()
    assert len({image.tobytes() for image in first}) > 8
    assert 0.25 < (first.min((1, 2, 3)) == 0).mean() < 0.6  # a third is smaller
    same = crops.random_crops(x, MAP, deeplab.HParams(), [1, 2])
    assert same[0] is x and same[1] is MAP


@pytest.mark.parametrize("make", [gain.HParams, deeplab.HParams])
def test_scales_out_of_order_or_range_are_refused(make):
    for wrong in ({"scale_min": 0.1}, {"scale_max": 5.0}):
        with pytest.raises(ValueError, match=f"{[*wrong][0]} must lie in"):
            make(**wrong)
    with pytest.raises(ValueError, match=r"scale_min=1.5 lies above scale_max=1.0: give both"):
        make(scale_min=1.5)


class Seen(Exception):
    pass


def test_deeplab_trains_on_crops_and_their_maps():
    """loss_terms gets images and maps that were cut alike; another step cuts others."""

    def stop(image, classes, batch):
        raise Seen(image, classes)

    seen = []
    for step in (7, 7, 8):
        stub = type("Stub", (), {})()
        stub.networks = {"segmenter": type("N", (), {"trainable_variables": []})()}
        stub.hp = dataclasses.replace(deeplab.HParams(), scale_min=0.5, scale_max=1.5)
        stub.key = lambda stream=0, step=step: [step, stream]
        stub.loss_terms = stop
        numbers = np.arange(1, 7, dtype="float32")[:, None, None, None]
        batch = {
            "image": tf.constant(numbers * np.ones((6, 8, 8, 3), "float32")),
            "classes": tf.constant(np.uint8(numbers * np.ones((6, 8, 8, 1), "uint8"))),
        }
        with pytest.raises(Seen) as error:
            deeplab.DeepLab.train_step(stub, batch)
        seen.append([np.asarray(v) for v in error.value.args])
    image, classes = seen[0]
    rim = classes == 255
    assert 0.02 < rim.mean() < 0.7
    assert (image[rim[..., 0]] == 0).all()
    assert image[~rim[..., 0]][:, 0] == pytest.approx(classes[~rim], rel=1e-5)
    assert all(np.array_equal(a, b) for a, b in zip(seen[0], seen[1]))
    assert not np.array_equal(seen[0][1], seen[2][1])


def test_gain_s_known_masks_are_cut_with_their_images():
    stub = type("Stub", (), {})()
    stub.hp = gain.ExtHParams(masks=6, mask_batch=6, scale_min=0.5, scale_max=1.5, crop=0)
    stub.step, stub.key = tf.constant(0), lambda stream=0: [5, stream]
    numbers = np.uint8(20 * np.arange(1, 7))[:, None, None, None]
    stub.mask_set = {
        "image": tf.constant(numbers + np.zeros((6, 8, 8, 3), "uint8")),
        "classes": tf.constant(numbers + np.zeros((6, 8, 8, 1), "uint8")),
        "present": tf.constant(drawn(6, 3)),
    }
    x, _, pixels = (np.asarray(v) for v in gain.GAIN.masked_batch(stub))
    rim = pixels == 255
    assert 0.02 < rim.mean() < 0.7 and (x[rim] == 0).all()
    assert (x[~rim][:, 0] + 1) * 127.5 == pytest.approx(pixels[~rim], abs=1e-3)

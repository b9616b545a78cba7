"""Pictures as arrays, as files, and in grids."""

import io

import numpy as np
import pytest
from PIL import Image

from attention_zoo.common import images


def test_every_grey_level_comes_back():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3)
    floats = images.to_float(levels)
    assert floats.dtype == np.float32
    assert (floats.min(), floats.max()) == (-1, 1)
    assert floats[0, 0, 1, 0] == np.float32(1) / np.float32(127.5) - 1
    assert np.array_equal(images.to_uint8(floats), levels)


def test_values_are_rounded_and_clipped():
    values = np.array([-1.5, -1, 0.0, 0.0039, 0.0040, 1, 7])
    assert images.to_uint8(values).tolist() == [0, 0, 128, 128, 128, 255, 255]


def test_scales_are_those_of_tensors_too():
    tf = pytest.importorskip("tensorflow")
    levels = tf.constant([0.0, 127.5, 255.0])
    assert images.scaled(levels).numpy().tolist() == [-1, 0, 1]
    assert images.unscaled(images.scaled(levels)).numpy().tolist() == [0, 127.5, 255]


@pytest.mark.parametrize("shape", [(5, 7, 3), (5, 7)])
def test_a_png_is_exact_whether_grey_or_in_colour(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    data = images.png(pixels)
    assert data.startswith(b"\x89PNG")
    assert np.array_equal(images.decoded(data), pixels)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)


def test_a_jpeg_is_a_jpeg():
    data = images.encoded(np.full((8, 8, 3), 99, np.uint8), "jpeg")
    assert data.startswith(b"\xff\xd8")
    assert abs(images.decoded(data).astype(int) - 99).max() <= 1


LOW, MIDDLE, HIGH = [87, 84, 160], [202, 123, 151], [223, 229, 100]  # of 0, 0.5 and 1 over 200


def test_a_heat_map_lies_over_grey():
    pixels = np.full((1, 3, 3), 200, np.uint8)
    found = images.heat(pixels, np.array([[0, 0.5, 1.0]]))
    assert found.dtype == np.uint8
    assert found.tolist() == [[LOW, MIDDLE, HIGH]]
    coloured = np.array([[[100, 200, 50]]], np.uint8)  # its grey is 153
    assert images.heat(coloured, np.zeros((1, 1))).tolist() == [[[68, 65, 142]]]


def test_a_grid_of_attention_has_labels_places_and_a_scale():
    pixels = np.full((2, 4, 4, 3), 200, np.uint8)
    masks = np.ones((2, 2, 4, 4))
    masks[:, 1] = 0
    grid = images.attention_grid(pixels, masks, [(1, 1), (3, 3)], ("one", "two"))
    assert grid.shape == (19 + 2 * 112 + 4, 3 * 116 + 44, 3)  # each pixel is 28 x 28
    first, second, third = (grid[19:, x : x + 112] for x in (0, 116, 232))
    assert (first[:112] == 200).all() and (first[112:116] == 255).all()
    assert second[0, 0].tolist() == second[55, 55].tolist() == [0, 255, 0]  # the mark is 2 x 2
    assert second[56, 56].tolist() == second[111, 111].tolist() == HIGH
    assert third[0, 0].tolist() == third[55, 55].tolist() == third[116, 0].tolist() == LOW
    assert third[56, 56].tolist() == third[111, 111].tolist() == [0, 255, 0]
    bar = grid[19 : 19 + 112, 348:359].astype(int)
    assert (bar == bar[:, :1]).all()
    assert bar[-1, 0].tolist() == [58, 55, 132]  # over a grey of 128
    assert bar[0, 0].tolist() == [195, 200, 71]
    for part in (grid[:19, :112], grid[:19, 116:228], grid[:19, 232:344]):
        assert part.min() < 50  # the letters
    assert [grid[y : y + 12, 363:].min() < 50 for y in (19, 45, 69, 119)] == [
        True,
        False,
        True,
        True,
    ]
    other = images.attention_grid(pixels, masks, [(1, 1), (3, 3)], ("one", "three"))
    assert np.array_equal(other[:19, :228], grid[:19, :228])
    assert not np.array_equal(other[:19, 228:], grid[:19, 228:])
    assert np.array_equal(other[19:], grid[19:])
    plain = images.attention_grid(pixels, masks)
    numbered = images.attention_grid(pixels, masks, (), ("attention 1", "attention 2"))
    assert np.array_equal(plain, numbered)


def test_large_pictures_are_not_enlarged():
    grid = images.labelled_grid(np.zeros((1, 2, 50, 480, 3), np.uint8), ("a", "b"))
    assert grid.shape == (28 + 50, 2 * 484 + 4 * 20, 3)  # letters of 20 pixels


def test_a_scale_stands_beside_a_heat_map():
    found = images.with_scale(np.full((60, 480, 3), 7, np.uint8))
    assert found.shape == (60, 480 + 4 + 4 * 20, 3)  # letters of 20 pixels
    assert (found[:, :480] == 7).all() and (found[:, 480:484] == 255).all()
    assert found[-1, 484].tolist() == found[-1, 503].tolist() == [58, 55, 132]  # 0 over 128
    assert found[0, 484].tolist() == [195, 200, 71]
    assert images.with_scale(np.zeros((30, 24, 3), np.uint8)).shape == (30, 24 + 4 + 44, 3)


def test_a_high_picture_is_not_enlarged_in_a_grid():
    cells = np.zeros((1, 1, 300, 2, 3), np.uint8)
    assert images.labelled_grid(cells, ["image"], scale=False).shape == (19 + 300, 2, 3)
    cells = np.zeros((1, 1, 30, 20, 3), np.uint8)
    assert images.labelled_grid(cells, ["image"], scale=False).shape == (19 + 180, 120, 3)


def test_a_text_stands_below_a_picture_as_large_as_one_of_a_grid():
    high = images.with_text(np.zeros((1, 30, 20, 3), np.uint8), ["a"])
    assert high.shape == (1, 180 + 15, 120, 3)
    assert images.with_text(np.zeros((1, 300, 2, 3), np.uint8), ["a"]).shape == (1, 315, 2, 3)
    one, other = images.with_text(np.full((2, 4, 4, 3), 200, np.uint8), ["a", "b"])
    assert one.shape == (112 + 15, 112, 3)  # each pixel is 28 x 28
    assert (one[:112] == 200).all() and one[112:].min() < 50
    assert np.array_equal(one[:112], other[:112]) and not np.array_equal(one[112:], other[112:])


def test_a_picture_is_reduced_by_a_whole_number():
    pixels = np.arange(20, dtype=np.uint8).reshape(4, 5).repeat(3, 0).repeat(3, 1)
    assert (images.reduced(pixels, 5) == np.arange(20).reshape(4, 5)).all()
    assert (images.reduced(pixels, 15) == pixels).all()
    assert images.reduced(np.zeros((2, 900, 3), np.uint8), 256).shape == (1, 225, 3)

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


def test_a_map_darkens_to_a_quarter():
    pixels = np.full((2, 1, 3, 3), 200, np.uint8)
    maps = np.array([[[0.0, 0.5, 1.0]], [[1.0, 1.0, 1.0]]])
    found = images.lit(pixels, maps)[..., 0]
    assert found.tolist() == [[[50.0, 125.0, 200.0]], [[200.0, 200.0, 200.0]]]


def test_a_grid_of_attention_marks_its_places():
    pixels = np.full((1, 4, 4, 3), 200, np.uint8)
    masks = np.ones((1, 2, 4, 4))
    masks[0, 1] = 0
    grid = images.attention_grid(pixels, masks, [(1, 1), (3, 3)])
    assert grid.shape == (4, 12, 3)
    assert (grid[:, :4] == 200).all()
    assert grid[0, 4].tolist() == grid[1, 5].tolist() == [255, 0, 0]  # the mark is 2 x 2
    assert grid[3, 7].tolist() == [200, 200, 200]
    assert grid[0, 8].tolist() == [50, 50, 50]
    assert grid[2, 10].tolist() == grid[3, 11].tolist() == [255, 0, 0]


def test_the_name_of_a_png():
    assert images.as_png("a.png") == "a.png"
    assert images.as_png("deep/a.jpg") == "deep/a.jpg.png"

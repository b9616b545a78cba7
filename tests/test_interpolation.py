"""Linear interpolation of maps, by hand and beside Pillow's, SciPy's and TensorFlow's."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from attention_zoo.common import interpolation


def test_weights_by_hand():
    # 2 -> 4 samples: at places -1/4, 1/4, 3/4, 5/4 of the samples 0 and 1
    expected = [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
    assert interpolation.weights(2, 4).tolist() == expected
    assert interpolation.weights(2, 4, antialias=True).tolist() == expected
    # 4 -> 2 samples: between two samples, and with a triangle over four
    assert interpolation.weights(4, 2).tolist() == [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]
    first = np.array([0.75, 0.75, 0.25, 0]) / 1.75
    assert interpolation.weights(4, 2, antialias=True) == pytest.approx(
        np.array([first, first[::-1]]), rel=1e-12
    )


def test_places_beyond_the_outermost_samples_have_their_values():
    found = interpolation.at(np.array([-3.0, 0.5, 9.0]), 3)
    assert found.tolist() == [[1, 0, 0], [0.5, 0.5, 0], [0, 0, 1]]


@pytest.mark.parametrize("size", [(12, 21), (7, 9), (5, 30), (1, 1)])
def test_maps_are_resized_like_elsewhere(size):
    maps = np.random.default_rng(0).uniform(size=(2, 7, 9)).astype(np.float32)
    found = interpolation.resized(maps, *size)
    assert found.shape == (2, *size) and found.dtype == np.float64
    if size[0] >= 7 and size[1] >= 9:
        zoom = (1, size[0] / 7, size[1] / 9)
        expected = ndimage.zoom(maps, zoom, order=1, mode="nearest", grid_mode=True)
        assert abs(found - expected).max() < 1e-6
    smooth = interpolation.resized(maps, *size, antialias=True)
    for one, other in zip(smooth, maps):
        expected = Image.fromarray(other).resize(size[::-1], Image.Resampling.BILINEAR)
        assert abs(one - np.asarray(expected)).max() < 1e-6


def test_maps_are_resized_like_tensorflow_s():
    tf = pytest.importorskip("tensorflow")
    maps = np.random.default_rng(0).uniform(size=(2, 7, 9)).astype(np.float32)
    for antialias in (False, True):
        expected = tf.image.resize(maps[..., None], (5, 20), antialias=antialias)[..., 0]
        found = interpolation.resized(maps, 5, 20, antialias=antialias)
        assert abs(found - np.asarray(expected)).max() < 1e-6

"""Distances and nearest neighbours on arrays whose answers are known."""

import numpy as np
import pytest

from attention_zoo.evaluate import memorisation, swd


def photos(count, seed, size=32):
    """Smooth random images, uint8."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (count, size // 4, size // 4, 3))
    return coarse.repeat(4, 1).repeat(4, 2).astype(np.uint8)


def test_swd_is_zero_for_the_same_images_and_repeats():
    real = photos(64, 0)
    assert swd.swd(real, real) == 0
    assert swd.swd(real, photos(64, 1)) == swd.swd(real, photos(64, 1))


def test_swd_of_a_shift_by_one_deviation():
    real = np.random.default_rng(0).normal(size=(64, 16, 16, 3))
    shifted = real + real.std((0, 1, 2))
    # each projection moves by |sum of its direction|, whose mean is sqrt(2 / pi) for unit vectors
    assert swd.swd(real, shifted) == pytest.approx(1000 * np.sqrt(2 / np.pi), rel=0.15)


def test_swd_orders_same_kind_then_noise_then_one_repeated_image():
    real, same = photos(256, 0), photos(256, 1)
    noise = np.random.default_rng(2).integers(0, 256, real.shape).astype(np.uint8)
    collapsed = np.repeat(same[:1], len(real), axis=0)
    near = swd.swd(real, same)
    assert near < 0.3 * swd.swd(real, noise)
    assert near < 0.3 * swd.swd(real, collapsed)


def test_swd_of_flat_pictures_is_in_grey_levels():
    flat = np.full((64, 32, 32, 3), 100, np.uint8)
    assert swd.swd(flat, flat) == 0
    # each projection moves by 5 |sum of its direction|, whose mean is sqrt(2 / pi)
    expected = pytest.approx(5000 * np.sqrt(2 / np.pi), rel=0.15)
    assert swd.swd(flat, flat + np.uint8(5)) == expected
    almost = flat.copy()
    almost[0, 0, 0] = 101
    assert swd.swd(almost, flat + np.uint8(5)) == expected
    black = photos(64, 0)
    black[..., 2] = 0
    assert swd.swd(black, black + np.uint8([0, 0, 1])) < 2000


def test_swd_refuses_unlike_counts():
    with pytest.raises(ValueError, match="equal shapes"):
        swd.swd(photos(4, 0), photos(5, 0))
    for few in (photos(4, 0, 12), photos(0, 0)):
        with pytest.raises(ValueError, match="images of 16 pixels or more"):
            swd.swd(few, few)


@pytest.mark.parametrize("side", [16, 52, 68, 100])  # 68: 34 and 17 next; 100: 50 and 25 next
def test_swd_halves_any_side(side):
    assert 0 < swd.swd(photos(8, 0, side), photos(8, 1, side)) < 2000


def test_halves_are_means_of_four_pixels():
    rows = np.arange(25.0).reshape(1, 5, 5, 1).repeat(3, axis=-1)
    assert swd.halve(rows)[0, ..., 0].tolist() == [[3, 5], [13, 15]]


def test_nearest_by_a_loop():
    rng = np.random.default_rng(0)
    queries, vectors = rng.normal(size=(5, 3)), rng.normal(size=(11, 3))
    blocks = memorisation.in_blocks(np.asarray, vectors, 4)
    ((index, distance),) = memorisation.nearest([(queries, None)], blocks)
    for q in range(5):
        gaps = [np.linalg.norm(queries[q] - v) for v in vectors]
        assert index[q] == int(np.argmin(gaps))
        assert abs(distance[q] - min(gaps)) < 1e-6


def test_nearest_leaves_out_what_it_is_told_to():
    vectors = np.array([[0.0], [1.0], [5.0]], np.float32)
    searches = [(vectors, np.arange(3)), (vectors[1:], None)]
    first, second = memorisation.nearest(searches, memorisation.in_blocks(np.asarray, vectors, 2))
    assert [x.tolist() for x in first] == [[1, 0, 1], [1, 1, 4]]
    assert [x.tolist() for x in second] == [[1, 2], [0, 0]]


def test_spread_is_the_mean_over_pairs():
    assert memorisation.spread([[0.0], [1.0], [5.0]]) == pytest.approx((1 + 5 + 4) / 3)


def test_report_tells_a_copier_from_a_painter():
    train, test = photos(60, 0), photos(20, 1)
    free = memorisation.to_float(photos(60, 2))
    features = ("feature", lambda x: x.reshape(len(x), -1)[:, ::7])

    def copy(z, references):
        return np.clip(references + 0.01, -1, 1)

    def paint(z, references):
        return free[z]

    copied, pictures = memorisation.report(copy, features, train, test, 8, seed=0)
    painted, _ = memorisation.report(paint, features, train, test, 8, seed=0)
    assert pictures.shape == (8, 4, 32, 32, 3)
    for kind in ("pixel", "feature"):
        assert copied[kind]["share_whose_nearest_train_is_their_reference"] == 1
        assert copied[kind]["spread_over_z_one_reference"] == pytest.approx(0, abs=1e-3)
        assert copied[kind]["sample_to_nearest_train"] < 0.1
        assert painted[kind]["share_whose_nearest_train_is_their_reference"] < 0.5
        assert painted[kind]["spread_over_references_one_z"] == pytest.approx(0, abs=1e-3)
        assert painted[kind]["spread_over_z_one_reference"] > 0.3
        ratio = (
            painted[kind]["sample_to_nearest_train"] / painted[kind]["test_image_to_nearest_train"]
        )
        assert 0.8 < ratio < 1.2


def test_neighbours_tell_a_copier_from_a_painter():
    train, test = photos(60, 0), photos(20, 1)
    embedded = []

    def extract(images):
        embedded.append(len(images))
        return images.reshape(len(images), -1)[:, ::7]

    features = ("feature", extract)
    copies = memorisation.to_float(train) + 0.01
    new = memorisation.to_float(photos(60, 2))
    copied, pictures = memorisation.neighbours(copies, features, train, test)
    assert sorted(embedded) == [20, 60, 60]  # test images, training images and samples, once each
    painted, _ = memorisation.neighbours(new, features, train, test)
    assert pictures.shape == (60, 3, 32, 32, 3)
    assert abs(pictures[:, 1] - memorisation.to_float(train)).max() == 0  # the nearest by pixels
    assert copied["share_without_copies"] == 0.75
    for kind in ("pixel", "feature"):
        assert copied[kind]["sample_to_nearest_train"] < 0.1
        assert copied[kind]["share_nearer_to_train"] == 1
        assert painted[kind]["share_nearer_to_train"] == pytest.approx(0.75, abs=0.15)
        assert painted[kind]["sample_to_nearest_train"] == pytest.approx(
            painted[kind]["test_image_to_nearest_train"], rel=0.2
        )

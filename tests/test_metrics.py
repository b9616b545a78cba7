"""Distances and scores of features whose answers are worked out by hand or by a plain loop."""

import itertools

import numpy as np
import pytest

from attention_zoo.evaluate import coverage, fid, inception_score, kid, prdc


def blobs(count, seed, dims=8):
    """Correlated normal features, the same distribution for every seed."""
    mix = np.random.default_rng(99).normal(size=(dims, dims)) / dims**0.5
    return np.random.default_rng(seed).normal(size=(count, dims)) @ mix + 1


def frechet(cov_1, cov_2, mean_1=0.0, mean_2=0.0):
    dims = len(cov_1)
    return fid.frechet_distance(np.full(dims, mean_1), cov_1, np.full(dims, mean_2), cov_2)


# Frechet distance


@pytest.mark.parametrize(
    "cov_1, cov_2, expected",
    [
        (np.diag([1.0, 4.0]), np.diag([9.0, 16.0]), 8.0),  # (1 - 3)^2 + (2 - 4)^2
        (np.array([[2.0, 1.0], [1.0, 2.0]]), np.eye(2), 0.5358983848622454),  # (3^1/2 - 1)^2
        # of 2 x 2, Tr (A B)^1/2 = (Tr A B + 2 (det A B)^1/2)^1/2: 15 - 2 * 37^1/2
        (np.array([[5.0, 4.0], [4.0, 5.0]]), np.diag([1.0, 4.0]), 2.8344749394035606),
        (np.diag([4.0, 0.0]), np.diag([9.0, 0.0]), 1.0),
        (np.diag([4.0, 0.0]), np.diag([0.0, 9.0]), 13.0),
        (np.zeros((2, 2)), np.diag([4.0, 9.0]), 13.0),
        (np.zeros((2, 2)), np.zeros((2, 2)), 0.0),
    ],
)
def test_frechet_distance_in_closed_form_both_ways(cov_1, cov_2, expected):
    assert frechet(cov_1, cov_2) == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert frechet(cov_2, cov_1) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_frechet_distance_of_shifted_means_is_their_squared_distance():
    _, cov = fid.moments(blobs(100, 0))
    mean = np.zeros(8)
    assert fid.frechet_distance(mean, cov, mean + 3, cov) == pytest.approx(72, rel=1e-12)


@pytest.mark.parametrize("count", (200, 20))  # 20 rows of 50 numbers: a singular covariance
def test_frechet_distance_of_equal_moments_is_zero(count):
    mean, cov = fid.moments(blobs(count, 0, dims=50))
    distance = fid.frechet_distance(mean, cov, mean, cov)
    assert 0 <= distance < 1e-9 * np.trace(cov)


@pytest.mark.parametrize("count", (200, 20))
def test_frechet_distance_is_symmetric(count):
    one, two = fid.moments(blobs(count, 0, dims=50)), fid.moments(blobs(300, 1, dims=50) * 2)
    there, back = fid.frechet_distance(*one, *two), fid.frechet_distance(*two, *one)
    assert there > 1
    assert there == pytest.approx(back, rel=1e-11)


def test_frechet_distance_by_either_root(monkeypatch):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2, 40, 16)) * np.geomspace(1e-3, 1, 16)
    one, two = fid.moments(rows[0]), fid.moments(rows[1] + 0.1)
    by_cholesky = fid.frechet_distance(*one, *two)

    def fail(cov):
        raise np.linalg.LinAlgError

    monkeypatch.setattr(fid.np.linalg, "cholesky", fail)
    by_eigenvectors = fid.frechet_distance(*one, *two)
    assert by_cholesky == pytest.approx(by_eigenvectors, rel=1e-9)
    assert by_cholesky != by_eigenvectors  # two ways indeed


def test_frechet_distance_refuses_unlike_shapes_and_what_is_not_finite():
    with pytest.raises(ValueError, match=r"\(D,\), \(D, D\)"):
        fid.frechet_distance(np.zeros(2), np.eye(2), np.zeros(3), np.eye(3))
    with pytest.raises(ValueError, match=r"\(D,\), \(D, D\)"):
        fid.frechet_distance(np.zeros(2), np.ones((2, 3)), np.zeros(2), np.eye(2))
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="NaN or infinity"):
            frechet(np.eye(2), np.diag([1.0, bad]))
        with pytest.raises(ValueError, match="NaN or infinity"):
            frechet(np.eye(2), np.eye(2), mean_1=bad)


def test_moments_are_the_mean_and_the_covariance():
    mean, cov = fid.moments([[1.0, 2.0], [3.0, 2.0], [5.0, 8.0]])
    assert mean.tolist() == [3, 4]
    assert cov == pytest.approx(np.array([[4.0, 6.0], [6.0, 12.0]]), rel=1e-14)


@pytest.mark.parametrize("count", (999, 1000, 2000, 2345))
def test_moments_do_not_depend_on_the_batches(count):
    features = blobs(count, 0).astype(np.float32)
    mean, cov = fid.moments(features)
    assert mean == pytest.approx(features.mean(0, dtype=np.float64), rel=1e-12)
    assert cov == pytest.approx(np.cov(features, rowvar=False, dtype=np.float64), rel=1e-11)
    for size in (1, 7, 1000, 1999):
        found = fid.Moments(8)
        for start in range(0, count, size):
            found.add(features[start : start + size])
            if start == 7:
                found.mean, found.cov  # noqa: B018  looking in between changes nothing
        assert found.count == count
        assert np.array_equal(found.mean, mean)
        assert np.array_equal(found.cov, cov)


def test_moments_of_a_large_mean_keep_their_digits():
    features = blobs(2500, 0)
    _, cov = fid.moments(features)
    mean, shifted = fid.moments(features + 1e4)
    assert mean == pytest.approx(features.mean(0) + 1e4, rel=1e-14)
    assert shifted == pytest.approx(np.cov(features + 1e4, rowvar=False), rel=1e-12, abs=1e-12)
    assert np.abs(shifted - cov).max() < 1e-9


def test_moments_refuse_other_shapes_and_too_few_rows():
    found = fid.Moments(3)
    for bad in (np.zeros((2, 4)), np.zeros(3)):
        with pytest.raises(ValueError, match=r"\(n, 3\)"):
            found.add(bad)
    with pytest.raises(ValueError, match=r"\(N, D\)"):
        fid.moments(np.zeros(3))
    found.add(np.zeros((0, 3)))
    with pytest.raises(ValueError, match="one row"):
        _ = found.mean
    found.add(np.ones((1, 3)))
    assert found.mean.tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="2 rows at least, not 1"):
        _ = found.cov


def test_a_sample_too_small_for_its_dimensions_is_warned_of():
    assert fid.warning(2049, 2048) is None
    for count in (120, 2048):
        line = fid.warning(count, 2048)
        assert f"{count:,} images, real or generated, are too few for 2,048" in line
        assert "biased" in line and "KID" in line
        assert "\n" not in line


# Kernel distance


def test_mmd2_by_hand():
    # kernels (x . y / 2 + 1)^3 are 1 within real, 27 within fake; across 1, 1, 1 and 27
    real, fake = [[0.0, 0.0], [2.0, 0.0]], [[0.0, 2.0], [2.0, 2.0]]
    assert kid.mmd2(real=real, fake=fake) == pytest.approx(1 + 27 - 15, rel=1e-14)
    assert kid.mmd2(real=fake, fake=real) == pytest.approx(13, rel=1e-14)


def test_mmd2_of_unequal_counts_by_hand():
    # within real 1; within fake (343 - 1 - 8) / 3; across (1 + 1 + 1 + 27 + 64 + 0) / 6
    real, fake = [[0.0], [1.0]], [[2.0], [3.0], [-1.0]]
    assert kid.mmd2(real=real, fake=fake) == pytest.approx(81, rel=1e-14)
    assert kid.mmd2(real=fake, fake=real) == pytest.approx(81, rel=1e-14)


def test_kid_draws_the_fake_rows_of_a_subset_first():
    real, fake = blobs(7, 0), blobs(9, 1) + 0.5
    rng, values = np.random.RandomState(5), []
    for _ in range(3):
        drawn = fake[rng.choice(9, 4, replace=False)], real[rng.choice(7, 4, replace=False)]
        values.append(kid.mmd2(fake=drawn[0], real=drawn[1]))
    mean, deviation = kid.kid(real=real, fake=fake, subsets=3, subset_size=4, seed=5)
    assert mean == pytest.approx(sum(values) / 3, rel=1e-12)
    assert deviation == pytest.approx((sum((v - mean) ** 2 for v in values) / 3) ** 0.5, rel=1e-9)
    assert kid.kid(real=real, fake=fake, subsets=3, subset_size=4, seed=6)[0] != mean


def test_kid_of_whole_sets_has_no_deviation():
    real, fake = blobs(20, 0), blobs(20, 1) + 0.5
    expected = kid.mmd2(real=real, fake=fake)
    assert kid.kid(real=real, fake=fake, subset_size=20) == (expected, None)
    assert kid.kid(real=real, fake=fake[::-1], subset_size=20)[0] == pytest.approx(expected)
    assert kid.kid(real=blobs(21, 0), fake=fake, subset_size=20)[1] > 1e-4


def test_kid_of_one_distribution_is_near_zero_on_either_side():
    found = [
        kid.kid(real=blobs(200, 2 * i), fake=blobs(200, 2 * i + 1), subsets=1, subset_size=200)[0]
        for i in range(10)
    ]
    assert min(found) < 0 < max(found)
    shifted = kid.kid(real=blobs(200, 0), fake=blobs(200, 1) + 0.5, subsets=1, subset_size=200)[0]
    assert shifted > 5 * max(abs(v) for v in found)


def test_kid_blocks_by_a_loop():
    # 13 and 11 rows in blocks of at most 4: four blocks, of 3, 3, 3, 4 and of 2, 3, 3, 3
    real, fake = blobs(13, 0), blobs(11, 1) + 0.5
    values = []
    for (a, b), (c, d) in zip(
        itertools.pairwise((0, 3, 6, 9, 13)), itertools.pairwise((0, 2, 5, 8, 11))
    ):
        values.append(kid.mmd2(real=real[a:b], fake=fake[c:d]))
    mean = sum(values) / 4
    variance = sum((v - mean) ** 2 for v in values) / 3
    found = kid.kid_blocks(real=real, fake=fake, block_size=4)
    assert found == pytest.approx((mean, (variance / 4) ** 0.5), rel=1e-10)


def test_kid_blocks_are_of_ten_unless_told():
    real, fake = blobs(140, 0), blobs(120, 1)
    found = kid.kid_blocks(real=real, fake=fake)
    assert found == kid.kid_blocks(real=real, fake=fake, block_size=10)
    assert found != kid.kid_blocks(real=real, fake=fake, block_size=20)


def test_one_block_is_the_whole_and_its_error_unknown():
    real, fake = blobs(20, 0), blobs(15, 1)
    mean, error = kid.kid_blocks(real=real, fake=fake, block_size=20)
    assert mean == kid.mmd2(real=real, fake=fake)
    assert error is None


def test_kid_refuses_too_few_rows():
    with pytest.raises(ValueError, match="subset_size <= 9"):
        kid.kid(real=blobs(20, 0), fake=blobs(9, 1), subset_size=10)
    with pytest.raises(ValueError, match="subset_size <= 9"):
        kid.kid(real=blobs(9, 0), fake=blobs(20, 1), subset_size=10)
    with pytest.raises(ValueError, match="not 1 and 5"):
        kid.mmd2(real=blobs(1, 0), fake=blobs(5, 1))
    with pytest.raises(ValueError, match="in each of 10 blocks, not 100 real and 19 fake"):
        kid.kid_blocks(real=blobs(100, 0), fake=blobs(19, 1))


# Inception score

NARROW = np.log([[0.9, 0.1], [0.5, 0.5]])


def test_inception_score_by_hand():
    # p(y) = (0.7, 0.3): KL 0.9 ln(9/7) + 0.1 ln(1/3) and 0.5 ln(5/7) + 0.5 ln(5/3), mean 0.101749
    assert inception_score.inception_score(NARROW, splits=1) == pytest.approx((1.1071056, 0))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("low, high", [(0, 100), (0, 1e4), (-1e308, 1e308), (-np.inf, 0)])
def test_inception_score_of_one_hot_predictions_is_the_number_of_classes(low, high):
    logits = np.where(np.eye(5), float(high), float(low)).repeat(4, axis=0)
    assert inception_score.inception_score(logits, splits=1) == pytest.approx((5, 0), abs=1e-9)


@pytest.mark.filterwarnings("error")
def test_inception_score_counts_no_class_that_is_never_predicted():
    logits = 1e4 * np.eye(7)[:5].repeat(4, axis=0)
    assert inception_score.inception_score(logits, splits=1) == pytest.approx((5, 0), abs=1e-9)


@pytest.mark.parametrize("logit", (0.0, -700.0, 1e300))
def test_inception_score_of_uniform_predictions_is_one(logit):
    found = inception_score.inception_score(np.full((30, 7), logit))
    assert found == pytest.approx((1, 0), abs=1e-12)


def test_inception_score_cuts_shuffled_rows():
    logits = np.random.default_rng(0).normal(size=(11, 4)) * 3
    rows = logits[np.random.RandomState(7).permutation(11)]
    parts = [inception_score.score(part) for part in (rows[:3], rows[3:7], rows[7:])]
    mean = sum(parts) / 3
    deviation = (sum((v - mean) ** 2 for v in parts) / 3) ** 0.5
    found = inception_score.inception_score(logits, splits=3, seed=7)
    assert found == pytest.approx((mean, deviation), rel=1e-12)
    assert deviation > 0.01
    assert found != inception_score.inception_score(logits, splits=3)


def test_inception_score_refuses_what_it_cannot_split_or_normalise():
    for splits in (0, 5, 10):
        with pytest.raises(ValueError, match=f"9 rows of logits cannot fill {splits} splits"):
            inception_score.inception_score(np.zeros((9, 3)), splits=splits)
    assert inception_score.inception_score(1e4 * np.eye(8), splits=4)[0] == pytest.approx(2)
    with pytest.raises(ValueError, match=r"\(N, C\)"):
        inception_score.inception_score(np.zeros(9), splits=1)
    for row in ([0, np.nan], [0, np.inf], [-np.inf, -np.inf]):
        with pytest.raises(ValueError, match="below infinity"):
            inception_score.inception_score([[0, 1], row], splits=1)


# Precision, recall, density, coverage

LINE_REAL = [[0.0], [1.0], [3.0], [7.0]]
LINE_FAKE = [[1.5], [2.0], [12.0], [12.5]]


def test_precision_and_recall_on_a_line():
    # k = 1: real balls [-1, 1], [0, 2], [1, 5], [3, 11]; fake balls reach 0.5, so that of 1.5
    # holds the real 1 on its rim
    found = prdc.precision_recall(real=LINE_REAL, fake=LINE_FAKE, k=1)
    assert found == (0.5, 0.25)
    assert prdc.precision_recall(real=LINE_FAKE, fake=LINE_REAL, k=1) == (0.25, 0.5)
    assert prdc.precision_recall(real=LINE_REAL, fake=LINE_FAKE, k=2) == (1, 1)


def test_density_and_coverage_on_a_line():
    # 1.5 and 2 lie each in the balls of 1 and 3
    assert prdc.density_coverage(real=LINE_REAL, fake=LINE_FAKE, k=1) == (1, 0.5)
    # k = 2: [-3, 3], [-1, 3], [0, 6], [1, 13] hold 2, 2, 2 and 4 fake rows
    assert prdc.density_coverage(real=LINE_REAL, fake=LINE_FAKE, k=2) == (1.25, 1)


def loop(real, fake, k):
    """Precision, recall, density and coverage by exact differences, row by row."""

    def distances(a, b):
        return np.array([np.sqrt(((x - b) ** 2).sum(1)) for x in a])

    real_radii = np.sort(distances(real, real), axis=1)[:, k]
    fake_radii = np.sort(distances(fake, fake), axis=1)[:, k]
    across = distances(real, fake)
    held = across <= real_radii[:, None]
    recalled = (across <= fake_radii).any(1).mean()
    return held.any(0).mean(), recalled, held.sum() / (k * len(fake)), held.any(1).mean()


@pytest.mark.parametrize("offset", (0, 1e5))
def test_balls_by_a_loop_with_repeated_and_shared_rows(monkeypatch, offset):
    monkeypatch.setattr(prdc, "BLOCK", 16)
    real = (blobs(50, 0, dims=30) + offset).astype(np.float32)
    fake = (blobs(41, 1, dims=30) + offset).astype(np.float32)
    real[30:34], fake[20:25] = real[3], fake[4]
    fake[:6] = real[28:34]
    expected = loop(real.astype(np.float64), fake.astype(np.float64), k=2)
    found = prdc.precision_recall(real=real, fake=fake, k=2)
    found += prdc.density_coverage(real=real, fake=fake, k=2)
    assert found == pytest.approx(expected, rel=1e-12)
    assert all(v > 0.1 and abs(v - 1) > 0.1 for v in expected)


def test_balls_of_real_against_itself_hold_each_row_and_its_neighbours():
    real = blobs(300, 0, dims=64)
    assert prdc.precision_recall(real=real, fake=real.copy()) == (1, 1)
    assert prdc.density_coverage(real=real, fake=real[::-1]) == (6 / 5, 1)


def test_a_collapsed_copy_is_precise_and_recalls_itself():
    real = blobs(100, 0, dims=64)
    copies = np.repeat(real[:1], 80, axis=0)
    assert prdc.precision_recall(real=real, fake=copies) == (1, 1 / 100)


def test_balls_refuse_too_few_rows():
    real, fake = blobs(10, 0), blobs(3, 1)
    for k, rows in ((0, 3), (3, 3)):
        with pytest.raises(ValueError, match=f"k = {k} neighbours .* not {rows}"):
            prdc.precision_recall(real=real, fake=fake, k=k)
    assert prdc.density_coverage(real=real, fake=fake, k=9)[1] == 1
    with pytest.raises(ValueError, match="k = 10 neighbours .* not 10"):
        prdc.density_coverage(real=real, fake=fake, k=10)


# All of them


@pytest.mark.parametrize(
    "metric", (kid.mmd2, kid.kid, kid.kid_blocks, prdc.precision_recall, prdc.density_coverage)
)
def test_features_of_other_shapes_or_not_finite_are_refused(metric):
    good = blobs(30, 0)
    for bad in (good[:, :7], good[0], good[:0]):
        with pytest.raises(ValueError, match=r"\(n, D\) and \(m, D\)"):
            metric(real=good, fake=bad)
    bad = good.copy()
    bad[3, 4] = np.nan
    for pair in ({"real": bad, "fake": good}, {"real": good, "fake": bad}):
        with pytest.raises(ValueError, match="NaN or infinity"):
            metric(**pair)


def scores(real, fake):
    """Every distance to the real rows, lower is better."""
    _, recall = prdc.precision_recall(real=real, fake=fake)
    _, coverage = prdc.density_coverage(real=real, fake=fake)
    return {
        "fid": fid.frechet_distance(*fid.moments(real), *fid.moments(fake)),
        "kid": kid.kid(real=real, fake=fake, subsets=3, subset_size=200)[0],
        "kid_blocks": kid.kid_blocks(real=real, fake=fake)[0],
        "recall": 1 - recall,
        "coverage": 1 - coverage,
    }


def test_every_metric_ranks_real_before_blurred_before_collapsed():
    real, other = blobs(300, 0), blobs(300, 1)
    best = scores(real, other)
    middling = scores(real, 0.8 * other)
    worst = scores(real, np.repeat(other[:1], 300, axis=0))
    for metric in best:
        assert best[metric] < middling[metric] < worst[metric], metric
    assert best["recall"] < 0.1 and best["coverage"] < 0.1
    assert worst["recall"] == 1 and worst["coverage"] > 0.9


def test_inception_score_of_a_collapsed_generator_is_one():
    logits = np.random.default_rng(0).normal(size=(300, 10)) * 5
    spread, _ = inception_score.inception_score(logits)
    collapsed, deviation = inception_score.inception_score(np.repeat(logits[:1], 300, axis=0))
    assert spread > 3
    assert (collapsed, deviation) == pytest.approx((1, 0), abs=1e-12)


def test_breed_coverage_in_closed_form():
    """Of 1,000 samples a breed needs one: breeds 151 and 268 have it, 200 has many, and 150 and 269
    are no dogs."""
    classes = np.repeat([151, 268, 200, 150, 269], [1, 1, 498, 300, 200])
    present, dogs = coverage.breed_coverage(np.eye(1000, dtype="float32")[classes])
    assert present == pytest.approx(3 / 118) and dogs == 0.5
    present, _ = coverage.breed_coverage(np.eye(1000)[np.repeat([151, 200], [1, 1199])])
    assert present == pytest.approx(1 / 118)
    with pytest.raises(ValueError, match="breeds take logits"):
        coverage.breed_coverage(np.zeros((3, 10)))


def test_class_coverage_in_closed_form():
    def found(counts):
        return coverage.class_coverage(np.eye(len(counts))[np.repeat(range(len(counts)), counts)])

    assert found([5, 5, 5, 5]) == pytest.approx((1, 1), abs=1e-12)
    assert found([20, 0, 0, 0]) == pytest.approx((0.25, 0), abs=1e-12)
    assert found([10, 10, 0, 0]) == pytest.approx((0.5, 0.5), abs=1e-12)
    assert found([97, 1, 1, 1])[0] == 0.25  # a class needs a tenth of an equal share: 2.5
    assert found([91, 3, 3, 3])[0] == 1
    assert found([37, 1, 1, 1])[0] == 1  # a tenth of 10 is enough
    with pytest.raises(ValueError, match="K > 1"):
        coverage.class_coverage(np.zeros((3, 1)))

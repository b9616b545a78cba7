"""Our metrics beside torch-fidelity, torchmetrics and SciPy on the same features.

    make parity

The plain test run does not collect this file, and here nothing is skipped: what is missing fails.
"""

import importlib.machinery
import importlib.util
import sys
import types

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial.distance
import torch

from attention_zoo.evaluate import fid, inception_score, kid, prdc


def stand_in_for_torchvision():
    """torch-fidelity imports torchvision's data sets and networks, of which its formulas use none.

    The stand-in is asked last: a torchvision that is installed is found before it.
    """

    class Empty(types.ModuleType):
        __path__ = ()

        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {})

    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] != "torchvision":
                return None
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

        def create_module(self, spec):
            return Empty(spec.name)

        def exec_module(self, module):
            pass

    sys.meta_path.append(Finder())


stand_in_for_torchvision()

from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc  # noqa: E402
from torch_fidelity.defaults import DEFAULTS  # noqa: E402
from torchmetrics.image.fid import FrechetInceptionDistance, _compute_fid  # noqa: E402
from torchmetrics.image.inception import InceptionScore  # noqa: E402
from torchmetrics.image.kid import KernelInceptionDistance  # noqa: E402

DIMS = 64


def features(count, seed, shift=0.0, dims=DIMS):
    """Correlated, non-negative rows (count, dims), as a network's pooled features are."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(0).normal(size=(dims, dims)) / np.arange(1, dims + 1)[:, None]
    return np.maximum(rng.normal(size=(count, dims)) @ mix + 0.5 + shift, 0)


PAIRS = {
    "many": (features(1500, 1), features(1500, 2, 0.2)),
    "unequal": (features(1500, 1), features(1100, 2, 0.2)),
    "singular": (features(50, 1), features(40, 2, 0.2)),
}
MANY = ("many", "unequal")


class Same(torch.nn.Module):
    """Lets images (B, 1, 8, 8) stand for features (B, 64)."""

    num_features = DIMS

    def forward(self, images):
        return images.flatten(1).double()


def images(rows):
    return torch.from_numpy(rows).reshape(-1, 1, 8, 8)


def ours(real, fake):
    return fid.frechet_distance(*fid.moments(real), *fid.moments(fake))


def by_root(real, fake):
    (mean_1, cov_1), (mean_2, cov_2) = ((x.mean(0), np.cov(x, rowvar=False)) for x in (real, fake))
    root = np.real(scipy.linalg.sqrtm(cov_1 @ cov_2))
    return np.sum((mean_1 - mean_2) ** 2) + np.trace(cov_1 + cov_2 - 2 * root)


@pytest.mark.parametrize("pair", PAIRS)
def test_fid_is_that_of_torch_fidelity(pair):
    real, fake = PAIRS[pair]
    moments = [metric_fid.fid_features_to_statistics(torch.from_numpy(x)) for x in (real, fake)]
    expected = metric_fid.fid_statistics_to_metric(*moments, verbose=False)
    assert ours(real, fake) == pytest.approx(expected["frechet_inception_distance"], rel=1e-6)


@pytest.mark.parametrize("pair", PAIRS)
def test_fid_is_that_of_torchmetrics(pair):
    real, fake = PAIRS[pair]
    moments = [torch.from_numpy(x) for side in (real, fake) for x in fid.moments(side)]
    assert ours(real, fake) == pytest.approx(_compute_fid(*moments).item(), rel=1e-6)


def test_fid_of_batches_is_that_of_torchmetrics():
    metric = FrechetInceptionDistance(feature=Same(), input_img_size=(1, 8, 8))
    metric.set_dtype(torch.float64)
    found = fid.Moments(DIMS), fid.Moments(DIMS)
    for rows, sums, is_real in zip(PAIRS["unequal"], found, (True, False)):
        for start in range(0, len(rows), 128):
            metric.update(images(rows[start : start + 128]), real=is_real)
            sums.add(rows[start : start + 128])
    value = fid.frechet_distance(found[0].mean, found[0].cov, found[1].mean, found[1].cov)
    assert value == pytest.approx(metric.compute().item(), rel=1e-6)


@pytest.mark.parametrize("pair", MANY)
def test_fid_is_that_of_the_matrix_root(pair):
    assert ours(*PAIRS[pair]) == pytest.approx(by_root(*PAIRS[pair]), rel=1e-6)


def test_fid_of_a_singular_covariance_is_that_of_the_singular_values():
    # X^T X and Y^T Y have Tr (X^T X Y^T Y)^1/2 = the sum of the singular values of X Y^T: no root
    real, fake = PAIRS["singular"]
    x, y = ((rows - rows.mean(0)) / np.sqrt(len(rows) - 1) for rows in (real, fake))
    roots = scipy.linalg.svdvals(x @ y.T).sum()
    expected = np.sum((real.mean(0) - fake.mean(0)) ** 2) + np.sum(x**2) + np.sum(y**2) - 2 * roots
    assert ours(real, fake) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("pair", MANY)
@pytest.mark.parametrize("seed", (2020, 1))
def test_kid_is_that_of_torch_fidelity(pair, seed):
    real, fake = PAIRS[pair]
    expected = metric_kid.kid_features_to_metric(
        *(torch.from_numpy(x) for x in (fake, real)),
        kid_subsets=5,
        kid_subset_size=300,
        rng_seed=seed,
        verbose=False,
    )
    found = kid.kid(real=real, fake=fake, subsets=5, subset_size=300, seed=seed)
    assert found[0] == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-6)
    assert found[1] == pytest.approx(expected["kernel_inception_distance_std"], rel=1e-6)


def test_kid_has_the_defaults_of_torch_fidelity():
    theirs = {name: DEFAULTS[name] for name in ("kid_subsets", "kid_subset_size", "rng_seed")}
    assert tuple(kid.kid.__kwdefaults__.values()) == tuple(theirs.values())


@pytest.mark.parametrize("count", (1100, 40))
def test_kid_of_all_rows_is_that_of_torchmetrics(count):
    real, fake = features(count, 1), features(count, 2, 0.2)
    metric = KernelInceptionDistance(feature=Same(), subsets=1, subset_size=count)
    metric.set_dtype(torch.float64)
    metric.update(images(real), real=True)
    metric.update(images(fake), real=False)
    expected = metric.compute()[0].item()
    assert kid.mmd2(real=real, fake=fake) == pytest.approx(expected, rel=1e-6)
    found = kid.kid(real=real, fake=fake, subsets=1, subset_size=count)
    assert found == (pytest.approx(expected, rel=1e-6), None)


LOGITS = 4 * np.random.default_rng(3).normal(size=(1003, DIMS))


@pytest.mark.parametrize("splits, seed", [(10, 2020), (7, 2020), (10, 1), (1, 0)])
def test_inception_score_is_that_of_torch_fidelity(splits, seed):
    expected = metric_isc.isc_features_to_metric(torch.from_numpy(LOGITS), splits, True, seed)
    found = inception_score.inception_score(LOGITS, splits=splits, seed=seed)
    assert found[0] == pytest.approx(expected["inception_score_mean"], rel=1e-6)
    assert found[1] == pytest.approx(expected["inception_score_std"], rel=1e-6, abs=1e-12)


@pytest.mark.filterwarnings("ignore:std")  # of one split
def test_inception_score_of_one_split_is_that_of_torchmetrics():
    metric = InceptionScore(feature=Same(), splits=1)
    metric.set_dtype(torch.float64)
    metric.update(images(LOGITS))
    expected = metric.compute()[0].item()
    assert inception_score.inception_score(LOGITS, splits=1)[0] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("k", (2, 3))
def test_precision_and_recall_are_those_of_torch_fidelity(pair, k):
    real, fake = PAIRS[pair]
    expected = metric_prc.prc_features_to_metric(
        *(torch.from_numpy(x) for x in (fake, real)),
        prc_neighborhood=k,
        verbose=False,
    )
    precision, recall = prdc.precision_recall(real=real, fake=fake, k=k)
    assert round(precision * len(fake)) == round(expected["precision"] * len(fake))
    assert round(recall * len(real)) == round(expected["recall"] * len(real))
    assert 0 < precision < 1 and 0 < recall < 1


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("k", (1, 5))
def test_density_and_coverage_are_those_of_exact_differences(pair, k):
    real, fake = (x.copy() for x in PAIRS[pair])
    real[5:9], fake[7:12] = real[0], fake[0]  # repeated images
    fake[12:15] = real[20:23]  # copied ones
    radii = np.sort(scipy.spatial.distance.cdist(real, real), axis=1)[:, k]
    inside = scipy.spatial.distance.cdist(real, fake) <= radii[:, None]
    density, coverage = prdc.density_coverage(real=real, fake=fake, k=k)
    assert round(density * k * len(fake)) == np.count_nonzero(inside)
    assert round(coverage * len(real)) == np.count_nonzero(inside.any(1))

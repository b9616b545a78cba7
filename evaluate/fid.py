"""Frechet distance of two sets of features (Heusel et al., 2017, arXiv:1706.08500, eq. 6).

The name of the score includes its extractor's: it is "FID" only with the pool3 features of the
Inception network of 2015.
"""

import numpy as np

BLOCK = 1000


def merge(count, mean, scatter, rows):
    """The count, mean and scatter of earlier rows merged with those of rows (n, D), n >= 1.

    The scatter (D, D) is the sum of (x - mean)(x - mean)^T. Each part is centred on its own mean
    before it is squared, so that a large mean costs no precision (Chan, Golub and LeVeque, 1979).
    """
    new, total = len(rows), count + len(rows)
    centre = rows.mean(0)
    gap = centre - mean
    # the last row's square is the term of the distance between the two means
    rows = np.vstack([rows - centre, np.sqrt(count * new / total) * gap])
    product = rows.T @ rows
    product += scatter
    return total, mean + gap * (new / total), product


class Moments:
    """Mean and covariance of rows (D,) that are added in batches.

    The rows are merged in blocks of 1000, in their order, so that the result does not depend on the
    batches, to the bit. The memory is one matrix (D, D) and one block.
    """

    def __init__(self, dims):
        self._merged = 0, np.zeros(dims), np.zeros((dims, dims))
        self._block = np.empty((BLOCK, dims))
        self.count = 0

    def add(self, features):
        """Adds features (n, D); n may be 0."""
        features = np.asarray(features)
        dims = self._block.shape[1]
        if features.ndim != 2 or features.shape[1] != dims:
            raise ValueError(f"moments take features (n, {dims}), not {features.shape}")
        while len(features):
            start = self.count % BLOCK
            part, features = features[: BLOCK - start], features[BLOCK - start :]
            self._block[start : start + len(part)] = part
            self.count += len(part)
            if self.count % BLOCK == 0:
                self._merged = merge(*self._merged, self._block)

    def _all(self):
        waiting = self._block[: self.count % BLOCK]
        return merge(*self._merged, waiting) if len(waiting) else self._merged

    @property
    def mean(self):
        """(D,), of at least one row."""
        if self.count < 1:
            raise ValueError("a mean needs one row at least")
        return self._all()[1]

    @property
    def cov(self):
        """(D, D), divided by count - 1, of at least two rows."""
        if self.count < 2:
            raise ValueError(f"a covariance needs 2 rows at least, not {self.count}")
        return self._all()[2] / (self.count - 1)

    def arrays(self):
        """{"count", "mean", "cov"} as arrays."""
        return {"count": np.array(self.count), "mean": self.mean, "cov": self.cov}


def moments(features):
    """(N, D) -> mean (D,), covariance (D, D)."""
    if np.ndim(features) != 2:
        raise ValueError(f"moments take features (N, D), not {np.shape(features)}")
    sums = Moments(np.shape(features)[1])
    sums.add(features)
    return sums.mean, sums.cov


def frechet_distance(mean_1, cov_1, mean_2, cov_2):
    """|mean_1 - mean_2|^2 + Tr(cov_1 + cov_2 - 2 (cov_1 cov_2)^1/2) >= 0.

    Means are (D,), covariances (D, D) and symmetric; they may be singular. The trace of the root
    is the sum of the roots of the eigenvalues of R^T cov_2 R, where R R^T = cov_1. That matrix is
    symmetric, so its eigenvalues are real and fast to compute.
    """
    arrays = [np.asarray(x, np.float64) for x in (mean_1, cov_1, mean_2, cov_2)]
    dims, shapes = np.size(mean_1), [x.shape for x in arrays]
    if shapes != [(dims,), (dims, dims)] * 2:
        raise ValueError(f"frechet_distance takes (D,), (D, D), (D,), (D, D), not {shapes}")
    if not all(np.isfinite(x).all() for x in arrays):
        raise ValueError("frechet_distance takes finite numbers: these hold NaN or infinity")
    mean_1, cov_1, mean_2, cov_2 = arrays
    rounding = dims * np.finfo(np.float64).eps
    root = _root(cov_1, rounding)
    squares = np.linalg.eigvalsh(root.T @ (cov_2 @ root))
    if len(squares) and squares[0] < rounding * squares[-1]:  # cov_2 may be of lower rank
        rank = np.linalg.matrix_rank(cov_2, rtol=rounding, hermitian=True)
        squares = squares[max(0, len(squares) - rank) :]
    trace_of_root = np.sqrt(np.maximum(squares, 0)).sum()
    gap = mean_1 - mean_2
    return max(0.0, float(gap @ gap + np.trace(cov_1) + np.trace(cov_2) - 2 * trace_of_root))


def _root(cov, rounding):
    """R of full column rank with R R^T = cov: Cholesky's factor, or, if cov is singular or nearly
    so, the eigenvectors times the roots of their eigenvalues."""
    try:
        root = np.linalg.cholesky(cov)
        pivots = root.diagonal()
        if pivots.min() > 1e-5 * pivots.max():
            return root
    except np.linalg.LinAlgError:
        pass
    values, vectors = np.linalg.eigh(cov)  # ascending
    # eigenvalues that are zero up to rounding are left out, because their roots are not small
    first = np.searchsorted(values, rounding * values[-1], "right")
    return vectors[:, first:] * np.sqrt(values[first:])


def warning(count, dims):
    """One line if `count` samples are too few for features of `dims` dimensions, else None."""
    if count > dims:
        return None
    return (
        f"the Frechet distance is biased upwards: {count:,} images, real or generated, are too few "
        f"for {dims:,} features; report KID instead"
    )

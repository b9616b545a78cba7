"""Fidelity and variety, measured separately, by balls around samples up to their k-th neighbour.

Precision and recall: Kynkaanniemi et al., 2019, arXiv:1904.06991, eq. 1-2. Density and coverage:
Naeem et al., 2020, arXiv:2002.09797, eq. 3-6. The rim belongs to a ball, as in eq. 1. A sample is
not its own neighbour, but an exact copy of it is one, at distance 0.
"""

import numpy as np

from .kid import paired

BLOCK = 1000
ROUNDING = 1e-12


def prepare(real, fake, k, rows):
    """Both in float64, minus the mean of the real rows; ValueError unless `rows` exceeds k >= 1."""
    real, fake = paired(real, fake)
    if not 1 <= k < rows:
        raise ValueError(f"k = {k} neighbours need k >= 1 and k + 1 rows, not {rows}")
    centre = real.mean(0, dtype=np.float64)
    return real - centre, fake - centre


def squared_norms(x):
    """(n, D) -> (n,)."""
    return np.einsum("nd,nd->n", x, x)


def squared_distances(rows, columns):
    """(n, D), (m, D) -> pairs (slice of the rows, squared distances (B, m)), B <= 1000."""
    of_rows, of_columns = squared_norms(rows), squared_norms(columns)
    for start in range(0, len(rows), BLOCK):
        part = slice(start, start + BLOCK)
        squared = rows[part] @ columns.T
        squared *= -2
        squared += of_rows[part, None]
        squared += of_columns
        yield part, squared


def squared_radii(x, k):
    """(n, D), n > k -> squared distance (n,) to the k-th nearest other row, widened by rounding."""
    radii = np.empty(len(x))
    for part, squared in squared_distances(x, x):
        squared.partition(k, axis=1)  # place 0 is the row itself, or its copy
        radii[part] = squared[:, k]
    # |a|^2 + |b|^2 - 2 a.b is as fast as a matrix product, but has an error of about 1e-14 of the
    # norms: a copy is not at distance 0, and equal distances differ. Rows this close beyond the rim
    # therefore count as inside; no network's features are that exact.
    return radii + ROUNDING * (np.maximum(radii, 0) + squared_norms(x))


def precision_recall(*, real, fake, k=3):
    """Features (n, D) and (m, D), n and m > k -> precision, recall, each in [0, 1].

    Precision is the share of fake rows inside the ball of any real row; recall the share of real
    rows inside the ball of any fake row.
    """
    real, fake = prepare(real, fake, k, rows=min(len(real), len(fake)))
    real_radii, fake_radii = squared_radii(real, k), squared_radii(fake, k)
    inside, recalled = 0, np.zeros(len(real), bool)
    for part, squared in squared_distances(fake, real):
        inside += np.count_nonzero((squared <= real_radii).any(1))
        recalled |= (squared <= fake_radii[part, None]).any(0)
    return float(inside / len(fake)), float(recalled.mean())


def density_coverage(*, real, fake, k=5):
    """Features (n, D) and (m, D), n > k -> density >= 0, coverage in [0, 1].

    Density is the number of real rows' balls around a fake row, the mean over the fake rows,
    divided by k; it is near 1 for similar sets. Coverage is the share of real rows with a fake row
    in their ball.
    """
    real, fake = prepare(real, fake, k, rows=len(real))
    radii = squared_radii(real, k)
    inside, covered = 0, np.zeros(len(real), bool)
    for _, squared in squared_distances(fake, real):
        within = squared <= radii
        inside += np.count_nonzero(within)
        covered |= within.any(0)
    return float(inside / (k * len(fake))), float(covered.mean())

"""Fully connected CRF with Gaussian edge potentials (Kraehenbuehl and Koltun, NIPS 2011): moves the
borders of class probabilities to where a picture's colours change.

| paper                                            | here                                     |
|--------------------------------------------------|------------------------------------------|
| psi_u = -log P(x_i)                              | `unary`, negated                         |
| mu, Potts                                        | a class supports itself                  |
| w1 exp(-|p_i - p_j|^2 / 2 sigma_alpha^2          | `w1`, `sigma_alpha`, `sigma_beta`        |
|        -|I_i - I_j|^2 / 2 sigma_beta^2)          |                                          |
| w2 exp(-|p_i - p_j|^2 / 2 sigma_gamma^2)         | `w2`, `sigma_gamma`                      |
| algorithm 1, mean field                          | `refined`                                |
| permutohedral lattice (Adams, Baek, Davis, 2010) | `lattice`; exact: `dense`, `separable`   |

As in the paper's code, with which the published weights were found, k(f_i, f_j) is divided by
sqrt(sum_j k(f_i, f_j) sum_i k(f_i, f_j)), and the sums include j = i.
"""

import numpy as np
from scipy import sparse


def refined(
    p,
    image,
    *,
    w1=4.0,
    sigma_alpha=121.0,
    sigma_beta=5.0,
    w2=3.0,
    sigma_gamma=3.0,
    iterations=10,
    scale=1.0,
    exact=4096,
):
    """Probabilities (H, W, K), picture uint8 (H, W, 3) -> float32 (H, W, K), the mean field's Q.

    The defaults are those published with DeepLab-LargeFOV for VOC 2012. sigma_alpha, sigma_gamma:
    in pixels, times `scale`, which is S / 500 for pictures of S pixels where VOC's have 500.
    sigma_beta: in grey levels from 0 to 255. exact: up to this many pixels the kernel is a matrix
    of 4 (H W)^2 bytes; with more, the lattice approximates it. Where a probability is not finite,
    all classes of that pixel count as equally likely, and a colour that is not finite as 0.
    """
    height, width, classes = p.shape
    if image.shape != (height, width, 3):
        raise ValueError(
            f"a picture of {(height, width, 3)} goes with {p.shape}, not {image.shape}"
        )
    known = np.isfinite(p).all(-1, keepdims=True)
    unary = np.log(np.maximum(np.where(known, p, 1), 1e-8)).reshape(-1, classes).astype(np.float32)
    places = np.indices((height, width)).reshape(2, -1) / (scale * sigma_alpha)
    colours = np.where(np.isfinite(image), image, 0).reshape(-1, 3).T / sigma_beta
    features = np.concatenate((places, colours)).T.astype(np.float32)  # (n, 5)
    count = len(features)
    appearance = normalised(dense(features) if count <= exact else lattice(features), count)
    smoothness = normalised(separable(height, width, scale * sigma_gamma), count)
    q = softmax(unary)
    for _ in range(iterations):
        q = softmax(unary + w1 * appearance(q) + w2 * smoothness(q))
    return q.reshape(p.shape)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def normalised(blur, count):
    """A filter (n, C) -> (n, C), n = count, whose kernel is divided by the roots of its sums."""
    root = 1 / np.sqrt(blur(np.ones((count, 1), np.float32)) + 1e-20)
    return lambda q: root * blur(root * q)


def dense(features):
    """Features (n, d), in standard deviations -> a filter (n, C) -> (n, C): the sum over all j with
    weights exp(-|f_i - f_j|^2 / 2)."""
    kernel = np.zeros((len(features),) * 2, np.float32)
    for values in features.T:
        gap = values[:, None] - values
        gap *= gap
        kernel += gap
    kernel *= -0.5
    np.exp(kernel, out=kernel)
    return lambda q: kernel @ q


def separable(height, width, sigma):
    """`dense` for the places of H x W pixels, exactly: a product over rows and one over columns."""
    rows, columns = (
        dense(np.arange(side)[:, None] / np.float32(sigma)) for side in (height, width)
    )

    def blur(q):
        q = rows(q.reshape(height, -1)).reshape(height, width, -1)
        return columns(q.swapaxes(0, 1).reshape(width, -1)).reshape(width, height, -1)

    return lambda q: blur(q).swapaxes(0, 1).reshape(q.shape)


def lattice(features):
    """`dense`, approximately, up to a factor that `normalised` removes, in time linear in n.

    Features are placed in the plane sum = 0 of d + 1 dimensions, where the lattice A*_d, times
    d + 1, has simplices with d + 1 corners. The values of a point are spread over its corners by
    its barycentric coordinates, blurred with weights 1/4, 1/2, 1/4 along each of d + 1 directions
    of the lattice, and interpolated at the points by the same coordinates. The three steps have
    variances of (d + 1)^2 times 1/12, 1/2 and 1/12; the features are scaled by the root of their
    sum, so that they are one Gaussian together. For pictures of 40 and 64 pixels a side Q differs
    from the exact one by at most 0.003 in the mean with the settings for VOC, and by 0.024 with a
    narrow sigma_beta on a grainy picture.
    """
    count, d = features.shape
    spread = np.zeros((d, d + 1))  # rows: an orthogonal basis of the plane, all of equal length
    for i in range(d):
        spread[i, : i + 1], spread[i, i + 1] = 1, -(i + 1)
        spread[i] *= (d + 1) * np.sqrt(2 / 3) / np.sqrt((i + 1) * (i + 2))
    point = (features.astype(np.float64) - features.mean(0)) @ spread  # (n, d + 1)

    corner = np.rint(point / (d + 1)).astype(np.int64) * (d + 1)
    rank = (corner - point).argsort(1).argsort(1)  # 0: the coordinate rounded down most
    excess = corner.sum(1, keepdims=True) // (d + 1)
    corner -= (d + 1) * (rank > d - excess)
    corner += (d + 1) * (rank < -excess)
    rank = (corner - point).argsort(1).argsort(1)
    left = -np.sort(corner - point, 1)  # from the largest remainder to the smallest
    shares = np.empty((count, d + 1), np.float32)  # of corner k
    shares[:, 1:] = ((left[:, :-1] - left[:, 1:]) / (d + 1))[:, ::-1]
    shares[:, 0] = 1 - shares[:, 1:].sum(1)
    steps = np.arange(d + 1)[:, None, None]  # corner k: k more, or k - d - 1 for the last k ranks
    corners = corner + steps - (d + 1) * (rank > d - steps)  # (d + 1, n, d + 1)

    corners = corners[..., :d]  # the last coordinate follows from the others
    low, high = corners.min((0, 1)) - d, corners.max((0, 1)) + d
    radix = np.concatenate(([1], np.cumprod(high - low + 1)[:-1]))
    codes, place = np.unique((corners - low) @ radix, return_inverse=True)
    points = np.tile(np.arange(count), d + 1)
    interpolate = sparse.csr_array((shares.T.ravel(), (points, place.ravel())), (count, len(codes)))
    splat, exchanges = interpolate.T.tocsr(), []
    for axis in range(d + 1):
        step = np.ones(d, np.int64)
        step[axis : axis + 1] = -d  # along the last axis all coordinates that are kept grow by 1
        _, here, there = np.intersect1d(codes, codes + step @ radix, True, return_indices=True)
        quarter = np.full(len(here), 0.25, np.float32)
        link = sparse.csr_array((quarter, (here, there)), (len(codes),) * 2)
        half = sparse.eye_array(len(codes), dtype=np.float32) * np.float32(0.5)
        exchanges.append((half + link + link.T).tocsr())

    def blur(q):
        values = splat @ q
        for exchange in exchanges:
            values = exchange @ values
        return interpolate @ values

    return blur

"""Kernel distance of two sets of features (Binkowski et al., 2018, arXiv:1801.01401, section 4).

It is unbiased for any number of samples, so it is sometimes slightly negative for similar sets.
"""

import numpy as np


def paired(real, fake):
    """Both as arrays (n, D), (m, D) of finite numbers, neither empty; else ValueError."""
    real, fake = np.asarray(real), np.asarray(fake)
    if (
        real.ndim != 2
        or fake.ndim != 2
        or real.shape[1] != fake.shape[1]
        or not (real.size and fake.size)
    ):
        raise ValueError(f"features are (n, D) and (m, D), not {real.shape} and {fake.shape}")
    if not (np.isfinite(real).all() and np.isfinite(fake).all()):
        raise ValueError("features are finite numbers: these hold NaN or infinity")
    return real, fake


def kernel(x, y):
    """(n, D), (m, D) -> (x . y / D + 1)^3, (n, m)."""
    base = x @ y.T
    base /= x.shape[1]
    base += 1
    return base * base * base


def between_others(x):
    """Mean kernel over the pairs of two different rows of x (n, D), n >= 2."""
    k = kernel(x, x)
    return (k.sum() - np.trace(k)) / (len(x) * (len(x) - 1))


def mmd2(*, real, fake):
    """Features (n, D) and (m, D), n and m >= 2 -> unbiased squared maximum mean discrepancy."""
    real, fake = (np.asarray(x, np.float64) for x in paired(real, fake))
    if min(len(real), len(fake)) < 2:
        raise ValueError(f"mmd2 needs 2 rows of each side, not {len(real)} and {len(fake)}")
    return float(between_others(real) + between_others(fake) - 2 * kernel(real, fake).mean())


def kid(*, real, fake, subsets=100, subset_size=1000, seed=2020):
    """Features (n, D) and (m, D) -> mean and standard deviation (ddof 0) of mmd2 over subsets.

    Each subset is drawn without replacement, of the fake rows first, as torch-fidelity does with
    its inputs 1 (fake) and 2 (real). Where every subset is all rows of both sides, the deviation
    is None.
    """
    real, fake = paired(real, fake)
    if min(len(real), len(fake)) < subset_size:
        raise ValueError(
            f"kid draws subsets of {subset_size} from {len(real)} real and {len(fake)} fake rows: "
            f"take more samples or subset_size <= {min(len(real), len(fake))}"
        )
    if len(real) == len(fake) == subset_size:
        return mmd2(real=real, fake=fake), None
    rng = np.random.RandomState(seed)
    values = []
    for _ in range(subsets):
        of_fake = rng.choice(len(fake), subset_size, replace=False)
        of_real = rng.choice(len(real), subset_size, replace=False)
        values.append(mmd2(real=real[of_real], fake=fake[of_fake]))
    return float(np.mean(values)), float(np.std(values))


def cuts(count, blocks):
    """The blocks + 1 borders of `blocks` parts of nearly equal size, the larger ones last."""
    size, larger = divmod(count, blocks)
    part = np.arange(blocks + 1)
    return part * size + np.maximum(part - (blocks - larger), 0)


def kid_blocks(*, real, fake, block_size=10):
    """Features (n, D) and (m, D) -> mean of mmd2 over blocks, and its standard error.

    Both sides are cut, in their order, into ceil(max(n, m) / block_size) blocks of nearly equal
    size, the larger ones last: the protocol of tensorflow/gan and compare_gan. The tables of
    AttentionGAN and U-GAT-IT use blocks of 10 and print both numbers times 100. One block alone has
    no error: it is None.
    """
    real, fake = paired(real, fake)
    blocks = -(-max(len(real), len(fake)) // block_size)
    if min(len(real), len(fake)) < 2 * blocks:
        raise ValueError(
            f"kid_blocks needs 2 rows of each side in each of {blocks} blocks, not {len(real)} "
            f"real and {len(fake)} fake rows in all: take a larger block_size or as many of both"
        )
    of_real, of_fake = cuts(len(real), blocks), cuts(len(fake), blocks)
    values = [
        mmd2(real=real[a:b], fake=fake[c:d])
        for a, b, c, d in zip(of_real, of_real[1:], of_fake, of_fake[1:])
    ]
    error = float(np.sqrt(np.var(values, ddof=1) / blocks)) if blocks > 1 else None
    return float(np.mean(values)), error

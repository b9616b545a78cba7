"""Inception score of a classifier's logits (Salimans et al., 2016, arXiv:1606.03498, section 4)."""

import numpy as np

SPLITS = 10


def score(logits):
    """(n, C) -> exp of the mean KL(p(y|x) || p(y)), in [1, C]; p(y) is the mean of these rows.

    The mean KL is the entropy of p(y) minus the mean entropy of p(y|x). A logit may be -infinity.
    """
    logits = np.asarray(logits, np.float64)
    top = logits.max(1, keepdims=True)
    if not np.isfinite(top).all():
        raise ValueError("the inception score takes logits below infinity: these hold it or NaN")
    with np.errstate(over="ignore"):
        log_p = logits - top
    log_p -= np.log(np.exp(log_p).sum(1, keepdims=True))
    log_p = np.maximum(log_p, -800)  # exp(-800) is 0 as well, and 0 * -800 is no NaN
    p = np.exp(log_p)
    marginal = p.mean(0)
    marginal = marginal[marginal > 0]
    entropy = -np.sum(p * log_p, 1).mean()
    return np.exp(-np.sum(marginal * np.log(marginal)) - entropy)


def inception_score(logits, splits=SPLITS, seed=2020):
    """(N, C), N >= 2 splits -> mean and standard deviation (ddof 0) of the score over the splits.

    The rows are shuffled by the seed and cut at floor(i N / splits), as torch-fidelity does, so the
    score depends on their order. Of one row alone it would always be 1.
    """
    logits = np.asarray(logits)
    if logits.ndim != 2:
        raise ValueError(f"logits are (N, C), not {logits.shape}")
    count = len(logits)
    if splits < 1 or count < 2 * splits:
        raise ValueError(
            f"{count} rows of logits cannot fill {splits} splits: each takes 2 rows at least"
        )
    order = np.random.RandomState(seed).permutation(count)
    edges = [i * count // splits for i in range(splits + 1)]
    scores = [score(logits[order[a:b]]) for a, b in zip(edges, edges[1:])]
    return float(np.mean(scores)), float(np.std(scores))

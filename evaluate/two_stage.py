"""When to stop: first FID, then the discriminator's loss (SAGAN on Stanford Dogs, section 4).

The document sees FID at rest from step 15,000 and the discriminator's loss improving until 24,000,
and the pictures with it; it advises to wait for the first and then for the second.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stages:
    """Steps, or None where not reached. score_best, loss_best: the last improvement of each;
    score_rest, loss_rest: when it was known to be the last. loss_rest is where to stop."""

    score_best: int = None
    score_rest: int = None
    loss_best: int = None
    loss_rest: int = None


def rest(values, window, tolerance):
    """Indices (best, rest) of the first value that `window` later ones did not improve on.

    Lower is better; an improvement is more than tolerance * |best|. None where there is none.
    """
    best = 0
    for i in range(1, len(values)):
        if values[i] < values[best] - tolerance * abs(values[best]):
            best = i
        elif i - best >= window:
            return best, i
    return None


def means(rows, metric, loss="d_loss"):
    """[(step of an evaluation, mean of a loss since the one before)]; none where there was none."""
    found, since = [], []
    for row in rows:
        if loss in row:
            since.append(row[loss])
        if metric in row and since:
            found.append((row["step"], sum(since) / len(since)))
            since = []
    return found


def stages(rows, metric, window, tolerance, higher=False, loss="d_loss"):
    """Rows of metrics.jsonl -> Stages.

    metric: its values, in the order of the steps, are the first stage's. The second stage's are
    the means of `loss` between one evaluation and the next, from the first stage's best step on.
    """
    sign = -1 if higher else 1
    scores = [(row["step"], sign * row[metric]) for row in rows if metric in row]
    first = rest([value for _, value in scores], window, tolerance)
    if first is None:
        return Stages()
    best, known = (scores[i][0] for i in first)
    later = [(step, value) for step, value in means(rows, metric, loss) if step >= best]
    second = rest([value for _, value in later], window, tolerance)
    if second is None:
        return Stages(best, known)
    ends = [later[i][0] for i in second]
    return Stages(best, known, ends[0], max(ends[1], known))

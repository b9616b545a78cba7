"""When to stop: first FID, then the discriminator's loss (SAGAN on Stanford Dogs, section 4).

In the document FID stops improving at step 15,000, and the discriminator's loss at 24,000; the
pictures improve until then. It advises to wait for the first and then for the second.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stages:
    """Steps, or None if not reached. score_best, loss_best: the step of the last improvement;
    score_rest, loss_rest: the step at which it counts as the last. Training stops at loss_rest."""

    score_best: int = None
    score_rest: int = None
    loss_best: int = None
    loss_rest: int = None


def rest(values, window, tolerance):
    """Indices (best, rest): of the first value on which the next `window` values do not improve,
    and of the last of these; or None if there is none.

    Lower is better; an improvement is more than tolerance * |best|.
    """
    best = 0
    for i in range(1, len(values)):
        if values[i] < values[best] - tolerance * abs(values[best]):
            best = i
        elif i - best >= window:
            return best, i
    return None


def means(rows, metric, loss="d_loss"):
    """[(step of an evaluation, mean of a loss since the one before)], without evaluations that no
    loss precedes."""
    points, since = [], []
    for row in rows:
        if loss in row:
            since.append(row[loss])
        if metric in row and since:
            points.append((row["step"], sum(since) / len(since)))
            since = []
    return points


def stages(rows, metric, window, tolerance, higher=False, loss="d_loss"):
    """Rows of metrics.jsonl -> Stages.

    The first stage looks at the values of `metric`, in the order of the steps; the second one at
    the means of `loss` between two evaluations, from the best step of the first stage on.
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

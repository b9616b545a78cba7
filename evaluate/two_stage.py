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


def stages(rows, metric, window, tolerance, higher=False, loss="d_loss"):
    """Rows of metrics.jsonl -> Stages.

    metric: its values, in the order of the steps, are the first stage's. The second stage's are
    the means of `loss` between one evaluation and the next, from the first stage's best step on.
    """
    scores, losses, open_losses = [], [], []
    for row in rows:
        if loss in row:
            open_losses.append(row[loss])
        if metric in row:
            scores.append((row["step"], -row[metric] if higher else row[metric]))
            if open_losses:
                losses.append((row["step"], sum(open_losses) / len(open_losses)))
                open_losses = []
    first = rest([value for _, value in scores], window, tolerance)
    if first is None:
        return Stages()
    best, known = (scores[i][0] for i in first)
    later = [(step, value) for step, value in losses if step >= best]
    second = rest([value for _, value in later], window, tolerance)
    if second is None:
        return Stages(best, known)
    ends = [later[i][0] for i in second]
    return Stages(best, known, ends[0], max(ends[1], known))

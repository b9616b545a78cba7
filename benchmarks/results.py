"""Results as JSON lines: kept, shown as a table, compared.

The first line of a file is the machine (benchmarks.machine). Each other one is a result: "name",
what was measured, "side", by whom, "unit", "rounds", a value each, and where it is known
"megabytes", the process' peak; of a training step also "flops" per image, and with ours "peak",
the machine's GFLOP/s at that time. Rounds of equal number were taken one after the other, so that
sides are compared round by round.
"""

import json
import math
import statistics
from collections import Counter

LOWER = ("s", "ms", "%")  # units of which less is better
LEVEL, FLOOR = 0.01, 0.03  # what `verdict` calls a change
MEMORY = 0.05  # share by which a peak must differ, as there is one for all rounds


def read(path):
    """(the machine, results) of a file; one that is not of this suite raises ValueError."""
    try:
        first, *rows = [json.loads(line) for line in path.read_text().splitlines()]
        return first["machine"], [row for row in rows if row["rounds"]]
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            f"{path} is no file of results: python -m benchmarks writes them"
        ) from None


def rank_test(a, b):
    """p of the exact two-sided rank-sum test (Wilcoxon; Mann and Whitney, 1947): the share of all
    ways to deal the values out to sides as large as a and b in which the mean rank of one is at
    least as far from the other's as it is. Equal values share their mean rank."""
    values = sorted([*a, *b])
    first = {v: i for i, v in reversed(list(enumerate(values)))}
    count = Counter(values)
    ranks = [2 * first[v] + count[v] - 1 for v in values]  # twice the mean rank, from 0
    ways = [Counter() for _ in range(len(a) + 1)]  # of k values: {sum of ranks: ways}
    ways[0][0] = 1
    for rank in ranks:
        for k in range(len(a), 0, -1):
            for total, n in ways[k - 1].items():
                ways[k][total + rank] += n
    middle = len(a) * sum(ranks) / len(ranks)
    off = abs(sum(2 * first[v] + count[v] - 1 for v in a) - middle)
    extreme = sum(n for total, n in ways[-1].items() if abs(total - middle) >= off - 1e-9)
    return extreme / math.comb(len(values), len(a))


def verdict(old, new):
    """(ratio of the medians, p, "change", "noise" or "too few rounds") of two lists of rounds.

    A change has p < LEVEL in the rank test and moves the median by FLOOR or more. Within a run
    rounds resemble each other more than those of two runs, which makes p too small: hence FLOOR.
    """
    ratio, p = statistics.median(new) / statistics.median(old), rank_test(old, new)
    if 2 / math.comb(len(old) + len(new), len(old)) >= LEVEL:
        return ratio, p, "too few rounds"
    return ratio, p, "change" if p < LEVEL and abs(math.log(ratio)) >= FLOOR else "noise"


def beside(rows):
    """The ratios of the side "ours" to each other one, and of "ours N", with N replicas, to "ours",
    round by round: what makes the machine slower for both is not in them."""
    ours = {row["name"]: row for row in rows if row["side"] == "ours"}
    found = []
    for row in rows:
        own = ours.get(row["name"])
        if own and own is not row and len(own["rounds"]) == len(row["rounds"]):
            pair = (row, own) if row["side"].startswith("ours ") else (own, row)
            ratios = [a / b for a, b in zip(*(one["rounds"] for one in pair))]
            side = " / ".join(one["side"] for one in pair)
            found.append({"name": row["name"], "side": side, "unit": row["unit"], "rounds": ratios})
    return found


def compare(old, new):
    """Lines of text: what differs between the machines, then a line for each result of both."""
    (old_machine, old), (new_machine, new) = old, new
    lines = [
        f"machine: {key} was {old_machine.get(key)}, is {value}"
        for key, value in new_machine.items()
        if value != old_machine.get(key) and key != "date"
    ]
    held = {(row["name"], row["side"]): row for row in [*old, *beside(old)]}
    for row in [*new, *beside(new)]:
        before = held.pop((row["name"], row["side"]), None)
        if before is None:
            lines.append(f"{row['name']}, {row['side']}: new")
            continue
        ratio, p, said = verdict(before["rounds"], row["rounds"])
        if said == "change":
            better = (ratio < 1) == (row["unit"] in LOWER)
            said = "change, better" if better else "change, worse"
        line = f"{row['name']}, {row['side']}: {ratio:.3f} of before, p {p:.2g}: {said}"
        if "megabytes" in row and "megabytes" in before:
            share = row["megabytes"] / before["megabytes"]
            same = abs(math.log(share)) < MEMORY
            line += f"; peak memory {share:.3f} of before: {'noise' if same else 'change'}"
        lines.append(line)
    lines += [f"{name}, {side}: no longer measured" for name, side in held]
    return lines


def spread(values, digits=3):
    """Median (lowest to highest), to so many digits that count."""

    def text(value):
        return f"{value:.{max(0, digits - 1 - math.floor(math.log10(value)))}f}" if value else "0"

    return f"{text(statistics.median(values))} ({text(min(values))} to {text(max(values))})"


def table(rows):
    """A Markdown table of results: a line for each, ours with its share of the convolution peak,
    another side with the ratio to ours, round by round."""
    lines = ["| | side | median (lowest to highest) | peak MiB | |", "|---|---|---|---|---|"]
    ratios = {(row["name"], row["side"]): row for row in beside(rows)}
    for row in rows:
        more, name, side = "", row["name"], row["side"]
        if "peak" in row:
            used = statistics.median(row["rounds"]) * row["flops"] / 1e9
            more = f"{used:.3g} GFLOP/s, {used / row['peak']:.0%} of {row['peak']:.3g}"
        for pair in (f"ours / {side}", f"{side} / ours"):
            if (name, pair) in ratios:
                more = f"{pair}: {spread(ratios[name, pair]['rounds'])}"
        memory = f"{row['megabytes']:.0f}" if "megabytes" in row else ""
        value = f"{spread(row['rounds'])} {row['unit']}"
        lines.append(f"| {name} | {side} | {value} | {memory} | {more} |")
    return lines

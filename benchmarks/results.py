"""Files of results: reading, tables, comparison.

A file has JSON lines. The first one is the machine (benchmarks.machine); each of the others is a
result: "name", what was measured, "side", the implementation, "unit", "rounds", a list of values,
and if known "megabytes", the peak of the process. Our training steps also have "flops" per image
and "peak", the machine's GFLOP/s at that time. The sides take turns, so round i of one side is
compared with round i of another.
"""

import json
import math
import statistics
from collections import Counter

LOWER = ("s", "ms", "%")  # units in which lower is better
LEVEL, FLOOR = 0.01, 0.03  # of a change, see `verdict`
SIDES = ("ours", "torch eager", "torch compiled")  # of a training step
MEMORY = 0.05  # the relative difference of peaks that is a change; there is one peak for all rounds


def read(path):
    """(machine, results) of a file; a file of another kind raises ValueError."""
    try:
        first, *rows = [json.loads(line) for line in path.read_text().splitlines()]
        return first["machine"], [row for row in rows if row["rounds"]]
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            f"{path} is not a file of results: python -m benchmarks writes them"
        ) from None


def rank_test(a, b):
    """p of the exact two-sided rank-sum test (Wilcoxon; Mann and Whitney, 1947).

    p is the share of all ways to split the values into samples of the sizes of a and b in which the
    rank sum of a is at least as far from its mean as here. Equal values have their mean rank.
    """
    values = sorted([*a, *b])
    first = {v: i for i, v in reversed(list(enumerate(values)))}
    count = Counter(values)
    ranks = [2 * first[v] + count[v] - 1 for v in values]  # twice the mean rank, from 0
    ways = [Counter() for _ in range(len(a) + 1)]  # ways[k]: {rank sum of k values: number of ways}
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

    A change has p < LEVEL in the rank test and a median that differs by FLOOR or more. Rounds of
    one run are more alike than rounds of two runs, which makes p too small; hence FLOOR.
    """
    ratio, p = statistics.median(new) / statistics.median(old), rank_test(old, new)
    if 2 / math.comb(len(old) + len(new), len(old)) >= LEVEL:
        return ratio, p, "too few rounds"
    return ratio, p, "change" if p < LEVEL and abs(math.log(ratio)) >= FLOOR else "noise"


def side_ratios(rows):
    """Rows with the ratios of "ours" to each other side, and of "ours N", with N replicas, to
    "ours", round by round. A slowdown of the machine that affects both sides cancels out."""
    ours = {row["name"]: row for row in rows if row["side"] == "ours"}
    ratios = []
    for row in rows:
        our_row = ours.get(row["name"])
        if our_row and our_row is not row and len(our_row["rounds"]) == len(row["rounds"]):
            a, b = (row, our_row) if row["side"].startswith("ours ") else (our_row, row)
            rounds = [x / y for x, y in zip(a["rounds"], b["rounds"])]
            side = f"{a['side']} / {b['side']}"
            ratios.append(
                {"name": row["name"], "side": side, "unit": row["unit"], "rounds": rounds}
            )
    return ratios


def compare(old, new):
    """Lines of text: the differences of the machines, then the comparison of each result."""
    (old_machine, old), (new_machine, new) = old, new
    lines = [
        f"machine: {key} was {old_machine.get(key)}, is {value}"
        for key, value in new_machine.items()
        if value != old_machine.get(key) and key != "date"
    ]
    old_rows = {(row["name"], row["side"]): row for row in [*old, *side_ratios(old)]}
    for row in [*new, *side_ratios(new)]:
        before = old_rows.pop((row["name"], row["side"]), None)
        if before is None:
            lines.append(f"{row['name']}, {row['side']}: new")
            continue
        ratio, p, result = verdict(before["rounds"], row["rounds"])
        if result == "change":
            better = (ratio < 1) == (row["unit"] in LOWER)
            result = "change, better" if better else "change, worse"
        line = f"{row['name']}, {row['side']}: {ratio:.3f} of before, p {p:.2g}: {result}"
        if "megabytes" in row and "megabytes" in before:
            memory_ratio = row["megabytes"] / before["megabytes"]
            same = abs(math.log(memory_ratio)) < MEMORY
            line += f"; peak memory {memory_ratio:.3f} of before: {'noise' if same else 'change'}"
        lines.append(line)
    lines += [f"{name}, {side}: no longer measured" for name, side in old_rows]
    return lines


def spread(values, digits=3):
    """Median (lowest to highest), with that number of significant digits."""

    def text(value):
        return f"{value:.{max(0, digits - 1 - math.floor(math.log10(value)))}f}" if value else "0"

    return f"{text(statistics.median(values))} ({text(min(values))} to {text(max(values))})"


def table(rows):
    """The lines of a Markdown table: one per result; ours with its share of the convolution peak,
    other sides with the ratio to ours, round by round."""
    lines = ["| | side | median (lowest to highest) | peak MiB | |", "|---|---|---|---|---|"]
    ratios = {(row["name"], row["side"]): row for row in side_ratios(rows)}
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


def steps(rows):
    """Yields (network, precision, [row of each of SIDES], ratios) for each network and precision
    that all sides have; ratios: of ours to the side of PyTorch whose median is higher, round by
    round."""
    found = {(row["name"], row["side"]): row for row in rows}
    for name in dict.fromkeys(row["name"] for row in rows):
        sides = [found.get((name, side)) for side in SIDES]
        if all(sides):
            ours, *others = sides
            best = max(others, key=lambda row: statistics.median(row["rounds"]))
            network, _, precision = name.partition(" in ")
            ratios = [a / b for a, b in zip(ours["rounds"], best["rounds"])]
            yield network, precision or "float32", sides, ratios


def step_table(rows):
    """The lines of a Markdown table of training steps beside PyTorch's, eager and compiled."""
    head = "| | precision | ours, images/s | PyTorch eager | PyTorch compiled | "
    head += "ours / the best of PyTorch | share of peak | MiB: ours, eager, compiled |"
    lines, above = [head, "|---" * 8 + "|"], None
    for network, precision, sides, ratios in steps(rows):
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        ours = sides[0]
        used = statistics.median(ours["rounds"]) * ours["flops"] / 1e9 / ours["peak"]
        model, _, more = network.partition(",")
        label, above = "" if network == above else f"`{model}`,{more}", network
        cells = [label, precision, *(spread(row["rounds"]) for row in sides), ratio, f"{used:.0%}"]
        memory = ", ".join(f"{row['megabytes']:.0f}" for row in sides)
        lines.append(f"| {' | '.join([*cells, memory])} |")
    return lines


def step_summary(rows):
    """{PRECISION/FIGURE: number} of training steps: how many "networks" there are, of how many ours
    is "ahead" by the median of the ratios, and the "mean" of these, a geometric one."""
    medians = {}
    for _, precision, _, ratios in steps(rows):
        medians.setdefault(precision, []).append(statistics.median(ratios))
    found = {}
    for precision, values in medians.items():
        found[f"{precision}/networks"] = len(values)
        found[f"{precision}/ahead"] = sum(value > 1 for value in values)
        found[f"{precision}/mean"] = statistics.geometric_mean(values)
    return found

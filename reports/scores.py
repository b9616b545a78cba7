"""Logged values as curves, which direction of a score is better, and numbers as text."""

import math

import numpy as np

LOWER = ("fid_", "sfid_", "kid_", "swd_", "l1_truth_")  # scores of which lower is better
HIGHER = ("is_", "classes_", "entropy_", "precision_", "recall_", "density_", "coverage_")
HIGHER += ("breeds_", "dogs_")
HIGHER += ("mean_class_accuracy_",)
HIGHER += ("accuracy_", "map_", "miou_", "maxboxacc_", "pxap_", "iou_", "pointing_")
HIGHER += ("attention_iou_", "background_psnr_", "background_ssim_")


def better(name):
    """ "higher" or "lower"; None for a name that is not a score's, as "d_loss"."""
    return "lower" if name.startswith(LOWER) else "higher" if name.startswith(HIGHER) else None


def titled(name):
    return f"{name}: {better(name)} is better" if better(name) else name


def with_deviation(row):
    """The value of a score's row as text, with its deviation where it has one."""
    deviation = f" ± {number(row['deviation'])}" if "deviation" in row else ""
    return f"{number(row.get('value'))}{deviation}"


def line(row):
    """A score's row as a line to read: "kid_x_1k_test: 0.0123 ± 0.001, 1,000 images, lower is
    better"."""
    parts = [f"{row['metric']}: {with_deviation(row)}", f"{number(row['count'])} images"]
    if direction := better(row["metric"]):
        parts.append(f"{direction} is better")
    return ", ".join(parts)


def best(name, points):
    """(step, value) of the first best value of a curve (n, 2)."""
    find = np.argmax if better(name) == "higher" else np.argmin
    return points[find(points[:, 1])]


def number(value):
    """A number as text: an int in full, another with four digits; "–" for None."""
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def series(rows):
    """Rows of metrics.jsonl -> {name: (n, 2) of step and value}, finite numbers only."""
    points = {}
    for row in rows:
        for name, value in row.items():
            if name != "step" and isinstance(value, int | float) and math.isfinite(value):
                points.setdefault(name, []).append((row["step"], value))
    return {name: np.array(pairs, float) for name, pairs in points.items()}

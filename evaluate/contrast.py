"""Several runs side by side: their pictures at each milestone, their curves, one table, one page.

A run is a dict: "name", "rows" of its metrics.jsonl, "pictures" [(step, uint8 (8 S, 8 S, 3))] and
"stages", a two_stage.Stages. A figure is PNG bytes.
"""

import base64
import io
import textwrap
from html import escape

import numpy as np

from . import two_stage
from .report import CSS, PAGE

SHOWN = 4  # columns and rows of a grid's 8 x 8 samples
SHADES = ("#1b6ca8", "#e08e0b", "#6b4a9e", "#3d7a3d", "#b3261e", "#6b6b6b")
DASHES = ("-", "--", "-.", ":", "-", "--")


def curve(rows, name):
    """(n, 2): step and value of each row that has the name."""
    return np.array([(row["step"], row[name]) for row in rows if name in row], float).reshape(-1, 2)


def _figure(width, height, *grid):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, np.atleast_1d(figure.subplots(*grid or (1, 1)))


def _png(figure):
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()


def _logarithmic(place):
    place.set_yscale("log")
    for which in (place.yaxis.set_major_formatter, place.yaxis.set_minor_formatter):
        which("{x:g}")


def grids(runs, most=6):
    """The same noise at the same steps: a column a run, a row a milestone, at most `most` of them,
    first and last among these."""
    steps = sorted(set.intersection(*({step for step, _ in run["pictures"]} for run in runs)))
    count = min(most, len(steps))
    chosen = [steps[round(i * (len(steps) - 1) / max(1, count - 1))] for i in range(count)]
    figure, axes = _figure(2.2 * len(runs), 2.25 * count, count, len(runs))
    for row, step in zip(axes.reshape(count, -1), chosen):
        for place, run in zip(row, runs):
            picture = dict(run["pictures"])[step]
            side = picture.shape[0] // 8 * SHOWN
            place.imshow(picture[:side, :side], interpolation="nearest")
            place.set(xticks=[], yticks=[])
            if step == chosen[0]:
                place.set_title(run["name"], fontsize=9)
        row[0].set_ylabel(f"step {step:,}", fontsize=9)
    return _png(figure)


def curves(runs, metrics, labels):
    """A panel a metric, a line a run."""
    figure, axes = _figure(4.6 * len(metrics), 3.6, 1, len(metrics))
    for place, metric, label in zip(axes, metrics, labels):
        for run, shade, dash in zip(runs, SHADES, DASHES):
            steps, values = curve(run["rows"], metric).T
            place.plot(steps, values, dash, color=shade, label=run["name"], marker=".")
        place.set(xlabel="step", ylabel=label)
        place.grid(alpha=0.3)
        if "fid" in metric:
            _logarithmic(place)
    axes[0].legend(fontsize=8, frameon=False)
    return _png(figure)


def maps(images, masks, found):
    """Images uint8 (N, S, S, 3) with the outline of their masks (N, S, S), and below each a row of
    {name: maps (N, S, S) in [0, 1]}, one an image."""
    figure, axes = _figure(1.1 * len(images), 1.15 * (1 + len(found)), 1 + len(found), len(images))
    rows = {"image, mask": images, **found}
    for i, (line, (name, shown)) in enumerate(zip(axes.reshape(len(rows), -1), rows.items())):
        for place, picture, mask in zip(line, shown, masks):
            place.imshow(picture, cmap="magma", vmin=0, vmax=1, interpolation="nearest")
            place.contour(mask, [0.5], colors="#e33" if i == 0 else "#fff", linewidths=0.8)
            place.set(xticks=[], yticks=[])
        line[0].set_ylabel(textwrap.fill(name, 16), fontsize=8)
    return _png(figure)


def pictures(rows):
    """{name: pictures uint8 (N, S, S, 3)} -> a row a name, a column an image."""
    count = len(next(iter(rows.values())))
    figure, axes = _figure(1.3 * count, 1.35 * len(rows), len(rows), count)
    for line, (name, shown) in zip(axes.reshape(len(rows), -1), rows.items()):
        for place, picture in zip(line, shown):
            place.imshow(picture, interpolation="nearest")
            place.set(xticks=[], yticks=[])
        line[0].set_ylabel(textwrap.fill(name, 22), fontsize=7)
    return _png(figure)


def losses(runs, metric, label):
    """A panel a run: the metric, the discriminator's loss, and where the two-stage rule stops."""
    figure, axes = _figure(3.4 * len(runs), 3.2, 1, len(runs))
    for place, run in zip(axes, runs):
        place.plot(*curve(run["rows"], metric).T, color=SHADES[0], marker=".")
        if "fid" in metric:
            _logarithmic(place)
        place.set_title(run["name"], fontsize=9)
        place.set_xlabel("step")
        place.set_ylabel(label, color=SHADES[0])
        other = place.twinx()
        means = np.array(two_stage.means(run["rows"], metric), float).reshape(-1, 2)
        other.plot(*means.T, "--", color=SHADES[1], marker=".")
        other.set_ylabel("discriminator's loss", color=SHADES[1])
        stops = {"score_rest": (SHADES[0], "at rest"), "loss_rest": (SHADES[1], "stop")}
        for key, (shade, word) in stops.items():
            step = getattr(run["stages"], key)
            if step is not None:
                place.axvline(step, color=shade, linestyle=":")
                place.text(step, 0.98, f" {word}", transform=place.get_xaxis_transform(), va="top")
    return _png(figure)


def table(runs, metrics):
    """[[run, then of each metric its last value and its best with the step]], the first row heads.

    metrics: {name: is more better?}.
    """
    lines = [["run", "steps", *(f"{m}: last; best (step)" for m in metrics), "stop"]]
    for run in runs:
        cells = [run["name"], f"{max(row['step'] for row in run['rows']):,}"]
        for name, higher in metrics.items():
            points = curve(run["rows"], name)
            if not len(points):
                cells.append("not reached")
                continue
            step, best = points[(np.argmax if higher else np.argmin)(points[:, 1])]
            cells.append(f"{points[-1, 1]:.4g}; {best:.4g} ({step:,.0f})")
        stop = run["stages"].loss_rest
        lines.append([*cells, "not reached" if stop is None else f"{stop:,}"])
    return lines


def markdown(lines):
    """Rows of cells -> a Markdown table."""
    head, *rest = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([head, "|---" * len(lines[0]) + "|", *rest]) + "\n"


def page(title, about, lines, figures):
    """One HTML page, whole in itself. about: lines of text. figures: {caption: PNG}."""
    cells = [
        "".join(f"<{'td' if i else 'th'}>{escape(c)}</{'td' if i else 'th'}>" for c in line)
        for i, line in enumerate(lines)
    ]
    rows = "\n".join(f"<tr>{line}</tr>" for line in cells)
    body = [f"<header>\n<h1>{escape(title)}</h1>"]
    body += [f"<p>{escape(line)}</p>" for line in about]
    body += ["</header>", f'<div class="scroll"><table>{rows}</table></div>']
    for caption, data in figures.items():
        source = base64.b64encode(data).decode()
        body.append(
            f"<section>\n<h2>{escape(caption)}</h2>\n"
            f'<img alt="{escape(caption)}" src="data:image/png;base64,{source}">\n</section>'
        )
    return PAGE.format(title=escape(title), css=CSS, body="\n".join(body))

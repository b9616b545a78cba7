"""Several runs side by side: pictures at the same steps, curves, a table, one page.

Each function that draws returns PNG bytes.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from . import pages, plots
from .scores import best, series

SHOWN = 4  # columns and rows shown of a grid of 8 x 8 samples


@dataclass(frozen=True)
class Run:
    """rows: of metrics.jsonl. pictures: [(step, path of a PNG of 8 x 8 samples)]. losses: [(step of
    an evaluation, the discriminator's mean loss since the one before)]. score_rest, loss_rest: the
    steps at which the two stages of the stopping rule settled, or None."""

    name: str
    rows: list
    pictures: list = ()
    losses: list = ()
    score_rest: int = None
    loss_rest: int = None

    def curve(self, metric):
        """(n, 2): steps and values of a metric; n is 0 where it was not measured."""
        return series(self.rows).get(metric, np.empty((0, 2)))


def grids(runs, most=6):
    """The same noise at the same steps: a column per run, a row per step, `most` of them at most,
    the first and the last included. Only the pictures shown are read. Runs without any picture stay
    white, but for one at least."""
    paths = [dict(run.pictures) for run in runs]
    steps = sorted(set.intersection(*(set(run) for run in paths if run)))
    count = min(most, len(steps))
    rows = {}
    for step in (steps[round(i * (len(steps) - 1) / max(1, count - 1))] for i in range(count)):
        pictures = [Image.open(run[step]) if run else None for run in paths]
        size = next(picture.size for picture in pictures if picture)
        side = size[0] // 8 * SHOWN
        pictures = [picture or Image.new("RGB", size, "white") for picture in pictures]
        rows[f"step {step:,}"] = [np.asarray(picture)[:side, :side] for picture in pictures]
    figure, _ = plots.picture_rows(rows, [run.name for run in runs], side=2.2, fontsize=9)
    return plots.png(figure)


def curves(runs, metrics, labels):
    """A panel per metric, a line per run."""
    lines, columns = -(-len(metrics) // 2), min(len(metrics), 2)
    figure, axes = plots.panels(4.6 * columns, 3.6 * lines, lines, columns)
    for place in axes.flat[len(metrics) :]:
        place.set_axis_off()
    for place, metric, label in zip(axes.flat, metrics, labels):
        for i, run in enumerate(runs):
            place.plot(*run.curve(metric).T, **plots.style(i), label=run.name, marker=".")
        place.set(xlabel="step", ylabel=label)
        place.grid(alpha=0.3)
        _score_axes(place, metric)
    axes[0, 0].legend(fontsize=8, frameon=False)
    return plots.png(figure)


def losses(runs, metric, label):
    """A panel per run: the metric, the discriminator's loss, and where each stage settled."""
    figure, axes = plots.panels(3.4 * len(runs), 3.2, columns=len(runs))
    score, loss = plots.style(0), plots.style(1)
    for place, run in zip(axes[0], runs):
        place.plot(*run.curve(metric).T, **score, marker=".")
        place.set_title(run.name, fontsize=9)
        place.set_xlabel("step")
        place.set_ylabel(label, color=score["color"])
        _score_axes(place, metric)
        other = place.twinx()
        other.plot(*np.reshape(run.losses, (-1, 2)).T, **loss, marker=".")
        other.set_ylabel("discriminator's loss", color=loss["color"])
        stops = (run.score_rest, score["color"], "score"), (run.loss_rest, loss["color"], "stop")
        for step, color, word in stops:
            if step is not None:
                place.axvline(step, color=color, linestyle=":")
                place.text(step, 0.98, f" {word}", transform=place.get_xaxis_transform(), va="top")
    return plots.png(figure)


def _score_axes(place, metric):
    plots.label_steps(place)
    if "fid" in metric:
        place.set_yscale("log")
        place.yaxis.set_major_formatter("{x:g}")
        place.yaxis.set_minor_formatter("{x:g}")


def pictures(rows, masks=None):
    """A row per name of {name: pictures uint8 (N, S, S, 3) or maps (N, S, S) in [0, 1]}, a column
    per image; masks (N, S, S) are outlined in each row."""
    figure, axes = plots.picture_rows(rows)
    for line, shown in zip(axes, rows.values()):
        color = "#e33" if np.ndim(shown) == 4 else "white"
        for place, mask in zip(line, () if masks is None else masks):
            place.contour(mask, [0.5], colors=color, linewidths=0.8)
    return plots.png(figure)


def strips(rows):
    """A row per name of {name: pictures uint8 (N, S, S, 3)}, side by side without gaps."""
    lines = [np.concatenate(list(shown), axis=1) for shown in rows.values()]
    height, width = lines[0].shape[:2]
    figure, ((axes,),) = plots.panels(2 + 0.8 * width / height, 0.8 * len(lines))
    figure.set_layout_engine("compressed")  # the axes keep their aspect: room for the labels
    axes.imshow(np.concatenate(lines), interpolation="nearest")
    axes.set(xticks=[], yticks=(np.arange(len(lines)) + 0.5) * height)
    axes.set_yticklabels(map(plots.wrapped, rows), fontsize=7)
    return plots.png(figure)


def distortions(rows, examples):
    """FID, sFID and KID as bars, each divided by its largest value among the distortions, beside
    examples. rows: [{"images": name, metric: value}], of which the first two and the last two are
    no distortions. examples: for each row uint8 (N, S, S, 3), of which six are shown."""
    figure, ((left, right),) = plots.panels(11, 0.62 * len(rows) + 1, 1, 2, width_ratios=(1, 1.3))
    rim = max(1, examples[0].shape[1] // 16)
    rim = ((0, 0), (rim, rim), (rim, 0), (0, 0))
    strips = [np.hstack(np.pad(images[:6], rim, constant_values=255)) for images in examples]
    left.imshow(np.concatenate(strips), aspect="auto", interpolation="nearest")
    places = np.arange(len(rows))
    left.set(xticks=[], yticks=(places + 0.5) * len(strips[0]))
    left.set_yticklabels([row["images"] for row in rows])
    metrics = [metric for metric in rows[0] if metric.split("_")[0] in ("fid", "sfid", "kid")]
    for i, metric in enumerate(metrics):
        values = np.array([row[metric] for row in rows])
        shares = np.clip(values / values[2:-2].max(), 0, 1.2)  # longer bars end at 1.2
        label = metric.split("_")[0].replace("fid", "FID").replace("kid", "KID")
        bars = right.barh(places + (i - 1) * 0.27, shares, 0.27, color=plots.COLORS[i], label=label)
        right.bar_label(bars, [f"{value:.3g}" for value in values], padding=2, fontsize=7)
    right.set(xlim=(-0.02, 1.3), ylim=(len(rows) - 0.5, -0.5), yticks=[])
    right.set_xlabel(f"share of the largest among the distortions\n{metrics[0].split('_', 1)[1]}")
    right.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False)
    return plots.png(figure)


def floors(rows, extractor):
    """FID and KID of real images against real images over the number of images. rows: [{"count",
    "fid", "fid_low", "fid_high", "kid"}]. extractor: its name."""
    figure, ((left, right),) = plots.panels(9, 3.2, 1, 2)
    counts, fid = ([row[key] for row in rows] for key in ("count", "fid"))
    left.fill_between(
        counts, *([row[key] for row in rows] for key in ("fid_low", "fid_high")), alpha=0.3
    )
    left.plot(counts, fid, marker="o", markersize=4)
    for place in zip(counts, fid):
        left.annotate(f"{place[1]:.3g}", place, (0, 6), textcoords="offset points", fontsize=7)
    left.set(xscale="log", yscale="log", ylabel=f"FID, {extractor}")
    right.plot(counts, [row["kid"] for row in rows], marker="o", markersize=4)
    right.axhline(0, color="grey", linewidth=0.8)
    right.set(xscale="log", ylabel=f"KID, {extractor}")
    for axes in (left, right):
        axes.set(xlabel="real images on each side", xticks=counts)
        axes.set_xticklabels([f"{count:,}" for count in counts])
        axes.minorticks_off()
    return plots.png(figure)


def table(runs, metrics):
    """Rows of text, the first of them the head: of each run the last value of each metric, and its
    best one with the step."""
    lines = [["run", "steps", *(f"{m}: last; best (step)" for m in metrics), "stop"]]
    for run in runs:
        cells = [run.name, f"{max((row['step'] for row in run.rows), default=0):,}"]
        for metric in metrics:
            points, text = run.curve(metric), "not reached"
            if len(points):
                step, value = best(metric, points)
                text = f"{points[-1, 1]:.4g}; {value:.4g} ({step:,.0f})"
            cells.append(text)
        lines.append([*cells, f"{run.loss_rest:,}" if run.loss_rest else "not reached"])
    return lines


def comparison(title, about, lines, figures):
    """The page as text. about: paragraphs. lines: as `table` returns them. figures: {caption: PNG
    bytes}."""
    return pages.page(
        "comparison",
        title,
        about=[pages.html("<p>$line</p>", line=line) for line in about],
        table=pages.table(lines[0], lines[1:]),
        figures=[
            pages.section(caption, pages.picture("", png, alt=caption))
            for caption, png in figures.items()
        ],
    )

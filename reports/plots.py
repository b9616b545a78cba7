"""Line plots and rows of pictures, drawn by matplotlib without pyplot, so that threads may draw."""

import base64
import io
import textwrap

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from .pages import html

COLORS = ("#0b62b8", "#b34a00", "#6b4a9e", "#3d7a3d", "#b3261e", "#57606a")
DASHES = ("solid", "dashed", "dotted")  # matplotlib and CSS both know them
BINS = 100  # points of a curve, at most; more are averaged
WIDTH, HEIGHT = 340, 210  # of a plot in a page; the font sizes suit it


def style(i):
    """Colour and dashes of the i-th line of a plot."""
    return {"color": COLORS[i % len(COLORS)], "linestyle": DASHES[i % len(DASHES)]}


def key(i):
    """A piece of the i-th line, for a legend in a page."""
    return html('<span class="key" style="border-top: 2px $linestyle $color"></span>', **style(i))


def curves(lines, last, marks=()):
    """Figure of lines {name: (n, 2) of step and value} over the steps from 0 to last.

    Of more than BINS points it shows the means and, as a band, the lowest and highest of each bin;
    the band may leave the frame where outliers are beyond the middle 99 % of the values. marks:
    [(step, label, dotted)] of vertical lines.
    """
    figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72))
    axes = figure.add_axes((50 / WIDTH, 36 / HEIGHT, 278 / WIDTH, 156 / HEIGHT), frameon=False)
    ends = []
    for i, points in enumerate(lines.values()):
        steps, means, lowest, highest = binned(points)
        marker = "." if len(points) <= 40 else ""
        axes.plot(steps, means, **style(i), linewidth=1.75, marker=marker)
        if len(points) > BINS:
            axes.fill_between(steps, lowest, highest, color=style(i)["color"], alpha=0.2, lw=0)
        ends += [*means, *np.percentile(points[:, 1], (0.5, 99.5))]
    space = 0.05 * max(np.ptp(ends), 0.1 * np.abs(ends).max()) or 1
    axes.set(xlim=(0, 1.02 * max(last, 1)), ylim=(min(ends) - space, max(ends) + space))
    for step, label, dotted in marks:
        axes.axvline(step, color="black", linewidth=1, linestyle=":" if dotted else "-")
        side = "right" if step > last / 2 else "left"
        axes.text(step, 1.02, label, transform=axes.get_xaxis_transform(), ha=side, fontsize=9)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.grid(axis="y", alpha=0.5)
    axes.tick_params(length=0, labelsize=9)
    axes.set_xlabel("step", fontsize=9, labelpad=1)
    label_steps(axes)
    return figure


def label_steps(axes):
    """Labels whole steps, 20000 as "20k"."""
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def binned(points):
    """(n, 2) of step and value -> (4, BINS or fewer): the mean step, the mean value, the lowest and
    the highest of each stretch of points."""
    parts = np.array_split(points, min(len(points), BINS))
    return np.transpose([(*p.mean(0), p[:, 1].min(), p[:, 1].max()) for p in parts])


def panels(width, height, rows=1, columns=1, **more):
    """(Figure, axes (rows, columns)) of a size in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **more)


def wrapped(label):
    """A label in lines of at most 22 characters."""
    return textwrap.fill(label, 22)


def picture_rows(rows, titles=(), side=1.3, fontsize=7):
    """(Figure, axes) of {label: pictures (N, H, W, 3) or maps (N, H, W) in [0, 1]}: a row each."""
    count = len(next(iter(rows.values())))
    figure, axes = panels(side * count, (side + 0.05) * len(rows), len(rows), count)
    for line, (label, pictures) in zip(axes, rows.items()):
        for place, pixels in zip(line, pictures):
            place.imshow(pixels, cmap="magma", vmin=0, vmax=1, interpolation="nearest")
            place.set(xticks=[], yticks=[])
        line[0].set_ylabel(wrapped(label), fontsize=fontsize)
    for place, title in zip(axes[0], titles):
        place.set_title(wrapped(title), fontsize=fontsize)
    return figure, axes


def png(figure):
    """The figure as PNG bytes."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()


def embedded(figure, alt):
    """The figure as an SVG within an <img> element, which the style sheet inverts for a dark page.
    alt: what it shows."""
    out = io.BytesIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    data = base64.b64encode(out.getvalue()).decode()
    return html('<img class="plot" alt="$alt" src="data:image/svg+xml;base64,$data">', **locals())

"""How often each class is taken for each other one, as a table and as a picture."""

import numpy as np

from ..common.tables import markdown
from . import plots


def table(confusion, names):
    """Counts [label][answer] -> a Markdown table: a row for each true class, with the share that is
    right; a column for each answer. names: of the classes."""
    lines = [["true class", *names, "right"]]
    for i, (name, row) in enumerate(zip(names, confusion)):
        share = f"{100 * row[i] / sum(row):.1f} %" if sum(row) else "–"
        lines.append([name, *(f"{count:,}" for count in row), share])
    return markdown(lines)


def picture(confusion, names, title):
    """The same as PNG bytes: shares of the true class as colours, counts as numbers."""
    counts = np.asarray(confusion)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = 1.8 + 0.55 * len(names)
    figure, ((axes,),) = plots.panels(side, side)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(names) <= 20:
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{count:,}", ha="center", va="center", color=color, fontsize=8)
    axes.set(xlabel="answer", ylabel="true class", title=title)
    axes.title.set_fontsize(9)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    return plots.png(figure)

"""The text of --mode=list. Imports neither TensorFlow nor Keras."""

import textwrap

from .. import zoo
from ..datasets import table


def text():
    """Models, data sets and published weights."""
    models = []
    for name in zoo.names():
        spec = zoo.get(name)
        counts = "; ".join(
            f"{setting}: " + ", ".join(f"{k} {n:,}" for k, n in networks.items())
            for setting, networks in spec.params.items()
        )
        data = ", ".join(spec.datasets)
        models.append((name, f"{spec.task}. {spec.paper} ({spec.source})"))
        models.append(("", f"data sets: {data}. parameters at {counts}"))
    data = [(name, spec.summary) for name, spec in table.DATASETS.items()]
    weights = [
        (
            f"{name}:{tag}",
            f"{w.network} of {w.dataset}, {w.options}, "
            + ", ".join(f"{metric} {value:.4g}" for metric, value in w.scores.items())
            + f"; {w.license}; sha256 {w.sha256[:16]}",
        )
        for name in zoo.names()
        for tag, w in zoo.get(name).weights.items()
    ]
    parts = {
        "models": models,
        "data sets": [*data, (table.FOLDER, table.FOLDER_SUMMARY)],
        "weights": weights or [("none yet", "train them: python main.py --model=MODEL")],
    }
    return "\n\n".join("\n".join([title, *map(entry, rows)]) for title, rows in parts.items())


def entry(row):
    """One row, wrapped, under its name."""
    name, words = row
    lines = textwrap.wrap(words, 78, break_long_words=False)
    return f"  {name:<17} " + f"\n{'':20}".join(lines)

"""Lists models, data sets and weights; imports no TensorFlow."""

import textwrap

from .. import zoo
from ..datasets import table

USES = ""


def run(flags):
    def show(title, rows):
        print(f"{title}")
        for name, text in rows:
            lines = textwrap.wrap(text, 78, break_long_words=False)
            print(f"  {name:<17} " + f"\n{'':20}".join(lines))

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
    show("models", models)
    data = [(name, spec.what) for name, spec in table.DATASETS.items()]
    show("\ndata sets", [*data, (table.FOLDER, table.FOLDER_WHAT)])
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
    show("\nweights", weights or [("none yet", "train them: python main.py --model=MODEL")])

"""The texts of --mode=list. Only those of one model import TensorFlow."""

import dataclasses
import inspect
import re
import shutil
import textwrap
from itertools import zip_longest

from .. import zoo
from ..common.quiet import import_tensorflow
from ..datasets import table

NARROW, WIDE = 80, 110  # columns of the text
WHOLE = {"break_long_words": False, "break_on_hyphens": False}


def text():
    """The models with their data sets and tags, and the data sets."""
    models = [("name", "task", "data sets", "weights")]
    for spec in map(zoo.get, zoo.names()):
        first, others = spec.datasets[0], len(spec.datasets) - 1
        used = f"{first} +{others}" if others else first
        models.append((spec.name, spec.task, used, ", ".join(spec.weights)))
    data = [(name, spec.summary) for name, spec in table.DATASETS.items()]
    data.append((table.FOLDER, table.FOLDER_SUMMARY))
    width = _width()
    more = (width - NARROW) // 4
    parts = [
        "models (+N: N more data sets; details of one: --mode=list --model=NAME)",
        *columns(models, (18, width - 64 - more, 23, 13 + more)),
        "",
        "data sets (--dataset=NAME)",
        *columns(data, (28, width - 32)),
    ]
    return "\n".join(parts)


def model(name):
    """What one needs to know of a model to train it and to use its weights."""
    spec = zoo.get(name)
    import_tensorflow(lean=True)
    from .. import trainers

    losses = trainers.get(spec.trainer or spec.name).VARIANTS
    parts = {
        f"{spec.name}: {spec.task}": [f"{spec.paper} ({spec.source})"],
        "data sets, among others": [", ".join(spec.datasets)],
        "weights (--weights=TAG)": [_weights(*row) for row in spec.weights.items()] or ["none yet"],
        "options of its networks (--set NAME=VALUE; image_size is --image_size=PIXELS)": _defaults(
            zoo.options(name), zoo.registry.options_text(name)
        ),
    }
    said = set()
    for loss, (make_hparams, _) in losses.items():
        which = f" with --set loss={loss}" if len(losses) > 1 else ""
        which += ", the default" if which and not said else ""
        texts = [c.__doc__ for c in reversed(make_hparams.__mro__) if dataclasses.is_dataclass(c)]
        lines = _defaults(dataclasses.asdict(make_hparams()), *texts)
        parts[f"hyper-parameters{which} (--set NAME=VALUE)"] = [x for x in lines if x not in said]
        said |= {*lines[1:]}
    parts["recipes"] = [
        "The recipe of a data set changes some of these defaults: run.json in a run directory has "
        "the values that were used."
    ]
    parts["parameters"] = [
        f"{setting}: {', '.join(f'{key} {count:,}' for key, count in counts.items())}"
        for setting, counts in spec.params.items()
    ]
    parts["the paper reports"] = [f"{key}: {value:g}" for key, value in spec.reported.items()]
    parts["deviations from the paper"] = list(spec.deviations)
    return "\n\n".join(
        "\n".join([title, *(_wrapped(line) for line in lines)])
        for title, lines in parts.items()
        if lines
    )


def columns(rows, widths):
    """The lines of a table; the cells of a row are wrapped to the widths of their columns."""
    for row in rows:
        cells = [textwrap.wrap(c, w, **WHOLE) for c, w in zip(row, widths)]
        for line in zip_longest(*cells, fillvalue=""):
            yield "  " + "  ".join(f"{c:<{w}}" for c, w in zip(line, widths)).rstrip()


def _width():
    """Columns of the terminal, NARROW to WIDE; WIDE where there is none."""
    return min(max(shutil.get_terminal_size((WIDE, 0)).columns, NARROW), WIDE)


def _wrapped(line):
    return textwrap.fill(line, _width(), initial_indent="  ", subsequent_indent="    ", **WHOLE)


def _weights(tag, entry):
    scores = "; ".join(f"{metric} {value:.4g}" for metric, value in entry.scores.items())
    facts = [f"{entry.network} of {entry.dataset}", scores, entry.license]
    return f"{tag}: {'; '.join(filter(None, facts))}; sha256 {entry.sha256[:16]}"


def _defaults(values, *texts):
    """The lines of options: {name: default}, then what docstrings say of them, each "name: ",
    "name, name: " or "name (ours): " on a line of its own."""
    name = f"(?:{'|'.join(values)})"
    start = re.compile(rf"(?<=[.;]) (?={name}(?:, {name})*(?: \([^)]*\))?: )")
    parts = [part for text in texts for part in inspect.cleandoc(text).split("\n\n")]
    lines = [line for part in parts for line in start.split(" ".join(part.split()))]
    return [" ".join(f"{name}={_written(value)}" for name, value in values.items()), *lines]


def _written(value):
    """A value as --set takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value) or '""'

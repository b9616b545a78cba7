"""Results as data: lines of docs/results/*.jsonl, and texts that are filled with their figures.

A line of a file has

    what       its name, by which texts ask for it; no two lines share one
    value      a number
    spread     the standard deviation or [lowest, highest], or null
    command    what made it; date, versions {package: version} and machine, where and with what
    seeds      a list

and null where that is not known. In a text, `{{NAME|FORMAT}}` becomes the value in a format of
Python (".2f"), `{{100 * NAME|.1f}}` a multiple of it, `{{NAME ±|FORMAT}}` the standard deviation,
and `{{NAME low|FORMAT}}` and `{{NAME high|FORMAT}}` the ends of the spread.
"""

import json
import re
from decimal import Decimal
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "docs" / "results"
FIELDS = ("what", "value", "spread", "command", "date", "versions", "machine", "seeds")
PLACE = re.compile(r"\{\{(?:([\d.]+) \* )?([^{}|]+?)( ±| low| high)?\|([^{}|]*)\}\}")


def read(folder=RESULTS):
    """{what: line} of all files of a folder. A line without one of FIELDS, a value that is no
    number, or two lines of one name raise ValueError."""
    lines = {}
    for path in sorted(Path(folder).glob("*.jsonl")):
        for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            line = json.loads(text)
            place = f"{path.name}, line {number}"
            if set(line) != set(FIELDS):
                raise ValueError(f"{place}: a result has the fields {', '.join(FIELDS)}")
            if type(line["value"]) not in (int, float):
                raise ValueError(f"{place}: the value is a number, not {line['value']!r}")
            if line["what"] in lines:
                raise ValueError(f"{place}: there are two results {line['what']!r}")
            lines[line["what"]] = line
    return lines


def of_weights(name, tag, entry):
    """{what: line} of the scores of published weights, named MODEL:TAG/METRIC. entry: their
    registry.Weights."""
    known = dict.fromkeys(FIELDS) | {"command": entry.origin.get("command")}
    known["seeds"] = [entry.origin["seed"]] if "seed" in entry.origin else None
    known["versions"] = {"commit": entry.origin.get("commit")}
    return {
        (what := f"{name}:{tag}/{metric}"): known | {"what": what, "value": value}
        for metric, value in entry.scores.items()
    }


def of_zoo(specs):
    """`of_weights` of all published weights. specs: the registry.ModelSpec of each model."""
    lines = {}
    for spec in specs:
        for tag, entry in spec.weights.items():
            lines |= of_weights(spec.name, tag, entry)
    return lines


def models(folder=RESULTS):
    """{model: {"paper", "use", "claim", "reported", "ours", "protocol", "verdict"}} of models.json:
    texts with places for figures. "paper" is short; "use" says what the model is for; "more"
    follows the links to the weights, and "command" trains a model without weights."""
    return json.loads((Path(folder) / "models.json").read_text(encoding="utf-8"))


def filled(text, lines):
    """A text with its figures. A name that no line has raises ValueError."""

    def figure(found):
        factor, what, part, style = found.groups()
        if what not in lines:
            raise ValueError(f"there is no result {what!r}")
        line = lines[what]
        value = line["value"] if part is None else line["spread"]
        if part in (" low", " high"):
            value = value[part == " high"]
        if style.endswith("f"):  # 0.5395 is 0.540, its nearest binary fraction 0.539
            return format(Decimal(factor or 1) * Decimal(repr(value)), style)
        return format(float(factor) * value if factor else value, style)

    return PLACE.sub(figure, text)

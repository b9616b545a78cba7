"""The model card of published weights, in Markdown."""

import json
import math
import re
from string import Template

import numpy as np

from ..common.tables import markdown
from .pages import read

FEATURES = "Features: `$extractor`, digest `$digest`$samples. Scores on other features cannot be "
FEATURES += "compared with these."
HUB_TAG = "attention-zoo"
HUB_PLACE = "hf://OWNER/NAME"  # of a repository whose name is not known yet
IN_MEMORY = ("arrays", "tf.data")  # data sets without a name


def card(spec, tag, weights, entry, picture=None, caption="", commands=()):
    """The card as text.

    spec: the model's entry of the registry. weights: what --weights takes for these. entry: their
    registry.Weights. picture: file name of a picture beside the card, and caption, what it shows.
    commands: command lines that use the weights.
    """
    origin = {"samples": "", "of_steps": entry.origin["steps"], **entry.origin}
    if "samples_seed" in origin:
        origin["samples"] = f"; samples of seed {origin['samples_seed']}"
    reported = [(name, f"{value:g}") for name, value in spec.reported.items()]
    by = f"These are the weights of its run `{origin['run']}`." if "run" in origin else ""
    parts = {
        "tag": tag,
        "weights": weights,
        "picture": f"![{caption}]({picture})\n\n{caption}." if picture else "",
        "commands": "\n".join(f"    {line}" for line in commands),
        "commit": origin.get("commit") or "unknown",
        "progress": f"{origin['steps']:,} of {origin['of_steps']:,}",
        "by": by,
        "scores": scores_table(entry),
        "features": Template(FEATURES).substitute(origin) if "extractor" in origin else "",
        "reported": markdown([("reported in the paper", ""), *reported]) if reported else "",
        "deviations": "\n".join(f"- {line}" for line in spec.deviations),
    }
    text = Template(read("card.md")).substitute(origin | vars(entry) | vars(spec) | parts)
    paragraphs = [part.strip("\n") for part in text.split("\n\n")]
    return "\n\n".join(filter(None, paragraphs)) + "\n"


def scores_table(entry):
    """The scores of a registry.Weights in Markdown."""
    scores = [(f"`{name}`", f"{value:.6g}") for name, value in entry.scores.items()]
    return markdown([("measured on these weights", ""), *scores])


def hub_card(text, rows, others=()):
    """The README.md of a folder of weights, as the Hugging Face hub reads it: YAML front matter and
    a card.

    text: the card of the weights that are shown, with HUB_PLACE for their place. rows: [(model's
    name, tag, registry.Weights, task of the hub)] of all weights in the folder. others: the file
    names of the other cards in it, which are linked.
    """
    parts = [front_matter(rows) + text.rstrip("\n"), "## This repository"]
    parts.append(f"`OWNER/NAME` stands for the name of this repository: `{HUB_PLACE}/TAG`.")
    if others:
        links = ", ".join(f"[{name.removesuffix('.md')}]({name})" for name in others)
        parts.append(f"It holds other weights too: {links}.")
    return "\n\n".join(parts) + "\n"


def front_matter(rows):
    """The YAML front matter of a hub's card, with an entry of model-index for each of the rows that
    has scores. rows: as of hub_card."""
    licenses = {entry.license.lower() for _, _, entry, _ in rows}
    plain = len(licenses) == 1 and re.fullmatch(r"[\w.-]+", *licenses)
    tasks = sorted({task for *_, task in rows})
    named = {entry.dataset for _, _, entry, _ in rows} - {*IN_MEMORY}
    datasets = sorted(name for name in named if ":" not in name)
    lines = ["---", f"license: {licenses.pop() if plain else 'other'}", "library_name: keras"]
    lines += [f"pipeline_tag: {tasks[0]}"] if len(tasks) == 1 else []
    lines += ["tags:", f"- {HUB_TAG}", *(f"- {name}" for name in sorted({row[0] for row in rows}))]
    lines += ["datasets:", *(f"- {_quoted(name)}" for name in datasets)] if datasets else []
    index, metrics = [], set()
    for name, tag, entry, task in rows:
        scores = {k: v for k, v in entry.scores.items() if k != "threshold" and math.isfinite(v)}
        metrics |= {metric.split("_")[0] for metric in scores}
        if scores:
            kind = re.sub(r"[^\w./-]", "-", entry.dataset)
            index += [f"- name: {_quoted(f'{name}:{tag}')}", "  results:", "  - task:"]
            index += [f"      type: {task}", "    dataset:"]
            index += [f"      name: {_quoted(entry.dataset)}", f"      type: {_quoted(kind)}"]
            index += ["    metrics:"]
        for metric, value in scores.items():
            number = np.format_float_positional(float(f"{value:.6g}"), trim="-")
            index += [f"    - type: {metric.split('_')[0]}", f"      name: {_quoted(metric)}"]
            index += [f"      value: {number}"]
    lines += ["metrics:", *(f"- {name}" for name in sorted(metrics))] if metrics else []
    lines += ["model-index:", *index] if index else []
    return "\n".join([*lines, "---", "", ""])


def _quoted(text):
    """A string of YAML."""
    return json.dumps(text, ensure_ascii=False)

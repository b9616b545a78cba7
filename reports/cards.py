"""The model card of published weights, in Markdown."""

from string import Template

from ..common.tables import markdown
from .pages import read

FEATURES = "Features: `$extractor`, digest `$digest`$samples. Scores on other features cannot be "
FEATURES += "compared with these."


def card(spec, tag, weights, entry, picture=None, caption="", commands=()):
    """The card as text.

    spec: the model's entry of the registry. weights: what --weights takes for these. entry: their
    registry.Weights. picture: file name of a picture beside the card, and caption, what it shows.
    commands: command lines that use the weights.
    """
    origin = {"samples": "", "of_steps": entry.origin["steps"], **entry.origin}
    if "samples_seed" in origin:
        origin["samples"] = f"; samples of seed {origin['samples_seed']}"
    scores = [(f"`{name}`", f"{value:.6g}") for name, value in entry.scores.items()]
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
        "scores": markdown([("measured on these weights", ""), *scores]),
        "features": Template(FEATURES).substitute(origin) if "extractor" in origin else "",
        "reported": markdown([("reported in the paper", ""), *reported]) if reported else "",
        "deviations": "\n".join(f"- {line}" for line in spec.deviations),
    }
    text = Template(read("card.md")).substitute(origin | vars(entry) | vars(spec) | parts)
    paragraphs = [part.strip("\n") for part in text.split("\n\n")]
    return "\n\n".join(filter(None, paragraphs)) + "\n"

"""The gallery: one page of all models, with pictures of what each does."""

import re
from dataclasses import dataclass
from html import escape

from ..common.images import png
from . import pages

LARGE = 480  # pixels, up to which a small picture is enlarged
BETTER = {"lower": ("FID", "KID"), "higher": ("IS", "mIoU", "IoU", "PSNR")}


@dataclass(frozen=True)
class Entry:
    """What the page says of a model. Texts may have `code` in backquotes.

    paper: the whole citation. use, claim, reported, ours, verdict: of docs/results/models.json,
    with their figures; "" where there is none. weights: ((tag, command that trained them,
    [(caption, uint8 picture)]), ...) of those that are published. command: trains it, where none
    are.
    """

    name: str
    paper: str
    task: str
    use: str = ""
    claim: str = ""
    reported: str = ""
    ours: str = ""
    verdict: str = ""
    weights: tuple = ()
    command: str = ""


def gallery(entries):
    """The page as text: a section for each model, those without weights last."""
    entries = sorted(entries, key=lambda entry: not entry.weights)
    link = '<a href="#$name">$name</a>'
    return pages.page(
        "gallery",
        "The zoo",
        links=[pages.html(link, name=entry.name) for entry in entries],
        sections=[_section(entry) for entry in entries],
    )


def _section(entry):
    about = {"Use": entry.use, "Claim": entry.claim, "The paper reports": entry.reported}
    about |= {"Ours": entry.ours, "Verdict": entry.verdict}
    about["Scores"] = _better(" ".join((entry.reported, entry.ours, entry.verdict)))
    line = "<dt>$name</dt><dd>$text</dd>"
    lines = [pages.html(line, name=k, text=_marked(text)) for k, text in about.items() if text]
    none = [pages.html("<p>No weights yet.</p>$command", command=_command(entry.command))]
    return pages.html(
        pages.read("gallery_section.html"),
        name=entry.name,
        task=entry.task[:1].upper() + entry.task[1:],
        paper=entry.paper,
        lines=lines,
        weights=[_weights(entry.name, *row) for row in entry.weights] or none,
    )


def _weights(name, tag, command, drawn):
    """The pictures of weights, above the command that trained them."""
    shown = [_figure(f"{caption}.", pixels) for caption, pixels in drawn]
    none = pages.Html("<p>No picture: its images are not at hand, or show people.</p>")
    return pages.html(
        pages.read("gallery_weights.html"),
        title=f"{name}:{tag}",
        shown=shown or none,
        command=_command(command),
    )


def _command(line):
    return pages.html("<pre>$line</pre>", line=line) if line else ""


def _better(text):
    """Which direction of the scores that a text names is better; "" where it names none."""
    named = {
        which: [score for score in scores if re.search(rf"\b{score}\b", text)]
        for which, scores in BETTER.items()
    }
    lines = [f"{', '.join(scores)}: {which} is better" for which, scores in named.items() if scores]
    return "; ".join(lines)


def _figure(caption, pixels):
    """The picture with its caption, no wider than the picture."""
    width = pixels.shape[1] * max(1, LARGE // max(pixels.shape[:2]))
    figure = pages.picture(caption, png(pixels), side=LARGE)
    return pages.html('<div style="width: ${width}px">$figure</div>', width=width, figure=figure)


def _marked(text):
    """The text with `code` in backquotes as <code>."""
    return pages.Html(re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text)))

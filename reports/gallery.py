"""The gallery: one page of all models, with pictures of what each does."""

import re
from dataclasses import dataclass
from html import escape

from ..common.images import png
from . import pages

LARGE = 480  # pixels, up to which a small picture is enlarged


@dataclass(frozen=True)
class Entry:
    """What the page says of a model. Texts may have `code` in backquotes.

    paper: the whole citation. claim, reported, ours, verdict: of docs/results/models.json, with
    their figures; "" where there is none. weights: ((tag, command that trained them, [(caption,
    uint8 picture)]), ...) of those that are published. command: trains it, where none are.
    """

    name: str
    paper: str
    task: str
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
    about = {"Claim": entry.claim, "The paper reports": entry.reported, "Ours": entry.ours}
    about |= {"Verdict": entry.verdict}
    line = "<dt>$name</dt><dd>$text</dd>"
    lines = [pages.html(line, name=k, text=_marked(text)) for k, text in about.items() if text]
    shown = [
        _figure(f"{entry.name}:{tag}. {caption}.", pixels)
        for tag, _, drawn in entry.weights
        for caption, pixels in drawn
    ]
    none = "<p>No picture.</p>" if entry.weights else "<p>No weights yet.</p>"
    commands = dict.fromkeys([*(command for _, command, _ in entry.weights), entry.command])
    commands = [pages.html("<pre>$line</pre>", line=command) for command in commands if command]
    return pages.html(
        pages.read("gallery_section.html"),
        name=entry.name,
        task=entry.task[:1].upper() + entry.task[1:],
        paper=entry.paper,
        lines=lines,
        shown=shown or pages.Html(none),
        commands=commands,
    )


def _figure(caption, pixels):
    """The picture with its caption, no wider than the picture."""
    width = pixels.shape[1] * max(1, LARGE // max(pixels.shape[:2]))
    figure = pages.picture(caption, png(pixels), side=LARGE)
    return pages.html('<div style="width: ${width}px">$figure</div>', width=width, figure=figure)


def _marked(text):
    """The text with `code` in backquotes as <code>."""
    return pages.Html(re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(text)))

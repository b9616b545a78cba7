"""HTML pages in one file each: templates with escaped values, tables, embedded pictures."""

import base64
import io
from html import escape
from pathlib import Path
from string import Template

from PIL import Image

from ..common.files import printable

TEMPLATES = Path(__file__).parent / "templates"


class Html(str):
    """Text that is markup already; any other text is escaped when it enters a page."""


def read(name):
    return (TEMPLATES / name).read_text(encoding="utf-8")


def html(template, **values):
    """A template with each $name replaced by its value, or a list's items below each other."""

    def markup(value):
        if isinstance(value, list):
            return "\n".join(map(markup, value))
        return value if isinstance(value, Html) else escape(printable(value))

    return Html(Template(template).substitute({k: markup(v) for k, v in values.items()}))


def page(template, title, **values):
    """The page of templates/`template`.html in the frame and the style that all pages share."""
    body = html(read(f"{template}.html"), title=title, **values)
    return html(read("page.html"), title=title, style=Html(read("style.css")), body=body)


def section(title, body):
    return html("<section>\n<h2>$title</h2>\n$body\n</section>", title=title, body=body)


def table(head, rows, kind=""):
    """Rows of cells, each starting with its heading. A cell of Html is a whole <td>."""
    lines = []
    for first, *rest in rows:
        cells = [c if isinstance(c, Html) else html("<td>$c</td>", c=c) for c in rest]
        lines.append(html('<tr><th scope="row">$first</th>$cells</tr>', first=first, cells=cells))
    top = [html('<th scope="col">$cell</th>', cell=cell) for cell in head]
    top = html("<thead><tr>$top</tr></thead>", top=top) if top else ""
    return html(read("table.html"), kind=kind, head=top, rows=lines)


def picture(caption, png, alt="", side=0):
    """PNG bytes and a caption; pixels are enlarged by a whole number while the picture stays
    within `side`."""
    width, height = Image.open(io.BytesIO(png)).size
    scale = max(1, side // max(width, height))
    return html(
        read("picture.html"),
        kind="enlarged" if scale > 1 else "",
        width=width * scale,
        height=height * scale,
        alt=alt or caption,
        data=base64.b64encode(png).decode(),
        caption=caption,
    )

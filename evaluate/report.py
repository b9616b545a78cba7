"""One HTML page of a training run, whole in itself: pictures, scores, curves, settings."""

import base64
import itertools
import json
import math
import re
import shlex
import struct
from html import escape

import numpy as np

from .protocol import METRICS

BETTER = {name: "higher" if m.higher else "lower" for m in METRICS.values() for name in m.names}
BETTER |= {"accuracy": "higher", "swd": "lower"}
BETTER |= dict.fromkeys(("maxboxacc", "pxap", "iou", "miou", "map", "pointing"), "higher")
POINTS = 400  # drawn of a curve at most
LONG = 200  # points from which on a curve is drawn as a running mean over the faint values
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 340, 210, 50, 328, 18, 186  # a drawing and its frame
LARGE = 640  # pixels, to which a small picture is enlarged at most
GROUPS = {"options": "Options", "hparams": "Hyper-parameters", "every": "Steps between"}
GROUPS |= {"evaluation": "Scores in training", "stop": "Two-stage stop"}

CSS = """
:root { --page: #fff; --box: #f3f5f7; --text: #1b1f24; --soft: #57606a; --rule: #c9d1d9;
  --c0: #0b62b8; --c1: #b34a00; --c2: #6b4a9e; --c3: #4b5320; }
@media (prefers-color-scheme: dark) { :root { --page: #16181c; --box: #22262c; --text: #e8eaed;
  --soft: #aab3bd; --rule: #464d56; --c0: #74b6ff; --c1: #ffb066; --c2: #cdb0ff; --c3: #c3cf86; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 62rem; background: var(--page);
  color: var(--text); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0.5rem 0; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 0.75rem; border-bottom: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 1.25rem 0 0.25rem; }
p, li { margin: 0.5rem 0; max-width: 44rem; }
figure { margin: 0; }
figcaption, .soft { color: var(--soft); font-size: 0.875rem; }
img { display: block; max-width: 100%; height: auto; }
.enlarged { image-rendering: pixelated; }
.times, .curves { display: grid; gap: 1.5rem 1rem; margin-top: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(var(--least), 100%), 1fr)); }
.times { --least: 9rem; } .times img { width: 100%; } .curves { --least: 22rem; }
.columns { display: flex; flex-wrap: wrap; gap: 0 2.5rem; }
.columns > *, .scroll { max-width: 100%; } .scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.875rem; overflow-wrap: normal; }
th, td { text-align: left; vertical-align: top; padding: 0.25rem 0.75rem 0.25rem 0;
  border-bottom: 1px solid var(--rule); font-weight: normal; }
td:not(:last-child) { white-space: nowrap; }
thead th { font-weight: 600; vertical-align: bottom; }
.heat th, .heat td { text-align: right; padding: 0.25rem 0.4rem; min-width: 2.5rem; border: 0; }
.heat [style] { background: hsl(210, 90%, calc(97% - 40% * var(--p))); color: #000; }
pre { background: var(--box); padding: 0.75rem; white-space: pre-wrap; font-size: 0.875rem; }
.plot { display: block; width: 100%; height: auto; font-size: 12px; fill: var(--text); }
@media (min-width: 48rem) { .plot { font-size: 10px; } }
.plot line { stroke: var(--text); } .plot .best { stroke-dasharray: 1 3; }
.plot .grid { stroke: var(--rule); stroke-width: 0.75; }
.key { width: 1.75rem; height: 0.5rem; }
[class^=c] { fill: none; stroke-width: 1.75; stroke-linejoin: round; stroke-linecap: round; }
.c0 { stroke: var(--c0); } .c1 { stroke: var(--c1); stroke-dasharray: 6 4; }
.c2 { stroke: var(--c2); stroke-dasharray: 1 4; } .c3 { stroke: var(--c3); }
[class^=c].raw { stroke-width: 0.75; stroke-dasharray: none; opacity: 0.35; }
[class^=c].dots { stroke-width: 5; stroke-dasharray: none; }
"""
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{css}</style>
</head>
<body>
{body}
</body>
</html>
"""


def page(record, spec, rows, evaluations, pictures, stages=None):
    """The page as text; a section for which there is nothing is left out.

    record: of run.json. spec: {"paper", "source", "task", "reported", "deviations"} of its model.
    rows, evaluations: of metrics.jsonl and evaluation.jsonl. pictures: {"samples" and "attention":
    [(step, PNG bytes)]}, in order. stages: a two_stage.Stages, drawn into the curves of d_loss and
    of the metric that config["stop"] names.
    """
    config, series = record["config"], _series(rows)
    samples, attention = pictures.get("samples", []), pictures.get("attention", [])
    last = max([0, *(row["step"] for row in rows), *(step for step, _ in [*samples, *attention])])
    metric = (config.get("stop") or {}).get("metric")
    about = "<p>Each row: an image, then the same darkened outside each region attended to.</p>\n"
    sections = {
        "Samples": _pictures(samples, "Samples", 6),
        "Scores": _scores(series, evaluations, spec["reported"]),
        "Curves": _curves(series, last, stages, {"d_loss", metric}),
        "Confusion": _confusion(evaluations),
        "Attention": attention and about + _pictures(attention, "Attention", 4),
        "Deviations from the paper": _deviations(spec["deviations"]),
        "Settings": _settings(config, record["starts"]),
    }
    title = escape(f"{config['model']} on {config['dataset']}")
    body = [_header(title, config, spec, last)]
    body += [f"<section>\n<h2>{k}</h2>\n{v}\n</section>" for k, v in sections.items() if v]
    return PAGE.format(title=title, css=CSS, body="\n".join(body))


def _header(title, config, spec, last):
    size = config["image_size"]
    about = f"{spec['task']}; images of {size} x {size}; {last:,} of {config['steps']:,} steps"
    return (
        f"<header>\n<h1>{title}</h1>\n<p>{escape(about)}; seed&nbsp;{config['seed']}</p>\n"
        f'<p class="soft">{escape(spec["paper"])} ({escape(spec["source"])})</p>\n</header>'
    )


def _pictures(grids, what, most):
    """The newest large, then at most `most` of all, evenly chosen, first and last among them."""
    if not grids:
        return ""
    step, data = grids[-1]
    shown = _picture(f"{what} at step {step:,}, the newest", data, LARGE)
    count = min(most, len(grids))
    if count > 1:
        chosen = [grids[round(i * (len(grids) - 1) / (count - 1))] for i in range(count)]
        small = "\n".join(_picture(f"Step {step:,}", data) for step, data in chosen)
        shown += f'\n<h3>{what} over time</h3>\n<div class="times">\n{small}\n</div>'
    return shown


def _picture(caption, data, side=0):
    """A PNG, its pixels enlarged by a whole number as far as neither side exceeds `side`."""
    width, height = struct.unpack(">II", data[16:24])  # of the PNG header
    times = max(1, side // max(width, height))
    style = ' class="enlarged"' if times > 1 else ""
    return (
        f'<figure><img{style} width="{width * times}" height="{height * times}" alt="{caption}" '
        f'src="data:image/png;base64,{base64.b64encode(data).decode()}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _number(value):
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _better(name):
    """What is better of a score, "higher" or "lower"; None of a name that is no score."""
    return BETTER.get(name.split("_")[0]) if "_" in name else None


def _titled(name):
    return f"{name}: {_better(name)} is better" if _better(name) else name


def _best(name, points):
    """The first best value of (n, 2) points, with its step, in words."""
    find = np.argmax if _better(name) == "higher" else np.argmin
    step, value = points[find(points[:, 1])]
    return f"{_number(value)} at step {step:,.0f}"


def _table(head, rows):
    """Text cells -> HTML; the first of each row is its heading."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    lines = [
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(c)}</td>" for c in rest)}'
        for first, *rest in rows
    ]
    return _scroll(f"<thead><tr>{top}</tr></thead>\n" * bool(head), "</tr>\n".join([*lines, ""]))


def _scroll(head, body, style=""):
    table = f"<table{style}>\n{head}<tbody>\n{body}</tbody>\n</table>"
    return f'<div class="scroll" role="region" aria-label="Table" tabindex="0">{table}</div>'


def _scores(series, evaluations, reported):
    latest, ours = {row["metric"]: row for row in evaluations}, []
    for name in dict.fromkeys([*latest, *filter(_better, series)]):
        row = latest.get(name, {})
        value = _number(row.get("value"))
        value += f" ± {_number(row['deviation'])}" if "deviation" in row else ""
        best = _best(name, series[name]) if name in series else "–"
        numbers = [_number(row.get(key)) for key in ("step", "count", "seed")]
        of = [row[key] for key in ("dataset", "split", "extractor", "digest") if row.get(key)]
        ours.append([_titled(name), value, best, *numbers, ", ".join(of) or "–"])
    theirs = [[_titled(name), _number(value)] for name, value in reported.items()]
    head = ["Metric", "Latest evaluation", "Best in training", "Step", "Images", "Seed"]
    parts = []
    if ours:
        parts += ["<h3>Of this run</h3>", _table([*head, "Data and extractor"], ours)]
    if theirs:
        parts += ["<h3>Reported in papers</h3>", _table(["Protocol as given", "Score"], theirs)]
    if parts:
        parts.append("<p>Scores of different names (protocols) do not compare.</p>")
    return "\n".join(parts)


def _series(rows):
    """{name: (n, 2) of step and value}, values left out that are not finite."""
    found = {}
    for row in rows:
        for name, value in row.items():
            if name != "step" and isinstance(value, (int, float)) and math.isfinite(value):
                found.setdefault(name, []).append((row["step"], value))
    return {name: np.array(points, float) for name, points in found.items()}


def _curves(series, last, stages, marked):
    """A figure a unit: losses, logits, accuracies, a measure of all masks of one direction
    (mask_a2b_..._mean); any other name has its own."""
    figures = {}
    for name, points in series.items():
        words = name.split("_")
        start, end = words[0], words[-1]
        unit = end if end in ("loss", "logit") else start if start == "accuracy" else name
        if start == "mask" and len(words) > 2:
            unit = (words[1], end)
        figures.setdefault(unit, {})[name] = points
    drawn = [_figure(f, last, stages if marked & f.keys() else None) for f in figures.values()]
    return drawn and '<div class="curves">\n' + "\n".join(drawn) + "\n</div>"


def _figure(lines, last, stages):
    """{name: (n, 2)} -> a drawing over the steps 0 to last, with its legend in words."""
    means = {name: _running_mean(points) for name, points in lines.items()}
    ends = [np.percentile(points[:, 1], (0.5, 99.5)) for points in lines.values()]
    ends = np.concatenate([*ends, *(mean[:, 1] for mean in means.values())])
    space = 0.05 * max(np.ptp(ends), 0.1 * np.abs(ends).max()) or 1
    low, high = ends.min() - space, ends.max() + space

    def x(step):
        return LEFT + step / max(last, 1) * (RIGHT - LEFT)

    def y(value):
        return BOTTOM - (min(max(value, low), high) - low) / (high - low) * (BOTTOM - TOP)

    def path(points, style, after=" "):
        spots = after.join(f"{x(step):.1f},{y(value):.1f}" for step, value in _thin(points))
        return f'<path class="{style}" d="M{spots}h0"/>'

    shapes, legend = _axes(x, y, low, high, last), []
    for i, (name, points) in enumerate(lines.items()):
        color, said = f"c{i % 4}", f"last {_number(points[-1, 1])}"
        if len(points) >= LONG:
            shapes.append(path(points, f"{color} raw"))
            said += f" (line: the mean of {len(points) // 50} values; faint: each)"
        if _better(name):
            said = f"{_better(name)} is better; best {_best(name, points)}, {said}"
        shapes.append(path(means[name], color))
        shapes += [path(points, f"{color} dots", "h0M")] if len(points) <= 40 else []
        key = f'<path class="{color}" d="M1,4H27"/>'
        key = f'<svg class="key" viewBox="0 0 28 8" aria-hidden="true">{key}</svg>'
        legend.append(f"{key} {escape(name)}: {said}")
    if stages:
        marks, words = _marks(stages, x)
        shapes, legend = shapes + marks, legend + words
    title = " and ".join(map(escape, lines))
    return (
        f'<figure>\n<h3>{title}</h3>\n<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{title} over the steps">\n{"".join(shapes)}\n</svg>\n'
        f"<figcaption>{'<br>'.join(legend)}</figcaption>\n</figure>"
    )


def _running_mean(points):
    """Points, or from LONG on with each value the mean of the n // 50 around it."""
    window = np.ones(len(points) // 50 if len(points) >= LONG else 1)
    values, ones = points[:, 1], np.ones(len(points))
    means = np.convolve(values, window, "same") / np.convolve(ones, window, "same")
    return np.stack([points[:, 0], means], 1)


def _thin(points):
    """At most POINTS of (n, 2) points: the least and the greatest of each stretch."""
    if len(points) <= POINTS:
        return points
    parts = np.array_split(points, POINTS // 2)
    return np.concatenate([p[np.sort([p[:, 1].argmin(), p[:, 1].argmax()])] for p in parts])


def _ticks(low, high):
    """[(value, its text)]: two to six round numbers; 20000 -> "20k"."""
    power = 10.0 ** math.floor(math.log10((high - low) / 5))
    step = next(m * power for m in (1, 2, 5, 10) if m * power * 5 >= high - low)
    values = [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
    top = max(map(abs, values))
    unit, letter = (1e6, "M") if top >= 1e6 else (1e3, "k") if top >= 1e4 else (1, "")
    return [(value, f"{value / unit:.6g}{letter if value else ''}") for value in values]


def _line(style, x1, x2, y1, y2):
    return f'<line class="{style}" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}"/>'


def _text(x, y, anchor, text):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _axes(x, y, low, high, last):
    shapes = [_line("grid", LEFT, RIGHT, y(v), y(v)) for v, _ in _ticks(low, high)]
    shapes += [_text(LEFT - 5, y(v) + 4, "end", text) for v, text in _ticks(low, high)]
    return shapes + [_text(x(v), BOTTOM + 16, "middle", t) for v, t in _ticks(0, max(last, 1))]


def _marks(stages, x):
    """Lines at the steps of the stages, each with its stage's number; the legend in words."""
    shapes, words = [], []
    first = ("1: the metric", stages.score_best, stages.score_rest, "end", -3)
    second = ("2: d_loss", stages.loss_best, stages.loss_rest, "start", 3)
    for what, best, rest, anchor, aside in (first, second):
        if best is None:
            words.append(f"{what} is not yet at rest")
            continue
        words.append(f"{what} last improved at step {best:,} (dotted), known at {rest:,} (line)")
        for style, step in (("best", x(best)), ("rest", x(rest))):
            shapes.append(_line(style, step, step, 4, BOTTOM))
            shapes.append(_text(step + aside, 12, anchor, what[0]))
    return shapes, words


def _confusion(evaluations):
    found = [row for row in evaluations if row.get("confusion")]
    if not found:
        return ""
    lines = []
    for label, counts in enumerate(found[-1]["confusion"]):
        shares = [n / max(sum(counts), 1) for n in counts]
        cells = [f'<td style="--p: {p**0.5:.2f}">{n:,}</td>' for n, p in zip(counts, shares)]
        right = f"<td>{shares[label]:.1%}</td>" if sum(counts) else "<td>–</td>"
        lines.append(f'<tr><th scope="row">{label}</th>{"".join(cells)}{right}</tr>\n')
    head = "".join(f'<th scope="col">{name}</th>' for name in ["", *range(len(lines)), "right"])
    return (
        f"<p>{escape(found[-1]['metric'])}: {_number(found[-1]['value'])}. Rows: the images of a "
        "class; columns: the answers; last: the share that is right.</p>\n"
    ) + _scroll(f"<thead><tr>{head}</tr></thead>\n", "".join(lines), ' class="heat"')


def _deviations(deviations):
    lines = [re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(line)) for line in deviations]
    return lines and "<ul>\n" + "\n".join(f"<li>{line}</li>" for line in lines) + "\n</ul>"


def _settings(config, starts):
    groups = {"Flags": {k: v for k, v in config.items() if not isinstance(v, dict)}}
    groups |= {GROUPS.get(k, k): v for k, v in config.items() if isinstance(v, dict)}
    parts = ['<div class="columns">']
    for title, values in groups.items():
        rows = [(k, v if isinstance(v, str) else json.dumps(v)) for k, v in values.items()]
        if rows:
            parts.append(f"<div>\n<h3>{escape(title)}</h3>\n{_table((), rows)}\n</div>")
    parts.append("</div>\n<h3>Commands</h3>")
    for versions, same in itertools.groupby(starts, key=lambda start: start["versions"]):
        commands = "\n".join(shlex.join(["python", "main.py", *s["command"]]) for s in same)
        said = ", ".join(f"{name} {value}" for name, value in versions.items() if value)
        parts.append(f'<p class="soft">{escape(said)}</p>\n<pre>{escape(commands)}</pre>')
    return "\n".join(parts)

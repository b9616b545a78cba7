"""The report of a run: one page with its pictures, scores, curves, settings and commands."""

import itertools
import json
import re
import shlex
from html import escape

from . import plots
from .pages import Html, html, page, picture, section, table
from .scores import best, better, number, series, titled, with_deviation

LARGE = 640  # pixels, up to which a small picture is enlarged
GROUPS = {"options": "Options", "hparams": "Hyper-parameters", "every": "Intervals in steps"}
GROUPS |= {"evaluation": "Scores during training", "best": "Best checkpoint"}
GROUPS |= {"stop": "Two-stage stopping"}
MEANINGS = {  # of logged values, by the start of their names
    "d_loss": "the loss of the discriminator",
    "g_loss": "the loss of the generator",
    "real_logit": "the discriminator's mean output for real images, before any sigmoid",
    "fake_logit": "the same for generated images",
    "swd_": "the sliced Wasserstein distance between generated and real images",
}


def report(record, spec, rows, evaluations, pictures, stages=None):
    """The page as text, without the sections for which there is nothing.

    record: run.json. spec: {"paper", "source", "task", "reported", "deviations"} of the model.
    rows, evaluations: the lines of metrics.jsonl and evaluation.jsonl. pictures: {"samples" and
    "attention": [(step, path of a PNG)]} in order; only those shown are read. stages: of the
    two-stage rule, marked in the curves of d_loss and of the metric that config["stop"] names.
    """
    config, curves = record["config"], series(rows)
    samples, attention = pictures.get("samples", []), pictures.get("attention", [])
    last = max([0, *(row["step"] for row in rows), *(step for step, _ in [*samples, *attention])])
    marked = {"d_loss", (config.get("stop") or {}).get("metric")} if stages else set()
    sections = {
        "Samples": _pictures(samples, "Samples", 6),
        "Scores": _scores(curves, evaluations, spec["reported"], config["dataset"]),
        "Curves": _curves(curves, last, stages, marked),
        "Confusion": _confusion(evaluations),
        "Attention": _pictures(attention, "Attention", 4),
        "Deviations from the paper": _deviations(spec["deviations"]),
        "Settings": _settings(config, record["starts"]),
    }
    sections = [section(name, parts) for name, parts in sections.items() if parts]
    title, steps = f"{config['model']} on {config['dataset']}", f"{config['steps']:,}"
    values = spec | config | {"last": f"{last:,}", "steps": steps, "sections": sections}
    return page("run_report", title, **values)


def _pictures(grids, what, most):
    """The newest in full size, then up to `most` evenly spaced ones from the first to the last."""
    if not grids:
        return []
    step, path = grids[-1]
    parts = [picture(f"{what} at step {step:,}, the newest", path.read_bytes(), side=LARGE)]
    count = min(most, len(grids))
    if count > 1:
        chosen = [grids[round(i * (len(grids) - 1) / (count - 1))] for i in range(count)]
        small = [picture(f"Step {step:,}", path.read_bytes()) for step, path in chosen]
        text = '<h3>$what over time</h3>\n<div class="times">\n$small\n</div>'
        parts.append(html(text, what=what, small=small))
    if what == "Attention":
        text = "Each row: an image, then where each kind of attention lies in it, from 0 to 1."
        parts.insert(0, html("<p>$text</p>", text=text))
    return parts


def _best(name, points):
    step, value = best(name, points)
    return f"{number(value)} at step {step:,.0f}"


def _scores(curves, evaluations, reported, dataset):
    latest, lines = {row["metric"]: row for row in evaluations}, []
    for name in dict.fromkeys([*latest, *filter(better, curves)]):
        row = latest.get(name, {})
        reached = _best(name, curves[name]) if name in curves else "–"
        numbers = [number(row.get(key)) for key in ("step", "count", "seed")]
        of = [row[key] for key in ("dataset", "split", "extractor", "digest") if row.get(key)]
        of = ", ".join(of) or "–"
        lines.append([titled(name), with_deviation(row), reached, *numbers, of])
    head = ["Metric", "Latest evaluation", "Best in training", "Step", "Images", "Seed"]
    parts = []
    if lines:
        parts += [Html("<h3>This run</h3>"), table([*head, "Data and extractor"], lines)]
    if reported:
        kind = re.split("[:/]", str(dataset))[0]  # which the names of scores on it hold
        other = "" if any(kind in name for name in reported) else ", on other data than this run's"
        lines = [[titled(name), number(value)] for name, value in reported.items()]
        title = html("<h3>Reported in papers$other</h3>", other=other)
        parts += [title, table(["Protocol", "Score"], lines)]
    note = "<p>Scores with different names follow different protocols: do not compare them.</p>"
    return parts and [*parts, Html(note)]


def _curves(curves, last, stages, marked):
    figures = {}
    for name, points in curves.items():
        figures.setdefault(_unit(name), {})[name] = points
    drawn = [
        _figure(
            " and ".join(lines) if len(lines) < 3 else unit,
            lines,
            last,
            stages if marked & lines.keys() else None,
        )
        for unit, lines in figures.items()
    ]
    known = [
        f"{name}: {meaning}"
        for start, meaning in MEANINGS.items()
        for name in curves
        if name.startswith(start)
    ]
    text = "; ".join(known)
    parts = [html('<p class="soft">$text.</p>', text=text)] if text else []
    return drawn and [*parts, html('<div class="curves">\n$drawn\n</div>', drawn=drawn)]


def _unit(name):
    """What the curves of a figure share: losses, logits and accuracies have one figure each, as
    has a measure of all masks of one direction (mask_a2b_..._mean)."""
    words = name.split("_")
    if words[-1] in ("loss", "logit"):
        return words[-1]
    if words[0] == "mask" and len(words) > 2:
        return f"mask_{words[1]}_..._{words[-1]}"
    return "accuracy" if words[0] == "accuracy" else name


def _figure(title, lines, last, stages):
    legend = []
    for i, (name, points) in enumerate(lines.items()):
        text = f"last {number(points[-1, 1])}"
        if better(name):
            text = f"{better(name)} is better; best {_best(name, points)}; {text}"
        legend.append(html("<div>$key $name: $text</div>", key=plots.key(i), name=name, text=text))
    marks, notes = _marks(stages) if stages else ([], [])
    most = max(map(len, lines.values()))
    if most > plots.BINS:
        notes.append(f"Lines are means of about {most // plots.BINS} values, bands their range.")
    legend += [html("<div>$note</div>", note=note) for note in notes]
    plot = plots.embedded(plots.curves(lines, last, marks), f"{title} over the steps")
    text = "<figure>\n<h3>$title</h3>\n$plot\n<figcaption>$legend</figcaption>\n</figure>"
    return html(text, title=title, plot=plot, legend=legend)


def _marks(stages):
    """(marks, notes): the vertical lines of the stages, and the legend's words about them."""
    marks, notes = [], []
    first = ("1", "the metric", stages.score_best, stages.score_rest)
    second = ("2", "d_loss", stages.loss_best, stages.loss_rest)
    for label, what, improved, confirmed in (first, second):
        if improved is None:
            notes.append(f"{label}: {what} has not settled yet")
        else:
            marks += [(improved, label, True), (confirmed, label, False)]
            words = f"last improved at step {improved:,} (dotted line), confirmed at step"
            notes.append(f"{label}: {what} {words} {confirmed:,} (solid line)")
    return marks, notes


def _confusion(evaluations):
    rows = [row for row in evaluations if row.get("confusion")]
    if not rows:
        return []
    lines = []
    for label, counts in enumerate(rows[-1]["confusion"]):
        shares = [n / max(sum(counts), 1) for n in counts]
        cell = '<td style="--p: $p">$n</td>'
        cells = [html(cell, p=f"{p**0.5:.2f}", n=f"{n:,}") for n, p in zip(counts, shares)]
        lines.append([label, *cells, f"{shares[label]:.1%}" if sum(counts) else "–"])
    about = "<p>$metric: $value. Rows: true classes; columns: predicted classes.</p>"
    about = html(about, metric=rows[-1]["metric"], value=number(rows[-1]["value"]))
    return [about, table(["", *range(len(lines)), "correct"], lines, "heat")]


def _deviations(deviations):
    lines = [re.sub(r"`([^`]*)`", r"<code>\1</code>", escape(line)) for line in deviations]
    about = '<p class="soft">With the default settings. The values of this run are below.</p>'
    items = "\n".join(f"<li>{line}</li>" for line in lines)
    return lines and Html(f"{about}\n<ul>\n{items}\n</ul>")


def _settings(config, starts):
    groups = {"General": {k: v for k, v in config.items() if not isinstance(v, dict)}}
    groups |= {GROUPS.get(k, k): v for k, v in config.items() if isinstance(v, dict)}
    tables = []
    for title, values in groups.items():
        rows = [(k, v if isinstance(v, str) else json.dumps(v)) for k, v in values.items()]
        text = "<div>\n<h3>$title</h3>\n$rows\n</div>"
        tables += [html(text, title=title, rows=table((), rows))] if rows else []
    parts = [html('<div class="columns">\n$tables\n</div>\n<h3>Commands</h3>', tables=tables)]
    for versions, same in itertools.groupby(starts, key=lambda start: start["versions"]):
        commands = "\n".join(shlex.join(["python", "main.py", *s["command"]]) for s in same)
        about = ", ".join(f"{name} {value}" for name, value in versions.items() if value)
        text = '<p class="soft">$about</p>\n<pre>$commands</pre>'
        parts.append(html(text, about=about, commands=commands))
    return parts

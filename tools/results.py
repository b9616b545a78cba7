"""Writes the figures of docs/results into the marked blocks of the Markdown files.

    python tools/results.py                        # renders every block
    python tools/results.py --check                # names the blocks that are stale: `make lint`
    python tools/results.py --add=NAME PATH ...    # takes figures of a run directory, of lines that
                                                   # --mode=evaluate or benchmarks wrote, of a
                                                   # study's JSON, of a Markdown table

A block lies between `<!-- results: NAME -->` and `<!-- end -->`. NAME is "zoo" (the README's table,
of docs/results/models.json), MODEL:TAG (the scores of published weights), one of STEPS, files that
`python -m benchmarks` wrote, or the name of a template docs/results/templates/NAME.txt, whose
places reports/results.py fills. Within a line `<!-- {{NAME|FORMAT}} -->5.05<!-- end -->` is one
figure.

`--add` writes lines to docs/results/FILE.jsonl, where FILE is NAME up to its first slash. They are
named NAME/METRIC of evaluations, NAME/METRIC/STEP of the scores that a run was monitored by,
NAME/ROW/COLUMN of a study or table, and NAME/NAME/SIDE of benchmarks. Give it on the machine that
measured, with `--command` where the source does not name it.
"""

import argparse
import datetime
import json
import re
import shlex
import sys
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import main as checkout  # noqa: E402, F401  makes the folder the package attention_zoo
from attention_zoo import zoo  # noqa: E402
from attention_zoo.benchmarks import machine  # noqa: E402
from attention_zoo.benchmarks import results as rounds  # noqa: E402
from attention_zoo.common.tables import markdown  # noqa: E402
from attention_zoo.reports import cards, results, scores  # noqa: E402

BLOCK = re.compile(r"^(<!-- results: ([^\n]+) -->\n).*?^(<!-- end -->)$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"(?<!`)(<!-- (\{\{[^{}\n]+\}\}) -->)[^<]*(<!-- end -->)")
STEPS = ("benchmarks_steps.jsonl", "benchmarks.jsonl")  # files of docs/ with training steps
NUMBER = r"(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?"
HEAD = ["model", "paper", "the paper reports", "ours", "how ours was measured", "weights"]


def pages(root=ROOT):
    """The Markdown files that may have blocks."""
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def figures(folder=results.RESULTS):
    """{what: line} of the files of a folder, of the published weights, and of training steps."""
    lines = results.read(folder) | results.of_zoo(map(zoo.get, zoo.names()))
    for file in STEPS:
        for what, value in rounds.step_summary(rounds.read(ROOT / "docs" / file)[1]).items():
            lines[f"{file}/{what}"] = {"value": value, "spread": None}
    return lines


def zoo_table(lines, folder=results.RESULTS):
    """The README's table: the models that have a short citation in models.json."""
    rows = [HEAD]
    for name, about in results.models(folder).items():
        if "paper" in about:
            tags = sorted(zoo.get(name).weights)
            links = ", ".join(f"[`{tag}`](docs/weights/{name}-{tag}.md)" for tag in tags)
            links = links + about.get("more", "") if tags else "not published"
            ours = results.filled(about["ours"], lines)
            texts = about["paper"], about["reported"], ours, about["protocol"]
            rows.append([f"`{name}`", *texts, links])
    return markdown(rows)


def rendered(name, lines, folder=results.RESULTS):
    """The text of a block."""
    if name == "zoo":
        return zoo_table(lines, folder)
    if name in STEPS:
        return "\n".join(rounds.step_table(rounds.read(ROOT / "docs" / name)[1]))
    model, _, tag = name.partition(":")
    if tag:
        return cards.scores_table(zoo.get(model).weights[tag])
    template = Path(folder) / "templates" / f"{name}.txt"
    return results.filled(template.read_text(encoding="utf-8"), lines)


def stale(page, lines, folder=results.RESULTS):
    """(text, names): a page with its blocks rendered, and which of them differ from what it has."""
    names = []

    def block(found):
        text = f"{found[1]}\n{rendered(found[2], lines, folder).rstrip()}\n\n{found[3]}"
        if text != found[0]:
            names.append(found[2])
        return text

    def figure(found):
        text = f"{found[1]}{results.filled(found[2], lines)}{found[3]}"
        if text != found[0]:
            names.append(found[2])
        return text

    return INLINE.sub(figure, BLOCK.sub(block, page.read_text(encoding="utf-8"))), names


def measured(name, path, command=""):
    """The lines of a run directory, of JSON lines of scores or benchmarks, of a study's JSON file,
    or of a Markdown table."""
    path, known = Path(path), {}
    sources = [path / "metrics.jsonl", path / "evaluation.jsonl"] if path.is_dir() else [path]
    if path.is_dir():
        from attention_zoo.experiments.publishing import public_command

        record = json.loads((path / "run.json").read_text(encoding="utf-8"))
        start = record["starts"][-1]
        command = command or shlex.join(["python", "main.py", *public_command(start["command"])])
        known = {"seed": record["config"]["seed"], "versions": start["versions"]}
    about = machine.describe()
    lines = []
    for source in filter(Path.exists, sources):
        date = datetime.date.fromtimestamp(source.stat().st_mtime).isoformat()
        for what, row in rows_of(source):
            row = known | row
            line = {"what": f"{name}/{what}", "value": row["value"], "spread": row.get("deviation")}
            line |= {"command": command or None, "date": date, "versions": row.get("versions")}
            line["machine"] = f"{about['cores']} cores of {about['cpu']}"
            line["seeds"] = [row["seed"]] if "seed" in row else None
            lines.append(line)
    if not lines:
        raise ValueError(f"{path} holds no figures")
    return lines


def rows_of(source):
    """Yields (name, {"value", perhaps "deviation", "seed", "versions"}) of a file's numbers."""
    text = source.read_text(encoding="utf-8")
    if source.suffix == ".md":
        for what, value in cells(text):
            yield what, {"value": value}
        return
    if source.suffix == ".json":
        study = json.loads(text)
        known = {key: study[key] for key in ("seed", "versions") if key in study}
        for what, value in flat(study):
            yield what, {"value": value, **known}
        return
    for row in map(json.loads, text.splitlines()):
        if "metric" in row:
            yield row["metric"], row
        elif "rounds" in row:
            ends = {"deviation": [min(row["rounds"]), max(row["rounds"])]}
            yield f"{row['name']}/{row['side']}", ends | {"value": median(row["rounds"])}
        elif "machine" in row:
            continue
        else:
            for metric in filter(scores.better, row):
                yield f"{metric}/{row['step']:,}", {"value": row[metric]}


def cells(text):
    """Yields (ROW/COLUMN, number) of a Markdown table; of several numbers in a cell (ROW/COLUMN/1,
    number) and so on."""
    rows = [line.strip()[1:-1].split("|") for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in row] for row in rows]
    for name, *row in rows[2:]:
        for column, cell in zip(rows[0][1:], row):
            found = re.findall(NUMBER, cell)
            for i, number in enumerate(found, 1):
                ending = f"/{i}" if len(found) > 1 else ""
                yield f"{name}/{column}{ending}", float(number.replace(",", ""))


def flat(found, head=()):
    """Yields (path, number) of the numbers of a study's JSON: {"head": columns, "rows": {name:
    values}}, {"rows": [{"name": text, metric: value}]}, or {name: number or {metric: value}}."""
    if isinstance(found, dict) and "rows" in found:
        rows, head = found["rows"], found.get("head", ())[1:]
    else:
        rows = found
    if isinstance(rows, list):
        rows = {str(next(iter(row.values()))): dict(list(row.items())[1:]) for row in rows}
    for name, values in rows.items():
        if name == "seed":
            continue
        if isinstance(values, (list, dict)):
            pairs = zip(head, values) if isinstance(values, list) else values.items()
            named = [(f"{name}/{column}", value) for column, value in pairs]
        else:
            named = [(name, values)]
        yield from (pair for pair in named if type(pair[1]) in (int, float))


def add(name, paths, command="", folder=results.RESULTS):
    """Writes the lines of `measured` to a file of the folder, in place of those of their names;
    returns its path."""
    file = Path(folder) / f"{name.partition('/')[0]}.jsonl"
    old = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    lines = {line["what"]: line for line in map(json.loads, old)}
    for path in paths:
        lines |= {line["what"]: line for line in measured(name, path, command)}
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines.values())
    file.write_text(text, encoding="utf-8")
    return file


def main(arguments=None):
    """Returns the exit status: 1 where --check finds a stale block."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--add", metavar="NAME", help="take figures of the paths")
    parser.add_argument("--command", default="", help="with --add: the command that made them")
    parser.add_argument("paths", nargs="*")
    given = parser.parse_args(arguments)
    if given.add:
        print(add(given.add, given.paths, given.command))
        return 0
    lines, status = figures(), 0
    for page in pages():
        text, names = stale(page, lines)
        if names and given.check:
            print(f"{page.relative_to(ROOT)}: stale: {', '.join(names)}", file=sys.stderr)
            status = 1
        elif names:
            page.write_text(text, encoding="utf-8")
            print(f"{page.relative_to(ROOT)}: {', '.join(names)}")
    if status:
        print("python tools/results.py writes them again", file=sys.stderr)
    return status


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, ValueError) as error:  # a figure or a file that is not there
        sys.exit(f"results.py: {error}")

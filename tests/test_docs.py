"""The documentation: its Python runs, its commands parse, its links and pictures exist."""

import re
import shlex
from pathlib import Path

import pytest

from attention_zoo import zoo
from attention_zoo.cli import parser

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
NOT_RUN = "<!-- not run -->"  # before a block that needs a network or a server


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def fences(text):
    """[(number of the line before it, language, lines, whether NOT_RUN stands before it)] of the
    fenced blocks of a page."""
    blocks, last, lines = [], "", None
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            if lines is None:
                lines, start, language = [], number, line.removeprefix("```").strip()
            else:
                blocks.append((start, language, lines, last == NOT_RUN))
                lines, last = None, ""
        elif lines is not None:
            lines.append(line)
        elif line.strip():
            last = line.strip()
    return blocks


def prose(text):
    """The text without fenced blocks, indented code and inline code."""
    lines, fenced = [], False
    for line in text.splitlines():
        fenced ^= line.startswith("```")
        if not fenced and not line.startswith(("```", "    ")):
            lines.append(re.sub(r"`[^`]*`", "", line))
    return "\n".join(lines)


def links(text):
    """The relative targets of the links and pictures of a page."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(text))
    return [target for target in targets if not re.match(r"\w+:", target)]


def anchors(text):
    """The anchors of a page's headings."""
    headings, fenced = [], False
    for line in text.splitlines():
        fenced ^= line.startswith("```")
        if not fenced and re.match(r"#+ ", line):
            headings.append(re.sub(r"[^\w\s-]", "", line.lstrip("#").strip().lower()))
    return {re.sub(r"\s", "-", heading) for heading in headings}


def commands(text):
    """The arguments of each `python main.py` and `attention-zoo` in a page's code."""
    text = text.replace("\\\n", " ")
    fenced = [
        line for _, language, lines, _ in fences(text) if language != "python" for line in lines
    ]
    indented = [line for line in text.splitlines() if line.startswith("    ")]
    code = [*fenced, *indented, *re.findall(r"`([^`\n]+)`", text)]
    calls = [
        re.search(r"(?:python main\.py|attention-zoo)(?: (.*))?$", line.strip()) for line in code
    ]
    return [shlex.split(call[1] or "", comments=True) for call in calls if call]


def broken_links(page, text):
    """The relative links of a page that lead nowhere."""
    broken = []
    for target in links(text):
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        if not place.exists() or anchor and anchor not in anchors(place.read_text()):
            broken.append(target)
    return broken


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) <= 200


@pytest.mark.parametrize("page", [README, ROOT / "docs" / "api.md"], ids=name_of)
def test_the_code_of_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch, without_graphs):
    monkeypatch.chdir(tmp_path)
    names, run = {"__name__": "docs"}, 0
    for number, language, lines, not_run in fences(page.read_text()):
        if language == "python" and not not_run:
            source = "\n" * number + "\n".join(lines)
            exec(compile(source, str(page), "exec"), names)
            run += 1
    assert run


def test_few_blocks_are_not_run():
    blocks = [block for page in PAGES for block in fences(page.read_text()) if block[3]]
    assert len(blocks) <= 2


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_pictures_exist(page):
    assert broken_links(page, page.read_text()) == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_parse(page):
    for arguments in commands(page.read_text()):
        try:
            parser.parse(arguments)
        except SystemExit as done:  # --help
            assert not done.code


def test_every_model_card_is_linked():
    targets = set(links((ROOT / "docs" / "weights.md").read_text()))
    cards = {f"weights/{card.name}" for card in (ROOT / "docs" / "weights").glob("*.md")}
    assert cards and cards <= targets


def test_the_zoo_table_names_every_model_and_its_tags():
    text = README.read_text()
    for name in zoo.names():
        assert f"`{name}`" in text
        if zoo.get(name).kind != "classification":
            for tag in zoo.get(name).weights:
                assert f"[`{tag}`](docs/weights/{name}-{tag}.md)" in text


PAGE = """# A page

See [the other](other.md#its-part), [this](#a-page), ![a picture](missing.png), `[no](link)`.

```python
first = 1
```

<!-- not run -->
```python
second = first / 0
```

    python main.py --mode=sample --model=ragan \\
        --weights=cifar10    # a comment
    attention-zoo --mode=list
"""


def test_a_page_is_read_as_it_is_written(tmp_path):
    page = tmp_path / "page.md"
    (tmp_path / "other.md").write_text("# Other\n\n## Its part\n")
    assert fences(PAGE) == [
        (5, "python", ["first = 1"], False),
        (10, "python", ["second = first / 0"], True),
    ]
    assert commands(PAGE) == [
        ["--mode=sample", "--model=ragan", "--weights=cifar10"],
        ["--mode=list"],
    ]
    page.write_text(PAGE)
    assert broken_links(page, PAGE) == ["missing.png"]
    other = PAGE.replace("#its-part", "#no-part").replace("#a-page", "#b")
    assert broken_links(page, other) == ["other.md#no-part", "#b", "missing.png"]

"""Results as data: lines, texts filled with them, and the blocks of the documentation."""

import json
import os
import re

import pytest

from attention_zoo import zoo
from attention_zoo.reports import results
from attention_zoo.tools import results as tool

LINE = dict.fromkeys(results.FIELDS) | {"what": "a/b", "value": 0.5395, "spread": 0.03}
OTHER = LINE | {"what": "a, b/2,500", "value": 12500, "spread": [0.25, 1]}
LINES = {line["what"]: line for line in (LINE, OTHER)}


def written(folder, *lines, name="a.jsonl"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_every_block_of_the_documentation_is_fresh(capsys):
    assert tool.main(["--check"]) == 0, capsys.readouterr().err


def test_every_result_is_shown_somewhere():
    texts = [p.read_text() for p in (results.RESULTS / "templates").iterdir()]
    texts.append((results.RESULTS / "models.json").read_text())
    texts += [page.read_text() for page in tool.pages()]  # figures within a line
    asked = {found[1] for text in texts for found in results.PLACE.findall(text)}
    assert sorted(results.read().keys() - asked) == []


def test_every_template_has_its_block():
    blocks = {f[1] for page in tool.pages() for f in tool.BLOCK.findall(page.read_text())}
    assert {p.stem for p in (results.RESULTS / "templates").iterdir()} <= blocks


def test_every_model_has_its_texts():
    about = results.models()
    assert sorted(about) == sorted(zoo.names())
    lines = tool.figures()
    for name, texts in about.items():
        assert all("{" not in results.filled(text, lines) for text in texts.values())
        assert {"claim", "reported", "ours", "protocol", "verdict"} <= texts.keys()
        assert ("paper" in texts) == (zoo.get(name).kind != "classification")
        assert zoo.get(name).weights or texts["command"].startswith("python main.py ")


@pytest.mark.parametrize(
    "text, expected",
    [
        ("{{a/b|.3f}}", "0.540"),  # not 0.539, the nearest binary fraction's
        ("{{100 * a/b|.1f}} %", "54.0 %"),
        ("{{a/b ±|.2f}} of {{a, b/2,500|,}}", "0.03 of 12,500"),
        ("{{a, b/2,500 low|.1f}} to {{a, b/2,500 high|g}}", "0.2 to 1"),
        ("{{a/b|.1e}}, { } and {{", "5.4e-01, { } and {{"),
    ],
)
def test_a_text_is_filled(text, expected):
    assert results.filled(text, LINES) == expected


def test_a_figure_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="there is no result 'a/c'"):
        results.filled("{{a/c|.1f}}", LINES)


@pytest.mark.parametrize(
    "lines, message",
    [
        ([{"what": "a", "value": 1}], "a.jsonl, line 1: a result has the fields what, value, "),
        ([LINE, OTHER | {"value": "2"}], "line 2: the value is a number, not '2'"),
        ([LINE, LINE], "line 2: there are two results 'a/b'"),
    ],
)
def test_a_wrong_line_is_named(lines, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        results.read(written(tmp_path, *lines))


def test_scores_of_published_weights_are_results():
    entry = zoo.get("resnet18").weights["cells"]
    (line,) = results.of_weights("resnet18", "cells", entry).values()
    assert (line["what"], line["value"]) == ("resnet18:cells/accuracy_2k_test", 0.9995)
    assert line["seeds"] == [0] and line["command"].startswith("python main.py --model=resnet18")
    assert set(line) == set(results.FIELDS)


def test_a_stale_block_is_named_and_written_again(tmp_path, monkeypatch, capsys):
    folder = written(tmp_path / "results", LINE)
    (folder / "templates").mkdir()
    (folder / "templates" / "t.txt").write_text("| {{a/b|.2f}} |\n")
    page = tmp_path / "README.md"
    text = "# A\n\n<!-- results: t -->\n\n| {} |\n\n<!-- end -->\n\nend\n"
    page.write_text(text.format("0.53"))
    assert tool.stale(page, LINES, folder) == (text.format("0.54"), ["t"])
    page.write_text(text.format("0.54"))
    assert tool.stale(page, LINES, folder) == (text.format("0.54"), [])
    page.write_text(
        "It is <!-- {{a/b|.3f}} -->1<!-- end --> or <!-- {{a/b|.1f}} -->0.5<!-- end -->."
    )
    inline = "It is <!-- {{a/b|.3f}} -->0.540<!-- end --> or <!-- {{a/b|.1f}} -->0.5<!-- end -->."
    assert tool.stale(page, LINES, folder) == (inline, ["{{a/b|.3f}}"])

    page.write_text(text.format("0.53"))
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "pages", lambda: [page])
    monkeypatch.setattr(tool, "figures", lambda: LINES)
    monkeypatch.setattr(tool, "stale", lambda page, lines, old=tool.stale: old(page, lines, folder))
    assert tool.main(["--check"]) == 1
    assert "README.md: stale: t\n" in capsys.readouterr().err
    assert page.read_text() == text.format("0.53")
    assert tool.main([]) == 0 and page.read_text() == text.format("0.54")


def test_the_table_of_the_zoo_has_a_row_for_each_paper():
    lines = tool.zoo_table(tool.figures()).splitlines()
    assert len(lines) == 2 + len(zoo.names()) - len(zoo.names("classification"))
    (row,) = [line for line in lines if line.startswith("| `sagan` |")]
    assert row.endswith("| [`creatures`](docs/weights/sagan-creatures.md) |")
    (row,) = [line for line in lines if line.startswith("| `ragan` |")]
    ours = "FID 4.25, IS 2.87 (DCGAN loss); FID 6.14, IS 2.26 (WGAN loss)"
    assert f"| {ours} | CIFAR-10, 10,000 samples, `resnet9-cifar10` |" in row


def test_figures_of_a_run_are_taken(tmp_path):
    run = tmp_path / "run"
    score = {"metric": "fid_x", "value": 3.5, "deviation": 0.5, "seed": 2}
    written(run, score | {"versions": {"keras": "3"}}, name="evaluation.jsonl")
    os.utime(run / "evaluation.jsonl", (0, 1764460800))  # 2025-11-30
    command = ["--model=dcgan", "--set", "a b=1"]
    start = {"command": command, "versions": {"keras": "2"}}
    (run / "run.json").write_text(json.dumps({"starts": [start], "config": {"seed": 1}}))
    written(run, {"step": 1, "d_loss": 1}, {"step": 1000, "fid_x": 4.5}, name="metrics.jsonl")
    written(tmp_path, LINE, LINE | {"what": "a/run/fid_x"})
    file = tool.add("a/run", [run], folder=tmp_path)
    assert file == tmp_path / "a.jsonl"
    old, new, monitored = map(json.loads, file.read_text().splitlines())
    assert old == LINE
    assert (monitored["what"], monitored["value"]) == ("a/run/fid_x/1,000", 4.5)
    assert (monitored["seeds"], monitored["versions"]) == ([1], {"keras": "2"})
    assert re.fullmatch(r"\d+ cores of .+", new.pop("machine"))
    assert new == {
        "what": "a/run/fid_x",
        "value": 3.5,
        "spread": 0.5,
        "command": "python main.py --model=dcgan --set 'a b=1'",
        "date": "2025-11-30",
        "versions": {"keras": "3"},
        "seeds": [2],
    }


@pytest.mark.parametrize(
    "found, pairs",
    [
        ({"head": ["", "p", "q"], "rows": {"r": [1, None]}}, [("r/p", 1)]),
        ({"n": 3, "rows": [{"images": "noise", "fid": 2.5}]}, [("noise/fid", 2.5)]),
        ({"r": {"fid": 1.5, "kid": 0.25}}, [("r/fid", 1.5), ("r/kid", 0.25)]),
        ({"model": "m", "seed": 1, "share": 0.5, "r": {"fid": 2}}, [("share", 0.5), ("r/fid", 2)]),
    ],
)
def test_figures_of_a_study_are_taken(found, pairs, tmp_path):
    file = tmp_path / "study.json"
    file.write_text(json.dumps(found))
    lines = tool.measured("s", file, "python main.py")
    assert [(line["what"], line["value"]) for line in lines] == [(f"s/{k}", v) for k, v in pairs]
    assert all(line["command"] == "python main.py" for line in lines)
    file.write_text(json.dumps(found | {"seed": 7, "versions": {"keras": "3"}}))
    if "rows" in found:
        (line,) = tool.measured("s", file)
        assert (line["seeds"], line["versions"]) == ([7], {"keras": "3"})


def test_a_source_without_figures_is_named(tmp_path):
    with pytest.raises(ValueError, match="nothing holds no figures"):
        tool.measured("s", tmp_path / "nothing")


def test_figures_of_a_table_and_of_benchmarks_are_taken(tmp_path):
    table = "text 1\n\n| | losses | two devices |\n|---|---|---|\n| gan 2 | 1.5, -2,788 | 3e-07 |\n"
    (tmp_path / "t.md").write_text(table)
    lines = tool.measured("s", tmp_path / "t.md")
    pairs = [("s/gan 2/losses/1", 1.5), ("s/gan 2/losses/2", -2788), ("s/gan 2/two devices", 3e-07)]
    assert [(line["what"], line["value"]) for line in lines] == pairs
    row = {"name": "gan", "side": "ours", "rounds": [3.0, 1.0, 2.5]}
    (line,) = tool.measured("b", written(tmp_path, {"machine": {}}, row) / "a.jsonl")
    assert (line["what"], line["value"], line["spread"]) == ("b/gan/ours", 2.5, [1.0, 3.0])

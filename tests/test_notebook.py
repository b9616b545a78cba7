"""The notebook: it holds no outputs, and its cells run from top to bottom and show pictures."""

import ast
import json
from pathlib import Path

import pytest
from PIL import Image

from attention_zoo.tools.check_guides import tiny_python

PAGE = Path(__file__).parents[1] / "docs" / "quickstart.ipynb"
CELLS = json.loads(PAGE.read_text())["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]


def run(source, names):
    """Runs a cell; returns the value of its last line where that is an expression, which Jupyter
    shows."""
    body = ast.parse(source).body
    last = ast.Expression(body.pop().value) if isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), str(PAGE), "exec"), names)
    return last and eval(compile(last, str(PAGE), "eval"), names)


def test_a_cell_returns_what_jupyter_shows():
    names = {}
    assert run("a = 1\na + 1", names) == 2
    assert run("b = a", names) is None and names["b"] == 1


def test_no_output_is_kept():
    assert all((c["outputs"], c["execution_count"]) == ([], None) for c in CELLS if "outputs" in c)


@pytest.mark.usefixtures("eager")
def test_the_cells_run_and_show_pictures(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "notebook"}
    shown = [run(tiny_python(source), names) for source in CODE]
    assert [isinstance(value, Image.Image) for value in shown].count(True) == 4
    assert shown[1].size == (8 * 32 * 3, 2 * 32 * 3)  # sixteen samples, three times as large
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "runs/quickstart/report.html" and (tmp_path / lines[0]).exists()
    assert [line.split()[-2] for line in lines[1:]] == 2 * [
        "fid_resnet9-creatures_16_train:",
        "kid_resnet9-creatures_16_train:",
    ]

"""The guides: `make guides` can run each of their commands, small, and says which one failed."""

import shlex
from pathlib import Path

import pytest

from attention_zoo.cli import parser
from attention_zoo.tools import check_guides

ROOT = Path(__file__).parents[1]
PAGE = """# A guide

    python main.py --model=dcgan --dataset=folder:photos \\
        --steps=5000        # first
    docker compose up

```text
python main.py --mode=demo
```

Then

```python
a = 1
```

and

```python
b = a + 1
```

    python main.py --mode=list
"""


def test_a_page_is_taken_apart_in_its_order():
    assert check_guides.steps(PAGE) == [
        (
            "shell",
            "python main.py --model=dcgan --dataset=folder:photos --steps=5000        # first",
        ),
        ("shell", "docker compose up"),
        ("python", "a = 1\n\nb = a + 1\n"),
        ("shell", "python main.py --mode=list"),
    ]


DCGAN = "--batch_size=8 --image_size=32 --set=width=4 --steps=2"
EFFICIENT = "python main.py --model=efficientnet_lite0 --set start=efficientnet_lite0:imagenet"


@pytest.mark.parametrize(
    "command, run",
    [
        ("python main.py --mode=list  # all", "python main.py --mode=list"),
        ("python main.py --model=dcgan", f"python main.py --model=dcgan {DCGAN}"),
        (
            "python main.py --model=dcgan --metrics=fid",
            f"python main.py --model=dcgan --metrics=fid --num=16 {DCGAN}",
        ),
        (EFFICIENT, f"{EFFICIENT} --batch_size=8 --image_size=32 --steps=2"),
        (
            "python main.py --mode=sample --weights=a --num=64",
            "python main.py --mode=sample --weights=a --num=64 --num=16",
        ),
        (
            "python main.py --mode=evaluate --input=a --dataset=folder:b --image_size=64",
            "python main.py --mode=evaluate --input=a --dataset=folder:b --image_size=64 "
            "--image_size=32",
        ),
        (
            "docs/launch/ssh.sh gpu1:2222 gpu2:2222 -- --model=dcgan",
            f"env LOCAL=1 docs/launch/ssh.sh localhost:7 localhost:8 -- --model=dcgan {DCGAN}",
        ),
        ("python -m serving.local a", "python -m serving.local a --rest=7 --grpc=8"),
        ("cd exported && docker compose up", None),
        ("pip install -r requirements.txt", None),
    ],
)
def test_a_command_is_made_small(command, run):
    assert check_guides.tiny_command(command, [7, 8]) == run


def test_no_command_writes_into_the_checkout():
    with pytest.raises(SystemExit, match="would write into this checkout"):
        check_guides.tiny_command("python main.py --mode=publish --run_dir=a --tag=b")


def test_python_is_made_small():
    source = 'az.train("dcgan", steps=4_000)\naz.evaluate(model, num=500, seed=7)'
    small = 'az.train("dcgan", steps=2)\naz.evaluate(model, num=16, seed=7)'
    assert check_guides.tiny_python(source) == small


@pytest.mark.parametrize("page", check_guides.GUIDES, ids=lambda page: page.stem)
def test_the_steps_of_a_guide_can_be_run(page):
    text = page.read_text()
    for kind, step in check_guides.steps(text):
        if kind == "python":
            compile(step, str(page), "exec")
        elif command := check_guides.tiny_command(step, [7, 8]):
            words = shlex.split(command)
            assert words[0] in ("python", "env"), command
            if "--" in words:
                parser.parse(words[words.index("--") + 1 :])
    fences = {line for line in text.splitlines() if line.startswith("```")}
    named = {fence for fence in fences if fence.startswith("```python title=")}
    assert fences - named <= {"```", "```python", "```text"}
    assert f" guides/{page.name}\n" in (ROOT / "mkdocs.yml").read_text()


def test_the_command_that_failed_is_named(tmp_path, capsys):
    page = tmp_path / "first.md"
    page.write_text(
        "    python main.py --mode=list\n    pip install it\n\n"
        "```python\nimport attention_zoo\n\nprint('so far')\nassert 1 > 2\n```\n"
    )
    with pytest.raises(SystemExit) as failed:
        check_guides.check(page, tmp_path / "kept")
    said = str(failed.value)
    assert "so far" in said and "AssertionError" in said
    assert "FAILED (1), a command of first.md:\nimport attention_zoo" in said
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].endswith(" s  python main.py --mode=list")
    assert lines[2] == "  not run: pip install it"
    kept = tmp_path / "kept" / "first"
    for place, count in check_guides.PICTURES.items():
        assert len(list((kept / place).glob("*.png"))) == count


def test_a_server_runs_until_its_guide_ends(tmp_path):
    with check_guides.Guide(tmp_path / "page.md", tmp_path) as guide:
        wait = "import time; print(7, flush=True); time.sleep(60)"
        guide.serve(f'python -c "{wait}"', "a server")
        (server,) = guide.servers
        assert server.poll() is None
        with pytest.raises(SystemExit, match=r"FAILED \(0\), a command of page.md:\nanother"):
            guide.serve("python -c pass", "another")
    assert server.poll() is not None

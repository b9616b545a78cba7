"""The wheel holds the package `attention_zoo` alone, all of it, and its command."""

import configparser
import os
import re
import subprocess
import sys
import zipfile
from email import message_from_string
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import attention_zoo
from attention_zoo.tools import check_package
from attention_zoo.zoo import registry

ROOT = Path(__file__).parents[1]
OUTSIDE = {"benchmarks", "tests"}  # packages of the checkout that are not installed


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return zipfile.ZipFile(check_package.build_wheel(tmp_path_factory.mktemp("package")))


def metadata(wheel, name):
    (path,) = [n for n in wheel.namelist() if n.endswith(f".dist-info/{name}")]
    return wheel.read(path).decode()


def rooms():
    """Folders of the checkout that are packages, as dotted names of attention_zoo."""
    tops = {p.parent for p in ROOT.glob("*/__init__.py") if p.parent.name not in OUTSIDE}
    tops = {p for p in tops if p.name[0] != "."}
    every = {p.parent for top in tops for p in top.rglob("__init__.py")}
    return {".".join(("attention_zoo", *p.relative_to(ROOT).parts)) for p in every}


def test_each_package_is_listed():
    assert sorted({"attention_zoo", *rooms()}) == sorted(check_package.packages())


def test_the_wheel_holds_each_file_of_the_rooms_and_no_other(wheel):
    assert check_package.top_level(wheel.filename) == {"attention_zoo"}
    held = {n for n in wheel.namelist() if n.startswith("attention_zoo/")}
    tops = {name.split(".")[1] for name in rooms()}
    files = {p for top in tops for p in (ROOT / top).rglob("*") if p.is_file()}
    files |= set((ROOT / "docs" / "results").glob("*.json*"))
    files = {p.relative_to(ROOT).as_posix() for p in files if "__pycache__" not in p.parts}
    assert held == {f"attention_zoo/{p}" for p in {*files, "__init__.py", "main.py"}}
    for path in ("zoo/pretrained/manifest.json", "cli/main.py"):
        assert wheel.read(f"attention_zoo/{path}") == (ROOT / path).read_bytes()


def test_the_metadata_agrees_with_the_requirements(wheel):
    about = message_from_string(metadata(wheel, "METADATA"))
    assert (about["Name"], about["Version"]) == ("attention-zoo", attention_zoo.__version__)
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    named = [line.split("#")[0].strip() for line in lines]
    wanted = {str(Requirement(line)) for line in named if line}
    found = [Requirement(line) for line in about.get_all("Requires-Dist")]
    assert {str(r) for r in found if not r.marker} == wanted
    assert {r.name for r in found if r.marker} == {"gradio"}
    assert about.get_all("Provides-Extra") == ["demo"]


def test_the_command_lists_the_models_beside_packages_named_like_our_rooms(wheel, tmp_path):
    commands = configparser.ConfigParser()
    commands.read_string(metadata(wheel, "entry_points.txt"))
    module, function = commands["console_scripts"]["attention-zoo"].split(":")
    installed, empty = tmp_path / "installed", tmp_path / "empty"
    wheel.extractall(installed)
    empty.mkdir()
    for name in check_package.NEIGHBOURS:
        (installed / name).mkdir()
        (installed / name / "__init__.py").write_text("whose = 'others'\n")
    program = (
        f"import sys, datasets, {module} as module, evaluate\n"
        f"status = module.{function}()\n"
        "from attention_zoo import datasets as ours\n"
        "assert 'creatures' in ours.names()\n"
        "assert datasets.whose == evaluate.whose == 'others'\n"
        "sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--mode=list"],
        cwd=empty,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "ragan" in done.stdout and "cifar10" in done.stdout
    assert list(empty.iterdir()) == []


def test_the_changelog_and_the_citation_are_of_this_version():
    yaml = pytest.importorskip("yaml")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == attention_zoo.__version__
    assert (citation["license"], citation["type"]) == ("Apache-2.0", "software")
    for paper in citation["references"]:
        assert paper["title"] and paper["authors"] and paper["year"] > 2000
        assert paper.keys() & {"doi", "url"}
        authors = [tuple(author.values()) for author in paper["authors"]]
        assert len(set(authors)) == len(authors)  # the format wants it
    heading = f"\n## {attention_zoo.__version__} - {citation['date-released']}\n"
    assert heading in (ROOT / "CHANGELOG.md").read_text()


def test_the_citation_has_the_papers_of_every_model():
    citation = (ROOT / "CITATION.cff").read_text()
    for name in registry.names():
        source = registry.get(name).source
        numbers = re.findall(r"arXiv:([\d.]+)", source) or re.findall(r"doi:(\S+)", source)
        assert numbers
        assert [
            n for n in numbers if f"abs/{n}\n" not in citation and f"doi: {n}\n" not in citation
        ] == []

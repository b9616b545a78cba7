"""Installs the package beside Hugging Face's `datasets` and `evaluate`, and uses both.

    python tools/check_package.py [--python=PYTHON] [--keep=FOLDER] [--limit=1]

`make package` runs it: a fresh environment (about 3 GB) and a few minutes of training. It checks
the wheel's contents, both orders of installation and of import, an editable install, a checkout,
the Python lines below from an empty folder, and how long `attention-zoo --mode=list` takes.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
NEIGHBOURS = ("datasets", "evaluate")  # Hugging Face's packages, whose names are those of our rooms
USE = """
import attention_zoo as az
model = az.load("ragan", "cifar10")
images = model.sample(16, seed=0)
az.load("attention_gan", "plain2striped").translate(images)
az.load("gain", "many").explain(images)
run = az.train("dcgan", "creatures", steps=200, run_dir="runs/first")
model = az.open_run("runs/first")
rows = az.evaluate(model, metrics=("fid", "kid"), num=1000)
az.export(model, "exported")
"""
IMPORTS = (  # in whichever order
    "import attention_zoo.datasets, attention_zoo.evaluate, datasets, evaluate",
    "import datasets, evaluate, attention_zoo.datasets, attention_zoo.evaluate",
    "import datasets, attention_zoo, evaluate, attention_zoo.evaluate, attention_zoo.datasets",
)
SHOW = """
import sys
for name in ("datasets", "evaluate", "attention_zoo.datasets", "attention_zoo.evaluate"):
    print(name, sys.modules[name].__file__)
"""


def packages():
    """The packages that pyproject.toml lists."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]


def copy_sources(folder):
    """Copies what a wheel is built from; a build leaves folders of its own beside it."""
    folder.mkdir(parents=True)
    for name in ("__init__.py", "main.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for path in ROOT.glob("requirements*.txt"):
        shutil.copy(path, folder)
    for room in sorted({name.split(".")[1] for name in packages() if "." in name}):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / room, folder / room, ignore=ignored)
    (folder / "docs" / "results").mkdir(parents=True)
    for path in (ROOT / "docs" / "results").glob("*.json*"):
        shutil.copy(path, folder / "docs" / "results")
    return folder


def build_wheel(folder, python=sys.executable):
    """Path of the wheel that is built in a folder, by the setuptools of a Python."""
    sources = copy_sources(folder / "sources")
    pip = [python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    run([*pip, "--no-index", "--wheel-dir", str(folder), "."], cwd=sources)
    (wheel,) = folder.glob("*.whl")
    return wheel


def top_level(wheel):
    """Names at the top of a wheel, but for its own metadata."""
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    return {name for name in names if not name.endswith(".dist-info")}


def run(command, cwd, **environment):
    """What a command prints, (stdout, stderr); a failed one ends the program with its output."""
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{command} returned {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout, done.stderr


def expect(met, what):
    if not met:
        sys.exit(f"FAILED: {what}")
    print(f"ok: {what}", flush=True)


def files_of(output):
    return dict(line.split(" ", 1) for line in output.splitlines())


def check_names(python, cwd, start="", ours=None):
    """Each order of import finds Hugging Face's packages by their names, and ours by ours."""
    for line in IMPORTS:
        found = files_of(run([python, "-c", f"{start}\n{line}\n{SHOW}"], cwd)[0])
        for name in NEIGHBOURS:
            place = Path(found[name])
            expect(place.parts[-3:-1] == ("site-packages", name), f"{line}: {name} is {place}")
            own = Path(found[f"attention_zoo.{name}"])
            expect(ours is None or own.is_relative_to(ours), f"our {name} is {own}")


def check_list(command, cwd, limit):
    """The list of models takes less than `limit` seconds."""
    seconds = []
    for _ in range(10):  # the first compiles the modules
        begin = time.perf_counter()
        text, _ = run([*command, "--mode=list"], cwd)
        seconds.append(time.perf_counter() - begin)
    expect("ragan" in text, f"{command[-1]} --mode=list lists the models")
    expect(min(seconds) < limit, f"{command[-1]} --mode=list takes {min(seconds):.2f} s")


def check_use(python, folder):
    """The Python lines run from an empty folder and print nothing."""
    folder.mkdir()
    begin = time.perf_counter()
    homes = {name: str(folder.parent / name) for name in ("XDG_CACHE_HOME", "TFDS_DATA_DIR")}
    out, err = run([python, "-c", USE], folder, **homes)
    expect(True, f"the Python lines run in {time.perf_counter() - begin:.0f} s")
    expect(out == "", f"they print nothing to stdout: {out[:500]!r}")
    expect(err == "", f"they print nothing to stderr: {err[:500]!r}")
    expect((folder / "runs" / "first" / "run.json").exists(), "runs/first is a run directory")
    saved = list((folder / "exported").rglob("saved_model.pb"))
    expect(len(saved) == 1, f"a SavedModel is in {saved}")
    made = sorted(path.name for path in folder.iterdir())
    expect(made == ["exported", "runs"], f"the folder holds {made}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=sys.executable, help="makes the fresh environment")
    parser.add_argument("--keep", metavar="FOLDER", help="keeps the environment and the runs there")
    parser.add_argument(
        "--limit", type=float, default=1.0, help="seconds that a list may take (more if others run)"
    )
    flags = parser.parse_args()
    folder = Path(flags.keep or tempfile.mkdtemp()).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        check(flags.python, folder, flags.limit)
    finally:
        if not flags.keep:
            shutil.rmtree(folder, ignore_errors=True)


def check(python, folder, limit):
    environment, empty = folder / "environment", folder / "empty"
    empty.mkdir(exist_ok=True)
    if not environment.exists():
        run([python, "-m", "venv", str(environment)], folder)
    inside = str(environment / "bin" / "python")

    def pip(*arguments):
        run([inside, "-m", "pip", *arguments], empty)

    pip("install", "--quiet", "setuptools>=77")
    wheel = str(build_wheel(folder / "wheel", inside))
    expect(top_level(wheel) == {"attention_zoo"}, f"{wheel} holds attention_zoo alone")
    installed = environment / "lib"
    first, second = [wheel], list(NEIGHBOURS)
    for order in ((first, second), (second, first)):
        for names in order:
            pip("install", "--quiet", *names)
        expect(True, f"installed {order[0]}, then {order[1]}")
        check_names(inside, empty, ours=installed)
        check_list([str(environment / "bin" / "attention-zoo")], empty, limit)
        pip("uninstall", "--quiet", "--yes", "attention-zoo", *NEIGHBOURS)

    checkout = copy_sources(folder / "checkout")
    pip("install", "--quiet", *NEIGHBOURS)
    check_names(inside, checkout, start="import main", ours=checkout)
    check_list([inside, "main.py"], checkout, limit)
    pip("install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", str(checkout))
    check_names(inside, empty, ours=checkout)
    check_list([str(environment / "bin" / "attention-zoo")], empty, limit)
    pip("uninstall", "--quiet", "--yes", "attention-zoo")

    pip("install", "--quiet", wheel)
    check_use(inside, folder / "use")


if __name__ == "__main__":
    main()

"""The house keeps its shape: who may import whom, and BUILD says the same as the imports."""

import ast
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("cli", "modes", "zoo", "trainers", "datasets", "evaluate", "serving")
ARROWS = {  # room -> what else it may import; its own modules it always may
    "__init__": ROOMS,
    "common": (),
    "main": ROOMS,
    "cli": ROOMS,
    "modes": ROOMS[2:],
    "zoo": (),
    "trainers": ("zoo.layers",),
    "datasets": (),
    "evaluate": (),
    "reports": (),
    "serving": ("zoo",),
    "benchmarks": (*ROOMS, "main"),
    "tools": (*ROOMS, "main", "benchmarks"),
    "tests": (*ROOMS, "main", "benchmarks", "tools"),
}
ALONE = "zoo/registry.py"  # imports not even its own room, but for common.errors


def sources():
    """{path: text} of every Python file of the repository, the paths relative to it."""
    tops = [p for p in ROOT.iterdir() if p.name[0] != "." and p.name != "runs"]
    tops = [p for p in tops if not p.name.startswith("bazel-")]
    if "TEST_SRCDIR" in os.environ:  # Bazel puts programs of its own beside main.py
        tops = [p for p in tops if p.stem in ARROWS]
    files = [f for p in tops for f in (p.rglob("*.py") if p.is_dir() else [p])]
    return {f.relative_to(ROOT).as_posix(): f.read_text() for f in files if f.suffix == ".py"}


def room_of(name):
    """ "zoo/dcgan.py" or "zoo.dcgan" -> "zoo"; "main.py" -> "main"."""
    return name.removesuffix(".py").replace("/", ".").split(".")[0]


def imports(path, text):
    """The dotted names of ours that a file imports, on whichever line: "zoo.layers.batch_norm"."""
    names = []
    for node in ast.walk(ast.parse(text, path)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = path.split("/")[: -node.level] if node.level else []
            start = ".".join([*package, *([node.module] if node.module else [])])
            names += [f"{start}.{alias.name}" for alias in node.names]
    names = [name.removeprefix("attention_zoo.") for name in names]
    return [name for name in names if room_of(name) in ARROWS]


def bad_arrows(files):
    """A line for each import that ARROWS does not allow."""
    found = []
    for path, text in files.items():
        room = room_of(path)
        if room not in ARROWS:
            found.append(f"{path} is in no room")
            continue
        allowed = ("common.errors",) if path == ALONE else (room, "common", *ARROWS[room])
        for name in imports(path, text):
            if not any(f"{name}.".startswith(f"{start}.") for start in allowed):
                found.append(f"{path} imports {name}")
    return found


@dataclass(frozen=True)
class Target:
    rule: str
    name: str
    srcs: tuple
    deps: tuple


def targets(text):
    """The Python targets of a BUILD file, run as Python with rules that only take notes."""
    found, outputs = [], set()

    def glob(include, exclude=(), allow_empty=True):
        def match(patterns):
            return {p.relative_to(ROOT).as_posix() for one in patterns for p in ROOT.glob(one)}

        return sorted(match(include) - match(exclude))

    def rule(kind):
        return lambda name, srcs=(), deps=(), **_: found.append(
            Target(kind, name, tuple(srcs), tuple(deps))
        )

    names = {kind: rule(kind) for kind in ("py_library", "py_binary", "py_test")}
    names["genrule"] = lambda outs, **_: outputs.update(outs)
    names["load"] = names["package"] = lambda *_, **__: None
    exec(compile(text, "BUILD", "exec"), {**names, "glob": glob})
    return [replace(t, srcs=tuple(s for s in t.srcs if s not in outputs)) for t in found]


def bad_targets(rules, files):
    """A line for each file without exactly one target, each dep missing and each unused."""
    found = []
    for path in files:
        owners = [t.name for t in rules if path in t.srcs]
        if len(owners) != 1:
            found.append(f"{path} is in the srcs of {len(owners)} targets {owners}")
    for target in rules:
        names = [name for path in target.srcs for name in imports(path, files[path])]
        rooms = {room_of(path) for path in target.srcs}
        needed = {f":{room_of(name)}" for name in names if room_of(name) not in rooms}
        found += [f"{target.name} lacks dep {dep}" for dep in sorted(needed - set(target.deps))]
        if target.rule != "py_test":  # all tests share one list
            unused = sorted(set(target.deps) - needed)
            found += [f"{target.name} has dep {dep} that it does not import" for dep in unused]
    return found


def test_every_import_follows_the_arrows():
    files = sources()
    assert {"main.py", "zoo/registry.py", "trainers/base.py", "datasets/table.py"} <= set(files)
    assert bad_arrows(files) == []


@pytest.mark.parametrize(
    "path, line, names",
    [
        ("trainers/gan.py", "import zoo", ["zoo"]),
        ("trainers/gan.py", "from zoo import create, layers", ["zoo.create"]),
        ("trainers/gan.py", "import zoo.layersmith", ["zoo.layersmith"]),
        ("trainers/gan.py", "from zoo.layers.batch_norm import BatchNorm", []),
        ("trainers/gan.py", "from . import losses", []),
        ("zoo/gan.py", "def build():\n    from trainers import losses", ["trainers.losses"]),
        ("zoo/layers/norm.py", "from ...datasets import table", ["datasets.table"]),
        ("zoo/registry.py", "from zoo import dcgan", ["zoo.dcgan"]),
        ("zoo/registry.py", "from . import dcgan", ["zoo.dcgan"]),
        ("datasets/load.py", "import zoo.registry as r", ["zoo.registry"]),
        ("evaluate/fid.py", "try:\n    import datasets\nexcept ImportError: pass", ["datasets"]),
        ("serving/export.py", "import zoo, trainers", ["trainers"]),
        ("main.py", "import zoo, tests.conftest", ["tests.conftest"]),
        ("benchmarks/speed.py", "import main, zoo, trainers.base, evaluate.swd", []),
    ],
)
def test_a_forbidden_import_is_found(path, line, names):
    assert bad_arrows({path: line}) == [f"{path} imports {name}" for name in names]


def test_a_file_outside_the_rooms_is_found():
    assert bad_arrows({"attic/old.py": ""}) == ["attic/old.py is in no room"]


def test_each_file_has_one_target_and_each_target_the_deps_that_it_imports():
    rules = targets((ROOT / "BUILD").read_text())
    rooms = {"zoo", "trainers", "datasets", "evaluate", "serving", "modes", "cli", "main"}
    assert {*rooms, "test_house"} <= {target.name for target in rules}
    assert bad_targets(rules, sources()) == []


ZOO = Target("py_library", "zoo", ("zoo/a.py",), ())
MAIN = Target("py_binary", "main", ("main.py",), (":zoo",))
TEST = Target("py_test", "test_a", ("tests/test_a.py",), (":main", ":zoo"))


@pytest.mark.parametrize(
    "rules, message",
    [
        ([ZOO, MAIN, TEST], None),
        ([ZOO, replace(MAIN, deps=()), TEST], "main lacks dep :zoo"),
        ([ZOO, MAIN, replace(TEST, deps=(":zoo",))], "test_a lacks dep :main"),
        (
            [replace(ZOO, deps=(":main",)), MAIN, TEST],
            "zoo has dep :main that it does not import",
        ),
        ([ZOO, TEST], "main.py is in the srcs of 0 targets []"),
        (
            [ZOO, replace(ZOO, name="again"), MAIN, TEST],
            "zoo/a.py is in the srcs of 2 targets ['zoo', 'again']",
        ),
    ],
)
def test_a_wrong_target_is_found(rules, message):
    files = {"zoo/a.py": "import keras", "main.py": "import zoo", "tests/test_a.py": "import main"}
    assert bad_targets(rules, files) == ([message] if message else [])


def test_a_dep_taken_from_build_is_missed():
    text = (ROOT / "BUILD").read_text()
    main = text[text.index("py_binary(\n") : text.index('name = "tests"')]
    without = text.replace(main, main.replace('":zoo",', ""))
    assert "main lacks dep :zoo" in bad_targets(targets(without), sources())


def test_the_list_imports_no_tensorflow_and_no_keras():
    program = (
        "import sys, main; from attention_zoo.cli.main import main; "
        "assert main(['--mode=list']) == 0; "
        "assert 'attention_zoo.zoo.registry' in sys.modules; "
        "heavy = {'tensorflow', 'keras', 'tensorflow_datasets'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "ragan" in done.stdout

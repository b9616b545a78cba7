"""The shape of the repository: which room imports which, and BUILD says the same as the imports."""

import ast
import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from attention_zoo import tasks
from attention_zoo.zoo import registry

ROOT = Path(__file__).parents[1]
TASKS = ("trainers", "evaluate", "datasets", "zoo", "reports")
EXPERIMENTS = ("tasks", "serving", *TASKS)
STUDIES = ("experiments", *EXPERIMENTS)
ROOMS = ("common", "studies", *STUDIES)
ARROWS = {  # room -> what else it may import; its own modules and common it always may
    "common": (),
    "zoo": (),
    "datasets": (),
    "evaluate": (),
    "reports": (),
    "trainers": ("zoo.layers",),
    "serving": ("zoo",),
    "tasks": TASKS,
    "experiments": EXPERIMENTS,
    "studies": STUDIES,
    "__init__": ("evaluate", "tasks", "experiments"),  # the public API
    "cli": ("__init__", *ROOMS),
    "main": ("__init__", "cli"),
    "benchmarks": ("__init__", "main", "cli", *ROOMS),
    "tools": ("__init__", "main", "cli", "benchmarks", *ROOMS),
    "tests": ("__init__", "main", "cli", "benchmarks", "tools", *ROOMS),
}
PROGRAMS = ("main", "benchmarks", "tools", "tests")  # import the package by its name
ALONE = "zoo/registry.py"  # imports not even its own room, but for common.errors
BUILT = {"bazel-", "build", "dist", "runs", "site"}  # what tools write into the checkout


def sources():
    """{path: text} of every Python file of the repository, the paths relative to it."""
    tops = [p for p in ROOT.iterdir() if p.name[0] != "." and p.name not in BUILT]
    tops = [p for p in tops if not p.name.startswith("bazel-")]
    if "TEST_SRCDIR" in os.environ:  # Bazel puts programs of its own beside main.py
        tops = [p for p in tops if p.stem in ARROWS]
    files = [f for p in tops for f in (p.rglob("*.py") if p.is_dir() else [p])]
    return {f.relative_to(ROOT).as_posix(): f.read_text() for f in files if f.suffix == ".py"}


def room_of(name):
    """ "zoo/dcgan.py" or "zoo.dcgan" -> "zoo"; "main.py" -> "main"."""
    return name.removesuffix(".py").replace("/", ".").split(".")[0]


def imports(path, text):
    """The dotted names of ours that a file imports, on whichever line: "zoo.layers.batch_norm".

    "__init__" stands for the package itself, or a name of its __init__.py.
    """
    names = []
    for node in ast.walk(ast.parse(text, path)):
        if isinstance(node, ast.Import):
            parts = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = node.module.split(".") if node.module else []
            if node.level:
                start = ["attention_zoo", *path.split("/")[: -node.level], *start]
            parts = [[*start, alias.name] for alias in node.names]
        else:
            continue
        for top, *rest in parts:
            if top == "attention_zoo":
                names.append(".".join(rest) if rest and rest[0] in ARROWS else "__init__")
            elif top == "main" and room_of(path) in PROGRAMS:
                names.append("main")
    return names


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


def absolute_imports(files):
    """A line for each import that finds another package, or none, where this one is installed:
    `import zoo` anywhere, and `import attention_zoo` in a room, which imports relatively."""
    found = []
    for path, text in files.items():
        wrong = {*ARROWS, "helpers"} - {"main" if room_of(path) in PROGRAMS else ""}
        if room_of(path) not in PROGRAMS:
            wrong.add("attention_zoo")
        for node in ast.walk(ast.parse(text, path)):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                names = [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            found += [f"{path} imports {n} absolutely" for n in names if n.split(".")[0] in wrong]
    return found


def identifiers(text):
    """Every identifier of a source: variables, parameters, keywords, attributes, imported names."""
    names = set()
    for node in ast.walk(ast.parse(text)):
        for field in ("id", "arg", "attr", "name", "asname"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                names.update(value.split("."))
        if isinstance(node, ast.ImportFrom) and node.module:
            names.update(node.module.split("."))
    return names


SUBJECTS = {"kind", "serve", "publish", "role", "task", "network", "model", "trainer", "spec"}


def kinds():
    """Names of kinds, models and networks, which only tasks/ and serving/signatures.py compare."""
    specs = [registry.get(name) for name in registry.names()]
    networks = {key for spec in specs for counts in spec.params.values() for key in counts}
    networks |= {value for spec in specs for value in (spec.serve, spec.publish, spec.trainer)}
    return {*tasks.KINDS, *(spec.name for spec in specs), *networks} - {""}


def kind_comparisons(path, text, names):
    """A line for each comparison of a kind, role or model with one of the names."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
        elif isinstance(node, ast.Match):
            parts = [node.subject, *(case.pattern for case in node.cases)]
        else:
            continue
        inside = [n for part in parts for n in ast.walk(part)]
        words = {n.value for n in inside if isinstance(n, ast.Constant)} - {None}
        subjects = {getattr(n, "attr", getattr(n, "id", None)) for n in inside}
        if names & words and SUBJECTS & (subjects | words):
            found.append(f"{path}:{node.lineno} compares {ast.unparse(node).splitlines()[0]}")
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


def file_of(name, files):
    """The file that an import of a dotted name of ours reads, or None."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        start = "/".join(parts[:end])
        for path in (f"{start}.py", f"{start}/__init__.py"):
            if path in files:
                return path
    return None


def bad_targets(rules, files):
    """A line for each file without exactly one target, each dep missing and each unused."""
    found, owners = [], {}
    for path in files:
        owners[path] = [t.name for t in rules if path in t.srcs]
        if len(owners[path]) != 1:
            found.append(f"{path} is in the srcs of {len(owners[path])} targets {owners[path]}")
    for target in rules:
        read = {file_of(name, files) for p in target.srcs for name in imports(p, files[p])}
        if "main.py" in target.srcs:
            read.add("__init__.py")  # which it reads as the package attention_zoo
        needed = {f":{name}" for path in read - {None} for name in owners[path]}
        needed.discard(f":{target.name}")
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
        ("trainers/gan.py", "from .. import zoo", ["zoo"]),
        ("trainers/gan.py", "from ..zoo import create, layers", ["zoo.create"]),
        ("trainers/gan.py", "from ..zoo import layersmith", ["zoo.layersmith"]),
        ("trainers/gan.py", "from ..zoo.layers.batch_norm import BatchNorm", []),
        ("trainers/gan.py", "from . import losses", []),
        ("trainers/gan.py", "from ..common import files", []),
        ("zoo/gan.py", "def build():\n    from ..trainers import losses", ["trainers.losses"]),
        ("zoo/layers/norm.py", "from ...datasets import table", ["datasets.table"]),
        ("zoo/registry.py", "from . import dcgan", ["zoo.dcgan"]),
        ("zoo/registry.py", "from ..common import errors, files", ["common.files"]),
        ("datasets/load.py", "import attention_zoo.zoo.registry as r", ["zoo.registry"]),
        ("evaluate/fid.py", "try:\n    from .. import datasets\nexcept E: pass", ["datasets"]),
        ("serving/export.py", "from .. import zoo, trainers", ["trainers"]),
        ("tasks/generation.py", "from ..experiments import config", ["experiments.config"]),
        ("experiments/models.py", "from ..cli import flags", ["cli.flags"]),
        ("experiments/models.py", "from .. import load", ["__init__"]),
        ("studies/gain.py", "from ..experiments import training", []),
        ("main.py", "from attention_zoo.tests import helpers", ["tests.helpers"]),
        ("benchmarks/speed.py", "import main\nfrom attention_zoo import trainers, load", []),
        ("tools/scale.py", "from attention_zoo.tests import helpers", ["tests.helpers"]),
    ],
)
def test_a_forbidden_import_is_found(path, line, names):
    assert bad_arrows({path: line}) == [f"{path} imports {name}" for name in names]


def test_no_import_can_find_a_package_of_somebody_else():
    assert absolute_imports(sources()) == []


@pytest.mark.parametrize(
    "path, line, name",
    [
        ("trainers/gan.py", "import zoo.layers", "zoo.layers"),
        ("trainers/gan.py", "from datasets import load", "datasets"),
        ("trainers/gan.py", "from attention_zoo import zoo", "attention_zoo"),
        ("trainers/gan.py", "import main", "main"),
        ("tests/test_gan.py", "from tests import helpers", "tests"),
        ("tests/test_gan.py", "import helpers", "helpers"),
        ("tests/test_gan.py", "import main\nfrom attention_zoo.tests import helpers", None),
        ("trainers/gan.py", "import keras\nfrom ..zoo import layers", None),
    ],
)
def test_an_absolute_import_is_found(path, line, name):
    expected = [f"{path} imports {name} absolutely"] if name else []
    assert absolute_imports({path: line}) == expected


def test_the_command_line_alone_has_flags():
    rooms = {"cli", "tests", "tools", "benchmarks"}
    files = {p: identifiers(t) for p, t in sources().items() if room_of(p) not in rooms}
    assert [path for path, names in files.items() if "flags" in names] == []
    parsers = [path for path, names in files.items() if "argparse" in names]
    assert parsers == ["serving/local.py"]  # a program of its own


@pytest.mark.parametrize(
    "text",
    [
        "def run(flags): pass",
        "run(flags=3)",
        "x.flags.num",
        "from absl import flags",
        "from ..cli.flags import FLAGS",
        "import absl as flags",
        "flags = 3",
    ],
)
def test_flags_are_found(text):
    assert "flags" in identifiers(text)


def test_tasks_alone_compare_kinds():
    free, names = {"tasks", "tests", "tools", "benchmarks"}, kinds()
    assert {"generation", "ragan", "generator"} <= names
    files = {p: t for p, t in sources().items() if room_of(p) not in free}
    del files["serving/signatures.py"]
    assert [line for p, t in files.items() for line in kind_comparisons(p, t, names)] == []


@pytest.mark.parametrize(
    "text, count",
    [
        ("spec.kind == 'generation'", 1),
        ("'generation' != spec.kind", 1),
        ("kind in ('translation', 'generation')", 1),
        ("about['model'] == 'ragan'", 1),
        ("zoo.get(x).serve == 'generator'", 1),
        ("match spec.kind:\n    case 'generation': pass", 1),
        ("array.dtype.kind == 'f'", 0),
        ("study == 'gain'", 0),
        ("spec.kind == other.kind", 0),
    ],
)
def test_a_comparison_of_kinds_is_found(text, count):
    names = {"generation", "translation", "ragan", "generator", "gain"}
    assert len(kind_comparisons("a.py", text, names)) == count


def test_a_file_outside_the_rooms_is_found():
    assert bad_arrows({"attic/old.py": ""}) == ["attic/old.py is in no room"]


def test_each_file_has_one_target_and_each_target_the_deps_that_it_imports():
    rules = targets((ROOT / "BUILD").read_text())
    rooms = {*ROOMS, "cli", "main", "attention_zoo", "benchmarks", "tools", "tests"}
    assert {*rooms, "test_house"} <= {target.name for target in rules}
    assert bad_targets(rules, sources()) == []


ROOT_FILE = Target("py_library", "attention_zoo", ("__init__.py",), ())
ZOO = Target("py_library", "zoo", ("zoo/__init__.py", "zoo/a.py"), ())
MAIN = Target("py_binary", "main", ("main.py",), (":attention_zoo", ":zoo"))
HELPERS = Target("py_library", "tests", ("tests/helpers.py",), ())
TEST = Target("py_test", "test_a", ("tests/test_a.py",), (":main", ":tests", ":zoo"))
ALL = [ROOT_FILE, ZOO, MAIN, HELPERS, TEST]


def changed(target, **changes):
    return [replace(t, **changes) if t is target else t for t in ALL]


@pytest.mark.parametrize(
    "rules, message",
    [
        (ALL, None),
        (changed(MAIN, deps=(":attention_zoo",)), "main lacks dep :zoo"),
        (changed(MAIN, deps=(":zoo",)), "main lacks dep :attention_zoo"),
        (changed(TEST, deps=(":zoo", ":tests")), "test_a lacks dep :main"),
        (changed(TEST, deps=(":zoo", ":main")), "test_a lacks dep :tests"),
        (changed(ZOO, deps=(":main",)), "zoo has dep :main that it does not import"),
        ([t for t in ALL if t is not HELPERS], "tests/helpers.py is in the srcs of 0 targets []"),
        (
            [*ALL, replace(TEST, name="again")],
            "tests/test_a.py is in the srcs of 2 targets ['test_a', 'again']",
        ),
    ],
)
def test_a_wrong_target_is_found(rules, message):
    files = {
        "__init__.py": "",
        "zoo/__init__.py": "import keras",
        "zoo/a.py": "from ..zoo import layers",
        "main.py": "from attention_zoo import zoo",
        "tests/helpers.py": "",
        "tests/test_a.py": "import main\nfrom attention_zoo.tests import helpers\n"
        "from attention_zoo.zoo import a",
    }
    assert bad_targets(rules, files) == ([message] if message else [])


def test_a_dep_taken_from_build_is_missed():
    text = (ROOT / "BUILD").read_text()
    rule = text[text.index('name = "serving"') :].split("\n)\n")[0]
    without = text.replace(rule, re.sub('":zoo",?', "", rule))
    assert "serving lacks dep :zoo" in bad_targets(targets(without), sources())


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


def test_programs_import_ours_beside_packages_of_the_same_names(tmp_path):
    """As torch-fidelity installs a package `tests`."""
    for name in (*(r for r in ARROWS if r not in ("__init__", "main")), "helpers"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise ImportError('another {name}')\n")
    programs = sorted(p for p in ROOT.glob("tools/*.py") if p.name != "mkdocs_hook.py")
    assert len(programs) >= 4
    program = (
        "import runpy, sys; "
        "[runpy.run_path(path, run_name='program') for path in sys.argv[1:]]; "
        "from attention_zoo.tests import helpers"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", program, *map(str, programs)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

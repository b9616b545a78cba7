"""Options of networks and hyper-parameters with their defaults, read from the sources of zoo/ and
trainers/, since importing these takes seconds."""

import ast
import functools
import inspect
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Defaults(NamedTuple):
    """values: {name: default}. text: what the docstrings say of them."""

    values: dict
    text: str


def options(module):
    """The Defaults of the networks' options of a file of zoo/."""
    build = _nodes("zoo", module)["build"]
    names = [argument.arg for argument in build.args.args]
    text = _text(build).partition("\n\n")[2]  # after what it returns
    return Defaults(dict(zip(names, map(ast.literal_eval, build.args.defaults))), text)


def hparams(module):
    """{loss: Defaults} of the hyper-parameters of a file of trainers/, the default loss first."""
    variants = _nodes("trainers", module)["VARIANTS"].value
    return {
        ast.literal_eval(loss): _fields(module, pair.elts[0])
        for loss, pair in zip(variants.keys, variants.values)
    }


def _fields(module, node):
    """The Defaults of a dataclass of trainers/ that a module calls Name or module.Name."""
    if isinstance(node, ast.Attribute):
        module, name = node.value.id, node.attr
    else:
        name = node.id
    found, values, texts = _nodes("trainers", module)[name], {}, []
    for base in reversed(found.bases):
        inherited = _fields(module, base)
        values |= inherited.values
        texts.append(inherited.text)
    for line in found.body:
        if isinstance(line, ast.AnnAssign) and "ClassVar" not in ast.unparse(line.annotation):
            values[line.target.id] = eval(ast.unparse(line.value), {"__builtins__": {}})
    return Defaults(values, "\n\n".join([*texts, _text(found)]))


def _text(node):
    return inspect.cleandoc(ast.get_docstring(node))


@functools.cache
def _nodes(room, module):
    """{name: node} of the functions, classes and constants of a file."""
    nodes = {}
    for node in ast.parse((ROOT / room / f"{module}.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            nodes[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            nodes[node.targets[0].id] = node
    return nodes

"""Shows the checkout to mkdocstrings as the package `attention_zoo`, whatever its folder is called.

mkdocs.yml names this file. mkdocstrings reads sources and imports nothing: it gets a copy of the
Python files, in a temporary folder of the right name.
"""

import shutil
import tempfile
from pathlib import Path

from mkdocs.plugins import event_priority

ROOT = Path(__file__).parents[1]
PLACE = tempfile.TemporaryDirectory()  # removed when the process ends


def skipped(folder, names):
    """The names in a folder that are no Python source: shutil.copytree leaves them out."""
    return [n for n in names if n == "__pycache__" or not (n.endswith(".py") or "." not in n)]


@event_priority(100)  # before mkdocstrings' own
def on_config(config):
    package = Path(PLACE.name) / "attention_zoo"
    package.mkdir(exist_ok=True)
    shutil.copy(ROOT / "__init__.py", package)
    # `evaluate` is a function here and a room: mkdocstrings would show the room alone
    shutil.copy(ROOT / "__init__.py", package / "_public.py")
    for room in ROOT.glob("[a-z]*/__init__.py"):
        target = package / room.parent.name
        shutil.copytree(room.parent, target, ignore=skipped, dirs_exist_ok=True)
    handlers = config.plugins["mkdocstrings"].config.handlers
    handlers.setdefault("python", {})["paths"] = [PLACE.name]
    return config

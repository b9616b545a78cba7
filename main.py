"""The command line from a checkout: python main.py --mode=... (see --help).

Importing this file makes its folder the package `attention_zoo`.
"""

import importlib.util
import os
import signal
import sys

ROOT = os.path.dirname(os.path.abspath(__file__))


def register():
    """Makes this folder the package `attention_zoo`, whatever its own name is, and takes it off
    sys.path, where its folders `datasets` and `evaluate` would hide the packages of these names."""
    sys.path[:] = [p for p in sys.path if os.path.abspath(p or os.curdir) != ROOT]
    spec = importlib.util.spec_from_file_location(
        "attention_zoo", os.path.join(ROOT, "__init__.py"), submodule_search_locations=[ROOT]
    )
    package = importlib.util.module_from_spec(spec)
    sys.modules["attention_zoo"] = package
    spec.loader.exec_module(package)


if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback for a Ctrl-C before `run` begins

if "attention_zoo" not in sys.modules:
    register()

if __name__ == "__main__":
    from attention_zoo.cli.main import run

    sys.exit(run("main.py"))

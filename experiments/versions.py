"""What a result was made with."""

import contextlib
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from ..common.version import __version__


def versions():
    """{"attention-zoo", "python", "keras", "tensorflow", ..., "commit"}: versions of packages, and
    the commit of a checkout."""
    found = {}
    for package in ("keras", "tensorflow", "numpy", "tensorflow-datasets"):
        module = sys.modules.get(package)  # tensorflow-cpu and tf-nightly are tensorflow too
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = getattr(module, "__version__", None) or metadata.version(package)
    root = Path(__file__).parents[1]
    if (root / ".git").exists():  # an installed package may lie inside someone else's repository
        command = ["git", "-C", str(root), "rev-parse", "HEAD"]
        with contextlib.suppress(OSError):
            commit = subprocess.run(command, capture_output=True, text=True)
            found["commit"] = commit.stdout.strip() or None
    return {"attention-zoo": __version__, "python": sys.version.split()[0], **found}

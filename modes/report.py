"""Writes report.html of a run directory."""

from . import shared
from .shared import UsageError

USES = "run_dir"


def run(flags):
    if not flags.run_dir:
        raise UsageError("--mode=report needs --run_dir=RUN_DIR")
    print(f"report: {shared.make_report(flags.run_dir)}")

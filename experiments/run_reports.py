"""report.html of a run directory."""

import dataclasses
from pathlib import Path

from .. import zoo
from ..common.files import write_file
from ..evaluate import two_stage
from ..reports import run_report
from . import run_directory


def write_report(folder):
    """Writes report.html of a run directory; returns its path."""
    folder = Path(folder)
    record = run_directory.read_record(folder)
    config = record["config"]
    spec = dataclasses.asdict(dataclasses.replace(zoo.get(config["model"]), weights={}))
    rows = run_directory.read_rows(folder / "metrics.jsonl")
    pictures = {name: pictures_of(folder / name) for name in ("samples", "attention")}
    stages = two_stage.stages(rows, **config["stop"]) if config.get("stop") else None
    evaluations = run_directory.read_rows(folder / "evaluation.jsonl")
    page = run_report.report(record, spec, rows, evaluations, pictures, stages)
    write_file(folder / "report.html", page.encode())
    return folder / "report.html"


def pictures_of(folder):
    """[(step, path)] of the pictures step_*.png of a folder, by step."""
    return [(run_directory.step_of(path), path) for path in sorted(folder.glob("step_*.png"))]

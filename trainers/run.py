"""The run directory: run.json, metrics.jsonl and checkpoints that are whole or not there.

A checkpoint is one .npz of every variable by name and needs no pickle; it is written beside its
place, flushed to disk and moved in, so that a kill at any moment leaves the last one intact.
"""

import json
import os
import zipfile
from pathlib import Path

import numpy as np

FREE = ("steps",)  # what a resume may change: a longer run is the same run


class RunError(ValueError):
    """A run directory that cannot be used as asked; the message says why and what to do."""


def write_file(path, data):
    """Writes bytes so that the file is either the old one or the whole new one."""
    beside = path.with_name(path.name + ".part")
    with open(beside, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


class Run:
    """A directory of one training run.

    config: JSON-able values that must be the same for a resume, FREE ones apart; info: values that
    are only recorded (versions, commit). A directory with other values raises RunError.
    """

    def __init__(self, folder, config, info, keep=2):
        self.folder, self.keep = Path(folder), keep
        self.config = json.loads(json.dumps(config))
        self.checkpoints = self.folder / "checkpoints"
        self.samples = self.folder / "samples"
        self.metrics = self.folder / "metrics.jsonl"
        record = self.folder / "run.json"
        if record.exists():
            self._compare(read_record(self.folder)["config"])
        elif self.folder.is_dir() and any(self.folder.iterdir()):
            raise RunError(f"{folder} holds other files: give an empty or new --run_dir")
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            self.samples.mkdir(exist_ok=True)
            text = json.dumps({"config": self.config, "info": info}, indent=2) + "\n"
            write_file(record, text.encode())
        except OSError as error:
            raise RunError(f"cannot write the run directory {folder}: {error.strerror}") from None

    def _compare(self, old):
        new = self.config
        differing = [k for k in {**old, **new} if old.get(k) != new.get(k) and k not in FREE]
        if differing:
            changes = "; ".join(f"{k} was {old.get(k)!r}, now {new.get(k)!r}" for k in differing)
            raise RunError(
                f"{self.folder} is a run with other values ({changes}): repeat its command to "
                "resume it, or give another --run_dir"
            )

    def log(self, row):
        """Appends one JSON line to metrics.jsonl."""
        with open(self.metrics, "a") as file:
            file.write(json.dumps(row) + "\n")

    def rewind(self, step):
        """Takes back what was logged after a step, for a run that goes on from there."""
        if self.metrics.exists():
            lines = self.metrics.read_text().splitlines()
            kept = [line for line in lines if _step_of(line) <= step]
            write_file(self.metrics, "".join(f"{line}\n" for line in kept).encode())

    def best(self, metric):
        """The step of the lowest score in metrics.jsonl, the first of equals; None without one."""
        rows = [json.loads(line) for line in self.metrics.read_text().splitlines()]
        scored = [row for row in rows if metric in row]
        return min(scored, key=lambda row: row[metric])["step"] if scored else None

    def save(self, step, arrays, metric=None):
        """Writes the checkpoint of a step; keeps the newest and the best by a metric."""
        path = self.checkpoints / f"step_{step:08d}.npz"
        beside = path.with_suffix(".part")
        with open(beside, "wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        best = self.best(metric) if metric else None
        for old in list_checkpoints(self.folder)[: -self.keep]:
            if step_of(old) != best:
                old.unlink()


def read_record(folder):
    """run.json of a run directory, as a dict."""
    path = Path(folder) / "run.json"
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise RunError(f"{folder} is not a run directory: it holds no run.json") from None
    except (OSError, json.JSONDecodeError) as error:
        raise RunError(f"{path} cannot be read ({error}): give another --run_dir") from None


def list_checkpoints(folder):
    """Paths of a run directory's checkpoints, oldest first."""
    return sorted((Path(folder) / "checkpoints").glob("step_*.npz"))


def step_of(path):
    """The step of a checkpoint's path."""
    return int(path.stem.removeprefix("step_"))


def read_checkpoint(path):
    """{variable name: array} of a checkpoint; a damaged file raises RunError."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"the checkpoint {path} is damaged ({error})") from None


def assign(state, arrays, source):
    """Sets {name: variable} from {name: array}; any missing, extra or misshapen one raises."""
    wrong = sorted(state.keys() ^ arrays.keys())
    wrong += [k for k in state if k in arrays and tuple(state[k].shape) != arrays[k].shape]
    if wrong:
        raise RunError(f"{source} does not fit the model: {', '.join(wrong[:3])} of {len(wrong)}")
    for name, variable in state.items():
        variable.assign(arrays[name])


def _step_of(line):
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError):
        return float("inf")  # a line cut short by a kill

"""The run directory: run.json, metrics.jsonl, checkpoints/, samples/, attention/.

A checkpoint is one .npz with every variable by name, without pickles. It is written to a temporary
file, flushed to disk and then moved in place, so that a kill at any moment leaves the last
checkpoint intact.
"""

import contextlib
import errno
import json
import os
import warnings
import zipfile
from pathlib import Path

import numpy as np
from absl import logging
from filelock import FileLock, Timeout

from ..common import variables
from ..common.errors import UsageError
from ..common.files import replace_file, write_file

RESUMABLE = ("steps", "stop", "replicas")  # what a resume may change
INTERVALS = ("log", "sample")  # of "every", and these
CONFIG = dict.fromkeys(("model", "dataset", "loss"), str)  # each may be null, too
CONFIG |= dict.fromkeys(("image_size", "batch_size", "steps", "seed"), int)
CONFIG |= dict.fromkeys(("options", "hparams", "every"), dict)
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}  # of the file system
# values of run directories that were written before these options existed
LEGACY_DEFAULTS = {"precision": "float32", "jit": False, "steps_per_execution": 1}
LEGACY_HPARAMS = {"most": "max_classes"}  # old name -> name of today
LEGACY_VALUES = {  # of those that older runs do not record; None: any, as training ignores it
    "options": {
        "start": "",
        "backbone": "vgg16",
        "output_stride": 32,
        "scales": "",
        "bottleneck": 0,
        "region_dropout": 0.0,
        "maps": "soft",
        "centred": None,
    },
    "hparams": {
        "head_rate": 1.0,
        "frozen_statistics": False,
        "augment": "",
        "augment_target": 0.0,
        "r1": 0.0,
        "r1_every": 16,
        "scale_min": 1.0,
        "scale_max": 1.0,
        "own_attention": False,
        "reference_images": "own",
        "lambda_rate": 1.0,
        "d_rate": 1.0,
    },
}


class RunError(UsageError):
    """A run directory that cannot be used as asked; the message says why and what to do."""


class Damaged(RunError):
    """A checkpoint whose bytes are not those that were written."""


class Run:
    """The directory of one training run, locked until `close`.

    config: JSON values that a resume must repeat, except RESUMABLE ones. info: a record of this
    start (command, versions, commit). metric: the score in metrics.jsonl whose best checkpoint (the
    lowest value; with `higher` the highest) is kept beside the newest `keep`. legacy_data: as of
    `check`. A directory with other values, with other files, or locked by another process raises
    RunError.
    """

    def __init__(self, folder, config, info, metric=None, higher=False, keep=2, legacy_data=None):
        self.folder, self.metric, self.higher, self.keep = Path(folder), metric, higher, keep
        self.config = LEGACY_DEFAULTS | json.loads(json.dumps(config))
        self.checkpoints = self.folder / "checkpoints"
        self.samples = self.folder / "samples"
        self.metrics = self.folder / "metrics.jsonl"
        record = self.folder / "run.json"
        try:
            old = check(self.folder, self.config, legacy_data, whole=True)
            starts = old["starts"] if old else []
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            self._lock()
            for part in self.folder.rglob("*.part"):
                part.unlink()  # half-written by a process that was killed
            text = json.dumps({"config": self.config, "starts": [*starts, info]}, indent=2) + "\n"
            write_file(record, text.encode())
        except OSError as error:
            raise RunError(
                f"cannot write the run directory {folder}: {error.strerror}: correct that, or give "
                "another --run_dir"
            ) from None

    def _lock(self):
        """Locks the directory. The operating system frees the lock when the process ends."""
        self.lock = FileLock(self.folder / "lock", timeout=0, thread_local=False)
        try:
            with warnings.catch_warnings(action="ignore"):  # the one below says what to do
                self.lock.acquire()
            is_locked = type(self.lock) is FileLock  # it becomes another where there is no flock
        except Timeout:
            raise RunError(
                f"{self.folder} is being trained by another process: wait for its end, or give "
                "another --run_dir"
            ) from None
        except NotImplementedError:  # older versions of filelock
            is_locked = False
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            is_locked = False
        if not is_locked:
            logging.warning(
                f"{self.folder} is on a file system without locks: start only one training in it"
            )

    def close(self):
        """Frees the lock."""
        self.lock.release()

    def log(self, row):
        """Appends one JSON line to metrics.jsonl."""
        with open(self.metrics, "a") as file:
            file.write(json.dumps(row) + "\n")

    def rewind(self, step):
        """Removes the rows after a step, before a run resumes from it."""
        if self.metrics.exists():
            lines = self.metrics.read_text().splitlines()
            kept = [line for line in lines if _step_of(line) <= step]
            write_file(self.metrics, "".join(f"{line}\n" for line in kept).encode())

    def rows(self):
        """The rows of metrics.jsonl."""
        return read_rows(self.metrics)

    def best(self):
        """The step of the best score in metrics.jsonl, the first of equals; None without one."""
        return best_step(self.rows(), self.metric, self.higher)

    def save(self, step, arrays):
        """Writes the checkpoint of a step; keeps the newest and the best by the metric."""
        path = checkpoint(self.folder, step)
        replace_file(path, lambda file: np.savez(file, **arrays))
        self.prune()

    def prune(self):
        """Removes all checkpoints but the newest `keep` and the best."""
        best = self.best()
        for old in list_checkpoints(self.folder)[: -self.keep]:
            if step_of(old) != best:
                old.unlink()


def check(folder, config, legacy_data=None, whole=False):
    """The record of a run that goes on, None of a new one; raises RunError unless a folder can
    become, or go on as, the directory of a run.

    config: JSON values that a resume must repeat; whole: all of them, so that the run has no
    others. legacy_data: function () -> "data" as earlier versions recorded it. Writes nothing.
    """
    folder = Path(folder)
    if not (folder / "run.json").exists():
        if folder.is_dir() and _foreign_files(folder):
            raise RunError(f"{folder} holds other files: give an empty or new --run_dir")
        return None
    new, record = json.loads(json.dumps(config)), read_record(folder)
    old = record["config"]
    for part, values in LEGACY_VALUES.items():
        if old.get(part) is not None and new.get(part) is not None:
            missing = values.keys() & new[part].keys()
            added = {k: new[part][k] if values[k] is None else values[k] for k in missing}
            old = {**old, part: added | old[part]}
    if legacy_data and old.get("data") != new["data"] and old.get("data") == legacy_data():
        old = {**old, "data": new["data"]}
    if "data" in new and old.get("data") == new["data"]:  # by content: the path may be another one
        if _kind(old["dataset"] or "") == _kind(new["dataset"]):
            old = {**old, "dataset": new["dataset"]}
    if old.get("every") and new.get("every"):
        old = {**old, "every": old["every"] | {k: new["every"][k] for k in INTERVALS}}
    keys = [k for k in ({**old, **new} if whole else new) if k not in RESUMABLE]
    differing = [k for k in keys if old.get(k) != new.get(k)]
    if "data" in differing and set(differing) <= {"data", "dataset"}:
        raise RunError(
            f"{folder} was trained on other data than {new['dataset']} has now (it was "
            f"{old.get('data')!r} and is {new['data']!r}): restore that data, or give another "
            "--run_dir"
        )
    if differing:
        changes = "; ".join(
            f"{name} was {was!r}, now {now!r}"
            for k in differing
            for name, was, now in _changes(k, old.get(k), new.get(k))
        )
        raise RunError(
            f"{folder} is a run with other values ({changes}): repeat its command to resume it, or "
            "give another --run_dir"
        )
    return record


def _foreign_files(folder):
    """Names of files that no run leaves, not even one that was killed at its very start."""
    names = {p.name for p in folder.iterdir()} - {"checkpoints", "samples", "lock"}
    return {name for name in names if not name.startswith("run.json.")}


def _kind(dataset):
    """ "folder:" of "folder:PATH"; another name as it is."""
    kind, colon, _ = dataset.partition(":")
    return kind + colon


def read_record(folder):
    """run.json of a run directory, as a dict."""
    path = Path(folder) / "run.json"
    try:
        record = json.loads(path.read_text())
        config = LEGACY_DEFAULTS | record["config"]
        kinds = all(isinstance(config[k], kind | None) for k, kind in CONFIG.items())
        if kinds and isinstance(record["starts"], list):
            hparams = (config["hparams"] or {}).items()
            config["hparams"] = {LEGACY_HPARAMS.get(k, k): v for k, v in hparams}
            return {**record, "config": config}
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(f"{folder} is not a run directory: it holds no run.json") from None
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        pass
    raise RunError(f"{path} is damaged: give another run directory")


def read_rows(path):
    """The rows of a .jsonl file, without one that a kill cut short; [] without the file."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else ():
        with contextlib.suppress(json.JSONDecodeError):
            rows.append(json.loads(line))
    return rows


def best_step(rows, metric, higher):
    """The step of the best score in the rows of metrics.jsonl, the first of equals, or None."""
    scored = [row for row in rows if metric in row]
    sign = -1 if higher else 1
    return min(scored, key=lambda row: sign * row[metric])["step"] if scored else None


def best_checkpoint(folder):
    """Path of the best checkpoint by the run's --metrics; None if it had no --metrics."""
    best = read_record(folder)["config"].get("best")
    step = best and best_step(read_rows(Path(folder) / "metrics.jsonl"), **best)
    return step and checkpoint(folder, step)


def checkpoint(folder, step):
    """Path of the checkpoint of a step, which need not exist."""
    return Path(folder) / "checkpoints" / f"step_{step:08d}.npz"


def list_checkpoints(folder):
    """Paths of a run directory's checkpoints, oldest first."""
    return sorted((Path(folder) / "checkpoints").glob("step_*.npz"))


def step_of(path):
    """The step of a checkpoint's path."""
    return int(path.stem.removeprefix("step_"))


def read_checkpoint(path):
    """{variable name: array} of a checkpoint; a damaged file raises Damaged."""
    try:
        with zipfile.ZipFile(path) as file:  # all of it: np.load trusts each length that it finds
            file.fp.seek(-12, os.SEEK_END)
            whole = len(file.namelist()) == int.from_bytes(file.fp.read(2), "little")
            if not whole or file.testzip():
                raise zipfile.BadZipFile("its parts are not those that were written")
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except MemoryError:
        raise
    except Exception as error:  # of all kinds, by what is damaged
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise RunError(f"the checkpoint {path} cannot be read: {error.strerror}") from None
        raise Damaged(f"the checkpoint {path} is damaged ({error})") from None


def assign(state, arrays, source):
    """Sets {name: variable} from {name: array}, all or, where they do not fit, none: RunError."""
    try:
        variables.assign(state, arrays)
    except variables.Misfit as error:
        raise RunError(f"{source} does not fit the model: {error.names}") from None


def _step_of(line):
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError):
        return float("inf")  # a line cut short by a kill


def _changes(name, old, new):
    """Yields (name, old, new) of the values that differ: of two dicts, those of their keys."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        yield name, old, new
        return
    for key in old | new:
        if old.get(key) != new.get(key):
            yield f"{key}_every" if name == "every" else key, old.get(key), new.get(key)

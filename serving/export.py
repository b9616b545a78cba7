"""Writes networks as SavedModels, each version moved in place once a process without Keras has
loaded it back and answered as the network does."""

import errno
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from ..common.images import decoded, encoded
from . import files, loaded, messages, signatures

TOLERANCE = 1e-5  # of the largest value, where that is above 1
PROBE = 2  # images that are compared


class ExportError(ValueError):
    """A SavedModel that does not answer as the network does; nothing was exported."""


@dataclass(frozen=True)
class Served:
    """What is exported under a name: networks {name: keras.Model}, of which `role` is the one that
    is served, its image's side, the threshold of its boxes, and what else is known of it (JSON)."""

    name: str
    role: str
    networks: dict
    size: int
    threshold: float
    about: dict


def write(models, root):
    """Exports each Served to root/NAME/VERSION, the next free whole number, and writes the server's
    files beside them; returns [(path, names of its signatures)]. A SavedModel that does not load
    or answers otherwise than the network raises ExportError, and none is exported.
    """
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".export-") as beside:
        folders, expected = [], []
        for i, model in enumerate(models):
            folders.append(Path(beside) / str(i))
            expected.append(_save(model, folders[-1]))
        _load(folders)
        for model, folder, answers in zip(models, folders, expected):
            _compare(model.name, folder, answers)
        placed = [_place(folder / "model", root / m.name) for m, folder in zip(models, folders)]
    files.write(root)
    names = [sorted({key.split("/")[0] for key in answers}) for answers in expected]
    return list(zip(placed, names))


def _save(model, folder):
    """Writes a Served's SavedModel, with warm-up requests, and requests.npz; returns what the
    networks answer to those, {SIGNATURE/OUTPUT: array}."""
    endpoints = signatures.of(model.networks, model.role, model.size, model.threshold)
    traced = {
        name: tf.function(function, specs, autograph=False).get_concrete_function()
        for name, (function, specs) in endpoints.items()
    }
    held = tf.Module()
    held.variables_used = list({id(v): v for f in traced.values() for v in f.variables}.values())
    tf.saved_model.save(held, str(folder / "model"), traced)
    extra = folder / "model" / "assets.extra"
    extra.mkdir()
    _warm_up(extra / "tf_serving_warmup_requests", model, endpoints)
    (extra / "zoo.json").write_text(json.dumps(model.about, indent=1) + "\n")
    rng, requests, answers = np.random.default_rng(0), {}, {}
    with tf.device("CPU:0"):  # where the other process runs
        for name, (function, specs) in endpoints.items():
            inputs = [example(spec, PROBE, model.size, rng) for spec in specs]
            requests |= {f"{name}/{s.name}": x for s, x in zip(specs, inputs)}
            made = function(*map(tf.constant, inputs))
            answers |= {f"{name}/{k}": value.numpy() for k, value in made.items()}
    np.savez(folder / "requests.npz", **requests)
    return answers


def example(spec, count, side, rng=None):
    """`count` examples of an input: seeds from 0, labels 0, pictures of `side` pixels, PNG and JPEG
    by turns; random values from rng, or else always 0."""
    shape = [count, *(side if n is None else n for n in spec.shape[1:])]
    if spec.dtype == tf.string:
        pictures = [_picture(("png", "jpeg")[i % 2], side, rng) for i in range(count)]
        return np.array(pictures, object if rng is None else "S")
    if spec.name == "seed":
        return np.arange(count)
    if rng is None or spec.dtype != tf.float32:
        return np.broadcast_to(np.zeros((), spec.dtype.as_numpy_dtype), shape)
    return rng.uniform(-1, 1, shape).astype("float32")


def _picture(kind, side, rng):
    pixels = np.zeros((side, side, 3), "uint8")
    if rng:
        pixels = rng.integers(0, 256, (side + 9, 2 * side, 3), "uint8")
    return encoded(pixels, kind)


def _warm_up(path, model, endpoints):
    """Writes a request for each signature and batch size that files.BATCHES allows."""
    with tf.io.TFRecordWriter(str(path)) as file:
        for name, (_, specs) in endpoints.items():
            for count in files.BATCHES:
                log = messages.PredictionLog()
                request = log.predict_log.request
                request.model_spec.name, request.model_spec.signature_name = model.name, name
                inputs = {spec.name: example(spec, count, model.size) for spec in specs}
                messages.write(request.inputs, inputs)
                file.write(log.SerializeToString())


def _load(folders):
    """Has another process write the answers.npz of folders."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    env |= {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-P", loaded.__file__, *(str(f.resolve()) for f in folders)]
    done = subprocess.run(command, cwd=folders[0], env=env, capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        raise ExportError(f"the SavedModel does not load by itself: {last}")


def _compare(name, folder, expected):
    """Raises ExportError where answers.npz is not what is expected."""
    with np.load(folder / "answers.npz") as file:
        answers = dict(file)
    if answers.keys() != expected.keys():
        raise ExportError(f"{name}: the SavedModel answers {sorted(answers)}, not all")
    for key, value in expected.items():
        gap, most = _gap(answers[key], value)
        if not gap <= most:
            raise ExportError(f"{name}: {key} of the SavedModel is {gap:.3g} off the network's")


def _gap(made, expected):
    """(how far an answer is off, how far it may be): pictures by a grey level, whole numbers in one
    of a thousand, else the largest difference."""
    if made.shape != expected.shape:
        return np.inf, 0
    if expected.dtype == object:
        pairs = zip(made.ravel(), expected.ravel())
        return max(abs(decoded(a).astype(int) - decoded(b)).max() for a, b in pairs), 1
    if expected.dtype.kind == "i":
        return (made != expected).mean(), 1e-3
    return abs(made - expected).max(), TOLERANCE * max(1, abs(expected).max())


def _place(folder, home):
    """Moves a folder to the next free whole number in `home`; returns its path."""
    home.mkdir(exist_ok=True)
    while True:
        path = home / str(max(files.versions(home), default=0) + 1)
        try:
            folder.rename(path)
        except OSError as error:  # another export took it
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            return path

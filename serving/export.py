"""Writes networks as SavedModels. A version is moved in place once a process without Keras has
loaded it and reproduced the network's outputs."""

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

TOLERANCE = 1e-5  # relative to the largest value if that is above 1
PROBE = 2  # the number of images that are compared


class ExportError(ValueError):
    """The outputs of a SavedModel differ from the network's; nothing was exported."""


@dataclass(frozen=True)
class Served:
    """Networks to export under a name.

    role: key of the network that is served, see signatures.ROLES. networks: {name: keras.Model}.
    size: the images' height and width. threshold: of attention boxes. about: metadata (JSON).
    """

    name: str
    role: str
    networks: dict
    size: int
    threshold: float
    about: dict


def write(models, root):
    """Exports each Served to root/NAME/VERSION, the next free integer, and writes the server's
    files beside them; returns [(path, names of its signatures)].

    If a SavedModel does not load, or its outputs differ from the network's, ExportError is raised
    and no model is exported.
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
            with np.load(folder / "answers.npz") as file:
                compare(model.name, "SavedModel", dict(file), answers)
        paths = [_place(folder / "model", root / m.name) for m, folder in zip(models, folders)]
    files.write(root)
    names = [sorted({key.split("/")[0] for key in answers}) for answers in expected]
    return list(zip(paths, names))


def _save(model, folder):
    """Writes the SavedModel of a Served, its warm-up requests and requests.npz; returns the
    networks' answers to those requests, {SIGNATURE/OUTPUT: array}."""
    endpoints = signatures.build(model.networks, model.role, model.size, model.threshold)
    traced = {
        name: tf.function(function, specs, autograph=False).get_concrete_function()
        for name, (function, specs) in endpoints.items()
    }
    module = tf.Module()
    module.variables_used = list({id(v): v for f in traced.values() for v in f.variables}.values())
    tf.saved_model.save(module, str(folder / "model"), traced)
    extra = folder / "model" / "assets.extra"
    extra.mkdir()
    _warm_up(extra / "tf_serving_warmup_requests", model, endpoints)
    (extra / "zoo.json").write_text(json.dumps(model.about, indent=1) + "\n")
    rng, requests, answers = np.random.default_rng(0), {}, {}
    with tf.device("CPU:0"):  # like the other process
        for name, (function, specs) in endpoints.items():
            inputs = [example(spec, PROBE, model.size, rng) for spec in specs]
            requests |= {f"{name}/{s.name}": x for s, x in zip(specs, inputs)}
            try:
                outputs = function(*map(tf.constant, inputs))
            except tf.errors.InvalidArgumentError as error:
                why = error.message.splitlines()[0]
                raise ExportError(
                    f"{model.name}: {name} gives no answer to a probe: {why}"
                ) from None
            answers |= {f"{name}/{k}": value.numpy() for k, value in outputs.items()}
    np.savez(folder / "requests.npz", **requests)
    return answers


def example(spec, count, side, rng=None):
    """`count` examples of an input: seeds from 0, labels 0, pictures of `side` pixels, alternately
    PNG and JPEG. The values are drawn from rng; without one they are 0."""
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
    """Writes a warm-up request for each signature and each batch size of files.BATCHES."""
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
    """Runs the SavedModels of folders in another process, which writes their answers.npz."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    env |= {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    # relative paths: TensorFlow takes a path with [ or \\ for a pattern
    command = [sys.executable, "-P", os.path.abspath(loaded.__file__), *(f.name for f in folders)]
    place = folders[0].parent
    done = subprocess.run(command, cwd=place, env=env, capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        raise ExportError(f"the SavedModel cannot be loaded without this project: {last}")


def compare(name, made, answers, expected, tolerance=TOLERANCE):
    """Raises ExportError if the answers of what was made of a model, {name: array}, differ from the
    expected ones by more than `difference` allows."""
    if answers.keys() != expected.keys():
        raise ExportError(f"{name}: the {made} gives only {sorted(answers)}, not all outputs")
    for key, value in expected.items():
        gap, limit = difference(answers[key], value, tolerance)
        if not gap <= limit:
            raise ExportError(
                f"{name}: {key} of the {made} is {gap:.3g} off the network's, more than {limit:.3g}"
            )


def difference(answer, expected, tolerance=TOLERANCE):
    """(difference of an answer, the largest difference allowed): grey levels of pictures, the share
    of integers that differ, else the largest absolute difference. tolerance: relative to the
    largest value if that is above 1."""
    if answer.shape != expected.shape:
        return np.inf, 0
    if expected.dtype == object:
        pairs = zip(answer.ravel(), expected.ravel())
        return max(abs(decoded(a).astype(int) - decoded(b)).max() for a, b in pairs), 1
    if expected.dtype.kind == "i":
        return (answer != expected).mean(), 1e-3
    return abs(answer - expected).max(), tolerance * max(1, abs(expected).max())


def _place(folder, home):
    """Moves a folder to the next free version in `home`; returns its path."""
    home.mkdir(exist_ok=True)
    while True:
        taken = [int(p.name) for p in home.iterdir() if p.name.isdecimal()]  # by whatever it is
        path = home / str(max(taken, default=0) + 1)
        try:
            folder.rename(path)
        except OSError as error:  # another export has taken the version
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            return path

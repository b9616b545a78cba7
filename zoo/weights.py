"""The one door by which pretrained weights enter and leave: sha256, count and shape of every
variable, and a stored probe, a fixed input whose output must come out again.

A file is an .npz of the variables by name: kernels in float16, all else as it is. Nothing in it is
executed. The table of the weights is pretrained/manifest.json, read by zoo.registry.
"""

import dataclasses
import hashlib
import io
import json
import os
import zipfile

import numpy as np

from zoo import registry

FOLDER = registry.PRETRAINED
TOLERANCE = 2e-3  # of the probe's largest value
DAMAGE = (ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile)


class WeightsError(ValueError):
    """Weights that are not what the manifest says; the message names what is wrong."""


def find(name, tag):
    """The registry.Weights of a model's tag; an unknown tag raises WeightsError."""
    held = registry.get(name).weights
    if tag not in held:
        known = ", ".join(held) or "none yet"
        raise WeightsError(f"{name} has no weights {tag!r}: it has {known}")
    return held[tag]


def load(name, weights):
    """The network that a tag's file fills, its weights set and its probe checked."""
    entry = find(name, weights)
    path = FOLDER / entry.file
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from None
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise WeightsError(f"{path} is not the published file: its sha256 differs")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = dict(file)
    except DAMAGE as error:
        raise WeightsError(f"{path} is damaged ({error})") from None
    network = registry.create(name, **entry.options)[entry.network]
    fill(network, arrays, path)
    made, expected = probe(network), np.asarray(entry.probe)
    close = made.shape == expected.shape and (
        abs(made - expected).max() <= TOLERANCE * abs(expected).max()
    )
    if not close:  # NaN is close to nothing
        raise WeightsError(f"{path} does not give the output that was stored with it")
    return network


def fill(network, arrays, source):
    """Sets a network's variables from {path: array}; a missing, extra or misshapen one raises."""
    state = {v.path: v for v in network.variables}
    wrong = sorted(state.keys() ^ arrays.keys())
    wrong += [k for k in state if k in arrays and tuple(state[k].shape) != arrays[k].shape]
    if wrong:
        first = ", ".join(wrong[:3])
        raise WeightsError(f"{source} does not fit {network.name}: {first} of {len(wrong)}")
    for name, variable in state.items():
        variable.assign(arrays[name])


def probe(network):
    """The first 16 outputs for two inputs drawn uniformly from [-1, 1], always the same ones."""
    shape = (2, *network.input_shape[1:])
    x = np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")
    return np.asarray(network(x, training=False), np.float64).ravel()[:16]


def halve(network):
    """Rounds a network's kernels to float16; returns {path: array} as they are stored."""
    arrays = {v.path: np.asarray(v) for v in network.variables}
    arrays = {k: a.astype("float16") if a.ndim > 1 else a for k, a in arrays.items()}
    fill(network, arrays, network.name)
    return arrays


def publish(name, tag, network, about, folder=None):
    """Writes a network's weights and its row of the manifest into a folder (default: the zoo's
    own); returns the row.

    about: the other fields of registry.Weights. Round the network first (`halve`).
    """
    folder, arrays = folder or FOLDER, halve(network)
    wrong = [k for k, a in arrays.items() if not np.isfinite(a).all()]
    if wrong:
        raise WeightsError(f"{wrong[0]} is not finite, or too large for float16")
    held = io.BytesIO()
    np.savez_compressed(held, **arrays)
    entry = registry.Weights(
        file=f"{name}-{tag}.npz",
        sha256=hashlib.sha256(held.getvalue()).hexdigest(),
        probe=[round(float(v), 6) for v in probe(network)],
        **about,
    )
    folder.mkdir(parents=True, exist_ok=True)
    replace(folder / entry.file, held.getvalue())
    manifest = folder / "manifest.json"
    rows = json.loads(manifest.read_text()) if manifest.exists() else {}
    rows.setdefault(name, {})[tag] = dataclasses.asdict(entry)
    replace(manifest, (json.dumps(rows, indent=1) + "\n").encode())
    return entry


def replace(path, data):
    """Writes a file beside its place and moves it in."""
    beside = path.with_name(path.name + ".part")
    beside.write_bytes(data)
    os.replace(beside, path)

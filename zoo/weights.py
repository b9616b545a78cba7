"""The one door by which pretrained weights enter and leave: sha256, count and shape of every
variable, and a stored probe, a fixed input whose output must come out again.

A file is an .npz of the variables by name, kernels in float16 where the probe allows it; nothing
in it is executed. A manifest.json beside the files tells of them: the zoo's own is in pretrained/,
read by zoo.registry, and any folder or address can hold another, which `save` writes.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import socket
import sys
import tempfile
import threading
import zipfile
import zlib
from pathlib import Path

import numpy as np

from ..common.errors import UsageError
from . import registry

FOLDER = registry.PRETRAINED
MANIFEST = "manifest.json"
TOLERANCE = 2e-3  # of the probe's largest value
TIMEOUT = 30  # seconds without a byte
DAMAGE = (ValueError, TypeError, EOFError, KeyError, RuntimeError, zlib.error, zipfile.BadZipFile)


class WeightsError(UsageError):
    """Weights that are not what the manifest says; the message names what is wrong."""


def find(name, weights):
    """(registry.Weights, address of its file) of a model's weights.

    weights: a tag of the zoo, or PLACE/TAG or PLACE/FILE, where PLACE is a folder or an address
    (https://, file://, hf://owner/repo) that holds a manifest.json. What is not there raises
    WeightsError.
    """
    place, slash, tag = str(weights).rpartition("/")
    if slash:
        held = _rows(place, name)
    else:
        place, held = str(FOLDER), registry.get(name).weights
        broken = registry.get(name).broken
        why = broken.get(tag, broken.get(""))
        if why and tag not in held:
            raise WeightsError(f"{place}/{MANIFEST}: {name}:{tag} cannot be read: {why}")
    held = held | {entry.file: entry for entry in held.values()}
    if tag not in held:
        known = ", ".join(t for t in held if t != held[t].file) or "none yet"
        where = f" in {place}" if slash else ""
        raise WeightsError(f"{name} has no weights {tag!r}{where}: it has {known}")
    file = held[tag].file
    return held[tag], file if "://" in file else f"{place}/{file}"


def _rows(place, name):
    """{tag: registry.Weights} of a model in the manifest of a folder or an address."""
    source = f"{place}/{MANIFEST}"
    try:
        rows = json.loads(read(source))[registry.get(name).name]
        return {tag: registry.Weights(**row) for tag, row in rows.items()}
    except KeyError:
        raise WeightsError(f"{source} tells of no weights of {name}") from None
    except (ValueError, TypeError, AttributeError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(f"{source} is not a manifest of the zoo ({error})") from None


def load(name, weights):
    """The network that weights (see `find`) fill, with them set and its probe checked."""
    return load_entry(name, weights)[0]


def load_entry(name, weights):
    """(what `load` gives, the registry.Weights that tell of it)."""
    entry, address = find(name, weights)
    data = read(address, str(entry.sha256))
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = dict(file)
    except DAMAGE as error:
        raise WeightsError(f"{address} is damaged ({error})") from None
    try:
        network = registry.networks(name, **entry.options)[entry.network]
        expected = np.asarray(entry.probe, "float64")
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{address}: {name} is not built like that ({error})") from None
    fill(network, arrays, address)
    if not _close(probe(network), expected):
        raise WeightsError(f"{address} does not give the output that was stored with it")
    return network, entry


def read(address, sha256=None):
    """The bytes of a file, or of an address through the cache; checked where sha256 is given."""
    scheme, remote, rest = address.partition("://")
    if not remote:
        try:
            data = Path(address).read_bytes()
        except OSError as error:
            raise WeightsError(f"{address} cannot be read: {error.strerror}") from None
    elif scheme == "hf":
        data = _from_hub(rest)
    elif scheme in ("https", "http", "file"):
        kept = cache_folder() / f"{sha256}.npz"
        with contextlib.suppress(OSError):
            data = kept.read_bytes()
            if hashlib.sha256(data).hexdigest() == sha256:
                return data
        data = _download(address)
    else:
        raise WeightsError(f"{address}: takes a folder, https://, file:// or hf://owner/repo")
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise WeightsError(f"{address} is not the published file: its sha256 differs")
    if remote and scheme != "hf" and sha256 is not None:
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            replace(kept, data)
        except OSError as error:
            print(f"{kept.parent} keeps no copy: {error.strerror}", file=sys.stderr)
    return data


def cache_folder():
    """Where downloads are kept, each under its sha256."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return home / "attention_zoo" / "weights"


def _download(address):
    """The bytes of an address: whole, or WeightsError."""
    import keras

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
            return Path(keras.utils.get_file("file", address, cache_subdir=folder)).read_bytes()
    except Exception as error:  # whatever a network or a disk can raise
        line = " ".join(str(error).split())[:200]
        raise WeightsError(f"{address} did not come: {line or type(error).__name__}") from None
    finally:
        socket.setdefaulttimeout(before)


def _from_hub(rest):
    """The bytes of owner/repo/file of the Hugging Face Hub, whose client keeps its own cache."""
    if rest.count("/") < 2:
        raise WeightsError(f"hf://{rest}: takes hf://owner/repo and what is in it")
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise WeightsError("hf:// needs a package: pip install huggingface_hub") from None
    owner, repo, *parts = rest.split("/")
    try:
        return Path(hf_hub_download(f"{owner}/{repo}", "/".join(parts))).read_bytes()
    except Exception as error:  # the client's own, a network's, a disk's
        line = " ".join(str(error).split())[:200]
        raise WeightsError(f"hf://{rest} did not come: {line}") from None


def fill(network, arrays, source):
    """Sets a network's variables from {path: array}.

    Where one is missing, unknown, misshapen or no number, WeightsError names them all, and none
    is set.
    """
    state = {v.path: v for v in network.variables}
    wrong = [f"lacks {k}" for k in state if k not in arrays]
    wrong += [f"holds an unknown {k}" for k in arrays if k not in state]
    for k in (k for k in state if k in arrays):
        shape, ours = tuple(arrays[k].shape), tuple(state[k].shape)
        if shape != ours:
            wrong.append(f"holds {k} of shape {shape}, not {ours}")
        elif arrays[k].dtype.kind not in "fiu":
            wrong.append(f"holds {k} of type {arrays[k].dtype}")
    if wrong:
        raise WeightsError(f"{source} does not fit {network.name}: it {', '.join(wrong)}")
    for name, variable in state.items():
        variable.assign(arrays[name])


def probe(network):
    """16 outputs, evenly spread over those for two inputs drawn uniformly from [-1, 1] (whole
    numbers: 0), always the same ones; float64 (16,), of the first output where there are several,
    or of "translated". A side that may be of any length is 64.
    """
    import keras

    rng, inputs = np.random.default_rng(0), []
    for x in network.inputs:
        kind = "int32" if "int" in x.dtype else "float32"
        shape = (2, *(side or 64 for side in x.shape[1:]))
        inputs.append(rng.uniform(-1, 1, shape).astype(kind))
    outputs = network(inputs if len(inputs) > 1 else inputs[0], training=False)
    if isinstance(outputs, dict):
        outputs = outputs.get("translated", outputs)
    first = keras.tree.flatten(outputs)[0]
    values = keras.ops.convert_to_numpy(first).astype("float64").ravel()
    return values[:: max(1, len(values) // 16)][:16]


def _close(made, expected):
    """Are two probes equal within TOLERANCE? NaN is close to nothing."""
    return made.shape == expected.shape and bool(
        abs(made - expected).max() <= TOLERANCE * abs(expected).max()
    )


def _arrays(network):
    import keras

    return {v.path: keras.ops.convert_to_numpy(v) for v in network.variables}


def halve(network):
    """Rounds a network's kernels to float16, unless its probe does not survive that; returns
    {path: array} as they are stored."""
    whole, before = _arrays(network), probe(network)
    with np.errstate(over="ignore"):
        arrays = {
            k: a.astype("float16") if a.ndim > 1 and a.dtype == "float32" else a
            for k, a in whole.items()
        }
    fill(network, arrays, network.name)
    if _close(probe(network), before):
        return arrays
    fill(network, whole, network.name)
    return whole


def save(name, tag, network, about, folder=None, exact=False):
    """Writes a network's weights and their row of the manifest into a folder, which anyone can
    host as it is (default: the zoo's own); returns the row.

    about: the other fields of registry.Weights. Unless `exact`, the network is rounded (`halve`),
    which is to be done before scores are measured.
    """
    folder, arrays = Path(folder or FOLDER), _arrays(network) if exact else halve(network)
    wrong = [k for k, a in arrays.items() if a.dtype.kind == "f" and not np.isfinite(a).all()]
    if wrong:
        raise WeightsError(f"{wrong[0]} of {network.name} is not finite")
    held = io.BytesIO()
    np.savez_compressed(held, **arrays)
    entry = registry.Weights(
        file=f"{name}-{tag}.npz",
        sha256=hashlib.sha256(held.getvalue()).hexdigest(),
        probe=[float(f"{v:.7g}") for v in probe(network)],
        **about,
    )
    rows = vacant(name, tag, folder)
    rows.setdefault(name, {})[tag] = dataclasses.asdict(entry)
    folder.mkdir(parents=True, exist_ok=True)
    replace(folder / entry.file, held.getvalue())
    replace(folder / MANIFEST, (json.dumps(rows, indent=1) + "\n").encode())
    return entry


def vacant(name, tag, folder=None):
    """The rows of a folder's manifest, {} where there is none yet; a tag that is taken raises
    WeightsError, since others may rely on its digest."""
    manifest = Path(folder or FOLDER) / MANIFEST
    try:
        rows = json.loads(manifest.read_text()) if manifest.exists() else {}
        taken = tag in rows.get(name, {})
    except (ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"{manifest} is not a manifest of the zoo ({error})") from None
    if taken:
        raise WeightsError(f"{manifest} holds {name}:{tag} already: take another --tag")
    return rows


def replace(path, data):
    """Writes a file beside its place and moves it in."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    beside.write_bytes(data)
    os.replace(beside, path)

"""The one door by which pretrained weights enter and leave. It checks the file's sha256, the name
and shape of every variable, and a probe: for a fixed input, the stored output.

A file is an .npz of the variables by name, kernels in float16 where the probe allows it. Nothing in
it is executed. A manifest.json beside the files describes them. The zoo's own is in pretrained/ and
is read by zoo.registry; any folder or address can hold another, which `save` writes.
"""

import contextlib
import dataclasses
import difflib
import hashlib
import io
import json
import re
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
from absl import logging

from ..common import hub, variables
from ..common.downloads import DigestError, DownloadError, download, short
from ..common.errors import UsageError
from ..common.files import cache_folder, user_path, write_file
from ..common.quiet import check_keras
from . import registry

FOLDER = registry.PRETRAINED
MANIFEST = "manifest.json"
TOLERANCE = 2e-3  # of the probe's largest value
DAMAGE = (ValueError, TypeError, EOFError, KeyError, RuntimeError, zlib.error, zipfile.BadZipFile)


class WeightsError(UsageError):
    """Weights that are not what the manifest says; the message names what is wrong."""


def find(name, weights):
    """(name of the model, registry.Weights, address of its file) of published weights.

    name: of the model; None: the manifest's, where one model alone has such a tag. weights: a tag
    of the zoo, or PLACE/TAG or PLACE/FILE, where PLACE is a folder or an address (https://,
    file://, hf://OWNER/NAME) that holds a manifest.json; after hf://... may follow @REVISION.
    Without a tag (hf://OWNER/NAME, FOLDER/) it is the only one of the model. Unknown weights raise
    WeightsError.
    """
    place, tag, revision = _parts(str(weights))
    is_elsewhere = place is not None
    if is_elsewhere:
        name, by_tag = _rows(f"{place}/{MANIFEST}{revision}", name, tag)
        if not tag and len(by_tag) == 1:
            (tag,) = by_tag
    else:
        place, by_tag = str(FOLDER), registry.get(name).weights
        broken = registry.get(name).broken
        why = broken.get(tag, broken.get(""))
        if why and tag not in by_tag:
            raise WeightsError(f"{place}/{MANIFEST}: {name}:{tag} cannot be read: {why}")
    entries = by_tag | {entry.file: entry for entry in by_tag.values()}
    if tag not in entries:
        where = f" in {place}{revision}" if is_elsewhere else ""
        tags = ", ".join(by_tag) or "none yet"
        if not tag:
            raise WeightsError(f"{place}{revision} names no tag: {name} has {tags}")
        close = difflib.get_close_matches(tag, by_tag, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise WeightsError(f"{name} has no weights {tag!r}{where}: {hint}it has {tags}")
    entry = entries[tag]
    if place.startswith("hf://") and not re.fullmatch(r"[\w.-]+", entry.file):
        raise WeightsError(f"{place}/{MANIFEST}{revision} names a file elsewhere: {entry.file}")
    return name, entry, entry.file if "://" in entry.file else f"{place}/{entry.file}{revision}"


def _parts(weights):
    """(PLACE, TAG, "@REVISION") of what `find` takes: PLACE is None for a tag of the zoo, and the
    others are "" where they are not given."""
    if weights.startswith("hf://"):
        repository, rest, revision = hub.split(weights)
        folder, _, tag = f"{repository}/{rest}".rpartition("/")
        return f"hf://{folder}", tag, f"@{revision}" if revision else ""
    if weights.startswith("~"):
        weights = user_path(weights).as_posix()
    place, slash, tag = weights.rpartition("/")
    return place if slash else None, tag, ""


def _rows(source, name, tag):
    """(name of a model, {tag: registry.Weights}) of the manifest at a path or an address. name,
    tag: as in `find`."""
    try:
        rows = json.loads(read(source))
        name = registry.get(name or _model_of(rows, tag, source)).name
        return name, {tag: registry.Weights(**row) for tag, row in rows[name].items()}
    except KeyError:
        raise WeightsError(f"{source} lists no weights of {name}") from None
    except (ValueError, TypeError, AttributeError) as error:
        if isinstance(error, UsageError):
            raise
        raise WeightsError(f"{source} is not a manifest of the zoo ({error})") from None


def _model_of(rows, tag, source):
    """The only model in the rows of a manifest that has a tag, or a file, of this name."""
    names = [
        name
        for name, tags in rows.items()
        if any(tag in ("", key, row.get("file")) for key, row in tags.items())
    ]
    if len(names) == 1:
        return names[0]
    if names:
        raise WeightsError(f"{source} has several models: name one of {', '.join(names)} too")
    tags = [f"{name}:{key}" for name, tags in rows.items() for key in tags]
    raise WeightsError(f"{source} lists no weights {tag!r}: it has {', '.join(tags) or 'none'}")


def load(name, weights):
    """The network of a model's weights (see `find`), with the weights set and its probe checked."""
    return load_entry(name, weights)[1]


def load_entry(name, weights):
    """(name of the model, the network that `load` returns, its registry.Weights)."""
    check_keras()
    name, entry, address = find(name, weights)
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
        raise WeightsError(f"{address}: these options do not fit {name} ({error})") from None
    fill(network, arrays, address)
    if not _close(probe(network), expected):
        raise WeightsError(f"{address} does not give the output that was stored with it")
    return name, network, entry


def read(address, sha256=None):
    """The bytes of a file or of an address. With sha256 they are checked, and those of an address
    are kept in the cache."""
    scheme, remote, rest = address.partition("://")
    if not remote:
        try:
            data = Path(address).read_bytes()
        except OSError as error:
            raise WeightsError(f"{address} cannot be read: {error.strerror}") from None
    elif scheme == "hf":
        data = _from_hub(address, sha256)
    elif scheme in ("https", "http", "file"):
        data = _from_address(address, sha256)
    else:
        raise WeightsError(f"{address}: takes a folder, https://, file:// or hf://OWNER/NAME")
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise WeightsError(f"{address} is not the published file: its sha256 differs")
    return data


def _from_address(address, sha256):
    """The bytes of an address."""
    try:
        return _fetched(address, sha256)
    except DigestError as error:
        raise WeightsError(str(error)) from None
    except (DownloadError, OSError) as error:
        raise WeightsError(f"{address} could not be downloaded: {short(error)}") from None


def _from_hub(address, sha256):
    """The bytes of hf://OWNER/NAME/FILE[@REVISION].

    A manifest is kept in the cache: that of a commit for good, another one until there is a newer
    one, since a branch moves. It is used where the hub does not answer.
    """
    url, headers = hub.request(address)
    kept = cache_folder() / "manifests" / f"{hashlib.sha256(url.encode()).hexdigest()}.json"
    try:
        if sha256 is None and hub.is_commit(address) and kept.exists():
            return kept.read_bytes()
        data = _fetched(url, sha256, headers)
        if sha256 is None:
            with contextlib.suppress(OSError):  # a cache that cannot be written
                kept.parent.mkdir(parents=True, exist_ok=True)
                write_file(kept, data)
        return data
    except DigestError:
        raise WeightsError(f"{address} is not the published file: its sha256 differs") from None
    except DownloadError as error:
        if sha256 is None and error.answer is None and kept.exists():
            logging.warning("%s; the copy in the cache is used", hub.reason(address, error))
            return kept.read_bytes()
        raise WeightsError(hub.reason(address, error)) from None
    except OSError as error:
        raise WeightsError(f"{address} could not be downloaded: {short(error)}") from None


def _fetched(address, sha256, headers=None):
    """The bytes of an address, through the cache where they have a digest."""
    cache = cache_folder() / "weights"
    if sha256 is not None:
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            raise DigestError(f"{address} is not the published file: its sha256 differs")
        try:
            return download(address, cache, f"{sha256}.npz", sha256, headers).read_bytes()
        except OSError as error:
            logging.warning("%s cannot keep a copy: %s", cache, error.strerror)
    with tempfile.TemporaryDirectory() as folder:
        return download(address, folder, "file", sha256, headers).read_bytes()


def fill(network, arrays, source):
    """Sets a network's variables from {path: array}.

    Where arrays are missing, unknown, of another shape or not of numbers, WeightsError names three
    of each kind and counts the others, and no variable is set. source: what the message calls the
    arrays.
    """
    try:
        variables.assign({v.path: v for v in network.variables}, arrays)
    except variables.Misfit as error:
        raise WeightsError(f"{source} does not fit {network.name}: it {error}") from None


def probe(network):
    """-> 16 output values for two fixed inputs, float64 (16,), evenly spread over all values.

    Inputs are drawn uniformly from [-1, 1] by a fixed seed, whole numbers are 0, and sides of any
    length are 64. Of several outputs it is "translated", or else the first.
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
    """Whether two probes are equal within TOLERANCE; with NaN they are not."""
    return made.shape == expected.shape and bool(
        abs(made - expected).max() <= TOLERANCE * abs(expected).max()
    )


def _arrays(network):
    import keras

    return {v.path: keras.ops.convert_to_numpy(v) for v in network.variables}


def round_to_float16(network):
    """Rounds a network's kernels to float16, unless that changes its probe; returns {path: array}
    as they are stored. Depthwise kernels (h, w, C, 1) stay: they are small, and matter most."""
    whole, before = _arrays(network), probe(network)

    def rounded(array):
        depthwise = array.ndim == 4 and array.shape[-1] == 1
        kernel = array.ndim > 1 and array.dtype == "float32" and not depthwise
        return array.astype("float16") if kernel else array

    with np.errstate(over="ignore"):
        arrays = {k: rounded(a) for k, a in whole.items()}
    fill(network, arrays, network.name)
    if _close(probe(network), before):
        return arrays
    fill(network, whole, network.name)
    return whole


def save(name, tag, network, about, folder=None, exact=False):
    """Writes a network's weights and their row of the manifest into a folder (default: the zoo's
    own), which anyone can host as it is; returns the row.

    about: the other fields of registry.Weights. Unless `exact`, the network is rounded by
    `round_to_float16`; call that before scores are measured.
    """
    folder = Path(folder or FOLDER)
    arrays = _arrays(network) if exact else round_to_float16(network)
    wrong = [k for k, a in arrays.items() if a.dtype.kind == "f" and not np.isfinite(a).all()]
    if wrong:
        raise WeightsError(f"{wrong[0]} of {network.name} is not finite")
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    entry = registry.Weights(
        file=f"{name}-{tag}.npz",
        sha256=hashlib.sha256(file.getvalue()).hexdigest(),
        probe=[float(f"{v:.7g}") for v in probe(network)],
        **about,
    )
    rows = check_tag_free(name, tag, folder)
    rows.setdefault(name, {})[tag] = dataclasses.asdict(entry)
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / entry.file, file.getvalue())
    write_file(folder / MANIFEST, (json.dumps(rows, indent=1) + "\n").encode())
    return entry


def check_tag_free(name, tag, folder=None):
    """The rows of a folder's manifest, {} where there is none yet. A tag that is taken raises
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

"""Damages files and requests at random and checks that each is read, or refused in one sentence.

    python tools/fuzz.py [--number=2000] [--seed=0] [--kind=pictures ...] [--keep=FOLDER]
    python tools/fuzz.py --kind=records --case=17      one case again, with its traceback

Kinds: pictures (files of nine formats, by the reader of folders and by the decoder of served
models), weights (headers and bytes of safetensors files, by the reader of other programs'
checkpoints), requests (JSON to the REST interface of exported models), records (run.json, opened
for samples and checked for a resume). A case fails if it ends in an error that no user is meant to
see, lasts longer than LIMIT, or changes a file that it reads. The seed, a kind and a number say
what a case does. --keep: a folder for the inputs that failed. The exit code is 1 if a case failed.
"""

import argparse
import base64
import contextlib
import faulthandler
import hashlib
import http.client
import io
import json
import random
import shutil
import signal
import struct
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import main as checkout  # noqa: E402, F401  makes the folder the package attention_zoo
from attention_zoo.common.quiet import import_tensorflow  # noqa: E402

import_tensorflow()

import numpy as np  # noqa: E402
import safetensors.numpy  # noqa: E402
import tensorflow as tf  # noqa: E402
from PIL import Image  # noqa: E402

import attention_zoo as az  # noqa: E402
from attention_zoo.cli import main  # noqa: E402
from attention_zoo.common.errors import UsageError  # noqa: E402
from attention_zoo.datasets import pictures  # noqa: E402
from attention_zoo.experiments import models, run_directory  # noqa: E402
from attention_zoo.serving import local, signatures  # noqa: E402
from attention_zoo.zoo import bridge, registry  # noqa: E402
from attention_zoo.zoo import weights as door  # noqa: E402

LIMIT = 20  # seconds of a case
NUMBERS = (0, 1, 255, 256, 2**16 - 1, 2**31 - 1, 2**32 - 1)  # written in place of others
VALUES = (None, True, 0, -1, 1.5, 2**31, 2**63, 10**400, 1e39, -1e308, "", "x", "../x", "\0")
VALUES += ("\ud800", [], {}, [[]], [{}], {"b64": "AAAA"}, {"b64": "!"}, [1, [2]], "9" * 5000)
FORMATS = {  # ending: (mode, format's options)
    "png": ("RGBA", {}),
    "grey.png": ("I;16", {}),
    "palette.png": ("P", {}),
    "jpg": ("RGB", {"quality": 90}),
    "grey.jpeg": ("L", {"progressive": True}),
    "gif": ("P", {}),
    "bmp": ("RGB", {}),
    "tiff": ("RGB", {"compression": "tiff_lzw"}),
    "webp": ("RGB", {}),
}


class TooLong(Exception):
    """A case that lasts longer than LIMIT."""


def damaged(data, rng):
    """Bytes with one to four damages: flipped bits, other numbers, parts that are cut out, doubled
    or moved, or a cut end."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = int(len(data) * rng.random() ** rng.choice((1, 3)))  # headers more often
        length = rng.choice((1, 2, 4, 16, 256))
        match rng.randrange(6):
            case 0 if data:
                data[min(place, len(data) - 1)] ^= 1 << rng.randrange(8)
            case 1:
                number = struct.pack(rng.choice("<>") + "I", rng.choice(NUMBERS))
                data[place : place + 4] = number
            case 2:
                del data[place : place + length]
            case 3:
                data[place:place] = data[place : place + length]
            case 4:
                data[place:place] = rng.randbytes(length)
            case 5:
                del data[place:]
    return bytes(data)


def changed(value, rng):
    """A JSON value in which one place holds another value, is missing, or is new."""
    value = json.loads(json.dumps(value))
    places, found = [value], []
    while places:
        place = places.pop()
        keys = range(len(place)) if isinstance(place, list) else place
        for key in keys:
            found.append((place, key))
            if isinstance(place[key], (dict, list)):
                places.append(place[key])
    if not found or rng.random() < 0.05:
        return rng.choice(VALUES)
    place, key = rng.choice(found)
    match rng.randrange(4):
        case 0:
            del place[key]
        case 1 if isinstance(place, dict):
            place[rng.choice(("x", "", f"{key} ", str(key).upper()))] = place[key]
        case 2 if isinstance(place[key], (int, float)):
            place[key] = rng.choice((place[key] + 1, -place[key], place[key] * 1000, 0.5))
        case _:
            place[key] = rng.choice(VALUES)
    return value


def text(value):
    return json.dumps(value).encode(errors="surrogatepass")


class Pictures:
    """Picture files."""

    def __init__(self, folder):
        rng = np.random.default_rng(0)
        self.originals = []
        for ending, (mode, options) in FORMATS.items():
            pixels = np.kron(rng.integers(0, 255, (6, 5, 4)), np.ones((4, 4, 1)))
            image = Image.fromarray(pixels.astype("uint8"), "RGBA")
            if mode == "I;16":
                image = Image.fromarray(np.asarray(image)[..., 0].astype("uint16") * 256)
            image = image.convert(mode) if mode != "I;16" else image
            exif = Image.Exif()
            exif[pictures.ORIENTATION] = 6
            path = folder / f"original.{ending}"
            image.save(path, **options, exif=exif if ending[-3:] in ("jpg", "png") else b"")
            self.originals.append(path)
        self.decoded = tf.function(
            signatures.decoded, input_signature=[tf.TensorSpec((), tf.string)]
        )

    def mutated(self, rng):
        original = rng.choice(self.originals)
        data = damaged(original.read_bytes(), rng)
        return f"damaged.{original.name.partition('.')[2]}", data

    def read(self, path):
        with contextlib.suppress(pictures.Unreadable):
            pixels = pictures.read(path)
            assert pixels.dtype == np.uint8 and pixels.shape[2:] == (3,), pixels.shape
        with contextlib.suppress(pictures.Unreadable):
            pictures.size(path)
        with contextlib.suppress(pictures.Unreadable):
            pictures.numbers(path)
        with contextlib.suppress(tf.errors.InvalidArgumentError):
            self.decoded(path.read_bytes())


class Weights:
    """safetensors files with the weights of a small CycleGAN, by PyTorch's names."""

    def __init__(self, folder):
        self.originals, self.networks = [folder / "original.safetensors"], {}
        options, block = {"image_size": 256, "width": 2, "blocks": 1}, "conv_block.1.weight"
        names, arrays = bridge.LAYOUTS["cyclegan"]({f"model.10.{block}": 0}).names, {}
        for variable in self.network(options).variables:
            layer, leaf = variable.path.split("/")[-2:]
            array = variable.numpy()
            if leaf == "kernel":
                leaf, array = "weight", array.transpose(3, 2, 0, 1)
            arrays[f"{names[layer]}.{leaf}"] = np.ascontiguousarray(array)
        safetensors.numpy.save_file(arrays, self.originals[0])
        assert bridge.options("cyclegan", bridge.read(self.originals[0])) == options
        self.read(self.originals[0])

    def network(self, options):
        key = json.dumps(options)
        if key not in self.networks:
            self.networks[key] = registry.networks("cyclegan", **options)["a2b"]
        return self.networks[key]

    def mutated(self, rng):
        data = self.originals[0].read_bytes()
        if rng.random() < 0.5:
            return "damaged.safetensors", damaged(data, rng)
        length = int.from_bytes(data[:8], "little")
        header = text(changed(json.loads(data[8 : 8 + length]), rng))
        given = len(header) + rng.choice((0, 0, 0, 1, -1))
        return "damaged.safetensors", given.to_bytes(8, "little") + header + data[8 + length :]

    def read(self, path):
        arrays = bridge.read(path)
        network = self.network(bridge.options("cyclegan", arrays))
        door.fill(network, bridge.convert("cyclegan", arrays, network, path.name), path.name)


class Requests:
    """Bodies of REST requests to each signature of an exported generator and classifier."""

    def __init__(self, folder):
        for name in ("dcgan", "resnet9"):
            az.export(az.load(name, "creatures"), folder / "exported")
        self.originals, self.bodies = [folder / "original.json"], []
        server = local.RestServer(("127.0.0.1", 0), local.Handler)
        server.models = local.Models(folder / "exported", warm_up=False)
        self.port = server.server_port
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name in server.models.by_name:
            for signature, spec in server.models.get(name)[1].signatures.items():
                columns = {key: self.value(tensor) for key, tensor in spec.inputs.items()}
                rows = [{key: value[0] for key, value in columns.items()}]
                for values in ({"inputs": columns}, {"instances": rows}):
                    self.bodies.append((name, {"signature_name": signature} | values))
        self.originals[0].write_bytes(text(self.bodies))
        for name, body in self.bodies:
            assert self.ask(name, text(body)) == 200, body

    @staticmethod
    def value(tensor):
        """A JSON value for an input, with one row."""
        if tensor.dtype == tf.string.as_datatype_enum:
            file = io.BytesIO()
            Image.new("RGB", (9, 8), "red").save(file, "png")
            return [{"b64": base64.b64encode(file.getvalue()).decode()}]
        shape = [max(d.size, 1) if i else 1 for i, d in enumerate(tensor.tensor_shape.dim)]
        return np.zeros(shape, tf.as_dtype(tensor.dtype).as_numpy_dtype).tolist()

    def mutated(self, rng):
        name, body = rng.choice(self.bodies)
        data = text(changed(body, rng)) if rng.random() < 0.8 else damaged(text(body), rng)
        return f"damaged.{name}.json", data

    def read(self, path):
        self.ask(path.name.split(".")[1], path.read_bytes())

    def ask(self, name, data):
        """The status of an answer, which must be the client's mistake, or finite JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)
        connection.request("POST", f"/v1/models/{name}:predict", data)
        answer = connection.getresponse()
        body = json.loads(answer.read(), parse_constant=float.fromhex)  # raises where it is NaN
        connection.close()
        assert answer.status in (200, 400, 404, 412), f"status {answer.status}: {body}"
        assert answer.status == 200 or body["error"].strip(), body
        return answer.status


class Records:
    """run.json of a run directory, opened for sampling and for a resume."""

    def __init__(self, folder):
        flags = ["--model=dcgan", "--dataset=creatures", "--steps=1", "--batch_size=2"]
        flags += ["--image_size=32", "--set", "width=4", "--set", "latent=4"]
        self.original = folder / "run"
        with contextlib.redirect_stdout(io.StringIO()):
            assert main.main([*flags, f"--run_dir={self.original}"]) == 0
        self.originals = [path for path in self.original.rglob("*") if path.is_file()]
        self.record = (self.original / "run.json").read_bytes()
        self.config = json.loads(self.record)["config"]

    def mutated(self, rng):
        if rng.random() < 0.3:
            return "damaged/run.json", damaged(self.record, rng)
        return "damaged/run.json", text(changed(json.loads(self.record), rng))

    def read(self, path):
        folder = path.parent
        if not (folder / "checkpoints").exists():
            shutil.copytree(self.original / "checkpoints", folder / "checkpoints")
        with contextlib.suppress(UsageError):
            run_directory.check(folder, self.config, whole=True)
        model = models.open_run(folder)
        if model.name == "dcgan":
            assert model.sample(1, seed=0).shape[0] == 1


KINDS = {"pictures": Pictures, "weights": Weights, "requests": Requests, "records": Records}
SHARES = {"pictures": 10, "weights": 5, "requests": 9, "records": 1}  # records take longest


def digests(paths):
    return {path: hashlib.sha256(path.read_bytes()).digest() for path in paths}


def case(kind, target, folder, seed, number):
    """Runs a case; returns the traceback if it failed, or None."""
    rng = random.Random(f"{seed}/{kind}/{number}")
    name, data = target.mutated(rng)
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    try:
        target.read(path)
    except UsageError as error:
        if not str(error).strip():
            return f"an empty message of {type(error).__name__}"
    except Exception:
        return traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if path.read_bytes() != data:
        return f"{name} was changed"


def too_long(*_):
    raise TooLong(f"the case lasts longer than {LIMIT} s")


def run(kinds, number, seed, only=None, keep=None):
    """Runs `number` cases, divided by SHARES, or the case `only` of each kind; returns the number
    that failed."""
    failures = 0
    signal.signal(signal.SIGALRM, too_long)
    shares = sum(SHARES[kind] for kind in kinds)
    for kind in kinds:
        with tempfile.TemporaryDirectory() as place:
            target = KINDS[kind](Path(place))
            before, begin = digests(target.originals), time.perf_counter()
            numbers = range(-(-number * SHARES[kind] // shares)) if only is None else [only]
            failed = 0
            for i in numbers:
                faulthandler.dump_traceback_later(  # a hang outside Python
                    LIMIT + 60, exit=True, file=sys.__stderr__
                )
                why = case(kind, target, Path(place), seed, i)
                if why:
                    failed += 1
                    print(f"{kind}, case {i}: {why}", flush=True)
                    if keep:
                        keep.mkdir(parents=True, exist_ok=True)
                        name, data = target.mutated(random.Random(f"{seed}/{kind}/{i}"))
                        (keep / f"{kind}-{i}-{name.replace('/', '-')}").write_bytes(data)
            faulthandler.cancel_dump_traceback_later()
            if digests(target.originals) != before:
                failed += 1
                print(f"{kind}: an original was changed")
            seconds = time.perf_counter() - begin
            print(f"{kind}: {len(numbers)} cases, {failed} failed, {seconds:.0f} s", flush=True)
            failures += failed
    return failures


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--number", type=int, default=2000, help="of all kinds together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", action="append", choices=KINDS)
    parser.add_argument("--case", type=int, help="runs only the case of this number")
    parser.add_argument("--keep", type=Path, help="a folder for the inputs that failed")
    return parser.parse_args()


if __name__ == "__main__":
    given = arguments()
    sys.exit(bool(run(given.kind or KINDS, given.number, given.seed, given.case, given.keep)))

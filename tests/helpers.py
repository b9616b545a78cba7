"""What several test files use: arrays, weights, commands, run directories."""

import contextlib
import http.server
import os
import sys
import threading
import urllib.parse
from pathlib import Path

import numpy as np
import pytest

from attention_zoo.cli import main
from attention_zoo.evaluate import inception
from attention_zoo.experiments import run_directory as run
from attention_zoo.zoo import bridge, weights

# torch-fidelity's outputs for random_images() under random_arrays(): parity_inception.py
FEATURES = [0.18326, 0.21821, 2.06326, 2.11752]  # means and largest of the two images
LOGITS = [0.71938, 0.44212, -0.94220, 0.88317, 0.52496, -1.15572]  # the first three of both


def drawn(*shape, seed=1):
    """Numbers of float32, uniform in [-1, 1]."""
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype("float32")


def images(count, size=32, seed=1):
    """Noise as images: float32 (count, size, size, 3) in [-1, 1]."""
    return drawn(count, size, size, 3, seed=seed)


def weights_of(network):
    """The network's variables as arrays, in its order."""
    return [np.array(v) for v in network.variables]


def gap(first, second):
    """The largest difference of two lists of arrays."""
    return max(abs(a - b).max() for a, b in zip(first, second, strict=True))


def publish(name, network, options, folder, tag="mine"):
    """Publishes a network of a model, built with these options, into a folder of weights."""
    about = {"network": network.name, "options": options, "dataset": "none", "scores": {}}
    weights.save(name, tag, network, {**about, "origin": {}, "license": "none"}, folder)


class HubRequest(http.server.BaseHTTPRequestHandler):
    """One request to `hub`: /me/zoo/resolve/REVISION/FILE. Weights are sent by another host, as the
    hub sends large files; the token is not for that one."""

    def do_GET(self):
        hub = self.server
        hub.asked.append(self.path)
        place, _, rest = self.path.rpartition("/resolve/")
        revision, _, name = rest.partition("/")
        file = hub.revisions.get(urllib.parse.unquote(revision), Path("unknown")) / name
        token = {"/me/zoo": hub.token, "/me/large": None}.get(place, "unknown")
        if self.headers["Authorization"] != token:
            self.answer(401, "X-Error-Code", "RepoNotFound")
        elif file.parent.name == "unknown":
            self.answer(404, "X-Error-Code", "RevisionNotFound")
        elif not file.is_file():
            self.answer(404, "X-Error-Code", "EntryNotFound")
        elif place == "/me/zoo" and name.endswith(".npz"):
            address = f"http://127.0.0.1:{hub.server_port}/me/large/resolve/{rest}"
            self.answer(302, "Location", address)
        else:
            self.answer(200, "Content-Length", file.stat().st_size, file.read_bytes())

    def answer(self, status, header, value, data=b""):
        self.send_response(status)
        self.send_header(header, str(value))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def hub(folder, cache, monkeypatch):
    """A server of the hub's HTTP API, as far as downloads ask for it, in place of the hub; and an
    empty folder for downloads.

    folder: the files of its repository me/zoo at "main". Of the server, revisions: {name: folder};
    token: None, or the header "Bearer ..." that it wants; asked: the paths of all requests.
    """
    server = http.server.ThreadingHTTPServer(("localhost", 0), HubRequest)
    server.revisions, server.token, server.asked = {"main": folder}, None, []
    monkeypatch.setenv("HF_ENDPOINT", f"http://localhost:{server.server_port}/")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    threading.Thread(target=server.serve_forever, args=(0.01,)).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def loss_of(loss, **inputs):
    """A loss as a number to compare with."""
    return pytest.approx(float(loss(**inputs)), abs=1e-6)


def command(*flags):
    """The arguments that start the command line as a process, from the root folder."""
    return [sys.executable, "main.py", *flags]


def lines(capsys, *flags):
    """The lines that a command prints to stdout; it must succeed."""
    capsys.readouterr()
    assert main.main(list(flags)) == 0
    return capsys.readouterr().out.splitlines()


def mistake(capsys, *flags):
    """The one line that a command prints to stderr; it must end as a user's mistake."""
    capsys.readouterr()
    assert main.main(list(flags)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    return err


def same_run(ours, theirs):
    """Asserts that two run directories hold the same metrics, newest weights and pictures."""
    assert (ours / "metrics.jsonl").read_bytes() == (theirs / "metrics.jsonl").read_bytes()
    first, second = (run.read_checkpoint(run.list_checkpoints(p)[-1]) for p in (ours, theirs))
    assert first.keys() == second.keys()
    assert [k for k in first if first[k].tobytes() != second[k].tobytes()] == []
    pictures = [
        {str(p)[len(str(r)) :]: p.read_bytes() for p in r.rglob("*.png")} for r in (ours, theirs)
    ]
    assert pictures[0] == pictures[1]


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def fill_from(name, arrays, network):
    """Fills a network of the zoo from arrays by PyTorch's names."""
    weights.fill(network, bridge.convert(name, arrays, network), "arrays")


def random_arrays(model, seed=0):
    """{name of Inception's graph: array} for every weight of a model, scaled so that activations
    stay of order 1."""
    rng = np.random.default_rng(seed)
    arrays = {"softmax/biases": rng.normal(size=1008)}
    for name, variable in inception.nodes(model).items():
        shape = tuple(variable.shape)
        if len(shape) > 1:
            arrays[name] = rng.standard_normal(shape, np.float32)
            arrays[name] *= np.float32((1.5 / np.prod(shape[:-1])) ** 0.5)
        elif name.endswith(("gamma", "moving_variance")):
            arrays[name] = rng.uniform(0.5, 1.5, shape)
        else:
            arrays[name] = rng.normal(0, 0.1, shape)
    return {name: np.asarray(array, np.float32) for name, array in arrays.items()}


def random_images():
    """uint8 (2, 24, 40, 3): noise in the darker half, and in the brighter."""
    noise = np.random.default_rng(1).integers(0, 128, (2, 24, 40, 3))
    return (noise + [[[[0]]], [[[128]]]]).astype(np.uint8)


def convolved(x, kernel, stride, padding):
    """x (H, W, C), kernel (h, w, C, D) -> (H', W', D); padding: zeros (before, after) each side."""
    x = np.pad(x, (padding, padding, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], (0, 1))
    return np.einsum("hwcij,ijcd->hwd", windows[::stride, ::stride], kernel)


def enlarged(x, kernel, first):
    """A transposed convolution with stride 2: x (H, W, C), kernel (h, w, D, C) -> (2H, 2W, D), from
    row and column `first` of the whole result on."""
    (high, wide, _), (side, _, outputs, _) = x.shape, kernel.shape
    y = np.zeros((2 * high + side, 2 * wide + side, outputs))
    for i, j in np.ndindex(high, wide):
        y[2 * i : 2 * i + side, 2 * j : 2 * j + side] += kernel @ x[i, j]
    return y[first : first + 2 * high, first : first + 2 * wide]


def shaken(network, seed=0, scale=0.5):
    """The network with weights at which its parts all matter; variances are positive."""
    rng = np.random.default_rng(seed)
    for v in network.variables:
        value = rng.normal(0, scale, v.shape)
        v.assign(np.abs(value) + 0.5 if "variance" in v.path else value)
    return network


def descend(loss, *networks, rate=0.1):
    """Updates networks by gradient descent; loss: () -> (scalar, what is returned)."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        value, result = loss()
    weights = [w for network in networks for w in network.trainable_variables]
    for w, gradient in zip(weights, tape.gradient(value, weights)):
        w.assign_sub(rate * gradient)
    return result


class Descends:
    """Mixed into the trainer of a translator: gradient descent, which does not hide a gradient's
    scale."""

    rate = 0.1

    def optimizer(self, every=1):
        import keras

        return keras.optimizers.SGD(self.rate)


def resumed(make, batches):
    """The states {name: array} of make() after a half of the steps and after all of them, one a
    batch. Asserts that a second trainer, which goes on from the first half, ends in the same state
    to the bit."""

    def state_after(trainer, batches):
        for batch in batches:
            trainer.train_step(batch)
        return {k: v.numpy() for k, v in trainer.state().items()}

    middle, first, second = len(batches) // 2, make(), make()
    half = state_after(first, batches[:middle])
    whole = state_after(first, batches[middle:])
    run.assign(second.state(), half, "state")
    again = state_after(second, batches[middle:])
    assert whole.keys() == again.keys()
    assert [k for k in whole if whole[k].tobytes() != again[k].tobytes()] == []
    return half, whole


def shared(strategy, arrays, minibatches=1):
    """The batch of a step for each replica of a strategy: its part of each of the minibatches that
    {key: array} consists of."""
    import tensorflow as tf

    def part(context):
        number, count = context.replica_id_in_sync_group, context.num_replicas_in_sync
        return {
            k: tf.concat([tf.split(m, count)[number] for m in tf.split(v, minibatches)], 0)
            for k, v in arrays.items()
        }

    return strategy.experimental_distribute_values_from_function(part)

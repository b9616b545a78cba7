"""Latency, throughput, first requests and memory of a served model, beside the same function called
in process.

    python main.py --mode=export --model=ragan --weights=cifar10 --output=exported
    python -m benchmarks.serving exported --model=ragan --signature=generate [--callers=1,8,32]
    python -m benchmarks.serving exported --model=ragan --rest=8501 --grpc=8500  # one that runs

Each caller asks again as soon as it has its answer, with the batch of one of the warm-up requests.
Without ports a stand-in in Python (serving.local) is started, once without and once with warm-up:
its figures are no figures of TensorFlow Serving, whose ports are given.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from attention_zoo.common.quiet import import_tensorflow
from attention_zoo.serving import client, files


def started(folder, *flags):
    """(process, ports) of a stand-in that serves a folder."""
    command = [sys.executable, "-m", "serving.local", str(folder), "--rest=0", "--grpc=0", *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"benchmark: the server ended with code {process.wait()}")
    return process, json.loads(line)


@contextlib.contextmanager
def server(flags, *options):
    """(ports, its memory in MiB as a function) of the server of the flags, or of a new one."""
    if flags.rest or flags.grpc:
        yield {k: v for k, v in (("rest", flags.rest), ("grpc", flags.grpc)) if v}, None
        return
    process, ports = started(flags.folder, *options)

    def memory():
        text = Path(f"/proc/{process.pid}/status").read_text()
        return int(text.split("VmRSS:")[1].split()[0]) / 1024

    try:
        yield ports, memory if Path("/proc").exists() else None
    finally:
        process.kill()
        process.wait()


def loaded(folder, model, signature, batch):
    """(inputs of a warm-up request of so many images, {name: array}, the exported model's answer to
    them in this process, as a function) of a model's newest version."""
    import tensorflow as tf

    from attention_zoo.serving import local

    path = folder / model / str(max(files.versions(folder / model)))
    requests = [r for name, r in local.warm_up_requests(path) if name == signature]
    if not requests:
        raise SystemExit(f"benchmark: {path} has no warm-up requests of {signature}")
    inputs = requests[files.BATCHES.index(batch)]
    function = tf.saved_model.load(str(path)).signatures[signature]
    tensors = {name: tf.constant(value) for name, value in inputs.items()}
    return inputs, lambda: [value.numpy() for value in function(**tensors).values()]


def measure(make, callers, seconds):
    """Seconds of all calls of `callers` threads, each with a function of its own by make(), that
    call for so many seconds; and the seconds that all of it took."""
    taken, barrier = [[] for _ in range(callers)], threading.Barrier(callers + 1)

    def work(own):
        call = make()
        call()
        barrier.wait()
        end = time.perf_counter() + seconds
        while (begin := time.perf_counter()) < end:
            call()
            own.append(time.perf_counter() - begin)

    threads = [threading.Thread(target=work, args=(own,)) for own in taken]
    for thread in threads:
        thread.start()
    barrier.wait()
    begin = time.perf_counter()
    for thread in threads:
        thread.join()
    return np.concatenate(taken), time.perf_counter() - begin


def show(name, callers, taken, whole, images, base=None):
    """Prints a line; returns the median, of which `base` is that in process."""
    p50, p99 = np.percentile(taken, [50, 99]) * 1000
    more = "" if base is None else f", {p50 - base:+.2f} ms"
    rate = images * len(taken) / whole
    print(f"  {name:<10} {callers:>3} {p50:8.2f} ms {p99:8.2f} ms {rate:8.1f} images/s{more}")
    return p50


def first(flags, inputs):
    """Prints the first request of a new server beside the median of the next 50, by gRPC."""
    for warm_up in ("false", "true"):
        with server(flags, f"--enable_model_warmup={warm_up}") as (ports, _):
            with client.Client("127.0.0.1", grpc=ports["grpc"], timeout=600) as made:
                with contextlib.suppress(client.Invalid):  # connects
                    made.predict(flags.model, inputs, "none")
                taken = []
                for _ in range(51):
                    begin = time.perf_counter()
                    made.predict(flags.model, inputs, flags.signature)
                    taken.append(time.perf_counter() - begin)
        ratio = taken[0] / np.median(taken[1:])
        text = f"{taken[0] * 1000:.1f} ms, {ratio:.1f} times the median"
        print(f"  first request, warm-up {warm_up}: {text}")


def run(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--signature", default="serving_default")
    parser.add_argument("--batch", type=int, default=1, choices=files.BATCHES)
    parser.add_argument("--callers", default="1,8,32")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--requests", type=int, default=10_000, help="over which memory is watched")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--rest", type=int, help="a server that runs")
    parser.add_argument("--grpc", type=int)
    flags = parser.parse_args(arguments)
    import_tensorflow()
    inputs, call = loaded(flags.folder, flags.model, flags.signature, flags.batch)
    print(f"{flags.model}, {flags.signature}, {flags.batch} images a request: p50, p99")
    if not (flags.rest or flags.grpc):
        first(flags, inputs)
    with server(flags) as (ports, memory):

        def remote(way):
            made = client.Client(flags.host, **{way: ports[way]}, timeout=600)
            return lambda: made.predict(flags.model, inputs, flags.signature)

        def here():
            return call

        for callers in map(int, flags.callers.split(",")):
            base = show("in process", callers, *measure(here, callers, flags.seconds), flags.batch)
            for way in ports:
                found = measure(lambda way=way: remote(way), callers, flags.seconds)
                show(way, callers, *found, flags.batch, base)
        if memory:
            ask, held = remote("grpc"), []
            for i in range(flags.requests):
                if i % max(1, flags.requests // 10) == 0:
                    held.append(memory())
                ask()
            held = ", ".join(f"{megabytes:.0f}" for megabytes in [*held, memory()])
            print(f"  the server's memory over {flags.requests} more requests: {held} MiB")


if __name__ == "__main__":
    run()

"""Latency, throughput, first requests and memory of a served model, compared with calls in process.

    python main.py --mode=export --model=ragan --weights=cifar10 --output=exported
    python -m benchmarks.serving exported --model=ragan --signature=generate [--callers=1,8,32]
    python -m benchmarks.serving exported --model=ragan --rest=8501 --grpc=8500  # a running server

Each caller sends the next request as soon as it has an answer. A request is a warm-up request of
the model. Without ports, the stand-in in Python (serving.local) is started, without and with
warm-up; its figures are not those of TensorFlow Serving, which is measured by its ports.
"""

import argparse
import contextlib
import functools
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from attention_zoo.common.quiet import import_tensorflow
from attention_zoo.serving import client, files


def start_server(folder, *flags):
    """(process, ports) of a new stand-in that serves a folder."""
    command = [sys.executable, "-m", "serving.local", str(folder), "--rest=0", "--grpc=0", *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"benchmark: the server ended with code {process.wait()}")
    return process, json.loads(line)


@contextlib.contextmanager
def server(flags, *options):
    """(ports, None) of the server in flags, or (ports, function: memory in MiB) of a new one."""
    if flags.rest or flags.grpc:
        yield {k: v for k, v in (("rest", flags.rest), ("grpc", flags.grpc)) if v}, None
        return
    process, ports = start_server(flags.folder, *options)

    def memory():
        text = Path(f"/proc/{process.pid}/status").read_text()
        return int(text.split("VmRSS:")[1].split()[0]) / 1024

    try:
        yield ports, memory if Path("/proc").exists() else None
    finally:
        process.kill()
        process.wait()


def load_call(folder, model, signature, batch):
    """(inputs {name: array}, function that runs them in this process) of a model's newest version.

    The inputs are those of the warm-up request with `batch` images.
    """
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
    """(seconds of each call, seconds of the whole measurement) of threads that call for a time.

    Each of the `callers` threads calls its own function make().
    """
    durations, barrier = [[] for _ in range(callers)], threading.Barrier(callers + 1)

    def work(calls):
        call = make()
        call()
        barrier.wait()
        end = time.perf_counter() + seconds
        while (begin := time.perf_counter()) < end:
            call()
            calls.append(time.perf_counter() - begin)

    threads = [threading.Thread(target=work, args=(calls,)) for calls in durations]
    for thread in threads:
        thread.start()
    barrier.wait()
    begin = time.perf_counter()
    for thread in threads:
        thread.join()
    return np.concatenate(durations), time.perf_counter() - begin


def show(name, callers, durations, total, images, base=None):
    """Prints a line; returns the median latency. base: the median in process, to compare with."""
    p50, p99 = np.percentile(durations, [50, 99]) * 1000
    more = "" if base is None else f", {p50 - base:+.2f} ms"
    rate = images * len(durations) / total
    print(f"  {name:<10} {callers:>3} {p50:8.2f} ms {p99:8.2f} ms {rate:8.1f} images/s{more}")
    return p50


def show_first(flags, inputs):
    """Prints the time of the first gRPC request to a new server and the median of the next 50."""
    for warm_up in ("false", "true"):
        with server(flags, f"--enable_model_warmup={warm_up}") as (ports, _):
            with client.Client("127.0.0.1", grpc=ports["grpc"], timeout=600) as connection:
                with contextlib.suppress(client.Invalid):  # opens the connection
                    connection.predict(flags.model, inputs, "none")
                durations = []
                for _ in range(51):
                    begin = time.perf_counter()
                    connection.predict(flags.model, inputs, flags.signature)
                    durations.append(time.perf_counter() - begin)
        ratio = durations[0] / np.median(durations[1:])
        text = f"{durations[0] * 1000:.1f} ms, {ratio:.1f} times the median"
        print(f"  first request, warm-up {warm_up}: {text}")


def run(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--signature", default="serving_default")
    parser.add_argument("--batch", type=int, default=1, choices=files.BATCHES)
    parser.add_argument("--callers", default="1,8,32")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument(
        "--requests", type=int, default=10_000, help="sent while the server's memory is recorded"
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--rest", type=int, help="REST port of a running server")
    parser.add_argument("--grpc", type=int, help="gRPC port of a running server")
    flags = parser.parse_args(arguments)
    import_tensorflow()
    inputs, call = load_call(flags.folder, flags.model, flags.signature, flags.batch)
    print(f"{flags.model}, {flags.signature}, {flags.batch} images a request: p50, p99")
    if not (flags.rest or flags.grpc):
        show_first(flags, inputs)
    with server(flags) as (ports, memory):

        def remote_call(protocol):
            connection = client.Client(flags.host, **{protocol: ports[protocol]}, timeout=600)
            return lambda: connection.predict(flags.model, inputs, flags.signature)

        for callers in map(int, flags.callers.split(",")):
            measured = measure(lambda: call, callers, flags.seconds)
            base = show("in process", callers, *measured, flags.batch)
            for protocol in ports:
                measured = measure(functools.partial(remote_call, protocol), callers, flags.seconds)
                show(protocol, callers, *measured, flags.batch, base)
        if memory:
            send, samples = remote_call("grpc"), []
            for i in range(flags.requests):
                if i % max(1, flags.requests // 10) == 0:
                    samples.append(memory())
                send()
            samples = ", ".join(f"{megabytes:.0f}" for megabytes in [*samples, memory()])
            print(f"  the server's memory over {flags.requests} more requests: {samples} MiB")


if __name__ == "__main__":
    run()

"""Images per second of one training step, ours beside the same step in PyTorch.

    python -m benchmarks.train_step --model=dcgan --model=ragan [--rounds=9] [--profile]

Each side is a process of its own; they take turns, a few steps each, so that a machine whose speed
drifts is equally fair to all. Ratios are taken round by round. PyTorch runs eager and compiled,
channels-last; where it is not installed, our side is measured alone. Sides that do not train
equally many parameters are refused.
"""

import argparse
import importlib.util
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import main
import zoo
from modes import shared, train

SIZE, BATCH = 32, 64
SIDES = ("ours", "torch eager", "torch compiled")
MODELS = {  # the module of the PyTorch side, and our options that its Step takes beside the size
    "dcgan": ("torch_gan", "latent width"),
    "ragan": ("torch_gan", "latent width regions mask_size sharpness attend_at encoder_width"),
    "sagan": ("torch_sagan", "latent width"),
}


def ours(model):
    """A function that takes one step of our trainer, and how many parameters it trains."""
    shared.quiet_import()
    import numpy as np
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()  # as modes.train does
    flags = [f"--model={model}", f"--image_size={SIZE}", f"--batch_size={BATCH}"]
    trainer = shared.make_trainer(train.configure(main.parse(flags)))
    x = np.random.default_rng(0).uniform(-1, 1, (BATCH, SIZE, SIZE, 3)).astype("float32")
    data = iter(tf.data.Dataset.from_tensors({"image": x}).repeat())
    trainer.make_train_function()
    networks = [network for network, _ in trainer.played.values()]
    count = sum(math.prod(v.shape) for n in networks for v in n.trainable_variables)
    return lambda: [float(v) for v in trainer.train_function(data).values()], count


def theirs(model, options, mode):
    """The same of PyTorch's Step, without TensorFlow in the process."""
    import torch

    step = importlib.import_module(f"benchmarks.{MODELS[model][0]}").Step(mode, SIZE, **options)
    x = torch.rand(BATCH, 3, SIZE, SIZE) * 2 - 1
    x = x.contiguous(memory_format=torch.channels_last)
    return lambda: step(x), step.parameters


def work(side, model, options):
    """Serves one side: the parameters that it trains on stdout, once it is warm; then a number of
    steps a line on stdin -> the seconds they took on stdout."""
    step, count = ours(model) if side == "ours" else theirs(model, options, side.split()[1])
    for _ in range(5):
        step()
    print(count, flush=True)
    for line in sys.stdin:
        begin = time.perf_counter()
        for _ in range(int(line)):
            step()
        print(time.perf_counter() - begin, flush=True)


def compare(model, rounds, steps):
    """{side: [images per second of each round]}, the sides taking turns."""
    torch = importlib.util.find_spec("torch") is not None
    options = {k: v for k, v in zoo.options(model).items() if k in MODELS[model][1].split()}
    workers, counts = {}, {}
    for side in SIDES if torch else SIDES[:1]:
        command = [sys.executable, "-m", "benchmarks.train_step", "--work", side]
        command += ["--model", model, "--options", json.dumps(options)]
        workers[side] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        counts[side] = workers[side].stdout.readline().strip()
        if not counts[side]:
            raise SystemExit(f"benchmark: the side {side!r} did not start")
    if len(set(counts.values())) > 1:
        raise SystemExit(f"benchmark: the sides train different networks, parameters {counts}")
    rates = {side: [] for side in workers}
    for number in range(rounds):
        order = list(workers)[number % len(workers) :] + list(workers)[: number % len(workers)]
        for side in order:
            workers[side].stdin.write(f"{steps}\n")
            workers[side].stdin.flush()
            rates[side].append(steps * BATCH / float(workers[side].stdout.readline()))
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    return rates


def macs(network):
    """Multiply-adds of one image in a network: {layer: those with its kernels}, and how many more
    with no weight on either side, in the map of its self-attention."""
    import keras

    from zoo.layers.self_attention import SelfAttention

    kernels, maps = {}, 0
    for layer in network.layers:
        if isinstance(layer, SelfAttention):
            places = math.prod(layer.input.shape[1:3])  # N
            convolutions = (layer.query, layer.key, layer.value)
            kernels[layer.name] = places * sum(math.prod(c.kernel.shape) for c in convolutions)
            maps += places**2 * (layer.query.filters + layer.value.filters)
        elif hasattr(layer, "kernel"):
            at = layer.input if isinstance(layer, keras.layers.Conv2DTranspose) else layer.output
            kernels[layer.name] = math.prod(layer.kernel.shape) * math.prod(at.shape[1:-1])
    return kernels, maps


def flops_per_image(model):
    """Floating-point operations of one image in one step: forward 1, to weights 1, to inputs 1."""
    networks = zoo.create(model, image_size=SIZE)
    kernels, maps = macs(networks["discriminator"])
    first = [f"down{SIZE // 2}{part}" for part in ("", "_conv1", "_skip")]  # whose input is x
    first = sum(kernels.get(name, 0) for name in first)
    total = 8 * sum(kernels.values()) - 2 * first  # two updates of D's weights, one pass back to G
    total += 9 * maps
    parts = [(networks["generator"], 1)]
    if model == "ragan":
        encoder = networks["attention"].get_layer("encoder")
        parts = [(networks["generator"].get_layer("decoder"), 1)]
        parts += [(encoder, zoo.options(model)["regions"] + 1)]
    for network, passes in parts:
        kernels, maps = macs(network)
        total += 3 * passes * (sum(kernels.values()) + maps)
        total -= kernels.get("project", 0)  # no gradient to z
    return 2 * total


def convolution_peak():
    """GFLOP/s of the fastest 3x3 convolution among a few shapes, forward, batch 64."""
    import tensorflow as tf

    best = 0
    for size, channels in ((32, 64), (16, 128), (16, 256), (8, 256)):
        x = tf.random.stateless_normal((BATCH, size, size, channels), (0, 0))
        k = tf.random.stateless_normal((3, 3, channels, channels), (0, 1))
        convolve = tf.function(lambda x, k: tf.nn.conv2d(x, k, 1, "SAME"))
        convolve(x, k)
        for _ in range(10):
            begin = time.perf_counter()
            convolve(x, k).numpy()
            seconds = time.perf_counter() - begin
            best = max(best, 2 * 9 * channels**2 * size**2 * BATCH / seconds / 1e9)
    return best


def profile(model, steps=10):
    """[(operation, share of the time spent in operations)] of our step, largest first."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    step, _ = ours(model)
    for _ in range(5):
        step()
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            for _ in range(steps):
                step()
        space = xplane_pb2.XSpace()
        space.ParseFromString(next(Path(folder).rglob("*.xplane.pb")).read_bytes())
    spent = {}
    for plane in space.planes:
        kinds = {k: v.name for k, v in plane.event_metadata.items()}
        for line in plane.lines:
            for event in line.events:
                name, colon, operation = kinds[event.metadata_id].rpartition(":")
                if colon and operation.isidentifier() and not name.endswith(":"):
                    spent[operation] = spent.get(operation, 0) + event.duration_ps
    total = sum(spent.values())
    return sorted(((k, v / total) for k, v in spent.items()), key=lambda pair: -pair[1])


def show(values):
    return f"{statistics.median(values):7.1f}  ({min(values):.1f} to {max(values):.1f})"


def report(model, rounds, steps):
    rates = compare(model, rounds, steps)
    peak = convolution_peak()
    print(f"{model}, {SIZE} x {SIZE}, batch {BATCH}: images per second, median (min to max)")
    for side, values in rates.items():
        print(f"  {side:<15} {show(values)}")
    others = {side: values for side, values in rates.items() if side != "ours"}
    if others:
        best = max(others, key=lambda side: statistics.median(others[side]))
        ratios = [a / b for a, b in zip(rates["ours"], others[best])]
        print(f"  ours / {best}: {statistics.median(ratios):.3f}", end="  ")
        print(f"({min(ratios):.3f} to {max(ratios):.3f}, {rounds} rounds)")
    else:
        print("  PyTorch is not installed: nothing to compare with")
    used = statistics.median(rates["ours"]) * flops_per_image(model) / 1e9
    print(f"  convolutions and matrix products: {used:.0f} GFLOP/s, ", end="")
    print(f"{used / peak:.0%} of the measured convolution peak, {peak:.0f} GFLOP/s")


def run(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", choices=MODELS)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=8, help="steps a turn")
    parser.add_argument("--profile", action="store_true", help="where the time of our step goes")
    parser.add_argument("--work", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--options", type=json.loads, help=argparse.SUPPRESS)
    flags = parser.parse_args(arguments)
    models = flags.model or list(MODELS)
    if flags.work:
        return work(flags.work, models[0], flags.options)
    shared.quiet_import()
    for model in models:
        report(model, flags.rounds, flags.steps)
        if flags.profile:
            print("  time in operations: ", end="")
            print(", ".join(f"{name} {share:.0%}" for name, share in profile(model)[:10]))
    return None


if __name__ == "__main__":
    run()

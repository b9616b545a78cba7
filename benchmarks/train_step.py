"""Images per second and memory of a training step, compared with the same step in PyTorch.

    python -m benchmarks.train_step --model=dcgan --model=ragan [--rounds=9] [--profile]
    python -m benchmarks.train_step --model=dcgan --precision=bfloat16
    python -m benchmarks.train_step --model=attention_gan --steps=1    # 256 x 256, a step per turn
    python -m benchmarks.train_step --model=gain --set=loss=classifier --set=alpha=0

Each side runs in its own process, in float32 and in bfloat16. They take turns of a few steps, so
that changes of the machine's speed affect all of them, and ratios are computed round by round.
PyTorch runs eager and compiled, channels-last, in bfloat16 by its autocast; if it is not installed,
only our side is measured. All sides must train the same number of parameters. Memory is the peak of
a side's process, including libraries. For translators an image is a pair, one of each domain.
"""

import argparse
import dataclasses
import importlib
import importlib.util
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from attention_zoo import zoo
from attention_zoo.cli import commands, parser
from attention_zoo.common.quiet import import_tensorflow
from attention_zoo.experiments.config import PRECISIONS, RunConfig

from . import machine

LIBRARIES = ("ours", "torch eager", "torch compiled")
BFLOAT16 = " in bfloat16"  # the end of a side's name
WARM_UP, TURN = 3, 2.0  # steps before the measurement; the minimum seconds of a turn
CIFAR10, PAIRS = "--dataset=cifar10", "--dataset=horse2zebra --image_size=256 --batch_size=1"
MODELS = {  # model: (PyTorch side, names of our options that it takes, flags of the run)
    "dcgan": ("torch_gan.DCGAN", "latent width", CIFAR10),
    "wgan": ("torch_gan.WGAN", "latent width", CIFAR10),
    "ragan": (
        "torch_gan.DCGAN",
        "latent width regions mask_size sharpness attend_at encoder_width",
        CIFAR10,
    ),
    "sagan": ("torch_sagan.SAGAN", "latent width", CIFAR10),
    "ata_gan": ("torch_ata_gan.ATAGAN", "latent width map_size teacher", CIFAR10),
    "cyclegan": ("torch_translators.CycleGAN", "width blocks", PAIRS),
    "attention_gan": ("torch_translators.AttentionGAN", "width blocks masks", PAIRS),
    "unit": ("torch_unit.UNIT", "width blocks shared", PAIRS),
    "uait": ("torch_uait.UAIT", "width blocks", PAIRS),
    "ganimorph": (
        "torch_ganimorph.GANimorph",
        "width blocks",
        "--dataset=horse2zebra --image_size=128 --batch_size=1",
    ),
    "ra": ("torch_translators.RA", "width levels", PAIRS),
    "discogan": ("torch_discogan.DiscoGAN", "width", "--dataset=horse2zebra"),
    "dualgan": ("torch_dualgan.DualGAN", "width dropout", PAIRS),
    "resnet9": ("torch_classifiers.resnet9", "classes width", CIFAR10),
    "resnet18": ("torch_classifiers.resnet18", "classes width", CIFAR10),
    "squeezenet": ("torch_classifiers.squeezenet", "classes width", CIFAR10),
    "vgg16": ("torch_classifiers.vgg16", "classes width", CIFAR10),
    "gain": (
        "torch_gain.GAIN",
        "classes width stages backbone",
        "--dataset=creatures/many --set=delay=0 --set=judge=shared",
    ),
    "deeplab": (
        "torch_deeplab.DeepLab",
        "classes width fc stride dilation",
        "--dataset=creatures/many",
    ),
    "efficientnet_lite0": (
        "torch_classifiers.efficientnet_lite0",
        "classes width",
        f"{CIFAR10} --image_size=128 --batch_size=16",
    ),
}


def config_for(model, *flags):
    """The RunConfig of a model's benchmark; flags override those in MODELS."""
    _, values = parser.parse([f"--model={model}", *MODELS[model][2].split(), *flags])
    return commands.run_config(values)


def examples(config):
    """The number of images, or pairs of images, in one step."""
    batches = 2 if config.hparams.get("reference_images") == "other" else 1
    return config.batch_size * batches * config.hparams.get("n_critic", 1)


def batch(config):
    """{key: array}: random data for one step."""
    import numpy as np

    rng, count = np.random.default_rng(0), examples(config)
    classes, size = config.options.get("classes"), config.load_size or config.image_size
    data = {}
    for key in zoo.get(config.model).batch:
        if key == "label":
            data[key] = rng.integers(classes, size=count, dtype=np.int32)
        elif key == "labels":
            data[key] = rng.integers(2, size=(count, classes), dtype=np.uint8)
        elif key == "classes":
            data[key] = rng.integers(classes, size=(count, size, size, 1), dtype=np.uint8)
        else:
            data[key] = rng.uniform(-1, 1, (count, size, size, 3)).astype("float32")
    return data


def keras_step(config, replicas=1):
    """(function that runs one step of our trainer, the number of trained parameters).

    replicas: the number of logical CPUs that share the batch.
    """
    import_tensorflow()
    import tensorflow as tf

    from attention_zoo.experiments.training import make_trainer

    strategy = tf.distribute.get_strategy()
    tf.config.experimental.enable_op_determinism()  # as experiments.training does
    if replicas > 1:
        cpu, one = tf.config.list_physical_devices("CPU")[0], tf.config.LogicalDeviceConfiguration()
        tf.config.set_logical_device_configuration(cpu, [one] * replicas)
        strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])
    with strategy.scope():
        trainer = make_trainer(config)
    data = tf.data.Dataset.from_tensors(batch(config)).repeat()
    if replicas > 1:
        data = strategy.experimental_distribute_dataset(data)
    data = iter(data)
    trainer.make_train_function()
    networks = [network for network, _ in trainer.optimizers_by_role.values()]
    count = sum(math.prod(v.shape) for n in networks for v in n.trainable_variables)
    return lambda: [float(v) for v in trainer.train_function(data).values()], count


def pytorch_step(config, mode):
    """(the PyTorch step, the data that it is called with); does not import TensorFlow."""
    import torch

    from . import torch_step

    torch.manual_seed(0)
    path, names, _ = MODELS[config.model]
    module, _, name = path.partition(".")
    options = {k: config.options[k] for k in names.split()}
    make_step = getattr(importlib.import_module(f".{module}", __package__), name)
    step = make_step(mode, config.image_size, **options)
    data = {key: torch_step.tensor(array) for key, array in batch(config).items()}
    return step, data


def in_precision(config, call, data):
    """The PyTorch step as a function without arguments, in the configuration's precision."""
    import torch

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bfloat16"):
            return call(data)

    return step


def work(side, config):
    """Runs the steps of one side in this process.

    After the warm-up it prints the number of trained parameters. Then it reads a number of steps
    from each line of stdin, and prints {"seconds", "megabytes": the peak so far}.
    """
    library, _, mode = side.partition(" ")
    if library == "torch":
        call, data = pytorch_step(config, mode)
        step, count = in_precision(config, call, data), call.parameters
    else:
        step, count = keras_step(config, int(mode or 1))
    for _ in range(WARM_UP):
        step()
    print(count, flush=True)
    for line in sys.stdin:
        begin = time.perf_counter()
        for _ in range(int(line)):
            step()
        result = {"seconds": time.perf_counter() - begin, "megabytes": machine.peak_megabytes()}
        print(json.dumps(result), flush=True)


def sides(ours=False, precisions=PRECISIONS[:2]):
    """The sides whose library is installed, those of each precision together. ours: ours alone."""
    torch = importlib.util.find_spec("torch") and not ours
    endings = {"float32": "", "bfloat16": BFLOAT16}
    return [
        f"{library}{endings[precision]}"
        for precision in precisions
        for library in (LIBRARIES if torch else LIBRARIES[:1])
    ]


def measure(config, rounds, steps=None, sides=("ours",)):
    """{side: {"rates": images per second of each round, "megabytes": peak memory}}.

    steps: per turn; None: at least one, and as many as take TURN seconds. sides: those of `sides`,
    or "ours N" for N replicas.
    """
    workers, measured = {}, {side: {"rates": [], "megabytes": 0} for side in sides}

    def turn(side, steps):
        workers[side].stdin.write(f"{steps}\n")
        workers[side].stdin.flush()
        return json.loads(read_line(side))

    def read_line(side):
        line = workers[side].stdout.readline()
        if not line:
            raise SystemExit(f"benchmark: {config.model}: the side {side!r} ended")
        return line

    try:
        for side in sides:
            command = [sys.executable, "-m", "benchmarks.train_step"]
            command += ["--work", side.removesuffix(BFLOAT16)]
            precision = "bfloat16" if side.endswith(BFLOAT16) else "float32"
            own = dataclasses.replace(config, precision=precision).record()
            workers[side] = subprocess.Popen(
                [*command, "--config", json.dumps(own)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        counts = {side: read_line(side).strip() for side in sides}
        if len(set(counts.values())) > 1:
            raise SystemExit(f"benchmark: the sides train different networks, parameters {counts}")
        if not steps:
            slowest = max(turn(side, 1)["seconds"] for side in sides)
            steps = max(1, math.ceil(TURN / slowest))
        for number in range(rounds):
            for side in [*sides[number % len(sides) :], *sides[: number % len(sides)]]:
                result = turn(side, steps)
                measured[side]["rates"].append(steps * examples(config) / result["seconds"])
                measured[side]["megabytes"] = result["megabytes"]
    finally:
        for worker in workers.values():
            worker.stdin.close()
            worker.wait()
    return measured


def profile(config, steps=10):
    """[(operation, its share of the time of all operations)] of our step, largest first."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    step, _ = keras_step(config)
    for _ in range(WARM_UP):
        step()
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            for _ in range(steps):
                step()
        space = xplane_pb2.XSpace()
        space.ParseFromString(next(Path(folder).rglob("*.xplane.pb")).read_bytes())
    durations = {}
    for plane in space.planes:
        kinds = {k: v.name for k, v in plane.event_metadata.items()}
        for line in plane.lines:
            for event in line.events:
                name, colon, operation = kinds[event.metadata_id].rpartition(":")
                if colon and operation.isidentifier() and not name.endswith(":"):
                    durations[operation] = durations.get(operation, 0) + event.duration_ps
    total = sum(durations.values())
    return sorted(((k, v / total) for k, v in durations.items()), key=lambda pair: -pair[1])


def show(values, digits=1):
    low, high = (f"{end(values):.{digits}f}" for end in (min, max))
    return f"{statistics.median(values):7.{digits}f}  ({low} to {high})"


def comparisons(measured):
    """{"ours / other": ratios round by round}: ours to the fastest side of PyTorch at the same
    precision, and ours in bfloat16 to ours in float32."""
    found = {}

    def compare(ours, other):
        pairs = zip(measured[ours]["rates"], measured[other]["rates"])
        found[f"{ours} / {other}"] = [a / b for a, b in pairs]

    for ours in ("ours", f"ours{BFLOAT16}"):
        others = [f"{other}{ours.removeprefix('ours')}" for other in LIBRARIES[1:]]
        others = [side for side in others if side in measured and ours in measured]
        if others:
            compare(ours, max(others, key=lambda s: statistics.median(measured[s]["rates"])))
    if {"ours", f"ours{BFLOAT16}"} <= measured.keys():
        compare(f"ours{BFLOAT16}", "ours")
    return found


def report(config, rounds, steps, sides):
    """Measures the sides and prints rates, memory, the ratios and the share of the peak."""
    from . import flops

    measured = measure(config, rounds, steps, sides)
    size, digits = config.image_size, 1 if examples(config) > 1 else 3
    print(f"{config.model}, {size} x {size}, batch {config.batch_size}: ", end="")
    print("images per second, median (min to max), and peak memory")
    for side, values in measured.items():
        print(f"  {side:<27} {show(values['rates'], digits)}  {values['megabytes']:.0f} MiB")
    for pair, ratios in comparisons(measured).items():
        print(f"  {pair}: {show(ratios, 3).strip()}, {rounds} rounds")
    for side in [side for side in measured if side.startswith("ours")]:
        peak = machine.convolution_peak(bfloat16=side.endswith(BFLOAT16))
        used = statistics.median(measured[side]["rates"]) * flops.per_image(config) / 1e9
        print(f"  {side}: convolutions and matrix products {used:.0f} GFLOP/s, ", end="")
        print(f"{used / peak:.0%} of the measured convolution peak, {peak:.0f} GFLOP/s")


def run(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", choices=MODELS)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, help="steps per turn (default: two seconds)")
    parser.add_argument(
        "--set", action="append", default=[], help="as in main.py; measures only our side"
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS[:2], action="append", help="default: both"
    )
    parser.add_argument(
        "--profile", action="store_true", help="also prints the operations of our step"
    )
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--config", type=json.loads, help=argparse.SUPPRESS)
    flags = parser.parse_args(arguments)
    if flags.work:
        return work(flags.work, RunConfig.from_record(flags.config))
    for model in flags.model or MODELS:
        config = config_for(model, *(f"--set={pair}" for pair in flags.set))
        chosen = sides(ours=bool(flags.set), precisions=flags.precision or PRECISIONS[:2])
        report(config, flags.rounds, flags.steps, chosen)
        if flags.profile:
            for precision in flags.precision or PRECISIONS[:2]:
                shares = profile(dataclasses.replace(config, precision=precision))
                print(f"  time in operations, {precision}: ", end="")
                print(", ".join(f"{name} {share:.0%}" for name, share in shares[:10]))
    return None


if __name__ == "__main__":
    run()

"""The same training on one device, on two, and by two and four processes of this machine: how far
their losses are apart.

    python tools/scale.py [RUN ...]     all of RUNS, or some; a Markdown table

`make scale` does it, in half an hour of two free cores.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import main as checkout  # noqa: E402, F401  makes the folder the package attention_zoo

STEPS = 20
TINY = ("--dataset=creatures/tiny", "--batch_size=8", "--image_size=32", "--set=width=4")
PAIR = ("--dataset=creatures/plain2striped/tiny", "--batch_size=4", "--image_size=32")
PAIR += ("--set=width=4", "--set=blocks=1", "--set=learning_rate=0.00002")
MANY = ("--dataset=creatures/many/tiny", "--batch_size=8", "--image_size=32", "--set=width=4")
SLOW = "--set=learning_rate=0.001"
VGG16 = ("--set=backbone=vgg16", "--set=stages=3")
RUNS = {  # every model of the zoo, and what differs with its loss; MODEL and what follows
    "dcgan": TINY,
    "wgan": (*TINY, "--set=n_critic=2"),
    "wgan wgan_gp": (*TINY, "--set=n_critic=2", "--set=loss=wgan_gp"),
    "ragan": (*TINY, "--set=encoder_width=4"),
    "sagan": TINY,
    "ata_gan": TINY,
    "cyclegan": (*PAIR, "--set=pool=3"),
    "attention_gan": (*PAIR, "--set=masks=3", "--set=pool=3"),
    "resnet9": TINY,
    "resnet18": TINY,
    "squeezenet": TINY,
    "vgg16": TINY,
    "gain": (*MANY, *VGG16, "--set=delay=0"),
    "gain gain_ext": (*MANY, *VGG16, "--set=loss=gain_ext", "--set=masks=8", SLOW),
    "deeplab": (*MANY, "--set=fc=8", SLOW),
    "deeplab sec": (*MANY, "--set=fc=8", "--set=loss=sec", SLOW),
}


def made(run, strategy, *flags):
    """(trainer, its training batches) of one of RUNS, under a strategy."""
    from attention_zoo.cli import commands, parser
    from attention_zoo.datasets import open_dataset
    from attention_zoo.experiments import training

    arguments = [f"--model={run.split()[0]}", *RUNS[run], f"--steps={STEPS}", *flags]
    _, given = parser.parse(arguments)
    config = commands.run_config(given)
    with strategy.scope():
        trainer = training.make_trainer(config)
    data = open_dataset(config.dataset, config.load_size or config.image_size)
    options = training.batch_options(trainer, config, training.batch_keys(config, data))
    trainer.prepare(data.batches(**options).as_numpy_iterator())
    return trainer, training.distribute_batches(strategy, trainer, data, options)


def steadied(trainer, epsilon=1e-3):
    """Sets Adam's epsilon: with this one a gradient that is zero but for rounding moves nothing."""
    for _, optimizer in trainer.optimizers_by_role.values():
        if hasattr(optimizer, "epsilon"):
            optimizer.epsilon = epsilon


def nudged(trainer):
    """Moves each weight by about one part in 10^7, as much as rounding does."""
    import numpy as np

    rng = np.random.default_rng(0)
    for network, _ in trainer.optimizers_by_role.values():
        for v in network.trainable_variables:
            v.assign(v * (1 + 1e-7 * rng.normal(size=v.shape)))


def work(strategy, runs, *flags):
    """Trains each of the runs as one process of a strategy: {run: [{loss: value} of each step]}.

    Each is `steadied`. --nudge among the flags: from weights that `nudged` has moved.
    """
    import keras
    import tensorflow as tf

    from attention_zoo.experiments import devices

    if strategy == "mirrored":
        cpu = tf.config.list_physical_devices("CPU")[0]
        two = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, two)
    if "--jit" not in flags:
        tf.config.experimental.enable_op_determinism()
    strategy, found = devices.strategy_of(strategy), {}

    class Kept(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            rows.append({k: float(v) for k, v in logs.items()})

    for run in runs:
        rows = found[run] = []
        trainer, data = made(run, strategy, *(flag for flag in flags if flag != "--nudge"))
        steadied(trainer)
        if "--nudge" in flags:
            nudged(trainer)
        trainer.fit(data, steps_per_epoch=STEPS, callbacks=[Kept()], verbose=0, shuffle=False)
        keras.backend.clear_session()
    return found


def started(strategy, count, runs, folder, *flags):
    """What `work` gives of `count` processes."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    places = [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()
    children, files = [], []
    for i in range(count):
        task = {"cluster": {"worker": places}, "task": {"type": "worker", "index": i}}
        files.append(folder / f"{strategy}_{count}_{i}.json")
        command = [sys.executable, __file__, f"--strategy={strategy}", f"--output={files[-1]}"]
        command += flags
        environment = {**os.environ, "TF_CONFIG": json.dumps(task), "TF_CPP_MIN_LOG_LEVEL": "3"}
        children.append(subprocess.Popen([*command, *runs], env=environment))
    for child in children:
        if child.wait():
            sys.exit(f"a process of {strategy} ended with {child.returncode}")
    found = [json.loads(file.read_text()) for file in files]
    if any(other != found[0] for other in found):
        sys.exit(f"the processes of {strategy} tell of different losses")
    return found[0]


def gap(ours, theirs):
    """The largest difference of any loss at any step, of one above 1 as a share of it."""
    return max(abs(a[k] - b[k]) / max(1, abs(a[k])) for a, b in zip(ours, theirs) for k in a)


def table(runs):
    """Prints the rows of all runs."""
    ways = {
        "two devices": ("mirrored", 1),
        "two processes": ("multi_worker", 2),
        "four processes": ("multi_worker", 4),
        "XLA": ("one", 1, "--jit"),
        "weights moved by 1e-7": ("one", 1, "--nudge"),
    }
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        one = started("one", 1, runs, folder)
        others = [started(*way[:2], runs, folder, *way[2:]) for way in ways.values()]
    print(f"| run | losses after {STEPS} steps | {' | '.join(ways)} |")
    print("|---|---|" + "---|" * len(ways))
    for run in runs:
        last = ", ".join(f"{v:.4g}" for v in one[run][-1].values())
        print(
            f"| {run} | {last} | "
            + " | ".join(f"{gap(one[run], o[run]):.1e}" for o in others)
            + " |"
        )


if __name__ == "__main__":
    flags = [a for a in sys.argv[1:] if a.startswith("--")]
    chosen = [a for a in sys.argv[1:] if a not in flags] or list(RUNS)
    if flags:
        strategy, output, *flags = flags
        found = work(strategy.partition("=")[2], chosen, *flags)
        Path(output.partition("=")[2]).write_text(json.dumps(found))
    else:
        table(chosen)

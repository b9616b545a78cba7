"""Compares the losses of the same training on one device, on two devices, and in two and four
processes on this machine.

    python tools/scale.py [RUN ...]     all of RUNS, or some; prints a Markdown table

`make scale` runs it; it takes half an hour on two free cores.
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
PAIR += ("--set=width=4", "--set=learning_rate=0.00002")
MANY = ("--dataset=creatures/many/tiny", "--batch_size=8", "--image_size=32", "--set=width=4")
SLOW = "--set=learning_rate=0.001"
VGG16 = ("--set=backbone=vgg16", "--set=stages=3")
RUNS = {  # "MODEL" or "MODEL LOSS": flags; covers every model of the zoo
    "dcgan": TINY,
    "wgan": (*TINY, "--set=n_critic=2"),
    "wgan wgan_gp": (*TINY, "--set=n_critic=2", "--set=loss=wgan_gp"),
    "ragan": (*TINY, "--set=encoder_width=4"),
    "sagan": TINY,
    "ata_gan": TINY,
    "cyclegan": (*PAIR, "--set=blocks=1", "--set=pool=3"),
    "attention_gan": (*PAIR, "--set=blocks=1", "--set=masks=3", "--set=pool=3"),
    "unit": (*PAIR, "--set=blocks=1"),
    "uait": (*PAIR, "--set=blocks=1", "--set=pool=3"),
    "ganimorph": (*PAIR, "--set=blocks=1"),
    "ra": (*PAIR, "--set=levels=1", "--set=pool=3"),
    "discogan": PAIR,
    "discogan official": (*PAIR, "--set=loss=official"),
    "dualgan": (*PAIR, "--set=n_critic=2"),
    "dualgan sigmoid": (*PAIR, "--set=loss=sigmoid"),
    "resnet9": TINY,
    "resnet18": TINY,
    "squeezenet": TINY,
    "vgg16": TINY,
    "efficientnet_lite0": TINY,
    "gain": (*MANY, *VGG16, "--set=delay=0"),
    "gain gain_ext": (*MANY, *VGG16, "--set=loss=gain_ext", "--set=masks=8", SLOW),
    "deeplab": (*MANY, "--set=fc=8", SLOW),
    "deeplab sec": (*MANY, "--set=fc=8", "--set=loss=sec", SLOW),
}


def make_training(run, strategy, *flags):
    """(trainer, its training batches) of one of RUNS, under a strategy."""
    from attention_zoo.cli import commands, parser
    from attention_zoo.datasets import open_dataset
    from attention_zoo.experiments import training

    arguments = [f"--model={run.split()[0]}", *RUNS[run], f"--steps={STEPS}", *flags]
    _, values = parser.parse(arguments)
    config = commands.run_config(values)
    with strategy.scope():
        trainer = training.make_trainer(config)
    data = open_dataset(config.dataset, config.load_size or config.image_size)
    options = training.batch_options(trainer, config, training.batch_keys(config, data))
    trainer.prepare(data.batches(**options).as_numpy_iterator())
    return trainer, training.distribute_batches(strategy, trainer, data, options)


def set_epsilon(trainer, epsilon=1e-3):
    """Sets Adam's epsilon. With the default, a gradient that consists of rounding errors does not
    change the weights."""
    for _, optimizer in trainer.optimizers_by_role.values():
        if hasattr(optimizer, "epsilon"):
            optimizer.epsilon = epsilon


def perturb_weights(trainer):
    """Changes each weight by about one part in 10^7, as much as rounding does."""
    import numpy as np

    rng = np.random.default_rng(0)
    for network, _ in trainer.optimizers_by_role.values():
        for v in network.trainable_variables:
            v.assign(v * (1 + 1e-7 * rng.normal(size=v.shape)))


def train_runs(strategy, runs, *flags):
    """Trains the runs in one process of a strategy, with `set_epsilon`; returns
    {run: [{loss: value} of each step]}.

    flags: of the runs; --nudge starts from weights changed by `perturb_weights`.
    """
    import keras
    import tensorflow as tf

    from attention_zoo.experiments import devices

    if strategy == "mirrored":
        cpu = tf.config.list_physical_devices("CPU")[0]
        devices_of_cpu = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, devices_of_cpu)
    if "--jit" not in flags:
        tf.config.experimental.enable_op_determinism()
    strategy, losses = devices.strategy_of(strategy), {}

    class Recorder(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            rows.append({k: float(v) for k, v in logs.items()})

    for run in runs:
        rows = losses[run] = []
        run_flags = [flag for flag in flags if flag != "--nudge"]
        trainer, data = make_training(run, strategy, *run_flags)
        set_epsilon(trainer)
        if "--nudge" in flags:
            perturb_weights(trainer)
        trainer.fit(data, steps_per_epoch=STEPS, callbacks=[Recorder()], verbose=0, shuffle=False)
        keras.backend.clear_session()
    return losses


def cluster_configs(count):
    """TF_CONFIG of each of `count` workers on free ports of this machine."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()
    tasks = ({"type": "worker", "index": i} for i in range(count))
    return [json.dumps({"cluster": {"worker": addresses}, "task": task}) for task in tasks]


def run_processes(strategy, count, runs, folder, *flags):
    """The result of `train_runs` in `count` processes."""
    children, files = [], []
    for i, cluster_config in enumerate(cluster_configs(count)):
        files.append(folder / f"{strategy}_{count}_{i}.json")
        command = [sys.executable, __file__, f"--strategy={strategy}", f"--output={files[-1]}"]
        command += flags
        environment = {**os.environ, "TF_CONFIG": cluster_config, "TF_CPP_MIN_LOG_LEVEL": "3"}
        children.append(subprocess.Popen([*command, *runs], env=environment))
    for child in children:
        if child.wait():
            sys.exit(f"a process of {strategy} ended with {child.returncode}")
    losses = [json.loads(file.read_text()) for file in files]
    if any(other != losses[0] for other in losses):
        sys.exit(f"the processes of {strategy} report different losses")
    return losses[0]


def gap(a, b):
    """The largest difference of any loss at any step, relative to a loss that is above 1."""
    return max(abs(x[k] - y[k]) / max(1, abs(x[k])) for x, y in zip(a, b) for k in x)


def table(runs):
    """Prints the rows of all runs."""
    variants = {
        "two devices": ("mirrored", 1),
        "two processes": ("multi_worker", 2),
        "four processes": ("multi_worker", 4),
        "XLA": ("one", 1, "--jit"),
        "weights moved by 1e-7": ("one", 1, "--nudge"),
    }
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        one = run_processes("one", 1, runs, folder)
        others = [
            run_processes(strategy, count, runs, folder, *flags)
            for strategy, count, *flags in variants.values()
        ]
    print(f"| run | losses after {STEPS} steps | {' | '.join(variants)} |")
    print("|---|---|" + "---|" * len(variants))
    for run in runs:
        last = ", ".join(f"{v:.4g}" for v in one[run][-1].values())
        print(
            f"| {run} | {last} | "
            + " | ".join(f"{gap(one[run], o[run]):.1e}" for o in others)
            + " |"
        )


if __name__ == "__main__":
    flags = [a for a in sys.argv[1:] if a.startswith("--")]
    runs = [a for a in sys.argv[1:] if a not in flags] or list(RUNS)
    if flags:
        strategy, output, *flags = flags
        losses = train_runs(strategy.partition("=")[2], runs, *flags)
        Path(output.partition("=")[2]).write_text(json.dumps(losses))
    else:
        table(runs)

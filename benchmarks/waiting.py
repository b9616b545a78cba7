"""The share of a training's time in which the step waits for its batch."""

import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from attention_zoo.cli import main
from attention_zoo.modes import shared, train

from . import train_step

WARM_UP = 5  # steps


def pictures(folder, count=40, size=300):
    """A folder of two domains: `count` pictures of noise in each of trainA/ and trainB/."""
    rng = np.random.default_rng(0)
    for domain in ("trainA", "trainB"):
        (folder / domain).mkdir()
        for i in range(count):
            pixels = rng.integers(0, 256, (size, size, 3), "uint8")
            Image.fromarray(pixels).save(folder / domain / f"{i}.png")
    return f"folder:{folder}"


def rates(model, rounds, steps):
    """Percent of the time of `steps` steps, in each round: CIFAR-10, or for translators pictures
    held at 286, of which 256 x 256 are cut."""
    shared.quiet_import()
    import tensorflow as tf

    from attention_zoo import datasets

    tf.config.experimental.enable_op_determinism()  # as modes.train does
    with tempfile.TemporaryDirectory() as folder:
        flags = train_step.MODELS[model][2].split()
        data_dir = None
        if train_step.PAIRS.split() == flags:
            (Path(folder) / "images").mkdir()
            flags[0] = f"--dataset={pictures(Path(folder) / 'images')}"
            data_dir = folder
        config = train.configure(main.parse([f"--model={model}", *flags]))
        trainer = shared.make_trainer(config)
        step = tf.function(trainer.train_step)
        stream = train.stream_of(trainer, config, data_dir)
        stream = iter(datasets.load(config["dataset"], **stream))

        def turn(count):
            """Seconds of waiting, and of all, in `count` steps."""
            waited, begin = 0.0, time.perf_counter()
            for _ in range(count):
                asked = time.perf_counter()
                batch = next(stream)
                waited += time.perf_counter() - asked
                [value.numpy() for value in step(batch).values()]
            return waited, time.perf_counter() - begin

        turn(WARM_UP)
        turns = [turn(steps) for _ in range(rounds)]
    return [100 * waited / taken for waited, taken in turns]

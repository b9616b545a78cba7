"""The share of the time that a training spends waiting for its next batch."""

import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from attention_zoo.common.quiet import import_tensorflow

from . import train_step

WARM_UP = 5  # steps


def pictures(folder, count=40, size=300):
    """The name of a new data set of two domains: `count` pictures of noise in each folder."""
    rng = np.random.default_rng(0)
    for domain in ("trainA", "trainB"):
        (folder / domain).mkdir()
        for i in range(count):
            pixels = rng.integers(0, 256, (size, size, 3), "uint8")
            Image.fromarray(pixels).save(folder / domain / f"{i}.png")
    return f"folder:{folder}"


def rates(model, rounds, steps):
    """The percentage of the time of `steps` steps spent waiting, in each round.

    The data are CIFAR-10; for translators, random crops of 256 x 256 from 286 x 286 pictures.
    """
    import_tensorflow()
    import tensorflow as tf

    from attention_zoo.datasets import open_dataset
    from attention_zoo.experiments import training

    tf.config.experimental.enable_op_determinism()  # as experiments.training does
    with tempfile.TemporaryDirectory() as folder:
        more, data_dir = [], None
        if train_step.MODELS[model][2] == train_step.PAIRS:
            (Path(folder) / "images").mkdir()
            more, data_dir = [f"--dataset={pictures(Path(folder) / 'images')}"], folder
        config = train_step.config_for(model, *more)
        trainer = training.make_trainer(config)
        step = tf.function(trainer.train_step)
        data = open_dataset(config.dataset, config.load_size or config.image_size, data_dir)
        options = training.batch_options(trainer, config, training.batch_keys(config, data))
        stream = iter(data.batches(**options))

        def turn(count):
            """(seconds of waiting, seconds in all) of `count` steps."""
            waited, begin = 0.0, time.perf_counter()
            for _ in range(count):
                request = time.perf_counter()
                batch = next(stream)
                waited += time.perf_counter() - request
                [value.numpy() for value in step(batch).values()]
            return waited, time.perf_counter() - begin

        turn(WARM_UP)
        turns = [turn(steps) for _ in range(rounds)]
    return [100 * waited / total for waited, total in turns]

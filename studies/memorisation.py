"""Does a generator that looks at real images copy them?"""

import json
from pathlib import Path

import keras
import numpy as np

from ..common.errors import UsageError
from ..common.files import write_output
from ..common.images import image_grid, png
from ..evaluate import memorisation as measure
from ..experiments.evaluation import as_reference
from .base import Study


def memorisation(model, *, data=None, num=64, seed=0, output="memorisation", data_dir=None):
    """Nearest training images of samples, and how samples vary with reference and noise; returns a
    Study. model: a LoadedModel of a run that takes references."""
    if not model.accepts_reference:
        raise UsageError(f"{model.name} sees no reference images: this study is ragan's")
    data = as_reference(data or model.origin.dataset, model.image_size, data_dir)
    train, test = (data.arrays(split)["image"] for split in ("train", "test"))
    noise = np.random.default_rng([seed, 1]).uniform(-1, 1, (num, model.latent))
    critic = model.networks["discriminator"]
    features = keras.Model(critic.input, critic.get_layer("features").output)

    def in_parts(network, *inputs):
        parts = range(0, len(inputs[0]), 100)
        return np.concatenate([network(*(x[i : i + 100] for x in inputs)) for i in parts])

    def draw(index, references):
        return model.sample_with_reference(noise[index].astype("float32"), references)

    def embed(images):
        return in_parts(lambda part: model.infer(features, part), images)

    try:
        numbers, pictures = measure.report(
            lambda index, references: in_parts(draw, index, references),
            ("feature_own_discriminator", embed),
            train,
            test,
            num,
            seed,
        )
    except ValueError as error:
        raise UsageError(f"num: {error}") from None
    numbers = {"model": model.name, "dataset": data.name, "step": model.origin.step, **numbers}
    folder, text = Path(output), json.dumps(numbers, indent=2)
    write_output(folder / "memorisation.json", text + "\n")
    rows = pictures[:16].reshape(-1, *pictures.shape[2:])
    write_output(folder / "memorisation.png", png(image_grid(rows, 16)))
    return Study(folder, text, folder / "memorisation.png", numbers)

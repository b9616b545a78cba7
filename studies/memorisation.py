"""Does a generator copy its training images?"""

import json
from pathlib import Path

import keras
import numpy as np

from ..common.errors import UsageError
from ..common.files import write_output
from ..common.images import image_grid, png, to_float
from ..evaluate import memorisation as measure
from ..experiments.evaluation import as_reference
from .base import Study


def memorisation(model, *, data=None, num=64, seed=0, output="memorisation", data_dir=None):
    """Nearest training images of samples; for a generator that is shown real images, also how
    samples vary with reference and noise. Returns a Study. model: a LoadedModel of a run."""
    critic = model.networks.get("discriminator")
    if not critic or "features" not in {layer.name for layer in critic.layers}:
        raise UsageError(f"{model.name} has no discriminator with a layer 'features', as dcgan has")
    data = model.origin.dataset if data is None else data
    data = as_reference(data, model.image_size, data_dir)
    train, test = (data.arrays(split)["image"] for split in ("train", "test"))
    features = keras.Model(critic.input, critic.get_layer("features").output)
    noise = np.random.default_rng([seed, 1]).uniform(-1, 1, (num, model.latent))

    def in_parts(network, *inputs):
        parts = range(0, len(inputs[0]), 100)
        return np.concatenate([network(*(x[i : i + 100] for x in inputs)) for i in parts])

    def draw(index, references):
        return model.sample_with_reference(noise[index].astype("float32"), references)

    def embed(images):
        return in_parts(lambda part: model.infer(features, part), images)

    seen = ("feature_own_discriminator", embed)
    if model.accepts_reference:
        try:
            numbers, pictures = measure.report(
                lambda index, references: in_parts(draw, index, references),
                seen,
                train,
                test,
                num,
                seed,
            )
        except ValueError as error:
            raise UsageError(f"num: {error}") from None
    else:
        samples = to_float(model.sample(num, seed))
        numbers, pictures = measure.neighbours(samples, seen, train, test)
    numbers = {
        "model": model.name,
        "dataset": data.name,
        "step": model.origin.step,
        "seed": seed,
    } | numbers
    folder, text = Path(output), json.dumps(numbers, indent=2)
    write_output(folder / "memorisation.json", text + "\n")
    rows = pictures[:16].reshape(-1, *pictures.shape[2:])
    write_output(folder / "memorisation.png", png(image_grid(rows, 4 * pictures.shape[1])))
    return Study(folder, text, folder / "memorisation.png", numbers)

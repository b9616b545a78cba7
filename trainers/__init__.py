"""How the papers train, one file a paper. `get(name).VARIANTS` maps a loss to (HParams, Trainer),
the default one first; `get(name).RECIPES` maps a data set to its Recipe."""

import importlib


def get(name):
    """The file of a trainer: ModelSpec.trainer, or the model's own name."""
    return importlib.import_module(f".{name}", __package__)

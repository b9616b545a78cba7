"""What differs by kind of model (ModelSpec.kind), a file each: the keys of a batch, what a training
is monitored by, how a model is used and evaluated, and what its card shows."""

import importlib

KINDS = ("generation", "classification", "guided", "translation", "segmentation")


def get(kind):
    """The module of a kind of model."""
    return importlib.import_module(f".{kind}", __package__)

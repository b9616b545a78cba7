"""How the papers train: `TRAINERS` maps a model to its file, whose `VARIANTS` maps a loss to
(HParams, Trainer), the first being the default, and whose `RECIPES` holds the runs by data set."""

import importlib

TRAINERS = {
    "classifier": "classifier",
    "dcgan": "dcgan",
    "wgan": "wgan",
    "ragan": "ragan",
    "sagan": "sagan",
    "ata_gan": "ata_gan",
    "gain": "gain",
    "deeplab": "deeplab",
    "cyclegan": "cyclegan",
    "attention_gan": "attention_gan",
}


def get(name):
    """The trainer module of a model."""
    return importlib.import_module(f".{TRAINERS[name]}", __package__)

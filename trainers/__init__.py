"""How the papers train: `TRAINERS` maps a model to its file, whose `LOSSES` maps a loss to
(HParams, Trainer), the first being the default, and whose `RECIPES` holds the runs by data set."""

import importlib

TRAINERS = {
    "classifier": "trainers.classifier",
    "dcgan": "trainers.dcgan",
    "wgan": "trainers.wgan",
    "ragan": "trainers.ragan",
    "sagan": "trainers.sagan",
    "ata_gan": "trainers.ata_gan",
    "gain": "trainers.gain",
    "deeplab": "trainers.deeplab",
    "cyclegan": "trainers.cyclegan",
    "attention_gan": "trainers.attention_gan",
}


def get(name):
    """The trainer module of a model."""
    return importlib.import_module(TRAINERS[name])

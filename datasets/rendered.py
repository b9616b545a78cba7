"""The first test pictures of a rendered data set, drawn at once: nothing is prepared or stored."""

import numpy as np

from . import cells, creatures, crops, resize, scenarios
from .table import CIFAR10, DATASETS


def examples(name, count, size, domain=""):
    """{key: array} of `count` pictures of a rendered data set, at `size` pixels a side: "image",
    uint8 (count, size, size, 3), and what else its examples have, such as "mask", "label", "labels"
    or "classes". None for a data set that is not rendered.

    domain: "a" or "b" of a data set of two domains. Of single animals and cells every kind occurs
    in turn.
    """
    spec = DATASETS.get(name)
    if spec is None or spec.host or not (spec.scenario or spec.tfds):
        return None
    if spec.scenario:
        draw = getattr(scenarios, spec.scenario)
        split = f"test_{domain}" if domain else "test"
        return stacked([draw(split, i, size) for i in range(count)])
    if spec.tfds.startswith("cells"):
        rng = np.random.default_rng((cells.SPLIT_SEEDS["test"], 0))
        label = np.arange(count) % len(cells.LABELS)
        found = cells.render(rng, count, label=label, intensity=1, size=size)
        return {**found, "image": found["image"].repeat(3, -1)}
    return stacked([animal(i, size, spec.crop) for i in range(count)])


def class_names(name):
    """The names of the classes of a data set; () where they are not known."""
    known = {"creatures": creatures.LABELS, "cells": cells.LABELS, "cifar10": CIFAR10}
    return known.get(name.partition("/")[0], ())


def animal(index, size, crop):
    """One animal of body plan `index`; crop: cut out by its box."""
    rng = np.random.default_rng((creatures.SPLIT_SEEDS["test"], index))
    label = index % len(creatures.LABELS)
    found = creatures.render(rng, label=label, size=2 * size if crop else size)
    if not crop:
        return found
    _, (start, stop) = crops.window(found["bbox"], 2 * size, 2 * size)
    rows, columns = map(slice, start, stop)
    return {"image": resize.whole(found["image"][rows, columns], size), "label": label}


def stacked(rows):
    """A list of dicts -> {key: array}."""
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}

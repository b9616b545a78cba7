"""Where images come from: `load(name, ...)` gives a tf.data.Dataset of dicts."""

from .folder import Folder
from .stream import arrays, classes, has_split, identity, labelled, load, paired, place
from .table import DATASETS, DataError, names

__all__ = [
    "DATASETS",
    "DataError",
    "Folder",
    "arrays",
    "classes",
    "has_split",
    "identity",
    "labelled",
    "load",
    "names",
    "paired",
    "place",
]

"""Where images come from: `load(name, ...)` gives a tf.data.Dataset of dicts."""

from datasets.folder import Folder
from datasets.stream import arrays, classes, has_split, identity, labelled, load, paired, place
from datasets.table import DATASETS, DataError, names

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

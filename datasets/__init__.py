"""Where images come from: `load(name, ...)` gives a tf.data.Dataset of dicts."""

from .dataset import ArrayDataSet, DataSet, open_dataset
from .folder import Folder
from .stream import arrays, classes, has_split, identity, labelled, load, paired, place
from .table import DATASETS, DataError, names

__all__ = [
    "DATASETS",
    "ArrayDataSet",
    "DataError",
    "DataSet",
    "Folder",
    "arrays",
    "classes",
    "has_split",
    "identity",
    "labelled",
    "load",
    "names",
    "open_dataset",
    "paired",
    "place",
]

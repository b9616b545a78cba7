"""Where images come from: `load(name, ...)` gives a tf.data.Dataset of dicts."""

from datasets.stream import arrays, identity, load
from datasets.table import DATASETS, DataError, names

__all__ = ["DATASETS", "DataError", "arrays", "identity", "load", "names"]

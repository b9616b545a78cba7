"""Where images come from: `load(name, ...)` gives a tf.data.Dataset of dicts."""

from datasets.table import DATASETS, DataError, names
from datasets.load import arrays, load

__all__ = ["DATASETS", "DataError", "arrays", "load", "names"]

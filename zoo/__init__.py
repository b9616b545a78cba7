"""The networks of the papers.

names() lists the models; get(name) returns a ModelSpec, options(name) the options of its networks;
create(name, ...) builds the networks; load(name, weights=TAG) returns a network with published
weights, and save(...) publishes weights.
"""

from .registration import register_with_keras
from .registry import ModelSpec, UnknownModel, create, get, names, options
from .weights import WeightsError, load, save

register_with_keras()

__all__ = [
    "ModelSpec",
    "UnknownModel",
    "WeightsError",
    "create",
    "get",
    "load",
    "names",
    "options",
    "save",
]

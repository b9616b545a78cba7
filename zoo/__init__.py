"""The networks of the papers: `names()`, `get(name)`, `options(name)`, `create(name, ...)`, and
`load(name, weights=TAG)` with pretrained weights, `save(...)` to publish some."""

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

"""The networks of the papers: `names()`, `get(name)`, `options(name)`, `create(name, ...)`."""

from zoo.registry import ModelSpec, UnknownModel, create, get, names, options

__all__ = ["ModelSpec", "UnknownModel", "create", "get", "names", "options"]

"""The version of the package, in this one place: pyproject.toml reads it, too."""

__version__ = "1.0.0"

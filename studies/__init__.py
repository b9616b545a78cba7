"""The papers' side-by-side comparisons, each a function that trains or measures and writes a table,
pictures and a page into a folder."""

import importlib

STUDIES = {  # name -> (file, function)
    "memorisation": ("memorisation", "memorisation"),
    "fid_spatial": ("spatial", "fid_spatial"),
    "floor": ("floor", "floor"),
    "attention": ("comparison", "compare"),
    "regional": ("comparison", "compare"),
    "regional_wgan": ("comparison", "compare"),
    "readings": ("comparison", "compare"),
    "teaching": ("comparison", "teaching"),
    "gain": ("gain", "gain"),
    "biased": ("gain", "biased"),
    "translation": ("translation", "translation"),
    "claims": ("claims", "claims"),
}


def get(name):
    """The function of a study."""
    file, function = STUDIES[name]
    return getattr(importlib.import_module(f".{file}", __package__), function)

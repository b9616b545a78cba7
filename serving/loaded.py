"""Answers of SavedModels, by a process without Keras and without this project: run as a program.

    python -P loaded.py FOLDER ...

Each folder holds the SavedModel `model` and `requests.npz`, arrays named SIGNATURE/INPUT; what it
answers goes to `answers.npz`, named SIGNATURE/OUTPUT.
"""

import importlib.machinery
import sys
from pathlib import Path

import numpy as np

ABSENT = ("keras", "tf_keras", "zoo", "serving")


class Absent:
    """Finds the packages of ABSENT, and has them fail when they are imported."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ABSENT:
            return importlib.machinery.ModuleSpec(name, self)

    def create_module(self, spec):
        raise ImportError(f"there is no {spec.name} here")

    def exec_module(self, module):
        pass


def answer(folder):
    import tensorflow as tf

    signatures = tf.saved_model.load(str(folder / "model")).signatures
    requests, answers = {}, {}
    with np.load(folder / "requests.npz") as file:
        for key in file.files:
            signature, name = key.split("/")
            requests.setdefault(signature, {})[name] = tf.constant(file[key])
    for signature, inputs in requests.items():
        for name, value in signatures[signature](**inputs).items():
            value = value.numpy()
            if value.dtype == object:  # of bytes; NumPy keeps them without pickling as this
                value = value.astype("S")
            answers[f"{signature}/{name}"] = value
    np.savez(folder / "answers.npz", **answers)


if __name__ == "__main__":
    sys.meta_path.insert(0, Absent())
    for argument in sys.argv[1:]:
        answer(Path(argument))

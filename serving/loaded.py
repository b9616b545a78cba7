"""A program that runs SavedModels in a process without Keras and without this project.

    python -P loaded.py FOLDER ...

Each folder contains the SavedModel `model` and `requests.npz`, arrays named SIGNATURE/INPUT. The
outputs are written to `answers.npz`, named SIGNATURE/OUTPUT.
"""

import importlib.machinery
import sys
from pathlib import Path

import numpy as np

BLOCKED = ("keras", "tf_keras", "attention_zoo")


class ImportBlocker:
    """An import finder that makes the import of the packages in BLOCKED fail."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            return importlib.machinery.ModuleSpec(name, self)

    def create_module(self, spec):
        raise ImportError(f"there is no {spec.name} here")

    def exec_module(self, module):
        pass


def answer(folder):
    """Writes the answers.npz of a folder."""
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
            if value.dtype == object:  # bytes, which NumPy saves without pickling only as type S
                value = value.astype("S")
            answers[f"{signature}/{name}"] = value
    np.savez(folder / "answers.npz", **answers)


if __name__ == "__main__":
    sys.meta_path.insert(0, ImportBlocker())
    for argument in sys.argv[1:]:
        answer(Path(argument))

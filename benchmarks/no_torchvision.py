"""Empty modules in torchvision's place where it is not installed: torch-fidelity imports it."""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types


def pil_to_tensor(picture):
    """What torchvision's does for pictures of 8 bits."""
    import numpy as np
    import torch

    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


class NoTorchvision(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds them."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__getattr__ = self.attribute
        return module

    def exec_module(self, module):
        pass

    @staticmethod
    def attribute(name):
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "pil_to_tensor":
            return pil_to_tensor
        return type(name, (), {})


if not importlib.util.find_spec("torchvision"):
    sys.meta_path.insert(0, NoTorchvision())

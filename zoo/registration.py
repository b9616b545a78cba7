"""The zoo's layers in Keras' table of custom objects, so that keras.saving.load_model finds them.

A layer enters the table when its module is imported, which imports Keras. Importing the zoo alone
does neither, so a stand-in takes the place of each layer, and imports its module when a saved
network needs it. The stand-ins are set once Keras is imported, before or after the zoo. No module
of the zoo is imported at that moment: another thread that imports one may be waiting for Keras.
"""

import contextlib
import functools
import importlib
import sys

PACKAGE = "zoo"  # what saved networks write before the name: "zoo>BatchNorm"
CLASSES = {  # module -> its layers
    "deeplab": ("Interpolated",),
    "ragan": ("BoxMask", "WeightedSum", "AttentionBank"),
    "vgg": ("AverageTo",),
    "layers.affine": ("Affine",),
    "layers.batch_norm": ("BatchNorm",),
    "layers.cam": ("CAM",),
    "layers.convolution": ("Conv2D", "Conv2DTranspose", "DoublingConv2DTranspose"),
    "layers.dropout": ("Dropout",),
    "layers.gelu": ("Gelu",),
    "layers.grad_cam": ("OfAverage",),
    "layers.instance_norm": ("InstanceNorm",),
    "layers.multi_scale": ("ScaledAndMirrored", "MeanOfMaps"),
    "layers.precision": ("Float32", "Float32Dense"),
    "layers.self_attention": ("SelfAttention",),
    "layers.sizes": ("EnlargeTo",),
    "layers.spectral_norm": ("SNConv2D", "SNConv2DTranspose", "SNDense", "SNEmbedding"),
}
FUNCTIONS = {"ragan": ("grid_of_centres",)}


def _get(module, name):
    return getattr(importlib.import_module(f".{module}", __package__), name)


class StandIn:
    """A class that is not imported yet; its attributes, such as `from_config`, are the class's."""

    def __init__(self, module, name):
        self.find = functools.partial(_get, module, name)

    def __getattr__(self, attribute):
        return getattr(self.find(), attribute)


def _function(module, name):
    """The same for a function; a function itself, as Keras treats functions by their type."""

    def call(*args, **kwargs):
        return _get(module, name)(*args, **kwargs)

    call.__name__ = name
    return call


def register():
    """Sets the stand-ins of all layers that are not in Keras' table yet; imports Keras."""
    saving = importlib.import_module("keras.saving")
    table = saving.get_custom_objects()
    for module, names in CLASSES.items():
        for name in names:
            table.setdefault(f"{PACKAGE}>{name}", StandIn(module, name))
    for module, names in FUNCTIONS.items():
        for name in names:
            if f"{PACKAGE}>{name}" not in table:
                saving.register_keras_serializable(PACKAGE)(_function(module, name))


class _KerasFinder:
    """Finds Keras as the finders behind it do, and has its loader call `register` at the end."""

    def find_spec(self, name, path=None, target=None):
        if name != "keras":
            return None
        behind = sys.meta_path[sys.meta_path.index(self) + 1 :] if self in sys.meta_path else ()
        specs = (f.find_spec(name, path, target) for f in behind if hasattr(f, "find_spec"))
        spec = next(filter(None, specs), None)
        if spec and spec.loader:
            load = spec.loader.exec_module

            def exec_module(module):
                load(module)
                if module.__name__ == "keras":  # a loader may serve several modules
                    register()
                    with contextlib.suppress(ValueError):
                        sys.meta_path.remove(self)

            with contextlib.suppress(AttributeError):  # a loader that takes no attributes
                spec.loader.exec_module = exec_module
        return spec


def register_with_keras():
    """Calls `register` now if Keras is imported, else as soon as it is."""
    finder = _KerasFinder()
    sys.meta_path.insert(0, finder)  # first, so that no other thread's import of Keras is missed
    if "keras" in sys.modules:
        sys.meta_path.remove(finder)
        register()

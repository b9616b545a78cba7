"""Setting variables from arrays: all of them, or none; and which ones are a network's last."""


class Misfit(ValueError):
    """Arrays that do not fit the variables; `faults` is {name: the fault}, all in the message."""

    def __init__(self, faults):
        super().__init__(", ".join(faults.values()))
        self.faults = faults

    @property
    def names(self):
        """The first three names and the number of all: "a, b, c of 7"."""
        return f"{', '.join(list(self.faults)[:3])} of {len(self.faults)}"


def check(shapes, arrays):
    """Raises Misfit unless arrays, by name, are numbers of just these names and shapes."""
    faults = {name: f"lacks {name}" for name in shapes if name not in arrays}
    faults |= {name: f"holds an unknown {name}" for name in arrays if name not in shapes}
    for name in (name for name in shapes if name in arrays):
        array, shape = arrays[name], tuple(shapes[name])
        if tuple(array.shape) != shape:
            faults[name] = f"holds {name} of shape {tuple(array.shape)}, not {shape}"
        elif array.dtype.kind not in "fiu":
            faults[name] = f"holds {name} of type {array.dtype}"
    if faults:
        raise Misfit(faults)


def assign(variables, arrays):
    """Sets {name: variable} from {name: array}; where one does not fit, Misfit, and none is set."""
    check({name: variable.shape for name, variable in variables.items()}, arrays)
    for name, variable in variables.items():
        variable.assign(arrays[name])


def last_layer(network):
    """The last layer of a keras.Model that has weights."""
    return next(layer for layer in reversed(network.layers) if layer.weights)

"""Setting variables from arrays: all of them, or none; and which ones are a network's last."""


class Misfit(ValueError):
    """Arrays that do not fit the variables.

    kinds: {name: the fault} of each kind of fault; `faults` has all of them, and the message three
    of each kind.
    """

    def __init__(self, *kinds):
        super().__init__(listed(*(list(kind.values()) for kind in kinds)))
        self.faults = {name: fault for kind in kinds for name, fault in kind.items()}

    @property
    def names(self):
        """The first three names and the number of all: "a, b, c of 7"."""
        return f"{', '.join(list(self.faults)[:3])} of {len(self.faults)}"


def listed(*kinds):
    """Lists of faults, one for each kind -> "a, b, c and 4 more, d, e", three of each kind."""
    parts = (
        ", ".join(faults[:3]) + (f" and {len(faults) - 3} more" if len(faults) > 3 else "")
        for faults in kinds
        if faults
    )
    return ", ".join(parts)


def check(shapes, arrays):
    """Raises Misfit unless arrays, by name, are numbers of just these names and shapes."""
    lacking = {name: f"lacks {name}" for name in shapes if name not in arrays}
    unknown = {name: f"holds an unknown {name}" for name in arrays if name not in shapes}
    wrong = {}
    for name in (name for name in shapes if name in arrays):
        array, shape = arrays[name], tuple(shapes[name])
        if tuple(array.shape) != shape:
            wrong[name] = f"holds {name} of shape {tuple(array.shape)}, not {shape}"
        elif array.dtype.kind not in "fiu":
            wrong[name] = f"holds {name} of type {array.dtype}"
    if lacking or unknown or wrong:
        raise Misfit(lacking, unknown, wrong)


def assign(variables, arrays):
    """Sets {name: variable} from {name: array}; where one does not fit, Misfit, and none is set."""
    check({name: variable.shape for name, variable in variables.items()}, arrays)
    for name, variable in variables.items():
        variable.assign(arrays[name])


def last_layer(network):
    """The last layer of a keras.Model that has weights."""
    return next(layer for layer in reversed(network.layers) if layer.weights)

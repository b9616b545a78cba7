"""Variables set from arrays: all, or none with the faults named."""

import keras
import numpy as np
import pytest

from attention_zoo.common import variables


def made(*shapes):
    return {
        f"v{i}": keras.Variable(np.zeros(shape), name=f"v{i}") for i, shape in enumerate(shapes)
    }


def test_all_are_set():
    ours = made((2, 3), ())
    variables.assign(ours, {"v0": np.ones((2, 3), np.float16), "v1": np.int64(7)})
    assert np.array_equal(ours["v0"], np.ones((2, 3))) and float(ours["v1"]) == 7


def test_every_fault_is_named_and_none_is_set():
    ours = made((2,), (3,), (4,), (5,))
    arrays = {
        "v1": np.ones(3),
        "v2": np.ones((4, 1)),
        "v3": np.array(list("abcde")),
        "more": np.ones(1),
    }
    with pytest.raises(variables.Misfit) as caught:
        variables.assign(ours, arrays)
    assert caught.value.faults == {
        "v0": "lacks v0",
        "more": "holds an unknown more",
        "v2": "holds v2 of shape (4, 1), not (4,)",
        "v3": "holds v3 of type <U1",
    }
    assert str(caught.value) == ", ".join(caught.value.faults.values())
    assert caught.value.names == "v0, more, v2 of 4"
    assert not any(np.asarray(v).any() for v in ours.values())

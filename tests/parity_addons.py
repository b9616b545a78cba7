"""Weights that TensorFlow 2.15 saved of TensorFlow Addons' layers give its outputs in Keras 3.

    make addons

Another environment trains the networks (parity_addons_model.py); this one rebuilds and fills them.
"""

import os
import subprocess
from pathlib import Path

import keras
import numpy as np
import pytest

from attention_zoo import zoo
from attention_zoo.zoo import bridge
from attention_zoo.zoo.layers.spectral_norm import SNConv2D, SNConv2DTranspose, SNDense, SNEmbedding

ROOT = Path(__file__).parents[1]
layers = keras.layers
THEIRS = {"c2": "spectral_normalization"}  # names that Keras counted
THEIRS_AT_REST = {"c2": "spectral_normalization_1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What parity_addons_model.py wrote."""
    python = ROOT / os.environ.get("ADDONS", ".venv-addons") / "bin" / "python"
    folder = tmp_path_factory.mktemp("addons")
    command = [python, ROOT / "tests" / "parity_addons_model.py", folder]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def spectral(transposed):
    """The network of the same name in parity_addons_model.py."""
    image, label = layers.Input((8, 8, 3)), layers.Input((), dtype="int32")
    x = SNConv2D(8, 3, strides=2, padding="same", name="c1")(image)
    x = layers.GroupNormalization(-1, epsilon=1e-3, name="in1")(x)
    x = layers.LeakyReLU(0.2)(x)
    if transposed:
        x = SNConv2DTranspose(6, 4, strides=2, padding="same", name="t1")(x)
        x = layers.BatchNormalization(name="bn")(x)
        x = SNConv2DTranspose(6, 3, padding="same", use_bias=False, name="t2")(x)
    x = SNConv2D(12, 3, padding="same", use_bias=False, name="c2")(x)
    x = layers.GroupNormalization(4, epsilon=1e-3, name="gn1")(x)
    x = layers.Flatten()(layers.LeakyReLU(0.2)(x))
    x = SNDense(5, name="d1")(x)
    y = SNEmbedding(4, 5, name="e1")(label)
    return keras.Model([image, label], layers.Multiply()([x, y]), name="ours")


def distance(network, folder, name):
    """Largest difference of outputs, as a share of the largest value."""
    with np.load(folder / f"{name}.npz") as held:
        inputs, expected = [held["image"], held["label"]], held["made"]
    made = network(inputs if len(network.inputs) > 1 else inputs[0])
    share = abs(np.asarray(made) - expected).max()
    share /= abs(expected).max()
    print(f"{name}: relative difference {share:.1e}")
    return share


@pytest.mark.parametrize("file", ["trained.h5", "trained-whole.h5"])
def test_a_network_without_normalisation_gives_their_inference(file, folder):
    network = bridge.plain(spectral(transposed=True))
    assert not any("/u" in v.path for v in network.variables)
    bridge.fill_hdf5(network, folder / file, THEIRS)
    assert distance(network, folder, "trained") < 1e-5


def test_a_network_with_it_is_refused_or_divides(folder):
    network = spectral(transposed=True)
    before = [np.array(v) for v in network.variables]
    with pytest.raises(zoo.WeightsError, match=r"would divide c1/kernel by (0\.9|1\.0)") as refused:
        bridge.fill_hdf5(network, folder / "trained.h5", THEIRS)
    print(refused.value)
    for layer in ("c1", "c2", "t1", "t2", "d1"):
        assert f"{layer}/kernel by" in str(refused.value)
    assert "e1/embeddings by" in str(refused.value)
    assert all(np.array_equal(a, b) for a, b in zip(before, network.variables))
    bridge.fill_hdf5(network, folder / "trained.h5", THEIRS, renormalise=True)
    held = bridge.read(folder / "trained.h5")
    for name in ("c1", "t1", "d1"):
        layer = network.get_layer(name)
        assert np.array_equal(layer.kernel, held[f"{name}/kernel"])
        matrix = np.moveaxis(held[f"{name}/kernel"], layer.out_axis, -1)
        matrix = matrix.reshape(-1, matrix.shape[-1]).astype("float64")
        sigma = np.linalg.norm(matrix, 2)
        ours = np.asarray(layer.normalised(layer.kernel, training=False))
        assert abs(ours * sigma / held[f"{name}/kernel"] - 1).max() < 1e-5
    assert distance(network, folder, "trained") > 1e-4


def test_where_the_power_iteration_is_at_rest_both_forms_agree(folder):
    network = spectral(transposed=False)
    bridge.fill_hdf5(network, folder / "rest.h5", THEIRS_AT_REST)
    assert distance(network, folder, "rest") < 1e-5
    network = bridge.plain(network)
    bridge.fill_hdf5(network, folder / "rest-whole.h5", THEIRS_AT_REST)
    assert distance(network, folder, "rest") < 1e-5


def test_a_subclass_with_a_network_inside(folder):
    image = layers.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", name="c1")(image)
    x = layers.GroupNormalization(-1, epsilon=1e-3, name="in1")(x)
    x = layers.Conv2DTranspose(6, 4, strides=2, padding="same", name="t1")(x)
    x = layers.GroupNormalization(3, epsilon=1e-5, name="gn1")(x)
    network = keras.Model(image, x)
    bridge.fill_hdf5(network, folder / "plain.h5")
    assert distance(network, folder, "plain") < 1e-5

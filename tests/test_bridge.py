"""Other people's checkpoints: what fits comes in, in our order; all else is refused in one line."""

import hashlib
import json
import os
import pickle
import sys
import types
import zipfile

import h5py
import keras
import ml_dtypes
import numpy as np
import pytest

from attention_zoo import zoo
from attention_zoo.cli import main
from attention_zoo.tests.helpers import Bomb, fill_from
from attention_zoo.zoo import bridge
from attention_zoo.zoo.layers.self_attention import SelfAttention
from attention_zoo.zoo.layers.spectral_norm import SNConv2D, SNConv2DTranspose, SNDense

TINY = {  # model -> options of a small network in the layout of its checkpoints
    "efficientnet_lite0": {"image_size": 32, "width": 4, "classes": 3},
    "resnet18": {"image_size": 128, "width": 4, "classes": 3},
    "squeezenet": {"image_size": 128, "width": 4, "classes": 3, "head": "conv"},
    "vgg16": {"image_size": 32, "width": 2, "classes": 3, "head": "fc"},
}
LEAVES = {"kernel": "weight", "gamma": "weight", "bias": "bias", "beta": "bias"}
LEAVES |= {"moving_mean": "running_mean", "moving_variance": "running_var"}


def tiny(name, seed=0):
    """A small network with random weights."""
    network = zoo.create(name, **TINY[name])["classifier"]
    rng = np.random.default_rng(seed)
    for v in network.variables:
        v.assign(rng.uniform(0.1, 1, v.shape))
    return network


def values(network):
    return {v.path: np.array(v) for v in network.variables}


def torch_state(name, network):
    """A network's weights by torchvision's names and in its order."""
    state = {}
    for path, array in values(network).items():
        layer, leaf = path.split("/")
        if layer.endswith("_depthwise"):  # (H, W, C, 1) -> (C, 1, H, W)
            array = array.transpose(2, 3, 0, 1)
        elif array.ndim == 4:  # (H, W, I, O) -> (O, I, H, W)
            array = np.moveaxis(np.moveaxis(array, 3, 0), 3, 1)
        elif layer == "fc6" and array.ndim == 2:  # rows of (7, 7, C) -> columns of (C, 7, 7)
            order = [(h * 7 + w) * 16 + c for c in range(16) for h in range(7) for w in range(7)]
            array = array[order].T
        elif array.ndim == 2:
            array = array.T
        state[f"{bridge.LAYOUTS[name].names[layer]}.{LEAVES[leaf]}"] = np.ascontiguousarray(array)
    return state


def safetensors(path, arrays, kind="F32", dtype="<f4", others=()):
    """Writes a .safetensors file of arrays of one type, but for others {name: (kind, dtype)}."""
    rows, body = {"__metadata__": {"format": "pt"}}, b""
    for name, array in arrays.items():
        own_kind, own_dtype = dict(others).get(name, (kind, dtype))
        data = array.astype(own_dtype).tobytes()
        span = [len(body), len(body) + len(data)]
        rows[name] = {"dtype": own_kind, "shape": array.shape, "data_offsets": span}
        body += data
    header = json.dumps(rows).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + body)
    return path


def hdf5(path, groups, root=None, cut=99):
    """Writes {layer: {weight name: array}} as tf.keras does; cut: most names in one attribute."""

    def attribute(group, key, names):
        names = np.array([n.encode() for n in names])
        if len(names) <= cut:
            group.attrs[key] = names
        else:
            for i in range(0, len(names), cut):
                group.attrs[f"{key}{i // cut}"] = names[i : i + cut]

    with h5py.File(path, "w") as file:
        top = file.create_group(root) if root else file
        attribute(top, "layer_names", groups)
        for layer, held in groups.items():
            group = top.create_group(layer)
            attribute(group, "weight_names", held)
            for name, array in held.items():
                group[name] = array
    return path


def test_the_names_are_torchvision_s():
    both, stats = ("weight", "bias"), ("weight", "bias", "running_mean", "running_var")
    blocks = [f"layer{i}.{j}" for i in (1, 2, 3, 4) for j in (0, 1)]
    expected = {
        "resnet18": {"conv1.weight", *(f"fc.{x}" for x in both), *(f"bn1.{x}" for x in stats)}
        | {f"{b}.conv{k}.weight" for b in blocks for k in (1, 2)}
        | {f"{b}.bn{k}.{x}" for b in blocks for k in (1, 2) for x in stats}
        | {f"layer{i}.0.downsample.0.weight" for i in (2, 3, 4)}
        | {f"layer{i}.0.downsample.1.{x}" for i in (2, 3, 4) for x in stats},
        "squeezenet": {f"{part}.{x}" for part in ("features.0", "classifier.1") for x in both}
        | {
            f"features.{i}.{part}.{x}"
            for i in (3, 4, 6, 7, 9, 10, 11, 12)
            for part in ("squeeze", "expand1x1", "expand3x3")
            for x in both
        },
        "vgg16": {f"classifier.{i}.{x}" for i in (0, 3, 6) for x in both}
        | {
            f"features.{i}.{x}"
            for i in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
            for x in both
        },
    }
    assert {k: len(v) for k, v in expected.items()} == {
        "resnet18": 102,
        "squeezenet": 52,
        "vgg16": 32,
    }
    for name, names in expected.items():
        assert set(torch_state(name, tiny(name))) == names
    blocks = [f"_blocks.{i}._bn{k}.{x}" for i in range(16) for k in (0, 1, 2) for x in stats]
    lite = {n for n in torch_state("efficientnet_lite0", tiny("efficientnet_lite0")) if "_bn" in n}
    first = {f"_blocks.0._bn0.{x}" for x in stats}  # which expands nothing
    assert lite == {*blocks, *(f"_bn{k}.{x}" for k in (0, 1) for x in stats)} - first
    pairs = {
        "resnet18": {"stage1_in_2": "layer1.0.conv2", "middle_1_bn": "layer3.1.bn1"},
        "squeezenet": {
            "fire4_expand1": "features.6.expand1x1",
            "fire9_squeeze": "features.12.squeeze",
        },
        "vgg16": {"conv3_2": "features.12", "conv5_1": "features.24", "fc7": "classifier.3"},
    }
    for name, known in pairs.items():
        assert {k: bridge.LAYOUTS[name].names[k] for k in known} == known


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name == "efficientnet_lite0"))
        for name in TINY
    ],
)
def test_what_was_exported_comes_back(name):
    network, other = tiny(name), tiny(name, seed=1)
    fill_from(name, torch_state(name, network), other)
    assert [k for k, v in values(network).items() if not np.array_equal(v, values(other)[k])] == []


def test_the_options_are_the_checkpoint_s():
    for name in TINY:
        state = torch_state(name, tiny(name))
        found = {"width": TINY[name]["width"]}
        found |= bridge.options(name, state)
        scale = {} if name == "efficientnet_lite0" else {"normalise": "imagenet"}
        placed = {} if name == "vgg16" else {"centred": True}
        assert found == TINY[name] | scale | placed | {"image_size": 224}
    assert bridge.options("ragan", {"layer/kernel": np.zeros(1)}) == {}


def test_every_fault_is_named_and_nothing_is_set():
    network, state = tiny("resnet18"), torch_state("resnet18", tiny("resnet18", seed=1))
    before = values(network)
    del state["bn1.weight"], state["layer1.0.conv1.weight"]
    state["layer2.0.bn1.bias"][3] = np.nan
    state |= {"fc.bias": np.zeros(4), "extra": np.zeros(1), "layer9.0.bn1.bias": np.zeros(1)}
    with pytest.raises(zoo.WeightsError) as refused:
        fill_from("resnet18", state, network)
    assert str(refused.value) == (
        "the checkpoint does not fit classifier: it lacks bn1.weight (our stem_bn/gamma), "
        "lacks layer1.0.conv1.weight (our stage1_in_1/kernel), "
        "holds layer2.0.bn1.bias that is not finite, "
        "holds fc.bias of shape (4,), and logits/bias is (3,), "
        "holds an unknown extra, holds an unknown layer9.0.bn1.bias"
    )
    assert all(np.array_equal(v, before[k]) for k, v in values(network).items())


def test_a_long_list_of_faults_is_three_of_each_kind_and_a_count():
    network, state = tiny("resnet18"), torch_state("resnet18", tiny("resnet18"))
    others = {f"other.{name}": array for name, array in state.items()}
    with pytest.raises(zoo.WeightsError) as refused:
        fill_from("resnet18", others, network)
    assert str(refused.value) == (
        "the checkpoint does not fit classifier: it lacks conv1.weight (our stem/kernel), "
        "lacks bn1.weight (our stem_bn/gamma), lacks bn1.bias (our stem_bn/beta) and 99 more, "
        "holds an unknown other.conv1.weight, holds an unknown other.bn1.weight, "
        "holds an unknown other.bn1.bias and 99 more"
    )
    with pytest.raises(zoo.WeightsError, match="lacks .* and 99 more, holds .* and 99 more$"):
        bridge.weights.fill(network, others, "arrays")


def test_a_model_without_a_layout_is_named():
    network = zoo.create("dcgan", width=4)["generator"]
    with pytest.raises(
        zoo.WeightsError, match="imported for resnet18, .*, cyclegan.*, not for dcgan"
    ):
        bridge.convert("dcgan", {"a.weight": np.zeros(1)}, network)


def test_safetensors(tmp_path):
    arrays = {"a.weight": np.arange(6.0).reshape(2, 3), "a.num_batches_tracked": np.zeros(1)}
    path = safetensors(tmp_path / "x.safetensors", arrays)
    found = bridge.read(path)
    assert list(found) == ["a.weight"]
    assert np.array_equal(found["a.weight"], arrays["a.weight"])
    parallel = {f"module.{k}": v for k, v in arrays.items()}
    assert list(bridge.read(safetensors(path, parallel))) == ["a.weight"]


NAMES = ("features.0.weight", "classifier.6.bias")


@pytest.mark.parametrize(
    "names",
    [
        ("module.{}",),
        ("_orig_mod.module.{}", "n_averaged"),
        ("module._orig_mod.module.{}", "n_averaged", "features.1.num_batches_tracked"),
        ("model.net.model.{}",),
        ("net.{}",),
        ("model.{}", "criterion.weight"),
        ("state_dict.model._orig_mod.{}", "optimizer.0.exp_avg"),
        ("netG.module.{}", "netD.features.0.weight"),
        ("netG_A.{}", "netG_B.{}", "netD_A.model.0.weight"),
        ("params_ema.{}", "params.{}"),
        ("model_ema.module.{}", "model.{}"),
        ("ema.{}", "model_state_dict.{}"),
        ("model.{}", "ema.decay"),
        ("{}", "epoch"),
    ],
)
def test_names_of_wrappers_and_what_lies_beside_a_network_fall_away(names, tmp_path):
    arrays = {name: np.full((2, 2), i) for i, name in enumerate(NAMES)}
    held = {"epoch": np.array(3)}
    for pattern in names[1:]:  # the first of these stays
        held |= {pattern.format(name): np.full(2, 9) for name in NAMES if pattern not in held}
    held |= {names[0].format(name): array for name, array in arrays.items()}
    found = bridge.read(safetensors(tmp_path / "x", held))
    assert {k: a.tolist() for k, a in found.items()} == {k: a.tolist() for k, a in arrays.items()}


def test_a_parallel_part_of_a_network_and_cyclegan_s_own_names(tmp_path):
    path = tmp_path / "x"
    part = {"features.module.0.weight": np.ones(2), "classifier.6.bias": np.ones(2)}
    assert list(bridge.read(safetensors(path, part))) == sorted(NAMES)
    names = ("model.1.weight", "model.10.conv_block.1.bias")
    for wrapped in ("{}", "model.{}", "module.net.model.{}", "netG_A.{}"):
        held = {wrapped.format(name): np.ones(2) for name in names}
        assert list(bridge.read(safetensors(path, held))) == list(names)


@pytest.mark.parametrize("names", [(), ("n_averaged", "bn1.num_batches_tracked"), ("module",)])
def test_a_file_without_weights_is_refused(names, tmp_path):
    path = safetensors(tmp_path / "x", {name: np.zeros(1) for name in names})
    with pytest.raises(zoo.WeightsError, match="x holds no table of arrays: save the network's"):
        bridge.read(path)


def test_two_networks_of_the_same_names_are_refused(tmp_path):
    path = safetensors(tmp_path / "x", {"module.a.bias": np.zeros(1), "a.bias": np.zeros(1)})
    with pytest.raises(zoo.WeightsError, match="x holds two weights a.bias: save one network"):
        bridge.read(path)


def test_a_file_of_several_types(tmp_path):
    arrays = {
        "a.weight": np.array([[0.5, -2.0]]),
        "a.bias": np.zeros(0),
        "a.mask": np.array([True, False]),
        "a.index": np.array([2**40, 3]),
        "a.scale": np.array(2.0),
        "a.num_batches_tracked": np.array(7),
    }
    counts = {name: ("I64", "<i8") for name in ("a.index", "a.num_batches_tracked")}
    half = {"a.bias": ("F16", "<f2"), "a.mask": ("BOOL", "?")}
    found = bridge.read(
        safetensors(tmp_path / "x", arrays, "BF16", ml_dtypes.bfloat16, counts | half)
    )
    assert {k: (a.dtype.name, a.tolist()) for k, a in found.items()} == {
        "a.weight": ("float32", [[0.5, -2.0]]),
        "a.bias": ("float16", []),
        "a.mask": ("bool", [True, False]),
        "a.index": ("int64", [2**40, 3]),
    }


def test_a_bias_without_dimensions_is_no_number_of_classes():
    for bias in (np.array(1.0), np.zeros(0)):
        assert "classes" not in bridge.options("resnet18", {"fc.bias": bias})


@pytest.mark.parametrize(
    ("kind", "dtype"), [("F64", "<f8"), ("F16", "<f2"), ("BF16", ml_dtypes.bfloat16), ("I8", "i1")]
)
def test_types_of_safetensors(kind, dtype, tmp_path):
    array = np.array([[0.0, -1.0], [2.0, 100.0]])
    path = safetensors(tmp_path / "x.safetensors", {"a": array}, kind, dtype)
    found = bridge.read(path)["a"]
    assert found.tolist() == array.tolist()
    assert found.dtype == ("float32" if kind == "BF16" else dtype)


def test_a_type_without_arrays_is_named(tmp_path):
    path = safetensors(tmp_path / "x", {"a": np.zeros(2)}, "F8_E4M3", ml_dtypes.float8_e4m3fn)
    with pytest.raises(zoo.WeightsError, match="F8_E4M3: takes F64, .*F8_E4M3 is not supported$"):
        bridge.read(path)


def test_what_is_no_checkpoint_is_refused(tmp_path):
    path = tmp_path / "file"
    whole = safetensors(path, {"a": np.zeros((2, 3))}).read_bytes()
    header = json.dumps({"a": {"dtype": "F32", "shape": [3], "data_offsets": [-12, 0]}}).encode()
    for data in (
        b"",
        b"GIF89a" * 9,
        whole[:-1],
        whole[:20],
        whole.replace(b"F32", b"F99"),
        whole.replace(b"[0, 24]", b"[0, 16]"),
        len(header).to_bytes(8, "little") + header,
        b"\x02" + bytes(7) + b"[]",
        b"\xff" * 40,
        len(b"[" * 10**5).to_bytes(8, "little") + b"[" * 10**5,
        pickle.dumps(Bomb(f"touch {tmp_path / 'trace'}"), protocol=4),
    ):
        path.write_bytes(data)
        with pytest.raises(zoo.WeightsError, match="file is not a PyTorch, safetensors or HDF5"):
            bridge.read(path)
    with pytest.raises(zoo.WeightsError, match="cannot be read"):
        bridge.read(tmp_path / "gone")
    assert os.listdir(tmp_path) == ["file"]


def bombs(folder):
    """Files in both of PyTorch's formats whose pickle runs a command that leaves a trace."""
    trace, paths = folder / "trace", (folder / "zip.pth", folder / "old.pth")
    code = pickle.dumps({"fc.weight": Bomb(f"touch {trace}")}, protocol=2)
    with zipfile.ZipFile(paths[0], "w") as file:
        file.writestr("archive/data.pkl", code)
        file.writestr("archive/version", "3\n")
    paths[1].write_bytes(code)
    return trace, paths


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    trace, paths = bombs(tmp_path)
    for path in paths:  # with PyTorch or without
        with pytest.raises(zoo.WeightsError, match="is refused|needs PyTorch") as refused:
            bridge.read(path)
        assert "\n" not in str(refused.value)
    assert not trace.exists()
    pickle.loads(paths[1].read_bytes())  # the bomb is a real one
    assert trace.exists()


def test_pytorch_is_asked_for_arrays_only_and_its_refusal_is_one_line(tmp_path, monkeypatch):
    _, paths = bombs(tmp_path)
    asked = []

    def load(file, **flags):
        asked.append((file.read(), flags))
        raise pickle.UnpicklingError("Weights only\nload failed: GLOBAL os.system was not allowed")

    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(load=load))
    for path in paths:
        with pytest.raises(zoo.WeightsError, match=r"no code \(it asks for os.system\)$"):
            bridge.read(path)
    flags = {"map_location": "cpu", "weights_only": True}
    assert asked == [(path.read_bytes(), flags) for path in paths]


def test_without_pytorch_the_line_says_what_to_install(tmp_path, monkeypatch):
    _, paths = bombs(tmp_path)
    monkeypatch.setitem(sys.modules, "torch", None)
    for path in paths:
        with pytest.raises(zoo.WeightsError, match="needs PyTorch to be read: pip install torch"):
            bridge.read(path)


def small():
    """A Keras network of layers that TensorFlow Addons has, too, one of them nested."""
    layers = keras.layers
    x = image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="c1")(x)
    x = layers.GroupNormalization(-1, epsilon=1e-3, name="in1")(x)
    x = keras.Sequential([layers.Conv2D(2, 1, name="inner")], name="block")(x)
    network = keras.Model(image, layers.BatchNormalization(name="bn")(x), name="ours")
    rng = np.random.default_rng(0)
    return network, {v.path: rng.uniform(size=v.shape).astype("float32") for v in network.variables}


def written(arrays, prefix=""):
    """{layer: {weight name: array}} as TensorFlow 2.15 writes the network `small`."""
    groups = {"image": {}, "c1": {}, "in1": {}, "block": {}, "bn": {}}
    for path, array in arrays.items():
        layer = path.split("/")[0]
        inner = layer == "inner"
        groups["block" if inner else layer][f"{'' if inner else prefix}{path}:0"] = array
    groups["c1"][f"{prefix}c1/sn_u:0"] = np.ones((1, 4))  # c1 was normalised there
    return groups


@pytest.mark.parametrize(
    ("prefix", "form"),
    [("", {}), ("theirs/", {}), ("", {"root": "model_weights"}), ("", {"cut": 2})],
)
def test_hdf5_of_tf_keras(prefix, form, tmp_path):
    network, arrays = small()
    path = hdf5(tmp_path / "x.h5", written(arrays, prefix), **form)
    assert set(bridge.read(path)) == {*arrays, "c1/sn_u"}
    bridge.fill_hdf5(network, path)
    assert [k for k, v in values(network).items() if not np.array_equal(v, arrays[k])] == []


def test_hdf5_layers_of_other_names(tmp_path):
    network, arrays = small()
    groups = written(arrays)
    groups["conv2d_7"] = {k.replace("c1", "conv2d_7"): v for k, v in groups.pop("c1").items()}
    path = hdf5(tmp_path / "x.h5", groups)
    with pytest.raises(zoo.WeightsError) as refused:
        bridge.fill_hdf5(network, path)
    said = str(refused.value)
    for part in ("lacks c1/kernel (our c1/kernel)", "lacks c1/bias", "unknown conv2d_7/kernel"):
        assert part in said
    assert "unknown conv2d_7/sn_u" in said
    bridge.fill_hdf5(network, path, {"c1": "conv2d_7"})
    assert all(np.array_equal(v, arrays[k]) for k, v in values(network).items())


def test_hdf5_that_does_not_fit_leaves_the_network(tmp_path):
    network, arrays = small()
    before = values(network)
    groups = written(arrays)
    groups["in1"]["in1/gamma:0"] = np.ones(5)
    groups["in1"]["in1/sn_u:0"] = groups["bn"].pop("bn/beta:0")
    with pytest.raises(zoo.WeightsError) as refused:
        bridge.fill_hdf5(network, hdf5(tmp_path / "x.h5", groups))
    assert "holds in1/gamma of shape (5,), and in1/gamma is (4,), lacks bn/beta" in str(
        refused.value
    )
    assert all(np.array_equal(v, before[k]) for k, v in values(network).items())


def test_hdf5_that_is_none_of_tf_keras(tmp_path):
    network, arrays = small()
    network.save_weights(tmp_path / "ours.weights.h5")
    with pytest.raises(zoo.WeightsError, match="no layer_names.*Keras 3 reads its own"):
        bridge.read(tmp_path / "ours.weights.h5")
    path = hdf5(tmp_path / "x.h5", written(arrays))
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(zoo.WeightsError, match="is not an HDF5 file of tf.keras"):
        bridge.read(path)
    twice = {"a": {"a/kernel:0": np.ones(1)}, "b": {"a/kernel:0": np.ones(1)}}
    with pytest.raises(zoo.WeightsError, match="holds two weights a/kernel"):
        bridge.read(hdf5(tmp_path / "x.h5", twice))


def test_hdf5_that_points_out_of_itself_is_refused(tmp_path):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["a/kernel:0"] = np.ones(3, "float32")
    (tmp_path / "raw").write_bytes(bytes(12))
    for kind in ("link", "virtual", "external"):
        path = hdf5(tmp_path / f"{kind}.h5", {"a": {"a/kernel:0": np.ones(3)}})
        with h5py.File(path, "a") as file:
            del file["a/a/kernel:0"]
            if kind == "link":
                file["a/a/kernel:0"] = h5py.ExternalLink(str(secret), "a/kernel:0")
            elif kind == "virtual":
                layout = h5py.VirtualLayout((3,), "float32")
                layout[:] = h5py.VirtualSource(secret, "a/kernel:0", (3,))
                file.create_virtual_dataset("a/a/kernel:0", layout)
            else:
                place = [(str(tmp_path / "raw"), 0, 12)]
                file.create_dataset("a/a/kernel:0", (3,), "float32", external=place)
        with h5py.File(path) as file:
            assert file["a/a/kernel:0"].shape == (3,)  # h5py alone would read it
        with pytest.raises(
            zoo.WeightsError, match="is refused: a/kernel:0 lies in|object .* doesn't exist"
        ):
            bridge.read(path)


def spectral():
    """Layers that divide by sigma: a network, and its weights with every sigma as given."""
    x = image = keras.Input((4, 4, 8))
    x = SNConv2D(8, 3, padding="same", name="c1")(x)
    x = SelfAttention(spectral_norm=True, name="attention")(x)
    x = SNConv2DTranspose(6, 3, padding="same", use_bias=False, name="t1")(x)
    x = keras.layers.Dropout(0.5, name="drop")(keras.layers.Flatten(name="flat")(x))
    network = keras.Model(image, SNDense(5, name="d1")(x), name="ours")

    def arrays(sigma):
        rng = np.random.default_rng(0)
        held = {}
        for v in network.variables:
            if not v.path.endswith(("/u", "state")):
                array = rng.normal(size=v.shape)
                if v.name == "kernel":
                    axis = 2 if v.path.startswith("t1") else 3
                    matrix = array if array.ndim == 2 else np.moveaxis(array, axis, 3)
                    largest = np.linalg.norm(matrix.reshape(-1, matrix.shape[-1]), 2)
                    array = array * sigma / largest
                held[v.path] = array.astype("float32")
        return held

    return network, arrays


def by_layers(arrays):
    groups = {}
    for path, array in arrays.items():
        groups.setdefault(path.split("/")[0], {})[f"{path}:0"] = array
    return groups


def test_a_network_that_divides_by_sigma(tmp_path):
    network, arrays = spectral()
    plain = bridge.plain(network)
    assert {v.path for v in plain.weights} == set(arrays(1))
    x = np.random.default_rng(1).normal(size=(2, 4, 4, 8)).astype("float32")
    one = hdf5(tmp_path / "one.h5", by_layers(arrays(1)))
    bridge.fill_hdf5(network, one)
    bridge.fill_hdf5(plain, one)
    expected = plain.predict_on_batch(x)
    assert abs(network.predict_on_batch(x) - expected).max() < 1e-5 * abs(expected).max()

    before = values(network)
    two = hdf5(tmp_path / "two.h5", by_layers(arrays(2)))
    with pytest.raises(zoo.WeightsError) as refused:
        bridge.fill_hdf5(network, two)
    said = str(refused.value)
    for path in ("c1", "attention/query", "attention/value", "t1", "d1"):
        assert f"{path}/kernel by 2.00000" in said
    assert said.endswith("fill bridge.plain(network), or give renormalise=True")
    near = hdf5(tmp_path / "near.h5", by_layers(arrays(1.0001)))
    with pytest.raises(zoo.WeightsError, match="c1/kernel by 1.00010"):
        bridge.fill_hdf5(network, near)
    assert all(np.array_equal(v, before[k]) for k, v in values(network).items())
    bridge.fill_hdf5(network, two, renormalise=True)
    assert abs(network.predict_on_batch(x) - expected).max() < 1e-5 * abs(expected).max()
    bridge.fill_hdf5(plain, two)
    assert abs(plain.predict_on_batch(x) - expected).max() > 0.1 * abs(expected).max()


IMPORT = ["--mode=import", "--model=resnet18", "--tag=t"]


def test_the_command_makes_weights_that_the_zoo_loads(tmp_path, monkeypatch, capsys):
    network = tiny("resnet18")
    for v in network.variables:
        v.assign(v.value * (0.1 if v.name == "kernel" else 1))
    path = safetensors(tmp_path / "other.safetensors", torch_state("resnet18", network))
    monkeypatch.chdir(tmp_path)
    flags = ["--input=other.safetensors", "--image_size=128", "--set=width=4"]
    assert main.main([*IMPORT, *flags, "--set=normalise=none"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == "attention_zoo.load('resnet18', 'imported/t')"
    x = np.random.default_rng(0).uniform(-1, 1, (2, 128, 128, 3)).astype("float32")
    expected = network.predict_on_batch(x)
    found = zoo.load("resnet18", weights="imported/t").predict_on_batch(x)
    assert abs(found - expected).max() < 5e-3 * abs(expected).max()
    row = json.loads((tmp_path / "imported" / "manifest.json").read_text())["resnet18"]["t"]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert row["origin"] == {"file": "other.safetensors", "sha256": digest}
    assert row["license"] == "unknown: that of other.safetensors"
    options = {"normalise": "none", "maps": "soft", "centred": True, "output_stride": 32}
    assert row["options"] == TINY["resnet18"] | options
    assert main.main([*IMPORT, *flags, f"--output={tmp_path / 'mine'}"]) == 0
    loaded = zoo.load("resnet18", weights=str(tmp_path / "mine" / "t"))
    assert abs(loaded.predict_on_batch(x) - expected).max() > 0.05 * abs(expected).max()


def test_the_command_takes_hdf5_by_layer(tmp_path, monkeypatch):
    hdf5(tmp_path / "x.h5", by_layers(values(tiny("resnet18"))))
    monkeypatch.chdir(tmp_path)
    flags = ["--input=x.h5", "--image_size=128", "--set=width=4", "--set=classes=3"]
    assert main.main([*IMPORT, *flags]) == 0
    with open(tmp_path / "imported" / "manifest.json") as file:
        assert json.load(file)["resnet18"]["t"]["options"]["normalise"] == "none"


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--mode=import"], "needs --model=NAME and --input=FILE and --tag=NAME"),
        ([*IMPORT, "--input=x", "--tag=A/B"], "tag=A/B: takes small letters"),
        ([*IMPORT, "--input=x", "--model=vgg17"], "did you mean 'vgg16'?"),
        ([*IMPORT, "--input=gone.pth"], "gone.pth does not exist"),
        ([*IMPORT, "--input=."], "takes a file, and this is a folder"),
        ([*IMPORT, "--input=notes.txt"], "is not a PyTorch, safetensors or HDF5 file"),
        ([*IMPORT, "--input=x", "--set=depth=3"], "depth=3: there are centred=True"),
        ([*IMPORT, "--input=x", "--image_size=4"], "image_size must be at least 8"),
        ([*IMPORT, "--input=x"], "holds conv1.weight of shape (4, 3, 7, 7), and stem/kernel is"),
        ([*IMPORT, "--input=x", "--image_size=64", "--set=width=4"], "and stem/kernel is (3, 3,"),
        (
            [*IMPORT, "--input=x", "--model=vgg16", "--set=width=1"],
            "lacks features.0.weight (our conv1_1/kernel)",
        ),
        (
            [*IMPORT, "--input=x", "--model=ragan"],
            "imported for resnet18, squeezenet, vgg16, efficientnet_lite0, cyclegan, attention_gan",
        ),
        ([*IMPORT, "--input=x", "--steps=3"], "--mode=import does not use --steps"),
        ([*IMPORT, "--input=x", "--set=width=4", "--output=notes.txt"], "cannot write the weights"),
    ],
)
def test_a_mistake_ends_in_one_line(flags, line, tmp_path, monkeypatch, capsys):
    safetensors(tmp_path / "x", torch_state("resnet18", tiny("resnet18")))
    (tmp_path / "notes.txt").write_text("to be read, but not as weights")
    monkeypatch.chdir(tmp_path)
    assert main.main(flags) == 2
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1
    assert sorted(os.listdir(tmp_path)) == ["notes.txt", "x"]

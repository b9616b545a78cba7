"""The extractor against torch-fidelity and against TensorFlow 1's own operations.

    pytest tests/parity_inception.py

It needs torch and torch-fidelity, takes minutes, and is no part of `pytest` alone. The weights are
random: no file of the real ones is needed.
"""

import hashlib

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

from attention_zoo.benchmarks import no_torchvision  # noqa: F401  before torch_fidelity
from attention_zoo.evaluate import inception
from attention_zoo.tests.helpers import FEATURES, LOGITS, random_arrays, random_images

SIZES = [(32, 32), (64, 64), (299, 299), (400, 400), (48, 77)]


def images_of(size):
    """uint8 (2, *size, 3): noise, and a gradient from black to a colour."""
    noise = np.random.default_rng(size).integers(0, 256, (*size, 3))
    gradient = np.linspace(0, 1, size[0])[:, None, None] * np.ones((size[1], 1)) * (255, 128, 64)
    return np.stack([noise, gradient]).astype(np.uint8)


def extractor(path):
    return FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], str(path))


def theirs(model, images):
    """{"features", "logits", "spatial"} as torch-fidelity computes them."""
    caught = []
    hook = model.Mixed_6d.branch1x1.register_forward_hook(lambda *args: caught.append(args[2]))
    features, logits = model(torch.tensor(images).permute(0, 3, 1, 2))
    hook.remove()
    spatial = caught[0][:, :7].permute(0, 2, 3, 1).flatten(1)
    found = {"features": features, "logits": logits, "spatial": spatial}
    return {name: value.numpy() for name, value in found.items()}


def same(ours, expected):
    """Whether two images' outputs agree to 1e-4 of what tells one image from the other."""
    found = {k: np.abs(ours[k] - v).max() / np.ptp(v, axis=0).max() for k, v in expected.items()}
    print({name: f"{value:.1e}" for name, value in found.items()})
    return max(found.values()) < 1e-4


def load(path):
    return inception.load(path, accepted={hashlib.sha256(path.read_bytes()).hexdigest()})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint of torch-fidelity's own layout, counters of batches and all."""
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.save({}, folder / "empty.pth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        layout = extractor(folder / "empty.pth").state_dict()
    torch.manual_seed(0)
    state = {}
    for key, value in layout.items():
        if value.ndim > 1:
            state[key] = torch.randn(value.shape) * (1.5 / value[0].numel()) ** 0.5
        elif key.endswith(("bn.weight", "running_var")):
            state[key] = torch.rand(value.shape) + 0.5
        elif value.ndim == 1:
            state[key] = torch.randn(value.shape) * 0.1
        else:
            state[key] = value
    assert len(state) == 94 * 6 + 2
    torch.save(state, folder / "checkpoint.pth")
    return folder / "checkpoint.pth"


@pytest.fixture(scope="module")
def loaded(checkpoint):
    return load(checkpoint), extractor(checkpoint)


@pytest.mark.parametrize("size", SIZES)
def test_outputs_are_those_of_torch_fidelity(size, loaded):
    ours, reference = loaded
    images = images_of(size)
    expected = theirs(reference, images)
    assert 0.1 < np.abs(expected["features"]).mean() < 10
    assert same(ours.predict_on_batch(images), expected)


@pytest.mark.parametrize("size", [*SIZES, (1, 1), (5, 7), (1024, 28)])
def test_the_resize_is_that_of_torch_fidelity_to_the_bit(size):
    images = images_of(size)
    expected = interpolate_bilinear_2d_like_tensorflow1x(
        torch.tensor(images).permute(0, 3, 1, 2).float(), size=(299, 299), align_corners=False
    )
    found = keras.ops.convert_to_numpy(inception.resize(images))
    assert np.array_equal(found, expected.permute(0, 2, 3, 1).numpy())


def test_the_old_file_format_and_no_counters_load_the_same(checkpoint, loaded, tmp_path):
    state = torch.load(checkpoint, weights_only=True)
    state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert inception.digest(load(tmp_path / "old.pth")) == inception.digest(loaded[0])


def test_a_checkpoint_that_does_not_fit_is_refused(checkpoint, tmp_path, monkeypatch, loaded):
    monkeypatch.setattr(inception, "build", lambda: loaded[0])
    state = torch.load(checkpoint, weights_only=True)
    del state["Mixed_6d.branch1x1.conv.weight"]
    torch.save(state, tmp_path / "lacking.pth")
    with pytest.raises(inception.InceptionError, match="lacks Mixed_6d.branch1x1.conv.weight$"):
        load(tmp_path / "lacking.pth")
    for name, data in (("zip", checkpoint.read_bytes()[:-99]), ("pickle", b"\x80\x02\x8a\x0a")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(inception.InceptionError, match="is not a PyTorch checkpoint of arrays"):
            load(tmp_path / name)


def test_the_literals_of_test_inception_are_those_of_torch_fidelity(loaded, tmp_path):
    arrays = random_arrays(loaded[0])
    state = {
        inception.checkpoint_key(name): torch.tensor(
            array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        )
        for name, array in arrays.items()
    }
    torch.save(state, tmp_path / "checkpoint.pth")
    found = theirs(extractor(tmp_path / "checkpoint.pth"), random_images())
    features, logits = found["features"], found["logits"]
    assert [*features.mean(1), *features.max(1)] == pytest.approx(FEATURES, rel=2e-4)
    assert logits[:, :3].flatten() == pytest.approx(LOGITS, rel=2e-4)


class Graph:
    """A GraphDef of the operations that TensorFlow had in 2015, under the real graph's names."""

    def __init__(self, arrays):
        self.proto, self.arrays = tf.compat.v1.GraphDef(), arrays
        self.proto.versions.producer = 8  # the last with BatchNormWithGlobalNormalization

    def add(self, op, name, *inputs, **attributes):
        node = self.proto.node.add(op=op, name=name, input=inputs)
        for key, value in attributes.items():
            kind = {bool: "b", float: "f", bytes: "s", tf.DType: "type"}.get(type(value))
            if kind:
                value = value.as_datatype_enum if kind == "type" else value
                setattr(node.attr[key], kind, value)
            else:
                node.attr[key].list.i.extend(value)
        return name

    def const(self, name, value=None, dtype=tf.float32):
        value = self.arrays[name] if value is None else value
        node = self.proto.node.add(op="Const", name=name)
        node.attr["dtype"].type = dtype.as_datatype_enum
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, dtype))
        return name

    def conv(self, x, name, strides=1, padding=b"SAME"):
        f32 = {"T": tf.float32}
        kernel = self.const(f"{name}/conv2d_params")
        window = {"strides": (1, strides, strides, 1), "padding": padding}
        y = self.add("Conv2D", f"{name}/Conv2D", x, kernel, **f32, **window)
        parts = ("moving_mean", "moving_variance", "beta", "gamma")
        y = self.add(
            "BatchNormWithGlobalNormalization",
            f"{name}/batchnorm",
            y,
            *(self.const(f"{name}/batchnorm/{part}") for part in parts),
            **f32,
            variance_epsilon=0.001,
            scale_after_normalization=True,
        )
        y = self.add("CheckNumerics", f"{name}/CheckNumerics", y, **f32, message=b"")
        y = self.add("Identity", f"{name}/control_dependency", y, **f32)
        return self.add("Relu", name, y, **f32)

    def convs(self, x, scope, count, *last):
        """conv .. conv_{count - 1} of a scope; last: strides and padding of the last."""
        for i in range(count):
            name = f"{scope}/conv_{i}" if i else f"{scope}/conv"
            x = self.conv(x, name, *(last if i == count - 1 else ()))
        return x

    def pool(self, kind, x, name, size=3, strides=2, padding=b"VALID"):
        window = {"ksize": (1, size, size, 1), "strides": (1, strides, strides, 1)}
        return self.add(f"{kind}Pool", name, x, T=tf.float32, **window, padding=padding)

    def join(self, name, *parts):
        axis = self.const(f"{name}/concat_dim", 3, tf.int32)
        self.add("Concat", name, axis, *parts, T=tf.float32)
        self.proto.node[-1].attr["N"].i = len(parts)
        return name


def frozen(arrays):
    """The graph inception-2015-12-05 with these weights, from ExpandDims on."""
    g, half = Graph(arrays), (2, b"VALID")
    g.add("Placeholder", "ExpandDims", dtype=tf.float32)
    size = g.const("ResizeBilinear/size", [299, 299], tf.int32)
    x = g.add("ResizeBilinear", "ResizeBilinear", "ExpandDims", size, T=tf.float32)
    x = g.add("Sub", "Sub", x, g.const("Sub/y", 128.0), T=tf.float32)
    x = g.add("Mul", "Mul", x, g.const("Mul/y", 1 / 128), T=tf.float32)
    x = g.conv(x, "conv", *half)
    x = g.conv(x, "conv_1", 1, b"VALID")
    x = g.conv(x, "conv_2")
    x = g.pool("Max", x, "pool")
    x = g.conv(x, "conv_3", 1, b"VALID")
    x = g.conv(x, "conv_4", 1, b"VALID")
    x = g.pool("Max", x, "pool_1")
    for block in range(11):
        s = f"mixed_{block}" if block else "mixed"
        if block == 3:
            parts = [g.convs(x, s, 1, *half), g.convs(x, f"{s}/tower", 3, *half)]
            parts.append(g.pool("Max", x, f"{s}/pool"))
        elif block == 8:
            parts = [g.convs(x, f"{s}/tower", 2, *half), g.convs(x, f"{s}/tower_1", 4, *half)]
            parts.append(g.pool("Max", x, f"{s}/pool"))
        else:
            parts = [g.convs(x, s, 1)]
            for tower, count in (("tower", 1), ("tower_1", 2)) if block > 8 else ():
                y = g.convs(x, f"{s}/{tower}", count)
                halves = [g.conv(y, f"{s}/{tower}/mixed/{n}") for n in ("conv", "conv_1")]
                parts.append(g.join(f"{s}/{tower}/mixed", *halves))
            if block < 8:
                parts.append(g.convs(x, f"{s}/tower", 2 if block < 3 else 3))
                parts.append(g.convs(x, f"{s}/tower_1", 3 if block < 3 else 5))
            kind = "Max" if block == 10 else "Avg"
            y = g.pool(kind, x, f"{s}/tower_2/pool", 3, 1, b"SAME")
            parts.append(g.convs(y, f"{s}/tower_2", 1))
        x = g.join(f"{s}/join", *parts)
    x = g.pool("Avg", x, "pool_3", 8, 1)
    shape = g.const("pool_3/_reshape/shape", [-1, 2048], tf.int32)
    x = g.add("Reshape", "pool_3/_reshape", x, shape, T=tf.float32)
    x = g.add("MatMul", "softmax/logits/MatMul", x, g.const("softmax/weights"), T=tf.float32)
    x = g.add("BiasAdd", "softmax/logits", x, g.const("softmax/biases"), T=tf.float32)
    g.add("Softmax", "softmax", x, T=tf.float32)
    return g.proto


def test_outputs_are_those_of_the_frozen_graph(loaded, tmp_path):
    proto = frozen(random_arrays(loaded[0], seed=1))
    path = tmp_path / inception.GRAPH
    path.write_bytes(proto.SerializeToString())
    ours = load(path)
    outputs = ["softmax/logits/MatMul:0", "pool_3:0", "mixed_6/conv:0"]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        image = tf.compat.v1.placeholder(tf.float32, (None, None, None, 3))
        nodes = tf.import_graph_def(proto, {"ExpandDims:0": image}, outputs)
        values = [session.run(nodes, {image: images_of(size)}) for size in SIZES]
    for size, (logits, pooled, maps) in zip(SIZES, values):
        expected = {
            "features": pooled.reshape(2, 2048),
            "logits": logits,
            "spatial": maps[..., :7].reshape(2, -1),
        }
        assert same(ours.predict_on_batch(images_of(size)), expected)

"""The extractor of FID: its parts against loops, its weights each in its place, and refusals."""

import hashlib
import re
import sys

import keras
import numpy as np
import pytest

from attention_zoo.common import files
from attention_zoo.evaluate import inception
from attention_zoo.evaluate.inception import InceptionError
from attention_zoo.tests.helpers import FEATURES, LOGITS, random_arrays, random_images


# torch-fidelity's outputs for random_images() under random_arrays(): parity_inception.py
def graph_of(arrays):
    """Bytes of a frozen graph with these constants and some that are no weights."""
    import tensorflow as tf

    others = {"DecodeJpeg/contents": b"", "Sub/y": 128.0, "mixed/join/concat_dim": 3}
    graph = tf.compat.v1.GraphDef()
    for name, array in (others | arrays).items():
        node = graph.node.add(name=name, op="Const")
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(array))
    return graph.SerializeToString()


def write(path, data):
    """-> (path, {its sha256})."""
    path.write_bytes(data)
    return path, {hashlib.sha256(data).hexdigest()}


def refusal(path, accepted):
    with pytest.raises(InceptionError) as caught:
        inception.load(path, accepted=accepted)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


@pytest.fixture(scope="module")
def model():
    """`build` under a policy that must not matter."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield inception.build()
    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="module")
def arrays(model, tmp_path_factory):
    """The weights that `model` was loaded with."""
    arrays = random_arrays(model)
    path, accepted = write(tmp_path_factory.mktemp("graph") / "any.name", graph_of(arrays))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inception, "build", lambda: model)
        assert inception.load(path, accepted=accepted) is model
    return arrays


def test_parameters(model):
    # Inception-v3 without classifiers 21,785,568, moving statistics 2 x 17,216, dense 2,048 x 1,008
    assert model.count_params() == 23_884_384
    assert model.trainable_weights == []


def test_every_weight_lands_in_its_place(model, arrays):
    variables = inception.nodes(model)
    assert len(variables) == 94 * 5 + 1 and set(arrays) == {*variables, "softmax/biases"}
    for name, variable in variables.items():
        assert np.array_equal(keras.ops.convert_to_numpy(variable), arrays[name]), name


@pytest.mark.parametrize(
    "node, key",
    [
        ("conv_3/conv2d_params", "Conv2d_3b_1x1.conv.weight"),
        ("mixed/conv/batchnorm/gamma", "Mixed_5b.branch1x1.bn.weight"),
        ("mixed_2/tower_1/conv_2/batchnorm/beta", "Mixed_5d.branch3x3dbl_3.bn.bias"),
        ("mixed_3/tower/conv_2/conv2d_params", "Mixed_6a.branch3x3dbl_3.conv.weight"),
        ("mixed_6/tower/conv/batchnorm/moving_mean", "Mixed_6d.branch7x7_1.bn.running_mean"),
        ("mixed_8/tower_1/conv_3/conv2d_params", "Mixed_7a.branch7x7x3_4.conv.weight"),
        ("mixed_9/tower/mixed/conv_1/conv2d_params", "Mixed_7b.branch3x3_2b.conv.weight"),
        ("mixed_10/tower_1/mixed/conv/conv2d_params", "Mixed_7c.branch3x3dbl_3a.conv.weight"),
        ("mixed_10/tower_2/conv/batchnorm/moving_variance", "Mixed_7c.branch_pool.bn.running_var"),
        ("softmax/biases", "fc.bias"),
    ],
)
def test_checkpoint_key(node, key):
    assert inception.checkpoint_key(node) == key


def test_each_weight_has_a_key_of_its_own(arrays):
    assert len({inception.checkpoint_key(name) for name in arrays}) == 472


def test_outputs(model, arrays):
    inner = {n: model.get_layer(n).output for n in ("mixed_6-conv", "mixed_6-conv-batchnorm")}
    inner["mixed_10-join"] = model.get_layer("mixed_10-join").output
    network = keras.Model(model.input, {**model.output, **inner})
    found = network(random_images(), training=True)  # frozen: training changes nothing
    found = {name: keras.ops.convert_to_numpy(value) for name, value in found.items()}
    features, logits, spatial = (found[k] for k in ("features", "logits", "spatial"))
    assert (features.dtype, logits.shape, spatial.shape) == (np.float32, (2, 1008), (2, 2023))
    assert [*features.mean(1), *features.max(1)] == pytest.approx(FEATURES, rel=2e-4)
    assert logits[:, :3].flatten() == pytest.approx(LOGITS, rel=2e-4)
    assert np.allclose(features, found["mixed_10-join"].mean((1, 2)), rtol=1e-4)
    assert np.allclose(logits, features @ arrays["softmax/weights"], rtol=1e-3, atol=1e-4)
    rectified = np.maximum(found["mixed_6-conv-batchnorm"], 0)
    assert np.array_equal(found["mixed_6-conv"], rectified)
    assert np.array_equal(spatial.reshape(2, 17, 17, 7), rectified[..., :7])


def test_only_the_last_block_has_a_max_pool(model):
    pools = [layer for layer in model.layers if "tower_2-pool" in layer.name]
    kinds = [type(layer).__name__ for layer in pools]
    assert kinds == ["AveragePooling2D"] * 8 + ["MaxPooling2D"]
    assert pools[-1].name == "mixed_10-tower_2-pool"


def test_the_digest_is_of_the_weights(model, arrays):
    before = inception.digest(model)
    mean = inception.nodes(model)["mixed_4/tower/conv/batchnorm/moving_mean"]
    kept = keras.ops.convert_to_numpy(mean)
    mean.assign(kept + 1)
    changed = inception.digest(model)
    mean.assign(kept)
    assert changed != before == inception.digest(model)
    assert len(before) == 64


@pytest.mark.parametrize("height, width, size", [(5, 7, 11), (13, 9, 4), (2, 30, 7), (1, 1, 3)])
def test_resize_by_a_loop(height, width, size):
    image = np.random.default_rng(0).integers(0, 256, (1, height, width, 3)).astype(np.uint8)
    found = keras.ops.convert_to_numpy(inception.resize(image, size))
    assert found.shape == (1, size, size, 3)
    for i in range(size):
        for j in range(size):
            y, x = i * height / size, j * width / size
            top, left = int(y), int(x)
            below, right = min(top + 1, height - 1), min(left + 1, width - 1)
            expected = (
                (top + 1 - y) * (left + 1 - x) * image[0, top, left]
                + (top + 1 - y) * (x - left) * image[0, top, right]
                + (y - top) * (left + 1 - x) * image[0, below, left]
                + (y - top) * (x - left) * image[0, below, right]
            )
            assert np.abs(found[0, i, j] - expected).max() < 1e-3


def test_resize_takes_legacy_corners_and_no_antialias():
    row = np.array([[[[0.0], [10.0]]]])  # (1, 1, 2, 1)
    stripes = np.tile(row, (1, 1, 4, 1))
    found = [keras.ops.convert_to_numpy(inception.resize(x, 4)) for x in (row, stripes)]
    assert [x[0, 0, :, 0].tolist() for x in found] == [[0, 5, 10, 10], [0, 0, 0, 0]]


def test_resize_to_the_same_size_changes_nothing():
    image = np.random.default_rng(0).integers(0, 256, (1, 299, 299, 3)).astype(np.uint8)
    assert np.array_equal(keras.ops.convert_to_numpy(inception.resize(image)), image)


def test_the_resize_layer_is_saved_and_loaded(tmp_path):
    image = keras.Input((None, None, 3), dtype="uint8")
    model = keras.Model(image, inception.Resize(6)(image))
    model.save(tmp_path / "resize.keras")
    images = random_images()
    again = keras.models.load_model(tmp_path / "resize.keras").predict_on_batch(images)
    assert np.allclose(again, keras.ops.convert_to_numpy(inception.resize(images, 6)), rtol=1e-6)


@pytest.mark.parametrize("size", [35, 17, 8])
def test_the_mean_pool_leaves_the_padding_out(size):
    x = np.random.default_rng(0).normal(size=(1, size, size, 2)).astype(np.float32)
    found = keras.ops.convert_to_numpy(inception.mean_pool(x, "pool"))
    assert found.shape == x.shape
    for i in (0, 1, size - 1):
        for j in (0, 1, size - 1):
            window = x[0, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
            assert np.abs(found[0, i, j] - window.mean((0, 1))).max() < 1e-5


def test_another_file_or_a_truncated_one_is_refused(tmp_path):
    data = graph_of({"conv/batchnorm/beta": np.ones(32)})
    path, accepted = write(tmp_path / inception.GRAPH, data)
    assert "download it again" in refusal(path, inception.SHA256)
    write(path, data[:-7])
    assert "or it is damaged (sha256 " in refusal(path, accepted)
    path, accepted = write(path, data[:-7])
    assert "neither a PyTorch checkpoint nor a frozen graph" in refusal(path, accepted)
    assert "cannot be read: No such file" in refusal(tmp_path / "absent.pb", accepted)
    assert "cannot be read: Is a directory" in refusal(tmp_path, accepted)


def test_the_digests_are_64_hexadecimal_digits_each():
    assert [len(bytes.fromhex(key)) for key in inception.SHA256] == [32, 32]
    assert all(name in inception.NAMES for name in inception.SHA256.values())


def test_without_torch_a_checkpoint_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for start in (b"PK\x03\x04", b"\x80\x02\x8a"):
        path, accepted = write(tmp_path / "any.name", start)
        assert "install torch, or use classify_image_graph_def.pb" in refusal(path, accepted)


def test_a_graph_that_lacks_a_weight_is_refused(tmp_path, model, monkeypatch):
    monkeypatch.setattr(inception, "build", lambda: model)
    path, accepted = write(tmp_path / "any.name", graph_of({"conv/conv2d_params": np.ones(2)}))
    assert " lacks conv/batchnorm/gamma, and 471 faults more" in refusal(path, accepted)


NODE = "mixed_6/conv/conv2d_params"


@pytest.mark.parametrize(
    "changes, message",
    [
        ({NODE: None}, f"lacks {NODE}"),
        ({"softmax/biases": None}, "lacks softmax/biases"),
        ({"extra/weights": np.ones(2)}, "holds an unknown extra/weights"),
        ({NODE: np.ones((1, 1, 768, 1))}, f"{NODE} of shape (1, 1, 768, 1), not (1, 1, 768, 192)"),
        ({"softmax/biases": np.ones(1000)}, "softmax/biases of shape (1000,), not (1008,)"),
    ],
)
def test_weights_that_do_not_fit_change_nothing(changes, message, model, arrays):
    changed = {k: 2 * v for k, v in (arrays | changes).items() if v is not None}
    with pytest.raises(InceptionError, match=f"{re.escape(message)}$"):
        inception.fill(model, changed)
    beta = inception.nodes(model)["conv/batchnorm/beta"]
    assert np.array_equal(keras.ops.convert_to_numpy(beta), arrays["conv/batchnorm/beta"])


def test_find(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = tmp_path / "attention_zoo"
    assert files.cache_folder() == cache
    assert inception.find() is None
    cache.mkdir()
    (cache / inception.CHECKPOINT).touch()
    monkeypatch.setattr(inception, "has_torch", lambda: False)  # nothing could read it
    assert inception.find() is None
    monkeypatch.setattr(inception, "has_torch", lambda: True)
    assert inception.find() == inception.find(cache=cache) == cache / inception.CHECKPOINT
    (cache / inception.GRAPH).touch()  # needs no PyTorch: it is taken first
    assert inception.find() == cache / inception.GRAPH
    assert inception.find(cache / inception.CHECKPOINT) == cache / inception.CHECKPOINT
    assert inception.find(str(cache)) == cache / inception.GRAPH
    with pytest.raises(InceptionError, match="is neither a file nor a folder with classify_image"):
        inception.find(tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.cache_folder() == tmp_path / ".cache" / "attention_zoo"


def test_fetch_without_a_network_says_what_to_put_where(tmp_path, monkeypatch):
    def refuse(address, timeout):
        assert (address, timeout) == (("openaipublic.blob.core.windows.net", 443), 5)
        raise OSError

    monkeypatch.setattr(inception.socket, "create_connection", refuse)
    monkeypatch.setattr(inception.urllib.request, "getproxies", dict)
    with pytest.raises(InceptionError) as caught:
        inception.fetch(tmp_path / "cache")
    message = str(caught.value)
    assert message.startswith("openaipublic.blob.core.windows.net cannot be reached: put pt_incep")
    assert message.endswith(f"{inception.URL}, into {tmp_path / 'cache'}") and "\n" not in message
    assert not (tmp_path / "cache").exists()


def test_fetch_keeps_nothing_that_is_wrong(tmp_path, monkeypatch):
    (tmp_path / "other").write_bytes(b"another file")
    monkeypatch.setattr(inception, "URL", (tmp_path / "other").as_uri())
    monkeypatch.setattr(inception.urllib.request, "getproxies", lambda: {"https": "proxy"})
    with pytest.raises(
        InceptionError, match="could not be downloaded .file:.*its sha256 differs.: put pt_"
    ):
        inception.fetch(tmp_path / "cache")
    monkeypatch.setattr(inception, "URL", (tmp_path / "gone").as_uri())
    with pytest.raises(InceptionError, match="could not be downloaded .*No such file"):
        inception.fetch(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_fetch_downloads_into_the_cache_once(tmp_path, monkeypatch):
    source, accepted = write(tmp_path / "source", b"weights")
    monkeypatch.setattr(inception, "SHA256", dict.fromkeys(accepted, inception.GRAPH))
    monkeypatch.setattr(inception, "URL", source.as_uri())
    monkeypatch.setattr(inception.urllib.request, "getproxies", lambda: {"https": "proxy"})
    place = inception.fetch(tmp_path / "cache")
    assert place == tmp_path / "cache" / inception.GRAPH
    assert place.read_bytes() == b"weights"
    source.unlink()
    assert inception.fetch(tmp_path / "cache") == place

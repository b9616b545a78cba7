"""Networks as files of other runtimes: they answer as the network does, or are refused."""

import json
import sys
import types

import keras
import pytest
import tensorflow as tf

import attention_zoo as az
from attention_zoo import zoo
from attention_zoo.serving import formats
from attention_zoo.tasks.base import Origin
from attention_zoo.tasks.classification import Classifier
from attention_zoo.tests.helpers import images, lines, mistake, publish

OPTIONS = {"image_size": 32, "width": 4, "classes": 5}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small classifier that is not trained."""
    keras.utils.set_random_seed(3)
    folder = tmp_path_factory.mktemp("weights")
    publish("resnet9", zoo.create("resnet9", **OPTIONS)["classifier"], OPTIONS, folder)
    return az.load("resnet9", f"{folder}/mine")


def test_a_tflite_file_answers_as_the_network(model, tmp_path, capsys):
    weights = f"--weights={model.origin.weights}"
    flags = ["--mode=export", "--model=resnet9", weights, f"--output={tmp_path}"]
    path = tmp_path / "resnet9.tflite"
    assert lines(capsys, *flags, "--format=tflite") == [f"{path}: serving_default"]
    assert capsys.readouterr().err == ""
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["resnet9.tflite", "resnet9.tflite.json"]
    about = json.loads((tmp_path / "resnet9.tflite.json").read_text())
    assert (about["model"], about["sha256"]) == ("resnet9", model.origin.sha256)
    runner = tf.lite.Interpreter(str(path)).get_signature_runner("serving_default")
    x = images(3)
    found = runner(image=x)
    assert sorted(found) == ["attention", "boxes", "logits", "scores"]
    assert found["boxes"].shape == (3, 4) and found["attention"].shape == (3, 32, 32)
    expected = model.network(x, training=False).numpy()
    assert abs(found["logits"] - expected).max() < 1e-5 * max(1, abs(expected).max())
    assert abs(found["scores"].sum(-1) - 1).max() < 1e-6


def test_an_operation_without_a_counterpart_is_named(tmp_path, capfd):
    options = {"image_size": 32, "width": 4, "encoder_width": 4}
    publish("ragan", zoo.create("ragan", **options)["generator"], options, tmp_path)
    ragan = az.load("ragan", f"{tmp_path}/mine")
    message = (
        "ragan: TensorFlow Lite has no counterpart of tf.GatherV2 as the network uses it: take"
    )
    with pytest.raises(az.UsageError, match=message):
        az.export(ragan, tmp_path / "out", format="tflite")
    assert not (tmp_path / "out").exists()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("part", ["TFLiteConverter", "Interpreter"])
def test_what_the_runtime_cannot_do_is_one_sentence(part, model, tmp_path, monkeypatch):
    class Broken:
        def __init__(self, **_):
            raise ValueError("too large\nby far")

        @classmethod
        def from_saved_model(cls, folder, signature_keys):
            return types.SimpleNamespace(convert=cls)

    monkeypatch.setattr(tf.lite, part, Broken)
    what = {"TFLiteConverter": "convert it", "Interpreter": "run the file"}[part]
    message = rf"resnet9: TensorFlow Lite cannot {what} \(too large by far\): take --format=saved"
    with pytest.raises(az.UsageError, match=message):
        az.export(model, tmp_path / "out", format="tflite")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": lambda a: a + 2e-4}, "resnet9: scores of the tflite file is 0.0002 off"),
        ({"boxes": lambda a: a[:, 1:]}, "boxes of the tflite file is inf off"),
        (
            {"logits": None},
            "the tflite file gives only .*, not all outputs: take --format=saved_model",
        ),
    ],
)
def test_a_difference_refuses_the_file(change, message, model, tmp_path, monkeypatch):
    def converter(name, function, specs, inputs):
        answers = {k: v.numpy() for k, v in function(**inputs).items()}
        changed = {k: change.get(k, lambda a: a) for k in answers}
        return b"file", {k: f(answers[k]) for k, f in changed.items() if f}

    monkeypatch.setitem(formats.CONVERTERS, "tflite", converter)
    with pytest.raises(az.UsageError, match=message):
        az.export(model, tmp_path / "out", format="tflite")
    assert not (tmp_path / "out").exists()
    change.clear()
    (exported,) = az.export(model, tmp_path / "out", format="tflite")
    assert exported.path == tmp_path / "out" / "resnet9.tflite"
    assert exported.path.read_bytes() == b"file"


def test_onnx_says_what_it_needs(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    weights = f"--weights={model.origin.weights}"
    flags = ["--mode=export", "--model=resnet9", weights, f"--output={tmp_path}", "--format=onnx"]
    assert "pip install tf2onnx onnx onnxruntime" in mistake(capsys, *flags)
    with pytest.raises(az.UsageError, match="format is one of saved_model, tflite, onnx, not 'h5'"):
        az.export(model, tmp_path, format="h5")


@pytest.fixture
def onnx(monkeypatch):
    """Stand-ins of tf2onnx, onnx and onnxruntime. The "file" is the traced function; `nodes` are
    its operations, of which only those of letters are known."""
    nodes = ["Conv"]
    held = {}

    class Session:
        def __init__(self, data, providers):
            assert (data, providers) == (b"onnx", ["CPUExecutionProvider"])

        def get_outputs(self):
            return [types.SimpleNamespace(name=name) for name in ("logits", "scores")]

        def run(self, names, inputs):
            made = held["function"](*map(tf.constant, inputs.values()))
            return [made[name].numpy() for name in names]

    def from_function(function, specs, opset):
        held.update(function=function, opset=opset)
        graph = [types.SimpleNamespace(op_type=name, domain="") for name in nodes]
        graph = types.SimpleNamespace(node=graph)
        return types.SimpleNamespace(graph=graph, SerializeToString=lambda: b"onnx"), None

    convert = types.SimpleNamespace(from_function=from_function)
    defs = types.SimpleNamespace(has=lambda kind, domain: kind.isalpha() and domain == "")
    monkeypatch.setitem(sys.modules, "tf2onnx", types.SimpleNamespace(convert=convert))
    monkeypatch.setitem(sys.modules, "onnx", types.SimpleNamespace(defs=defs))
    runtime = types.SimpleNamespace(InferenceSession=Session)
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    return types.SimpleNamespace(nodes=nodes, held=held)


def test_onnx_goes_through_its_packages(onnx, tmp_path):
    flat = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten()])
    network = keras.Model(flat.inputs, keras.layers.Dense(5)(flat.outputs[0]))
    toy = Classifier("resnet9", {"classifier": network}, OPTIONS, Origin("t", "creatures"))
    (exported,) = az.export(toy, tmp_path, format="onnx")
    assert exported.path == tmp_path / "resnet9.onnx" and onnx.held["opset"] == 18
    assert exported.path.read_bytes() == b"onnx"
    onnx.nodes += ["A_1", "B_2"]
    with pytest.raises(az.UsageError, match="resnet9: ONNX has no counterpart of A_1, B_2 as the"):
        az.export(toy, tmp_path / "out", format="onnx")

"""Writes networks as one file each for other runtimes: TensorFlow Lite and ONNX.

A file is a network's `serving_default` without the checks of a server. Before it is written, its
outputs for fixed inputs are compared with the network's.
"""

import json
import re
import tempfile
import warnings

import numpy as np
import tensorflow as tf

from ..common.downloads import short
from ..common.files import write_output
from ..common.quiet import stderr_discarded
from . import signatures
from .export import PROBE, ExportError, compare, example

SIGNATURE = "serving_default"
TOLERANCE = 1e-4  # relative to the largest value if that is above 1
OPSET = 18  # of ONNX
NO_KERNEL = r"'(tf\.\w+)' op is neither a custom op nor a flex op"  # as TensorFlow Lite says it


def write(models, root, kind):
    """Writes root/NAME.KIND of each Served, and its origin, NAME.KIND.json; returns [(path, names
    of its signatures)]. kind: a key of CONVERTERS.

    A model that uses an operation without a counterpart, or whose file answers otherwise than the
    network, raises ExportError, and no file is written.
    """
    made = []
    for model in models:
        function, specs = endpoint(model)
        inputs = probe(model, specs)
        expected = {k: v.numpy() for k, v in function(*map(tf.constant, inputs.values())).items()}
        data, answers = CONVERTERS[kind](model.name, function, specs, inputs)
        try:
            compare(model.name, f"{kind} file", answers, expected, TOLERANCE)
        except ExportError as error:
            raise ExportError(f"{error}: take --format=saved_model") from None
        made.append((root / f"{model.name}.{kind}", data, model.about))
    for path, data, about in made:
        write_output(path, data)
        write_output(f"{path}.json", json.dumps(about, indent=1) + "\n")
    return [(path, (SIGNATURE,)) for path, *_ in made]


def endpoint(model):
    """(function, [tf.TensorSpec]) of a Served's `serving_default`."""
    make = signatures.ROLES[model.role]
    return make(model.networks, model.size, model.threshold)[SIGNATURE]


def probe(model, specs):
    """{name: array} of PROBE examples of each input, drawn by a fixed seed."""
    rng = np.random.default_rng(0)
    return {spec.name: example(spec, PROBE, model.size, rng) for spec in specs}


def to_tflite(name, function, specs, inputs):
    """(bytes of a TensorFlow Lite model, {output: its answer to the inputs, an array})."""
    module = tf.Module()
    traced = tf.function(function, specs, autograph=False).get_concrete_function()
    module.variables_used = list(traced.variables)
    with tempfile.TemporaryDirectory() as folder, stderr_discarded():
        tf.saved_model.save(module, folder, {SIGNATURE: traced})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[SIGNATURE])
        try:
            data = converter.convert()
        except Exception as error:  # of the converter, whose class is internal to TensorFlow
            if operations := sorted(set(re.findall(NO_KERNEL, str(error)))):
                raise unknown(name, operations, "TensorFlow Lite") from None
            raise refused(name, f"TensorFlow Lite cannot convert it ({short(error)})") from None
    with stderr_discarded(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the interpreter is to move to another package
        try:
            interpreter = tf.lite.Interpreter(model_content=data)
            return data, interpreter.get_signature_runner(SIGNATURE)(**inputs)
        except (ValueError, RuntimeError) as error:
            raise refused(name, f"TensorFlow Lite cannot run the file ({short(error)})") from None


def to_onnx(name, function, specs, inputs):
    """(bytes of an ONNX model, {output: its answer to the inputs, an array})."""
    try:
        import onnx
        import onnxruntime
        import tf2onnx
    except ImportError:
        raise ExportError(
            "--format=onnx needs more packages: pip install tf2onnx onnx onnxruntime"
        ) from None
    function = tf.function(function, specs, autograph=False)
    model, _ = tf2onnx.convert.from_function(function, specs, opset=OPSET)
    used = {(node.op_type, node.domain) for node in model.graph.node}
    operations = sorted(kind for kind, domain in used if not onnx.defs.has(kind, domain))
    if operations:
        raise unknown(name, operations, "ONNX")
    data = model.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return data, dict(zip(names, session.run(names, inputs)))


def unknown(name, operations, where):
    """The ExportError of operations that have no counterpart."""
    listed = ", ".join(operations)
    return refused(name, f"{where} has no counterpart of {listed} as the network uses it")


def refused(name, why):
    """The ExportError of a model that a format cannot hold."""
    return ExportError(f"{name}: {why}: take --format=saved_model")


CONVERTERS = {"tflite": to_tflite, "onnx": to_onnx}

"""A stand-in for TensorFlow Serving in Python, for tests and first experiments.

It has the same paths, formats and error codes, and runs the same TensorFlow session. It does not
batch requests, and loads new versions only when it starts.

    python -m serving.local FOLDER [--rest=8501] [--grpc=8500]
"""

import argparse
import base64
import json
import re
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import config_pb2

from . import files, messages

PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?(/metadata|:predict)?")
HTTP = {"INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "OUT_OF_RANGE": 400, "NOT_FOUND": 404}
CODES = {code.value[0]: code.name for code in grpc.StatusCode}
WARM_UP = "assets.extra/tf_serving_warmup_requests"
THREADS = 32


class RequestError(Exception):
    """A request is answered with an error: the name of the gRPC code, and a message."""


def warm_up_requests(path):
    """Yields (signature, {input: array}) of each warm-up request in a version's folder."""
    file = path / WARM_UP
    for record in tf.data.TFRecordDataset(str(file) if file.exists() else []).as_numpy_iterator():
        request = messages.PredictionLog.FromString(record).predict_log.request
        yield request.model_spec.signature_name, messages.read(request.inputs)


class Model:
    """A version of a model in a session, as in the C++ server. warm_up: answer its warm-up requests
    first."""

    def __init__(self, path, warm_up=True):
        self.session = tf.compat.v1.Session(graph=tf.Graph())
        with self.session.graph.as_default():
            graph = tf.compat.v1.saved_model.load(self.session, ["serve"], str(path))
        self.signatures = {name: s for name, s in graph.signature_def.items() if s.inputs}
        self.calls = {name: self._call(signature) for name, signature in self.signatures.items()}
        if warm_up:
            for name, arrays in warm_up_requests(path):
                self.predict(name, arrays)

    def _call(self, signature):
        """Session.run without its check of shapes, which the C++ server does not make."""
        options = config_pb2.CallableOptions(
            feed=[signature.inputs[name].name for name in sorted(signature.inputs)],
            fetch=[signature.outputs[name].name for name in sorted(signature.outputs)],
        )
        return self.session._make_callable_from_options(options)

    def signature(self, name):
        if name not in self.signatures:
            raise RequestError("FAILED_PRECONDITION", f'Serving signature key "{name}" not found.')
        return self.signatures[name]

    def predict(self, name, arrays):
        """{input: array} -> {output: array}."""
        signature = self.signature(name)
        if arrays.keys() != set(signature.inputs):
            message = f"{name} takes {sorted(signature.inputs)}, not {sorted(arrays)}"
            raise RequestError("INVALID_ARGUMENT", message)
        for key, array in arrays.items():
            if array.dtype != tf.as_dtype(signature.inputs[key].dtype).as_numpy_dtype:
                raise RequestError("INVALID_ARGUMENT", f"{key} cannot be of type {array.dtype}")
        try:
            outputs = self.calls[name](*(arrays[key] for key in sorted(arrays)))
        except tf.errors.OpError as error:
            raise RequestError(CODES[error.error_code], error.message) from None
        return dict(zip(sorted(signature.outputs), outputs))


class Models:
    """All versions of all models in a folder."""

    def __init__(self, root, warm_up=True):
        self.by_name = {
            name: {
                version: Model(Path(root) / name / str(version), warm_up) for version in versions
            }
            for name, versions in files.models(root).items()
        }

    def get(self, name, version=None):
        """(version, Model); version: None or 0 for the newest."""
        versions = self.by_name.get(name, {})
        version = version or max(versions, default=0)
        if version not in versions:
            raise RequestError(
                "NOT_FOUND", f"Servable not found for request: {name}, {version or 'latest'}"
            )
        return version, versions[version]


def grpc_server(models, port):
    """(a started server, its port)."""

    def predict(request, context):
        spec, response = request.model_spec, messages.PredictResponse()
        try:
            _, model = models.get(spec.name, spec.version.value)
            name = spec.signature_name or "serving_default"
            messages.write(response.outputs, model.predict(name, messages.read(request.inputs)))
        except RequestError as error:
            code, message = error.args
            context.abort(grpc.StatusCode[code], message)
        except (TypeError, ValueError) as error:  # not a valid tensor
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return response

    method = grpc.unary_unary_rpc_method_handler(
        predict, messages.PredictRequest.FromString, messages.PredictResponse.SerializeToString
    )
    handler = grpc.method_handlers_generic_handler(messages.SERVICE, {"Predict": method})
    unlimited = [("grpc.max_receive_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(THREADS), (handler,), options=unlimited)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server, port


class Handler(BaseHTTPRequestHandler):
    """The REST interface; its server has the attribute `models`."""

    def do_GET(self):
        self.answer({None: self.state, "/metadata": self.metadata})

    def do_POST(self):
        self.answer({":predict": self.predict})

    def log_message(self, *_):
        pass

    def answer(self, actions):
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            match = PATH.fullmatch(self.path)
            if not match or match[3] not in actions:
                raise RequestError("NOT_FOUND", f"there is no {self.command} {self.path}")
            version, model = self.server.models.get(match[1], int(match[2] or 0))
            status, body = 200, actions[match[3]](version, model, data)
        except RequestError as error:
            status, body = HTTP.get(error.args[0], 500), {"error": error.args[1]}
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            status, body = 400, {"error": f"invalid request: {error}"}
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def state(self, version, *_):
        return {"model_version_status": [{"version": str(version), "state": "AVAILABLE"}]}

    def metadata(self, version, model, _):
        def dtypes(tensors):
            return {k: {"dtype": types_pb2.DataType.Name(v.dtype)} for k, v in tensors.items()}

        signatures = {
            name: {"inputs": dtypes(s.inputs), "outputs": dtypes(s.outputs)}
            for name, s in model.signatures.items()
        }
        return {"metadata": {"signature_def": {"signature_def": signatures}}}

    def predict(self, version, model, data):
        """Takes rows ("instances") or columns ("inputs"); a single input or output has no name."""
        body = json.loads(data)
        name = body.get("signature_name", "serving_default")
        signature = model.signature(name)
        rows = "instances" in body
        inputs = body["instances" if rows else "inputs"]
        if rows and isinstance(inputs[0], dict) and "b64" not in inputs[0]:
            inputs = {key: [row[key] for row in inputs] for key in inputs[0]}
        if not isinstance(inputs, dict):
            inputs = {key: inputs for key in signature.inputs}
        known = inputs.keys() & set(signature.inputs)
        arrays = {key: from_json(inputs[key], signature.inputs[key].dtype) for key in known}
        arrays |= {key: None for key in inputs.keys() - known}  # `model.predict` refuses the names
        outputs = {key: to_json(key, array) for key, array in model.predict(name, arrays).items()}
        if len(outputs) == 1:
            (answer,) = outputs.values()
        elif rows:
            answer = [dict(zip(outputs, row)) for row in zip(*outputs.values())]
        else:
            answer = outputs
        return {"predictions" if rows else "outputs": answer}


def from_json(value, dtype):
    """An array of a DataType; a value of another type raises ValueError."""
    dtype = tf.as_dtype(dtype)
    if dtype == tf.string:
        return np.array([base64.b64decode(v["b64"], validate=True) for v in value], object)
    array = np.array(value)
    if array.dtype.kind not in ("iu" if dtype.is_integer else "iuf"):
        raise ValueError(f"the type must be {dtype.name}, not {array.dtype}")
    return array.astype(dtype.as_numpy_dtype)


def to_json(name, array):
    if array.dtype != object:
        return array.tolist()
    binary = name.endswith("_bytes")
    return [{"b64": base64.b64encode(v).decode()} if binary else v.decode() for v in array]


class RestServer(ThreadingHTTPServer):
    daemon_threads, request_queue_size = True, 128


def main(arguments=None):
    """Serves until it is stopped; prints the ports as one line of JSON (0: any free port)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--rest", type=int, default=8501)
    parser.add_argument("--grpc", type=int, default=8500)
    parser.add_argument("--enable_model_warmup", choices=("true", "false"), default="true")
    arguments = parser.parse_args(arguments)
    tf.get_logger().setLevel("ERROR")  # Session is deprecated, but the C++ server runs it
    models = Models(arguments.folder, arguments.enable_model_warmup == "true")
    rest = RestServer(("127.0.0.1", arguments.rest), Handler)
    rest.models = models
    server, port = grpc_server(models, arguments.grpc)
    print(json.dumps({"rest": rest.server_port, "grpc": port}), flush=True)
    rest.serve_forever()


if __name__ == "__main__":
    main()

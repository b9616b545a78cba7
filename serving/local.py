"""A stand-in for TensorFlow Serving where that does not run: its paths, forms and error codes, over
the same TensorFlow session, in Python. For tests and first tries: it makes no batches of requests,
and finds new versions only when it is started.

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


class Refused(Exception):
    """A request that gets an error: gRPC's name of its code, and a message."""


def warm_up_requests(path):
    """Yields (signature, {input: array}) of a version's folder."""
    file = path / WARM_UP
    for record in tf.data.TFRecordDataset(str(file) if file.exists() else []).as_numpy_iterator():
        request = messages.PredictionLog.FromString(record).predict_log.request
        yield request.model_spec.signature_name, messages.read(request.inputs)


class Model:
    """A version of a model in a session, as in the C++ server, its warm-up requests answered."""

    def __init__(self, path, warm_up=True):
        self.session = tf.compat.v1.Session(graph=tf.Graph())
        with self.session.graph.as_default():
            held = tf.compat.v1.saved_model.load(self.session, ["serve"], str(path)).signature_def
        self.signatures = {name: held[name] for name in held if held[name].inputs}
        self.calls = {name: self._call(signature) for name, signature in self.signatures.items()}
        if warm_up:
            for name, arrays in warm_up_requests(path):
                self.predict(name, arrays)

    def _call(self, signature):
        """Session.run less its comparison of shapes, which the C++ server does not make."""
        options = config_pb2.CallableOptions(
            feed=[signature.inputs[name].name for name in sorted(signature.inputs)],
            fetch=[signature.outputs[name].name for name in sorted(signature.outputs)],
        )
        return self.session._make_callable_from_options(options)

    def signature(self, name):
        if name not in self.signatures:
            raise Refused("FAILED_PRECONDITION", f'Serving signature key "{name}" not found.')
        return self.signatures[name]

    def predict(self, name, arrays):
        """{input: array} -> {output: array}."""
        signature = self.signature(name)
        if arrays.keys() != set(signature.inputs):
            takes = f"{name} takes {sorted(signature.inputs)}, not {sorted(arrays)}"
            raise Refused("INVALID_ARGUMENT", takes)
        for key, array in arrays.items():
            if array.dtype != tf.as_dtype(signature.inputs[key].dtype).as_numpy_dtype:
                raise Refused("INVALID_ARGUMENT", f"{key} is of type {array.dtype}")
        try:
            made = self.calls[name](*(arrays[key] for key in sorted(arrays)))
        except tf.errors.OpError as error:
            raise Refused(CODES[error.error_code], error.message) from None
        return dict(zip(sorted(signature.outputs), made))


class Models:
    """All versions of all models of a folder."""

    def __init__(self, root, warm_up=True):
        self.held = {
            name: {
                version: Model(Path(root) / name / str(version), warm_up) for version in versions
            }
            for name, versions in files.models(root).items()
        }

    def get(self, name, version=None):
        """(a version, by default the newest, and its Model)."""
        versions = self.held.get(name, {})
        version = version or max(versions, default=0)
        if version not in versions:
            raise Refused(
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
        except Refused as error:
            code, message = error.args
            context.abort(grpc.StatusCode[code], message)
        except (TypeError, ValueError) as error:  # a tensor that is none
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
    """REST; its server holds `models`."""

    def do_GET(self):
        self.answer({None: self.state, "/metadata": self.metadata})

    def do_POST(self):
        self.answer({":predict": self.predict})

    def log_message(self, *_):
        pass

    def answer(self, actions):
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            found = PATH.fullmatch(self.path)
            if not found or found[3] not in actions:
                raise Refused("NOT_FOUND", f"there is no {self.command} {self.path}")
            version, model = self.server.models.get(found[1], int(found[2] or 0))
            status, body = 200, actions[found[3]](version, model, data)
        except Refused as error:
            status, body = HTTP.get(error.args[0], 500), {"error": error.args[1]}
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            status, body = 400, {"error": f"not a request: {error}"}
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def state(self, version, *_):
        return {"model_version_status": [{"version": str(version), "state": "AVAILABLE"}]}

    def metadata(self, version, model, _):
        def tensors(held):
            return {k: {"dtype": types_pb2.DataType.Name(v.dtype)} for k, v in held.items()}

        held = {
            name: {"inputs": tensors(s.inputs), "outputs": tensors(s.outputs)}
            for name, s in model.signatures.items()
        }
        return {"metadata": {"signature_def": {"signature_def": held}}}

    def predict(self, version, model, data):
        """Rows ("instances") or columns ("inputs"); an only input or output needs no name."""
        body = json.loads(data)
        name = body.get("signature_name", "serving_default")
        signature = model.signature(name)
        rows = "instances" in body
        given = body["instances" if rows else "inputs"]
        if rows and isinstance(given[0], dict) and "b64" not in given[0]:
            given = {key: [row[key] for row in given] for key in given[0]}
        if not isinstance(given, dict):
            given = {only: given for only in signature.inputs}
        known = given.keys() & set(signature.inputs)
        arrays = {key: from_json(given[key], signature.inputs[key].dtype) for key in known}
        arrays |= {key: None for key in given.keys() - known}  # refused by name
        made = {key: to_json(key, array) for key, array in model.predict(name, arrays).items()}
        if len(made) == 1:
            (answer,) = made.values()
        elif rows:
            answer = [dict(zip(made, row)) for row in zip(*made.values())]
        else:
            answer = made
        return {"predictions" if rows else "outputs": answer}


def from_json(value, dtype):
    """An array of a DataType; what is of another type raises ValueError."""
    dtype = tf.as_dtype(dtype)
    if dtype == tf.string:
        return np.array([base64.b64decode(one["b64"], validate=True) for one in value], object)
    array = np.array(value)
    if array.dtype.kind not in ("iu" if dtype.is_integer else "iuf"):
        raise ValueError(f"{array.dtype} in place of {dtype.name}")
    return array.astype(dtype.as_numpy_dtype)


def to_json(name, array):
    if array.dtype != object:
        return array.tolist()
    binary = name.endswith("_bytes")
    return [{"b64": base64.b64encode(v).decode()} if binary else v.decode() for v in array]


class RestServer(ThreadingHTTPServer):
    daemon_threads, request_queue_size = True, 128


def main(arguments=None):
    """Serves until it is stopped; prints a line of JSON with the ports (0: any free one)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--rest", type=int, default=8501)
    parser.add_argument("--grpc", type=int, default=8500)
    parser.add_argument("--enable_model_warmup", choices=("true", "false"), default="true")
    given = parser.parse_args(arguments)
    tf.get_logger().setLevel("ERROR")  # Session is deprecated, and what the C++ server runs
    models = Models(given.folder, given.enable_model_warmup == "true")
    rest = RestServer(("127.0.0.1", given.rest), Handler)
    rest.models = models
    server, port = grpc_server(models, given.grpc)
    print(json.dumps({"rest": rest.server_port, "grpc": port}), flush=True)
    rest.serve_forever()


if __name__ == "__main__":
    main()

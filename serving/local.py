"""A stand-in for TensorFlow Serving in Python, for tests and first experiments.

It has the same paths, formats and error codes, and runs the same TensorFlow session. It does not
batch requests, and loads new versions only when it starts.

    python -m serving.local FOLDER [--rest=8501] [--grpc=8500]
"""

import argparse
import contextlib
import json
import os
import re
import socket
import sys
import tempfile
import urllib.parse
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's notes on devices are no errors

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import config_pb2

from . import files, messages, rest
from .rest import RequestError, invalid

PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?(/metadata|:predict)?")
HTTP = {"INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "OUT_OF_RANGE": 400, "NOT_FOUND": 404}
HTTP |= {"UNIMPLEMENTED": 405}
CODES = {code.value[0]: code.name for code in grpc.StatusCode}
WARM_UP = "assets.extra/tf_serving_warmup_requests"
THREADS = 32
BODY = 2**30  # limit in bytes for the body of a REST request


def warm_up_requests(path):
    """Yields (signature, {input: array}) of each warm-up request in a version's folder."""
    file = path / WARM_UP
    for record in tf.data.TFRecordDataset(str(file) if file.exists() else []).as_numpy_iterator():
        request = messages.PredictionLog.FromString(record).predict_log.request
        yield request.model_spec.signature_name, messages.read(request.inputs)


@contextlib.contextmanager
def plain_path(path):
    """The path, or a link to it without the characters that TensorFlow takes for a pattern."""
    if not set("[\\") & set(str(path)) or os.sep == "\\":
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / "model"
        link.symlink_to(Path(path).resolve())
        yield link


class Model:
    """A version of a model in a session, as in the C++ server. warm_up: answer its warm-up requests
    first."""

    def __init__(self, path, warm_up=True):
        self.session = tf.compat.v1.Session(graph=tf.Graph())
        with self.session.graph.as_default():
            with plain_path(path) as place:
                graph = tf.compat.v1.saved_model.load(self.session, ["serve"], str(place))
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
        """The SignatureDef of a name; "" for the default."""
        name = name or "serving_default"
        if name not in self.signatures:
            names = ", ".join(sorted(self.signatures))
            raise RequestError("FAILED_PRECONDITION", f"there is no signature {name!r}: {names}")
        return self.signatures[name]

    def predict(self, name, arrays):
        """{input: array} -> {output: array}."""
        signature, name = self.signature(name), name or "serving_default"
        if arrays.keys() != set(signature.inputs):
            takes, given = (", ".join(sorted(keys)) for keys in (signature.inputs, arrays))
            raise invalid(f"{name} takes {takes}, not {given or 'nothing'}")
        for key, array in arrays.items():
            if array.dtype != tf.as_dtype(signature.inputs[key].dtype).as_numpy_dtype:
                raise invalid(f"{key} cannot be of type {array.dtype}")
            if not is_finite(array):
                raise invalid(f"{key} must be finite numbers of {array.dtype}")
        try:
            outputs = self.calls[name](*(arrays[key] for key in sorted(arrays)))
        except tf.errors.OpError as error:
            raise RequestError(CODES[error.error_code], sentence(error.message, name)) from None
        outputs = dict(zip(sorted(signature.outputs), outputs))
        for key, array in outputs.items():  # of a SavedModel that does not check it itself
            if not is_finite(array):
                raise invalid(f"{key} of the answer is not finite: send smaller numbers")
        return outputs


def is_finite(array):
    """False if an array of floats holds a NaN or an infinite value."""
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def sentence(message, signature):
    """The first sentence of TensorFlow's message, without the names of the graph's nodes."""
    message = re.sub(r"\{\{[^}]*\}\}\s*", "", message.partition("[[")[0])
    message = re.sub(r"(?s).*(root error\(s\) found\.|Graph execution error:)", "", message)
    message = re.sub(r"^\s*(\(0\) )?([A-Z_]+: )?", "", message)
    message = re.sub(rf"_arg_{re.escape(signature)}_(\w+)_\d+_\d+", r"\1", message)
    if message.startswith("assertion failed: ["):
        message = message.partition("[")[2].rstrip().removesuffix("]").replace("] [", " ")
    return message.replace(" : Tensor had", ": it has").strip()


class Models:
    """All versions of all models in a folder. What is no version, or cannot be loaded, is skipped,
    with a line on stderr."""

    def __init__(self, root, warm_up=True):
        self.by_name = {}
        for path in files.skipped(root):
            skip(path, "not a version, a whole number from 1 with a saved_model.pb in it")
        for name, versions in files.models(root).items():
            for version in versions:
                path = Path(root) / name / str(version)
                try:
                    self.by_name.setdefault(name, {})[version] = Model(path, warm_up)
                except Exception as error:  # of all kinds, by what is damaged
                    skip(path, f"it cannot be loaded ({' '.join(str(error).split())[:200]})")
        self.by_name = {name: versions for name, versions in self.by_name.items() if versions}

    def get(self, name, version=None):
        """(version, Model); version: None or 0 for the newest."""
        versions = self.by_name.get(name)
        if not versions:
            names = ", ".join(self.by_name)
            raise RequestError("NOT_FOUND", f"there is no model {name!r}: there are {names}")
        version = version or max(versions)
        if version not in versions:
            numbers = ", ".join(map(str, versions))
            raise RequestError("NOT_FOUND", f"{name} has no version {version}: it has {numbers}")
        return version, versions[version]


def skip(path, why):
    print(f"{path} is skipped: {why}", file=sys.stderr, flush=True)


def grpc_server(models, port):
    """(a started server, its port)."""

    def predict(request, context):
        spec, response = request.model_spec, messages.PredictResponse()
        try:
            _, model = models.get(spec.name, spec.version.value)
            outputs = model.predict(spec.signature_name, messages.read(request.inputs))
            messages.write(response.outputs, outputs)
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
    options = [("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
    server = grpc.server(futures.ThreadPoolExecutor(THREADS), (handler,), options=options)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server, port


class Handler(BaseHTTPRequestHandler):
    """The REST interface; its server has the attribute `models`."""

    def do_GET(self):
        self.answer({None: self.state, "/metadata": self.metadata})

    def do_POST(self):
        self.answer({":predict": self.predict})

    def do_PUT(self):
        self.answer({})

    do_HEAD = do_GET
    do_DELETE = do_PATCH = do_OPTIONS = do_PUT

    def log_message(self, *_):
        pass

    def send_error(self, code, message=None, explain=None):
        """What is no HTTP, or has an unknown method, is answered in JSON too."""
        self.send(code, {"error": message or self.responses[code][0]})

    def answer(self, actions):
        try:
            data, match = self.body(), PATH.fullmatch(self.path)
            if not match:
                raise RequestError("NOT_FOUND", f"there is no {self.path}")
            if match[3] not in actions:
                right = "takes POST" if match[3] == ":predict" else "takes GET"
                raise RequestError("UNIMPLEMENTED", f"{self.path} {right}, not {self.command}")
            name = urllib.parse.unquote(match[1])
            version, model = self.server.models.get(name, int(match[2] or 0))
            status, body = 200, actions[match[3]](version, model, data)
        except RequestError as error:
            status, body = HTTP.get(error.args[0], 500), {"error": error.args[1]}
        except Exception as error:  # a defect, or no memory
            status, body = 500, {"error": f"the request fails: {type(error).__name__}: {error}"}
        self.send(status, body)

    def body(self):
        """The bytes of the request's body."""
        length = self.headers.get("Content-Length")
        if length is None:
            if self.command == "POST" or "Transfer-Encoding" in self.headers:
                raise invalid("the request needs a Content-Length: chunked bodies are not read")
            return b""
        if not (length.isascii() and length.isdecimal()) or int(length[:20]) > BODY:
            raise invalid(f"Content-Length takes a number of bytes up to {BODY}, not {length[:20]}")
        data = self.rfile.read(int(length))
        if len(data) < int(length):
            raise invalid(f"the body has {len(data)} bytes, but its Content-Length is {length}")
        return data

    def send(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
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
        """Takes rows ("instances") or columns ("inputs")."""
        name, body = rest.parse(data)
        dtypes = {key: tensor.dtype for key, tensor in model.signature(name).inputs.items()}
        outputs = model.predict(name, rest.arrays(body, dtypes))
        return rest.answer(outputs, "instances" in body)


class RestServer(ThreadingHTTPServer):
    daemon_threads, request_queue_size = True, 128


def port_number(text):
    """A port of the command line, as an integer; 0 is any free one."""
    if not (text.isascii() and text.isdecimal() and int(text) < 2**16):
        raise argparse.ArgumentTypeError(f"takes a whole number from 0 to 65535, not {text!r}")
    return int(text)


def port_problem(flag, port):
    """Why no server can take a port, as a sentence, or None."""
    with socket.socket() as probe:
        if os.name == "posix":  # as servers do: the port of a server that has just ended is free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return f"{flag}={port} cannot be used ({error.strerror}): give another port"


def folder_problem(folder):
    """Why there is nothing to serve in a folder, as a sentence, or None."""
    if not folder.is_dir():
        return f"{folder} is not a folder"
    whole = folder.resolve()
    if files.is_saved_model(folder):
        return (
            f"{folder} is one version of a model: give the folder of all models, {whole.parents[1]}"
        )
    if files.versions(folder):
        return f"{folder} is the folder of one model: give the folder of all models, {whole.parent}"
    if not files.models(folder):
        return f"{folder} has no models: it must hold NAME/VERSION/saved_model.pb, versions from 1"


def main(arguments=None):
    """Serves until it is stopped; prints the ports as one line of JSON (0: any free port)."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed: no file or connection must take its number
            setattr(sys, name, open(os.devnull, mode))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.error = lambda message: parser.exit(2, f"serving.local: {message}\n")
    parser.add_argument("folder")
    parser.add_argument("--rest", type=port_number, default=8501)
    parser.add_argument("--grpc", type=port_number, default=8500)
    parser.add_argument("--enable_model_warmup", choices=("true", "false"), default="true")
    given = parser.parse_args(arguments)
    folder = Path(os.path.expanduser(given.folder))
    if given.rest == given.grpc != 0:
        parser.error(f"--rest and --grpc are both {given.rest}: give two ports")
    tf.get_logger().setLevel("ERROR")  # Session is deprecated, but the C++ server runs it
    problem = port_problem("--rest", given.rest) or port_problem("--grpc", given.grpc)
    try:
        if problem := problem or folder_problem(folder):
            parser.error(problem)
        models = Models(folder, given.enable_model_warmup == "true")
    except OSError as error:
        parser.error(f"{error.filename or folder} cannot be read ({error.strerror})")
    if not models.by_name:
        parser.error(f"{folder} has no model that can be loaded: export it again")
    server = RestServer(("127.0.0.1", given.rest), Handler)
    server.models = models
    grpc_side, port = grpc_server(models, given.grpc)
    print(json.dumps({"rest": server.server_port, "grpc": port}), flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()


if __name__ == "__main__":
    main()

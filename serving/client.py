"""A client of TensorFlow Serving, by REST or gRPC, that takes and returns numpy arrays.

    with Client("localhost", grpc=8500) as client:
        images = client.predict("ragan", {"seed": [1, 2, 3]}, "generate")["image"]

It needs numpy, and grpcio and protobuf for gRPC; it needs neither TensorFlow nor Keras.
"""

import base64
import http.client
import json
import time
import urllib.parse

import numpy as np


class ServingError(RuntimeError):
    """The server answers with an error; the message is the server's."""


class NotFound(ServingError):
    """The server has no such model or version."""


class Invalid(ServingError):
    """The model does not accept the request: signature, names, types, shapes or pictures."""


class Unavailable(ServingError):
    """No server answers there, or it is not ready, after `retries` more attempts."""


class TimedOut(ServingError):
    """The server does not answer within `timeout`."""


STATUS = {400: Invalid, 404: NotFound, 412: Invalid, 503: Unavailable, 504: TimedOut}
CODES = {  # of gRPC
    "INVALID_ARGUMENT": Invalid,
    "FAILED_PRECONDITION": Invalid,  # no such signature
    "OUT_OF_RANGE": Invalid,
    "NOT_FOUND": NotFound,
    "UNAVAILABLE": Unavailable,
    "DEADLINE_EXCEEDED": TimedOut,
}
DTYPES = {"DT_FLOAT": "float32", "DT_INT64": "int64", "DT_INT32": "int32", "DT_STRING": object}


class Client:
    """Sends requests to one server.

    rest, grpc: ports; gRPC is used if its port is given. timeout: seconds to wait for an answer.
    retries: how often a request is sent again while the server is unavailable; the pause doubles
    each time.
    """

    def __init__(self, host="localhost", rest=8501, grpc=None, timeout=30.0, retries=3):
        self.host, self.port = host, rest
        self.timeout, self.retries = timeout, retries
        self.signatures, self.channel = {}, None
        self._predict = self._predict_rest
        if grpc:
            self._predict = self._predict_grpc
            self._connect(f"{host}:{grpc}")

    def predict(self, model, inputs, signature="serving_default", version=None):
        """{name: array} -> {name: array}; the first axis of each array is the batch.

        Floats are sent as float32, integers as int64. Bytes are passed in lists and returned in
        arrays of type object. version: an integer, or None for the newest. What goes wrong is a
        ServingError: NotFound, Invalid, Unavailable or TimedOut.
        """
        arrays = {name: _array(name, value) for name, value in inputs.items()}
        for attempt in range(self.retries + 1):
            try:
                return self._predict(model, arrays, signature, version)
            except Unavailable:
                if attempt == self.retries:
                    raise
                time.sleep(0.1 * 2**attempt)

    def close(self):
        if self.channel:
            self.channel.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _connect(self, address):
        import grpc

        from . import messages

        options = {"grpc.max_send_message_length": -1, "grpc.max_receive_message_length": -1}
        options |= {"grpc.initial_reconnect_backoff_ms": 100, "grpc.max_reconnect_backoff_ms": 1000}
        self.channel = grpc.insecure_channel(address, list(options.items()))
        self.call = self.channel.unary_unary(
            f"/{messages.SERVICE}/Predict",
            request_serializer=messages.PredictRequest.SerializeToString,
            response_deserializer=messages.PredictResponse.FromString,
        )

    def _predict_grpc(self, model, arrays, signature, version):
        import grpc

        from . import messages

        request = messages.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = model, signature
        if version is not None:
            request.model_spec.version.value = version
        messages.write(request.inputs, arrays)
        try:
            return messages.read(self.call(request, timeout=self.timeout).outputs)
        except grpc.RpcError as error:
            kind = CODES.get(error.code().name, ServingError)
            raise kind(f"{model}: {error.details()}") from None

    def _predict_rest(self, model, arrays, signature, version):
        address = "/v1/models/" + urllib.parse.quote(model, "")
        address += "" if version is None else f"/versions/{version}"
        if address not in self.signatures:  # the answer does not name a single output
            metadata = self._send("GET", f"{address}/metadata")["metadata"]
            self.signatures[address] = metadata["signature_def"]["signature_def"]
        signatures = self.signatures[address]
        if signature not in signatures:
            raise Invalid(f"{model} has no {signature}: it has {', '.join(signatures)}")
        columns = {name: _json(array) for name, array in arrays.items()}
        body = {"signature_name": signature, "inputs": columns}
        answer, outputs = self._send("POST", f"{address}:predict", body)["outputs"], {}
        specs = signatures[signature]["outputs"]
        for name, spec in specs.items():
            value = answer if len(specs) == 1 else answer[name]
            if spec["dtype"] == "DT_STRING":
                value = [base64.b64decode(element["b64"]) for element in value]
            outputs[name] = np.array(value, DTYPES[spec["dtype"]])
        return outputs

    def _send(self, method, path, body=None):
        """The JSON of the server's answer."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=self.timeout)
        try:
            connection.request(method, path, body and json.dumps(body))
            answer = connection.getresponse()
            text = answer.read()
        except TimeoutError:
            raise TimedOut(f"{self.host}:{self.port}: no answer in {self.timeout} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"{self.host}:{self.port}: {error}") from None
        finally:
            connection.close()
        if answer.status == 200:
            return json.loads(text)
        try:
            text = json.loads(text)["error"]
        except (ValueError, KeyError, TypeError):
            text = text[:200].decode(errors="replace")
        raise STATUS.get(answer.status, ServingError)(text)


def _array(name, value):
    if isinstance(value, bytes | str):
        raise Invalid(f"{name} is a batch: put the bytes into a list")
    try:
        array = np.asarray(value)
    except ValueError:
        raise Invalid(f"{name} is ragged: its rows must have the same lengths") from None
    if array.dtype.kind in "SO" and all(isinstance(element, bytes) for element in value):
        return np.array(value, object)  # type S drops trailing zero bytes
    if array.dtype in (np.uint64, object):
        whole = [v for v in array.ravel().tolist() if isinstance(v, int)]
        if not all(-(2**63) <= v < 2**63 for v in whole):
            raise Invalid(f"{name} takes whole numbers of int64, from -2^63 to 2^63 - 1")
    kinds = {"f": "float32", "i": "int64", "u": "int64"}
    if array.dtype.kind not in kinds:
        kind = "text" if array.dtype.kind == "U" else array.dtype
        raise Invalid(f"{name} must be numbers or bytes, not {kind}")
    with np.errstate(over="ignore"):  # the server refuses what is infinite
        return array.astype(kinds[array.dtype.kind])


def _json(array):
    if array.dtype == object:
        return [{"b64": base64.b64encode(element).decode()} for element in array]
    return array.tolist()

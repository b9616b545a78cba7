"""A client of TensorFlow Serving, by REST or gRPC, that takes and gives numpy arrays.

    with Client("localhost", grpc=8500) as client:
        images = client.predict("ragan", {"seed": [1, 2, 3]}, "generate")["image"]

It needs numpy, and for gRPC grpcio and protobuf: no TensorFlow, no Keras.
"""

import base64
import http.client
import json
import time

import numpy as np


class ServingError(RuntimeError):
    """An answer that is no result; the message is the server's."""


class NotFound(ServingError):
    """There is no such model or version."""


class Invalid(ServingError):
    """The request is not what the model takes: signature, names, types, shapes or pictures."""


class Unavailable(ServingError):
    """No server there, or none that is ready: asked again `retries` times before this is raised."""


class TimedOut(ServingError):
    """No answer within `timeout`."""


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
    """host; rest, grpc: ports, of which gRPC's is used where it is given; timeout: seconds without
    an answer; retries: how often one asks again, each time later, while no server is there."""

    def __init__(self, host="localhost", rest=8501, grpc=None, timeout=30.0, retries=3):
        self.host, self.port = host, rest
        self.timeout, self.retries = timeout, retries
        self.known, self.channel = {}, None
        self._ask = self._ask_rest
        if grpc:
            self._ask = self._ask_grpc
            self._connect(f"{host}:{grpc}")

    def predict(self, model, inputs, signature="serving_default", version=None):
        """{name: array} -> {name: array}, the first axis of each a batch.

        Numbers with a fraction are sent as float32, whole ones as int64; bytes come in lists and
        leave in arrays of type object. version: a whole number, or None for the newest.
        """
        arrays = {name: _array(name, value) for name, value in inputs.items()}
        for attempt in range(self.retries + 1):
            try:
                return self._ask(model, arrays, signature, version)
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

    def _ask_grpc(self, model, arrays, signature, version):
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

    def _ask_rest(self, model, arrays, signature, version):
        address = f"/v1/models/{model}" + ("" if version is None else f"/versions/{version}")
        if address not in self.known:  # an only output has no name in the answer
            held = self._send("GET", f"{address}/metadata")["metadata"]["signature_def"]
            self.known[address] = held["signature_def"]
        if signature not in self.known[address]:
            raise Invalid(f"{model} has no {signature}: it has {', '.join(self.known[address])}")
        columns = {name: _json(array) for name, array in arrays.items()}
        body = {"signature_name": signature, "inputs": columns}
        made, outputs = self._send("POST", f"{address}:predict", body)["outputs"], {}
        types = self.known[address][signature]["outputs"]
        for name, about in types.items():
            value = made if len(types) == 1 else made[name]
            if about["dtype"] == "DT_STRING":
                value = [base64.b64decode(one["b64"]) for one in value]
            outputs[name] = np.array(value, DTYPES[about["dtype"]])
        return outputs

    def _send(self, method, path, body=None):
        """The JSON that a server answers."""
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
        raise Invalid(f"{name} takes a batch: put the bytes into a list")
    array = np.asarray(value)
    if array.dtype.kind in "SO" and all(isinstance(one, bytes) for one in value):
        return np.array(value, object)  # type S would drop zeros at the end
    kinds = {"f": "float32", "i": "int64", "u": "int64"}
    if array.dtype.kind not in kinds:
        raise Invalid(f"{name} is of type {array.dtype}: takes numbers and bytes")
    return array.astype(kinds[array.dtype.kind])


def _json(array):
    if array.dtype == object:
        return [{"b64": base64.b64encode(one).decode()} for one in array]
    return array.tolist()

"""The messages of TensorFlow Serving's gRPC protocol that a client needs, and their numpy arrays.

The field numbers are those of tensorflow_serving/apis/{model,predict,prediction_log}.proto and of
tensorflow/core/framework/tensor.proto, so that a client needs only grpcio, protobuf and numpy. Maps
are declared as repeated pairs and enums as integers, which is how they are encoded on the wire.
"""

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "tensorflow.serving.PredictionService"
MESSAGES = {  # message: {field: (number, type)}; a star marks a repeated field
    "Dim": {"size": (1, "int64")},
    "Shape": {"dim": (2, "Dim*")},
    "Tensor": {
        "dtype": (1, "int32"),
        "tensor_shape": (2, "Shape"),
        "tensor_content": (4, "bytes"),
        "float_val": (5, "float*"),
        "double_val": (6, "double*"),
        "int_val": (7, "int32*"),
        "string_val": (8, "bytes*"),
        "int64_val": (10, "int64*"),
        "bool_val": (11, "bool*"),
    },
    "Pair": {"key": (1, "string"), "value": (2, "Tensor")},
    "Version": {"value": (1, "int64")},
    "ModelSpec": {
        "name": (1, "string"),
        "version": (2, "Version"),
        "signature_name": (3, "string"),
    },
    "PredictRequest": {"model_spec": (1, "ModelSpec"), "inputs": (2, "Pair*")},
    "PredictResponse": {"outputs": (1, "Pair*"), "model_spec": (2, "ModelSpec")},
    "PredictLog": {"request": (1, "PredictRequest")},
    "PredictionLog": {"predict_log": (6, "PredictLog")},
}
TYPES = {  # numpy dtype: (DataType, field for its values)
    "float32": (1, "float_val"),
    "float64": (2, "double_val"),
    "int32": (3, "int_val"),
    "uint8": (4, "int_val"),
    "object": (7, "string_val"),
    "int64": (9, "int64_val"),
    "bool": (10, "bool_val"),
}
NAMES = {number: name for name, (number, _) in TYPES.items()}


def _classes():
    """{name: message class} of MESSAGES, in their own descriptor pool."""
    file = descriptor_pb2.FileDescriptorProto(name="zoo.proto", package="zoo", syntax="proto3")
    field_type = descriptor_pb2.FieldDescriptorProto
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            kind, star = kind.rstrip("*"), kind.endswith("*")
            label = field_type.LABEL_REPEATED if star else field_type.LABEL_OPTIONAL
            added = message.field.add(name=field, number=number, label=label)
            if kind in MESSAGES:
                added.type, added.type_name = field_type.TYPE_MESSAGE, f".zoo.{kind}"
            else:
                added.type = getattr(field_type, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    descriptors = (pool.FindMessageTypeByName(f"zoo.{name}") for name in MESSAGES)
    return {d.name: message_factory.GetMessageClass(d) for d in descriptors}


CLASSES = _classes()
PredictRequest, PredictResponse = CLASSES["PredictRequest"], CLASSES["PredictResponse"]
PredictionLog = CLASSES["PredictionLog"]


def write(pairs, arrays):
    """Adds {name: array} to the pairs of a request or response. Arrays of bytes have type object;
    a type that is not in TYPES raises TypeError."""
    for name, array in arrays.items():
        array = np.asarray(array)
        if array.dtype.name not in TYPES:
            raise TypeError(f"{name} must be of type {', '.join(TYPES)}, not {array.dtype}")
        tensor = pairs.add(key=name).value
        tensor.dtype, field = TYPES[array.dtype.name]
        for side in array.shape:
            tensor.tensor_shape.dim.add(size=side)
        if field == "string_val":
            tensor.string_val.extend(array.ravel().tolist())
        elif array.size and not any(array.strides):  # a broadcast value is written once
            getattr(tensor, field).append(array.ravel()[0].item())
        else:
            tensor.tensor_content = array.astype(array.dtype.newbyteorder("<")).tobytes()


def read(pairs):
    """{name: array} of the pairs of a request or response; bytes become arrays of type object."""
    return {pair.key: _array(pair.value) for pair in pairs}


def _array(tensor):
    if tensor.dtype not in NAMES:
        raise TypeError(f"a tensor of DataType {tensor.dtype} cannot be read")
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    name = NAMES[tensor.dtype]
    if tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, np.dtype(name).newbyteorder("<")).reshape(shape)
    values = np.array(list(getattr(tensor, TYPES[name][1])), name)
    missing = int(np.prod(shape)) - len(values)  # omitted values repeat the last one
    if missing > 0:
        values = np.concatenate([values, np.repeat(values[-1:] if len(values) else [0], missing)])
    return values.astype(name).reshape(shape)

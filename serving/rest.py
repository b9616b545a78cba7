"""The bodies of REST requests and answers: JSON to arrays, and back."""

import base64
import json
import re

import numpy as np
import tensorflow as tf

EMPTY = "{} is empty: send at least one value"
KEYS = {"signature_name", "instances", "inputs"}
TAKES = "it takes 'instances' (rows) or 'inputs' (columns), and 'signature_name'"
KINDS = {dict: "an object", list: "a list", str: "a string", type(None): "null"}
KINDS |= {bool: "true or false", int: "a whole number", float: "a decimal number"}


class RequestError(Exception):
    """A request is answered with an error: the name of the gRPC code, and a message."""


def invalid(message):
    """The RequestError of a request that is not valid."""
    return RequestError("INVALID_ARGUMENT", message)


def parse(data):
    """(name of the signature or "", {"instances": rows} or {"inputs": columns}) of a body, bytes.

    Anything but a JSON object with these keys raises RequestError.
    """

    def refuse(constant):
        raise invalid(f"the body holds {constant}: numbers must be finite")

    if not data:
        raise invalid(f"the body is empty: {TAKES}")
    try:
        body = json.loads(data, parse_constant=refuse)
    except RecursionError:
        raise invalid("the body is not JSON: its lists are nested too deeply") from None
    except ValueError as error:
        raise invalid(f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise invalid(f"the body must be a JSON object, not {KINDS[type(body)]}: {TAKES}")
    if unknown := sorted(body.keys() - KEYS):
        raise invalid(f"the body has the unknown key {unknown[0]!r}: {TAKES}")
    name = body.pop("signature_name", "")
    if not isinstance(name, str):
        raise invalid(f"signature_name must be a string, not {KINDS[type(name)]}")
    if len(body) != 1:
        raise invalid("the body must have either 'instances' (rows) or 'inputs' (columns)")
    return name, body


def arrays(body, dtypes):
    """{input: array} of the body that `parse` returns. dtypes: {input: DataType} of the signature.

    Values of another form or type raise RequestError. An only input needs no name.
    """
    names = sorted(dtypes)
    if "instances" in body:
        columns = _of_rows(body["instances"], names)
    else:
        columns = body["inputs"]
        if not isinstance(columns, dict) or columns.keys() == {"b64"}:
            columns = {names[0]: columns} if len(names) == 1 else {}
        _check_keys("inputs", columns, names)
    return {name: _array(name, columns[name], tf.as_dtype(dtypes[name])) for name in names}


def _of_rows(rows, names):
    """{input: list} of a list of rows, {input: value} each, or of an only input the value alone."""
    if not isinstance(rows, list):
        raise invalid(f"instances must be a list of rows, not {KINDS[type(rows)]}")
    if not rows:
        raise invalid(EMPTY.format("instances"))
    named = [isinstance(row, dict) and row.keys() != {"b64"} for row in rows]
    if len(names) == 1 and not any(named):
        return {names[0]: rows}
    for i, row in enumerate(rows):
        _check_keys(f"instances[{i}]", row if named[i] else {}, names)
    return {name: [row[name] for row in rows] for name in names}


def _check_keys(place, value, names):
    if value.keys() != set(names):
        keys = f", not {', '.join(sorted(value))}" if value else ""
        raise invalid(f"{place} must be an object with the keys {', '.join(names)}{keys}")


def _array(name, values, dtype):
    if not isinstance(values, list):
        raise invalid(f"{name} must be a list with a value for each row, not {KINDS[type(values)]}")
    if not values:
        raise invalid(EMPTY.format(name))
    if dtype == tf.string:
        return np.array([_bytes(f"{name}[{i}]", v) for i, v in enumerate(values)], object)
    if dtype.is_integer:
        return _integers(name, values, dtype)
    try:
        array = np.array(values)
    except ValueError:
        raise invalid(f"{name} is ragged: its rows must have the same lengths") from None
    if array.dtype.kind in "iuf":
        with np.errstate(over="ignore"):  # the model refuses what is infinite
            return array.astype(dtype.as_numpy_dtype)
    leaves = np.array(values, object).ravel()
    wrong = next((v for v in leaves if type(v) not in (int, float)), None)
    if wrong is None and not any(v is None for v in leaves):  # whole numbers above 2^64
        raise invalid(f"{name} holds numbers that are too large for {dtype.name}")
    raise invalid(f"{name} takes numbers, not {KINDS[type(wrong)]}")


def _integers(name, values, dtype):
    """An array (B,) of whole numbers."""
    for value in values:
        if type(value) is not int:
            raise invalid(f"{name} takes whole numbers, not {KINDS[type(value)]}")
        if not dtype.min <= value <= dtype.max:
            span = f"from {dtype.min} to {dtype.max}"
            raise invalid(f"{name} takes whole numbers of {dtype.name}, {span}")
    return np.array(values, dtype.as_numpy_dtype)


def _bytes(place, value):
    """The bytes of {"b64": text}."""
    if not isinstance(value, dict) or value.keys() != {"b64"}:
        raise invalid(f'{place} must be {{"b64": TEXT}}, the bytes in base64')
    text = value["b64"]
    if not isinstance(text, str):
        raise invalid(f"{place}: b64 must be a string, not {KINDS[type(text)]}")
    if text[:5].lower() == "data:":
        raise invalid(f"{place}: b64 starts with 'data:': send only what follows 'base64,'")
    if other := re.search("[^A-Za-z0-9+/=]", text):
        why = f"{other[0]!r}, which is no character of base64"
        if other[0].isspace():
            why = "white space: leave out spaces and line breaks"
        elif other[0] in "-_":
            why = f"{other[0]!r} of the URL-safe alphabet: write + for - and / for _"
        raise invalid(f"{place}: b64 holds {why}")
    if len(text) % 4:
        why = "it is cut short, or lacks = at its end"
        raise invalid(f"{place}: b64 has {len(text)} characters, no multiple of 4: {why}")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise invalid(f"{place}: b64 is not base64: = stands only at its end") from None


def answer(outputs, rows):
    """The JSON of an answer, {output: array}; an only output has no name. rows: as rows."""
    columns = {name: _values(name, array) for name, array in outputs.items()}
    if len(columns) == 1:
        (value,) = columns.values()
    elif rows:
        value = [dict(zip(columns, row)) for row in zip(*columns.values())]
    else:
        value = columns
    return {"predictions" if rows else "outputs": value}


def _values(name, array):
    if array.dtype != object:
        return array.tolist()
    binary = name.endswith("_bytes")
    return [{"b64": base64.b64encode(v).decode()} if binary else v.decode() for v in array]

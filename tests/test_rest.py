"""Bodies of REST requests are checked before they are used, and `serving.local` says what it cannot
serve."""

import json
import socket
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from attention_zoo.serving import client, export, files, local, rest, signatures

DTYPES = {
    "image": {"image": tf.float32.as_datatype_enum},
    "seed": {"seed": tf.int64.as_datatype_enum},
    "bytes": {"image_bytes": tf.string.as_datatype_enum},
    "both": {"seed": tf.int64.as_datatype_enum, "label": tf.int64.as_datatype_enum},
}


def arrays(signature, body):
    """The arrays of a body, an object or bytes, for a signature of DTYPES."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return rest.arrays(rest.parse(data)[1], DTYPES[signature])


def encoded(text):
    return {"instances": [{"b64": "AAAA"}, {"b64": text}]}


@pytest.mark.parametrize(
    ("signature", "body", "message"),
    [
        ("seed", b"", "the body is empty"),
        ("seed", b"{", "the body is not JSON"),
        ("seed", b"\xff", "the body is not JSON"),
        ("seed", b"[" * 100000, "nested too deeply"),
        ("seed", [1], "must be a JSON object, not a list"),
        ("seed", None, "must be a JSON object, not null"),
        ("seed", {}, "either 'instances' (rows) or 'inputs'"),
        ("seed", {"inputs": [1], "instances": [1]}, "either 'instances' (rows) or 'inputs'"),
        ("seed", {"instance": [1]}, "unknown key 'instance'"),
        ("seed", {"signature_name": ["generate"], "inputs": [1]}, "must be a string, not a list"),
        ("seed", {"instances": {"seed": [1]}}, "must be a list of rows, not an object"),
        ("seed", {"instances": "1"}, "must be a list of rows, not a string"),
        ("seed", {"instances": 1}, "must be a list of rows, not a whole number"),
        ("seed", {"instances": []}, "instances is empty: send at least one value"),
        ("seed", {"instances": [{"seed": 1}, {"sead": 1}]}, "instances[1] must be an object with"),
        ("seed", {"instances": [{"seed": 1}, 2]}, "instances[1] must be an object with"),
        ("seed", {"instances": [1, {"seed": 1}]}, "instances[0] must be an object with"),
        ("seed", {"instances": [{"seed": 1, "z": 1}]}, "the keys seed, not seed, z"),
        ("both", {"instances": [1]}, "instances[0] must be an object with the keys label, seed"),
        ("both", {"inputs": [1]}, "inputs must be an object with the keys label, seed"),
        ("both", {"inputs": {"seed": [1]}}, "the keys label, seed, not seed"),
        ("seed", {"inputs": 1}, "seed must be a list with a value for each row"),
        ("seed", {"inputs": {"seed": []}}, "seed is empty: send at least one value"),
        ("seed", {"inputs": [2**63]}, "from -9223372036854775808 to 9223372036854775807"),
        ("seed", {"inputs": [-(2**63) - 1]}, "whole numbers of int64"),
        ("seed", {"inputs": [10**400]}, "whole numbers of int64"),
        ("seed", {"inputs": [1.0]}, "takes whole numbers, not a decimal number"),
        ("seed", {"inputs": [True]}, "takes whole numbers, not true or false"),
        ("seed", {"inputs": [[1]]}, "takes whole numbers, not a list"),
        ("image", b'{"inputs": [[NaN]]}', "the body holds NaN: numbers must be finite"),
        ("image", b'{"inputs": [[-Infinity]]}', "the body holds -Infinity"),
        ("image", {"inputs": [[1, 2], [3]]}, "image is ragged"),
        ("image", {"inputs": [[1, None]]}, "takes numbers, not null"),
        ("image", {"inputs": [["1"]]}, "takes numbers, not a string"),
        ("image", {"inputs": [[True]]}, "takes numbers, not true or false"),
        ("image", {"inputs": [[10**39]]}, "too large for float32"),
        ("bytes", {"instances": ["AAAA"]}, 'image_bytes[0] must be {"b64": TEXT}'),
        ("bytes", {"instances": [{"b64": "AAAA", "x": 1}]}, "the keys image_bytes, not b64, x"),
        ("bytes", encoded(3), "image_bytes[1]: b64 must be a string, not a whole number"),
        ("bytes", encoded("data:image/png;base64,AAAA"), "send only what follows 'base64,'"),
        ("bytes", encoded("AA\nAA"), "leave out spaces and line breaks"),
        ("bytes", encoded("A-_A"), "write + for - and / for _"),
        ("bytes", encoded("A!AA"), "'!', which is no character of base64"),
        ("bytes", encoded("AAA"), "3 characters, no multiple of 4: it is cut short, or lacks ="),
        ("bytes", encoded("A=AA"), "= stands only at its end"),
    ],
)
def test_a_wrong_body_is_answered_in_one_sentence(signature, body, message):
    with pytest.raises(rest.RequestError) as caught:
        arrays(signature, body)
    code, text = caught.value.args
    assert code == "INVALID_ARGUMENT" and message in text and "\n" not in text


@pytest.mark.parametrize(
    ("signature", "body", "expected"),
    [
        ("seed", {"instances": [-(2**63), 2**63 - 1]}, {"seed": [-(2**63), 2**63 - 1]}),
        ("seed", {"instances": [{"seed": 3}]}, {"seed": [3]}),
        ("both", {"inputs": {"seed": [1], "label": [2]}}, {"seed": [1], "label": [2]}),
        ("image", {"inputs": {"image": [[1, 0.5]]}}, {"image": [[1, 0.5]]}),
        ("bytes", {"instances": [{"image_bytes": {"b64": "AP8="}}]}, {"image_bytes": [b"\0\xff"]}),
        ("bytes", {"inputs": [{"b64": "AP8="}]}, {"image_bytes": [b"\0\xff"]}),
    ],
)
def test_a_right_body_becomes_arrays(signature, body, expected):
    made = arrays(signature, body)
    assert {name: array.tolist() for name, array in made.items()} == expected


def test_the_client_keeps_seeds_in_int64():
    for seeds in ([2**63], [2**64], [-(2**63) - 1], np.array([2**63], np.uint64)):
        with pytest.raises(client.Invalid, match="whole numbers of int64"):
            client._array("seed", seeds)
    assert client._array("seed", np.array([7], np.uint64)).tolist() == [7]
    with pytest.raises(client.Invalid, match="seed must be numbers or bytes, not text"):
        client._array("seed", ["one"])
    with pytest.raises(client.Invalid, match="ragged"):
        client._array("image", [[1, 2], [3]])


SPECS = [tf.TensorSpec((None, 2), tf.float32, "z"), signatures.SEED]
NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("z", "seed", "message"),
    [
        (np.zeros((0, 2)), [], "z is empty: send at least one value"),
        (np.zeros((1, 2)), [1, 2], "z and seed differ in length"),
        ([[0, NAN]], [1], "z must be finite numbers"),
        ([[0, -INFINITE]], [1], "z must be finite numbers"),
        ([[3e38, 3e38]], [1], "x of the answer is not finite: send smaller numbers"),
    ],
)
def test_the_exported_function_refuses_by_itself(z, seed, message, monkeypatch):
    def role(*_):
        return {"double": (lambda z, seed: {"x": 2 * z, "seed": seed}, SPECS)}

    monkeypatch.setitem(signatures.ROLES, "toy", role)
    function, specs = signatures.build({}, "toy", 32, 0.5)["double"]
    run = tf.function(function, specs, autograph=False)
    assert run(tf.ones((1, 2)), tf.constant([5], tf.int64))["x"].numpy().tolist() == [[2, 2]]
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        run(tf.constant(z, tf.float32), tf.constant(seed, tf.int64))


@pytest.mark.parametrize("label", [-1, 2**31, 2**32])
def test_a_label_is_no_other_class_by_its_sign_or_its_last_bits(label):
    assert signatures.class_index(tf.constant([2], tf.int64)).numpy().tolist() == [2]
    with pytest.raises(tf.errors.InvalidArgumentError, match="label takes classes from 0"):
        signatures.class_index(tf.constant([label], tf.int64))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "Graph execution error:\n\nassertion failed: [at most] [3]\n\t [[{{node A}}]]",
            "at most 3",
        ),
        ("2 root error(s) found.\n  (0) INVALID_ARGUMENT: no\n\t [[{{node A}}]]\n  (1) x", "no"),
        ("tensor _arg_f_z_0_0 [1] is [2].\n\t [[{{node B}}]]", "tensor z [1] is [2]."),
        ("z is wrong : Tensor had NaN values\n\t [[{{node C}}]]", "z is wrong: it has NaN values"),
    ],
)
def test_a_sentence_of_tensorflow_without_its_nodes(message, expected):
    assert local.sentence(message, "f") == expected


def saved(path):
    """Writes a SavedModel x -> 1 / x, without a check of its own, at a path."""
    module = tf.Module()
    module.one = tf.Variable(1.0)
    call = tf.function(lambda x: {"y": module.one / x}, [tf.TensorSpec((None,), name="x")])
    tf.saved_model.save(module, str(path), {"serving_default": call.get_concrete_function()})
    return path


def test_a_saved_model_without_checks_sends_no_infinite_number(tmp_path):
    model = local.Model(saved(tmp_path / "1"))
    assert model.predict("", {"x": np.float32([2])})["y"].tolist() == [0.5]
    for value, message in ((0, "y of the answer is not finite"), (NAN, "x must be finite")):
        with pytest.raises(rest.RequestError, match=message):
            model.predict("", {"x": np.float32([1, value])})


def stopped(capsys, *arguments):
    """The line with which the stand-in ends; its exit code must be 2."""
    with pytest.raises(SystemExit) as end:
        local.main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert end.value.code == 2 and out == ""
    return err


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("empty", "has no models"),
        ("exported/toy/1", "is one version of a model: give the folder of all models, "),
        ("exported/toy", "is the folder of one model: give the folder of all models, "),
        ("nowhere", "is not a folder"),
        ("~nobody/exported", "is not a folder"),
        ("wrong", "has no models"),
    ],
)
def test_a_folder_with_nothing_to_serve_is_one_line(folder, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("empty", "exported/toy/1", "wrong/toy/v2"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "exported/toy/1/saved_model.pb").touch()
    error = stopped(capsys, folder, "--rest=0", "--grpc=0")
    assert message in error and error.count("\n") == 1
    if "give" in message:
        assert error.endswith(f"{tmp_path / 'exported'}\n")


def test_ports_that_cannot_be_used_are_one_line(tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for flag, other in (("--rest", "--grpc"), ("--grpc", "--rest")):
            error = stopped(capsys, tmp_path, f"{flag}={port}", f"{other}=0")
            assert f"{flag}={port} cannot be used" in error and error.count("\n") == 1
    assert "give two ports" in stopped(capsys, tmp_path, "--rest=8600", "--grpc=8600")
    assert "from 0 to 65535, not '65536'" in stopped(capsys, tmp_path, "--rest=65536")


def test_what_is_no_version_is_skipped_with_a_line(tmp_path, capsys):
    saved(tmp_path / "toy/2")
    for name in ("007", "0", "v2", "5"):
        (tmp_path / "toy" / name).mkdir()
        (tmp_path / "toy" / name / "saved_model.pb").write_bytes(b"damaged")
    (tmp_path / "toy/9").mkdir()
    (tmp_path / "toy/notes.txt").touch()
    models = local.Models(tmp_path)
    assert {name: list(versions) for name, versions in models.by_name.items()} == {"toy": [2]}
    lines = capsys.readouterr().err.splitlines()
    names = [line.partition(" is skipped: ")[0].rpartition("/")[2] for line in lines]
    assert names == ["0", "007", "9", "v2", "5"]
    assert "cannot be loaded" in lines[-1]
    assert files.versions(tmp_path / "toy") == [2, 5]


def test_an_export_takes_a_number_that_nothing_has(tmp_path):
    for name in ("1", "9"):
        (tmp_path / "toy" / name / "x").mkdir(parents=True)
    (tmp_path / "new").mkdir()
    assert export._place(tmp_path / "new", tmp_path / "toy").name == "10"


@pytest.mark.skipif(sys.platform == "win32", reason="these are no names of files there")
@pytest.mark.parametrize("name", ["a[1]", "a\\b"])
def test_a_path_with_characters_of_a_pattern_is_loaded(name, tmp_path):
    model = local.Model(saved(tmp_path / name / "1"))
    assert model.predict("", {"x": np.float32([4])})["y"].tolist() == [0.25]
    folder = tmp_path / name / "0"
    saved(folder / "model")
    np.savez(folder / "requests.npz", **{"serving_default/x": np.float32([4])})
    export._load([folder])
    with np.load(folder / "answers.npz") as answers:
        assert answers["serving_default/y"].tolist() == [0.25]


def test_a_model_may_have_any_name():
    def get(name, version):
        raise rest.RequestError("NOT_FOUND", f"there is no model {name!r} here")

    with local.RestServer(("127.0.0.1", 0), local.Handler) as server:
        server.models = SimpleNamespace(get=get)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(client.NotFound, match="there is no model 'my/modél 1' here"):
            client.Client("127.0.0.1", rest=server.server_port).predict("my/modél 1", {"z": [1]})
        server.shutdown()

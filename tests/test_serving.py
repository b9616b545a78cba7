"""Exported networks answer as Keras' do, by REST and by gRPC, and what is malformed is refused and
harms nobody. The server is serving.local, a stand-in for TensorFlow Serving over its session and
protocol; the protocol is checked with the official messages and stubs, where they are installed."""

import base64
import http.client
import io
import json
import socket
import subprocess
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import grpc
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from PIL import Image
from tensorflow.core.protobuf import saved_model_pb2

from attention_zoo import zoo
from attention_zoo.cli import main
from attention_zoo.common.errors import UsageError
from attention_zoo.experiments import exporting
from attention_zoo.serving import client as clients
from attention_zoo.serving import export, files, loaded, messages, signatures
from attention_zoo.tasks import generation, guided
from attention_zoo.tasks.base import Origin
from attention_zoo.zoo.layers import cam, self_attention

ROOT = Path(__file__).parents[1]
GRAY = np.full((1, 32, 32, 3), 0.5, "float32")


def toy(channels, name, outputs, side=None):
    """A network of one convolution: image (B, H, W, 3) -> outputs(what it gives)."""
    image = keras.Input((side, side, 3), name="image")
    x = keras.layers.Conv2D(channels, 3, padding="same", activation="tanh", name="conv")(image)
    return keras.Model(image, outputs(x), name=name)


@pytest.fixture(scope="module")
def networks():
    """{name: {key: keras.Model}}, small and not trained."""
    keras.utils.set_random_seed(3)
    made = {
        "ragan": zoo.create("ragan", image_size=32, width=4, encoder_width=4),
        "ata_gan": zoo.create("ata_gan", image_size=32, width=4),
        "sagan": zoo.create("sagan", image_size=32, width=4, conditional=True, classes=3),
        "resnet9": zoo.create("resnet9", image_size=32, width=4, classes=5),
        "gain": zoo.create("gain", image_size=32, backbone="resnet9", width=4, classes=2),
        "translator": {
            "a2b": toy(7, "a2b", lambda x: {"translated": x[..., :3], "masks": x[..., 3:]}),
            "b2a": toy(3, "b2a", lambda x: {"translated": x}),
        },
        "segmenter": {"segmenter": toy(4, "segmenter", lambda x: x)},
        "segmenter 2": {"segmenter": toy(2, "segmenter", lambda x: x)},
    }
    rng = np.random.default_rng(0)
    for parts in made.values():
        for variable in [v for n in parts.values() for v in n.variables]:
            if variable.path.endswith(("gamma", "lambda", "/bank", "embeddings")):
                variable.assign(rng.uniform(0.5, 1, variable.shape))  # not what they start at
            elif variable.name == "kernel" and np.std(variable) < 0.03:  # pictures with contrast
                variable.assign(8 * variable)
    return made


@pytest.fixture(scope="module")
def repository(networks, tmp_path_factory):
    """A folder of exported models: ata_gan by the command from published weights, and the others
    along with it, so that one process loads them all."""
    root, weights = tmp_path_factory.mktemp("served"), tmp_path_factory.mktemp("weights")
    options = zoo.options("ata_gan") | {"image_size": 32, "width": 4}
    about = {"network": "annotator", "options": options, "dataset": "creatures", "origin": {}}
    about |= {"scores": {"threshold": 0.3}, "license": "Apache-2.0"}
    zoo.save("ata_gan", "small", networks["ata_gan"]["annotator"], about, weights, exact=True)
    roles = {"resnet9": "classifier", "gain": "attention", "translator": "a2b"}
    roles |= {"segmenter": "segmenter", "segmenter 2": "segmenter"}
    others = [
        export.Served(name.removesuffix(" 2"), roles.get(name, "generator"), parts, 32, 0.4, {})
        for name, parts in networks.items()
        if name != "ata_gan"
    ]
    write = export.write
    flags = ["--mode=export", "--model=ata_gan", f"--weights={weights}/small", f"--output={root}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "write", lambda models, root: write(models + others, root))
        assert main.main(flags) == 0
    return root


@pytest.fixture(scope="module")
def server(repository):
    """The ports of a process that serves them."""
    command = [sys.executable, "-m", "serving.local", str(repository), "--rest=0", "--grpc=0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield json.loads(process.stdout.readline())
            assert process.poll() is None
        finally:
            process.kill()


@pytest.fixture(scope="module", params=["rest", "grpc"])
def client(request, server):
    with clients.Client("127.0.0.1", **{request.param: server[request.param]}) as made:
        yield made


def encoded(pixels, kind):
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, kind)
    return held.getvalue()


def noisy(height, width):
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), "uint8")


def scaled(pixels):
    return pixels.astype("float32") / 127.5 - 1


def keras_answer(network, *inputs):
    made = network(*inputs, training=False)
    return keras.tree.map_structure(ops.convert_to_numpy, made)


def extent(inside):
    """bool (H, W) -> top, left, bottom, right in pixels; zeros where there is nothing."""
    rows, columns = np.nonzero(inside)
    if not len(rows):
        return np.zeros(4)
    return np.array([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1])


def close(a, b):
    assert a.shape == b.shape and a.dtype == b.dtype == np.float32
    assert abs(a - b).max() <= 1e-5 * max(1, abs(b).max())


SIGNATURES = {
    "ragan/1": """
        generate: seed int64 ? -> image float32 ?x32x32x3
        generate_png: seed int64 ? -> png_bytes string ?
        generate_with_reference: image float32 ?x32x32x3, seed int64 ?
            -> attention float32 ?x4x32x32, image float32 ?x32x32x3
        serving_default: z float32 ?x100 -> image float32 ?x32x32x3""",
    "ata_gan/1": """
        annotate: image float32 ?x32x32x3 -> attention float32 ?x32x32, boxes float32 ?x4,
            logits float32 ?x1, scores float32 ?x1
        annotate_bytes: image_bytes string ? -> attention float32 ?x32x32, boxes float32 ?x4,
            logits float32 ?x1, scores float32 ?x1
        generate: seed int64 ? -> attention float32 ?x32x32, boxes float32 ?x4,
            image float32 ?x32x32x3
        generate_png: seed int64 ? -> png_bytes string ?
        serving_default: z float32 ?x100 -> attention float32 ?x32x32, boxes float32 ?x4,
            image float32 ?x32x32x3""",
    "sagan/1": """
        generate: label int64 ?, seed int64 ? -> attention float32 ?x4x16x16,
            image float32 ?x32x32x3
        generate_png: label int64 ?, seed int64 ? -> png_bytes string ?
        serving_default: label int64 ?, z float32 ?x128 -> attention float32 ?x4x16x16,
            image float32 ?x32x32x3""",
    "resnet9/1": """
        classify_bytes: image_bytes string ? -> attention float32 ?x32x32, boxes float32 ?x4,
            logits float32 ?x5, scores float32 ?x5
        serving_default: image float32 ?x32x32x3 -> attention float32 ?x32x32,
            boxes float32 ?x4, logits float32 ?x5, scores float32 ?x5""",
    "gain/1": """
        classify_bytes: image_bytes string ? -> attention float32 ?x2x32x32, boxes float32 ?x2x4,
            logits float32 ?x2, scores float32 ?x2
        serving_default: image float32 ?x32x32x3 -> attention float32 ?x2x32x32,
            boxes float32 ?x2x4, logits float32 ?x2, scores float32 ?x2""",
    "translator/1": """
        serving_default: image float32 ?x?x?x3 -> attention float32 ?x?x?,
            translated float32 ?x?x?x3
        translate_back: image float32 ?x?x?x3 -> translated float32 ?x?x?x3
        translate_back_png: image_bytes string ? -> png_bytes string ?
        translate_png: image_bytes string ? -> png_bytes string ?""",
    "segmenter/1": """
        segment_bytes: image_bytes string ? -> labels int64 ?x32x32
        serving_default: image float32 ?x?x?x3 -> labels int64 ?x?x?""",
}


def test_signatures(repository):
    for path, expected in SIGNATURES.items():
        held = saved_model_pb2.SavedModel.FromString(
            (repository / path / "saved_model.pb").read_bytes()
        )
        lines = []
        for name, signature in held.meta_graphs[0].signature_def.items():
            if not signature.inputs:  # what TensorFlow adds for itself
                continue
            sides = [
                ", ".join(
                    f"{key} {tf.as_dtype(tensor.dtype).name} "
                    + "x".join("?" if d.size < 0 else str(d.size) for d in tensor.tensor_shape.dim)
                    for key, tensor in sorted(tensors.items())
                )
                for tensors in (signature.inputs, signature.outputs)
            ]
            lines.append(f"{name}: {' -> '.join(sides)}")
        assert " ".join(sorted(lines)) == " ".join(expected.split()), path


def test_generator_and_seeds(client, networks):
    z = np.random.default_rng(2).uniform(-1, 1, (3, 100))
    made = client.predict("ragan", {"z": z})
    assert list(made) == ["image"]
    close(made["image"], keras_answer(networks["ragan"]["generator"], z.astype("float32")))
    seeds = [5, -1, 2**40, 0, 1, 2, 3]
    seven = client.predict("ragan", {"seed": seeds}, "generate")["image"]
    close(client.predict("ragan", {"seed": seeds[:1]}, "generate")["image"], seven[:1])
    close(client.predict("ragan", {"seed": seeds[::-1]}, "generate")["image"], seven[::-1])
    apart = abs(seven[:, None] - seven).max((2, 3, 4))
    assert (apart[~np.eye(7, dtype=bool)] > 0.01).all()
    pngs = client.predict("ragan", {"seed": seeds}, "generate_png")["png_bytes"]
    shown = np.stack([np.asarray(Image.open(io.BytesIO(png))) for png in pngs])
    assert abs(shown - (seven + 1) * 127.5).max() <= 0.501


def test_noise():
    seeds = tf.range(1000, dtype=tf.int64)
    z = tf.function(signatures.noise)(seeds, 8).numpy()
    assert (z[[7, 3]] == signatures.noise(tf.constant([7, 3], tf.int64), 8).numpy()).all()
    assert z.min() > -1 and z.max() < 1 and abs(np.histogram(z, 4)[0] - 2000).max() < 150
    assert abs(np.corrcoef(z.T) - np.eye(8)).max() < 0.12
    assert abs(np.corrcoef(z[1:, 0], z[:-1, 0])[0, 1]) < 0.12
    held = [0.49415755, 0.34436035, -0.8844409]  # by TensorFlow's Philox: a seed is for good
    assert abs(z[7, :3] - held).max() < 1e-6


def test_a_reference_in_ragan(client, networks):
    seed, image = [4, 5], scaled(noisy(32, 64)).reshape(2, 32, 32, 3)
    made = client.predict("ragan", {"seed": seed, "image": image}, "generate_with_reference")
    z = signatures.noise(tf.constant(seed, tf.int64), 100)
    network = networks["ragan"]["generator_with_reference"]
    close(made["image"], keras_answer(network, {"noise": z, "image": tf.constant(image)}))
    masks = keras_answer(networks["ragan"]["attention"], image)["masks"]
    close(made["attention"], masks[..., 0])
    other = {"seed": seed, "image": image[::-1]}
    other = client.predict("ragan", other, "generate_with_reference")["image"]
    assert abs(other - made["image"]).max() > 1e-3


def test_labels_and_self_attention(client, networks):
    z = np.random.default_rng(2).uniform(-1, 1, (2, 128)).astype("float32")
    made = client.predict("sagan", {"z": z, "label": [2, 0]})
    network = networks["sagan"]["generator"]
    inputs = [z, np.array([2, 0], "int32")]
    close(made["image"], keras_answer(network, inputs))
    maps = keras_answer(self_attention.attention_map(network), inputs)
    shown, *_ = self_attention.attention_at(maps, 16)
    close(made["attention"], shown)
    both = client.predict("sagan", {"seed": [7, 7], "label": [1, 2]}, "generate")["image"]
    assert abs(both[0] - both[1]).max() > 1e-3


def test_annotations(client, networks):
    image = scaled(noisy(32, 96)).reshape(3, 32, 32, 3)
    critic = networks["ata_gan"]["discriminator"]
    made = client.predict("ata_gan", {"image": image}, "annotate")
    logits, maps = keras_answer(critic, image)
    close(made["logits"], logits)
    close(made["scores"], (1 / (1 + np.exp(-logits))).astype("float32"))
    close(made["attention"], np.asarray(cam.min_max(cam.resized(maps, 32))))
    for attention, box in zip(made["attention"], made["boxes"]):
        assert abs(box * 32 - extent(attention >= 0.3)).max() < 1e-4  # published with the weights
    drawn = client.predict("ata_gan", {"seed": [1]}, "generate")
    _, maps = keras_answer(critic, drawn["image"])
    close(drawn["attention"], np.asarray(cam.min_max(cam.resized(maps, 32))))


def test_boxes_by_hand():
    inside = np.zeros((3, 4, 4), bool)
    inside[0, 1, 2] = inside[0, 2, 1] = inside[2] = True
    expected = [[0.25, 0.25, 0.75, 0.75], [0, 0, 0, 0], [0, 0, 1, 1]]
    assert (signatures.boxes(tf.constant(inside)).numpy() == expected).all()


def test_classifier_of_encoded_pictures(client, networks):
    network = networks["resnet9"]["classifier"]
    wide = noisy(40, 56)
    jpeg = encoded(noisy(32, 32), "jpeg")
    gray = encoded(wide[..., 0], "png")
    pixels = [
        np.asarray(Image.fromarray(wide).resize((32, 32), Image.Resampling.BICUBIC)),
        np.asarray(Image.open(io.BytesIO(jpeg))),
        np.asarray(
            Image.fromarray(wide[..., 0]).convert("RGB").resize((32, 32), Image.Resampling.BICUBIC)
        ),
    ]
    made = client.predict(
        "resnet9", {"image_bytes": [encoded(wide, "png"), jpeg, gray]}, "classify_bytes"
    )
    direct = client.predict("resnet9", {"image": scaled(np.stack(pixels))})
    logits = keras_answer(network, scaled(np.stack(pixels)))
    close(direct["logits"], logits)
    share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    close(direct["scores"], share)
    assert abs(made["logits"] - logits).max() < 0.02 * abs(logits).max()  # two ways to resize
    shown = cam.explained(network, normalise="min_max", size=32)
    close(direct["attention"], keras_answer(shown, scaled(np.stack(pixels)))[1])


def test_translator_and_segmenter(client, networks):
    image = scaled(noisy(12, 20))[None]
    made = client.predict("translator", {"image": image})
    expected = keras_answer(networks["translator"]["a2b"], image)
    close(made["translated"], expected["translated"])
    close(made["attention"], 1 - expected["masks"][..., -1])
    back = client.predict("translator", {"image": image}, "translate_back")
    close(back["translated"], keras_answer(networks["translator"]["b2a"], image)["translated"])
    odd = noisy(13, 22)
    with pytest.raises(clients.Invalid, match="image takes sides that are multiples of 4"):
        client.predict("translator", {"image": scaled(odd)[None]})
    with pytest.raises(clients.Invalid, match="image, not picture"):
        client.predict("translator", {"picture": image})
    with pytest.raises(clients.NotFound, match="no model 'translater': there are .*translator"):
        client.predict("translater", {"image": image})
    data = {"image_bytes": [encoded(noisy(32, 16), "png"), encoded(odd, "png")]}
    pngs = client.predict("translator", data, "translate_png")["png_bytes"]
    whole = np.pad(scaled(odd), ((0, 3), (0, 2), (0, 0)), mode="reflect")[None]
    whole = keras_answer(networks["translator"]["a2b"], whole)["translated"][0, :13, :22]
    sizes = [Image.open(io.BytesIO(png)).size for png in pngs]
    assert sizes == [(16, 32), (22, 13)]
    assert abs(np.asarray(Image.open(io.BytesIO(pngs[1]))) - (whole + 1) * 127.5).max() <= 0.51
    for version, name in ((1, "segmenter"), (2, "segmenter 2"), (None, "segmenter 2")):
        labels = client.predict("segmenter", {"image": image}, version=version)["labels"]
        logits = keras_answer(networks[name]["segmenter"], image)
        assert labels.dtype == np.int64 and (labels == logits.argmax(-1)).all()


def test_attention_of_each_class(client, networks):
    image = scaled(noisy(32, 64)).reshape(2, 32, 32, 3)
    made = client.predict("gain", {"image": image})
    expected = keras_answer(networks["gain"]["attention"], image)
    close(made["logits"], expected["logits"])
    close(made["attention"], expected["attention"])
    close(made["scores"], (1 / (1 + np.exp(-expected["logits"]))).astype("float32"))
    for attention, box in zip(made["attention"].reshape(4, 32, 32), made["boxes"].reshape(4, 4)):
        assert abs(box * 32 - extent(attention >= 0.4)).max() < 1e-4


@pytest.mark.parametrize(
    ("given", "size", "whole"),
    [
        ((1000, 2000), (362, 724), (364, 724)),
        ((1, 3), (8, 8), (8, 8)),
        ((9, 70), (9, 70), (12, 72)),
    ],
)
def test_how_large_a_picture_is_translated(given, size, whole):
    image, sides = signatures.padded(np.zeros((*given, 3), "uint8"))
    assert tuple(int(side) for side in sides) == size and image.shape == (*whole, 3)
    assert (image.numpy() == -1).all()


def test_a_classifier_without_maps_has_none():
    network = toy(3, "classifier", lambda x: x[:, 4, 5], side=32)
    made = signatures.build({"classifier": network}, "classifier", 32, 0.5)
    answer = made["serving_default"][0](GRAY)
    assert set(answer) == {"scores", "logits"}
    close(answer["logits"].numpy(), keras_answer(network, GRAY))


def test_either_direction_alone_is_the_default():
    back = toy(3, "b2a", lambda x: {"translated": x})
    made = signatures.build({"b2a": back}, "a2b", 32, 0.5)
    assert list(made) == ["serving_default", "translate_png"]
    close(
        made["serving_default"][0](GRAY)["translated"].numpy(),
        keras_answer(back, GRAY)["translated"],
    )


def huge(kind):
    """A picture of 10,000 x 5,000 pixels."""
    if kind == "png":
        return encoded(np.zeros((5000, 10000), bool), "png")
    data = bytearray(encoded(noisy(32, 32), "jpeg"))
    start = data.index(b"\xff\xc0") + 5
    data[start : start + 4] = (5000).to_bytes(2, "big") + (10000).to_bytes(2, "big")
    return bytes(data)


PNG = encoded(noisy(32, 32), "png")
MALFORMED = {
    "side": ("resnet9", "serving_default", {"image": np.zeros((1, 64, 64, 3))}),
    "channels": ("resnet9", "serving_default", {"image": np.zeros((1, 32, 32, 1))}),
    "rank": ("resnet9", "serving_default", {"image": np.zeros((32, 32, 3))}),
    "latent": ("ragan", "serving_default", {"z": np.zeros((1, 99))}),
    "fractions": ("ragan", "generate", {"seed": [0.5]}),
    "whole numbers": ("ragan", "serving_default", {"z": [b"z"]}),
    "names": ("ragan", "generate", {"sead": [1]}),
    "more names": ("ragan", "generate", {"seed": [1], "z": np.zeros((1, 100))}),
    "none": ("ragan", "generate", {}),
    "counts": ("sagan", "generate", {"seed": [1, 2], "label": [0, 1, 2]}),
    "label": ("sagan", "generate", {"seed": [1], "label": [3]}),
    "signature": ("ragan", "translate", {"seed": [1]}),
    "zero bytes": ("resnet9", "classify_bytes", {"image_bytes": [b""]}),
    "no picture": ("resnet9", "classify_bytes", {"image_bytes": [PNG, b"a" * 100]}),
    "gif": ("resnet9", "classify_bytes", {"image_bytes": [encoded(noisy(32, 32), "gif")]}),
    "header": ("resnet9", "classify_bytes", {"image_bytes": [PNG[:20]]}),
    "truncated png": ("resnet9", "classify_bytes", {"image_bytes": [PNG[: len(PNG) // 2]]}),
    "truncated jpeg": ("segmenter", "segment_bytes", {"image_bytes": [huge("jpeg")[:300]]}),
    "huge png": ("resnet9", "classify_bytes", {"image_bytes": [huge("png")]}),
    "huge jpeg": ("segmenter", "segment_bytes", {"image_bytes": [huge("jpeg")]}),
}


def test_malformed_requests_harm_nobody(client):
    before = client.predict("ragan", {"seed": [1]}, "generate")["image"]
    for name, (model, signature, inputs) in MALFORMED.items():
        with pytest.raises(clients.Invalid):
            print(name, client.predict(model, inputs, signature))
    for model, version in (("ragam", None), ("ragan", 2)):
        with pytest.raises(clients.NotFound):
            client.predict(model, {"seed": [1]}, "generate", version)
    with pytest.raises(clients.Invalid, match="25000000 pixels"):
        client.predict("resnet9", {"image_bytes": [PNG, huge("png")]}, "classify_bytes")
    assert (client.predict("ragan", {"seed": [1]}, "generate")["image"] == before).all()


def test_what_a_client_refuses_by_itself(client):
    for value in (b"one picture", [True], [1j], ["a name"], [b"a", None]):
        with pytest.raises(clients.Invalid):
            client.predict("resnet9", {"image_bytes": value}, "classify_bytes")


def test_pixels_are_counted_before_decoding(monkeypatch):
    monkeypatch.setattr(signatures, "PIXELS", 110)
    for kind in ("png", "jpeg"):
        assert signatures.decoded(encoded(noisy(10, 11), kind)).shape == (10, 11, 3)
        with pytest.raises(tf.errors.InvalidArgumentError, match="1 to 110 pixels"):
            signatures.decoded(encoded(noisy(10, 12), kind))
    data = bytearray(encoded(noisy(10, 10), "png"))
    for sides in ((0, 10), (2**32 - 1, 2**32 - 1)):
        data[16:24] = b"".join(side.to_bytes(4, "big") for side in sides)
        with pytest.raises(tf.errors.InvalidArgumentError, match="1 to 110 pixels"):
            signatures.decoded(bytes(data))


def ask(server, method, path, body=None):
    """(status, JSON) by plain HTTP."""
    connection = http.client.HTTPConnection("127.0.0.1", server["rest"], timeout=60)
    connection.request(method, path, body if isinstance(body, bytes) else json.dumps(body))
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def test_rows_columns_and_health_by_plain_http(server):
    path = "/v1/models/ragan:predict"
    body = {"signature_name": "generate_png", "instances": [{"seed": 3}, {"seed": 4}]}
    status, rows = ask(server, "POST", path, body)
    assert status == 200 and list(rows) == ["predictions"]
    assert [base64.b64decode(row["b64"])[:4] for row in rows["predictions"]] == [b"\x89PNG"] * 2
    body = {"signature_name": "generate_png", "inputs": [3, 4]}  # an only input has no name
    assert ask(server, "POST", path, body) == (200, {"outputs": rows["predictions"]})
    body = {"instances": GRAY.tolist()}
    status, rows = ask(server, "POST", "/v1/models/resnet9/versions/1:predict", body)
    assert set(rows["predictions"][0]) == {"scores", "logits", "attention", "boxes"}
    body = {"inputs": {"image": GRAY.tolist()}}
    _, columns = ask(server, "POST", "/v1/models/resnet9:predict", body)
    assert columns["outputs"]["scores"] == [rows["predictions"][0]["scores"]]
    status, health = ask(server, "GET", "/v1/models/segmenter")
    assert status == 200
    assert health["model_version_status"][-1] == {"version": "2", "state": "AVAILABLE"}
    wrong = [b"{", b"[]", b'{"inputs": 1}', b'{"instances": []}', b'{"instances": [{"b64": "!"}]}']
    for data in wrong:
        status, answer = ask(server, "POST", path, data)
        assert status == 400 and answer["error"]
    assert ask(server, "POST", path, body | {"signature_name": "x"}) == (
        400,
        {
            "error": "there is no signature 'x': generate, generate_png, generate_with_reference, "
            "serving_default"
        },
    )
    assert ask(server, "GET", "/v1/models/ragam")[0] == 404
    assert ask(server, "POST", "/v1/models/ragan:classify", {})[0] == 404


def test_methods_and_lengths_that_are_wrong_are_answered_in_json(server):
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "POST"):
        status, answer = ask(server, method, "/v1/models/ragan", {})
        assert (status, answer) == (405, {"error": f"/v1/models/ragan takes GET, not {method}"})
    path = "/v1/models/ragan:predict"
    assert ask(server, "GET", path) == (405, {"error": f"{path} takes POST, not GET"})
    assert ask(server, "TRACE", path) == (501, {"error": "Unsupported method ('TRACE')"})
    for method, status in (("HEAD", 200), ("GET", 200)):
        connection = http.client.HTTPConnection("127.0.0.1", server["rest"], timeout=60)
        connection.request(method, "/v1/models/ragan")
        answer = connection.getresponse()
        assert answer.status == status and bool(answer.read()) is (method == "GET")
    for headers, message in (
        ("", "needs a Content-Length"),
        ("Transfer-Encoding: chunked\r\n", "needs a Content-Length"),
        ("Content-Length: -1\r\n", "takes a number of bytes up to 1073741824, not -1"),
        ("Content-Length: many\r\n", "not many"),
        ("Content-Length: 99999999999999999999999\r\n", "up to 1073741824, not 9999"),
        ("Content-Length: 5\r\n", "the body has 0 bytes, but its Content-Length is 5"),
    ):
        with socket.create_connection(("127.0.0.1", server["rest"]), 60) as connection:
            connection.sendall(f"POST {path} HTTP/1.1\r\n{headers}\r\n".encode())
            connection.shutdown(socket.SHUT_WR)
            text = connection.makefile("rb").read().decode()
        assert " 400 " in text.splitlines()[0] and message in text


def test_an_empty_batch_is_refused_alike_by_every_signature(client, server):
    shapes = {"seed": (0,), "label": (0,), "image_bytes": (0,), "image": (0, 32, 32, 3)}
    dtypes = {"DT_INT64": "int64", "DT_FLOAT": "float32", "DT_STRING": object}
    asked = 0
    for model in ("ragan", "ata_gan", "sagan", "resnet9", "gain", "translator", "segmenter"):
        metadata = ask(server, "GET", f"/v1/models/{model}/metadata")[1]["metadata"]
        for name, signature in metadata["signature_def"]["signature_def"].items():
            inputs = {
                key: np.zeros(shapes.get(key, (0, 128 if model == "sagan" else 100)), dtypes[dtype])
                for key, dtype in ((k, v["dtype"]) for k, v in signature["inputs"].items())
            }
            with pytest.raises(clients.Invalid, match="(.*) is empty: send at least one value$"):
                client.predict(model, inputs, name)
            asked += 1
    assert asked == 22


def test_no_number_that_is_not_finite_goes_in_or_out(client, server):
    for value in (np.nan, np.inf, 1e39):
        with pytest.raises(clients.Invalid, match="finite"):
            client.predict("ragan", {"z": np.full((1, 100), value)})
    body = {"instances": [[1e39] + [0] * 99]}
    status, answer = ask(server, "POST", "/v1/models/ragan:predict", body)
    assert (status, answer) == (400, {"error": "z must be finite numbers of float32"})


def test_bytes_that_are_no_message(server):
    with grpc.insecure_channel(f"127.0.0.1:{server['grpc']}") as channel:
        call = channel.unary_unary(f"/{messages.SERVICE}/Predict")
        with pytest.raises(grpc.RpcError):
            call(b"\xff\xff\xff", timeout=60)
    with clients.Client("127.0.0.1", grpc=server["grpc"]) as client:
        assert client.predict("ragan", {"seed": [1]}, "generate")["image"].shape == (1, 32, 32, 3)


def ask_for_one(client):
    client.predict("ragan", {"seed": [1]}, "generate")


@pytest.mark.parametrize("way", ["rest", "grpc"])
def test_nobody_there_nobody_yet_and_nobody_answering(way, monkeypatch):
    slept, sleep = [], clients.time.sleep
    monkeypatch.setattr(clients.time, "sleep", lambda s: slept.append(s) or sleep(s))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        with clients.Client("127.0.0.1", **{way: port}, retries=2, timeout=0.5) as client:
            with pytest.raises(clients.Unavailable):
                ask_for_one(client)
    assert slept == [0.1, 0.2]
    servers = []

    def start(seconds):
        slept.append(seconds)
        if not servers and way == "grpc":
            servers.append(grpc.server(futures.ThreadPoolExecutor(1)))
            servers[0].add_insecure_port(f"127.0.0.1:{port}")
            servers[0].start()
        elif not servers:
            servers.append(HTTPServer(("127.0.0.1", port), BaseHTTPRequestHandler))
            threading.Thread(target=servers[0].handle_request, daemon=True).start()
        sleep(seconds)

    monkeypatch.setattr(clients.time, "sleep", start)
    with clients.Client("127.0.0.1", **{way: port}, retries=6) as client:
        with pytest.raises(clients.ServingError) as caught:  # it serves nothing, but it answers
            ask_for_one(client)
    assert type(caught.value) is clients.ServingError and len(servers) == 1
    servers[0].stop(None) if way == "grpc" else servers[0].server_close()
    slept.clear()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        with clients.Client("127.0.0.1", **{way: port}, timeout=0.3) as client:
            with pytest.raises(clients.TimedOut):
                ask_for_one(client)
    assert slept == []


def test_warm_up_requests(repository):
    path = repository / "ata_gan/1/assets.extra/tf_serving_warmup_requests"
    records = [r.numpy() for r in tf.data.TFRecordDataset(str(path))]
    requests = [messages.PredictionLog.FromString(r).predict_log.request for r in records]
    found = [(r.model_spec.name, r.model_spec.signature_name) for r in requests]
    names = ("serving_default", "generate", "generate_png", "annotate", "annotate_bytes")
    assert found == [("ata_gan", name) for name in names for _ in range(3)]
    arrays = [messages.read(r.inputs) for r in requests]
    assert [len(a) for held in arrays for a in held.values()] == [1, 8, 32] * 5
    assert arrays[11]["image"].shape == (32, 32, 32, 3) and len(records[11]) < 200
    about = json.loads((path.parent / "zoo.json").read_text())
    assert (about["model"], about["weights"], about["threshold"]) == ("ata_gan", "small", 0.3)


def test_messages_are_the_official_ones(repository):
    prediction_log_pb2 = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    predict_pb2 = pytest.importorskip("tensorflow_serving.apis.predict_pb2")
    path = repository / "resnet9/1/assets.extra/tf_serving_warmup_requests"
    for i, record in enumerate(tf.data.TFRecordDataset(str(path))):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        request = log.predict_log.request
        assert request.model_spec.name == "resnet9"
        (value,) = (tf.make_ndarray(v) for v in request.inputs.values())
        assert len(value) == files.BATCHES[i % 3]
        if request.model_spec.signature_name == "classify_bytes":
            kinds = [b"\x89PNG", b"\xff\xd8\xff\xe0"]
            assert [v[:4] for v in value] == [kinds[j % 2] for j in range(len(value))]
        else:
            assert value.shape[1:] == (32, 32, 3) and (value == 0).all()
    arrays = {
        "a": np.float32([[1.5, -2]]),
        "b": np.array([2**40, -1]),
        "c": np.array([b"x\0", b""], object),
        "d": np.zeros((0, 3), "float32"),
        "e": np.uint8([7]),
        "f": np.float64([[1e-300]]),
        "g": np.array([True, False]),
        "h": np.int32([-5, 5, 5, 5]),
    }
    response = predict_pb2.PredictResponse()
    for name, array in arrays.items():  # as the C++ server writes them: single values
        response.outputs[name].CopyFrom(tf.make_tensor_proto(array))
        tensor = response.outputs[name]
        if name in "abh":
            field = {"a": tensor.float_val, "b": tensor.int64_val, "h": tensor.int_val}[name]
            tensor.ClearField("tensor_content")
            field.extend(array.ravel()[: 2 if name == "h" else None].tolist())
    read = messages.read(messages.PredictResponse.FromString(response.SerializeToString()).outputs)
    ours = messages.PredictResponse()
    messages.write(ours.outputs, arrays)
    theirs = predict_pb2.PredictResponse.FromString(ours.SerializeToString()).outputs
    for name, array in arrays.items():
        for other in (read[name], tf.make_ndarray(theirs[name])):
            assert other.dtype == array.dtype and other.shape == array.shape, name
            assert (other == array).all(), name


def test_official_stubs_on_either_side(repository, server, networks):
    stubs = pytest.importorskip("tensorflow_serving.apis.prediction_service_pb2_grpc")
    predict_pb2 = pytest.importorskip("tensorflow_serving.apis.predict_pb2")
    model = tf.saved_model.load(str(repository / "ragan/1"))

    class Servicer(stubs.PredictionServiceServicer):
        def Predict(self, request, context):
            if request.model_spec.name != "ragan" or request.model_spec.version.value not in (0, 1):
                context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found for request")
            inputs = {k: tf.constant(tf.make_ndarray(v)) for k, v in request.inputs.items()}
            made = model.signatures[request.model_spec.signature_name](**inputs)
            response = predict_pb2.PredictResponse()
            for name, value in made.items():
                response.outputs[name].CopyFrom(tf.make_tensor_proto(value.numpy()))
            return response

    seeds = [3, 1]
    z = signatures.noise(tf.constant(seeds, tf.int64), 100)
    expected = keras_answer(networks["ragan"]["generator"], z)
    official = grpc.server(futures.ThreadPoolExecutor(2))
    stubs.add_PredictionServiceServicer_to_server(Servicer(), official)
    port = official.add_insecure_port("127.0.0.1:0")
    official.start()
    with clients.Client("127.0.0.1", grpc=port) as client:
        close(client.predict("ragan", {"seed": seeds}, "generate", version=1)["image"], expected)
        with pytest.raises(clients.NotFound):
            client.predict("ragan", {"seed": seeds}, "generate", version=2)
    official.stop(None)
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "ragan", "generate"
    request.inputs["seed"].CopyFrom(tf.make_tensor_proto(np.array(seeds)))
    with grpc.insecure_channel(f"127.0.0.1:{server['grpc']}") as channel:
        response = stubs.PredictionServiceStub(channel).Predict(request, timeout=60)
    close(tf.make_ndarray(response.outputs["image"]), expected)


def test_server_files(repository):
    config = (repository / "models.config").read_text()
    names = ["ata_gan", "gain", "ragan", "resnet9", "sagan", "segmenter", "translator"]
    assert [line.split('"')[1] for line in config.splitlines() if "name:" in line] == names
    batching = (repository / "batching.config").read_text().splitlines()
    assert batching[-3:] == [f"allowed_batch_sizes: {n}" for n in (1, 8, 32)]
    assert "max_batch_size { value: 32 }" in batching
    for name in ("docker-compose.yml", "kubernetes.yaml"):
        text = (repository / name).read_text()
        assert "/v1/models/ata_gan" in text and "/monitoring/prometheus/metrics" in text
        assert all(argument in text for argument in files.ARGUMENTS)
    assert '"/monitoring/prometheus/metrics"' in (repository / "monitoring.config").read_text()


def test_versions_are_whole_numbers_and_hidden_folders_no_models(tmp_path):
    for path in ("a/2", "a/10", "a/1.part", ".export-x/1", "b/none"):
        (tmp_path / path).mkdir(parents=True)
        (tmp_path / path / "saved_model.pb").touch()
    assert files.models(tmp_path) == {"a": [2, 10]}


def test_models_config_is_the_official_message(repository):
    pb2 = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    from google.protobuf import text_format

    text = (repository / "models.config").read_text()
    held = text_format.Parse(text, pb2.ModelServerConfig()).model_config_list.config
    assert [c.base_path for c in held][:2] == ["/models/ata_gan", "/models/gain"]
    assert {c.model_version_policy.latest.num_versions for c in held} == {2}
    assert {c.model_platform for c in held} == {"tensorflow"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"serving_default/labels": lambda a: 3 - a}, "serving_default/labels .* off"),
        ({"segment_bytes/labels": lambda a: a[:, 1:]}, "segment_bytes/labels .* inf off"),
        ({"segment_bytes/labels": None}, "not all outputs"),
    ],
)
def test_a_difference_refuses_the_export(change, message, networks, tmp_path, monkeypatch):
    answers = {}
    monkeypatch.setattr(export, "_save", lambda *_: answers)
    image = scaled(noisy(32, 32))[None]
    labels = keras_answer(networks["segmenter"]["segmenter"], image).argmax(-1)
    answers |= {f"{name}/labels": labels for name in ("serving_default", "segment_bytes")}

    def load(folders):
        folders[0].mkdir()
        made = {k: change.get(k, lambda a: a) for k in answers}
        made = {k: f(answers[k]) for k, f in made.items() if f}
        np.savez(folders[0] / "answers.npz", **made)

    monkeypatch.setattr(export, "_load", load)
    served = export.Served("s", "segmenter", networks["segmenter"], 32, 0.5, {})
    with pytest.raises(export.ExportError, match=message):
        export.write([served], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_how_far_an_answer_may_be_off():
    a, small = np.full((4, 4), 20, "float32"), np.full((4, 4), 0.5, "float32")
    for off, within in ((1e-4, True), (3e-4, False)):
        gap, most = export.difference(a + np.float32(off), a)
        assert bool(gap <= most) is within
    for off, within in ((5e-6, True), (3e-5, False), (np.nan, False)):
        gap, most = export.difference(small + np.float32(off), small)
        assert bool(gap <= most) is within
    pixels = noisy(8, 8).clip(0, 250)
    for off, within in ((1, True), (2, False)):
        pngs = [np.array([encoded(p, "png")], object) for p in (pixels + np.uint8(off), pixels)]
        gap, most = export.difference(*pngs)
        assert bool(gap <= most) is within


def test_an_export_that_is_twice_the_limit_off_is_refused():
    expected = {"map": np.full((2, 2), 0.5, "float32")}
    export.compare("m", "SavedModel", {"map": expected["map"] + np.float32(5e-6)}, expected)
    message = "^m: map of the SavedModel is 2.*e-05 off the network's, more than 1e-05$"
    with pytest.raises(export.ExportError, match=message):
        export.compare("m", "SavedModel", {"map": expected["map"] + np.float32(2e-5)}, expected)


def test_the_other_process_has_no_keras_and_tells_why_it_failed(tmp_path, monkeypatch):
    program = tmp_path / "program.py"
    source = Path(loaded.__file__).read_text().replace("import tensorflow as tf", "import keras")
    program.write_text(source)
    monkeypatch.setattr(loaded, "__file__", str(program))
    with pytest.raises(export.ExportError, match="there is no keras here"):
        export._load([tmp_path])


def test_a_run_exports_its_averaged_networks(networks, tmp_path):
    parts, critic = dict(networks["ragan"]), toy(1, "discriminator", lambda x: x)
    networks = parts | {"discriminator": critic}
    options = {"width": 4, "image_size": 32}
    origin = Origin(f"{tmp_path}/run", "folder:/home/me/cats", step=7, folder=tmp_path / "run")
    model = generation.Generator("ragan", networks, options, origin)
    served = exporting.served(model, threshold=0.2)
    assert (served.name, served.role, served.size) == ("ragan", "generator", 32)
    assert served.threshold == 0.2 and served.networks == networks
    facts = ("weights", "step", "dataset", "options")
    assert [served.about[k] for k in facts] == ["run", 7, "folder:cats", options]
    assert exporting.served(model).threshold == 0.5


def test_all_published_weights(monkeypatch, tmp_path, capsys):
    written = []
    monkeypatch.setattr(exporting, "load", lambda model, tag: (model, tag))
    monkeypatch.setattr(exporting, "served", lambda model, name, threshold: name)
    monkeypatch.setattr(export, "write", lambda models, root: written.append((models, root)) or [])
    assert main.main(["--mode=export", "--all", f"--output={tmp_path}"]) == 0
    assert capsys.readouterr().err.startswith("dcgan-cifar10, dcgan-creatures, ")
    ((names, root),) = written
    assert "ragan-cifar10" in names and root == tmp_path
    assert len(names) == sum(len(zoo.get(name).weights) for name in zoo.names())


def test_a_run_without_what_is_served(tmp_path):
    origin = Origin(f"{tmp_path}/run", "creatures/many", step=7, folder=tmp_path / "run")
    model = guided.GuidedClassifier("gain", {"classifier": None}, {"image_size": 32}, origin)
    with pytest.raises(UsageError, match="gain has no attention to export"):
        exporting.export(model, tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--all", "--model=ragan"], "--model cannot be combined with --all"),
        (["--all", "--format=tflite"], "--format cannot be combined with --all"),
        (["--weights=cifar10"], "published weights need --model"),
        (["--model=ragan"], "needs --weights=TAG|RUN_DIR|FILE or --all"),
        (["--model=ragan", "--weights=none"], "has no weights 'none'"),
        (["--all", "--seed=1"], "does not use --seed"),
    ],
)
def test_what_cannot_be_exported(flags, message, capsys):
    assert main.main(["--mode=export", *flags]) == 2
    assert message in capsys.readouterr().err

"""Encoded pictures in the graph of a signature are those that the reader of files gives."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from attention_zoo.datasets import pictures
from attention_zoo.serving import signatures

RNG = np.random.default_rng(0)
decoded = tf.function(signatures.decoded, input_signature=[tf.TensorSpec((), tf.string)])


def encoded(image, kind="png", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def noise(*shape):
    return Image.fromarray(RNG.integers(0, 256, shape, np.uint8))


def gap(data, path):
    """The largest difference of the graph's picture and the reader's."""
    path.write_bytes(data)
    ours, expected = decoded(tf.constant(data)).numpy(), pictures.read(path)
    assert ours.shape == expected.shape
    return abs(ours.astype(int) - expected).max()


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_every_orientation(kind, tmp_path):
    image = Image.fromarray(np.uint8(np.add.outer(np.arange(8) * 20, np.arange(12) * 9)))
    found = []
    for number in range(10):  # 0 and 9 are none
        tags = Image.Exif()
        tags[271], tags[274] = "maker", number
        data = encoded(image.convert("RGB"), kind, exif=tags, **{"icc_profile": bytes(9000)})
        assert gap(data, tmp_path / "x") <= (0 if kind == "png" else 4)
        found.append(decoded(tf.constant(data)).numpy()[..., 0].tobytes())
    assert len(set(found)) == 8 and found[0] == found[1] == found[9]


@pytest.mark.parametrize(
    "tags",
    [
        b"MM\0*" + struct.pack(">LHHHLHHL", 8, 1, 274, 3, 1, 6, 0, 0),
        b"II*\0"
        + struct.pack("<LH", 8, 2)
        + struct.pack("<HHLHHHHL4s", 274, 3, 1, 6, 0, 282, 7, 4, b"abcd"),
        b"II*\0\xff\xff\xff\x7f",
        b"MM\0*\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff",
        b"II",
        b"",
    ],
)
def test_odd_tags(tags, tmp_path):
    data = encoded(noise(8, 12), "jpeg", exif=b"Exif\0\0" + tags)
    assert gap(data, tmp_path / "x") <= 4


PNGS = {
    "transparent": (noise(8, 12, 4), {}),
    "grey and alpha": (noise(8, 12, 4).convert("LA"), {}),
    "grey": (noise(8, 12), {}),
    "one bit": (noise(8, 12).convert("1"), {}),
    "one bit, transparent": (noise(8, 12).convert("1"), {"transparency": 0}),
    "four bits": (noise(8, 12, 3).quantize(16), {}),
    "four bits, transparent": (noise(8, 12, 3).quantize(16), {"transparency": bytes([0, 99] * 8)}),
    "eight bits": (noise(8, 12, 3).quantize(200), {}),
    "a transparent colour": (Image.new("RGB", (4, 4), (9, 8, 7)), {"transparency": (9, 8, 7)}),
    "a transparent grey": (Image.new("L", (4, 4), 9), {"transparency": 9}),
}


@pytest.mark.parametrize("name", PNGS)
def test_every_kind_of_png_is_the_same_to_the_bit(name, tmp_path):
    image, options = PNGS[name]
    assert gap(encoded(image, **options), tmp_path / "x") == 0


def test_alpha_is_blended_as_on_the_command_line():
    grid = np.stack(np.meshgrid(*[np.arange(256)] * 2), -1).astype(np.uint8)  # colour, alpha
    pixels = grid[..., [0, 0, 0, 1]]
    expected = np.asarray(pictures.to_rgb(Image.fromarray(pixels)))
    assert np.array_equal(signatures.over_white(tf.constant(pixels)), expected)


def test_a_signature_sees_white_where_red_is_transparent():
    red = encoded(Image.new("RGBA", (6, 4), (255, 0, 0, 0)))
    assert (signatures.pictures(tf.constant([red]), 8).numpy() == 1).all()

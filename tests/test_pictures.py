"""One reader of pictures: odd files of all kinds become pixels, or are skipped with a reason."""

import os
import struct
import warnings

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, TiffImagePlugin

from attention_zoo import datasets
from attention_zoo.datasets import hep2, pictures, resize


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def exif(*tags):
    """EXIF data of (number, kind, count, value of four bytes)."""
    packed = b"".join(struct.pack("<HHL4s", *tag) for tag in tags)
    return b"Exif\0\0II*\0" + struct.pack("<LH", 8, len(tags)) + packed + b"\0\0\0\0"


ROTATED = (274, 3, 1, b"\6\0\0\0")


def saved(path, values, **options):
    Image.fromarray(values).save(path, **options)
    return path


@pytest.mark.parametrize(
    "odd",
    [
        (282, 7, 4, b"abcd"),  # a resolution that is no number
        (271, 2, 4, b"\xff\xfe\xfd\0"),  # a maker whose name is no text
        (34665, 4, 1, b"\xff\xff\xff\x7f"),  # a table beyond the end
    ],
)
def test_a_picture_is_turned_upright_whatever_its_other_tags(tmp_path, odd):
    path = saved(tmp_path / "a.jpg", noise(40, 48, 3), exif=exif(ROTATED, odd))
    plain = np.asarray(Image.open(path))
    assert np.array_equal(pictures.read(path), np.rot90(plain, -1))
    assert np.array_equal(pictures.read(path, upright=False), plain)


@pytest.mark.parametrize("kind", ["png", "tif", "webp"])
def test_every_format_with_an_orientation_is_turned_once(tmp_path, kind):
    tags = Image.Exif()
    tags[274] = 3
    options = {"lossless": True} if kind == "webp" else {}
    path = saved(tmp_path / f"a.{kind}", noise(4, 6, 3), exif=tags, **options)
    assert np.array_equal(pictures.read(path), noise(4, 6, 3)[::-1, ::-1])


def test_tags_that_cannot_be_read_turn_nothing(tmp_path):
    path = saved(tmp_path / "a.jpg", noise(8, 6, 3), exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    assert pictures.read(path).shape == (8, 6, 3)


RAMP = np.arange(40 * 48).reshape(40, 48)


@pytest.mark.parametrize(
    ("values", "white"),
    [
        (np.uint16(RAMP * 2), 4095),  # 12 bits in a file of 16
        (np.uint16(RAMP * 34), 65535),
        (np.int32(RAMP % 256), 255),
        (np.int32(RAMP % 1000), 1023),
        (np.int32(RAMP * 1000), 1919 * 1000),  # more than 16 bits: its largest value
        (np.int32(RAMP % 6), 5),  # far below 255: its largest value
        (np.float32(RAMP / 1919), 1),
        (np.float32(RAMP / 4000), 1),
        (np.float32(RAMP % 256), 255),
        (np.float32(RAMP / 500), 1919 / 500),
        (np.float32(RAMP * 0), 1),
    ],
)
def test_black_is_0_and_white_the_end_of_the_range(tmp_path, values, white):
    found = pictures.read(saved(tmp_path / "a.tif", values))
    expected = np.floor(np.float64(values) * 255 / white + 0.5)
    assert abs(found - expected[..., None]).max() <= 1
    assert (found == expected[..., None]).mean() > 0.99


@pytest.mark.parametrize(
    ("values", "black", "white"),
    [
        (np.linspace(-1, 1, 1920, dtype="float32"), -1, 1),
        (np.linspace(-0.5, 0.5, 1920, dtype="float32"), -1, 1),
        (np.linspace(-1000, 3000, 1920, dtype="float32"), -1000, 3000),
        (np.int32(np.linspace(-1024, 3071, 1920)), -1024, 3071),
        (np.full(1920, -7, "int32"), -7, 1e9),
    ],
)
def test_negative_values_are_not_cut(tmp_path, values, black, white):
    found = pictures.read(saved(tmp_path / "a.tif", values.reshape(40, 48)))
    expected = (np.float64(values) - black) * 255 / (white - black)
    assert abs(found.reshape(-1, 3) - expected[:, None]).max() <= 0.51


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_a_reason(tmp_path, value):
    values = np.zeros((4, 4), "float32")
    values[1, 2] = value
    with pytest.raises(pictures.Unreadable, match="not finite"):
        pictures.read(saved(tmp_path / "a.tif", values))


def test_transparency_lies_over_white_whatever_the_mode(tmp_path):
    grey = np.array([[9, 10]], np.uint8)
    files = {
        "rgba": (
            np.array([[[255, 0, 0, 0], [0, 0, 0, 128]]], np.uint8),
            {},
            [[255] * 3, [127] * 3],
        ),
        "grey": (grey, {"transparency": 9}, [[255] * 3, [10] * 3]),
        "deep": (np.uint16([[2313, 2570]]), {"transparency": 2313}, [[255] * 3, [160] * 3]),
    }
    for name, (values, options, expected) in files.items():
        found = pictures.read(saved(tmp_path / f"{name}.png", values, **options))[0].tolist()
        assert [a for a, b in zip(found, expected) if b] == [b for b in expected if b], name


def odd_folder(root):
    """3 pictures that can be used and 6 that cannot: {name: a part of the reason}."""
    root.mkdir()
    plain = saved(root / "plain.png", noise(40, 48, 3)).read_bytes()
    saved(root / "odd_exif.jpg", noise(40, 48, 3), exif=exif(ROTATED, (282, 7, 4, b"abcd")))
    (root / os.fsdecode(b"latin_\xe9.png")).write_bytes(plain)
    (root / "cut.png").write_bytes(plain[: len(plain) // 2])
    (root / "empty.jpg").write_bytes(b"")
    (root / "text.gif").write_text("no picture")
    saved(root / "nan.tif", np.full((4, 4), np.nan, "float32"))
    text = PngImagePlugin.PngInfo()
    text.add_text("k", "x" * 2_000_000, zip=True)
    saved(root / "text.png", noise(4, 4, 3), pnginfo=text)
    Image.new("1", (14000, 14000)).save(root / "huge.png")
    return {
        "cut.png": "truncated",
        "empty.jpg": "empty",
        "text.gif": "no picture in a format",
        "nan.tif": "not finite",
        "text.png": "text chunk is too large",
        "huge.png": "196 million pixels are too many",
    }


def test_each_skipped_file_has_its_reason_and_the_count_comes_with_the_cache(tmp_path, caplog):
    reasons = odd_folder(tmp_path / "odd")
    source = {"name": f"folder:{tmp_path / 'odd'}", "image_size": 8, "data_dir": tmp_path}
    assert datasets.arrays(**source)["image"].shape == (3, 8, 8, 3)
    lines = caplog.text.splitlines()
    for name, reason in reasons.items():
        (line,) = [line for line in lines if f"/{name}" in line]
        assert reason in line
    assert sum("skipped 6 of 9 files" in line for line in lines) == 1
    caplog.clear()
    assert datasets.arrays(**source)["image"].shape == (3, 8, 8, 3)
    assert sum("skipped 6 of 9 files" in line for line in caplog.text.splitlines()) == 1
    assert "cut.png" not in caplog.text


def test_names_that_are_not_utf8_are_logged_as_escapes(tmp_path, caplog):
    (tmp_path / "d").mkdir()
    saved(tmp_path / "d" / "a.png", noise(4, 4, 3))
    (tmp_path / "d" / os.fsdecode(b"latin_\xe9.png")).write_bytes(b"")
    datasets.arrays(f"folder:{tmp_path / 'd'}", image_size=8, data_dir=tmp_path)
    assert r"latin_\udce9.png" in caplog.text
    caplog.text.encode()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("odd"), TypeError("odd")])
def test_any_exception_of_one_file_is_a_reason(tmp_path, monkeypatch, error):
    path = saved(tmp_path / "a.png", noise(4, 4, 3))

    def fail(self):
        raise error

    monkeypatch.setattr(Image.Image, "load", fail)
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", fail)
    with pytest.raises(pictures.Unreadable, match="memory|odd"):
        pictures.read(path)


def test_no_warning_of_the_library_is_seen(tmp_path, capfd):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[305] = "x"
    path = saved(tmp_path / "a.tif", noise(8, 8, 3), tiffinfo=tags, compression="tiff_lzw")
    data = bytearray(path.read_bytes())
    data[200:230] = bytes(30)
    (tmp_path / "b.tif").write_bytes(data)
    Image.new("L", (10000, 9000)).save(tmp_path / "large.png")  # Pillow warns from 89 million on
    path = saved(tmp_path / "p.png", noise(8, 8, 3))
    Image.open(path).quantize(4).save(tmp_path / "p.png", transparency=bytes([0, 9, 99, 255]))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        assert pictures.read(tmp_path / "large.png").shape == (9000, 10000, 3)
        for name in ("p.png", "b.tif"):
            try:
                pictures.read(tmp_path / name)
            except pictures.Unreadable:
                continue
        assert warnings.filters == before
    assert seen == []
    assert capfd.readouterr() == ("", "")


def test_masks_and_their_pictures_are_read_as_they_are_stored(tmp_path):
    path = saved(tmp_path / "a.png", noise(4, 6), exif=exif(ROTATED)[6:])
    assert pictures.read(path).shape == (6, 4, 3)
    assert hep2.grey(path).shape == (4, 6)


def test_squares_are_of_the_upright_picture(tmp_path):
    root = tmp_path / "d"
    root.mkdir()
    path = saved(root / "a.jpg", noise(40, 48, 3), exif=exif(ROTATED))
    found = datasets.arrays(f"folder:{root}", image_size=40, data_dir=tmp_path)["image"][0]
    assert np.array_equal(found, resize.square(np.rot90(np.asarray(Image.open(path)), -1), 40))

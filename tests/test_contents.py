"""What identifies the files of a folder: names and bytes, and no time, place or size."""

import os
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from attention_zoo import datasets
from attention_zoo.datasets import contents, folder


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder of two classes."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number, name in enumerate(("cat/a.png", "cat/b.png", "dog/c.png")):
        path = tmp_path / "d" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 50 * number).save(path)
    return tmp_path / "d"


def identity(root):
    return datasets.identity(f"folder:{root}")


@pytest.fixture
def later(monkeypatch):
    """Sets the clock of the digests ahead, as if the files had been there for a while."""
    now = time.time
    return lambda: monkeypatch.setattr(contents.time, "time", lambda: now() + 10)


def test_neither_place_nor_time_is_part_of_the_identity(root, tmp_path, monkeypatch):
    first = identity(root)
    os.utime(root / "cat" / "a.png", (1, 1))
    assert identity(root) == first
    assert identity(f"{root}/") == first
    monkeypatch.chdir(tmp_path)
    assert identity("d") == identity("./d") == first
    shutil.copytree(root, tmp_path / "copy")
    assert identity(tmp_path / "copy") == first
    root.rename(tmp_path / "moved")
    assert identity(tmp_path / "moved") == first


def test_names_bytes_and_classes_are(root):
    seen = {identity(root)}
    (root / "cat" / "b.png").rename(root / "cat" / "z.png")
    seen.add(identity(root))
    (root / "cat" / "z.png").write_bytes((root / "dog" / "c.png").read_bytes())
    seen.add(identity(root))
    (root / "dog").rename(root / "cow")
    seen.add(identity(root))
    shutil.rmtree(root / "cow")
    seen.add(identity(root))
    assert len(seen) == 5


def test_other_classes_in_training_are_other_labels_in_test(tmp_path):
    for name in ("train/cat", "train/dog", "test/dog"):
        (tmp_path / "d" / name).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "d" / name / "a.png")
    source = {"name": f"folder:{tmp_path / 'd'}", "split": "test", "data_dir": tmp_path}
    assert datasets.arrays(**source)["label"].tolist() == [1]
    (tmp_path / "d" / "train" / "ant").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "d" / "train" / "ant" / "a.png")
    assert datasets.arrays(**source)["label"].tolist() == [2]


def test_changed_pixels_of_the_same_size_and_time_are_seen(root, later):
    path = root / "cat" / "a.png"
    values = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    bmp = root / "cat" / "a.bmp"
    Image.fromarray(values[0]).save(bmp)
    path.unlink()
    times = bmp.stat().st_atime_ns, bmp.stat().st_mtime_ns
    first = identity(root)  # just written: read again the next time
    Image.fromarray(values[1]).save(bmp)
    os.utime(bmp, ns=times)
    second = identity(root)
    assert second != first
    later()
    assert identity(root) == second  # remembered
    Image.fromarray(values[0]).save(bmp)
    os.utime(bmp, ns=times)
    assert identity(root) == first
    other = root.parent / "other.bmp"
    Image.fromarray(values[1]).save(other)
    os.utime(other, ns=times)
    os.replace(other, bmp)
    assert identity(root) == second


def test_a_second_look_reads_no_file(root, later, monkeypatch):
    later()
    reads = []
    digest = contents.hashlib.file_digest
    monkeypatch.setattr(
        contents.hashlib, "file_digest", lambda *args: reads.append(args) or digest(*args)
    )
    first = identity(root)
    assert len(reads) == 3
    assert identity(root) == first and len(reads) == 3
    Image.new("L", (8, 8), 9).save(root / "cat" / "new.png")
    assert identity(root) != first and len(reads) == 4


def test_splits_of_one_folder_share_its_memory(root, later, monkeypatch):
    later()
    names = ["cat/a.png", "cat/b.png", "dog/c.png"]
    first = [contents.digest(root, part) for part in (names[:2], names[2:], names)]
    assert len(set(first)) == 3
    monkeypatch.setattr(contents, "_sha256", None)
    assert [contents.digest(root, part) for part in (names[:2], names[2:], names)] == first


def test_a_data_set_looks_at_its_folder_once(root, tmp_path, monkeypatch):
    walks = []
    scan = folder.walk.walk
    monkeypatch.setattr(
        folder.walk, "walk", lambda root, *but: walks.append(root) or scan(root, *but)
    )
    data = datasets.open_dataset(f"folder:{root}", 8, tmp_path)
    for _ in range(3):
        data.arrays("train"), data.identity("train"), data.classes, data.has_split("test")
    assert len(walks) == 1


def test_without_a_place_to_remember_files_are_read_each_time(root, tmp_path, later, monkeypatch):
    later()
    first = identity(root)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert identity(root) == first
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for memory in (tmp_path / "cache" / "attention_zoo" / "digests").iterdir():
        memory.write_bytes(b"\xff\0damaged")
    assert identity(root) == first


def test_names_that_are_not_utf8_have_an_identity(root):
    first = identity(root)
    shutil.copy(root / "cat" / "a.png", root / "cat" / os.fsdecode(b"latin_\xe9.png"))
    assert identity(root) != first
    assert folder.Folder(root, "train").legacy_key().startswith("folder-")


def test_the_key_of_earlier_versions_is_of_paths_sizes_and_times(tmp_path):
    """The literal value was computed by the version before content identified data."""
    (tmp_path / "x").mkdir()
    path = tmp_path / "x" / "a.png"
    path.write_bytes(b"12345")
    os.utime(path, ns=(0, 1_600_000_000_123_456_789))

    class Root(type(tmp_path)):
        def resolve(self):
            return type(tmp_path)("/data/x")

    found = contents.legacy(Root(path.parent), [Root(path)])
    assert found == "27fe7b7f2624f1c1"

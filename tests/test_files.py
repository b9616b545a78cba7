"""Files and folders that are whole or not there."""

import os
import threading
import time

import pytest

from attention_zoo.common.errors import UsageError
from attention_zoo.common.files import (
    cache_folder,
    new_folder,
    replace_file,
    write_file,
    write_output,
)


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "a"
    write_file(path, b"old")

    def half(file):
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_file(path, half)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_file_is_on_disk_before_it_takes_the_place_of_the_old_one(tmp_path, monkeypatch):
    path, calls = tmp_path / "a", []
    for name in ("fsync", "replace"):
        call = getattr(os, name)

        def noted(*args, name=name, call=call):
            sizes = [p.stat().st_size for p in tmp_path.glob("*.part")]
            calls.append((name, sizes))
            return call(*args)

        monkeypatch.setattr(os, name, noted)
    write_file(path, b"new")
    assert calls == [("fsync", [3]), ("replace", [3])]
    assert path.read_bytes() == b"new"


def test_threads_that_write_one_file_leave_one_whole(tmp_path):
    path, texts = tmp_path / "a", [bytes([i]) * 10**6 for i in range(6)]
    threads = [threading.Thread(target=write_file, args=(path, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in texts
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_an_output_that_cannot_be_written_is_the_user_s_mistake(tmp_path):
    write_output(tmp_path / "new" / "a", b"1")
    assert (tmp_path / "new" / "a").read_bytes() == b"1"
    with pytest.raises(UsageError, match="cannot write .*give another --output"):
        write_output(tmp_path / "new" / "a" / "b", b"1")


def test_a_new_folder_is_there_at_the_end_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "data"
    with pytest.raises(ZeroDivisionError), new_folder(path) as folder:
        (folder / "a").write_text("1")
        raise ZeroDivisionError
    assert list(path.parent.iterdir()) == []
    with new_folder(path) as folder:
        (folder / "a").write_text("1")
        assert not path.exists()
    assert (path / "a").read_text() == "1"
    assert path.stat().st_mode & 0o777 == 0o755
    assert [p.name for p in path.parent.iterdir()] == ["data"]


def test_of_two_new_folders_the_first_stays(tmp_path):
    path = tmp_path / "data"
    with new_folder(path) as first, new_folder(path) as second:
        (first / "a").write_text("first")
        (second / "a").write_text("second")
    assert (path / "a").read_text() == "second"  # the inner block ends first
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


def test_leftovers_beside_a_new_folder_are_removed_a_day_later(tmp_path):
    names = (".data-old", ".data-new", ".other-old")
    for name in names:
        (tmp_path / name).mkdir()
    for name in (".data-old", ".other-old"):
        os.utime(tmp_path / name, (time.time() - 90_000,) * 2)
    with new_folder(tmp_path / "data"):
        pass
    assert {p.name for p in tmp_path.iterdir()} == {".data-new", ".other-old", "data"}


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "attention_zoo"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "attention_zoo"

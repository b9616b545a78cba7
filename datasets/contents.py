"""What identifies files: their names and bytes, remembered so that a second look is cheap."""

import contextlib
import hashlib
import os
import time

from ..common.files import cache_folder, write_file

YOUNG = 2.0  # seconds: file systems give two changes within this time the same stamp
UNREADABLE = b"0" * 64


def digest(root, names, more=""):
    """16 hexadecimal digits that change when the bytes of files below a folder do, their names, or
    `more`. names: relative to the folder.

    A file whose size, inode, mtime and ctime are those of an earlier look is not read again: no
    program can set ctime, so that a file with other bytes has another one. What was changed just
    before it was read is read again the next time.
    """
    memory = cache_folder() / "digests" / hashlib.sha256(os.fsencode(root.resolve())).hexdigest()
    known, seen = _recall(memory), {}
    whole = hashlib.sha256(more.encode("utf-8", "replace"))
    for name in names:
        path, encoded = f"{root}/{name}", os.fsencode(name)
        try:
            status = os.stat(path)
            stamps = status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns
            key = b"%d %d %d %d %s" % (*stamps, encoded)
            settled, value = True, known.get(key)
            if value is None:
                settled = max(status.st_mtime, status.st_ctime) < time.time() - YOUNG
                value = _sha256(path)
            if settled:
                seen[key] = value
        except OSError:
            value = UNREADABLE
        whole.update(b"%s\0%s" % (encoded, value))
    if not seen.keys() <= known.keys():
        read = {_name(key) for key in seen}
        others = {key: value for key, value in known.items() if _name(key) not in read}
        records = b"\0".join(value + key for key, value in (others | seen).items())
        with contextlib.suppress(OSError):  # without a memory the files are read each time
            memory.parent.mkdir(parents=True, exist_ok=True)
            write_file(memory, records)
    return whole.hexdigest()[:16]


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest().encode()


def _name(key):
    """The file's name in a key of the memory, after the four stamps."""
    return key.split(b" ", 4)[-1]


def _recall(memory):
    """{stamps and name: sha256} of an earlier look at a folder."""
    try:
        records = memory.read_bytes().split(b"\0")
        return {record[64:]: record[:64] for record in records}
    except OSError:
        return {}


def legacy(root, files, more=""):
    """The digest of earlier versions, of paths, sizes and times. Run directories record it."""
    listing = "\n".join(
        f"{p.relative_to(root)} {p.stat().st_size} {p.stat().st_mtime_ns}"
        for p in files
        if p.is_file()
    )
    return hashlib.sha256(os.fsencode(f"{root.resolve()}\n{listing}{more}")).hexdigest()[:16]

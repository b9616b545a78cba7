"""Files that are either the old ones or the whole new ones, and where caches lie."""

import contextlib
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

from .errors import UsageError


def write_file(path, data):
    """Writes bytes so that the file is either the old one or the whole new one."""
    replace_file(path, lambda file: file.write(data))


def replace_file(path, write):
    """Calls write(file) on a temporary file beside path, and moves it in place once it is on disk.

    If write raises, the old file stays and the temporary one is removed.
    """
    path = Path(path)
    beside = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        with open(beside, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:  # also a signal's
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


@contextlib.contextmanager
def new_folder(path):
    """A folder beside path to write into, which is moved to path when the block ends.

    If the block raises, path is not made. If another process has made path meanwhile, that one
    stays. What a killed process has left beside path is removed a day later.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{path.name}-"
    for old in path.parent.iterdir():
        with contextlib.suppress(OSError):  # another process removes it too
            if old.name.startswith(prefix) and time.time() - old.stat().st_mtime > 86400:
                shutil.rmtree(old)
    with tempfile.TemporaryDirectory(
        prefix=prefix, dir=path.parent, ignore_cleanup_errors=True
    ) as beside:
        yield Path(beside)
        os.chmod(beside, 0o755)
        try:
            os.rename(beside, path)
        except OSError:
            if not path.is_dir():
                raise


def printable(value):
    """The text of a value. Bytes of a file name that are not UTF-8 become escapes: any stream and
    any page takes them."""
    return str(value).encode("utf-8", "backslashreplace").decode()


def write_output(path, data):
    """Writes a file of bytes or text that the user asked for, and its folders. Raises UsageError if
    it cannot."""
    path = Path(path)
    with _outputs(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, data if isinstance(data, bytes) else printable(data).encode())


def make_output(folder):
    """Makes the folder that the user asked for, before the work of minutes begins. Raises
    UsageError if it cannot."""
    with _outputs(folder):
        Path(folder).mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def _outputs(path):
    """UsageError in place of what goes wrong in writing to a path that the user gave."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot write {path} ({error}): give another --output") from None


def user_path(path):
    """The Path that a user names, with the home directory in place of a leading `~` or `~name`.

    Raises UsageError where there is no such home directory.
    """
    expanded = Path(os.path.expanduser(path))
    is_known = expanded.is_absolute() and os.environ.get("HOME") != ""
    if str(path).startswith("~") and not is_known:
        raise UsageError(f"{path} names a home directory that is not known: write the whole path")
    return expanded


def cache_folder():
    """The folder for downloads: $XDG_CACHE_HOME/attention_zoo, if that is an absolute path, or
    ~/.cache/attention_zoo; without a home directory in the folder for temporary files."""
    home = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not home.is_absolute():
        try:
            home = user_path("~/.cache")
        except UsageError:
            home = Path(tempfile.gettempdir())
    return home / "attention_zoo"

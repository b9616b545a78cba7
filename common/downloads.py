"""Files from addresses: whole, checked by their digest, kept in a folder. pooch does the work."""

import functools
import shutil
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

TIMEOUT = 30  # seconds without a byte


class DownloadError(Exception):
    """A file that could not be downloaded completely; the message is one short line.

    answer: what the server said instead (requests.Response), None where it did not answer.
    """

    def __init__(self, line, answer=None):
        super().__init__(line)
        self.answer = answer


class DigestError(DownloadError):
    """A file that is another one than its digest says."""


def download(address, folder, name, sha256=None, headers=None):
    """-> the Path folder/name of the file at an address, https://, http:// or file://.

    With sha256 a file that is there already and has this digest is not downloaded again. Without,
    any file that is there is taken. A file that does not come, or is another one, raises
    DownloadError, and none is left; a folder that cannot be written raises OSError. Progress is on
    stderr where that is a terminal. headers: {name: value} of the request.
    """
    import pooch

    Path(folder).mkdir(parents=True, exist_ok=True)
    pooch.get_logger().setLevel("WARNING")
    digest = None if sha256 is None else f"sha256:{sha256}"
    fetch = functools.partial(_fetch, headers=headers)
    try:
        path = pooch.retrieve(address, digest, fname=name, path=folder, downloader=fetch)
    except ValueError:  # only the digest's, see _fetch
        raise DigestError(f"{address} is not the published file: its sha256 differs") from None
    return Path(path)


def _fetch(address, path, _, headers):
    """Writes the file at an address to a path. What the network raises becomes DownloadError."""
    import pooch
    import requests
    from tqdm import tqdm

    bar = tqdm(
        total=1,  # pooch sets the number of bytes
        desc=address.rpartition("/")[2],
        unit="B",
        unit_scale=True,
        leave=False,
        file=sys.stderr,
        disable=None,  # where it is no terminal
    )
    try:
        if address.startswith("file:"):
            with urllib.request.urlopen(address) as source, open(path, "wb") as file:
                shutil.copyfileobj(source, file)
        else:
            with bar:
                pooch.HTTPDownloader(
                    progressbar=bar, timeout=TIMEOUT, chunk_size=2**16, headers=headers
                )(address, path, None)
    except (requests.RequestException, urllib.error.URLError, ValueError) as error:
        line = short(error)
        if type(error) in (requests.ConnectionError, requests.ConnectTimeout):
            line = f"{urlsplit(address).netloc} does not answer"
        raise DownloadError(line, getattr(error, "response", None)) from None


def short(error):
    """What an exception says, in one short line."""
    return " ".join(str(error).split())[:200] or type(error).__name__

"""Files of the Hugging Face hub, named hf://OWNER/NAME/FILE or hf://OWNER/NAME/FILE@REVISION.

A file is one request, GET /OWNER/NAME/resolve/REVISION/FILE. `downloads` makes it as it makes any
other, and the cache and the digests are those of other addresses, so that the hub's own client with
its dependencies and its second cache is not needed.
"""

import os
import re
from urllib.parse import quote

from .errors import UsageError

ENDPOINT = "https://huggingface.co"
BRANCH = "main"  # the revision where none is given


def split(address):
    """("OWNER/NAME", what follows it or "", revision or "") of an address hf://... Another form
    raises UsageError."""
    form = r"hf://([\w.-]+/[\w.-]+)(?:/([^@]*))?(?:@(.+))?"
    if not (found := re.fullmatch(form, address)):
        raise UsageError(
            f"{address}: takes hf://OWNER/NAME/TAG, or hf://OWNER/NAME/TAG@REVISION with a branch, "
            "a tag or a commit of the repository"
        )
    return found[1], found[2] or "", found[3] or ""


def request(address):
    """(https:// address, headers) of a file. $HF_ENDPOINT takes the place of ENDPOINT; $HF_TOKEN
    opens private repositories."""
    repository, file, revision = split(address)
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or ENDPOINT
    place = f"{repository}/resolve/{quote(revision or BRANCH, safe='')}/{quote(file)}"
    token = os.environ.get("HF_TOKEN", "").strip()
    return f"{endpoint}/{place}", {"Authorization": f"Bearer {token}"} if token else {}


def is_commit(address):
    """True if an address is of one commit, whose files never change."""
    return re.fullmatch("[0-9a-f]{40}", split(address)[2]) is not None


def reason(address, error):
    """Why a file could not be downloaded, as a sentence. error: the DownloadError."""
    repository, file, revision = split(address)
    code = "" if error.answer is None else error.answer.headers.get("X-Error-Code", "")
    if code == "EntryNotFound":
        return f"hf://{repository} holds no {file}: it is not a folder that --mode=publish wrote"
    if code == "RevisionNotFound":
        return f"hf://{repository} has no revision {revision or BRANCH}: see its list of commits"
    if error.answer is not None and error.answer.status_code in (401, 403, 404):
        return (
            f"hf://{repository} does not exist or is private: check its name, and HF_TOKEN if it "
            "is private"
        )
    return f"{address} could not be downloaded: {error}"

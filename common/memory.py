"""The memory of this process."""

import contextlib
import sys
from pathlib import Path

SELF = Path("/proc/self")  # Linux


def peak_megabytes():
    """The peak resident memory of this process since `reset_peak`, or else so far, in MiB,
    including libraries; None where the system does not tell."""
    with contextlib.suppress(OSError, IndexError):  # Linux, where ru_maxrss includes the parent's
        return int((SELF / "status").read_text().split("VmHWM:")[1].split()[0]) / 2**10
    with contextlib.suppress(ImportError):  # there is none on Windows
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 2**10)
    return None


def reset_peak():
    """Has the peak of `peak_megabytes` begin anew, on Linux; elsewhere it does nothing."""
    with contextlib.suppress(OSError):
        (SELF / "clear_refs").write_text("5")

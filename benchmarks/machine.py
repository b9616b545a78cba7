"""The machine that is measured: what it is, how much memory a process took, how fast it is."""

import contextlib
import datetime
import os
import platform
import resource
import sys
import time
from importlib import metadata
from pathlib import Path


def described():
    """What a result depends on: CPU, cores, memory, versions, and how busy it was before."""
    from attention_zoo.experiments.versions import versions

    found = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    with contextlib.suppress(OSError, IndexError):
        found["cpu"] = Path("/proc/cpuinfo").read_text().split("model name\t: ")[1].split("\n")[0]
    with contextlib.suppress(AttributeError):  # not there on macOS
        found["cores"] = len(os.sched_getaffinity(0))
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    found |= {"memory_gib": round(pages / 2**30, 1), "system": platform.platform()}
    found["load"] = round(os.getloadavg()[0], 2)
    found["date"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    for package in ("torch", "scipy"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found | versions()


def peak_megabytes():
    """The most memory, in MiB, that this process held so far (resident, libraries included)."""
    with contextlib.suppress(OSError, IndexError):  # Linux; ru_maxrss there counts the parent's
        return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def convolution_peak(batch=64):
    """GFLOP/s of the fastest 3x3 convolution among a few shapes, forward."""
    import tensorflow as tf

    best = 0
    for size, channels in ((32, 64), (16, 128), (16, 256), (8, 256)):
        x = tf.random.stateless_normal((batch, size, size, channels), (0, 0))
        k = tf.random.stateless_normal((3, 3, channels, channels), (0, 1))
        convolve = tf.function(lambda x, k: tf.nn.conv2d(x, k, 1, "SAME"))
        convolve(x, k)
        for _ in range(10):
            begin = time.perf_counter()
            convolve(x, k).numpy()
            seconds = time.perf_counter() - begin
            best = max(best, 2 * 9 * channels**2 * size**2 * batch / seconds / 1e9)
    return best

"""The machine: its description, its memory, the speed of convolutions."""

import contextlib
import datetime
import os
import platform
import time
from importlib import metadata
from pathlib import Path

from attention_zoo.common.memory import peak_megabytes  # noqa: F401


def describe():
    """{name: value}: CPU, cores, memory, load, versions."""
    from attention_zoo.experiments.versions import versions

    about = {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    with contextlib.suppress(OSError, IndexError):
        about["cpu"] = Path("/proc/cpuinfo").read_text().split("model name\t: ")[1].split("\n")[0]
    with contextlib.suppress(AttributeError):  # not there on macOS
        about["cores"] = len(os.sched_getaffinity(0))
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    about |= {"memory_gib": round(pages / 2**30, 1), "system": platform.platform()}
    about["load"] = round(os.getloadavg()[0], 2)
    about["date"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    for package in ("torch", "scipy"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            about[package] = metadata.version(package)
    return about | versions()


def convolution_peak(batch=64, bfloat16=False):
    """GFLOP/s of the fastest 3x3 convolution of a few shapes, forward pass, in float32 or
    bfloat16."""
    import tensorflow as tf

    best = 0
    for size, channels in ((32, 64), (16, 128), (16, 256), (8, 256)):
        x = tf.random.stateless_normal((batch, size, size, channels), (0, 0))
        k = tf.random.stateless_normal((3, 3, channels, channels), (0, 1))
        if bfloat16:
            x, k = tf.cast(x, tf.bfloat16), tf.cast(k, tf.bfloat16)
        convolve = tf.function(lambda x, k: tf.nn.conv2d(x, k, 1, "SAME"))
        convolve(x, k)
        for _ in range(10):
            begin = time.perf_counter()
            convolve(x, k).numpy()
            seconds = time.perf_counter() - begin
            best = max(best, 2 * 9 * channels**2 * size**2 * batch / seconds / 1e9)
    return best

"""The fastest way to bfloat16 on each device."""

from pathlib import Path

from absl import logging

from ..common.errors import UsageError
from ..zoo.layers.precision import accelerated

INSTRUCTIONS = {"avx512_bf16", "amx_bf16", "bf16"}  # names of Linux for those of x86 and of Arm


def policy(config):
    """(the Keras policy of a run's trained networks, whether its graph is rewritten to bfloat16).

    config: a RunConfig. bfloat16 is Keras' policy on GPUs and TPUs. On CPUs with instructions for
    it, it is the graph compiler's rewrite, in which variables, losses and optimisers stay float32.
    On other CPUs it would be slower than float32, which is used; a warning says so.
    """
    if config.precision == "float32":
        return "float32", False
    if config.precision == "float16" or accelerated():
        return f"mixed_{config.precision}", False
    if config.jit:
        raise UsageError("bfloat16 on a CPU cannot be combined with --jit: leave out one of them")
    if not INSTRUCTIONS & instructions():
        logging.warning("this processor has no bfloat16 instructions: float32 is used")
        return "float32", False
    return "float32", True


def instructions():
    """The instruction sets of this processor by Linux' names; an empty set on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    pairs = (line.partition(":") for line in lines)
    return {
        name
        for key, _, names in pairs
        if key.strip() in ("flags", "Features")
        for name in names.split()
    }

"""Half precision: the fastest way to bfloat16 on each device.

On GPUs and TPUs it is Keras' policy mixed_bfloat16. On CPUs with bfloat16 instructions it is the
graph compiler's rewrite (trainers.base.Trainer.bfloat16_graph): convolutions and products and what
lies between them become bfloat16, variables, losses and optimisers stay float32, and the networks
are those of float32. On other CPUs bfloat16 would be slower than float32.
"""

from pathlib import Path

import tensorflow as tf
from absl import logging

INSTRUCTIONS = {"avx512_bf16", "amx_bf16", "bf16"}  # of x86, of Arm


def bfloat16_way():
    """ "policy", "graph", or None where bfloat16 is no faster than float32."""
    if tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("TPU"):
        return "policy"
    return "graph" if INSTRUCTIONS & cpu_flags() else None


def cpu_flags():
    """The instruction sets of this processor, as Linux names them; empty where it is not known."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    named = (line.partition(":") for line in lines)
    return {
        f
        for name, _, flags in named
        if name.strip() in ("flags", "Features")
        for f in flags.split()
    }


def policy_of(precision):
    """(Keras' policy of the trained networks or None, whether the graph is rewritten) of a
    precision of RunConfig."""
    if precision == "float16":
        return "mixed_float16", False
    if precision == "bfloat16":
        way = bfloat16_way()
        if way is None:
            logging.warning("this processor has no bfloat16 instructions: float32 is used")
        return ("mixed_bfloat16" if way == "policy" else None), way == "graph"
    return None, False

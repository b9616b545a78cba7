"""Seconds and memory of the Frechet distance, compared with the usual formula in SciPy.

    python -m benchmarks.fid [--count=10000] [--dims=2048] [--rounds=3]

The usual formula is numpy.mean, numpy.cov and scipy.linalg.sqrtm of the product of the covariances.
Each measurement runs in a new process, which makes its peak memory (resident, including Python and
libraries) independent of the others; all read the same files, and the sides take turns. The stage
"distance" starts from the moments, "all" from the features.
"""

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import machine

SIDES = ("ours", "usual")
STAGES = {"distance": "moments to distance", "all": "features to distance"}


def make(folder, count, dims):
    """Writes two sets of correlated features (count, dims) and their moments."""
    import numpy as np

    for i in range(2):
        rng = np.random.default_rng([0, i])
        mix = rng.normal(size=(dims, dims)) / np.arange(1, dims + 1)[:, None] ** 0.5
        features = np.maximum(rng.normal(size=(count, dims)) @ mix + 0.1 * i, 0)
        np.save(folder / f"features_{i}.npy", features)
        np.save(folder / f"mean_{i}.npy", features.mean(0))
        np.save(folder / f"cov_{i}.npy", np.cov(features, rowvar=False))


def ours():
    """Our two functions: features -> moments; the moments of both sets -> distance."""
    from attention_zoo.evaluate import fid

    return fid.moments, fid.frechet_distance


def usual():
    """The same two functions in their usual form."""
    import numpy as np
    import scipy.linalg

    def moments(features):
        return np.mean(features, axis=0), np.cov(features, rowvar=False)

    def distance(mean_1, cov_1, mean_2, cov_2):
        root = np.real(scipy.linalg.sqrtm(cov_1 @ cov_2))
        gap = mean_1 - mean_2
        return float(gap @ gap + np.trace(cov_1) + np.trace(cov_2) - 2 * np.trace(root))

    return moments, distance


def work(side, stage, folder):
    """Measures one side once, in this process: {"seconds", "megabytes", "value"} on stdout."""
    import numpy as np

    moments, distance = {"ours": ours, "usual": usual}[side]()
    if stage == "distance":
        names = [f"{name}_{i}.npy" for i in range(2) for name in ("mean", "cov")]
        inputs = [np.load(folder / name) for name in names]
        begin = time.perf_counter()
    else:
        begin = time.perf_counter()
        inputs = [x for i in range(2) for x in moments(np.load(folder / f"features_{i}.npy"))]
    value = distance(*inputs)
    seconds = time.perf_counter() - begin
    result = {"seconds": seconds, "megabytes": machine.peak_megabytes(), "value": value}
    print(json.dumps(result))


def run_process(folder, *arguments):
    """The output of this program in a new process with the arguments."""
    command = [sys.executable, "-m", "benchmarks.fid", f"--folder={folder}", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"benchmark: {' '.join(arguments)} ended with code {done.returncode}")
    return done.stdout


def show(values, digits):
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def measure(count, dims, rounds, sides=SIDES):
    """{(stage, side): [{"seconds", "megabytes", "value"} of each round]}."""
    measured = {(stage, side): [] for stage in STAGES for side in sides}
    with tempfile.TemporaryDirectory() as folder:
        run_process(folder, "--work=make", f"--count={count}", f"--dims={dims}")
        for number in range(rounds):
            for stage in STAGES:
                for side in sides[:: 1 if number % 2 == 0 else -1]:
                    line = run_process(folder, f"--work={side}", f"--stage={stage}")
                    measured[stage, side].append(json.loads(line))
    return measured


def report(count, dims, rounds):
    """Prints the seconds, memory, values and ratios of each stage."""
    measured = measure(count, dims, rounds)
    print(f"{count} x {dims} features twice, {rounds} rounds: median (min to max)")
    for stage in STAGES:
        print(STAGES[stage])
        for side in SIDES:
            seconds, peaks = (
                [r[key] for r in measured[stage, side]] for key in ("seconds", "megabytes")
            )
            print(f"  {side:<6} {show(seconds, 2)} s, peak {show(peaks, 0)} MiB", end=", ")
            print(f"value {measured[stage, side][0]['value']:.9g}")
        for key in ("seconds", "megabytes"):
            pairs = zip(measured[stage, "usual"], measured[stage, "ours"])
            print(f"  usual / ours, {key}: {show([a[key] / b[key] for a, b in pairs], 2)}")


def run(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10000, help="number of features in each set")
    parser.add_argument("--dims", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", choices=("make", *SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    flags = parser.parse_args(arguments)
    if flags.work == "make":
        return make(flags.folder, flags.count, flags.dims)
    if flags.work:
        return work(flags.work, flags.stage, flags.folder)
    if importlib.util.find_spec("scipy") is None:
        raise SystemExit("benchmark: the usual formula needs SciPy: pip install scipy")
    return report(flags.count, flags.dims, flags.rounds)


if __name__ == "__main__":
    run()

"""Runs all benchmarks: steps, replicas, input, the Frechet distance, an exported model.

    python -m benchmarks [--model=NAME ...] [--part=step ...] [--rounds=9] [--output=results.jsonl]
    python -m benchmarks --compare OLD NEW      # two files of results: noise or change
    python -m benchmarks --table FILE

Each result is written to the file as soon as it is measured (format: benchmarks.results). If a part
fails, its error is printed, the others are measured, and the exit status is 1.
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

from attention_zoo.common.quiet import import_tensorflow

from . import fid, machine, results, serving, train_step, waiting

REPLICAS = ("ours", "ours 2", "ours 4")


def title(config):
    size = config.image_size
    return f"{config.model}, {size} x {size}, batch {config.batch_size}"


def rows(name, measured):
    """The results of train_step.measure as rows."""
    return [
        {"name": name, "side": side, "unit": "images/s", "rounds": values["rates"]}
        | {"megabytes": round(values["megabytes"])}
        for side, values in measured.items()
    ]


def step(model, flags):
    """The training step of a model on all sides in both precisions, the ratio of ours in bfloat16
    to ours in float32, and the convolution peaks after it."""
    from . import flops

    config, ending = train_step.config_for(model), train_step.BFLOAT16
    measured = train_step.measure(config, flags.rounds, flags.steps, train_step.sides())
    found, peaks = [], []
    for precision in ("", ending):
        sides = [side for side in measured if side.endswith(ending) == bool(precision)]
        own = rows(
            f"{title(config)}{precision}", {s.removesuffix(ending): measured[s] for s in sides}
        )
        values = [machine.convolution_peak(bfloat16=bool(precision)) for _ in range(3)]
        own[0] |= {"flops": flops.per_image(config), "peak": max(values)}
        name = f"convolution peak{precision} after {model}"
        peaks.append({"name": name, "side": "machine", "unit": "GFLOP/s", "rounds": values})
        found += own
    ratios = train_step.comparisons(measured)[f"ours{ending} / ours"]
    name = f"{title(config)}, bfloat16 / float32"
    found.append({"name": name, "side": "ours", "unit": "times", "rounds": ratios})
    return found + peaks


def replicas(model, flags):
    """One, two and four replicas on logical CPUs, with the same global batch size."""
    config = train_step.config_for(model)
    sides = [s for s in REPLICAS if config.batch_size % int(s.partition(" ")[2] or 1) == 0]
    measured = train_step.measure(config, flags.rounds, flags.steps, sides)
    return rows(f"{title(config)}, replicas", measured)


def input_wait(model, flags):
    """The share of the time that a training spends waiting for its next batch."""
    rates = waiting.rates(model, flags.rounds, flags.steps or 20)
    name = f"waiting for input, {title(train_step.config_for(model))}"
    return [{"name": name, "side": "ours", "unit": "%", "rounds": rates}]


def frechet(_, flags):
    """The Frechet distance, and if SciPy is installed, the usual formula."""
    count, dims = 10_000, 2_048
    sides = fid.SIDES if importlib.util.find_spec("scipy") else fid.SIDES[:1]
    return [
        {
            "name": f"Frechet distance, {count} x {dims}, {fid.STAGES[stage]}",
            "side": side,
            "unit": "s",
            "rounds": [result["seconds"] for result in measured],
            "megabytes": round(max(result["megabytes"] for result in measured)),
        }
        for (stage, side), measured in fid.measure(count, dims, flags.rounds, sides).items()
    ]


def latency(call, rounds):
    """Milliseconds of a call in each round: the median of the calls of one second."""
    turns = [serving.measure(lambda: call, 1, 1.0)[0] for _ in range(rounds)]
    return [statistics.median(seconds) * 1000 for seconds in turns]


def export(_, flags):
    """Seconds of an export, and the latency of the exported model in this process."""
    rows = []

    def add(name, unit, rounds):
        rows.append({"name": name, "side": "ours", "unit": unit, "rounds": rounds})

    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "main.py", "--mode=export", "--model=ragan"]
        command += ["--weights=cifar10", f"--output={folder}"]
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        add("--mode=export, ragan", "s", [time.perf_counter() - begin])
        for batch in (1, 32):
            _, call = serving.load_call(Path(folder), "ragan", "generate", batch)
            add(f"exported ragan, generate, batch {batch}", "ms", latency(call, flags.rounds))
    return rows


PARTS = {  # name: (function, its models without --model)
    "step": (step, tuple(train_step.MODELS)),
    "replicas": (replicas, ("dcgan", "resnet18")),
    "input": (input_wait, ("dcgan", "attention_gan")),
    "fid": (frechet, ()),
    "export": (export, ()),
}


def write(flags):
    """Measures the selected parts into a file; returns the number of failures."""
    failed = 0
    with flags.output.open("w") as file:

        def add(line):
            file.write(json.dumps(line) + "\n")
            file.flush()

        add({"machine": machine.describe()})
        for part in flags.part or PARTS:
            measure, models = PARTS[part]
            for model in (flags.model or models) if models else (None,):
                print(f"measuring {part} {model or ''}", file=sys.stderr, flush=True)
                try:
                    for row in measure(model, flags):
                        add(row)
                except (Exception, SystemExit) as error:
                    failed += 1
                    print(f"{part} {model or ''} failed: {error}", file=sys.stderr)
    return failed


def run(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.splitlines()[0]
    )
    add = parser.add_argument
    add("--model", action="append", choices=train_step.MODELS)
    add("--part", action="append", choices=PARTS)
    add("--rounds", type=int, default=9)
    add("--steps", type=int, help="training steps per turn (default: two seconds)")
    add("--output", type=Path, default=Path("results.jsonl"))
    add("--compare", nargs=2, type=Path, metavar=("OLD", "NEW"))
    add("--table", type=Path, metavar="FILE")
    flags = parser.parse_args(arguments)
    failed = 0
    try:
        if flags.compare:
            lines = results.compare(*map(results.read, flags.compare))
        else:
            if not flags.table:
                import_tensorflow()
                failed = write(flags)
            about, measured = results.read(flags.table or flags.output)
            lines = [", ".join(f"{key} {value}" for key, value in about.items()), ""]
            lines += results.table(measured)
    except (OSError, ValueError) as error:
        raise SystemExit(f"benchmark: {error}") from None
    print("\n".join(lines))
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(run())

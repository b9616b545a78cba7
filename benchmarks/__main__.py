"""All of it in one table: steps, replicas, input, the Frechet distance, an exported model.

    python -m benchmarks [--model=NAME ...] [--part=step ...] [--rounds=9] [--output=results.jsonl]
    python -m benchmarks --compare OLD NEW      # of two such files: noise or change
    python -m benchmarks --table FILE

Results are written as they are found (benchmarks.results says how), the machine first. What fails
is named, the rest is measured, and the exit status is 1.
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


def named(config):
    size = config.image_size
    return f"{config.model}, {size} x {size}, batch {config.batch_size}"


def rows(name, found):
    """Results of train_step.measure."""
    return [
        {"name": name, "side": side, "unit": "images/s", "rounds": own["rates"]}
        | {"megabytes": round(own["megabytes"])}
        for side, own in found.items()
    ]


def step(model, flags):
    """A model's step, the sides taking turns, and the convolution peak after it."""
    from . import flops

    config = train_step.configured(model)
    found = train_step.measure(config, flags.rounds, flags.steps, train_step.sides())
    made, peaks = rows(named(config), found), [machine.convolution_peak() for _ in range(3)]
    made[0] |= {"flops": flops.per_image(config), "peak": max(peaks)}
    name = f"convolution peak after {model}"
    return [*made, {"name": name, "side": "machine", "unit": "GFLOP/s", "rounds": peaks}]


def replicas(model, flags):
    """One, two and four replicas on logical CPUs, of equal batches in all."""
    config = train_step.configured(model)
    sides = [s for s in REPLICAS if config.batch_size % int(s.partition(" ")[2] or 1) == 0]
    found = train_step.measure(config, flags.rounds, flags.steps, sides)
    return rows(f"{named(config)}, replicas", found)


def input_wait(model, flags):
    """The share of the time in which the step waits for its batch."""
    found = waiting.rates(model, flags.rounds, flags.steps or 20)
    name = f"waiting for input, {named(train_step.configured(model))}"
    return [{"name": name, "side": "ours", "unit": "%", "rounds": found}]


def frechet(_, flags):
    """The Frechet distance, beside the usual formula where SciPy is installed."""
    count, dims = 10_000, 2_048
    sides = fid.SIDES if importlib.util.find_spec("scipy") else fid.SIDES[:1]
    return [
        {
            "name": f"Frechet distance, {count} x {dims}, {fid.STAGES[stage]}",
            "side": side,
            "unit": "s",
            "rounds": [one["seconds"] for one in found],
            "megabytes": round(max(one["megabytes"] for one in found)),
        }
        for (stage, side), found in fid.measure(count, dims, flags.rounds, sides).items()
    ]


def latency(call, rounds):
    """Milliseconds of a call, the median of as many as fit into a second, of each round."""
    turns = [serving.measure(lambda: call, 1, 1.0)[0] for _ in range(rounds)]
    return [statistics.median(taken) * 1000 for taken in turns]


def export(_, flags):
    """Seconds that an export takes, and the latency of what was exported, in this process."""
    found = []

    def add(name, unit, rounds):
        found.append({"name": name, "side": "ours", "unit": unit, "rounds": rounds})

    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "main.py", "--mode=export", "--model=ragan"]
        command += ["--weights=cifar10", f"--output={folder}"]
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        add("--mode=export, ragan", "s", [time.perf_counter() - begin])
        for batch in (1, 32):
            _, call = serving.loaded(Path(folder), "ragan", "generate", batch)
            add(f"exported ragan, generate, batch {batch}", "ms", latency(call, flags.rounds))
    return found


PARTS = {  # what measures, and the models it takes where none are named
    "step": (step, tuple(train_step.MODELS)),
    "replicas": (replicas, ("dcgan", "resnet18")),
    "input": (input_wait, ("dcgan", "attention_gan")),
    "fid": (frechet, ()),
    "export": (export, ()),
}


def write(flags):
    """Measures all that is asked for into a file; returns how much of it failed."""
    failed = 0
    with flags.output.open("w") as file:

        def add(line):
            file.write(json.dumps(line) + "\n")
            file.flush()

        add({"machine": machine.described()})
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
    add("--steps", type=int, help="of training, a turn (default: as fill two seconds)")
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
            about, found = results.read(flags.table or flags.output)
            lines = [", ".join(f"{key} {value}" for key, value in about.items()), ""]
            lines += results.table(found)
    except (OSError, ValueError) as error:
        raise SystemExit(f"benchmark: {error}") from None
    print("\n".join(lines))
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(run())

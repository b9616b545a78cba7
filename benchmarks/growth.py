"""Seconds, memory and operations of a training step by image size, batch size and width.

    python -m benchmarks.growth [--model=dcgan ...] [--rounds=3] [--output=growth.png]

One of the three varies at a time, the others stay as in MODELS; each point is measured in a new
process. The slopes are exponents a in seconds ~ n^a, from a least-squares fit of the logarithms;
the arithmetic is that of benchmarks.flops. The points are written as JSON lines beside the picture.
"""

import argparse
import io
import json
import math
import statistics
from pathlib import Path

from . import train_step

MODELS = {  # the base configurations, small enough to measure 256 x 256 images too
    "dcgan": {"image_size": 64, "batch_size": 16, "width": 32},
    "attention_gan": {"image_size": 64, "batch_size": 1, "width": 16},
}
GROWN = {
    "image_size": (32, 64, 128, 256),
    "batch_size": (1, 2, 4, 8, 16, 32, 64),
    "width": (8, 16, 32, 64),
}
TITLES = {"image_size": "image size", "batch_size": "batch", "width": "width"}


def flags_of(values):
    """{"image_size", "batch_size", "width": value} -> the flags of the run."""
    values = dict(values)
    width = values.pop("width")
    return [f"--set=width={width}", *(f"--{name}={value}" for name, value in values.items())]


def slope(x, y):
    """The exponent a of y ~ x^a, by least squares of the logarithms."""
    x, y = ([math.log(v) for v in values] for values in (x, y))
    return statistics.linear_regression(x, y).slope


def points(models, rounds):
    """Yields a dict for each point: "model", "grown", the name of the option that varies, and its
    "value", "seconds" of a step (a list), "megabytes" of the process, "flops" of a step."""
    from . import flops

    for model in models:
        for grown, values in GROWN.items():
            for value in values:
                config = train_step.config_for(model, *flags_of(MODELS[model] | {grown: value}))
                measured = train_step.measure(config, rounds)["ours"]
                count = train_step.examples(config)
                yield {
                    "model": model,
                    "grown": grown,
                    "value": value,
                    "seconds": [count / rate for rate in measured["rates"]],
                    "megabytes": measured["megabytes"],
                    "flops": count * flops.per_image(config),
                }


def picture(rows):
    """Points -> PNG bytes: a column per option, seconds above, memory below. The dashed line is the
    arithmetic, scaled to the last point."""
    from matplotlib.figure import Figure

    figure = Figure((12, 7), layout="constrained")
    axes = figure.subplots(2, len(GROWN), sharex="col")
    for column, grown in enumerate(GROWN):
        for number, model in enumerate(dict.fromkeys(row["model"] for row in rows)):
            points = [row for row in rows if (row["model"], row["grown"]) == (model, grown)]
            x, work = ([row[key] for row in points] for key in ("value", "flops"))
            seconds = [statistics.median(row["seconds"]) for row in points]
            memory, colour = [row["megabytes"] for row in points], f"C{number}"
            ideal = [seconds[-1] * w / work[-1] for w in work]
            a, b, c = (slope(x, y) for y in (seconds, work, memory))
            label = f"{model}: n^{a:.2f}, arithmetic n^{b:.2f}"
            axes[0, column].loglog(x, seconds, "o-", color=colour, label=label)
            axes[0, column].loglog(x, ideal, "--", color=colour)
            axes[1, column].semilogx(x, memory, "o-", color=colour, label=f"{model}: n^{c:.2f}")
        for axis in axes[:, column]:
            axis.legend(fontsize="small")
            axis.set_xticks(GROWN[grown], [str(value) for value in GROWN[grown]])
            axis.minorticks_off()
        axes[1, column].set_xlabel(TITLES[grown])
    axes[0, 0].set_ylabel("seconds a step")
    axes[1, 0].set_ylabel("peak memory of the process, MiB")
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()


def run(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", choices=MODELS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("growth.png"))
    flags = parser.parse_args(arguments)
    rows = []
    with flags.output.with_suffix(".jsonl").open("w") as file:
        for row in points(flags.model or MODELS, flags.rounds):
            rows.append(row)
            file.write(json.dumps(row) + "\n")
            file.flush()
            seconds = statistics.median(row["seconds"])
            rate = row["flops"] / seconds / 1e9
            print(f"{row['model']}, {row['grown']} {row['value']}: {seconds:.3g} s, ", end="")
            print(f"{row['megabytes']:.0f} MiB, {rate:.3g} GFLOP/s", flush=True)
    flags.output.write_bytes(picture(rows))
    print(flags.output)


if __name__ == "__main__":
    run()

"""The command line. Each --mode is a file of modes/.

python main.py --model=ragan --dataset=cifar10                  train, or resume
python main.py --mode=list                                      models, data sets, weights
python main.py --mode=sample --weights=RUN_DIR --output=grid.png
python main.py --mode=evaluate --weights=RUN_DIR --metrics=fid,kid --num=10000
python main.py --mode=study --study=memorisation --weights=RUN_DIR --output=FOLDER
python main.py --mode=import --model=resnet18 --input=FILE --tag=NAME
python main.py --mode=export --model=ragan --weights=cifar10 --output=FOLDER
python main.py --mode=demo                                      a page in the browser
"""

import argparse
import contextlib
import importlib
import sys

from ..common.errors import UsageError

MODES = ("train", "list", "sample", "evaluate", "report", "study", "publish", "import", "annotate")
MODES += ("export", "translate", "demo")
STUDIES = ("memorisation", "fid_spatial", "attention", "regional", "regional_wgan", "teaching")
STUDIES += ("gain", "biased", "translation")
STRATEGIES = ("auto", "one", "mirrored", "multi_worker", "tpu")
PRECISIONS = ("float32", "bfloat16", "float16")
METRICS = ("fid", "sfid", "kid", "kid_blocks10", "is", "classes", "precision_recall")
METRICS += ("density_coverage", "localization")


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UsageError(f"{message} (--help lists the flags)")


def parse(arguments):
    """The flags as a namespace; a wrong one raises UsageError."""
    parser = Parser(description=__doc__.splitlines()[0], allow_abbrev=False, add_help=True)

    def whole(low, high):
        def check(text):
            if not text.isdecimal() or not low <= int(text) <= high:
                raise argparse.ArgumentTypeError(f"takes a whole number from {low}, not {text!r}")
            return int(text)

        return check

    def metrics(text):
        for name in text.split(","):
            if name not in METRICS:
                raise argparse.ArgumentTypeError(f"there is no {name!r} of {', '.join(METRICS)}")
        return tuple(dict.fromkeys(text.split(",")))

    def share(text):
        with contextlib.suppress(ValueError):
            if 0 <= float(text) < 1:
                return float(text)
        raise argparse.ArgumentTypeError(f"takes a number from 0 to 1, not {text!r}")

    positive, natural = whole(1, 10**9), whole(0, 2**32 - 1)

    add = parser.add_argument
    add("--mode", default="train", choices=MODES)
    add("--model", help="a name of --mode=list (default: ragan, or the run's)")
    add("--dataset", help="a name of --mode=list (default: creatures, or the run's)")
    add("--study", choices=STUDIES)
    add("--weights", metavar="TAG|RUN_DIR|FILE", help="the zoo's, a run's, or one checkpoint")
    add(
        "--input",
        metavar="FOLDER|FILE",
        help="images to evaluate, in place of a model's; a checkpoint to import",
    )
    add(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option or hyper-parameter",
    )
    add("--steps", type=positive, help="updates of the generator in all")
    add("--batch_size", type=positive, help="images per update, over all devices")
    add("--image_size", type=positive)
    add("--seed", type=natural, default=0)
    add("--run_dir", help="default: runs/MODEL-DATASET and what --set changes")
    add("--data_dir", help="TFDS's folder (default: $TFDS_DATA_DIR or ~/tensorflow_datasets)")
    add("--strategy", default="auto", choices=STRATEGIES, help="which devices (default: all GPUs)")
    add("--precision", default="float32", choices=PRECISIONS, help="of what is computed in between")
    add("--jit", action="store_true", help="have XLA compile the training step")
    add("--steps_per_execution", type=positive, default=1, metavar="STEPS", help="of one call")
    add("--log_every", type=positive, metavar="STEPS", help="default: 50")
    add("--sample_every", type=positive, metavar="STEPS", help="default: 500")
    add("--save_every", type=positive, metavar="STEPS", help="default: 500")
    add("--num", type=positive, help="how many samples (default: 64; to measure: 10000)")
    add("--attention", action="store_true", help="sample: and where places of each sample look")
    add("--metrics", type=metrics, metavar="NAME,...", help=f"of {', '.join(METRICS)}")
    add(
        "--extractor",
        metavar="inception|zoo:NAME",
        help="whose features (default: inception where its weights are at hand, else the zoo's "
        "classifier for the data set)",
    )
    add("--inception", metavar="FILE|FOLDER", help="the weights of FID's network")
    add("--split", choices=("train", "test"), help="the real images (default: test)")
    add("--eval_every", type=positive, metavar="STEPS", help="default: with each checkpoint")
    add("--against", metavar="RUN_DIR|FILE", help="evaluated before, to set beside this")
    add("--stop", choices=("two_stage",), help="end once the metric and then d_loss are at rest")
    add("--stop_window", type=positive, help="evaluations without an improvement (default: 5)")
    add("--stop_tolerance", type=share, help="the least improvement, as a share (default: 0.01)")
    add("--direction", choices=("a2b", "b2a"), help="of a translator (default: a2b, or both)")
    add("--threshold", type=share, help="annotate, export, gain: the least of a map on the object")
    add("--background", type=share, help="gain: the most of a map on the background")
    add("--all", action="store_true", help="export: all published weights of the zoo")
    add("--tag", help="the name of published weights")
    add("--port", type=whole(1, 65535), help="demo: of the page (default: 7860)")
    add("--output", help="the file or folder to write")
    flags = parser.parse_args(arguments)
    used = importlib.import_module(f"..modes.{flags.mode}", __package__).USES.split()
    for name, value in vars(flags).items():
        if value != parser.get_default(name) and name not in ("mode", *used):
            raise UsageError(f"--mode={flags.mode} does not use --{name}")
    return flags


def main(arguments=None):
    """Runs one command; returns the exit status: 0, 1 for a failed run, 2 for a mistake in use or a
    full disk. SIGTERM ends a training, and the process, with 0."""
    try:
        flags = parse(arguments)
        importlib.import_module(f"..modes.{flags.mode}", __package__).run(flags)
    except KeyboardInterrupt:
        goes_on = ": the same command goes on from here" if flags.mode in ("train", "study") else ""
        print(f"interrupted{goes_on}", file=sys.stderr)
        return 130
    except Exception as error:
        status = status_of(error)
        if status is None:
            raise
        print(f"main.py: {' '.join(str(error).split())}", file=sys.stderr)
        return status
    return 0


def status_of(error):
    """2 for a user's mistake, 1 for what stops a run (NaN, a lost worker), None for our defects."""
    if isinstance(error, UsageError):
        return 2
    callbacks = sys.modules.get(__package__.removesuffix("cli") + "trainers.callbacks")
    if callbacks and isinstance(error, callbacks.NotFinite) or isinstance(error, OSError):
        return 1
    return None

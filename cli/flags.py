"""Every flag and every mode of the command line: names, values, defaults, help."""

import argparse
import dataclasses
import difflib
from dataclasses import dataclass, field
from typing import Any

from ..common.errors import UsageError
from ..common.files import user_path

METRICS = ("fid", "sfid", "kid", "kid_blocks10", "is", "classes", "breeds", "precision_recall")
METRICS += ("density_coverage", "localization")


def whole(low, high):
    """A check for whole numbers."""

    def check(text):
        if not (text.isascii() and text.isdecimal() and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(
                f"takes a whole number from {low} to {high}, not {text!r}"
            )
        return int(text)

    return check


def fraction(text):
    """A check for numbers from 0 to 1, 1 excluded."""
    try:
        value = float(text)
    except ValueError:
        value = None
    if value is None or not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"takes a number of at least 0 and below 1, not {text!r}")
    return value


def one_of(*names):
    """A check for one of several words."""

    def check(text):
        if text not in names:
            close = difflib.get_close_matches(text, names, 1)
            guess = f": did you mean {close[0]!r}?" if close else ""
            raise argparse.ArgumentTypeError(
                f"takes one of {', '.join(names)}, not {text!r}{guess}"
            )
        return text

    check.names = names
    return check


def metrics(text):
    """A check for names of metrics, separated by commas: a tuple without repetitions."""
    check = one_of(*METRICS)
    return tuple(dict.fromkeys(check(name) for name in text.split(",")))


def pair(text):
    """A check for NAME=VALUE: (name, value)."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"takes NAME=VALUE, not {text!r}")
    return name, value


def path(text):
    """A check for paths: the home directory takes the place of a leading ~."""
    try:
        return str(user_path(text)) if text.startswith("~") else text
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


POSITIVE, NATURAL = whole(1, 10**9), whole(0, 2**32 - 1)


@dataclass(frozen=True)
class Flag:
    """A flag --NAME=VALUE.

    help: what it is, in every mode that has no note of its own. It states the default where
    `default` is None, since the library decides it. check: text -> value. kind: "value", "switch"
    (takes no value) or "repeated" (a list).
    """

    help: str
    check: Any = str
    metavar: str = "NAME"
    default: Any = None
    kind: str = "value"


def choice(help, words, default=None):
    """The Flag of one of several words, "a|b|c"."""
    return Flag(help, one_of(*words.split("|")), words, default)


@dataclass(frozen=True)
class Study:
    """What --study=NAME asks, and the flags of --mode=study that it takes. notes: as of Mode."""

    question: str
    flags: str
    notes: dict = field(default_factory=dict)


TRAINS = (
    "dataset data_dir image_size steps batch_size seed set precision jit output "
    "log_every sample_every save_every eval_every"
)
COMPARES = f"{TRAINS} metrics num extractor inception split stop_window stop_tolerance"
STUDIES = {
    "memorisation": Study(
        "does a generator copy its training images?",
        "weights model dataset data_dir num seed output",
        {
            "weights": "a run directory or checkpoint file (required)",
            "model": "the model of --weights (default: the run's)",
            "dataset": "the data set (default: the one of the training)",
            "num": "how many samples (default: 64)",
        },
    ),
    "fid_spatial": Study(
        "which metric notices that the layout of images is broken?",
        "dataset data_dir image_size num seed extractor inception output",
        {"num": "how many images (default: 10000, or all where there are fewer)"},
    ),
    "floor": Study(
        "how far apart do metrics find two sets of real images?",
        "dataset data_dir image_size num seed extractor inception output",
        {"num": "how many images of each set at most (default: 10000, or half of all)"},
    ),
    "attention": Study("where does self-attention help a SAGAN?", COMPARES),
    "regional": Study(
        "which is best with DCGAN's loss: regional attention, self-attention or none?", COMPARES
    ),
    "regional_wgan": Study("the same question with WGAN's loss", COMPARES),
    "readings": Study("which reading of RAGAN's Letter is best, with DCGAN's loss?", COMPARES),
    "teaching": Study(
        "does a teacher's attention help a discriminator to find the object?",
        COMPARES,
        {"dataset": "the data set (default: cells)"},
    ),
    "gain": Study(
        "how good are GAIN's attention maps as labels for segmentation?",
        f"{TRAINS} num threshold background threshold_by_masks",
        {
            "dataset": "the data set (default: creatures/many)",
            "num": "how many test images are segmented (default: all)",
        },
    ),
    "biased": Study(
        "does GAIN look at the object where each class is always seen on one scene?",
        TRAINS,
        {"dataset": "the data set (default: creatures/biased)"},
    ),
    "translation": Study(
        "which translators change the object and keep the background?",
        f"{TRAINS} models extractor inception",
        {"dataset": "the data set (default: creatures/plain2striped)"},
    ),
    "claims": Study(
        "which of ATA-GAN's claims hold for trained classifiers and GANs?",
        "runs judge dataset data_dir num seed extractor inception split output",
        {
            "dataset": "a data set with masks, on which maps are measured (required)",
            "num": "how many generated images (default: 10000)",
            "extractor": "the networks whose features are compared, separated by commas (default: "
            "that of --mode=evaluate)",
            "split": "the images with masks (default: all)",
        },
    ),
}


FLAGS = {
    "model": Flag("the model, a name of --mode=list (default: ragan)"),
    "dataset": Flag(
        "the data set: a name of --mode=list, or folder:PATH for your own images "
        "(default: creatures)"
    ),
    "study": Flag("the question to answer, see below (required)", one_of(*STUDIES)),
    "weights": Flag(
        "a run directory, one checkpoint file, or published weights: a tag of --mode=list, "
        "FOLDER/TAG, or an address such as hf://OWNER/NAME/TAG (required)",
        path,
        metavar="TAG|RUN_DIR|FILE",
    ),
    "input": Flag("a folder of images, or one image (required)", path, "FOLDER|FILE"),
    "set": Flag(
        "one option of the networks or one hyper-parameter of the training; repeat the flag for "
        "more (default: the recipe of the model for the data set)",
        pair,
        "NAME=VALUE",
        kind="repeated",
    ),
    "steps": Flag(
        "total number of training steps; updates of a critic are not counted (default: the "
        "recipe's)",
        POSITIVE,
        "STEPS",
    ),
    "batch_size": Flag(
        "images per step, over all devices (default: the recipe's)", POSITIVE, "IMAGES"
    ),
    "image_size": Flag(
        "the images' height and width in pixels (default: the recipe's)", POSITIVE, "PIXELS"
    ),
    "seed": Flag("the seed of all random numbers", NATURAL, "NUMBER", 0),
    "run_dir": Flag(
        "the run directory to write, or to continue (default: runs/MODEL-DATASET, followed by "
        "the values that --set changes)",
        path,
        "RUN_DIR",
    ),
    "data_dir": Flag(
        "the folder of prepared data sets (default: $TFDS_DATA_DIR or ~/tensorflow_datasets)",
        path,
        "FOLDER",
    ),
    "strategy": choice(
        "the devices to train on; auto takes all GPUs, or else the CPU",
        "auto|one|mirrored|multi_worker|tpu",
        "auto",
    ),
    "precision": choice(
        "the floating-point type of the training step; weights stay float32. bfloat16 is "
        "recommended on CPUs that have it",
        "float32|bfloat16|float16",
        "float32",
    ),
    "jit": Flag("compile the training step with XLA", kind="switch", default=False),
    "steps_per_execution": Flag(
        "training steps in one call of the compiled function", POSITIVE, "STEPS", 1
    ),
    "log_every": Flag("steps between lines of metrics.jsonl (default: 50)", POSITIVE, "STEPS"),
    "sample_every": Flag("steps between pictures (default: 500)", POSITIVE, "STEPS"),
    "save_every": Flag("steps between checkpoints (default: 500)", POSITIVE, "STEPS"),
    "eval_every": Flag("steps between evaluations (default: --save_every)", POSITIVE, "STEPS"),
    "num": Flag("how many generated images are scored (default: 10000)", POSITIVE, "IMAGES"),
    "attention": Flag(
        "draw each sample in a row with the self-attention maps of four of its pixels",
        kind="switch",
        default=False,
    ),
    "runs": Flag(
        "trained models, separated by commas: run directories, checkpoint files or MODEL:TAG; "
        "options of a network follow after colons, such as runs/teacher:maps=winner (required)",
        metavar="RUN_DIR[:NAME=VALUE],...",
    ),
    "judge": Flag(
        "a classifier that assigns generated images to classes: a run directory or MODEL:TAG "
        "(required if one of --runs is a GAN)",
        metavar="RUN_DIR|MODEL:TAG",
    ),
    "metrics": Flag(
        f"scores, separated by commas, of {', '.join(METRICS)} (default: fid)",
        metrics,
        "NAME,...",
    ),
    "models": Flag(
        "the translators to compare, separated by commas; settings of a model follow after colons, "
        "such as cyclegan,attention_gan:scheme=1 (default: cyclegan and variants of attention_gan)",
        metavar="MODEL[:NAME=VALUE],...",
    ),
    "extractor": Flag(
        "the network whose features the metrics compare (default: inception if its weights are in "
        "the cache, else the zoo's classifier for the data set, else efficientnet_lite0-imagenet)",
        metavar="inception|zoo:NAME",
    ),
    "inception": Flag(
        "the weights of the Inception network (default: those in the cache folder)",
        path,
        "FILE|FOLDER",
    ),
    "split": choice(
        "the real images to compare with, or to translate; all is for localization only "
        "(default: test)",
        "train|test|all",
    ),
    "references": choice(
        "where RAGAN takes its reference images from: the bank in its weights, or one training "
        "image for each sample (default: bank)",
        "bank|training",
    ),
    "against": Flag(
        "earlier scores to compare with; prints the differences (default: none)",
        path,
        "RUN_DIR|FILE",
    ),
    "stop": choice(
        "end the run early, once the first metric and then d_loss no longer improve "
        "(default: train all --steps)",
        "two_stage",
    ),
    "stop_window": Flag(
        "evaluations without an improvement before the run ends (default: 5)", POSITIVE, "NUMBER"
    ),
    "stop_tolerance": Flag(
        "the smallest relative change that counts as an improvement (default: 0.01)",
        fraction,
        "FRACTION",
    ),
    "direction": choice("the direction of a translator (default: a2b)", "a2b|b2a"),
    "threshold": Flag(
        "the value of an attention map above which a pixel belongs to the object (default: the "
        "one published with the weights, or else 0.5)",
        fraction,
        "FRACTION",
    ),
    "background": Flag(
        "gain: the value of an attention map below which a pixel belongs to the background "
        "(default: --threshold)",
        fraction,
        "FRACTION",
    ),
    "threshold_by_masks": Flag(
        "gain: train DeepLab on labels whose threshold is chosen for each attention by the masks "
        "of a hundredth of the training images, not by --threshold",
        kind="switch",
        default=False,
    ),
    "format": choice(
        "what to write; onnx needs tf2onnx, onnx and onnxruntime",
        "saved_model|tflite|onnx",
        "saved_model",
    ),
    "all": Flag("export all published weights of the zoo", kind="switch", default=False),
    "tag": Flag("the name of the published weights (required)"),
    "port": Flag("the port of the page (default: 7860)", whole(1, 65535), "PORT"),
    "output": Flag("the folder to write", path, "FOLDER"),
}

SET = (
    "an option of the network that does not change its weights, such as maps=winner_relu or "
    "output_stride=16; repeat the flag for more (default: those of the training)"
)
WHERE = (
    "the model, required with a tag (default: the one that the run directory, the folder or the "
    "address names)"
)


@dataclass(frozen=True)
class Mode:
    """What --mode=NAME does.

    groups: title in the help -> names of its flags, separated by blanks. required: the flags that
    must be given. notes and metavars: name of a flag -> its help and its metavar where they are not
    those of `FLAGS`.
    """

    summary: str
    groups: dict = field(default_factory=dict)
    required: str = ""
    notes: dict = field(default_factory=dict)
    metavars: dict = field(default_factory=dict)

    @property
    def flags(self):
        """The names of its flags."""
        return tuple(" ".join(self.groups.values()).split())

    def help(self, name):
        """The help of one of its flags, with the default."""
        flag, text = FLAGS[name], self.notes.get(name, FLAGS[name].help)
        if flag.default is None:
            return text
        return f"{text} (default: {'off' if flag.kind == 'switch' else flag.default})"


MODES = {
    "train": Mode(
        "train a model, or continue the run in --run_dir",
        {
            "model and data": "model dataset data_dir image_size set",
            "training": "steps batch_size seed",
            "devices": "strategy precision jit steps_per_execution",
            "evaluation while training": (
                "metrics num extractor inception split eval_every stop stop_window stop_tolerance"
            ),
            "output": "run_dir log_every sample_every save_every",
        },
        notes={
            "metrics": f"scores of a generator, separated by commas, of {', '.join(METRICS[:-1])}; "
            "the first one chooses the best checkpoint (default: none; the sliced Wasserstein "
            "distance is logged)",
        },
    ),
    "list": Mode(
        "list the models, their published weights and the data sets, or show one model",
        {"model": "model"},
        notes={
            "model": "show this model: its paper, weights, options, hyper-parameters and "
            "deviations (default: list all)"
        },
    ),
    "sample": Mode(
        "draw images from a generator as one picture",
        {
            "model": "weights model",
            "samples": "num seed attention references data_dir",
            "output": "output",
        },
        required="weights",
        notes={
            "model": WHERE,
            "num": "how many images (default: 64)",
            "output": "the PNG file to write (default: samples.png)",
        },
        metavars={"output": "FILE"},
    ),
    "evaluate": Mode(
        "score a model, or a folder of images, against a data set",
        {
            "what to score": "weights model set input image_size direction",
            "data": "dataset split data_dir",
            "evaluation": "metrics num seed references extractor inception against",
            "output": "output",
        },
        notes={
            "model": WHERE,
            "set": SET,
            "output": "the folder for a classifier's confusion matrix (default: the run directory; "
            "none with published weights)",
            "weights": FLAGS["weights"].help.replace("required", "required without --input"),
            "input": "a folder of images, or one image, to score instead of a model (required "
            "without --weights)",
            "image_size": "with --input, the images' height and width in pixels (default: the "
            "median of their smaller sides, at most 1024)",
            "split": "the real images to compare with, or to translate; all is for localization "
            "only (default: test; with --input, train if there is no test split)",
            "direction": "the direction of a translator (default: both for a run, or the "
            "published one)",
            "dataset": "the data set to compare with (default: the one of the training; required "
            "with --input)",
            "metrics": f"scores, separated by commas, of {', '.join(METRICS)} (default: fid; for "
            "translators kid_blocks10,kid,fid; classifiers and segmenters have their own scores)",
            "num": "how many images are scored (default: 10000; with --input: all)",
        },
    ),
    "report": Mode(
        "write report.html of a run directory",
        {"run": "run_dir"},
        required="run_dir",
        notes={"run_dir": "the run directory (required)"},
    ),
    "study": Mode(
        "answer one question by measuring, or by training and comparing models",
        {
            "question and data": "study dataset data_dir image_size weights model models",
            "trained models, for claims": "runs judge",
            "training": "steps batch_size seed set precision jit",
            "evaluation": (
                "metrics num extractor inception split eval_every stop_window stop_tolerance"
            ),
            "attention maps": "threshold background threshold_by_masks",
            "output": "output log_every sample_every save_every",
        },
        required="study",
        notes={
            "dataset": "the data set (default: creatures; teaching, gain, biased and translation "
            "have their own)",
            "model": "memorisation: the model of --weights (default: the run's)",
            "weights": "memorisation: a run directory or checkpoint file (required there)",
            "metrics": f"scores, separated by commas, of {', '.join(METRICS[:-1])} (default: "
            "fid,classes)",
            "num": "how many images are scored (default: 10000; memorisation: 64; gain: all)",
            "threshold": "gain: the value of an attention map above which a pixel belongs to the "
            "object (default: 0.2)",
            "output": "the folder to write (default: the name of the study)",
        },
        metavars={"weights": "RUN_DIR|FILE"},
    ),
    "publish": Mode(
        "publish the weights of a run, with scores and a model card",
        {
            "run": "run_dir direction set data_dir",
            "evaluation": "metrics num seed extractor inception split",
            "output": "tag output",
        },
        required="run_dir tag",
        notes={
            "run_dir": "the run directory (required)",
            "set": SET,
            "metrics": f"scores, separated by commas, of {', '.join(METRICS[:-1])} (default: "
            "fid,kid,is,precision_recall for generators, kid_blocks10,kid,fid for translators)",
            "output": "the folder to write (default: the zoo's own, with the card in docs/weights)",
        },
    ),
    "import": Mode(
        "convert a checkpoint of PyTorch, safetensors or tf.keras to published weights",
        {"checkpoint": "input model set image_size", "output": "tag output"},
        required="model input tag",
        notes={
            "model": "the model, a name of --mode=list (required)",
            "input": "the checkpoint file (required)",
            "set": "an option of the network that the checkpoint does not state, such as "
            "normalise=none; repeat the flag for more (default: the model's)",
            "image_size": "the images' height and width in pixels (default: the model's)",
            "output": "the folder to write (default: imported)",
        },
        metavars={"input": "FILE"},
    ),
    "annotate": Mode(
        "write boxes and masks from attention maps, with the images, as a COCO data set",
        {
            "model": "weights model set data_dir",
            "images": "input num seed threshold",
            "output": "output",
        },
        required="weights",
        notes={
            "model": WHERE,
            "set": SET,
            "input": "a folder of images to annotate, or one image (default: generated images)",
            "num": "how many images to generate (default: 64)",
            "threshold": "the value of an attention map above which a pixel belongs to the object "
            "(default: the one published with the weights, or the best on the training images)",
            "output": "the folder to write (default: annotated)",
        },
    ),
    "export": Mode(
        "export models for TensorFlow Serving, or as TensorFlow Lite or ONNX files",
        {"model": "weights model all", "signatures": "threshold", "output": "output format"},
        notes={
            "model": WHERE,
            "weights": FLAGS["weights"].help.replace("required", "required without --all"),
            "output": "the folder to write (default: exported)",
        },
    ),
    "translate": Mode(
        "translate a folder of images, or one image",
        {
            "model": "weights model direction",
            "images": "input batch_size",
            "output": "output",
        },
        required="weights input",
        notes={
            "model": WHERE,
            "direction": "the direction (default: a2b, or the published one)",
            "batch_size": "images translated at a time (default: 4)",
            "output": "the folder to write (default: translated)",
        },
    ),
    "demo": Mode(
        "serve a page in the browser to try the models",
        {"models": "weights", "page": "port"},
        notes={
            "weights": "a run directory, or a folder of run directories, to offer beside the "
            "published weights (default: published weights only)"
        },
        metavars={"weights": "RUN_DIR|FOLDER"},
    ),
    "gallery": Mode(
        "write a page that shows what each model does, from the published weights",
        {"output": "output"},
        notes={"output": "the folder to write (default: gallery)"},
    ),
}


def mode_of(name, study=None):
    """The Mode of a name; of a study, with its flags alone."""
    mode = MODES[name]
    if name != "study" or not study:
        return mode
    own, output = STUDIES[study], f"the folder to write (default: {study})"
    taken = {"study", *own.flags.split()}
    groups = {
        title: " ".join(name for name in names.split() if name in taken)
        for title, names in mode.groups.items()
    }
    return dataclasses.replace(
        mode,
        summary=f"study {study}: {own.question}",
        groups={title: names for title, names in groups.items() if names},
        required=" ".join(["study", *(name for name in ("weights", "runs") if name in taken)]),
        notes={**mode.notes, **own.notes, "study": f"{study} (required)", "output": output},
    )

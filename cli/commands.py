"""One function for each mode: it calls the library once and prints what that returns.

Each takes the flags that were given, {name: value}, and the arguments of the command, which a run
directory records.
"""

import json
import os
import shlex
import sys
from pathlib import Path

from ..common.errors import UsageError
from ..common.quiet import import_tensorflow

CONFIG = (
    "steps batch_size image_size seed precision jit steps_per_execution "
    "log_every sample_every save_every eval_every data_dir"
)
SCORING = "metrics num extractor inception split seed"


def train(given, arguments):
    """Trains a model, or continues its run."""
    refuse(given, "stop_window stop_tolerance", "needs --stop=two_stage", unless="stop")
    refuse(given, "num extractor inception split", "needs --metrics", unless="metrics stop")
    config = run_config(given)
    from ..datasets import open_dataset
    from ..experiments import training
    from ..tasks.scoring import scorer_spec

    settings = dict(given.get("set", ()))
    scored = "metrics" in given or "stop" in given
    data = open_dataset(config.dataset, **pick(given, "data_dir"))
    has_test = data.has_split("test")
    trained = training.train(
        config,
        data,
        run_dir=given.get("run_dir", config.default_folder(settings)),
        scorer=scorer_spec(request_of(given)) if scored else None,
        stop=stop_rule(given) if "stop" in given else None,
        command=arguments,
        progress=True,
        **pick(given, "data_dir strategy"),
    )
    if trained is None:  # another worker is the chief
        return
    if trained.message:
        print(trained.message)
    if trained.samples:
        print(f"samples: {trained.samples}")
    if trained.best:
        print(f"best checkpoint by {trained.metric}: {trained.best}")
    print(f"report: {trained.report}")
    print(f"run directory: {trained.folder}")
    evaluation = evaluation_of(config, trained.folder, has_test, **pick(given, "data_dir"))
    print(f"evaluate it: {evaluation}")


def list_(given, arguments):
    """Lists models and data sets, without TensorFlow, or shows one model."""
    from . import listing

    print(listing.model(given["model"]) if "model" in given else listing.text())


def sample(given, arguments):
    """Draws samples as one picture."""
    refuse(given, "data_dir", "needs --references=training", unless="references")
    path = Path(given.get("output", "samples.png"))
    if path.suffix.lower() not in ("", ".png"):
        raise UsageError(f"--output={path}: samples are written as PNG, give a name with .png")
    model = open_model(given)
    from ..common.files import write_output
    from ..common.images import attention_grid, image_grid, png, to_float

    count, seed = given.get("num", 64), given.get("seed", 0)
    pictures = model.sample(count, seed, **pick(given, "references data_dir"))
    if given.get("attention"):
        from ..tasks.generation import latents

        grid = attention_grid(pictures, *model.self_attention(latents(count, model.latent, seed)))
    else:
        grid = image_grid(to_float(pictures), min(8, count))
    write_output(path, png(grid))
    print(f"samples: {path}")


def evaluate(given, arguments):
    """Prints a JSON line for each score, and on stderr a line to read, and how it differs from
    earlier ones."""
    if ("weights" in given) == ("input" in given):
        raise UsageError("--mode=evaluate takes --weights=TAG|RUN_DIR|FILE or --input=FOLDER")
    if "input" in given:
        refuse(given, "model set direction references output", "needs --weights")
        if "dataset" not in given:
            raise UsageError(
                "--input=FOLDER needs --dataset: the data set to compare its images with"
            )
    else:
        refuse(given, "image_size", "needs --input: a network has its own image size")
    start(given)
    from ..experiments import evaluation
    from ..reports.scores import line

    earlier = evaluation.read_scores(given["against"]) if "against" in given else None
    if "input" in given:
        measured = [{"images": Path(given["input"])}]
    else:
        measured = [{"model": model} for model in both_directions(given)]
    options = pick(given, f"{SCORING} references image_size data_dir output")
    options["reference"] = given.get("dataset")
    if len(measured) == 1:
        options["against"] = earlier
    scores = []
    for one in measured:
        scores += evaluation.evaluate(**one, **options, progress=True)
    for score in scores:
        print(json.dumps(score.row()))
    for score in scores:
        print(line(score.row()), file=sys.stderr)
    if earlier is not None:
        for metric, value, other in evaluation.differences(scores, earlier):
            difference = f"{value:.6g}, against {other:.6g}: {value - other:+.4g}"
            print(f"{metric}: {difference}", file=sys.stderr)


def report(given, arguments):
    """Writes the report of a run directory."""
    from ..experiments.run_reports import write_report

    print(f"report: {write_report(given['run_dir'])}")


def study(given, arguments):
    """Answers one question."""
    name = given["study"]
    output, data = Path(given.get("output", name)), optional(given, data="dataset")
    model = open_model(given) if "weights" in given else None
    start(given)
    from .. import studies

    answer = studies.get(name)
    if name == "memorisation":
        found = answer(model, output=output, **data, **pick(given, "num seed data_dir"))
    elif name in ("fid_spatial", "floor", "claims"):
        if name == "claims" and not data:
            raise UsageError("--study=claims needs --dataset: images with masks")
        found = answer(
            *([given["runs"].split(",")] if name == "claims" else []),
            request=request_of(given),
            output=output,
            say=lambda line: print(line, flush=True),
            **data,
            **pick(given, "image_size judge data_dir"),
        )
    else:
        runs = study_runs(given, output, arguments)
        found = answer(name, runs, **data, **study_options(given))
    if name not in ("fid_spatial", "floor"):  # which have said it line by line
        print(found.table)
    print(f"study: {found.page if found.page.suffix == '.html' else found.folder}")


def publish(given, arguments):
    """Publishes the weights of a run."""
    start(given)
    from ..experiments import publishing

    options = pick(given, f"output direction data_dir {SCORING}")
    if "set" in given:
        options["settings"] = dict(given["set"])
    published = publishing.publish(given["run_dir"], given["tag"], progress=True, **options)
    scores = ", ".join(f"{k} {v:.4g}" for k, v in published.entry.scores.items())
    name = f"{published.name}:{published.tag}"
    print(f"{name}: {scores}, sha256 {published.entry.sha256}")
    print(f"card: {published.card}")


def import_(given, arguments):
    """Converts another program's checkpoint to weights of the zoo."""
    start(given)
    from ..experiments import publishing

    model, file = given["model"], given["input"]
    entry, count, place = publishing.import_weights(
        model,
        file,
        given["tag"],
        settings=dict(given.get("set", ())),
        **pick(given, "output image_size"),
    )
    print(f"{model}: {count} arrays of {Path(file).name}, sha256 {entry.sha256}")
    print(f"attention_zoo.load({model!r}, {place!r})")


def annotate(given, arguments):
    """Writes a COCO data set."""
    if "input" in given:
        refuse(given, "num seed", "is for generated images, not for --input")
    model = open_model(given)
    from ..experiments import annotation

    annotated = annotation.annotate(
        model, given.get("input"), **pick(given, "output num seed threshold data_dir")
    )
    folder = annotated.folder
    annotations = folder / "annotations.json"
    print(f"{annotated.images} images, {annotated.annotations} annotated: {annotations}")
    print(f"overview: {folder / 'overview.html'}")


def export(given, arguments):
    """Exports models for TensorFlow Serving, or as files of other runtimes."""
    options = pick(given, "output threshold format")
    if given.get("all"):
        refuse(given, "model weights format", "cannot be combined with --all")
    elif "weights" not in given:
        raise UsageError("--mode=export needs --weights=TAG|RUN_DIR|FILE or --all")
    start(given)
    from ..experiments import exporting

    if given.get("all"):
        exported = exporting.export_all(**options)
    else:
        exported = exporting.export(open_model(given), **options)
    for model in exported:
        print(f"{model.path}: {', '.join(model.signatures)}")


def translate(given, arguments):
    """Translates the pictures of a folder."""
    model = open_model(given)
    from ..experiments import translating

    options = pick(given, "output batch_size")
    translated = translating.translate_folder(model, given["input"], progress=True, **options)
    count, how = translated.images, translating.domains(translated.direction)
    print(f"{count} image{'s' * (count != 1)} translated {how}: {translated.folder}")
    print(f"overview: {translated.folder / 'overview.html'}")


def demo(given, arguments):
    """Serves the page."""
    start(given)
    from ..experiments import demo

    demo.serve(**pick(given, "weights port"))


def gallery(given, arguments):
    """Writes the page of all models."""
    start(given)
    from ..experiments import gallery as galleries

    made = galleries.gallery(progress=True, **pick(given, "output"))
    print(f"models: {', '.join(made.shown)}")
    print(f"no weights yet: {', '.join(made.without) or 'none'}")
    print(f"gallery: {made.page}")


COMMANDS = {
    "train": train,
    "list": list_,
    "sample": sample,
    "evaluate": evaluate,
    "report": report,
    "study": study,
    "publish": publish,
    "import": import_,
    "annotate": annotate,
    "export": export,
    "translate": translate,
    "demo": demo,
    "gallery": gallery,
}


def start(given):
    """Checks that --model, its --weights, --dataset and --input exist, then imports TensorFlow,
    which takes seconds."""
    from .. import zoo
    from ..datasets import stream

    if "model" in given:
        zoo.get(given["model"])
        tag = given.get("weights", "/")
        if "/" not in tag and not os.path.exists(tag):
            zoo.weights.find(given["model"], tag)
    if "dataset" in given:
        stream.check(given["dataset"])
    if not os.path.exists(given.get("input", ".")):
        raise UsageError(f"--input={given['input']} does not exist: give a folder or a file")
    import_tensorflow(lean=True)


def pick(given, names):
    """{name: value} of those of the named flags that were given."""
    return {name: given[name] for name in names.split() if name in given}


def optional(given, **names):
    """{argument: value} of ARGUMENT="flag" where that flag was given."""
    return {argument: given[flag] for argument, flag in names.items() if flag in given}


def refuse(given, names, why, unless=""):
    """Raises UsageError if one of the named flags was given, and none of `unless`."""
    if not set(unless.split()) & given.keys():
        for name in names.split():
            if name in given:
                raise UsageError(f"--{name} {why}")


def run_config(given):
    """The RunConfig of the flags of a training."""
    start(given)
    from ..experiments.config import RunConfig

    return RunConfig.resolve(
        given.get("model", "ragan"),
        given.get("dataset", "creatures"),
        settings=dict(given.get("set", ())),
        **pick(given, CONFIG),
    )


def open_model(given):
    """The LoadedModel of --weights, --model and --direction."""
    start(given)
    from ..experiments import models

    settings = dict(given.get("set", ()))
    return models.open_model(given["weights"], **pick(given, "model direction"), settings=settings)


def both_directions(given):
    """The LoadedModel of --weights; of a run that translates both, unless --direction is given."""
    model = open_model(given)
    if model.direction and model.origin.folder and "direction" not in given:
        return [model, model.back()]
    return [model]


def study_runs(given, output, arguments):
    """The StudyRuns of a study that trains models."""
    from ..studies.base import StudyRuns

    options = pick(given, CONFIG)
    data_dir = options.pop("data_dir", None)
    settings = dict(given.get("set", ()))
    return StudyRuns(output, data_dir, options, settings, command=arguments, progress=True)


def study_options(given):
    """{argument: value} of what a study that trains models takes beside its runs."""
    name = given["study"]
    if name == "gain":
        names = {"foreground": "threshold", "by_masks": "threshold_by_masks"}
        return optional(given, **names, background="background", num="num")
    if name == "biased":
        return {}
    if name == "translation":
        from ..studies.translation import parsed

        systems = {"systems": parsed(given["models"])} if "models" in given else {}
        return {"request": request_of(given), **systems}
    return {"request": request_of(given), "stop": stop_rule(given)}


def request_of(given):
    """The EvaluationRequest of --metrics, --num, --extractor, --inception, --split and --seed."""
    from ..tasks.base import EvaluationRequest

    return EvaluationRequest(**pick(given, SCORING), progress=True)


def evaluation_of(config, folder, has_test, data_dir=None):
    """The command that evaluates the run of a RunConfig, on training images without test images."""
    from .. import tasks, zoo

    spec, flags = zoo.get(config.model), ["--mode=evaluate", f"--weights={folder}"]
    if "sample" in tasks.get(spec.kind).able(spec):
        flags += ["--metrics=fid,kid", "--num=1000"]
    if not has_test:
        flags.append("--split=train")
    if data_dir:
        flags.append(f"--data_dir={data_dir}")
    return shlex.join([*started(), *flags])


def started():
    """How this command was started, without its flags: ["python", "main.py"]."""
    if Path(sys.argv[0]).name == "main.py":
        return sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1]
    return ["attention-zoo"]


def stop_rule(given):
    """The StopRule of --stop_window and --stop_tolerance."""
    from ..experiments.training import StopRule

    return StopRule(**optional(given, window="stop_window", tolerance="stop_tolerance"))

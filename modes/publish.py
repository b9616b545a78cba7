"""Makes a run's network one of the zoo's pretrained weights, with a model card."""

import argparse
import functools
import re
import shlex
from pathlib import Path

from .. import zoo
from ..common.files import write_output
from ..common.images import attention_grid, image_grid, png, to_float, translation_grid
from ..reports import cards
from . import shared
from .evaluate import (
    accuracy,
    draws,
    localize,
    make_judge,
    samples,
    seen,
    translation_rows,
)
from .shared import UsageError

USES = "run_dir tag output seed data_dir metrics extractor inception split num direction"
CARDS = Path(__file__).parents[1] / "docs" / "weights"
METRICS = ("fid", "kid", "is", "precision_recall")
SHOWS = {  # what a card's picture shows, and the mode that uses the network
    "generator": ("64 samples", "sample", "--output=grid.png"),
    "a2b": (
        "Each row: an image, its translation, that translated back, the masks, the contents",
        "translate",
        "--input=FOLDER",
    ),
    "segmenter": ("Each row: an image, its true classes, the predicted classes",),
    "attention": ("Each row: an image, and the attention maps of its two likeliest classes",),
}


def run(flags):
    """Writes the averaged weights of --run_dir, at its best checkpoint by the first of the run's
    --metrics or else its newest, to the zoo or to --output, and the card beside them or to docs/.
    """
    if not (flags.run_dir and flags.tag):
        raise UsageError("--mode=publish needs --run_dir=RUN_DIR and --tag=NAME")
    check_tag(flags.tag)
    shared.quiet_import()
    from ..trainers import run
    from ..zoo import weights as door

    folder = Path(flags.run_dir)
    best = run.best_checkpoint(folder)
    named = argparse.Namespace(mode=flags.mode, model=None, weights=best or folder)
    trainer, config = shared.trained(named)
    spec, start = zoo.get(config["model"]), run.read_record(folder)["starts"][-1]
    door.check_tag_free(spec.name, flags.tag, flags.output)  # known now, not after the work
    key = spec.publish or spec.serve
    if key == "a2b":
        key = flags.direction or key
    else:
        shared.refuse(flags, "direction", "goes with networks that translate")
    network = trainer.ema_networks.get(key)
    if network is None:
        raise UsageError(f"with these options there is no {key} of {spec.name} to publish")
    door.round_to_float16(network)  # what is measured is what is stored
    scores, extractor, grid = SERVED[spec.serve](flags, trainer, config)
    if key == "annotator":
        scores |= localization(flags, trainer, config)
    about = {
        "network": key,
        "options": {**config["options"], "image_size": config["image_size"]},
        "dataset": public(config["dataset"]),
        "scores": scores,
        "origin": {
            "command": shlex.join(["python", "main.py", *published(start["command"])]),
            "data": config["data"],
            "steps": int(trainer.step.numpy()),
            "of_steps": config["steps"],
            "seed": config["seed"],
            "commit": start["versions"].get("commit"),
            **({"run": folder.name} if "--mode=study" in start["command"] else {}),
            **extractor,
        },
        "license": "Apache-2.0",
    }
    try:
        entry = door.save(spec.name, flags.tag, network, about, flags.output)
    except OSError as error:
        raise UsageError(f"cannot write the weights ({error}): give another --output") from None
    place = Path(flags.output or CARDS)
    weights = f"{flags.output}/{flags.tag}" if flags.output else flags.tag
    shows, *use = SHOWS.get(spec.serve, ("",))
    if use:
        mode, flag = use
        named = f"--model={spec.name} --weights={weights}"
        use = [f"python main.py --mode={mode} {named} {flag}"]
    picture = grid and f"{spec.name}-{flags.tag}.png"
    text = cards.card(spec, flags.tag, weights, entry, picture, shows, use)
    write_output(place / f"{spec.name}-{flags.tag}.md", text.encode())
    if grid:
        write_output(place / f"{spec.name}-{flags.tag}.png", grid)
    values = ", ".join(f"{k} {v:.4g}" for k, v in scores.items())
    print(f"{spec.name}:{flags.tag}: {values}, sha256 {entry.sha256}")
    print(f"card: {place / spec.name}-{flags.tag}.md")


def public(text):
    """A data set's name without the folders above what it names."""
    kind, colon, path = text.partition(":")
    return f"{kind}:{Path(path).name}" if colon and kind in ("folder", "hep2") else text


def published(command):
    """A command's arguments without the folders that are nobody's concern."""
    kept, arguments = [], iter(command)
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name in ("--run_dir", "--output", "--data_dir", "--inception"):
            if not equals:
                next(arguments, None)
            continue
        kept.append(f"{name}={public(value)}" if equals else public(argument))
    return kept


def check_tag(tag):
    """Raises UsageError where a tag cannot be a file's name."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", tag):
        raise UsageError(f"--tag={tag}: takes small letters, digits, and . _ - between them")


def classifier(flags, trainer, config):
    """(scores, what measured them, no picture) of a classifier: its accuracy on test images."""
    from .. import datasets
    from ..evaluate import protocol

    why = "measures images: the score of a classifier is its accuracy"
    shared.refuse(flags, "metrics extractor inception split num", why)
    if flags.seed:
        raise UsageError(f"--seed {why}")
    source = {"image_size": config["image_size"], "data_dir": flags.data_dir}
    test = datasets.arrays(config["dataset"], "test", **source)
    name = f"accuracy_{protocol.short(len(test['label']))}_test"
    network = functools.partial(trainer.infer, trainer.ema_networks["classifier"])
    return {name: accuracy(network, test)}, {}, None


def generator(flags, trainer, config):
    """(scores, what measured them, PNG of samples) of a generator."""

    flags.metrics = flags.metrics or METRICS
    source = {"image_size": config["image_size"], "data_dir": flags.data_dir}
    judge = make_judge(flags, config["dataset"], source)
    latent = config["options"]["latent"]
    fakes = functools.partial(samples, trainer.sample, latent, judge.count, flags.seed)
    rows = judge.rows(fakes)
    judge.warn()
    grid = png(image_grid(trainer.sample(draws(64, latent, flags.seed))))
    measured = {k: rows[0][k] for k in ("extractor", "digest")} | {"samples_seed": flags.seed}
    return {row["metric"]: row["value"] for row in rows}, measured, grid


def localization(flags, trainer, config):
    """How well the discriminator's maps find the objects of real images, where their masks are
    known: the scores, and the threshold that --mode=annotate takes."""
    from .. import datasets

    source = {"image_size": config["image_size"], "data_dir": flags.data_dir}
    if "mask" not in datasets.arrays(config["dataset"], "train", **source):
        return {}
    about = {k: config[k] for k in ("model", "dataset")} | {"weights": flags.run_dir}
    network = shared.explainer(about | {"discriminator": trainer.discriminator})
    rows = localize(about, source, flags.split or "test", network)
    threshold = next(row["threshold"] for row in rows if row["metric"].startswith("iou_"))
    return {row["metric"]: row["value"] for row in rows} | {"threshold": threshold}


def translator(flags, trainer, config):
    """(scores, what measured them, PNG of test images and what becomes of them) of one direction of
    a translator."""
    from .. import datasets

    shared.refuse(flags, "split num", "does not go with a translator's test images")
    direction, source = flags.direction or "a2b", {"data_dir": flags.data_dir}
    source["image_size"] = config["image_size"]
    about = {"dataset": config["dataset"], "direction": direction}
    network = functools.partial(trainer.translate, direction=direction)
    rows = translation_rows(argparse.Namespace(**vars(flags)), network, about, source)
    seen = [datasets.arrays(config["dataset"], f"test_{k}", **source)["image"][:8] for k in "ab"]
    shown = trainer.preview(*map(to_float, seen))[direction]
    grid = png(translation_grid([shown]))
    measured = {k: rows[0][k] for k in ("extractor", "digest")}
    return {row["metric"]: row["value"] for row in rows}, measured, grid


def looking(flags, trainer, config):
    """(scores, what measured them, PNG of test images) of a segmenter, or of a classifier whose
    attention is trained."""
    import numpy as np

    from .. import datasets

    serve = zoo.get(config["model"]).serve
    about = {key: config[key] for key in ("model", "dataset", "options")}
    source = {"image_size": config["image_size"], "data_dir": flags.data_dir}
    network = functools.partial(trainer.infer, trainer.ema_networks[serve])
    rows = seen(flags, network, about, source)
    test = datasets.arrays(config["dataset"], flags.split or "test", **source)
    images = np.asarray(test["image"][:8])
    if serve == "segmenter":
        picture = trainer.picture(images, test["classes"][:8])
    else:
        picture = attention_grid(*trainer.attention(images, None))
    return {row["metric"]: row["value"] for row in rows}, {}, png(picture)


SERVED = {"classifier": classifier, "generator": generator, "a2b": translator}
SERVED |= {"segmenter": looking, "attention": looking}

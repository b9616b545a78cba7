"""Scores a model's or a folder's images against a data set; a classifier by its accuracy."""

import argparse
import functools
import json
import sys
from pathlib import Path

from .. import zoo
from ..common.images import foreground, to_float, to_uint8
from . import shared
from .shared import UsageError

USES = """model weights input dataset image_size seed data_dir against direction
metrics extractor inception split num"""
# what a row says of where images come from
MADE = ("model", "weights", "ema", "step", "input", "direction")


def run(flags):
    """Prints a JSON line a metric; adds them to evaluation.jsonl of a run directory."""
    if bool(flags.weights) == bool(flags.input):
        raise UsageError("--mode=evaluate takes --weights=TAG|RUN_DIR|FILE or --input=FOLDER")
    shared.quiet_import()
    import numpy as np

    from .. import datasets
    from ..evaluate import protocol

    theirs = read_scores(flags.against) if flags.against else None
    located = "localization" in (flags.metrics or ())
    if located and (flags.input or len(flags.metrics) > 1):
        raise UsageError("--metrics=localization goes with --weights, and by itself")
    if flags.input:
        if not flags.dataset:
            raise UsageError("--input=FOLDER needs --dataset: what to compare its images with")
        shared.refuse(flags, "model", "goes with --weights")
        size = flags.image_size or datasets.Folder(flags.input, "train").side()
        source = {"image_size": size, "data_dir": flags.data_dir}
        images = datasets.arrays(f"folder:{flags.input}", "train", **source)["image"]
        if datasets.has_split(f"folder:{flags.input}", "test"):
            print(f"{flags.input} has train/ and test/: train/ is evaluated", file=sys.stderr)
        if flags.num and flags.num > len(images):
            raise UsageError(f"--num={flags.num}: {flags.input} has {len(images)} images")
        flags.num = flags.num or len(images)
        chosen = np.random.default_rng(flags.seed).permutation(len(images))[: flags.num]
        chosen = np.sort(chosen)
        about = {"input": flags.input, "dataset": flags.dataset, "folder": None}

        def fakes():
            return (images[chosen[i : i + 1000]] for i in range(0, len(chosen), 1000))

    else:
        shared.refuse(flags, "image_size", "goes with --input: a network has its own")
        network, about = shared.served(flags)
        if "direction" in about:
            return judge_translator(flags, network, about, theirs)
        shared.refuse(flags, "direction", "goes with networks that translate")
        about["dataset"] = flags.dataset or about["dataset"]
        source = {"image_size": about["options"]["image_size"], "data_dir": flags.data_dir}
        if zoo.get(about["model"]).serve in ("segmenter", "attention"):
            return tell(stamped(seen(flags, network, about, source), flags, about), about, theirs)
        if "latent" in about["options"]:
            latent, count = about["options"]["latent"], flags.num or 10_000
            fakes = functools.partial(samples, network, latent, count, flags.seed)
        else:
            why = f"measures images: {about['model']} has an accuracy, and localization"
            if not located:
                shared.refuse(flags, "metrics", why)
            shared.refuse(flags, "extractor inception num", why)
            if flags.seed:
                raise UsageError(f"--seed {why}")
            fakes = None
    if located:
        explainer = shared.explainer(about)
        rows = localize(about, source, flags.split or "test", explainer)
    elif fakes:
        judge = make_judge(flags, about["dataset"], source)
        if theirs is not None:
            protocol.compare(judge.outline(), theirs)  # refused now, not after the work
        rows = judge.rows(fakes)
        judge.warn()
    else:
        rows = [classify(flags, network, about, source)]
    return tell(stamped(rows, flags, about), about, theirs)


def stamped(rows, flags, about):
    """Rows that say where what they measure comes from."""
    made = {k: v for k, v in about.items() if k in MADE}
    made |= {"seed": flags.seed, "versions": shared.versions()}
    return [{**row, **made} for row in rows]


def tell(rows, about, theirs):
    """Prints the rows, keeps them with their run, and sets them against others."""
    from ..evaluate import protocol

    for row in rows:
        print(json.dumps(row))
    if about["folder"]:
        with open(about["folder"] / "evaluation.jsonl", "a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        shared.make_report(about["folder"])
    if theirs is not None:
        for ours, other in protocol.compare(rows, theirs):
            a, b = ours["value"], other["value"]
            print(f"{ours['metric']}: {a:.6g}, against {b:.6g}: {a - b:+.4g}", file=sys.stderr)


def judge_translator(flags, network, about, theirs):
    """The scores of a translator: of a run's both directions, unless one is asked for."""
    shared.refuse(flags, "image_size num split", "does not go with a translator's test images")
    both = [(network, about)]
    if about["folder"] and not flags.direction:
        other = argparse.Namespace(**{**vars(flags), "direction": "b2a"})
        both.append(shared.served(other))
    rows = []
    for network, about in both:
        about["dataset"] = flags.dataset or about["dataset"]
        source = {"image_size": about["options"]["image_size"], "data_dir": flags.data_dir}
        found = translation_rows(argparse.Namespace(**vars(flags)), network, about, source)
        rows += stamped(found, flags, about)
    tell(rows, about, theirs)


def translation_rows(flags, translate, about, source):
    """The rows of one direction: what is made of one domain's test images, judged beside the test
    images of the other, and by the truth where it is known."""
    from .. import datasets
    from ..evaluate import protocol, translation

    dataset, (end, other) = about["dataset"], about["direction"].split("2")
    held = datasets.arrays(dataset, f"test_{end}", **source)
    images = held["image"][:]
    made = shared.translated(translate, images, ("translated", "masks"))
    flags.split, flags.num = f"test_{other}", len(images)
    flags.metrics = flags.metrics or ("kid_blocks10", "kid", "fid")
    judge = make_judge(flags, dataset, source)
    parts = [made["translated"][i : i + 100] for i in range(0, len(images), 100)]
    rows = judge.rows(lambda: iter(parts))
    judge.warn()
    if "truth" in held:
        attention = foreground(made["masks"]) if "masks" in made else None
        what = {"dataset": dataset, "split": f"test_{end}", "count": len(images)}
        what["data"] = datasets.identity(dataset, f"test_{end}", data_dir=source["data_dir"])
        rows += [
            {
                "metric": f"{name}_{protocol.short(len(images))}_test_{end}",
                "value": value,
                **more,
                **what,
            }
            for name, value, more in translation.scores(
                images=images,
                results=made["translated"],
                truths=held["truth"][:],
                masks=held["mask"][..., 0] > 0,
                attention=attention,
            )
        ]
    return rows


def draws(count, latent, seed):
    """z (count, latent), uniform in [-1, 1]: a function of the seed alone."""
    import numpy as np

    return np.random.default_rng(seed).uniform(-1, 1, (count, latent)).astype("float32")


def samples(sample, latent, count, seed):
    """Yields `count` images, uint8 (100, S, S, 3) at a time: a function of the seed alone."""

    z = draws(count, latent, seed)
    for start in range(0, count, 100):
        yield to_uint8(sample(z[start : start + 100]))


def localize(about, source, split, network):
    """The rows of --metrics=localization: how well a network's maps (`shared.explainer`) find the
    objects of a split, with the threshold chosen on 1,000 training images."""
    from .. import datasets
    from ..evaluate import localization, protocol

    dataset, side = about["dataset"], source["image_size"]
    train, held = (datasets.arrays(dataset, part, **source) for part in ("train", split))
    if not all({"mask", "bbox"} <= arrays.keys() for arrays in (train, held)):
        raise UsageError(f"{dataset} has no masks and boxes to find")
    threshold = chosen_threshold(network, train)
    maps, masks, kept = objects(network, held)
    boxes = held["bbox"][kept]
    about = {
        "dataset": dataset,
        "data": datasets.identity(dataset, split, data_dir=source["data_dir"]),
        "split": split,
        "image_size": side,
        "count": len(maps),
    }
    return [
        {"metric": f"{name}_{protocol.short(len(maps))}_{split}", "value": value, **more, **about}
        for name, value, more in localization.scores(maps, masks, boxes, threshold)
    ]


def objects(network, held, count=None):
    """(prepared maps (n, S, S), masks bool (n, S, S), which of the images those are) of the first
    `count` images of {"image", "mask"} that hold an object."""
    from ..evaluate import localization

    masks = held["mask"][:count, ..., 0] > 127
    kept = masks.any((1, 2))
    maps = shared.attended(network, held["image"][:count][kept])
    return localization.prepared(maps, masks.shape[1]), masks[kept], kept


def chosen_threshold(network, train):
    """The threshold of a network's maps that finds the objects of 1,000 training images best."""
    from ..evaluate import localization

    maps, masks, _ = objects(network, train, 1000)
    return localization.best_threshold(maps, masks)


def make_judge(flags, dataset, source, first=None):
    """The evaluate.judge.Judge of --metrics, --extractor, --split and --num; of the `first` real
    images only, where that is given."""
    from .. import datasets
    from ..evaluate import judge

    if "localization" in (flags.metrics or ()):
        raise UsageError("localization is measured by --mode=evaluate, by itself")
    split = flags.split or "test"
    images = datasets.arrays(dataset, split, **source)["image"][:first]
    data = datasets.identity(dataset, split, data_dir=source["data_dir"])
    return judge.Judge(
        images,
        {"dataset": dataset, "data": data, "split": split},
        extractor_of(flags, dataset),
        flags.metrics or ("fid",),
        flags.num or 10_000,
        datasets.place(source["data_dir"]) / "attention_zoo" / "features",
        lambda line: print(line, file=sys.stderr),
    )


def extractor_of(flags, dataset):
    """The evaluate.features.Extractor of --extractor and --inception."""

    from ..evaluate import features, inception

    held = {f"{n}-{tag}": (n, tag) for n in zoo.names() for tag in zoo.get(n).weights}
    held = {k: v for k, v in held.items() if zoo.get(v[0]).serve == "classifier"}
    known = ", ".join(f"zoo:{name}" for name in held)
    name = flags.extractor
    if name is None:
        fitting = [k for k, (_, tag) in held.items() if tag == dataset.split("/")[0]]
        at_hand = flags.inception or inception.find() or not fitting
        name = "inception" if at_hand else f"zoo:{fitting[0]}"
    if name.removeprefix("zoo:") in held:
        shared.refuse(flags, "inception", f"goes with --extractor=inception, not {name}")
        model, tag = held[name.removeprefix("zoo:")]
        digest = zoo.get(model).weights[tag].sha256[:16]
        return features.of_classifier(zoo.load(model, tag), f"{model}-{tag}", digest)
    if name != "inception":
        raise UsageError(f"--extractor={name}: there are inception, {known}")
    try:
        network = inception.load(inception.find(flags.inception) or inception.fetch())
    except inception.InceptionError as error:
        raise UsageError(f"{error}; what works without it: --extractor={known}") from None
    return features.of_inception(network, inception.digest(network)[:16])


def answers(network, images):
    """The class (N,) of the largest logit for each image, uint8 (N, S, S, 3)."""
    return shared.in_parts(lambda x: network(x).argmax(1), images)


def accuracy(network, data):
    """Share of the images of {"image", "label"} that a function of batches names rightly."""
    return float((answers(network, data["image"]) == data["label"]).mean())


def classify(flags, network, about, source):
    """The row of a classifier: its accuracy and confusion matrix, [label][answer] -> images."""
    import numpy as np

    from .. import datasets
    from ..evaluate import protocol

    split, dataset = flags.split or "test", about["dataset"]
    classes = about["options"]["classes"]
    data = datasets.labelled(dataset, split, classes, **source)
    found = data["label"] * classes + answers(network, data["image"])
    confusion = np.bincount(found, minlength=classes**2).reshape(classes, classes)
    count = len(found)
    return {
        "metric": f"accuracy_{protocol.short(count)}_{split}",
        "value": float(np.trace(confusion) / count),
        "dataset": dataset,
        "data": datasets.identity(dataset, split, data_dir=flags.data_dir),
        "split": split,
        "image_size": source["image_size"],
        "count": count,
        "confusion": confusion.tolist(),
    }


def class_scores(network, held, split, most=None):
    """{metric: value} of a function of batches to logits, on {"image", "labels" or "label"}: mean
    average precision of many classes an image, accuracy of one; of the first `most` images."""
    from ..evaluate import multilabel, protocol

    images = held["image"][:most]
    end = f"{protocol.short(len(images))}_{split}"
    if "labels" in held:
        logits = shared.in_parts(network, images)
        value = multilabel.mean_average_precision(logits, held["labels"][:most])
        return {f"map_{end}": value}
    return {f"accuracy_{end}": accuracy(network, {"image": images, "label": held["label"][:most]})}


def pixel_scores(network, held, split, classes, most=None):
    """{metric: value}, the mean intersection over union, of a function of batches to scores (B, S,
    S, K), on {"image", "classes"}; of the first `most` images."""
    import numpy as np

    from ..evaluate import protocol, segmentation

    images, matrix = held["image"][:most], np.zeros((classes, classes), np.int64)
    for start in range(0, len(images), 50):
        part = slice(start, min(start + 50, len(images)))
        found = np.asarray(network(to_float(images[part]))).argmax(-1)
        truth = held["classes"][part][..., 0]
        matrix += segmentation.confusion(truth, found, classes)
    return {f"miou_{protocol.short(len(images))}_{split}": segmentation.mean_iou(matrix)}


def seen(flags, network, about, source):
    """The rows of a network that looks at images, and makes none: a segmenter's, or those of a
    classifier whose attention is trained."""
    import numpy as np

    from .. import datasets

    why = f"does not go with {about['model']}, which makes no images"
    shared.refuse(flags, "metrics extractor inception num", why)
    split, dataset = flags.split or "test", about["dataset"]
    held = datasets.arrays(dataset, split, **source)
    if zoo.get(about["model"]).serve == "segmenter":
        if "classes" not in held:
            raise UsageError(f"{dataset} has no map of classes to compare with")
        found = pixel_scores(network, held, split, about["options"]["classes"])
    else:
        if not {"label", "labels"} & held.keys():
            raise UsageError(f"{dataset} has no labels to compare with")
        found = class_scores(lambda x: np.asarray(network(x)["logits"]), held, split)
    what = {"dataset": dataset, "split": split, "count": len(held["image"])}
    what["data"] = datasets.identity(dataset, split, data_dir=source["data_dir"])
    what["image_size"] = source["image_size"]
    return [{"metric": name, "value": value, **what} for name, value in found.items()]


def read_scores(path):
    """The rows of a run directory's evaluation.jsonl, or of such a file."""
    from ..trainers import run

    path = Path(path)
    path = path / "evaluation.jsonl" if path.is_dir() else path
    rows = [row for row in run.read_rows(path) if {"metric", "value"} <= row.keys()]
    if not rows:
        raise UsageError(f"--against: {path} holds no scores of --mode=evaluate")
    return rows

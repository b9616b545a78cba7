"""Which of ATA-GAN's claims hold? Trained classifiers and GANs, measured and set side by side."""

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
from absl import logging

from .. import zoo
from ..common.errors import UsageError
from ..common.files import write_output
from ..common.tables import markdown
from ..datasets import open_dataset
from ..evaluate import coverage, localization
from ..experiments import run_directory
from ..experiments.models import load, open_run
from ..experiments.versions import versions
from ..reports import comparison
from ..tasks import classification, generation, scoring
from ..tasks.base import EvaluationRequest
from .base import Study, folder_name
from .comparison import teacher_maps

METRICS = ("fid", "kid", "precision_recall")
BASELINES = {"brightness": localization.brightness, "nearness": localization.nearness}
FOUND = ("maxboxacc", "pxap", "iou", "pointing")
LOCATES = {"resnet18": True, "squeezenet": False}  # what the paper says (figures 3 and 5)
WITH, WITHOUT = 0.8, 0.5  # shares of the teacher's IoU that a discriminator should reach
ANNOTATED = 1000  # generated images whose maps are compared, at most
SHOWN = 8  # images drawn


@dataclasses.dataclass(frozen=True)
class Opened:
    """A model of the list. name: what tables call it. setting: what runs that differ only in their
    seed have in common."""

    name: str
    model: object
    setting: str
    weight: float | None = None  # of the attention loss


def opened(text):
    """An Opened of RUN_DIR, FILE or MODEL:TAG, followed by options of the network as
    ":NAME=VALUE"."""
    parts, settings = text.strip().split(":"), {}
    while len(parts) > 1 and "=" in parts[-1]:
        name, _, value = parts.pop().partition("=")
        settings[name] = value
    place = ":".join(parts)
    published, _, tag = place.partition(":")
    if tag and published in zoo.names():
        model, config = load(published, tag, settings=settings), {}
    else:
        model = open_run(place, settings=settings)
        config = run_directory.read_record(model.origin.folder)["config"]
    ending = "".join(f" {name}={value}" for name, value in settings.items())
    name = (Path(place).name if config else place) + ending
    same = {key: value for key, value in config.items() if key != "seed"} or place
    weight = (config.get("hparams") or {}).get("attention_weight")
    return Opened(name, model, json.dumps([same, ending], sort_keys=True), weight)


def claims(runs, data, *, judge=None, request, output="claims", data_dir=None, say=None):
    """Measures trained models and writes claims.md, claims.json and pictures; returns a Study.

    runs: texts for `opened`: classifiers, whose accuracy and maps are measured, and GANs. data: the
    name of a data set with masks on which maps are measured. judge: a text for `opened`, a
    classifier that has taught no GAN: it names the patterns of generated images. request: an
    EvaluationRequest: num generated images; extractor: names separated by commas; split: of `data`
    (default: "all"). say: a function of each row as it is measured.
    """
    say = say or (lambda row: logging.info(row))
    models = [opened(text) for text in runs]
    if len({one.name for one in models}) < len(models):
        raise UsageError("two of the runs have the same name: rename one of their folders")
    classifiers = [one for one in models if "classify" in one.model.capabilities]
    gans = [one for one in models if "sample" in one.model.capabilities]
    if gans and judge is None:
        raise UsageError("generated images need a judge: give the run of a classifier")
    maps = Maps(data, request.split or "all", data_dir)
    teachers = {name: maps.found(function) for name, function in BASELINES.items()}
    for one in classifiers:
        teachers[one.name] = measured_classifier(one, maps, data_dir)
        say(json.dumps({one.name: teachers[one.name]}))
    judge = opened(judge).model if gans else None
    generated = {}
    for one in gans:
        generated[one.name] = measured_gan(one, maps, judge, request, data_dir, Path(output))
        say(json.dumps({one.name: generated[one.name]}))
    rows = grouped(gans, generated)
    names = judge_names(judge, gans, data_dir) if gans else ()
    tables = {
        "Teachers, and baselines that know nothing": teacher_table(teachers),
        "Generators and discriminators, mean (lowest to highest)": gan_table(rows),
        "Generated images by pattern": pattern_table(rows, names),
        "Claims": claim_table(classifiers, gans, teachers, rows),
    }
    text = "\n".join(f"## {title}\n\n{table}" for title, table in tables.items() if table)
    about = {
        "study": "claims",
        "dataset": data,
        "data": maps.data.identity("train"),
        "split": maps.split,
        "num": request.num,
        "seed": request.seed,
        "versions": versions(),
    }
    folder = Path(output)
    numbers = {**about, "teachers": teachers, "gans": generated}
    write_output(folder / "claims.json", json.dumps(numbers, indent=1))
    write_output(folder / "claims.md", text)
    write_output(folder / "claims_maps.png", maps.picture(models))
    return Study(folder, text, folder / "claims.md", numbers)


class Maps:
    """The images with masks on which maps are measured, at the size of each network.

    name: of the data set. split: "train", "test" or "all".
    """

    def __init__(self, name, split, data_dir):
        self.data, self.split = open_dataset(name, None, data_dir), split
        self.images = functools.lru_cache(2)(self._images)

    def _images(self, size):
        return scoring.masked(self.data.resized(size), self.split)

    def found(self, object_maps, size=64):
        """{score: value} of how well maps find the objects; "threshold" fits all of them, and
        "iou_by_label" is the mean for each label."""
        arrays = self.images(size)
        maps, masks, kept = scoring.objects(object_maps, arrays)
        scores = localization.scores(maps, masks, arrays["bbox"][kept], None)
        each, thresholds = localization.halved_iou(maps, masks)
        label = arrays["label"][kept]
        by_label = {int(k): float(each[label == k].mean()) for k in np.unique(label)}
        values = {name: float(value) for name, value, _ in scores}
        return {**values, "threshold": float(np.mean(thresholds)), "iou_by_label": by_label}

    def picture(self, models):
        """PNG: images with their outlines, and a row of maps for each model that explains."""
        chosen = np.linspace(0, len(self.images(64)["image"]) - 1, SHOWN).astype(int)
        arrays = {key: value[chosen] for key, value in self.images(64).items()}
        rows = {"image, mask": arrays["image"]}
        rows |= {name: function(arrays["image"]) for name, function in BASELINES.items()}
        for one in models:
            if "explain" in one.model.capabilities:
                images = self.images(one.model.image_size)["image"][chosen]
                maps = one.model.object_maps(images)
                rows[one.name] = localization.prepared(maps, 64)
        return comparison.pictures(rows, arrays["mask"][..., 0] > 127)


def measured_classifier(one, maps, data_dir):
    """{name: value} of a classifier on the test images of its own data set, if they are here, and
    of its maps."""
    model = one.model
    values = {"dataset": model.origin.dataset}
    try:
        own = open_dataset(model.origin.dataset, model.image_size, data_dir)
        accuracy, by_class = classification.evaluate(model, own, EvaluationRequest())
    except UsageError as error:  # published weights: whoever published them has the data
        logging.warning("%s: no accuracy, as its data are missing: %s", one.name, error)
    else:
        values |= {"accuracy": accuracy.value, "mean_class_accuracy": by_class.value}
        values["confusion"] = accuracy.details["confusion"]
    if "explain" in model.capabilities:
        values |= maps.found(model.object_maps, model.image_size)
    return values


def measured_gan(one, maps, judge, request, data_dir, folder):
    """{name: value} of a generator's images and, if its discriminator makes maps, of these."""
    model, num = one.model, request.num or 10_000
    own = open_dataset(model.origin.dataset, model.image_size, data_dir)
    values = {}
    for extractor in (request.extractor or "").split(","):
        asked = EvaluationRequest(METRICS, num, extractor or None, request.inception, None)
        asked = dataclasses.replace(asked, seed=request.seed, progress=request.progress)
        values |= {score.metric: score.value for score in generation.evaluate(model, own, asked)}
    images = model.sample(num, request.seed)
    answer = judge.classify(images)
    classes = answer.logits.shape[1]
    values["classes"], values["entropy"] = coverage.class_coverage(answer.logits)
    values["shares"] = (np.bincount(answer.labels, minlength=classes) / num).tolist()
    real = own.arrays("test")
    if "label" in real:
        values["real_shares"] = (
            np.bincount(real["label"], minlength=classes) / len(real["label"])
        ).tolist()
    drawn = {}
    if "explain" in model.capabilities:
        looks = {"discriminator": model.object_maps, "teacher": teacher_maps(model)}
        looks["brightness"] = localization.brightness
        found = {name: maps.found(look, model.image_size) for name, look in looks.items()}
        values |= {f"{name}_{key}": found[name][key] for name in looks for key in found[name]}
        values["share_of_teacher"] = found["discriminator"]["iou"] / found["teacher"]["iou"]
        images, labels = images[:ANNOTATED], answer.labels[:ANNOTATED]
        drawn = {name: look(images) for name, look in looks.items()}
        inside = {name: drawn[name] >= found[name]["threshold"] for name in looks}
        for other in ("teacher", "brightness"):
            values |= agreement(inside["discriminator"], inside[other], labels, other)
    name = folder_name(one.name)
    names = judge_names(judge, [one], data_dir)
    pictures = beside(images, answer.labels[: len(images)], real, names)
    write_output(folder / f"claims_samples_{name}.png", comparison.strips(pictures))
    if drawn:
        shown = by_pattern(answer.labels[: len(images)], classes)
        rows = {"generated": images[shown]} | {key: value[shown] for key, value in drawn.items()}
        write_output(folder / f"claims_maps_{name}.png", comparison.pictures(rows))
    return values


def agreement(ours, theirs, labels, name):
    """How well masks (N, S, S) of the same images agree: mean IoU, of all and by label, and the
    share of images whose boxes about the largest parts have an IoU of at least 0.5."""
    both, either = ((f(ours, theirs)).sum((1, 2)) for f in (np.logical_and, np.logical_or))
    iou = both / np.maximum(either, 1)
    boxes = (localization.largest_boxes(np.float64(masks), [0.5])[0] for masks in (ours, theirs))
    alike = localization.box_iou(*boxes) >= 0.5
    by_label = {int(k): float(iou[labels == k].mean()) for k in np.unique(labels)}
    return {
        f"agreement_{name}": float(iou.mean()),
        f"agreement_{name}_boxes": float(alike.mean()),
        f"agreement_{name}_by_label": by_label,
    }


def by_pattern(labels, classes, most=SHOWN):
    """Places of the first images of each class in turn, `most` of them."""
    each = [np.flatnonzero(labels == label)[: -(-most // classes)] for label in range(classes)]
    found = np.concatenate(each)[:most]
    more = np.setdiff1d(np.arange(len(labels)), found)[: max(0, most - len(found))]
    return np.concatenate([found, more])


def beside(images, labels, real, names, most=8):
    """{name: pictures}: for each class a row of generated images and, if the real ones have labels,
    a row of these. What is lacking is grey."""
    rows = {}
    for label, name in enumerate(names):
        kinds = {"generated": (images, labels)}
        if "label" in real:
            kinds["real"] = (real["image"], real["label"])
        for kind, (pictures, answers) in kinds.items():
            row = np.full((most, *pictures.shape[1:]), 128, np.uint8)
            chosen = np.flatnonzero(answers == label)[:most]
            row[: len(chosen)] = pictures[chosen]
            rows[f"{name}, {kind}"] = row
    return rows


def judge_names(judge, gans, data_dir):
    """Names of the judge's classes: those of the data set of the GANs, or numbers."""
    names = open_dataset(gans[0].model.origin.dataset, None, data_dir).class_names
    count = judge.options["classes"]
    return names if len(names) == count else [str(i) for i in range(count)]


def grouped(gans, generated):
    """{name: [values]} of GANs that differ only in their seed, and (setting) their Opened."""
    groups = {}
    for one in gans:
        groups.setdefault(one.setting, []).append(one)
    return {
        ones[0].name: (ones[0], [generated[one.name] for one in ones]) for ones in groups.values()
    }


def spread(values, form=".3f"):
    """Numbers as text: their mean and, of several, the lowest and the highest."""
    values = [value for value in values if value is not None]
    if not values:
        return "–"
    if len(values) == 1:
        return format(values[0], form)
    low, high = min(values), max(values)
    return f"{np.mean(values):{form}} ({low:{form}} to {high:{form}})"


def mean(values, key):
    """The mean of a key over rows; None if they lack it."""
    found = [row[key] for row in values if key in row]
    return float(np.mean(found)) if found else None


def teacher_table(teachers):
    lines = [["map of", "trained on", "accuracy", "mean class accuracy", *FOUND]]
    for name, row in teachers.items():
        rights = (row.get(key) for key in ("accuracy", "mean_class_accuracy"))
        rights = ("–" if value is None else f"{100 * value:.2f} %" for value in rights)
        trained = row.get("dataset", "–").split("/")[-1]
        lines.append([name, trained, *rights, *(spread([row.get(key)]) for key in FOUND)])
    return markdown(lines)


def gan_table(rows):
    if not rows:
        return ""
    keys = [f"discriminator_{key}" for key in FOUND] + ["teacher_iou", "share_of_teacher"]
    keys += ["agreement_teacher", "agreement_teacher_boxes", "agreement_brightness"]
    every = dict.fromkeys(key for _, values in rows.values() for row in values for key in row)
    measured = [key for key in every if key.startswith(("fid_", "kid_", "precision_", "recall_"))]
    keys += [*measured, "classes", "entropy"]
    lines = [["", "seeds", *(key.replace("_", " ") for key in keys)]]
    for name, (_, values) in rows.items():
        cells = (spread([row.get(key) for row in values], ".4g") for key in keys)
        lines.append([name, str(len(values)), *cells])
    return markdown(list(map(list, zip(*lines))))


def pattern_table(rows, names):
    """A line for each GAN and pattern: shares of images, how well masks of generated images agree,
    and the IoU of masks of the images with masks that have this label."""
    kinds = {
        "discriminator and teacher, generated": "agreement_teacher",
        "discriminator and brightness, generated": "agreement_brightness",
        "discriminator, masked images": "discriminator_iou",
        "teacher, masked images": "teacher_iou",
        "brightness, masked images": "brightness_iou",
    }
    lines = [["", "pattern", "share, generated", "share, real", *kinds]]
    for name, (_, values) in rows.items():
        for label, pattern in enumerate(names):
            cells = [spread([row["shares"][label] for row in values])]
            real = [row["real_shares"][label] for row in values[:1] if "real_shares" in row]
            cells.append(spread(real))
            for key in kinds.values():
                by_label = (row.get(f"{key}_by_label", {}) for row in values)
                cells.append(spread([found.get(label) for found in by_label]))
            lines.append([name, pattern, *cells])
    return markdown(lines) if rows else ""


def claim_table(classifiers, gans, teachers, rows):
    """The paper's claims, what was measured, and whether they hold by the rules above."""
    lines = [["claim", "paper", "here", "verdict"]]

    def add(claim, paper, here, holds):
        lines.append([claim, paper, here, "–" if holds is None else "holds" if holds else "fails"])

    best = max(teachers[name]["iou"] for name in BASELINES)
    for one in classifiers:
        row, says = teachers[one.name], LOCATES.get(one.model.name)
        text = "–" if says is None else "yes (figures 3, 5)" if says else "no (figure 3)"
        if "iou" in row:
            here = f"IoU {row['iou']:.3f}, pointing {row['pointing']:.3f}; best baseline {best:.3f}"
            holds = None if says is None else (row["iou"] > best) == says
            add(f"{one.name} locates the cell", text, here, holds)
        if "accuracy" in row:
            rights = (100 * row[key] for key in ("accuracy", "mean_class_accuracy"))
            here = "{:.2f} %, mean of classes {:.2f} %".format(*rights)
            add(f"{one.name} is right", "76.28 % (on MIVIA's set)", here, None)
    taught = {name: (one, values) for name, (one, values) in rows.items() if one.weight}
    plain = {name: (one, values) for name, (one, values) in rows.items() if one.weight == 0}
    for name, (_, values) in plain.items():
        share = mean(values, "share_of_teacher")
        here = f"{100 * share:.0f} % of its teacher's IoU"
        add(
            f"{name}: a regular GAN's discriminator does not locate",
            "figure 4",
            here,
            share <= WITHOUT,
        )
    for name, (_, values) in taught.items():
        share = mean(values, "share_of_teacher")
        here = f"{100 * share:.0f} % of its teacher's IoU"
        add(f"{name}: with the attention loss it does", "figure 8", here, share >= WITH)
        ours, theirs = (mean(values, f"agreement_{k}") for k in ("teacher", "brightness"))
        here = f"IoU {ours:.3f} with the teacher's masks, {theirs:.3f} with brightness"
        add(f"{name}: it annotates generated images", "figure 8", here, None)
        for other, (_, before) in plain.items():
            for key in (key for key in values[0] if key.startswith("fid_")):
                a, b = ([row[key] for row in part] for part in (values, before))
                here = f"{key}: {spread(a, '.4g')}, without {spread(b, '.4g')}"
                holds = np.mean(a) <= np.mean(b) + max(np.ptp(a), np.ptp(b))
                add(f"{name}: images are no worse than {other}'s", "section III", here, bool(holds))
    return markdown(lines)

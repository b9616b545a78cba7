"""The studies of GAIN: what its attention is worth as labels of pixels, and whether it looks at the
object where data are biased."""

import functools
import json

import numpy as np
from tqdm import tqdm

from ..common.errors import UsageError
from ..common.files import write_output
from ..common.images import to_float
from ..common.tables import markdown
from ..datasets import open_dataset
from ..evaluate import crf, segmentation
from ..experiments.models import open_run
from ..experiments.training import restore_trainer
from ..reports import comparison
from ..trainers.deeplab import palette
from ..zoo.deeplab import BACKBONES
from .base import Study

RUNS = {  # name -> settings
    "Grad-CAM": {"loss": "classifier", "alpha": 0.0},
    "GAIN": {"loss": "gain"},
}
SHARES = (0.01, 0.1)  # of the training images, whose masks GAIN_ext is shown
FOREGROUND = 0.2  # share of a map's maximum above which a pixel is of its class (GAIN's notes)
SEC = {"Grad-CAM": "SEC", "GAIN": "SEC, cues of GAIN"}  # whose attention gives cues to it
CUES = {"foreground": 0.2, "background": 0.05, "conflict": "smallest"}  # SEC's, of the attention
SWEPT = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)  # other thresholds, for which labels are scored too
VOC_SIDE = 500  # pixels, for which the CRF's defaults are
SHOWN = 6  # images drawn
IGNORED = 255


def gain(study, runs, data="creatures/many", *, foreground=None, background=None, num=None):
    """Classifier, GAIN and GAIN_ext -> attention -> pseudo labels -> DeepLab -> CRF -> mIoU, and
    SEC on the cues of some; returns a Study. The same call goes on where it was interrupted.

    runs: a StudyRuns. foreground, background: thresholds of pseudo labels
    (evaluate.segmentation.pseudo_labels); background: None: the same as foreground. num: test
    images; None: all.
    """
    foreground = FOREGROUND if foreground is None else foreground
    if background is not None and background > foreground:
        raise UsageError(f"background lies above threshold={foreground:g}")
    check_keys(study, data, runs, "labels", "classes")
    labels, rows, swept, cues = {}, {}, {}, {}
    for name, trainer, config in guided_runs(study, runs, data, SHARES):
        dataset = open_dataset(data, config.image_size, runs.data_dir)
        train = dataset.arrays("train")
        classes = train["labels"].shape[1] + 1
        pseudo = functools.partial(
            segmentation.pseudo_labels,
            attention_of(trainer, train["image"]),
            train["labels"],
            config.image_size,
        )
        labels[name] = pseudo(foreground=foreground, background=background)
        rows[name] = [mean_iou(train["classes"], labels[name], classes)]
        swept[name] = [mean_iou(train["classes"], pseudo(foreground=t), classes) for t in SWEPT]
        if name in SEC:
            cues[SEC[name]] = pseudo(**CUES)
    labels, rows = labels | cues, rows | {name: [None] for name in cues}

    predicted = {}
    for name, maps in labels.items():
        run, settings = f"{name}: deeplab", {"loss": "sec"} if name in cues else {}
        if runs.settings.get("backbone") not in (None, *BACKBONES):  # of the classifier alone
            settings["backbone"] = BACKBONES[0]
        replace = {"classes": maps[..., None]}
        runs.train(study, run, "deeplab", data, settings, replace=replace, others=("gain",))
        model, test = open_run(runs.folder(run)), dataset.arrays("test")
        images, truth = (test[key][:num] for key in ("image", "classes"))
        p = model.probabilities(images)
        predicted[name] = refined(p, images, runs.progress)
        for answer in (p.argmax(-1), predicted[name]):
            rows[name].append(mean_iou(truth, answer, classes))

    scales = config.options.get("scales")
    about = {"scales": scales} if scales else {}  # of the attention
    lines = [["attention of", "pseudo labels, mIoU", "DeepLab, mIoU", "and CRF, mIoU"]]
    lines[0] += [f"pseudo labels at {t}" for t in SWEPT]
    for name, row in rows.items():
        row += swept.get(name, [None] * len(SWEPT))
        lines.append([name, *("–" if v is None else f"{100 * v:.1f}" for v in row)])
    picture = drawn(train["image"], train["classes"], labels)
    write_output(runs.output / "gain_pseudo_labels.png", picture)
    picture = drawn(test["image"], test["classes"], predicted)
    return written(runs.output, "gain", lines, rows, picture, **about)


def biased(study, runs, data="creatures/biased"):
    """Classifier, GAIN and GAIN_ext where each class is always seen on one scene: are they right,
    and is their attention on the object, on that scene and on others? Returns a Study."""
    check_keys(study, data, runs, "label", "mask", "classes", "context")
    rows, maps = {}, {}
    for name, trainer, config in guided_runs(study, runs, data, SHARES[1:]):
        test = open_dataset(data, config.image_size, runs.data_dir).arrays("test")
        label, inside = test["label"], test["mask"][..., 0] > 127
        logits, attention = trainer.explain(to_float(test["image"][:]))
        attention = attention[np.arange(len(label)), label]  # of the true class, (N, S, S)
        right = logits.argmax(1) == label
        share = (attention * inside).sum((1, 2)) / np.maximum(attention.sum((1, 2)), 1e-9)
        rows[name] = [float(v[test["context"] == k].mean()) for v in (right, share) for k in (1, 0)]
        maps[name] = attention[:SHOWN]
    head = ["accuracy, own scene", "accuracy, other scene"]
    head += ["attention on the object, own scene", "attention on the object, other scene"]
    lines = [["", *head], *([k, *(f"{100 * v:.1f} %" for v in row)] for k, row in rows.items())]
    pictures = {"image, mask": test["image"][:SHOWN], **maps}
    picture = comparison.pictures(pictures, inside[:SHOWN])
    scales = config.options.get("scales")
    about = {"scales": scales} if scales else {}
    return written(runs.output, "biased", lines, rows, picture, **about)


def check_keys(study, data, runs, *keys):
    """Raises UsageError if a data set lacks one of the keys."""
    dataset = open_dataset(data, runs.options.get("image_size"), runs.data_dir)
    lacking = [key for key in keys if key not in dataset.arrays("train")]
    if lacking:
        raise UsageError(f"the study {study} needs {', '.join(lacking)}, which {data} lacks")


def guided_runs(study, runs, data, shares):
    """Trains each network whose attention is looked at; yields (name, trainer, RunConfig)."""
    count = len(open_dataset(data, None, runs.data_dir).arrays("train")["image"])
    settings = dict(RUNS)
    for share in shares:
        masks = max(1, round(share * count))
        settings[f"GAIN_ext, {share:.0%} of masks"] = {"loss": "gain_ext", "masks": masks}
    for name, own in settings.items():
        runs.train(study, name, "gain", data, own, others=("deeplab",))
        yield name, *restore_trainer(runs.folder(name))


def attention_of(trainer, images):
    """Attention (N, S, S, C), float16, of uint8 images, 0 where a class is not there."""
    parts = []
    for start in range(0, len(images), 100):
        _, maps = trainer.explain(to_float(images[start : start + 100]))
        parts.append(np.moveaxis(maps, 1, -1).astype("float16"))
    return np.concatenate(parts)


def mean_iou(truth, predicted, classes):
    """mIoU of class maps (N, S, S, 1) and (N, S, S[, 1]). Pixels whose label is predicted as
    ignored count as background."""
    predicted = np.reshape(predicted, truth.shape)
    predicted = np.where(predicted == IGNORED, 0, predicted)
    return segmentation.mean_iou(segmentation.confusion(truth[:], predicted, classes))


def refined(p, images, progress=False):
    """Probabilities (N, S, S, K) -> class maps (N, S, S) by the CRF."""
    pairs = tqdm(
        zip(p, images),
        total=len(p),
        unit="CRF",
        dynamic_ncols=True,
        leave=False,
        disable=not progress,
    )
    scale = images.shape[1] / VOC_SIDE
    return np.stack([crf.refined(q, x, scale=scale, exact=0).argmax(-1) for q, x in pairs])


def drawn(images, truth, maps):
    """PNG of the first SHOWN images, their true class maps, and a row of class maps for each name
    of {name: maps}."""
    images, truth = images[:SHOWN], truth[:SHOWN, ..., 0]
    rows = {"image": images, "truth": palette()[truth]}
    rows |= {name: palette()[m[:SHOWN].reshape(truth.shape)] for name, m in maps.items()}
    return comparison.pictures(rows)


def written(folder, name, lines, rows, picture, **about):
    """Writes the table as Markdown and JSON, with what it is about, and the picture; returns the
    Study."""
    table, text = markdown(lines), json.dumps({**about, "head": lines[0], "rows": rows})
    write_output(folder / f"{name}.md", table)
    write_output(folder / f"{name}.json", text)
    write_output(folder / f"{name}.png", picture)
    return Study(folder, table, folder / f"{name}.png", rows)

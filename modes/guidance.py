"""The studies of GAIN: what its attention is worth as labels of pixels, and whether it looks at
the object where data are biased."""

import argparse
import functools
import gc
import json
from pathlib import Path

from .. import zoo
from ..common.files import write_output
from ..common.images import to_float
from ..common.tables import markdown
from . import shared, train
from .shared import UsageError

RUNS = {"Grad-CAM": ["loss=classifier", "alpha=0"], "GAIN": ["loss=gain"]}  # --set's of each
SHARES = (0.01, 0.1)  # of the training images, whose masks GAIN_ext is shown
FOREGROUND = 0.2  # share of a map's maximum above which a pixel is of its class (GAIN's notes)
SEC = {"Grad-CAM": "SEC", "GAIN": "SEC, cues of GAIN"}  # whose attention gives cues to it
CUES = {"foreground": 0.2, "background": 0.05, "conflict": "smallest"}  # SEC's, of the attention
SWEPT = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)  # other thresholds, for which labels are scored too
VOC_SIDE = 500  # pixels, for which the CRF's defaults are
SHOWN = 6  # images drawn
IGNORED = 255


def gain(flags):
    """Classifier, GAIN and GAIN_ext -> attention -> pseudo labels -> DeepLab -> CRF -> mIoU, and
    SEC on the cues of some. The same command goes on where it was interrupted. --threshold and
    --background, by default the same: of pseudo labels (evaluate.segmentation.pseudo_labels)."""
    foreground = FOREGROUND if flags.threshold is None else flags.threshold
    if flags.background is not None and flags.background > foreground:
        raise UsageError(f"--background lies above --threshold={foreground:g}")
    dataset, folder = flags.dataset or "creatures/many", Path(flags.output or "gain")
    needed(flags, dataset, "labels", "classes")
    import numpy as np

    from .. import datasets
    from ..evaluate import segmentation

    maps, rows, swept, cues = {}, {}, {}, {}
    for name, trainer, config in attentive(flags, dataset, folder, SHARES):
        source = {"image_size": config["image_size"], "data_dir": flags.data_dir}
        held = datasets.arrays(dataset, "train", **source)
        classes = held["labels"].shape[1] + 1
        attention = of_all(trainer, held)
        labelled = functools.partial(
            segmentation.pseudo_labels, attention, held["labels"], config["image_size"]
        )
        maps[name] = labelled(foreground=foreground, background=flags.background)
        rows[name] = [scored(held["classes"], maps[name], classes)]
        swept[name] = [scored(held["classes"], labelled(foreground=t), classes) for t in SWEPT]
        if name in SEC:
            cues[SEC[name]] = labelled(**CUES)
    maps, rows = maps | cues, rows | {name: [None] for name in cues}

    found = {}
    for name, labels in maps.items():
        pairs = ["loss=sec"] if name in cues else []
        run = f"{name}: deeplab"
        given = flags, "deeplab", "gain", dataset, folder, run, pairs
        trainer, _ = trained(*given, labels[..., None])
        test = datasets.arrays(dataset, "test", **source)
        images, truth = (test[key][: flags.num] for key in ("image", "classes"))
        parts = [trainer.probabilities(images[i : i + 50]) for i in range(0, len(images), 50)]
        p = np.concatenate(parts)
        found[name] = refined(p, images)
        rows[name] += [scored(truth, answer, classes) for answer in (p.argmax(-1), found[name])]

    lines = [["attention of", "pseudo labels, mIoU", "DeepLab, mIoU", "and CRF, mIoU"]]
    lines[0] += [f"pseudo labels at {t}" for t in SWEPT]
    for name, row in rows.items():
        row += swept.get(name, [None] * len(SWEPT))
        lines.append([name, *("–" if v is None else f"{100 * v:.1f}" for v in row)])
    seen = test["image"][:SHOWN], test["classes"][:SHOWN, ..., 0]
    written(folder, "gain", lines, rows, drawn(*seen, {k: v[:SHOWN] for k, v in found.items()}))
    given = held["image"][:SHOWN], held["classes"][:SHOWN, ..., 0]
    pictures = drawn(*given, {k: v[:SHOWN] for k, v in maps.items()})
    write_output(folder / "gain_pseudo_labels.png", pictures)


def biased(flags):
    """Classifier, GAIN and GAIN_ext where each class is always seen on one scene: are they right,
    and is their attention on the object, on that scene and on others?"""
    dataset, folder = flags.dataset or "creatures/biased", Path(flags.output or "biased")
    needed(flags, dataset, "label", "mask", "classes", "context")
    import numpy as np

    from .. import datasets
    from ..reports import comparison

    rows, maps = {}, {}
    for name, trainer, config in attentive(flags, dataset, folder, SHARES[1:]):
        source = {"image_size": config["image_size"], "data_dir": flags.data_dir}
        test = datasets.arrays(dataset, "test", **source)
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
    written(folder, "biased", lines, rows, picture)


def needed(flags, dataset, *keys):
    """Refuses flags that these studies do not use, and a data set that lacks a key."""
    why = f"does not go with --study={flags.study}"
    shared.refuse(flags, "weights model metrics extractor split stop_window stop_tolerance", why)
    shared.quiet_import()
    from .. import datasets

    held = datasets.arrays(dataset, "train", image_size=flags.image_size, data_dir=flags.data_dir)
    lacking = [key for key in keys if key not in held]
    if lacking:
        raise UsageError(f"--study={flags.study} needs {', '.join(lacking)}, which {dataset} lacks")


def attentive(flags, dataset, folder, shares):
    """Trains each network whose attention is looked at; yields (name, trainer, configuration)."""
    from .. import datasets

    count = len(datasets.arrays(dataset, "train", data_dir=flags.data_dir)["image"])
    runs = dict(RUNS)
    for share in shares:
        masks = max(1, round(share * count))
        runs[f"GAIN_ext, {share:.0%} of masks"] = ["loss=gain_ext", f"masks={masks}"]
    for name, pairs in runs.items():
        yield name, *trained(flags, "gain", "deeplab", dataset, folder, name, pairs)


def trained(flags, model, other, dataset, folder, name, pairs, classes=None):
    """(trainer, configuration) of a run below the folder, trained or gone on with. --set is for
    those of the study's two models, `model` and `other`, that know the name."""
    import keras

    print(f"{flags.study}: {name}", flush=True)
    one = argparse.Namespace(**vars(flags))
    others = names(other) - names(model)
    asked = [pair for pair in flags.set if pair.partition("=")[0] not in others]
    one.mode, one.model, one.dataset, one.set = "train", model, dataset, [*asked, *pairs]
    one.strategy, one.stop, one.num, one.inception = "auto", None, None, None
    one.run_dir = str(folder / shared.run_name(name))
    train.run(one, classes)
    keras.backend.clear_session()
    gc.collect()
    return shared.trained(argparse.Namespace(mode=flags.mode, model=None, weights=one.run_dir))


def names(model):
    """What --set can change of a model."""
    from .. import trainers

    hparams = next(iter(trainers.get(model).VARIANTS.values()))[0]()
    return {*zoo.options(model), *vars(hparams)}


def of_all(trainer, held):
    """Attention (N, S, S, C) of training images, 0 where a class is not there."""
    import numpy as np

    parts = []
    for start in range(0, len(held["image"]), 100):
        _, maps = trainer.explain(to_float(held["image"][start : start + 100]))
        parts.append(np.moveaxis(maps, 1, -1).astype("float16"))
    return np.concatenate(parts)


def scored(truth, predicted, classes):
    """mIoU of class maps (N, S, S, 1) and (N, S, S[, 1]); what is ignored of both counts as the
    background where it was predicted."""
    import numpy as np

    from ..evaluate import segmentation

    predicted = np.reshape(predicted, truth.shape)
    predicted = np.where(predicted == IGNORED, 0, predicted)
    return segmentation.mean_iou(segmentation.confusion(truth[:], predicted, classes))


def refined(p, images):
    """Probabilities (N, S, S, K) -> class maps (N, S, S) by the CRF."""
    import numpy as np
    from tqdm import tqdm

    from ..evaluate import crf

    pairs = tqdm(zip(p, images), total=len(p), unit="CRF", dynamic_ncols=True, leave=False)
    scale = images.shape[1] / VOC_SIDE
    return np.stack([crf.refined(q, x, scale=scale, exact=0).argmax(-1) for q, x in pairs])


def drawn(images, truth, found):
    """PNG: images, their true class maps, and below a row of class maps a name."""
    from ..reports import comparison
    from ..trainers.deeplab import palette

    rows = {"image": images, "truth": palette()[truth]}
    rows |= {name: palette()[maps.reshape(truth.shape)] for name, maps in found.items()}
    return comparison.pictures(rows)


def written(folder, name, lines, rows, picture):
    """The table as Markdown and JSON, the picture; the table on stdout."""
    table = markdown(lines)
    write_output(folder / f"{name}.md", table.encode())
    write_output(folder / f"{name}.json", json.dumps({"head": lines[0], "rows": rows}).encode())
    write_output(folder / f"{name}.png", picture)
    print(table)
    print(f"study: {folder}")

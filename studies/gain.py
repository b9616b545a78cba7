"""The studies of GAIN: what its attention is worth as labels of pixels, and whether it looks at the
object where data are biased."""

import functools

import numpy as np
from tqdm import tqdm

from ..common.errors import UsageError
from ..common.files import write_output
from ..common.images import attention_grid, png, to_float
from ..common.tables import markdown
from ..datasets import open_dataset
from ..datasets.stream import permutation
from ..evaluate import crf, multilabel, segmentation
from ..experiments.models import open_run
from ..experiments.training import restore_trainer
from ..reports import comparison
from ..tasks.base import in_batches
from ..tasks.segmentation import FREQUENT
from ..trainers.deeplab import palette
from ..zoo.deeplab import BACKBONES
from .base import written

PLAIN = "Grad-CAM"
RUNS = {  # name -> settings
    PLAIN: {"loss": "classifier", "alpha": 0.0},
    "GAIN": {"loss": "gain"},
}
PAIR = (PLAIN, "GAIN")  # whose attention is drawn side by side
SHARES = (0.01, 0.1)  # of the training images, whose masks GAIN_ext is shown
ERASING = "AE-PSL"  # adversarial erasing (Wei, Feng, Liang, Cheng, Zhao, Yan, CVPR 2017)
CLASSIFIERS = 3  # of it, one after another (its section 4)
FULL = "full supervision"  # by the true class maps of all training images
FOREGROUND = 0.2  # share of a map's maximum above which a pixel is of its class (GAIN's notes)
MASKED = 0.01  # share of the training images whose masks choose another threshold
THRESHOLDS = tuple(n / 20 for n in range(1, 20))  # that they choose from
SEC = {PLAIN: "SEC", "GAIN": "SEC, cues of GAIN"}  # whose attention gives cues to it
CUES = {"foreground": 0.2, "background": 0.05, "conflict": "smallest"}  # SEC's, of the attention
SWEPT = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)  # other thresholds, for which labels are scored too
VOC_SIDE = 500  # pixels, for which the CRF's defaults are
SHOWN = 6  # images drawn
IGNORED = 255


def gain(
    study,
    runs,
    data="creatures/many",
    *,
    foreground=None,
    background=None,
    by_masks=False,
    num=None,
):
    """Classifier, adversarial erasing, GAIN and GAIN_ext -> attention -> pseudo labels -> DeepLab
    -> CRF -> mIoU; SEC on the cues of some, and DeepLab by the true maps. Returns a Study. The same
    call goes on where it was interrupted.

    runs: a StudyRuns. foreground, background: thresholds of pseudo labels
    (evaluate.segmentation.pseudo_labels); background: None: the same as foreground. For each
    attention another threshold, both foreground and background, is chosen with the masks of the
    first MASKED of the training images, which are GAIN_ext's first ones too. by_masks: DeepLab is
    trained on labels at that one. num: test images that are segmented; None: all.
    """
    foreground = FOREGROUND if foreground is None else foreground
    if background is not None and background > foreground:
        raise UsageError(f"background lies above threshold={foreground:g}")
    if background is not None and by_masks:
        raise UsageError("background does not go with thresholds by masks, which are both at once")
    check_keys(study, data, runs, "labels", "classes")
    config = runs.resolved("gain", data, RUNS[PLAIN], ("deeplab",))
    dataset = open_dataset(data, config.image_size, runs.data_dir)
    train, test = dataset.arrays("train"), dataset.arrays("test")
    classes, count = train["labels"].shape[1] + 1, len(train["image"])
    known = np.sort(permutation(config.seed, 0, 0, count)[: masks_of(MASKED, count)])
    pictures = segmentation.pictures_with(test["classes"][:num, ..., 0], classes)
    frequent = np.flatnonzero(pictures >= FREQUENT)
    score = functools.partial(scored, classes=classes, frequent=frequent)

    labels, rows, cues = {}, {}, {}
    for name, trainer, maps in attention_by_run(study, runs, data, train, foreground):
        pseudo = functools.partial(
            segmentation.pseudo_labels, maps, train["labels"], config.image_size
        )
        chosen = segmentation.best_threshold(
            [maps[i] for i in known],
            train["labels"][known],
            train["classes"][known][..., 0],
            THRESHOLDS,
        )
        labels[name] = pseudo(foreground=foreground, background=background)
        at_chosen = pseudo(foreground=chosen)
        recall, precision = segmentation.recall_precision(
            maps, train["labels"], train["classes"][..., 0], (foreground, chosen, *SWEPT)
        )
        rows[name] = {
            "classification_map": mean_average_precision(trainer, test),
            "threshold_by_masks": chosen,
            "recall": list(recall),
            "precision": list(precision),
            "labels": score(train["classes"], labels[name]),
            "labels_by_masks": score(train["classes"], at_chosen),
            "swept": [score(train["classes"], pseudo(foreground=t))["miou"] for t in SWEPT],
        }
        if by_masks:
            labels[name] = at_chosen
        if name in SEC:
            cues[SEC[name]] = pseudo(**CUES)
    labels |= cues | {FULL: train["classes"][..., 0]}

    predicted = {}
    for name, maps in labels.items():
        run, settings = f"{name}: deeplab", {"loss": "sec"} if name in cues else {}
        if by_masks and name in rows:
            run += ", threshold by masks"
        if runs.settings.get("backbone") not in (None, *BACKBONES):  # of the classifier alone
            settings["backbone"] = BACKBONES[0]
        replace = {"classes": maps[..., None]}
        runs.train(study, run, "deeplab", data, settings, replace=replace, others=("gain",))
        model = open_run(runs.folder(run))
        images, truth = (test[key][:num] for key in ("image", "classes"))
        p = model.probabilities(images)
        predicted[name] = refined(p, images, runs.progress)
        row = {"deeplab": score(truth, p.argmax(-1)), "crf": score(truth, predicted[name])}
        rows[name] = rows.get(name, {}) | row

    about = {
        "threshold": foreground,
        "masks": len(known),
        "swept": SWEPT,
        "frequent_classes": frequent.tolist(),
        "costs": runs.costs(),
    }
    if config.options.get("scales"):
        about["scales"] = config.options["scales"]  # of the attention
    picture = drawn(train["image"], train["classes"], labels)
    write_output(runs.output / "gain_pseudo_labels.png", picture)
    if set(PAIR) <= rows.keys():
        write_output(runs.output / "gain_attention.png", contrasted(runs, train, labels, PAIR))
    picture = drawn(test["image"], test["classes"], predicted)
    tables = "\n".join(map(markdown, tables_of(rows, about)))
    return written(runs.output, "gain", about, rows, tables, picture)


def tables_of(rows, about):
    """The tables of `gain`, as rows of text: mIoU of labels and of segmenters, attention, labels by
    threshold, what each training took."""

    def percent(value):
        return "–" if value is None else f"{100 * value:.1f}"

    def both(row, key):
        scores = row.get(key, {})
        return [percent(scores.get("miou")), percent(scores.get("miou_frequent"))]

    guided = {name: row for name, row in rows.items() if "labels" in row}
    frequent = f"of classes with at least {FREQUENT} pictures"
    lines = [["attention of"]]
    for head in ("pseudo labels", "DeepLab", "and CRF"):
        lines[0] += [f"{head}, mIoU", frequent]
    for name, row in rows.items():
        lines.append([name, *(v for key in ("labels", "deeplab", "crf") for v in both(row, key))])

    fixed, chosen = f"at {about['threshold']:g}", f"by masks ({about['masks']})"
    attention = [["attention of", "classification mAP", f"recall {fixed}", f"precision {fixed}"]]
    attention[0] += [f"threshold {chosen}", "recall", "precision", "labels, mIoU", frequent]
    for name, row in guided.items():
        pairs = list(zip(map(percent, row["recall"]), map(percent, row["precision"])))
        line = [name, percent(row["classification_map"]), *pairs[0]]
        line += [f"{row['threshold_by_masks']:g}", *pairs[1], *both(row, "labels_by_masks")]
        attention.append(line)

    swept = [["pseudo labels, mIoU", *(f"at {t}" for t in about["swept"])]]
    swept += [[name, *map(percent, row["swept"])] for name, row in guided.items()]
    costs = [["training", "minutes", "peak MiB"]]
    for name, cost in about["costs"].items():
        peak = cost["peak_mib"]
        costs.append([name, f"{cost['minutes']:.1f}", "–" if peak is None else f"{peak:.0f}"])
    return lines, attention, swept, costs


def attention_by_run(study, runs, data, train, foreground):
    """Trains each network whose attention makes labels; yields (name, trainer, attention of the
    training images as of `attention_of`), with that of erasing behind that of the plain one."""
    for name, trainer, _ in guided_runs(study, runs, data, SHARES):
        maps = attention_of(trainer, train["image"], train["labels"])
        yield name, trainer, maps
        if name == PLAIN:
            yield ERASING, *erasing(study, runs, data, train, maps, foreground)


def erasing(study, runs, data, train, maps, foreground):
    """Adversarial erasing (Wei et al., 2017, algorithm 1) -> (trainer of the last classifier,
    attention), from the attention of a first classifier, the plain one.

    The pixels whose attention for a class of their image lies above `foreground`, as a share of the
    map's maximum (theirs: 20 %), are mined. They get the mean colour of all training pixels.
    Another classifier starts from the same weights as the first, learns from these images, and its
    attention on them is mined in turn, until there were CLASSIFIERS. Their regions of a class are
    united. Ours: the background is what no classifier mined (theirs: also saliency), and the
    segmenter learns from these labels alone (theirs: also from maps weighted by class scores, PSL).
    """
    images, labels = np.asarray(train["image"]), train["labels"]
    for number in range(2, CLASSIFIERS + 1):
        mined = segmentation.pseudo_labels(maps, labels, images.shape[1:3], foreground=foreground)
        left = erased(images, mined > 0)
        name = f"{ERASING}: classifier {number}"
        runs.train(
            study, name, "gain", data, RUNS[PLAIN], replace={"image": left}, others=("deeplab",)
        )
        trainer, _ = restore_trainer(runs.folder(name))
        maps = united(maps, attention_of(trainer, left, labels))
    return trainer, maps


def erased(images, regions):
    """Images uint8 (N, H, W, 3) with the mean colour of all of them in the regions, bool (N, H,
    W)."""
    colour = np.rint(images.mean((0, 1, 2))).astype(np.uint8)
    return np.where(regions[..., None], colour, images)


def united(first, second):
    """Two lists of maps (h, w, P) -> their maxima, after each map was divided by its own: where
    these exceed a threshold, the first or the second map does, as a share of its maximum."""
    shares = segmentation.of_maximum
    return [np.maximum(shares(a), shares(b)) for a, b in zip(first, second)]


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
    about, table = {"head": lines[0]}, markdown(lines)
    if scales := config.options.get("scales"):
        about["scales"] = scales
    return written(runs.output, "biased", about, rows, table, picture)


def check_keys(study, data, runs, *keys):
    """Raises UsageError if a data set lacks one of the keys."""
    dataset = open_dataset(data, runs.options.get("image_size"), runs.data_dir)
    lacking = [key for key in keys if key not in dataset.arrays("train")]
    if lacking:
        raise UsageError(f"the study {study} needs {', '.join(lacking)}, which {data} lacks")


def guided_runs(study, runs, data, shares):
    """Trains each network whose attention is looked at; yields (name, trainer, RunConfig)."""
    train = open_dataset(data, runs.options.get("image_size"), runs.data_dir).arrays("train")
    settings = dict(RUNS)
    for share in shares:
        masks = masks_of(share, len(train["image"]))
        settings[f"GAIN_ext, {share:.0%} of masks"] = {"loss": "gain_ext", "masks": masks}
    for name, own in settings.items():
        runs.train(study, name, "gain", data, own, others=("deeplab",))
        yield name, *restore_trainer(runs.folder(name))


def masks_of(share, count):
    """How many images are a share of `count`, at least one."""
    return max(1, round(share * count))


def attention_of(trainer, images, labels):
    """A list of attention maps (S, S, P), float16, of the P classes that each of uint8 images (N,
    S, S, 3) has by labels (N, C)."""
    maps = []
    for start in range(0, len(images), 100):
        _, every = trainer.explain(to_float(images[start : start + 100]))
        for one, label in zip(every, labels[start:]):
            maps.append(np.moveaxis(one[label > 0], 0, -1).astype("float16"))
    return maps


def mean_average_precision(trainer, arrays):
    """That of a classifier's averaged weights on {"image", "labels"}."""

    def logits(x):
        return trainer.infer(trainer.ema_networks["classifier"], x)

    return multilabel.mean_average_precision(in_batches(logits, arrays["image"]), arrays["labels"])


def scored(truth, predicted, classes, frequent):
    """{"miou", "miou_frequent", "iou_by_class"} of class maps (N, S, S, 1) and (N, S, S[, 1]): the
    mean over all classes, and over the numbers of frequent ones, or None where there are none.
    Pixels whose label is predicted as ignored count as background."""
    predicted = np.reshape(predicted, truth.shape)
    predicted = np.where(predicted == IGNORED, 0, predicted)
    matrix = segmentation.confusion(truth[:], predicted, classes)
    return {
        "miou": segmentation.mean_iou(matrix),
        "miou_frequent": segmentation.mean_iou(matrix, frequent) if len(frequent) else None,
        "iou_by_class": [None if np.isnan(v) else float(v) for v in segmentation.iou(matrix)],
    }


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
    """PNG of the first images, at most SHOWN, their true class maps, and a row of class maps for
    each name of {name: maps}."""
    shown = min(SHOWN, *map(len, maps.values()))
    images, truth = images[:shown], truth[:shown, ..., 0]
    rows = {"image": images, "truth": palette()[truth]}
    rows |= {name: palette()[m[:shown].reshape(truth.shape)] for name, m in maps.items()}
    return comparison.pictures(rows)


def contrasted(runs, train, labels, names):
    """PNG of SHOWN training images, a row each: the image, the true region of its first class, and
    the attention to that of two runs. In the first half the second run's class maps are better than
    the first's, by the most pixels, in the other half they are worse."""
    truth = train["classes"][..., 0]
    known, present = truth != IGNORED, train["labels"][:] > 0
    first, second = (((labels[name] == truth) & known).sum((1, 2)) for name in names)
    order = np.argsort(first - second, kind="stable")
    order = order[present.any(1)[order]]
    shown = np.r_[order[: SHOWN // 2], order[-(SHOWN // 2) :]]
    images, own = train["image"][shown], present[shown]
    maps = [truth[shown] == own.argmax(1)[:, None, None] + 1]
    for name in names:
        trainer, _ = restore_trainer(runs.folder(name))
        maps.append([each[..., 0] for each in attention_of(trainer, images, own)])
    return png(attention_grid(images, np.stack(maps, 1), (), ("true region", *names)))

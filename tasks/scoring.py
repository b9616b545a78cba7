"""Scorers for data sets, and scores of attention maps."""

from pathlib import Path

import numpy as np

from .. import datasets, zoo
from ..common.errors import UsageError
from ..evaluate import localization, protocol
from ..evaluate.scorer import Score, Scorer, ScorerSpec

LOCALIZATION = "localization"  # a metric of attention maps, apart from those of images

PHOTOGRAPHS = "efficientnet_lite0-imagenet"  # whose features serve where no other classifier does
INTERPOLATION = {PHOTOGRAPHS: "bicubic"}  # of images that are resized for a classifier


def scorer_spec(request, metrics=("fid",), **changes):
    """The ScorerSpec of an EvaluationRequest; metrics: where it names none."""
    spec = {
        "metrics": tuple(request.metrics or metrics),
        "count": request.num or 10_000,
        "extractor": request.extractor,
        "inception": request.inception,
        "split": request.split or "test",
        "seed": request.seed,
        "references": request.references,
        **changes,
    }
    if LOCALIZATION in spec["metrics"]:
        raise UsageError("localization needs a trained model, and no other metrics")
    unknown = [name for name in spec["metrics"] if name not in protocol.METRICS]
    if unknown:
        known = ", ".join([*protocol.METRICS, LOCALIZATION])
        raise UsageError(f"unknown metric {unknown[0]!r}: there are {known}")
    return ScorerSpec(**spec)


def make_scorer(spec, data, first=None, progress=False):
    """A Scorer of generated images against a data set's split; of its `first` images alone, where
    that is given."""
    images = data.arrays(spec.split)["image"][:first]
    about = {"dataset": data.name, "data": data.identity(spec.split), "split": spec.split}
    cache = datasets.place(data.data_dir) / "attention_zoo" / "features"
    network = extractor(spec.extractor, spec.inception, data.name)
    return Scorer(images, about, network, spec, cache, progress)


def classifiers():
    """{MODEL-TAG: (model, tag)} of the published classifiers, whose features can be used."""
    from . import classification

    return {
        f"{name}-{tag}": (name, tag)
        for name in zoo.names()
        if classification.gives_features(zoo.get(name))
        for tag in zoo.get(name).weights
    }


def extractor(name, inception_path, dataset):
    """The evaluate.features.Extractor of a name: "inception", "zoo:MODEL-TAG", of weights elsewhere
    "zoo:MODEL:PLACE/TAG" (zoo.weights.find), or None for the default: Inception where its weights
    are at hand, else the classifier of the data set, else that of PHOTOGRAPHS."""
    from ..evaluate import features, inception
    from ..zoo import weights
    from . import classification

    known = classifiers()
    listed = ", ".join(f"zoo:{key}" for key in known)
    if name is None:
        fitting = [key for key, (_, tag) in known.items() if tag == dataset.split("/")[0]]
        use_inception = inception_path or inception.find()
        name = "inception" if use_inception else f"zoo:{[*fitting, PHOTOGRAPHS][0]}"
    model, is_elsewhere, tag = name.removeprefix("zoo:").partition(":")
    if is_elsewhere or model in known:
        if inception_path:
            raise UsageError(f"inception needs extractor=inception, not {name}")
        model, tag = known.get(model, (model, tag))
        if not classification.gives_features(zoo.get(model)):
            raise UsageError(f"extractor={name}: {model} is not a classifier")
        model, network, entry = weights.load_entry(model, tag)
        key = Path(entry.file).stem if is_elsewhere else f"{model}-{tag}"
        how = "bilinear" if is_elsewhere else INTERPOLATION.get(key, "bilinear")
        return features.of_classifier(network, key, entry.sha256[:16], how)
    if name != "inception":
        raise UsageError(f"extractor={name}: there are inception, {listed}")
    try:
        network = inception.load(inception.find(inception_path) or inception.fetch())
    except inception.InceptionError as error:
        raise UsageError(f"{error}; what works without it: --extractor={listed}") from None
    return features.of_inception(network, inception.digest(network)[:16])


def objects(object_maps, arrays, count=None):
    """(maps (n, S, S), masks bool (n, S, S), which of the images these are) of the first `count`
    images of {"image", "mask"}, of those that show an object; UsageError if none does. object_maps:
    images -> maps (N, S, S)."""
    masks = arrays["mask"][:count, ..., 0] > 127
    kept = masks.any((1, 2))
    if not kept.any():
        raise UsageError("none of the images shows an object: a mask is 255 on the object, else 0")
    return object_maps(arrays["image"][:count][kept]), masks[kept], kept


def best_threshold(object_maps, train):
    """The threshold of attention maps that fits the masks of 1,000 training images best."""
    maps, masks, _ = objects(object_maps, train, 1000)
    return localization.best_threshold(maps, masks)


def masked(data, split):
    """The arrays of a split, of "all" those of train and test; UsageError if they have no masks."""
    parts = [data.arrays(name) for name in (("train", "test") if split == "all" else (split,))]
    if not all({"mask", "bbox"} <= arrays.keys() for arrays in parts):
        raise UsageError(
            f"localization needs masks and boxes, and {data.name} has none: give a data set that "
            "has them"
        )
    if len(parts) == 1:
        return parts[0]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def localize(object_maps, data, split="test"):
    """[Score] of how well attention maps find the objects of a split. The threshold of the IoU is
    chosen on training images. split: "all" for the images of train and test; each half of them then
    has the threshold that fits the other half."""
    test = masked(data, split)
    threshold = None if split == "all" else best_threshold(object_maps, masked(data, "train"))
    maps, masks, kept = objects(object_maps, test)
    measured = localization.scores(maps, masks, test["bbox"][kept], threshold)
    about = split_details(data, split, len(maps))
    ending = f"{protocol.short(len(maps))}_{split}"
    return [
        Score(f"{name}_{ending}", value, details={**more, **about})
        for name, value, more in measured
    ]


def split_details(data, split, count):
    """What a score says of the images of a split."""
    return {
        "dataset": data.name,
        "data": data.identity("train" if split == "all" else split),
        "split": split,
        "image_size": data.image_size,
        "count": count,
    }

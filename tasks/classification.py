"""Models that name the one class of an image."""

import functools
from dataclasses import dataclass

import keras
import numpy as np
from scipy.special import softmax

from ..common.errors import UsageError
from ..common.images import heat, with_text
from ..evaluate import protocol
from ..evaluate.scorer import Score
from ..zoo.layers import cam
from . import scoring
from .base import Card, LoadedModel, Monitor, exhibited, in_batches

HUB_TASK = "image-classification"  # of the Hugging Face hub


def gives_features(spec):
    """True if the features of such a model can be used by metrics."""
    return spec.kind == "classification"


def needs_classes(spec, options, hparams):
    return True


def class_count(data):
    return data.classes


def able(spec):
    """What models of a spec can do, known before they are loaded."""
    return {"classify", "explain"}


def batch_keys(spec, options, hparams):
    return spec.batch


@dataclass(frozen=True)
class Classification:
    """logits and probabilities (N, C), float; labels (N,): the class of the largest logit."""

    logits: np.ndarray
    probabilities: np.ndarray

    @property
    def labels(self):
        return self.logits.argmax(-1)


class Classifier(LoadedModel):
    """Classifies images; with global average pooling it also explains them (Soft-CAM)."""

    @property
    def capabilities(self):
        return frozenset({"classify", "explain"} if self._explained else {"classify"})

    @functools.cached_property
    def _explained(self):
        """As of cam.explained; None where the classifier has no maps."""
        try:
            return cam.explained(self.network)
        except ValueError:
            return None

    def classify(self, images):
        """A Classification of images (N, H, W, 3), uint8 or float in [-1, 1], which are stretched
        to the network's size."""
        logits = in_batches(self.logits, self.fitted(images))
        return Classification(logits, softmax(logits, axis=-1))

    def logits(self, x):
        """Images (B, S, S, 3) in [-1, 1] -> logits (B, C)."""
        return self.infer(self.network, x)

    def object_network(self):
        if self._explained is None:
            raise UsageError(
                f"{self.place}: {self.name} has no global average pooling between its map and its "
                "logits"
            )
        return keras.Model(self.network.input, self._explained.outputs[1])

    def explain(self, images):
        """Soft-CAMs (N, H, W), float64, each from 0 to 1, of images (N, H, W, 3), uint8 or float in
        [-1, 1]."""
        return self.explain_objects(images)


Model = Classifier


def answers(logits, images):
    """The class (N,) of the largest logit for each image, uint8 (N, S, S, 3)."""
    return in_batches(lambda x: logits(x).argmax(1), images)


def accuracy(logits, data):
    """Share of the images of {"image", "label"} that a function of batches to logits gets right."""
    return float((answers(logits, data["image"]) == data["label"]).mean())


def monitor(trainer, config, data, spec=None, progress=False):
    """Accuracy on test images, which chooses no checkpoint."""
    refuse_scorer(config.model, spec)
    if not data.has_split("test"):
        return Monitor(higher=True)
    test = data.labelled("test", config.options["classes"])
    metric = f"accuracy_{protocol.short(len(test['label']))}_test"

    def logits(x):
        return trainer.infer(trainer.ema_networks["classifier"], x)

    return Monitor(score=lambda: {metric: accuracy(logits, test)}, higher=True)


def refuse_scorer(name, spec):
    """Raises UsageError if there is a ScorerSpec."""
    if spec:
        raise UsageError(f"{name} makes no images: metrics and stop are for generators")


def evaluate(model, data, request):
    """[Score]: the accuracy with its confusion matrix, [label][answer] -> images, and the mean
    over classes of each one's accuracy; or how well the maps find objects."""
    if request.metrics == (scoring.LOCALIZATION,):
        return scoring.localize(model.object_maps, data, request.split or "test")
    why = f"measures images: {model.name} has an accuracy, and localization"
    request.refuse("metrics extractor inception num seed", why)
    split, classes = request.split or "test", model.options["classes"]
    arrays = data.labelled(split, classes)
    pairs = arrays["label"] * classes + answers(model.logits, arrays["image"])
    confusion = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    count, details = len(pairs), scoring.split_details(data, split, len(pairs))
    ending = f"{protocol.short(count)}_{split}"
    return [
        Score(
            f"accuracy_{ending}",
            float(np.trace(confusion) / count),
            details={**details, "confusion": confusion.tolist()},
        ),
        Score(f"mean_class_accuracy_{ending}", mean_class_accuracy(confusion), details=details),
    ]


def mean_class_accuracy(confusion):
    """The mean of the shares of each class that are right, over the classes that have images."""
    counts = confusion.sum(1)
    return float((np.diag(confusion)[counts > 0] / counts[counts > 0]).mean())


def card(model, data, request):
    """The accuracy on test images."""
    why = "measures images: the score of a classifier is its accuracy"
    request.refuse("metrics extractor inception split num seed", why)
    test = data.labelled("test", model.options["classes"])
    metric = f"accuracy_{protocol.short(len(test['label']))}_test"
    return Card(scores={metric: accuracy(model.logits, test)})


def exhibit(model, examples):
    """[(caption, uint8 picture)] of a gallery: the class that wins, with its probability, where it
    is seen, and how many answers are right, as far as that is known. examples: {"image", perhaps
    "label", "names" of the classes, and "source", which says what images these are}."""
    images = examples["image"]
    answers = model.classify(images) if {"label", "names"} & examples.keys() else None
    columns, caption = {"image": images}, examples.get("source", "Images")
    if "explain" in model.capabilities:
        columns["attention"] = heat(images, model.explain(images))
        caption += ", and where their class is seen"
    if "label" in examples:
        right = int((answers.labels == examples["label"]).sum())
        caption += f"; {right} of {len(images)} answers are right"
    if "names" in examples:
        names, sure = examples["names"], answers.probabilities.max(1)
        texts = {key: [""] * len(images) for key in columns}
        if "label" in examples:
            texts["image"] = [names[i] for i in examples["label"]]
        texts[[*columns][-1]] = [
            f"{names[i]} {100 * p:.0f} %" for i, p in zip(answers.labels, sure)
        ]
        columns = {key: with_text(pictures, texts[key]) for key, pictures in columns.items()}
        caption += "; below, the answer with its probability"
    return [(caption, exhibited(columns, groups=2, scale=len(columns) > 1))]

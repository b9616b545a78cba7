"""Classifiers whose attention is trained (GAIN): one or many classes in an image."""

import functools

import keras
import numpy as np
from scipy.special import expit

from ..common.errors import UsageError
from ..common.images import attention_grid, heat, png
from ..evaluate import multilabel, protocol, segmentation
from ..evaluate.scorer import Score
from ..trainers.deeplab import palette
from ..zoo.layers import cam, multi_scale
from . import classification, scoring
from .base import BATCH, Card, LoadedModel, Monitor, checked, exhibited, in_batches, maps_at
from .classification import (  # noqa: F401
    HUB_TASK,
    Classification,
    able,
    class_count,
    needs_classes,
)

SHOWN = 8  # images of a picture
FOREGROUND = 0.35  # of a gallery's pseudo labels, as of those of the published study


def batch_keys(spec, options, hparams):
    """The keys of a training batch: GAIN_ext takes a map of classes too."""
    return (*spec.batch, *["classes"] * bool(hparams.get("masks")))


class GuidedClassifier(LoadedModel):
    """Classifies images and shows the attention of each class."""

    capabilities = frozenset({"classify", "explain"})

    def logits(self, x):
        """Images (B, S, S, 3) in [-1, 1] -> logits (B, C)."""
        return self.infer(self._logits_network, x)

    @functools.cached_property
    def _logits_network(self):
        """Without the attention, which takes longer."""
        return keras.Model(self.network.input, self.network.get_layer("logits").output)

    @property
    def scales(self):
        """The sizes at which pictures are seen for their attention, as text; "": their own."""
        return self.options.get("scales", "")

    @property
    def object_batch(self):
        return BATCH // 4 if self.scales else BATCH

    def classify(self, images):
        """A Classification of images (N, H, W, 3), stretched to the network's size; probabilities
        are those of each class alone."""
        logits = in_batches(self.logits, self.fitted(images))
        return Classification(logits, expit(logits))

    def explain(self, images):
        """Attention maps A^c (N, C, H, W) of every class, each from 0 to 1, of images (N, H, W,
        3), uint8 or float in [-1, 1], which are stretched to the network's size."""
        images = checked(images)

        def attention(x):
            return self.infer(self.network, x)["attention"]

        return maps_at(in_batches(attention, self.fitted(images), BATCH // 4), images)

    def object_network(self):
        try:
            explained = cam.explained(self.network)
        except ValueError as error:
            raise UsageError(f"{self.place}: {error}") from None
        image, maps = self.network.input, explained.outputs[1]
        if scales := multi_scale.numbers(self.scales):
            maps = multi_scale.averaged(image, maps[..., None], scales)[..., 0]
        return keras.Model(image, maps)

    def likeliest_attention(self, images):
        """(images, attention of their two likeliest classes (N, 2, S, S), as high as each class is
        likely, no places, labels): what attention_grid draws."""
        classified = self.classify(images)
        order = np.argsort(-classified.logits, axis=1)[:, :2, None, None]
        bright = classified.probabilities[..., None, None] * self.explain(images)
        return images, np.take_along_axis(bright, order, axis=1), (), cam.LIKELIEST


Model = GuidedClassifier


def monitor(trainer, config, data, spec=None, progress=False):
    """Mean average precision, or accuracy where images have one class; it chooses no checkpoint."""
    classification.refuse_scorer(config.model, spec)
    split = "test" if data.has_split("test") else "train"
    arrays = labelled(data, split, config.options["classes"])
    images = arrays["image"][:SHOWN]

    def logits(x):
        return trainer.infer(trainer.ema_networks["classifier"], x)

    return Monitor(
        score=lambda: class_scores(logits, arrays, split, 2000),
        higher=True,
        attention=lambda: attention_grid(*trainer.attention(images, None)),
    )


def labelled(data, split, classes):
    """The arrays of a split, with "labels", or else a "label" below `classes` for each image; other
    data raise DataError."""
    arrays = data.arrays(split)
    return arrays if "labels" in arrays else data.labelled(split, classes)


def class_scores(logits, arrays, split, most=None):
    """{metric: value} of a function of batches to logits, on {"image", "labels" or "label"}: mean
    average precision of "labels", accuracy of "label"; on the first `most` images."""
    images = arrays["image"][:most]
    ending = f"{protocol.short(len(images))}_{split}"
    if "labels" in arrays:
        value = multilabel.mean_average_precision(
            in_batches(logits, images), arrays["labels"][:most]
        )
        return {f"map_{ending}": value}
    labelled = {"image": images, "label": arrays["label"][:most]}
    return {f"accuracy_{ending}": classification.accuracy(logits, labelled)}


def evaluate(model, data, request):
    """[Score]: mean average precision or accuracy; or how well the maps find objects."""
    if request.metrics == (scoring.LOCALIZATION,):
        scores = scoring.localize(model.object_maps, data, request.split or "test")
        seen = {"scales": model.scales} if model.scales else {}
        return [score.with_details(**seen) for score in scores]
    why = f"does not go with {model.name}, which makes no images"
    request.refuse("metrics extractor inception num seed", why)
    split = request.split or "test"
    arrays = labelled(data, split, model.options["classes"])
    details = scoring.split_details(data, split, len(arrays["image"]))
    values = class_scores(model.logits, arrays, split)
    return [Score(metric, value, details=details) for metric, value in values.items()]


def card(model, data, request):
    """The score on test images and a picture of the likeliest classes' attention."""
    scores = evaluate(model, data, request)
    images = np.asarray(data.arrays(request.split or "test")["image"][:SHOWN])
    seen = f", mean of the scales {model.scales} and of mirror images" if model.scales else ""
    return Card(
        scores={score.metric: score.value for score in scores},
        picture=png(attention_grid(*model.likeliest_attention(images))),
        caption=f"A row an image: it, and where its two likeliest classes are seen{seen}",
    )


def exhibit(model, examples):
    """[(caption, uint8 picture)] of a gallery: the attention of the two likeliest classes, and the
    pseudo labels that attention gives. examples: {"image", perhaps "labels" and "classes"}."""
    images, maps = examples["image"], model.explain(examples["image"])
    _, masks, _, names = model.likeliest_attention(images)
    columns = {"image": images}
    columns |= {name: heat(images, mask) for name, mask in zip(names, masks.swapaxes(0, 1))}
    labels = examples.get("labels", model.classify(images).probabilities > 0.5)
    pseudo = segmentation.pseudo_labels(
        np.moveaxis(maps, 1, -1), labels, images.shape[1:3], foreground=FOREGROUND
    )
    columns["pseudo labels"] = palette()[pseudo]
    caption = "Images, the attention of their two likeliest classes, and the labels of pixels that "
    caption += f"it gives (over {100 * FOREGROUND:.0f} % of its maximum)"
    if "classes" in examples:
        columns["true classes"] = palette()[examples["classes"][..., 0]]
    return [(caption, exhibited(columns))]

"""Models that name the class of every pixel."""

import numpy as np
from scipy.special import softmax

from ..common.errors import UsageError
from ..common.images import png, to_float
from ..evaluate import protocol, segmentation
from ..evaluate.scorer import Score
from ..trainers.deeplab import map_picture, palette
from . import classification, scoring
from .base import Card, LoadedModel, Monitor, checked, exhibited, in_batches

HUB_TASK = "image-segmentation"  # of the Hugging Face hub
SHOWN = 16  # images of a picture while training
MOST = 500  # images that are scored while training
FREQUENT = 20  # pictures that a class needs to count in the score of frequent classes


def needs_classes(spec, options, hparams):
    return True


def class_count(data):
    """The data set's classes and the background."""
    return data.classes + 1


def able(spec):
    """What models of a spec can do, known before they are loaded."""
    return {"segment"}


def batch_keys(spec, options, hparams):
    return spec.batch


class Segmenter(LoadedModel):
    """Gives the class of every pixel."""

    capabilities = frozenset({"segment"})

    def logits(self, x):
        """Images (B, S, S, 3) in [-1, 1] -> logits (B, S, S, K)."""
        return self.infer(self.network, x)

    def segment(self, images):
        """Class maps (N, H, W), whole numbers, of images (N, H, W, 3), uint8 or float in [-1, 1],
        which are stretched to the network's size; each pixel has the class of the nearest one
        there."""
        images = checked(images)
        maps = in_batches(lambda x: self.logits(x).argmax(-1), self.fitted(images), 50)
        rows, columns = (
            (np.arange(side) * 2 + 1) * self.image_size // (2 * side) for side in images.shape[1:3]
        )
        return maps[:, rows[:, None], columns]

    def probabilities(self, images):
        """Probabilities (N, S, S, K), float32, of images stretched to the network's size S."""
        return in_batches(lambda x: softmax(self.logits(x), axis=-1), self.fitted(images), 50)

    def picture(self, images, classes):
        """uint8 (B, S, S, 3), (B, S, S, 1) -> a picture with a row an image: it, the map given and
        the map found, in VOC's colours."""
        return map_picture(images, classes[..., 0], self.segment(images))


Model = Segmenter


def monitor(trainer, config, data, spec=None, progress=False):
    """The mean intersection over union on test images, which names the best checkpoint."""
    classification.refuse_scorer(config.model, spec)
    classes = config.options["classes"]
    split = "test" if data.has_split("test") else "train"
    arrays = data.arrays(split)
    images, truth = (arrays[key][:SHOWN] for key in ("image", "classes"))

    def logits(x):
        return trainer.infer(trainer.ema_networks["segmenter"], x)

    return Monitor(
        score=lambda: pixel_scores(logits, arrays, split, classes, MOST),
        metric=f"miou_{protocol.short(min(MOST, len(arrays['image'])))}_{split}",
        higher=True,
        samples=lambda: trainer.picture(images, truth),
    )


def counts(logits, arrays, classes, most=None):
    """(confusion (K, K), number of pictures with each class (K,)) of a function of batches to
    logits (B, S, S, K), on the first `most` of {"image", "classes"}. Pictures of which no pixel has
    a class raise UsageError."""
    images, matrix = arrays["image"][:most], np.zeros((classes, classes), np.int64)
    pictures = np.zeros(classes, np.int64)
    for start in range(0, len(images), 50):
        part = slice(start, min(start + 50, len(images)))
        predicted = np.asarray(logits(to_float(images[part]))).argmax(-1)
        truth = arrays["classes"][part][..., 0]
        matrix += segmentation.confusion(truth, predicted, classes)
        pictures += segmentation.pictures_with(truth, classes)
    if not matrix.any():
        raise UsageError("no pixel of these pictures has a class: their maps are missing, or 255")
    return matrix, pictures


def pixel_scores(logits, arrays, split, classes, most=None):
    """{metric: value}, the mean intersection over union over all classes; see `counts`."""
    matrix, _ = counts(logits, arrays, classes, most)
    ending = f"{protocol.short(len(arrays['image'][:most]))}_{split}"
    return {f"miou_{ending}": segmentation.mean_iou(matrix)}


def evaluate(model, data, request):
    """[Score]: the mean intersection over union of a split over all classes, with that of each
    class in its details, and over the classes that at least FREQUENT of its pictures show."""
    why = f"does not go with {model.name}, which makes no images"
    request.refuse("metrics extractor inception num seed", why)
    split = request.split or "test"
    arrays = data.arrays(split)
    if "classes" not in arrays:
        raise UsageError(f"{data.name} has no map of classes to compare with")
    details = scoring.split_details(data, split, len(arrays["image"]))
    matrix, pictures = counts(model.logits, arrays, model.options["classes"])
    ending = f"{protocol.short(len(arrays['image']))}_{split}"
    by_class = [None if np.isnan(v) else float(v) for v in segmentation.iou(matrix)]
    each = {"iou_by_class": by_class, "pictures_by_class": pictures.tolist()}
    scores = [Score(f"miou_{ending}", segmentation.mean_iou(matrix), details=details | each)]
    frequent = np.flatnonzero(pictures >= FREQUENT)
    if len(frequent):
        value = segmentation.mean_iou(matrix, frequent)
        about = details | {"classes": frequent.tolist()}
        name = f"miou_classes_with_{FREQUENT}_pictures_{ending}"
        scores.append(Score(name, value, details=about))
    return scores


def card(model, data, request):
    """The score on test images and a picture of some."""
    scores = evaluate(model, data, request)
    test = data.arrays(request.split or "test")
    picture = model.picture(np.asarray(test["image"][:8]), test["classes"][:8])
    return Card(
        scores={score.metric: score.value for score in scores},
        picture=png(picture),
        caption="A row an image: it, its classes, those found",
    )


def exhibit(model, examples):
    """[(caption, uint8 picture)] of a gallery: the classes found, and the true ones where they are
    known. examples: {"image", perhaps "classes"}."""
    images = examples["image"]
    columns = {"image": images, "found": palette()[model.segment(images)]}
    if "classes" in examples:
        columns["true classes"] = palette()[examples["classes"][..., 0]]
    return [("Images, and the class of every pixel", exhibited(columns, groups=2, scale=False))]

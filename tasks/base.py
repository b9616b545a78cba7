"""What all kinds of model share: LoadedModel, Monitor, EvaluationRequest, and batches of arrays."""

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import zoo
from ..common import interpolation
from ..common.errors import UsageError
from ..common.images import labelled_grid, to_float
from ..datasets import resize
from ..datasets.dataset import as_pictures
from ..evaluate import localization
from ..zoo.layers.inference import Inference

BATCH = 100  # images in one call of a network
ROWS = 4  # of a picture in a gallery


@dataclass(frozen=True)
class Origin:
    """Where the weights of a LoadedModel are from.

    weights: the tag, path or address that was asked for. dataset: what they were trained on. step:
    of a run's checkpoint, else None. folder: the run directory, None of published weights. scores,
    sha256, license, details: as published, else empty. settings: {name: value} of options of the
    network that are not those of the training.
    """

    weights: str
    dataset: str
    step: int | None = None
    folder: Path | None = None
    scores: dict = dataclasses.field(default_factory=dict)
    sha256: str = ""
    license: str = ""
    details: dict = dataclasses.field(default_factory=dict)
    settings: dict = dataclasses.field(default_factory=dict)


class LoadedModel:
    """A model with its weights, ready for use. `load` and `open_run` make one; a subclass for each
    kind of model gives what it can do.

    name: in the zoo. networks: {name: keras.Model}, of which some are built when first used. key:
    the one that is served, `network`. options: of the networks, "image_size" among them. origin: an
    Origin. direction: of a translator ("a2b" or "b2a"), else None. capabilities: the names of the
    methods that work: sample, translate, explain, segment, classify. Another one raises UsageError.
    """

    direction = None
    capabilities = frozenset()
    accepts_reference = False
    object_batch = BATCH  # images whose attention is computed at a time

    def __init__(self, name, networks, options, origin, key=None):
        self.name, self.networks, self.options, self.origin = name, networks, options, origin
        self.spec = zoo.get(name)
        self.key = key or self.spec.serve
        self.infer = Inference()

    def __repr__(self):
        return f"<{type(self).__name__} {self.place}>"

    @property
    def place(self):
        """Where the weights are from: a run directory or checkpoint file, else "MODEL:TAG"."""
        return self.origin.weights if self.origin.folder else f"{self.name}:{self.origin.weights}"

    @property
    def network(self):
        """The keras.Model that is served."""
        try:
            return self.networks[self.key]
        except KeyError:
            raise UsageError(
                f"{self.origin.weights}: with its options {self.name} has no {self.key}"
            ) from None

    @property
    def image_size(self):
        return self.options["image_size"]

    def serves(self):
        """True if the network that is served is at hand."""
        return self.key in self.networks

    def _cannot(self, what):
        able = ", ".join(sorted(self.capabilities))
        return UsageError(f"{self.name} cannot {what}: it can {able}")

    def sample(self, *_, **__):
        raise self._cannot("sample")

    def translate(self, *_, **__):
        raise self._cannot("translate")

    def explain(self, *_, **__):
        raise self._cannot("explain")

    def segment(self, *_, **__):
        raise self._cannot("segment")

    def classify(self, *_, **__):
        raise self._cannot("classify")

    def object_network(self):
        """keras.Model, image (B, S, S, 3) in [-1, 1] -> one attention map an image (B, h, w)."""
        raise self._cannot("explain")

    def object_maps(self, images):
        """Attention maps (N, S, S), each from 0 to 1, of images (N, H, W, 3) that are stretched to
        the network's size S."""
        network, images = self._object_network, self.fitted(images)
        maps = in_batches(lambda x: self.infer(network, x), images, self.object_batch)
        return localization.prepared(maps, self.image_size)

    def explain_objects(self, images):
        """`object_maps` at the size of the images, (N, H, W)."""
        images = checked(images)
        return maps_at(self.object_maps(images), images)

    @functools.cached_property
    def _object_network(self):
        return self.object_network()

    def fitted(self, images):
        """Images (N, H, W, 3), uint8 or float in [-1, 1] -> uint8 (N, S, S, 3): each whole image,
        stretched to the network's size if it is of another one."""
        images = checked(images)
        if images.shape[1:3] == (self.image_size, self.image_size):
            return images
        return np.stack([resize.whole(image, self.image_size) for image in images])

    def provenance(self):
        """What a score says of the model, JSON values."""
        values = {"model": self.name, "weights": str(self.origin.weights), "ema": True}
        if self.origin.step is not None:
            values["step"] = self.origin.step
        if self.direction:
            values["direction"] = self.direction
        if self.origin.settings:
            values["settings"] = self.origin.settings
        return values


def checked(images):
    """Images (N, H, W, 3), or one (H, W, 3), uint8 or float in [-1, 1] -> uint8 (N, H, W, 3), N >=
    1; else UsageError. Grey ones are (N, H, W), or have one channel."""
    images = np.asarray(images)
    if images.ndim == 3 and images.shape[-1] in (1, 3, 4):  # one image, of 4 channels is refused
        images = images[None]
    if not images.size:
        raise UsageError(f"give one image at least: these are {images.shape}")
    return as_pictures(images)


def maps_at(maps, images):
    """Maps (..., h, w) in [0, 1] at the size of images (N, H, W, 3), bilinear."""
    if maps.shape[-2:] == images.shape[1:3]:
        return maps
    return interpolation.resized(maps, *images.shape[1:3], antialias=True)


def in_batches(function, images, size=BATCH):
    """function(float images in [-1, 1]) of uint8 images (N, H, W, 3), `size` at a time."""
    parts = (images[i : i + size] for i in range(0, len(images), size))
    return np.concatenate([function(to_float(part)) for part in parts])


def exhibited(columns, groups=1, scale=True):
    """{label: pictures uint8 (N, H, W, 3)} -> uint8 (height, width, 3): the first ROWS rows of
    `groups` images each, with all columns of an image side by side. scale: as of labelled_grid."""
    count = len(next(iter(columns.values())))
    groups = min(groups, count)
    count = min(count // groups, ROWS) * groups
    cells = np.stack([pictures[:count] for pictures in columns.values()], 1)
    cells = cells.reshape(-1, groups * len(columns), *cells.shape[2:])
    return labelled_grid(cells, [*columns] * groups, scale)


@dataclass(frozen=True)
class Monitor:
    """What a training is watched by.

    score: () -> {metric: value}. metric: the name whose best value names the best checkpoint, or
    None; higher: True if more is better. samples, attention: () -> picture uint8 (H, W, 3), or None
    where there is nothing to see. scorer: the Scorer behind it, if any.
    """

    score: Callable = dict
    metric: str | None = None
    higher: bool = False
    samples: Callable | None = None
    attention: Callable | None = None
    scorer: object = None


@dataclass(frozen=True)
class EvaluationRequest:
    """What is to be measured; None: the task's default. Fields as of evaluate.scorer.ScorerSpec;
    metrics may be ("localization",). progress: show bars on stderr. earlier: rows of scores to
    compare with, refused before any image is made where that is known; None: none. references: of
    samples, "bank" or "training"; data_dir: of the data set of the training, for the latter."""

    metrics: tuple | None = None
    num: int | None = None
    extractor: str | None = None
    inception: str | None = None
    split: str | None = None
    seed: int = 0
    progress: bool = False
    earlier: list | None = None
    references: str | None = None
    data_dir: str | None = None

    def refuse(self, names, why):
        """Raises UsageError if one of these fields is set."""
        for name in names.split():
            if getattr(self, name) not in ((), getattr(type(self), name)):
                raise UsageError(f"{name} {why}")


@dataclass(frozen=True)
class Card:
    """What is published with weights. scores: {metric: value}. measured: the extractor's name and
    digest, and the seed of samples. picture: PNG bytes or None; caption: what it shows. command:
    how to use the weights, with {weights} for their place."""

    scores: dict
    measured: dict = dataclasses.field(default_factory=dict)
    picture: bytes | None = None
    caption: str = ""
    command: str = ""

"""Models that translate images of one domain to another."""

import functools
from dataclasses import dataclass

import numpy as np
from absl import logging

from ..common.errors import UsageError
from ..common.images import foreground, heat, png, to_float, to_uint8, translation_grid
from ..evaluate import mask_health, protocol, swd, translation
from ..evaluate.scorer import Score
from ..zoo.layers.convolution import size_multiple
from . import scoring, tiles
from .base import Card, LoadedModel, Monitor, checked, exhibited

HUB_TASK = "image-to-image"  # of the Hugging Face hub
METRICS = ("kid_blocks10", "kid", "fid")
BACK = {"a2b": "b2a", "b2a": "a2b"}  # direction -> the way back
LEAST = 8  # side that the networks take
PIXELS = 2**18  # of the pictures in one call
FIELDS = ("masks", "contents", "reconstructed", "latent")  # outputs beside the translation
PICTURES = ("translated", "reconstructed")  # outputs that are kept as uint8
COLUMNS = "A row an image: it, what it becomes, that translated back"  # and FIELDS


def needs_classes(spec, options, hparams):
    return False


def able(spec):
    """What models of a spec can do, known before they are loaded."""
    return {"translate"}


def batch_keys(spec, options, hparams):
    return spec.batch


@dataclass(frozen=True)
class Translation:
    """images: uint8 (N, H, W, 3). masks (N, H, W, n) in [0, 1] and contents (N, H, W, m, 3) in
    [-1, 1] of networks that have them, else None. reconstructed: uint8 (N, H, W, 3), the images
    decoded into their own domain, and latent (N, H, W, 1) in [0, 1), where their code says
    something, of networks with a latent space (UNIT), else None."""

    images: np.ndarray
    masks: np.ndarray | None = None
    contents: np.ndarray | None = None
    reconstructed: np.ndarray | None = None
    latent: np.ndarray | None = None

    @property
    def attention(self):
        """The attention to the foreground (N, H, W) in [0, 1], or None: how much of each pixel is
        changed, or in RA how much features are strengthened."""
        return None if self.masks is None else foreground(self.masks)


class Translator(LoadedModel):
    """Translates images, in one direction."""

    capabilities = frozenset({"translate"})

    @property
    def direction(self):
        return self.key

    def padded(self, images):
        """Images (B, H, W, C), padded to sides that the network takes."""
        return padded(images, size_multiple(self.network))

    def translate_batch(self, x):
        """Images (B, H, W, 3) in [-1, 1] of any size -> {name: array}, what the network gives."""
        height, width = x.shape[1:3]
        outputs = self.infer(self.network, self.padded(x))
        return {key: value[:, :height, :width] for key, value in outputs.items()}

    def translate(self, images):
        """A Translation of images (N, H, W, 3), uint8 or float in [-1, 1], of any one size."""
        return as_translation(translated(self.translate_batch, checked(images)))

    def translate_tiles(self, image):
        """Yields (rows, columns, Translation) of the tiles of a picture of any size, uint8 (H, W,
        3): two slices, and the translation there, (1, h, w, ...). All tiles are normalised by the
        statistics of the reduced picture, so that there are no seams between them."""
        for rows, columns, outputs in self._tiles(image):
            yield rows, columns, as_translation({k: to_kept(k, v) for k, v in outputs.items()})

    @functools.cached_property
    def _tiles(self):
        return tiles.Tiles(self.network, self.infer, self.padded)

    def back(self):
        """The translator of the other direction, where the weights hold both; else UsageError."""
        if BACK[self.direction] not in self.networks:
            raise UsageError(f"{self.place} translates in one direction, {self.direction}")
        return Translator(self.name, self.networks, self.options, self.origin, BACK[self.direction])

    def preview(self, x):
        """Images (B, H, W, 3) in [-1, 1] -> what translation_grid draws of one direction."""
        made = self.translate_batch(x)
        again = self.back().translate_batch(made["translated"])["translated"]
        return {"image": x, **made, "again": again}


Model = Translator


def padded(images, multiple=4):
    """Images (B, H, W, C), mirrored at the bottom and right to multiples of `multiple` from
    LEAST."""
    more = (max(-(-side // multiple) * multiple, LEAST) - side for side in images.shape[1:3])
    return np.pad(images, ((0, 0), *((0, pixels) for pixels in more), (0, 0)), mode="reflect")


def to_kept(key, output):
    """An output of a network as it is kept: one of PICTURES as uint8, another one as it is."""
    return to_uint8(output) if key in PICTURES else np.asarray(output)


def as_translation(outputs):
    """The Translation of a network's outputs, {key: array}."""
    return Translation(outputs["translated"], **{k: v for k, v in outputs.items() if k in FIELDS})


def translated(translate, images, keys=("translated", *FIELDS)):
    """{key: array} of a translator's outputs for uint8 images (N, H, W, 3), a few at a time, as
    `to_kept` gives them. Keys that the network does not give are left out.
    translate: images in [-1, 1] -> {key: array}."""
    size = max(1, PIXELS // (images.shape[1] * images.shape[2]))
    parts = {}
    for start in range(0, len(images), size):
        outputs = translate(to_float(images[start : start + size]))
        for key in keys:
            if key in outputs:
                parts.setdefault(key, []).append(to_kept(key, outputs[key]))
    return {key: np.concatenate(values) for key, values in parts.items()}


def monitor(trainer, config, data, spec=None, progress=False):
    """The distance of translated images from the other domain, over both directions, and the health
    of the masks. Pictures are of test images where there are any."""
    if spec:
        raise UsageError(f"{config.model} is scored by --mode=evaluate, not while it trains")
    rng, ends = np.random.default_rng(config.seed), {"a2b": "a", "b2a": "b"}
    train = {end: data.arrays(f"train_{end}")["image"] for end in "ab"}
    count = min(1024, 2**22 // config.image_size**2, *map(len, train.values()))
    real = {
        end: images[np.sort(rng.choice(len(images), count, replace=False))]
        for end, images in train.items()
    }
    split = "test" if data.has_split("test") else "train"
    shown = [to_float(data.arrays(f"{split}_{end}")["image"][:4]) for end in "ab"]
    metric = f"swd_{count}_train"

    def score():
        values, distances = {}, []
        for direction, end in ends.items():
            translate = functools.partial(trainer.translate, direction=direction)
            outputs = translated(translate, real[end], ("translated", "masks"))
            distances.append(swd.swd(real["b" if end == "a" else "a"], outputs["translated"]))
            if "masks" in outputs:
                masks = outputs["masks"]
                health = mask_health.health(masks, softmax=masks.shape[-1] > 1)
                values |= {f"mask_{direction}_{k}": v for k, v in health.items()}
                where = f"step {int(trainer.step.numpy())}, {direction}"
                warning = mask_health.warning(health, where)
                if warning:
                    logging.warning(warning)
        return {metric: float(np.mean(distances)), **values}

    return Monitor(
        score=score,
        metric=metric,
        samples=lambda: translation_grid(trainer.preview(*shown).values()),
    )


def evaluate(model, data, request, outputs=None):
    """[Score] of one direction: the translations of one domain's images of a split (default: test)
    beside the images of the other, and beside the truth where it is known. outputs: "translated"
    and perhaps "masks" of these images, as `translated` gives them; None: they are made here."""
    if request.metrics == (scoring.LOCALIZATION,):
        raise UsageError(f"localization does not go with {model.name}, which translates")
    request.refuse("num", "does not go with a translator, which translates all images of a split")
    split, (end, other) = request.split or "test", model.direction.split("2")
    arrays = data.arrays(f"{split}_{end}")
    images = arrays["image"][:]
    if outputs is None:
        outputs = translated(model.translate_batch, images, ("translated", "masks"))
    spec = scoring.scorer_spec(request, METRICS, split=f"{split}_{other}", count=len(images))
    scorer = scoring.make_scorer(spec, data, progress=request.progress)
    parts = [outputs["translated"][i : i + 100] for i in range(0, len(images), 100)]
    scores = scorer.scores(lambda: iter(parts))
    scorer.warn()
    if "truth" in arrays:
        measured = translation.scores(
            images=images,
            results=outputs["translated"],
            truths=arrays["truth"][:],
            masks=arrays["mask"][..., 0] > 0,
            attention=foreground(outputs["masks"]) if "masks" in outputs else None,
        )
        details = {"dataset": data.name, "split": f"{split}_{end}", "count": len(images)}
        details["data"] = data.identity(f"{split}_{end}")
        ending = f"{protocol.short(len(images))}_{split}_{end}"
        scores += [
            Score(f"{name}_{ending}", value, details={**more, **details})
            for name, value, more in measured
        ]
    return scores


def card(model, data, request):
    """The scores of one direction and a picture of images of the split."""
    scores, split = evaluate(model, data, request), request.split or "test"
    images = to_float(data.arrays(f"{split}_{model.direction[0]}")["image"][:8])
    return Card(
        scores={score.metric: score.value for score in scores},
        measured={key: scores[0].details[key] for key in ("extractor", "digest")},
        picture=png(translation_grid([model.preview(images)])),
        caption=", ".join((COLUMNS, *filter(model.network.output.__contains__, FIELDS))),
        command="--mode=translate --model={model} --weights={weights} --input=FOLDER",
    )


def exhibit(model, examples):
    """[(caption, uint8 picture)] of a gallery: images, what they become, and the masks. examples:
    {"image" of the domain that is translated, perhaps "truth"}."""
    images = examples["image"]
    made = model.translate(images)
    columns, caption = {"image": images, "translation": made.images}, "Images and translations"
    if made.masks is not None:
        columns["attention"] = heat(images, made.attention)
        masks = np.moveaxis(made.masks, -1, 0)
        if len(masks) > 1:
            labels = [*(f"mask {i + 1}" for i in range(len(masks) - 1)), "background"]
            columns |= {label: heat(images, mask) for label, mask in zip(labels, masks)}
        caption += ", with attention and masks"
    if "truth" in examples:
        columns["truth"] = examples["truth"]
        caption += "; truth: the true counterparts"
    return [(caption, exhibited(columns, scale=made.masks is not None))]

"""Models that make images of noise."""

import functools

import keras
import numpy as np

from ..common.errors import UsageError
from ..common.images import attention_grid, heat, image_grid, png, to_float, to_uint8
from ..datasets import open_dataset
from ..evaluate import localization, protocol, swd
from ..zoo import ragan
from ..zoo.layers import self_attention
from ..zoo.layers.labels import labels
from . import scoring
from .base import BATCH, Card, LoadedModel, Monitor, exhibited

HUB_TASK = "unconditional-image-generation"  # of the Hugging Face hub
METRICS = ("fid", "kid", "is", "precision_recall")  # of a card
GRID = 64  # samples in a picture
REFERENCES = ("bank", "training")  # where X comes from in a sample of a model that looks at it


def needs_classes(spec, options, hparams):
    """True if the networks have an option `classes` that the data set decides."""
    return "label" in batch_keys(spec, options, hparams)


def class_count(data):
    return data.classes


def able(spec):
    """What models of a spec can do with their published weights, known before they are loaded."""
    return {"sample", "explain"} if spec.publish == "annotator" else {"sample"}


def batch_keys(spec, options, hparams):
    """The keys of a training batch: conditional networks take a label too."""
    return (*spec.batch, *["label"] * bool(options.get("conditional")))


def latents(count, latent, seed):
    """z (count, latent), uniform in [-1, 1], a function of the seed alone."""
    return np.random.default_rng(seed).uniform(-1, 1, (count, latent)).astype("float32")


def sampled(sample, latent, count, seed, references=None):
    """Yields `count` pictures, uint8 (BATCH, S, S, 3) at a time, a function of the seed alone.
    sample: z (B, latent) -> images in [-1, 1]. references: training images, uint8 (N, S, S, 3), of
    which one is drawn for each picture: sample(z, x) then takes them too, in [-1, 1]."""
    z, inputs = latents(count, latent, seed), ()
    if references is not None:
        drawn = np.random.default_rng([seed, 1]).integers(len(references), size=count)
    for start in range(0, count, BATCH):
        part = slice(start, start + BATCH)
        if references is not None:
            inputs = (to_float(references[drawn[part]]),)
        yield to_uint8(sample(z[part], *inputs))


class Generator(LoadedModel):
    """Makes images; with a discriminator that makes maps (ATA-GAN) it also explains images."""

    @property
    def capabilities(self):
        return frozenset({"sample", "explain"} if self._gives_maps() else {"sample"})

    @property
    def latent(self):
        """The length of z."""
        return self.network.inputs[0].shape[1]

    @property
    def accepts_reference(self):
        """True if `sample` takes references, real images that the model looks at (RAGAN)."""
        return "generator_with_reference" in self.networks

    def _gives_maps(self):
        critic = self.networks.get("discriminator")
        return critic is not None and len(critic.outputs) > 1

    def generator_inputs(self, z):
        """What the network takes for z (B, latent): z, or z and a label that z decides."""
        conditional = len(self.network.inputs) > 1
        return [z, labels(z, self.options["classes"])] if conditional else z

    def sample_latents(self, z):
        """z (B, latent) in [-1, 1] -> images (B, S, S, 3) in [-1, 1]."""
        return self.infer(self.network, self.generator_inputs(np.asarray(z, "float32")))

    def sample(self, num=64, seed=0, references=None, data_dir=None):
        """`num` pictures, uint8 (num, S, S, 3), a function of the seed alone.

        references: the real images that a RAGAN looks at; for other models it raises UsageError.
        "bank" (or None): the bank that is stored with its weights. "training": one training image
        for each sample, drawn by the seed; this needs the data set of the training, in data_dir
        (None: the default folder). Or an array of images (num, S, S, 3), uint8 or float in [-1, 1]:
        one for each sample.
        """
        if num < 1:
            raise UsageError(f"num is the number of pictures, at least 1, not {num}")
        if references is None or isinstance(references, str):
            return np.concatenate(list(self.sampled(num, seed, references, data_dir)))
        self.check_references()
        z, references = latents(num, self.latent, seed), self.fitted(references)
        if len(references) != num:
            raise UsageError(f"give a reference for each of {num} samples, not {len(references)}")
        parts = (slice(i, i + BATCH) for i in range(0, num, BATCH))
        images = [self.sample_with_reference(z[part], to_float(references[part])) for part in parts]
        return to_uint8(np.concatenate(images))

    def sampled(self, count, seed, references=None, data_dir=None):
        """Yields the pictures of `sample`, uint8 (BATCH, S, S, 3) at a time. references: None,
        "bank" or "training"."""
        if references is not None:
            self.check_references()
            if references not in REFERENCES:
                known = ", ".join(REFERENCES)
                raise UsageError(f"references is one of {known}, or images, not {references!r}")
        if references != "training":
            return sampled(self.sample_latents, self.latent, count, seed)
        if self.origin.dataset in ("arrays", "tf.data"):
            raise UsageError(
                "references=training needs the data set of the training, and the model was trained "
                "on images in memory: sample() takes them as references"
            )
        data = open_dataset(self.origin.dataset, self.image_size, data_dir)
        images = data.arrays("train")["image"]
        return sampled(self.sample_with_reference, self.latent, count, seed, images)

    def check_references(self):
        """Raises UsageError unless the model takes references."""
        if not self.accepts_reference:
            raise UsageError(f"{self.place} takes no reference images: leave references out")

    def sample_with_reference(self, z, references):
        """z (B, latent), real images (B, S, S, 3) in [-1, 1] -> images (B, S, S, 3)."""
        network = self.networks["generator_with_reference"]
        return self.infer(network, {"noise": z, "image": references})

    def object_network(self):
        if not self._gives_maps():
            raise UsageError(f"{self.place}: the discriminator of {self.name} makes no map")
        critic = self.networks["discriminator"]
        return keras.Model(critic.input, critic.outputs[1])

    def explain(self, images):
        """Maps (N, H, W), float64, each from 0 to 1: where the discriminator looks in images (N, H,
        W, 3), uint8 or float in [-1, 1]."""
        return self.explain_objects(images)

    def self_attention(self, z):
        """(masks (B, 4, S, S) from 0 to 1, places (4, 2) in pixels, labels): where four places of
        the samples of z look. A generator without self-attention raises UsageError."""
        if not self_attention.attends(self.network):
            raise UsageError(f"{self.place}: its generator has no self-attention")
        maps = self_attention.attention_map(self.network)
        parts = [
            self_attention.attention_at(
                self.infer(maps, self.generator_inputs(z[i : i + 8])), self.image_size
            )
            for i in range(0, len(z), 8)
        ]
        return np.concatenate([masks for masks, *_ in parts]), *parts[0][1:]

    def regional_attention(self, z):
        """(images (B, S, S, 3) in [-1, 1]: the samples of z without attention; strengths (B, S, S):
        the norm of each sample's attention layer over its channels, scaled from 0 to 1). A
        generator without a bank of attention layers (RAGAN's) raises UsageError."""
        if not ragan.has_bank(self.network):
            raise UsageError(f"{self.place}: its generator has no regional attention")
        found = self.infer(ragan.without_attention(self.network), z)
        norms = np.linalg.norm(found["layer"].astype("float32"), axis=-1)
        return found["image"], localization.prepared(norms, self.image_size)


Model = Generator


def monitor(trainer, config, data, spec=None, progress=False):
    """Scores as a ScorerSpec says, or without one the sliced Wasserstein distance, which needs no
    network."""
    scorer = spec and scoring.make_scorer(spec, data, progress=progress)
    images = data.arrays("train")["image"]
    latent, seed = config.options["latent"], config.seed
    rng = np.random.default_rng(seed)
    z = rng.uniform(-1, 1, (GRID, latent)).astype("float32")
    count = min(1024, len(images))
    score_z = rng.uniform(-1, 1, (count, latent)).astype("float32")
    chosen = np.sort(rng.choice(len(images), count, replace=False))
    shown = np.asarray(images[chosen[:8]])
    attention = None
    if trainer.attention(shown, z[:8]) is not None:

        def attention():
            return attention_grid(*trainer.attention(shown, z[:8]))

    if scorer:
        metric, higher = scorer.first, scorer.higher

        def score():
            fakes = functools.partial(sampled, trainer.sample, latent, scorer.count, seed)
            return {score.metric: score.value for score in scorer.scores(fakes)}

    else:
        metric, higher = f"swd_{count}_train", False
        real = np.asarray(images[chosen])

        def score():
            parts = np.array_split(score_z, min(8, count))
            fake = np.concatenate([trainer.sample(part) for part in parts])
            return {metric: swd.swd(real, to_uint8(fake))}

    return Monitor(
        score=score,
        metric=metric,
        higher=higher,
        samples=lambda: image_grid(trainer.sample(z)),
        attention=attention,
        scorer=scorer,
    )


def evaluate(model, data, request):
    """[Score] of samples against a data set, or of the discriminator's maps."""
    if request.metrics == (scoring.LOCALIZATION,):
        return scoring.localize(model.object_maps, data, request.split or "test")
    spec = scoring.scorer_spec(request)
    scorer = scoring.make_scorer(spec, data, progress=request.progress)
    if request.earlier is not None:
        protocol.compare(scorer.outline(), request.earlier)  # refused now, not after the work
    references = request.references, request.data_dir
    fakes = functools.partial(model.sampled, spec.count, spec.seed, *references)
    scores = scorer.scores(fakes)
    scorer.warn()
    return scores


def card(model, data, request):
    """Scores and a grid of samples; of a model whose maps find objects, how well they do."""
    spec = scoring.scorer_spec(request, METRICS)
    scorer = scoring.make_scorer(spec, data, progress=request.progress)
    scores = scorer.scores(functools.partial(model.sampled, spec.count, spec.seed))
    scorer.warn()
    values = {score.metric: score.value for score in scores}
    if "explain" in model.capabilities and "mask" in data.arrays("train"):
        located = scoring.localize(model.object_maps, data, request.split or "test")
        values |= {score.metric: score.value for score in located}
        values["threshold"] = next(
            score.details["threshold"] for score in located if score.metric.startswith("iou_")
        )
    grid = image_grid(model.sample_latents(latents(GRID, model.latent, request.seed)))
    return Card(
        scores=values,
        measured={
            "extractor": scorer.extractor.name,
            "digest": scorer.extractor.digest,
            "samples_seed": request.seed,
        },
        picture=png(grid),
        caption=f"{GRID} samples",
        command="--mode=sample --model={model} --weights={weights} --output=grid.png",
    )


def exhibit(model, examples):
    """[(caption, uint8 picture)] of a gallery: samples, and the attention of the generator or of
    the discriminator. examples: {"image"} like those of the training, for the discriminator; None:
    it sees samples."""
    shown = [("Samples", image_grid(to_float(model.sample(21)), 7))]
    if self_attention.attends(model.network):
        masks, places, names = model.self_attention(latents(4, model.latent, 0))
        grid = attention_grid(model.sample(4), masks, places, names)
        shown.append(("Samples, and the attention of four pixels of each, the green squares", grid))
    if ragan.has_bank(model.network):
        samples = model.sample(8)
        plain, strengths = model.regional_attention(latents(8, model.latent, 0))
        columns = {"sample": samples, "without": to_uint8(plain)}
        columns["attention"] = heat(samples, strengths)
        caption = "Samples; the same without attention; and how strong the attention layer of the "
        caption += "reference is at each place. References are training images: the weights have "
        caption += "their attention layers, not the images"
        shown.append((caption, exhibited(columns, groups=2)))
    if "explain" in model.capabilities:
        images, name = (examples["image"], "Images") if examples else (model.sample(8), "Samples")
        maps = heat(images, model.explain(images))
        caption = f"{name}, and where the discriminator sees the object"
        shown.append((caption, exhibited({"image": images, "attention": maps}, groups=2)))
    return shown

"""The table of all models: data only, so that it can be read without Keras."""

import difflib
import importlib
import inspect
import json
from dataclasses import dataclass, field
from pathlib import Path

PRETRAINED = Path(__file__).parent / "pretrained"  # the bundled weights and their manifest


class UnknownModel(LookupError):
    """A name that the zoo does not hold; the message names the closest and all."""


@dataclass(frozen=True)
class Weights:
    """One file of pretrained weights.

    file: its name beside the manifest; sha256: of its bytes. network: the key of what it fills,
    built with options. probe: outputs that zoo.weights.probe must give again. dataset, scores
    (the protocol in the key), origin (command, seed, commit), license: where it comes from.
    """

    file: str
    sha256: str
    network: str
    options: dict
    probe: list
    dataset: str
    scores: dict
    origin: dict
    license: str


@dataclass(frozen=True)
class ModelSpec:
    """What one needs to know of a model before opening its file.

    paper, source: citation, and where it was published.
    task: what the model does, in two or three words.
    module: import path of the file whose build(image_size, **options) returns {name: keras.Model}.
    datasets: the paper's data sets, by the names that `datasets.load` takes.
    batch: keys that a batch must hold.
    serve: key of the network that is sampled and exported.
    trainer: key in trainers.TRAINERS; the model's own name if empty.
    params: setting -> {network: parameter count}; the setting is written as options of build.
    reported: the paper's scores, the protocol in the key.
    deviations: where we knowingly differ from the paper, or fill what it leaves open, and why.
    weights: tag -> Weights, filled in from the manifest.
    """

    name: str
    paper: str
    source: str
    task: str
    module: str
    datasets: tuple
    batch: tuple = ("image",)
    serve: str = "generator"
    trainer: str = ""
    params: dict = field(default_factory=dict)
    reported: dict = field(default_factory=dict)
    deviations: tuple = ()
    weights: dict = field(default_factory=dict)


_DCGAN_DEVIATIONS = (
    "Kernels are 4x4 (paper: 5x5), so that every output pixel is covered by as many taps.",
    "The widest map has 64 channels (paper, at 64 x 64: 128): `--set width=128` is the paper's.",
    "At 32 x 32 one up- and one down-sampling step fewer; the paper's smallest figure is 64 x 64.",
    "Batch 64 (paper: 128), the batch of the WGAN and RAGAN comparisons.",
    "Both updates of a step share one pass of the generator (the paper does not say).",
    "Samples come from an exponential moving average of the generator (paper: the last weights).",
)

_COSINE = (
    "The learning rate rises for a fifth of the steps and falls along a cosine; Nesterov's "
    "momentum, weight decay 5e-4 of kernels, label smoothing 0.1, images moved by 2 pixels.",
    "Accuracies are those of an exponential moving average of the weights (paper: the last).",
)

_SPECS = (
    ModelSpec(
        name="dcgan",
        paper="Radford, Metz, Chintala: Unsupervised Representation Learning with Deep "
        "Convolutional Generative Adversarial Networks, ICLR 2016",
        source="arXiv:1511.06434",
        task="image generation",
        module="zoo.dcgan",
        datasets=("cifar10", "stl10", "celeb_a"),
        params={
            "image_size=32": {"generator": 1_069_827, "discriminator": 664_129},
            "image_size=64,width=128": {"generator": 12_662_275, "discriminator": 11_039_873},
        },
        reported={
            "fid_cifar10 (RAGAN Letter, Table 1; sample counts not stated)": 28.29,
            "is_cifar10 (RAGAN Letter, Table 1; sample counts not stated)": 7.25,
        },
        deviations=_DCGAN_DEVIATIONS,
    ),
    ModelSpec(
        name="wgan",
        paper="Arjovsky, Chintala, Bottou: Wasserstein GAN, ICML 2017",
        source="arXiv:1701.07875",
        task="image generation",
        module="zoo.wgan",
        datasets=("cifar10", "stl10", "celeb_a"),
        params={
            "image_size=32": {"generator": 1_069_827, "discriminator": 664_129},
            "image_size=32,loss=wgan_gp": {"generator": 1_069_827, "discriminator": 663_361},
        },
        reported={
            "fid_cifar10 (RAGAN Letter, Table 1; sample counts not stated)": 26.15,
            "is_cifar10 (RAGAN Letter, Table 1; sample counts not stated)": 7.27,
        },
        deviations=(
            *_DCGAN_DEVIATIONS[:3],
            "The clipping bound holds for every trainable weight of the critic, batch "
            "normalisation's scale included, as in algorithm 1.",
            "`--set loss=wgan_gp` (Gulrajani et al., 2017) normalises the critic by layer, since "
            "the penalty is defined for each image on its own.",
            "RMSProp decays its mean square by 0.9, Keras' default (paper: not stated).",
            "Samples come from an exponential moving average of the generator.",
        ),
    ),
    ModelSpec(
        name="ragan",
        paper="Wang, Hu, Huang, Ruan, Chen: Regional attention generative adversarial network, "
        "Electronics Letters 55(8), 2019",
        source="doi:10.1049/el.2018.8251",
        task="image generation, regional attention",
        module="zoo.ragan",
        datasets=("cifar10", "stl10", "celeb_a"),
        params={
            "image_size=32": {
                "generator_with_reference": 1_178_095,
                "attention": 108_268,
                "discriminator": 664_129,
            },
        },
        reported={
            "fid_cifar10, DCGAN loss (Table 1; sample counts not stated)": 25.43,
            "fid_cifar10, WGAN loss (Table 1; sample counts not stated)": 25.89,
            "is_cifar10, DCGAN loss (Table 1; sample counts not stated)": 7.52,
            "is_stl10, DCGAN loss (Table 1; sample counts not stated)": 8.10,
            "fid_celeb_a, DCGAN loss (Table 1; size and counts not stated)": 11.74,
        },
        deviations=(
            "Sampling: the Letter does not say which real image X serves when none is given. A "
            "bank of attention layers of training images is stored with the weights; z picks one.",
            "X in training: the real images of the discriminator's own batch (not said).",
            "N = 4 regions, each half the image wide (not said); `regions`, `mask_size`.",
            "Masks are products of logistic edges, 2 per pixel steep (the Letter: a mask; "
            "DA-GAN, on which it rests: a smooth box); `sharpness`.",
            "The layer attended is 8 x 8 (the Letter: 'corresponding feature maps'); `attend_at`.",
            "E is shared between X and its regions, has no batch normalisation (X and its masked "
            "regions have different statistics), 4x4 convolutions of stride 2 and a 1x1 "
            "convolution to the attended map's channels (the Letter: free); `encoder_width`.",
            "F is one dense layer whose centres start on a grid, so that the regions differ.",
            *_DCGAN_DEVIATIONS,
        ),
    ),
    ModelSpec(
        name="resnet9",
        paper="Page: How to Train Your ResNet, 2018; Jordan: 94% on CIFAR-10 in 3.29 Seconds on a "
        "Single GPU, 2024",
        source="Myrtle.ai; arXiv:2404.00498",
        task="classification; features of the metrics",
        module="zoo.resnet9",
        datasets=("cifar10", "creatures"),
        batch=("image", "label"),
        serve="classifier",
        trainer="classifier",
        params={"image_size=32": {"classifier": 1_939_010}},
        reported={"accuracy_cifar10, Page, 24 epochs": 0.94},
        deviations=(
            "Each of three stages has a residual, and none works at full size (Page: the first "
            "and third of three; widths from 64).",
            "Global average pooling (Page, Jordan: maximum), for smooth features and activation "
            "maps; logits are not scaled.",
            "ReLU behind all but the whitening layer (Jordan: GELU); no other term of Jordan's "
            "training than the whitening and label smoothing.",
            *_COSINE,
        ),
    ),
    ModelSpec(
        name="resnet18",
        paper="He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, CVPR 2016",
        source="arXiv:1512.03385",
        task="classification; features of the metrics",
        module="zoo.resnet",
        datasets=("cifar10", "creatures"),
        batch=("image", "label"),
        serve="classifier",
        trainer="classifier",
        params={"image_size=224,width=64,classes=1000": {"classifier": 11_699_112}},
        reported={"top-1 error, ImageNet, 10 crops (table 2)": 27.88},
        deviations=(
            "Images below 128 x 128 enter by a 3x3 convolution of stride 1, without pooling, as in "
            "the paper's networks for CIFAR-10 (section 4.2), whose widths are others.",
            *_COSINE,
        ),
    ),
)
_TABLE = {spec.name: spec for spec in _SPECS}
if (PRETRAINED / "manifest.json").exists():
    for _name, _rows in json.loads((PRETRAINED / "manifest.json").read_text()).items():
        _TABLE[_name].weights.update({tag: Weights(**row) for tag, row in _rows.items()})


def names():
    """The names of all models, in the order of the table."""
    return list(_TABLE)


def get(name):
    """The ModelSpec of a name; an unknown name raises UnknownModel."""
    if name not in _TABLE:
        close = difflib.get_close_matches(name, _TABLE, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UnknownModel(f"unknown model {name!r}: {hint}the zoo has {', '.join(_TABLE)}")
    return _TABLE[name]


def _build(name):
    return importlib.import_module(get(name).module).build


def options(name):
    """{option: default} of a model's networks, image_size among them; imports Keras."""
    return {p.name: p.default for p in inspect.signature(_build(name)).parameters.values()}


def create(name, **options):
    """{network name: keras.Model} of a model, with fresh weights; imports Keras."""
    return _build(name)(**options)

"""The table of all models. It holds data alone and can be read without Keras."""

import difflib
import importlib
import inspect
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path

from ..common.errors import UsageError

PRETRAINED = Path(__file__).parent / "pretrained"  # the bundled weights and their manifest
SERVED = {  # ModelSpec.kind -> the network that is sampled or evaluated, and exported
    "generation": "generator",
    "classification": "classifier",
    "guided": "attention",
    "translation": "a2b",
    "segmentation": "segmenter",
}


class UnknownModel(UsageError, LookupError):
    """A name that the zoo does not have; the message gives the closest one and all others."""


@dataclass(frozen=True)
class Weights:
    """One file of pretrained weights: a row of a manifest.

    file: its name beside the manifest, or an address. sha256: of its bytes. network: the name of
    the network that it fills, built with options. probe: the outputs that zoo.weights.probe must
    return for it. dataset: what it was trained on. scores: their keys name the protocol. origin:
    command, seed, commit. A value of another type raises TypeError.
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

    def __post_init__(self):
        for column in fields(self):
            if not isinstance(getattr(self, column.name), column.type):
                raise TypeError(f"{column.name} must be of type {column.type.__name__}")


@dataclass(frozen=True)
class ModelSpec:
    """What one needs to know about a model before its file is opened.

    paper, source: citation, and where it was published.
    kind: a key of SERVED, which decides how the model is trained, evaluated and exported (tasks/).
    task: what the model does, in two or three words.
    module: the file beside this one whose build(image_size, **options) returns the Networks.
    datasets: the paper's data sets, by the names that datasets/ takes.
    batch: keys that a training batch must hold.
    publish: name of the network whose weights are published, if it is not the one served.
    trainer: the file in trainers/; the model's own name if empty.
    params: setting -> {network: parameter count}; the setting is written as options of build.
    reported: the paper's scores; their keys name the protocol.
    deviations: where this model knowingly differs from the paper, or decides what the paper leaves
    open, and why.
    weights: tag -> Weights, read from the manifest.
    broken: tag -> why its row of the manifest cannot be read; under "" why no row can be.
    """

    name: str
    paper: str
    source: str
    task: str
    module: str
    datasets: tuple
    kind: str = "generation"
    batch: tuple = ("image",)
    publish: str = ""
    trainer: str = ""
    params: dict = field(default_factory=dict)
    reported: dict = field(default_factory=dict)
    deviations: tuple = ()
    weights: dict = field(default_factory=dict)
    broken: dict = field(default_factory=dict)

    def __post_init__(self):
        if self.kind not in SERVED:
            raise ValueError(f"kind must be one of {', '.join(SERVED)}, not {self.kind!r}")

    @property
    def serve(self):
        """Name of the network that is sampled or evaluated, and exported."""
        return SERVED[self.kind]

    @property
    def default_tag(self):
        """Tag of the weights that are loaded unless others are asked for: those of the paper's
        first data set, or the first ones; None where nothing is published."""
        first = self.datasets[0] if self.datasets else None
        return first if first in self.weights else next(iter(self.weights), None)


def add_weights(specs, path):
    """Fills `weights` of {name: ModelSpec} from a manifest, if there is one.

    A row that cannot be read is entered in `broken` instead, so that one mistake costs one tag.
    """
    if not path.exists():
        return
    try:
        manifest = json.loads(path.read_text())
    except (OSError, ValueError):
        manifest = None
    for name, spec in specs.items():
        try:
            rows = manifest.get(name, {}).items()
        except AttributeError:
            spec.broken[""] = "the file is damaged"
            continue
        for tag, row in rows:
            try:
                spec.weights[tag] = Weights(**row)
            except TypeError as error:
                spec.broken[tag] = str(error).removeprefix("Weights.__init__() ")


_DCGAN_DEVIATIONS = (
    "Kernels are 4x4 (paper: 5x5), so that every output pixel is covered by equally many taps.",
    "The largest map has 64 channels (paper, at 64 x 64: 128); `--set width=128` is the paper's.",
    "At 32 x 32 there is one up- and one down-sampling step less (the paper's smallest size is "
    "64 x 64).",
    "The batch size is 64 (DCGAN: 128; the RAGAN Letter: not said).",
    "Both updates of a step share one pass of the generator (the paper does not say).",
    "Samples come from an exponential moving average of the generator (paper: the last weights).",
)

_COSINE = (
    "The learning rate rises for a fifth of the steps and then falls along a cosine. Nesterov's "
    "momentum, weight decay 5e-4 for kernels, label smoothing 0.1, images shifted by 2 pixels.",
    "Accuracies are those of an exponential moving average of the weights (paper: the last "
    "weights).",
)

_NO_DROPOUT = (
    "There is no dropout (paper: half of the activations), as its random state would be saved with "
    "the weights."
)

_TRANSLATION = (
    "The last weights are saved, as in the paper; with `ema_decay` it is a moving average.",
    "The history buffer takes the images of all replicas in order, as if they were one batch.",
)

_SPECS = (
    ModelSpec(
        name="dcgan",
        paper="Radford, Metz, Chintala: Unsupervised Representation Learning with Deep "
        "Convolutional Generative Adversarial Networks, ICLR 2016",
        source="arXiv:1511.06434",
        task="image generation",
        module="dcgan",
        datasets=("cifar10", "stl10", "celeb_a"),
        params={
            "image_size=32": {"generator": 1_069_827, "discriminator": 664_129},
            "image_size=64,width=128": {"generator": 12_662_275, "discriminator": 11_039_873},
            "image_size=32,self_attention=true": {"generator": 1_090_308},
        },
        reported={
            "fid_cifar10 (RAGAN Letter, Table 1; sample counts not stated)": 28.29,
            "is_cifar10 (RAGAN Letter, Table 1; sample counts not stated)": 7.25,
            "fid_cifar10, self_attention=true (RAGAN Letter, Table 1)": 27.51,
            "is_cifar10, self_attention=true (RAGAN Letter, Table 1)": 7.35,
        },
        deviations=_DCGAN_DEVIATIONS,
    ),
    ModelSpec(
        name="wgan",
        paper="Arjovsky, Chintala, Bottou: Wasserstein GAN, ICML 2017",
        source="arXiv:1701.07875",
        task="image generation",
        module="wgan",
        datasets=("cifar10", "stl10", "celeb_a"),
        params={
            "image_size=32": {"generator": 1_069_827, "discriminator": 664_129},
            "image_size=32,loss=wgan_gp": {"generator": 1_069_827, "discriminator": 663_361},
        },
        reported={
            "fid_cifar10 (RAGAN Letter, Table 1; sample counts not stated)": 26.15,
            "is_cifar10 (RAGAN Letter, Table 1; sample counts not stated)": 7.27,
            "fid_cifar10, self_attention=true (RAGAN Letter, Table 1)": 27.33,
            "is_cifar10, self_attention=true (RAGAN Letter, Table 1)": 7.34,
        },
        deviations=(
            *_DCGAN_DEVIATIONS[:3],
            "All trainable weights of the critic are clipped, including the scale of batch "
            "normalisation, as in algorithm 1.",
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
        module="ragan",
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
            "Sampling: the Letter does not say which real image X is used when none is given. A "
            "bank of attention layers of training images is stored with the weights; z selects "
            "one. With references=training a training image is drawn for each sample instead.",
            "X in training: the real images of the discriminator's batch (not said); "
            "`reference_images`. Ours, too, and off by default: `lambda_rate`, `bottleneck`, "
            "`region_dropout`.",
            "There are N = 4 regions, each half as wide as the image (not said); `regions`, "
            "`mask_size`.",
            "Masks are products of logistic functions with a slope of 2 per pixel (the Letter: a "
            "mask; DA-GAN, which it builds on: a smooth box); `sharpness`.",
            "Attention is added to the 8 x 8 map (the Letter: 'corresponding feature maps'); "
            "`attend_at`.",
            "E is shared by X and its regions. It has no batch normalisation (X and its masked "
            "regions have different statistics), 4x4 convolutions with stride 2, and a 1x1 "
            "convolution to the channels of the map (the Letter: left open); `encoder_width`.",
            "No loss term prevents copying, as in the Letter: on CIFAR-10 a run with one seed "
            "copies its references (65 % of samples after 20,000 steps), with another it hardly "
            "uses them.",
            "The Letter's improvement over DCGAN is not reproduced on CIFAR-10 at width 32. Also "
            "tried: attend_at=4, mask_size=0.25, regions=16; their FID at 2,500 and 5,000 steps "
            "lies within the spread over seeds of the default (docs/results/ragan.md).",
            "F is one dense layer whose centres start on a grid, so that the regions differ.",
            "With the WGAN loss RMSProp decays its mean square by 0.9, and batch normalisation's "
            "scale is clipped too, as in `wgan`.",
            *_DCGAN_DEVIATIONS,
        ),
    ),
    ModelSpec(
        name="sagan",
        paper="Zhang, Goodfellow, Metaxas, Odena: Self-Attention Generative Adversarial Networks, "
        "ICML 2019; Levkovich, Avraham, Bar, Maor: Self-Attention in Deep Convolutional Generative "
        "Adversarial Networks",
        source="arXiv:1805.08318; Afeka College of Engineering",
        task="image generation, self-attention",
        module="sagan",
        datasets=("stanford_dogs", "cifar10"),
        params={
            "image_size=32": {"generator": 1_166_327, "discriminator": 595_115},
            "image_size=64": {"generator": 3_603_959, "discriminator": 2_399_531},
            "image_size=128,width=64,attention_variant=official,conditional=true,classes=1000": {
                "generator": 42_111_623,
                "discriminator": 39_472_867,
            },
        },
        reported={
            "fid_imagenet, 128 x 128, conditional (SAGAN, abstract)": 18.65,
            "is_imagenet, 128 x 128, conditional (SAGAN, abstract)": 52.52,
            "iterations to the lowest fid_stanford_dogs, 64 x 64 (dogs, 4.1.5; the scores "
            "are only in figures)": 15_000,
            "iterations until the discriminator's loss is constant (dogs, 4.1.5)": 24_000,
        },
        deviations=(
            "The document on dogs does not specify the layers. These are the residual networks of "
            "SAGAN's code, with one block less for each halving of its 128 x 128.",
            "The largest map has 32 channels (SAGAN's code: 64); `--set width=64`.",
            "Attention is the document's: values have C channels and are not pooled, and no "
            "convolution follows (SAGAN's code differs in all three); "
            "`attention_variant=official`.",
            "The map with attention is 32 x 32, SAGAN's best, or half as large as a smaller image "
            "(the document: not said); `attend_at`.",
            "There are no labels unless `conditional=true` (SAGAN: always). A fake image then has "
            "the label of the real image at its position in the batch (SAGAN's code: a random "
            "label).",
            "Loss and optimisers are SAGAN's; `loss=non_saturating` is the document's.",
            "beta_2 is 0.9 as in SAGAN (its code: 0.999, Adam's default).",
            "Each of the discriminator's three calls in a step does one power iteration (SAGAN's "
            "code: one per step).",
            "z is uniform in [-1, 1] (SAGAN: normal). The batch size is 64 (SAGAN: 256; the "
            "document: not said).",
            *_DCGAN_DEVIATIONS[4:],
        ),
    ),
    ModelSpec(
        name="ata_gan",
        paper="Kastaniotis, Ntinou, Tsourounis, Economou, Fotopoulos: Attention-Aware Generative "
        "Adversarial Networks (ATA-GANs), 2018",
        source="arXiv:1802.09070",
        task="image generation, weak annotations",
        module="ata_gan",
        datasets=("cells",),
        publish="annotator",
        params={
            "image_size=32": {"generator": 1_069_827, "discriminator": 430_913},
            "image_size=64": {"generator": 3_578_627, "discriminator": 1_842_241},
        },
        reported={
            "accuracy_hep2, teacher (section III, on the images of Foggia et al., 2013)": 0.7628,
        },
        deviations=(
            "Sizes, layers, optimiser and steps are DCGAN's (the paper states none).",
            "The discriminator's map stays at 8 x 8: 3x3 convolutions replace its last strided "
            "ones (not said); `map_size`.",
            "The maps of teacher and discriminator are resized to the larger of the two, scaled to "
            "[0, 1] and compared by the mean over pixels, with weight 1 (not said; "
            "docs/results/ata_gan.md lists what else was tried); `resize`, `normalise`, `pixels`, "
            "`attention_weight`.",
            "The generator maximises log D(G(z)) (equation 4: it minimises log(1 - D(G(z)))); "
            "`loss=minimax` is the paper's.",
            "The teacher is any published classifier of the zoo (paper: a ResNet-18 trained on "
            "HEp-2 cells); images are resized to its size; `teacher`.",
            *_DCGAN_DEVIATIONS,
        ),
    ),
    ModelSpec(
        name="cyclegan",
        paper="Zhu, Park, Isola, Efros: Unpaired Image-to-Image Translation using Cycle-Consistent "
        "Adversarial Networks, ICCV 2017",
        source="arXiv:1703.10593",
        task="unpaired translation",
        module="cyclegan",
        datasets=("horse2zebra", "apple2orange", "summer2winter_yosemite", "monet2photo", "maps"),
        batch=("image_a", "image_b"),
        kind="translation",
        params={"image_size=256": {"a2b": 11_378_179, "discriminator_b": 2_764_737}},
        reported={
            "kid_x100_horse2zebra (AttentionGAN slides, table IX)": 10.25,
            "kid_x100_zebra2horse (AttentionGAN slides, table IX)": 11.44,
            "kid_x100_apple2orange (AttentionGAN slides, table IX)": 8.48,
            "kid_x100_orange2apple (AttentionGAN slides, table IX)": 9.82,
        },
        deviations=(
            "There are nine residual blocks at every size (paper: six below 256 x 256); "
            "`blocks=6`.",
            "Convolutions have biases, as in the authors' code, so that its checkpoints fit.",
            "There is no identity loss (paper: for paintings, with weight 5); `lambda_identity=5`.",
            *_TRANSLATION,
        ),
    ),
    ModelSpec(
        name="attention_gan",
        paper="Tang, Liu, Xu, Torr, Sebe: AttentionGAN: Unpaired Image-to-Image Translation using "
        "Attention-Guided Generative Adversarial Networks, TNNLS 2021; scheme 1: Tang, Xu, Sebe, "
        "Yan, IJCNN 2019; Shauryam, Kar, Faizi: slides, Chennai Mathematical Institute, 2023",
        source="arXiv:1911.11897; arXiv:1903.12296",
        task="unpaired translation, attention",
        module="attention_gan",
        datasets=("horse2zebra", "apple2orange", "creatures/plain2striped"),
        batch=("image_a", "image_b"),
        kind="translation",
        params={
            "image_size=256": {"a2b": 11_822_949, "discriminator_b": 2_764_737},
            "image_size=256,scheme=1": {"a2b": 11_381_316},
            "image_size=256,attention_discriminators=true": {
                "attention_discriminator_b": 2_765_761
            },
        },
        reported={
            "kid_x100_horse2zebra (slides, table IX)": 2.03,
            "kid_x100_zebra2horse (slides, table IX)": 6.48,
            "kid_x100_apple2orange (slides, table IX)": 10.03,
            "kid_x100_orange2apple (slides, table IX)": 4.38,
        },
        deviations=(
            "Attention-guided discriminators are used only with `attention_discriminators=true` "
            "(slides: always; the authors' code: never; according to the authors: in scheme 1).",
            "In scheme 2 their input is 1 - A_b, the attention to the foreground (slides: one "
            "mask).",
            "The generators maximise log D (slides: they minimise log(1 - D), "
            "`adversarial=minimax`; the authors' code: `adversarial=least_squares`).",
            "The loss weights and the curriculum's r are those of the authors' code of scheme 1; "
            "its first 10 epochs of 200 become a twentieth of the run (slides: no values).",
            "The learning rate falls from the middle of the run (authors' scheme 2: constant).",
            "`loss=official` is that of the authors' code of scheme 2: no pixel loss, total "
            "variation or curriculum, but an identity loss and a constant learning rate; the "
            "objective is half of theirs.",
            "Scheme 1 has CycleGAN's trunk and decoder, nine blocks and instance normalisation, "
            "and a tanh on the content (authors' code: six blocks, batch normalisation, pixel "
            "shuffle, no tanh, another discriminator).",
            "Total variation is summed over all masks, including that of the background.",
            *_TRANSLATION,
        ),
    ),
    ModelSpec(
        name="discogan",
        paper="Kim, Cha, Kim, Lee, Kim: Learning to Discover Cross-Domain Relations with "
        "Generative Adversarial Networks, ICML 2017",
        source="arXiv:1703.05192",
        task="unpaired translation",
        module="discogan",
        datasets=("creatures/plain2striped", "horse2zebra", "apple2orange"),
        batch=("image_a", "image_b"),
        kind="translation",
        params={"image_size=64": {"a2b": 5_516_544, "discriminator_b": 2_767_360}},
        reported={
            "kid_x100_horse2zebra (AttentionGAN slides, table IX)": 13.68,
            "kid_x100_zebra2horse (AttentionGAN slides, table IX)": 16.60,
            "kid_x100_apple2orange (AttentionGAN slides, table IX)": 18.34,
            "kid_x100_orange2apple (AttentionGAN slides, table IX)": 21.56,
        },
        deviations=(
            "The generators have four layers each way (paper: four or five, by data set).",
            "Away from 64 x 64 the discriminators have another number of layers (the paper's only "
            "size).",
            "The distance of a reconstruction is the mean squared error, on images in [0, 1] "
            "(paper: also the cosine distance and the hinge loss).",
            "The initial weights are PyTorch's of that time, as in the authors' code (paper: not "
            "said).",
            "One pass of the generators serves the updates of both players (paper: not said).",
            "The batch is 64, the code's default, for photographs, and 4 for `creatures` (paper: "
            "200).",
            "`loss=official` is that of the authors' code: feature matching with weight 0.9, a "
            "reconstruction whose share r is 0.01 at first and then 0.5, half the discriminators' "
            "loss, weight decay 1e-5, two updates of the generators for one of the discriminators.",
            "Batch normalisation translates by its moving averages (code: by the statistics of the "
            "batch).",
            *_TRANSLATION[:1],
        ),
    ),
    ModelSpec(
        name="dualgan",
        paper="Yi, Zhang, Tan, Gong: DualGAN: Unsupervised Dual Learning for Image-to-Image "
        "Translation, ICCV 2017",
        source="arXiv:1704.02510",
        task="unpaired translation",
        module="dualgan",
        datasets=("horse2zebra", "apple2orange", "maps", "facades", "creatures/plain2striped"),
        batch=("image_a", "image_b"),
        kind="translation",
        params={
            "image_size=256": {"a2b": 85_021_763, "discriminator_b": 2_764_737},
            "image_size=256,critic=global": {"discriminator_b": 4_832_641},
        },
        reported={
            "kid_x100_horse2zebra (AttentionGAN slides, table IX)": 10.38,
            "kid_x100_zebra2horse (AttentionGAN slides, table IX)": 12.86,
            "kid_x100_apple2orange (AttentionGAN slides, table IX)": 13.04,
            "kid_x100_orange2apple (AttentionGAN slides, table IX)": 12.42,
        },
        deviations=(
            "The generator is that of the authors' code of August 2017 (paper: a U-Net, its layers "
            "not said). It has a level less for each halving of the image, and the map of 1 x 1 is "
            "not normalised (code: it is, so that all of its values are 0 before the offset).",
            "The critics are CycleGAN's PatchGAN, with instance normalisation (code: dense layers "
            "on the whole image; `critic=global`, with instance in place of batch normalisation).",
            "Trained networks translate without the noise, so that a picture has one translation "
            "(paper: dropout also then).",
            "The generators are updated with the last images of the critics (algorithm 1: with new "
            "ones).",
            "lambda_U = lambda_V = 200, c = 0.01 and n_critic = 3 are the values of the authors' "
            "code (paper: 100 to 1,000, 0.01 to 0.1, 2 to 4); L1 is the mean over pixels.",
            "`loss=sigmoid` is that of the code of August 2017: cross entropy, lambda 20, no "
            "clipping, two updates of the generators for one of the discriminators. The WGAN-GP of "
            "later code is left out.",
            *_TRANSLATION[:1],
        ),
    ),
    ModelSpec(
        name="unit",
        paper="Liu, Breuel, Kautz: Unsupervised Image-to-Image Translation Networks, NIPS 2017",
        source="arXiv:1703.00848",
        task="unpaired translation, shared latent space",
        module="unit",
        datasets=("horse2zebra", "apple2orange", "creatures/plain2striped"),
        batch=("image_a", "image_b"),
        kind="translation",
        params={
            "image_size=256": {
                "encoder_a": 5_099_136,
                "decoder_b": 5_089_667,
                "a2b": 14_098_310,
                "discriminator_b": 25_149_057,
            },
        },
        reported={
            "kid_x100_horse2zebra (AttentionGAN slides, table IX)": 11.22,
            "kid_x100_zebra2horse (AttentionGAN slides, table IX)": 13.63,
            "kid_x100_apple2orange (AttentionGAN slides, table IX)": 11.68,
            "kid_x100_orange2apple (AttentionGAN slides, table IX)": 11.76,
        },
        deviations=(
            "Networks, sizes and weights of the losses are those of the authors' code of 2017 for "
            "animals, whose images have 216 x 216 pixels (for streets it has three discriminators "
            "of three sizes, for faces discriminators that share layers).",
            "The discriminator has six strides from 132 pixels on; below, the fewest that leave a "
            "map of at most 4 x 4, four at 64 x 64.",
            "The KL divergence is the mean of mu^2 over the components of the code, as in the "
            "authors' code (paper: half its sum).",
            "Both updates of a step share one pass of the encoders and decoders, and its noise "
            "(authors' code: the discriminators have a pass of their own).",
            "The generators maximise log D (paper: they minimise log(1 - D), "
            "`adversarial=minimax`).",
            "`shared=0` shares no layers, as the authors' later code (2018) does.",
            "The last weights are saved; with `ema_decay` it is a moving average.",
        ),
    ),
    ModelSpec(
        name="uait",
        paper="Mejjati, Richardt, Tompkin, Cosker, Kim: Unsupervised Attention-guided "
        "Image-to-Image Translation, NeurIPS 2018",
        source="arXiv:1806.02311",
        task="unpaired translation, attention",
        module="uait",
        datasets=("horse2zebra", "apple2orange", "creatures/plain2striped"),
        batch=("image_a", "image_b"),
        kind="translation",
        params={
            "image_size=256": {"a2b": 2_855_811 + 104_001, "discriminator_b": 2_766_657},
            "image_size=256,wide=true": {"a2b": 2_855_811 + 154_689},
        },
        reported={
            "kid_x100_horse2zebra (AttentionGAN slides, table IX)": 6.93,
            "kid_x100_zebra2horse (AttentionGAN slides, table IX)": 8.87,
            "kid_x100_apple2orange (AttentionGAN slides, table IX)": 6.44,
            "kid_x100_orange2apple (AttentionGAN slides, table IX)": 5.32,
        },
        deviations=(
            "The last convolutions of an attention network are 1x1, as in effect in the authors' "
            "code, so that a mask is constant on squares of 4 x 4 pixels; `wide=true` has the "
            "kernels of 3, 3 and 7 that this code names.",
            "In the second stage a discriminator sees F(s) where the attention is at least tau "
            "(authors' code: s' there, `masked=composite`).",
            "Both generators take their step at once, then both discriminators (authors' code: "
            "generator, discriminator, the other generator, the other discriminator).",
            "Pairs are drawn at random (authors' code: in the order of the files).",
            "Attention is frozen at 30 % of the steps (paper: 30 epochs, of 100 in the authors' "
            "code); `switch`.",
            *_TRANSLATION,
        ),
    ),
    ModelSpec(
        name="ganimorph",
        paper="Gokaslan, Ramanujan, Ritchie, Kim, Tompkin: Improving Shape Deformation in "
        "Unsupervised Image-to-Image Translation, ECCV 2018",
        source="arXiv:1808.04325",
        task="unpaired translation of shapes",
        module="ganimorph",
        datasets=("horse2zebra", "apple2orange", "creatures/plain2striped"),
        batch=("image_a", "image_b"),
        kind="translation",
        params={"image_size=128": {"a2b": 53_017_728, "discriminator_b": 16_798_208}},
        deviations=(
            "The networks, the initial weights, the constants of MS-SSIM, the absolute value of "
            "its covariance, the optimiser and its schedule are those of the authors' code; the "
            "loss weights and the schedule of the normalisation are those that public summaries of "
            "the paper state. `loss=official` takes these from the code too.",
            "MS-SSIM is computed for each image (authors' code: from means over the batch).",
            "Below 128 x 128 MS-SSIM has fewer levels, 4 at 64 and 3 at 32 pixels, and their "
            "weights are divided by their sum.",
            "Moving averages of the losses start at 1 and are not corrected for it, as in the "
            "authors' code (summaries: not said).",
            "Generators and discriminators take the same batch and share one pass of all networks "
            "(authors' code: a batch each). The discriminators are updated in every second step "
            "(paper: once per one or two updates of the generators); `d_every`.",
            "Images are mirrored and cut out of 143 x 143 pixels (authors' code: also rotated by "
            "up to 30 degrees and scaled by up to a tenth).",
            "The generator pads sides that are not multiples of 16, and cuts the result.",
            *_TRANSLATION[:1],
        ),
    ),
    ModelSpec(
        name="ra",
        paper="Our reading of the baseline RA of Mejjati, Richardt, Tompkin, Cosker, Kim: "
        "Unsupervised Attention-guided Image-to-Image Translation, NeurIPS 2018: CycleGAN with the "
        "attention modules of Wang et al.: Residual Attention Network for Image Classification, "
        "CVPR 2017",
        source="arXiv:1806.02311; arXiv:1704.06904",
        task="unpaired translation, attention to features",
        module="ra",
        datasets=("horse2zebra", "apple2orange", "creatures/plain2striped"),
        batch=("image_a", "image_b"),
        kind="translation",
        params={
            "image_size=256": {"a2b": 11_509_763, "discriminator_b": 2_764_737},
            "image_size=256,levels=1": {"a2b": 7_969_283},
        },
        reported={
            "kid_x100_horse2zebra (AttentionGAN slides, table IX)": 10.16,
            "kid_x100_zebra2horse (AttentionGAN slides, table IX)": 10.97,
            "kid_x100_apple2orange (AttentionGAN slides, table IX)": 12.75,
            "kid_x100_orange2apple (AttentionGAN slides, table IX)": 13.84,
        },
        deviations=(
            "No text or code of this system is public, so it is not known where the modules stand, "
            "how many there are, or how it was trained. Here one module takes the place of all "
            "residual blocks of CycleGAN's generator, with about as many parameters.",
            "Residual units are CycleGAN's, two 3x3 convolutions with instance normalisation (Wang "
            "et al.: bottlenecks of three convolutions with batch normalisation before them). In "
            "the mask branch they are padded by zeros.",
            "There are two max pools (Wang et al.: three, two or one, by the size of the map); "
            "`levels`.",
            "Training is that of `cyclegan`; its deviations apply.",
            "The map that is shown and scored is the mean of the mask over its channels. It is no "
            "mask of a composition.",
            *_TRANSLATION,
        ),
    ),
    ModelSpec(
        name="resnet9",
        paper="Page: How to Train Your ResNet, 2018; Jordan: 94% on CIFAR-10 in 3.29 Seconds on a "
        "Single GPU, 2024",
        source="Myrtle.ai; arXiv:2404.00498",
        task="classification; features of the metrics",
        module="resnet9",
        datasets=("cifar10", "creatures"),
        batch=("image", "label"),
        kind="classification",
        trainer="classifier",
        params={
            "image_size=32": {"classifier": 1_939_010},
            "image_size=32,stages=2": {"classifier": 460_098},
        },
        reported={"accuracy_cifar10, Page, 24 epochs": 0.94},
        deviations=(
            "All three stages have a residual, and none has the image's size (Page: the first and "
            "the third of three have one; widths from 64).",
            "Global average pooling (Page, Jordan: maximum), for smooth features and class "
            "activation maps; logits are not scaled.",
            "All layers but the whitening layer use ReLU (Jordan: GELU). Of Jordan's training only "
            "whitening and label smoothing are used.",
            *_COSINE,
        ),
    ),
    ModelSpec(
        name="resnet18",
        paper="He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, CVPR 2016",
        source="arXiv:1512.03385",
        task="classification; features of the metrics",
        module="resnet",
        datasets=("cifar10", "creatures"),
        batch=("image", "label"),
        kind="classification",
        trainer="classifier",
        params={"image_size=224,width=64,classes=1000": {"classifier": 11_699_112}},
        reported={"top-1 error, ImageNet, 10 crops (table 2)": 27.88},
        deviations=(
            "For images below 128 x 128 the first convolution is 3x3 with stride 1, without "
            "pooling, as in the paper's networks for CIFAR-10 (section 4.2), which have other "
            "widths.",
            *_COSINE,
        ),
    ),
    ModelSpec(
        name="squeezenet",
        paper="Iandola, Han, Moskewicz, Ashraf, Dally, Keutzer: SqueezeNet: AlexNet-level accuracy "
        "with 50x fewer parameters and <0.5MB model size, 2016",
        source="arXiv:1602.07360; version 1.1: github.com/forresti/SqueezeNet",
        task="classification; class activation maps",
        module="squeezenet",
        datasets=("cifar10", "creatures"),
        batch=("image", "label"),
        kind="classification",
        trainer="classifier",
        params={
            "image_size=32": {"classifier": 727_626},
            "image_size=224,classes=1000,head=conv": {"classifier": 1_235_496},
        },
        reported={"top-1 accuracy, ImageNet (version 1.0, table 2)": 0.575},
        deviations=(
            "Version 1.1, as torchvision builds it (paper: 1.0, 7x7 kernels first, later pools).",
            "The mean over positions is taken before the last layer (paper: after it and a ReLU); "
            "`head=conv` is the paper's.",
            "For images below 128 x 128 the first convolution has stride 1, without pooling.",
            _NO_DROPOUT,
            *_COSINE,
        ),
    ),
    ModelSpec(
        name="vgg16",
        paper="Simonyan, Zisserman: Very Deep Convolutional Networks for Large-Scale Image "
        "Recognition, ICLR 2015",
        source="arXiv:1409.1556",
        task="classification; attention by gradients",
        module="vgg",
        datasets=("cifar10", "creatures"),
        batch=("image", "label"),
        kind="classification",
        trainer="classifier",
        params={
            "image_size=32": {"classifier": 14_719_818},
            "image_size=224,classes=1000,head=fc": {"classifier": 138_357_544},
        },
        reported={"top-5 error, ImageNet validation, several scales (table 4, D)": 7.5},
        deviations=(
            "Global average pooling and one dense layer (paper: two layers of 4096 units before "
            "it); `head=fc` is the paper's.",
            "With `head=gap` there is no fifth pooling, and below 128 x 128 no fourth one.",
            _NO_DROPOUT,
            *_COSINE,
        ),
    ),
    ModelSpec(
        name="efficientnet_lite0",
        paper="Tan, Le: EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, "
        "ICML 2019",
        source="arXiv:1905.11946; the Lite variant: github.com/tensorflow/tpu, 2020",
        task="classification; features of the metrics for photographs",
        module="efficientnet_lite",
        datasets=("cifar10", "creatures"),
        batch=("image", "label"),
        kind="classification",
        trainer="classifier",
        params={"image_size=224,classes=1000": {"classifier": 4_694_024}},
        reported={"top-1 accuracy, ImageNet, Lite0, 224 x 224 (its authors)": 0.751},
        deviations=(
            "The Lite variant's B0: ReLU6, no squeeze-and-excitation (paper: swish, with it).",
            "`output_stride` 16 or 8 replaces strides by dilation.",
            "No dropout and no stochastic depth in training.",
            *_COSINE,
        ),
    ),
    ModelSpec(
        name="gain",
        paper="Li, Wu, Peng, Ernst, Fu: Tell Me Where to Look: Guided Attention Inference Network, "
        "CVPR 2018",
        source="arXiv:1802.10171",
        task="classification, trained attention",
        module="gain",
        datasets=("voc2012", "creatures/many", "creatures/biased"),
        batch=("image", "labels"),
        kind="guided",
        params={
            "image_size=321,classes=20": {"classifier": 14_724_948},
            "image_size=64,backbone=resnet9,width=16": {"classifier": 125_440},
        },
        reported={
            "miou_voc2012_val, pseudo labels of GAIN (notes, table)": 55.3,
            "miou_voc2012_val, GAIN_ext, 200 masks (notes, table)": 58.3,
            "miou_voc2012_val, GAIN_ext, 1464 masks (notes, table)": 60.5,
        },
        deviations=(
            "VGG16's convolutions are followed by global average pooling and one dense layer "
            "(paper: not said); `head=fc` is VGG16's own. Any classifier of the zoo may be the "
            "`backbone`.",
            "Maps are resized to the image and scaled to [0, 1] before T (not said).",
            "sigma 0.5, steepness 10, alpha 1 and omega 10 (the notes: no values) are those of "
            "public implementations.",
            "A step trains the attention of at most three classes of an image, drawn at random if "
            "there are more (`max_classes`), with one masked image for each; `masking=joint` is "
            "cheaper.",
            "The images with masks for GAIN_ext are the first ones of the training set; four of "
            "them are added to each batch (not said); `masks`, `mask_batch`.",
            "For the masked image batch normalisation uses its moving statistics.",
            "On small data sets it is classified by the moving average of the weights (paper: by "
            "the trained weights, which there learn to find no class in any masked image, so that "
            "attention does not grow: docs/results/gain.md); `judge`.",
            "L_cl is summed over classes, and s^c in L_am is a sigmoid (not said).",
            "On small data sets a resnet9 starts from random weights, and L_am counts only in the "
            "second half of the steps (paper: a VGG16 trained on ImageNet); `start`, `delay`, "
            "`backbone`.",
            _NO_DROPOUT,
            *_COSINE,
        ),
    ),
    ModelSpec(
        name="deeplab",
        paper="Chen, Papandreou, Kokkinos, Murphy, Yuille: Semantic Image Segmentation with Deep "
        "Convolutional Nets and Fully Connected CRFs, ICLR 2015",
        source="arXiv:1412.7062",
        task="segmentation from pseudo labels",
        module="deeplab",
        datasets=("voc2012", "creatures/many"),
        batch=("image", "classes", "labels"),
        kind="segmentation",
        params={"image_size=321": {"segmenter": 20_505_429}},
        reported={
            "miou_voc2012_val, SEC (GAIN's notes, table)": 50.7,
            "miou_voc2012_val, GAIN's pseudo labels (GAIN's notes, table)": 55.3,
        },
        deviations=(
            "Cross entropy is computed at the image's size (paper: at the size of the scores, with "
            "every eighth label).",
            "Pooling is 2x2 if the image size is a multiple of the stride (paper: 3x3, for sizes 8 "
            "k + 1).",
            "Below 128 x 128 there is no fourth pooling, as in `vgg16`.",
            "fc6 and fc7 start from random weights (paper: VGG16's); there is no average pooling "
            "after pool5.",
            "On small data sets all weights start at random, and all layers have a learning rate "
            "of 0.02 that falls as (1 - t)^0.9.",
            "Whole images are fitted into a square (paper: random crops of 321 x 321).",
            "SEC's rank pooling and CRF are scaled to the size of the map.",
            "The last layer's bias has 10 times the learning rate, as its kernel has.",
            "Predictions are those of an exponential moving average of the weights.",
            _NO_DROPOUT,
        ),
    ),
)
_TABLE = {spec.name: spec for spec in _SPECS}
add_weights(_TABLE, PRETRAINED / "manifest.json")


def names(kind=None):
    """The names of all models, or of those of a kind, in the order of the table."""
    return [name for name, spec in _TABLE.items() if kind in (None, spec.kind)]


def get(name):
    """The ModelSpec of a name; an unknown name raises UnknownModel."""
    if name not in _TABLE:
        close = difflib.get_close_matches(str(name).lower(), _TABLE, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise UnknownModel(f"unknown model {name!r}: {hint}the zoo has {', '.join(_TABLE)}")
    return _TABLE[name]


def _build(name):
    return importlib.import_module(f".{get(name).module}", __package__).build


def options(name):
    """{option: default} of a model's networks, image_size among them; imports Keras."""
    return {p.name: p.default for p in inspect.signature(_build(name)).parameters.values()}


def options_text(name):
    """What the docstring of a model's networks says of `options`; imports Keras."""
    return inspect.getdoc(_build(name)).partition("\n\n")[2]  # after what it returns


def networks(name, **options):
    """The Networks of a model with fresh weights, each built on first access; imports Keras.

    Options that do not fit raise ValueError or TypeError here, before anything is built.
    """
    return _build(name)(**options)


def counts(name, keys, **options):
    """{key: number of values} of networks of a model, which take no memory; options as of
    `networks`."""

    def count():
        import keras

        with keras.StatelessScope(initialize_variables=False):
            built = networks(name, **options)
            return {key: built[key].count_params() for key in keys}

    with ThreadPoolExecutor(1) as thread:  # Keras would fill the variables later in this one
        return thread.submit(count).result()


def create(name, **options):
    """The Networks of a model with fresh weights, all of them built in order; imports Keras."""
    built = networks(name, **options)
    for key in built:
        built[key]
    return built

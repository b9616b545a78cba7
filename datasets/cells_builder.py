"""The TFDS builder of the rendered data set `cells`; `cells` draws the pictures."""

import functools
import os
from concurrent.futures import ThreadPoolExecutor

import tensorflow_datasets as tfds

from . import cells, creatures


class CellsConfig(tfds.core.BuilderConfig):
    """A configuration with the numbers of examples and the side of the pictures."""

    def __init__(self, *, train, test, size=64, **kwargs):
        super().__init__(**kwargs)
        self.counts, self.size = {"train": train, "test": test}, size


class Cells(tfds.core.GeneratorBasedBuilder):
    """Cells in indirect immunofluorescence, of six staining patterns, with exact masks and
    boxes."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Initial release."}
    BUILDER_CONFIGS = [
        CellsConfig(name="full", description="20,000 train, 2,000 test.", train=20_000, test=2_000),
        CellsConfig(
            name="128",
            description="128 x 128: 10,000 train, 1,000 test, the first of the same cells.",
            train=10_000,
            test=1_000,
            size=128,
        ),
        CellsConfig(name="tiny", description="256 train, 64 test.", train=256, test=64),
    ]

    def _info(self):
        """image and mask (S, S, 1) uint8, the mask 0 or 255; bbox (4,) float32, ymin, xmin, ymax,
        xmax in [0, 1]; label and intensity int64."""
        size = self.builder_config.size
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(size, size, 1)),
                    "mask": tfds.features.Image(shape=(size, size, 1)),
                    "bbox": tfds.features.BBoxFeature(),
                    "label": tfds.features.ClassLabel(names=cells.LABELS),
                    "intensity": tfds.features.ClassLabel(names=cells.INTENSITIES),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        counts = self.builder_config.counts
        return {split: self._generate_examples(split, n) for split, n in counts.items()}

    def _generate_examples(self, split, count):
        yield from enumerate(examples(split, count, self.builder_config.size))


def examples(split, count, size):
    """The first `count` examples of `split`, in order, with image and mask as PNG files.

    There is a thread per processor to render blocks: numpy's and zlib's loops run in parallel with
    each other and with the writing.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        blocks = pool.map(functools.partial(encoded, split, size), range(-(-count // cells.BLOCK)))
        rendered = (example for block in blocks for example in block)
        yield from (example for _, example in zip(range(count), rendered))


def encoded(split, size, number):
    """Block `number` of a split: a list of examples."""
    block = cells.block(split, number, size)
    return [
        {
            "image": creatures.png(image),
            "mask": creatures.png(mask),
            "bbox": tfds.features.BBox(*map(float, bbox)),
            "label": label,
            "intensity": intensity,
        }
        for image, mask, bbox, label, intensity in zip(*(block[key] for key in block))
    ]

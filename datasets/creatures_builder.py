"""The TFDS builder of the rendered data set `creatures`; `creatures` draws the pictures."""

import os
import pickle
import subprocess
import sys

import tensorflow_datasets as tfds

from . import creatures

SIZE = 64


class CreaturesConfig(tfds.core.BuilderConfig):
    """A configuration with the numbers of examples."""

    def __init__(self, *, train, test, **kwargs):
        super().__init__(**kwargs)
        self.counts = {"train": train, "test": test}


class Creatures(tfds.core.GeneratorBasedBuilder):
    """Small four-legged animals before fractal-noise scenes, with exact masks and boxes."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Initial release."}
    BUILDER_CONFIGS = [
        CreaturesConfig(
            name="full", description="20,000 train, 2,000 test.", train=20_000, test=2_000
        ),
        CreaturesConfig(name="small", description="5,000 train, 500 test.", train=5_000, test=500),
        CreaturesConfig(name="tiny", description="256 train, 64 test.", train=256, test=64),
    ]

    def _info(self):
        """image (64, 64, 3) and mask (64, 64, 1) uint8, the mask 0 or 255; bbox (4,) float32,
        ymin, xmin, ymax, xmax in [0, 1]; label, coat and scene int64."""
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(SIZE, SIZE, 3)),
                    "mask": tfds.features.Image(shape=(SIZE, SIZE, 1)),
                    "bbox": tfds.features.BBoxFeature(),
                    "label": tfds.features.ClassLabel(names=creatures.LABELS),
                    "coat": tfds.features.ClassLabel(names=creatures.COATS),
                    "scene": tfds.features.ClassLabel(names=creatures.SCENES),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        counts = self.builder_config.counts
        return {split: self._generate_examples(split, n) for split, n in counts.items()}

    def _generate_examples(self, split, count):
        workers = os.cpu_count() if count >= 1000 else 0
        for index, example in enumerate(examples(split, count, workers=workers)):
            yield index, {**example, "bbox": tfds.features.BBox(*example["bbox"])}


def examples(split, count, *, workers=0):
    """The first `count` examples of `split`, in order, from `creatures.encoded_example`.

    They are rendered here, or by `workers` processes. These are plain interpreters that run
    creatures.py, so that neither TensorFlow nor the caller's main module is forked or imported
    again. The examples are the same to the byte.
    """
    if not workers:
        for index in range(count):
            yield creatures.encoded_example(split, index)
        return
    processes = [
        subprocess.Popen(
            [sys.executable, "-P", creatures.__file__, split, *map(str, (first, count, workers))],
            stdout=subprocess.PIPE,
            start_new_session=True,  # an interrupt reaches the caller alone, who kills them
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        for first in range(workers)
    ]
    try:
        for index in range(count):
            yield pickle.load(processes[index % workers].stdout)
    finally:
        for process in processes:
            process.kill()
            process.stdout.close()
            process.wait()

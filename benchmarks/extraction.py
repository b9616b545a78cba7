"""Features of pictures by FID's network, compared with torch-fidelity's: images per second.

    python -m benchmarks.extraction [--rounds=5] [--num=100] [--size=32]
    python -m benchmarks.extraction --fid --num=10000      # FID of two folders, once on each side

Both sides have Inception's graph with the same random weights, which do not affect the speed. The
first table has the stages: PNG files to arrays, arrays to features. The sides take turns, each in
its own process. --fid measures the whole way: files, resizing, network, moments, distance.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from . import machine
from .results import spread

SIDES = ("ours", "torch-fidelity")
STAGES = ("decode", "network")


def make_pictures(folder, count, size, seed=0):
    """Writes `count` PNG files of noise over smooth colours."""
    from PIL import Image

    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
        smooth = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), np.int16)
        noise = rng.integers(-20, 21, smooth.shape)
        picture = Image.fromarray(np.clip(smooth + noise, 0, 255).astype(np.uint8))
        picture.save(folder / f"{i:05d}.png")


class Ours:
    def __init__(self, place):
        from attention_zoo.common.quiet import import_tensorflow

        import_tensorflow()
        from attention_zoo.datasets.folder import Folder
        from attention_zoo.evaluate import features, inception

        network = inception.build()
        rng = np.random.default_rng(0)
        for variable in network.variables:
            scale = (2 / max(1, np.prod(variable.shape[:-1]))) ** 0.5
            value = rng.normal(0, scale, variable.shape) if len(variable.shape) > 1 else 0.5
            variable.assign(np.broadcast_to(value, variable.shape).astype("float32"))
        self.extractor, self.features = features.of_inception(network, "random"), features
        self.folder, self.place = Folder, place

    def decode(self, name="a"):
        folder = self.folder(str(self.place / name), "train")
        return np.stack([example["image"] for example in folder.examples(folder.side())])

    def network(self, images):
        for block, _ in self.features.blocks([images]):
            self.extractor.run(block)

    def fid(self):
        from attention_zoo.evaluate import fid

        moments = []
        for name in "ab":
            images = self.decode(name)
            moments.append(self.features.Features(lambda i=images: [i], self.extractor))
        pairs = (found.moments("features") for found in moments)
        return fid.frechet_distance(*(pair[key] for pair in pairs for key in ("mean", "cov")))


class TorchFidelity:
    def __init__(self, place):
        from unittest import mock

        import torch

        from . import no_torchvision  # noqa: F401  before torch_fidelity

        import torch_fidelity  # isort: skip
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        empty = place / "empty.pth"
        torch.save({}, empty)
        with mock.patch.object(FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None):
            model = FeatureExtractorInceptionV3("inception", ["2048"], str(empty))
        torch.manual_seed(0)
        for value in model.state_dict().values():
            if value.is_floating_point():
                scale = (2 / max(1, value[0].numel())) ** 0.5 if value.ndim > 1 else 0
                value.copy_(torch.randn(value.shape) * scale + (0 if value.ndim > 1 else 0.5))
        weights = place / "weights.pth"
        torch.save(model.state_dict(), weights)
        self.torch, self.fidelity, self.model = torch, torch_fidelity, model
        self.weights, self.place = str(weights), place

    def pictures(self, name="a"):
        from torch_fidelity.datasets import ImagesPathDataset

        return ImagesPathDataset(sorted(str(p) for p in (self.place / name).iterdir()))

    def decode(self):
        return self.torch.stack(list(self.pictures()))

    def network(self, images):
        with self.torch.no_grad():
            for part in images.split(64):
                self.model(part)

    def fid(self):
        found = self.fidelity.calculate_metrics(
            input1=self.pictures("a"),
            input2=self.pictures("b"),
            fid=True,
            cuda=False,
            cache=False,
            verbose=False,
            feature_extractor_weights_path=self.weights,
        )
        return found["frechet_inception_distance"]


def work(side, place, whole):
    """Measures in this process: a line of seconds for each line of stdin; `whole`: FID once."""
    task = {"ours": Ours, "torch-fidelity": TorchFidelity}[side](Path(place))
    if not whole:
        task.network(task.decode())  # warm-up
    print("ready", flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        if whole:
            measured = {"value": float(task.fid())}
        else:
            images = task.decode()
            decoded = time.perf_counter()
            task.network(images)
            measured = {"decode": decoded - begin, "network": time.perf_counter() - decoded}
        measured |= {"all": time.perf_counter() - begin, "megabytes": machine.peak_megabytes()}
        print(json.dumps(measured), flush=True)


def measure(place, rounds, whole, sides=SIDES):
    """{side: [what `work` prints]}, the sides in turns."""
    workers = {}
    for side in sides:
        command = [sys.executable, "-m", "benchmarks.extraction", "--work", side]
        command += ["--place", str(place), *(["--fid"] if whole else [])]
        workers[side] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        if workers[side].stdout.readline() != "ready\n":
            raise SystemExit(f"benchmark: the side {side!r} ended")
    found = {side: [] for side in sides}
    for _ in range(rounds):
        for side, worker in workers.items():
            worker.stdin.write("go\n")
            worker.stdin.flush()
            found[side].append(json.loads(worker.stdout.readline()))
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    return found


def run(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--num", type=int, default=100, help="pictures in each folder")
    parser.add_argument("--size", type=int, default=32, help="of the pictures")
    parser.add_argument("--fid", action="store_true", help="the whole way, once")
    parser.add_argument("--work", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--place", help=argparse.SUPPRESS)
    flags = parser.parse_args(arguments)
    if flags.work:
        return work(flags.work, flags.place, flags.fid)
    with tempfile.TemporaryDirectory() as folder:
        for seed, name in enumerate("ab"[: 1 + flags.fid]):
            make_pictures(Path(folder) / name, flags.num, flags.size, seed)
        found = measure(folder, 1 if flags.fid else flags.rounds, flags.fid)
    kinds = ("all",) if flags.fid else (*STAGES, "all")
    count = flags.num * (1 + flags.fid)
    for kind in kinds:
        for side, rows in found.items():
            print(f"{kind}, {side}: {spread([count / row[kind] for row in rows])} images/s")
        ratios = [b[kind] / a[kind] for a, b in zip(*found.values())]
        print(f"{kind}, {' / '.join(found)}: {spread(ratios)}")
    for side, rows in found.items():
        seconds = statistics.median(row["all"] for row in rows)
        print(f"{side}: {seconds:.1f} s for {count} pictures, {rows[-1]['megabytes']:.0f} MiB")
    return None


if __name__ == "__main__":
    run()

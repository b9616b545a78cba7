"""Translates many pictures of many sizes and prints how the memory grows.

    python tools/soak.py [--pictures=20000] [--sizes=200] [--model=attention_gan]

The pictures have random sides from 16 to 96 pixels and lie in one folder in mixed order. Memory is
what the process holds, libraries included. The exit code is 1 if the second half of the pictures
needs more than MARGIN above the most that the first half needed.
"""

import argparse
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import main as checkout  # noqa: E402, F401  makes the folder the package attention_zoo
from attention_zoo.common.quiet import import_tensorflow  # noqa: E402

import_tensorflow()

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

import attention_zoo as az  # noqa: E402
from attention_zoo.experiments import translating  # noqa: E402

MARGIN = 1.05  # the libraries keep something for each size


def megabytes():
    """The memory that this process holds now."""
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) / 1024


def write_pictures(folder, count, sizes, seed=0):
    """Writes `count` noisy JPEGs of `sizes` sizes."""
    rng, noise = random.Random(seed), np.random.default_rng(seed)
    sides = [(rng.randint(16, 96), rng.randint(16, 96)) for _ in range(sizes)]
    blocks = noise.integers(0, 256, (128, 128, 3), "uint8")
    for i in range(count):
        height, width = rng.choice(sides)
        y, x = rng.randint(0, 32), rng.randint(0, 32)
        Image.fromarray(blocks[y : y + height, x : x + width]).save(folder / f"{i:06d}.jpg")


def soak(model, count, sizes):
    """Translates the pictures; returns [(pictures done, memory in MB)], about one a second."""
    with tempfile.TemporaryDirectory() as place:
        source, output = Path(place) / "in", Path(place) / "out"
        source.mkdir()
        write_pictures(source, count, sizes)
        rows, ended = [], threading.Event()

        def watch():
            while not ended.wait(1):
                done = sum(1 for _ in output.glob("*.png")) if output.exists() else 0
                rows.append((done, megabytes()))
                if len(rows) % 20 == 0:
                    print(f"{done} pictures, {rows[-1][1]:.0f} MB", flush=True)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            begin = time.perf_counter()
            done = translating.translate_folder(model, source, output).images
            seconds = time.perf_counter() - begin
        finally:
            ended.set()
            watcher.join()
        rows.append((done, megabytes()))
    print(f"{done} of {count} pictures translated in {seconds:.0f} s")
    return rows


def run():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--sizes", type=int, default=200)
    parser.add_argument("--model", default="attention_gan")
    given = parser.parse_args()
    rows = soak(az.load(given.model), given.pictures, given.sizes)
    first = max(memory for done, memory in rows if done <= given.pictures / 2)
    second = max(memory for done, memory in rows if done > given.pictures / 2)
    print(f"most memory: {first:.0f} MB in the first half, {second:.0f} MB in the second")
    return rows[-1][0] < given.pictures or second > MARGIN * first


if __name__ == "__main__":
    sys.exit(run())

"""Draws a grid of samples."""

from pathlib import Path

from modes import shared
from modes.evaluate import draws
from modes.shared import UsageError

USES = "model weights num seed output"


def run(flags):
    draw, about = shared.served(flags)
    import numpy as np

    from trainers import callbacks

    if "latent" not in about["options"]:
        raise UsageError(f"{about['model']} makes no images")
    count = flags.num or 64
    z = draws(count, about["options"]["latent"], flags.seed)
    images = np.concatenate([draw(z[i : i + 64]) for i in range(0, count, 64)])
    path = Path(flags.output or "samples.png")
    shared.write(path, callbacks.png(callbacks.image_grid(images, min(8, count))))
    print(f"samples: {path}")

"""Draws a grid of samples."""

from pathlib import Path

from ..common.files import write_output
from ..common.images import attention_grid, image_grid, png, to_uint8
from . import shared
from .evaluate import draws
from .shared import UsageError

USES = "model weights num seed output attention"


def run(flags):
    draw, about = shared.served(flags)
    import numpy as np

    if "latent" not in about["options"]:
        raise UsageError(f"{about['model']} makes no images")
    count = flags.num or 64
    z = draws(count, about["options"]["latent"], flags.seed)
    path = Path(flags.output or "samples.png")
    images = np.concatenate([draw(z[i : i + 64]) for i in range(0, count, 64)])
    grid = image_grid(images, min(8, count))
    if flags.attention:
        grid = looking(about, z, to_uint8(images))
    write_output(path, png(grid))
    print(f"samples: {path}")


def looking(about, z, pictures):
    """A row a sample: it, and where four of its places look, by the generator's self-attention."""
    import numpy as np

    from ..zoo.layers import self_attention

    network, side = about["network"], pictures.shape[1]
    if not self_attention.attends(network):
        raise UsageError(f"--attention: the generator of {about['weights']} has no self-attention")
    maps = self_attention.attention_map(network)
    parts = [
        self_attention.looks(maps.predict_on_batch(about["given"](z[i : i + 8])), side)
        for i in range(0, len(z), 8)
    ]
    masks, places = np.concatenate([masks for masks, _ in parts]), parts[0][1]
    return attention_grid(pictures, masks, places)

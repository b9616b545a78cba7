"""Are attention masks alive? Those of unpaired translation are prone to saturate: all 1 the network
repaints the whole picture, all 0 it changes nothing, and neither is attention.
"""

import numpy as np

LOW, HIGH = 0.05, 0.95
COLLAPSED = 0.99  # share of pixels below LOW or above HIGH
REMEDY = {
    "low": "nothing is changed: start with the curriculum, or lower the weight of the pixel loss "
    "or of the total variation",
    "high": "the whole picture is repainted: raise the weight of the total variation or of the "
    "pixel loss, or start with the curriculum",
}


def health(masks, *, softmax):
    """Masks (B, H, W, n) in [0, 1] -> {name: float}, each over all pixels of the batch.

        mask1_mean, mask1_low, mask1_high   mean, share below LOW, share above HIGH, of each mask
        mask1_entropy    mean over the pixels of -a log2 a - (1 - a) log2(1 - a), in [0, 1]
        foreground_mean, foreground_low, foreground_high   the same of what is not background
        entropy          in [0, 1], 1 where no mask is preferred

    softmax: the n masks, n >= 2, sum to 1 and the last is the background's; entropy is
    -sum_i a_i log a_i / log n. Without it (a sigmoid's) each mask is a foreground's of its own,
    and foreground and entropy are means over them.
    """
    masks = np.asarray(masks, np.float64)
    if masks.ndim != 4 or not masks.size or masks.shape[-1] < 1 + softmax:
        raise ValueError(f"masks are (B, H, W, n), n >= {1 + softmax}, not {masks.shape}")
    if not ((masks >= 0) & (masks <= 1)).all():
        raise ValueError("masks lie in [0, 1]")
    surprise = _surprise(masks)
    binary = (surprise + _surprise(1 - masks)) / np.log(2)
    found = {}
    for number, mask in enumerate(np.moveaxis(masks, -1, 0), 1):
        found |= _shares(f"mask{number}", mask)
        found[f"mask{number}_entropy"] = float(binary[..., number - 1].mean())
    if softmax:
        found |= _shares("foreground", 1 - masks[..., -1])
        found["entropy"] = float(surprise.sum(-1).mean() / np.log(masks.shape[-1]))
    else:
        found |= _shares("foreground", masks)
        found["entropy"] = float(binary.mean())
    return found


def _surprise(p):
    """-p log p, 0 at 0."""
    return -p * np.log(np.where(p > 0, p, 1))


def _shares(name, mask):
    return {
        f"{name}_mean": float(mask.mean()),
        f"{name}_low": float((mask < LOW).mean()),
        f"{name}_high": float((mask > HIGH).mean()),
    }


def warning(found, name="foreground mask"):
    """One line where the foreground of a `health` has collapsed, with what helps; else None.

    Collapsed: at least COLLAPSED of its pixels are below LOW, or above HIGH. Where a whole picture
    is to be changed, as from summer to winter, the latter is right.
    """
    for side, values in (("low", f"below {LOW}"), ("high", f"above {HIGH}")):
        share = found[f"foreground_{side}"]
        if share >= COLLAPSED:
            return f"{name}: {100 * share:.1f} % of it is {values}, {REMEDY[side]}"
    return None

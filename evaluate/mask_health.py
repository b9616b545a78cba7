"""Whether attention masks of unpaired translation have collapsed. They tend to saturate: where all
are 1 the network repaints the whole picture, where all are 0 it changes nothing.
"""

import numpy as np

LOW, HIGH = 0.05, 0.95
COLLAPSED = 0.99  # share of pixels below LOW or above HIGH
ADVICE = {
    "low": "nothing is changed: start with the curriculum, or lower the weight of the cycle loss, "
    "of the pixel loss or of the total variation",
    "high": "the whole picture is repainted: raise the weight of the total variation or of the "
    "pixel loss, or start with the curriculum",
}


def health(masks, *, softmax):
    """Masks (B, H, W, n) in [0, 1] -> {name: float}, each over all pixels of the batch.

        mask1_mean, mask1_low, mask1_high   mean, share below LOW, share above HIGH, of each mask
        mask1_entropy    mean over the pixels of -a log2 a - (1 - a) log2(1 - a), in [0, 1]
        foreground_mean, foreground_low, foreground_high   the same for the foreground
        entropy          in [0, 1], 1 if no mask is preferred

    softmax: True if the n masks, n >= 2, sum to 1, with the background's last; the foreground is
    1 minus the last one, and the entropy is -sum_i a_i log a_i / log n. False for masks of a
    sigmoid: each is a foreground, and foreground and entropy are means over the masks.
    """
    masks = np.asarray(masks, np.float64)
    if masks.ndim != 4 or not masks.size or masks.shape[-1] < 1 + softmax:
        raise ValueError(f"masks are (B, H, W, n), n >= {1 + softmax}, not {masks.shape}")
    if not ((masks >= 0) & (masks <= 1)).all():
        raise ValueError("masks lie in [0, 1]")
    terms = _entropy_terms(masks)
    binary = (terms + _entropy_terms(1 - masks)) / np.log(2)
    numbers = {}
    for number, mask in enumerate(np.moveaxis(masks, -1, 0), 1):
        numbers |= _shares(f"mask{number}", mask)
        numbers[f"mask{number}_entropy"] = float(binary[..., number - 1].mean())
    if softmax:
        numbers |= _shares("foreground", 1 - masks[..., -1])
        numbers["entropy"] = float(terms.sum(-1).mean() / np.log(masks.shape[-1]))
    else:
        numbers |= _shares("foreground", masks)
        numbers["entropy"] = float(binary.mean())
    return numbers


def _entropy_terms(p):
    """-p log p, 0 at 0."""
    return -p * np.log(np.where(p > 0, p, 1))


def _shares(name, mask):
    return {
        f"{name}_mean": float(mask.mean()),
        f"{name}_low": float((mask < LOW).mean()),
        f"{name}_high": float((mask > HIGH).mean()),
    }


def warning(numbers, name="foreground mask"):
    """One line with advice if the foreground of a `health` has collapsed, else None.

    Collapsed means that at least COLLAPSED of its pixels are below LOW, or above HIGH. If the whole
    picture is to change, as from summer to winter, a mask above HIGH is right.
    """
    for side, values in (("low", f"below {LOW}"), ("high", f"above {HIGH}")):
        share = numbers[f"foreground_{side}"]
        if share >= COLLAPSED:
            return f"{name}: {100 * share:.1f} % of it is {values}, {ADVICE[side]}"
    return None

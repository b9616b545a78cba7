"""Does a metric notice broken spatial layout? (SAGAN on Stanford Dogs, research question 2.)

Each distortion keeps what is in the pictures and breaks where it is, but for blur, which keeps the
layout and breaks the detail.
"""

import io

import numpy as np

METRICS = ("fid", "sfid", "kid", "is", "precision_recall", "density_coverage")


def swap_quadrants(images):
    """(N, S, S, 3) -> the same with the four quadrants exchanged across the middle."""
    half = images.shape[1] // 2
    return np.roll(images, (half, half), axis=(1, 2))


def shuffle_patches(images, size, seed=0):
    """Patches of size x size in another order for each picture; S must divide by size."""
    n, side = images.shape[:2]
    if side % size:
        raise ValueError(f"patches of {size} do not fill {side} pixels")
    count = side // size
    patches = images.reshape(n, count, size, count, size, 3).swapaxes(2, 3)
    patches = patches.reshape(n, count * count, size, size, 3)
    order = np.random.default_rng(seed).permuted(np.tile(np.arange(count**2), (n, 1)), axis=1)
    patches = patches[np.arange(n)[:, None], order].reshape(n, count, count, size, size, 3)
    return patches.swapaxes(2, 3).reshape(images.shape)


def mirror_halves(images):
    """The left and the right half of each picture, each mirrored in itself."""
    half = images.shape[2] // 2
    return np.concatenate([images[:, :, :half][:, :, ::-1], images[:, :, half:][:, :, ::-1]], 2)


def blur(images, sigma):
    """Gaussian blur of `sigma` pixels, the border repeated outwards."""
    reach = int(np.ceil(3 * sigma))
    weights = np.exp(-((np.arange(-reach, reach + 1) / sigma) ** 2) / 2)
    weights /= weights.sum()
    found = images.astype(np.float32)
    for axis in (1, 2):
        pad = [(0, 0)] * 4
        pad[axis] = (reach, reach)
        wide, size = np.pad(found, pad, "edge"), images.shape[axis]
        found = sum(w * wide.take(range(i, i + size), axis) for i, w in enumerate(weights))
    return np.clip(np.rint(found), 0, 255).astype(np.uint8)


def conditions(train, test, seed=0):
    """{name: function of a slice of indices -> uint8 images (n, S, S, 3)}; all but the first and
    the last two are test images, distorted. train, test: uint8 (N, S, S, 3)."""
    size, count = test.shape[1], len(test)
    found = {
        "other real images (train)": lambda part: train[: len(test)][part],
        "the same images": lambda part: test[part],
        "halves mirrored": lambda part: mirror_halves(test[part]),
        "quadrants swapped": lambda part: swap_quadrants(test[part]),
    }
    for patch in (size // 2, size // 4, size // 8, size // 16):
        found[f"patches of {patch} shuffled"] = lambda part, patch=patch: shuffle_patches(
            test[part], patch, [seed, part.start]
        )
    for sigma in (0.5, 1.0, 2.0):
        found[f"blurred, sigma {sigma:g}"] = lambda part, sigma=sigma: blur(test[part], sigma)
    found["one image repeated"] = lambda part: test[:1].repeat(len(range(count)[part]), 0)
    found["noise"] = lambda part: np.random.default_rng([seed, part.start]).integers(
        0, 256, (len(range(count)[part]), size, size, 3), np.uint8
    )
    return found


def markdown(rows):
    """[{"images": name, metric: value, ...}] -> a table."""
    heads = list(rows[0])
    short = [head.split("_")[0] for head in heads]
    lines = ["| " + " | ".join(short) + " |", "|---" * len(heads) + "|"]
    for row in rows:
        values = [f"{row[h]:.4g}" for h in heads[1:]]
        lines.append("| " + " | ".join([row["images"], *values]) + " |")
    return "\n".join(lines) + f"\n\nNames in full: {', '.join(heads[1:])}.\n"


def plot(rows, examples):
    """Bars of FID, sFID and KID, each as a share of the worst distortion's, beside the first
    pictures of each row, uint8 (8, S, S, 3) -> PNG bytes."""
    from matplotlib.figure import Figure

    count = len(rows)
    figure = Figure(figsize=(11, 0.62 * count + 1), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.3))
    margin = max(1, examples[0].shape[1] // 16)
    rim = [(0, 0), (margin, margin), (margin, 0), (0, 0)]
    strips = [np.pad(e[:6], rim, constant_values=255) for e in examples]
    strips = [np.concatenate(list(strip), 1) for strip in strips]
    size = strips[0].shape[0]
    left.imshow(np.concatenate(strips), aspect="auto", interpolation="nearest")
    left.set_yticks([size * (i + 0.5) for i in range(count)], [row["images"] for row in rows])
    left.set_xticks([])
    heads = [head for head in rows[0] if head.split("_")[0] in ("fid", "sfid", "kid")]
    for i, (head, shade) in enumerate(zip(heads, ("#1b6ca8", "#e08e0b", "#6b6b6b"))):
        values = np.array([row[head] for row in rows])
        places = np.arange(count) + (i - 1) * 0.27
        scale = values[2:-2].max()
        name = {"fid": "FID", "sfid": "sFID", "kid": "KID"}[head.split("_")[0]]
        right.barh(places, np.minimum(values / scale, 1.2), 0.27, color=shade, label=name)
        for place, value in zip(places, values):
            end = min(max(value / scale, 0), 1.2) + 0.01
            right.text(end, place, f"{value:.3g}", va="center", fontsize=7)
    right.set_ylim(count - 0.5, -0.5)
    right.set_yticks([])
    right.set_xlim(-0.02, 1.3)  # what is longer is cut at 1.2
    right.set_xlabel(f"share of the largest among the distortions; {heads[0].split('_', 1)[1]}")
    right.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()

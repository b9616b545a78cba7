"""Rendered cells as in indirect immunofluorescence of HEp-2, with exact masks and boxes.

The antibodies of a serum, stained on the nucleus of an epithelial cell, show one of six patterns
(the class; the definitions are those of the I3A contest, i3a2014.unisa.it/task1.html):

    homogeneous       an even nucleus, at times a little brighter at its border
    speckled          fine to coarse, dense grains of many sizes; the nucleoli stay dark
    nucleolar         one to six large bright clusters of granules in a dim nucleus
    centromere        40 to 60 small dots of one size, evenly spread over a dim nucleus
    golgi             irregular bright granules beside the dark nucleus, partly around it
    nuclear membrane  a bright smooth ring at the nucleus' border, the inside dimmer

A picture is grey, of positive or intermediate intensity, on an uneven background with debris and
camera noise. The mask is 255 on the nucleus, and in class golgi on the granules too, but not on the
faint cytoplasm around it, which annotators leave out.

Pictures are rendered BLOCK at a time by array operations over the whole block, which is a function
of its split and number. Only numpy is needed here; the TFDS builder is in `cells_builder`.

Lengths within a cell are in units of its nucleus' mean radius, points are complex numbers x + iy
about its middle, y downwards. The nucleus' outline is R(z) = 1 + Re(a_2 z^2 + ... + a_5 z^5), z on
the unit circle, and t = |w| / R(w / |w|) of a point w is 0 in the middle and 1 on the outline.
"""

from dataclasses import dataclass

import numpy as np

from .creatures import clip01, pixel_centres, smoothstep, spline

LABELS = ("homogeneous", "speckled", "nucleolar", "centromere", "golgi", "nuclear membrane")
INTENSITIES = ("intermediate", "positive")

SPLIT_SEEDS = {"train": 0, "test": 1}
BLOCK = 64  # pictures that are rendered together
MARGIN = 0.04  # least distance of a cell from the picture's border, as a fraction of the side
BLUR = 0.03  # width of an edge, as a fraction of the side

LOBES = np.array((0.15, 0.055, 0.03, 0.02))  # greatest |a_k| of the outline, k from 2 to 5
ANGLES = np.exp(2j * np.pi * np.arange(48) / 48)


@dataclass(frozen=True)
class Nuclei:
    """Nuclei on the pixel grid, one per picture."""

    at: np.ndarray  # (S,) pixel centres
    middle: np.ndarray  # (B,) complex; this and the radius in fractions of the side
    radius: np.ndarray  # (B,)
    z: np.ndarray  # (B, S, S) the direction of a pixel from the middle
    t: np.ndarray  # (B, S, S)
    coverage: np.ndarray  # (B, S, S) in [0, 1], 0.5 on the outline

    def pick(self, chosen):
        """The nuclei of these indices."""
        parts = (self.middle, self.radius, self.z, self.t, self.coverage)
        return Nuclei(self.at, *(part[chosen] for part in parts))

    def spots(self, points, sigma, weight):
        """The sum (B, S, S) of round Gaussian spots at complex points (B, n), with standard
        deviations sigma (B, n) or (B, 1) and heights weight (B, n)."""
        at = self.middle[:, None] + self.radius[:, None] * points
        # A pixel sees the mean of its area, which widens a spot by its own deviation.
        sigma = np.sqrt((sigma * self.radius[:, None]) ** 2 + 1 / (12 * len(self.at) ** 2))
        scale = (np.sqrt(0.5) / sigma)[..., None].astype(np.float32)

        def profile(where):
            return np.exp(-(((self.at - where[..., None].astype(np.float32)) * scale) ** 2))

        down = profile(at.imag) * weight[..., None].astype(np.float32)
        return down.transpose(0, 2, 1) @ profile(at.real)


def on_grid(middle, radius, a, size):
    """The Nuclei of outlines a (B, 4), middles and radii (B,), on size x size pixels."""
    at = pixel_centres(size)
    w = np.empty((len(a), size, size), np.complex64)
    w.real, w.imag = (
        (along - part[:, None, None]) / radius[:, None, None]
        for along, part in ((at, middle.real), (at[:, None], middle.imag))
    )
    length = np.maximum(np.abs(w), np.float32(1e-6))
    z = w / length
    border = outline(a, z)
    beyond = (length - border) * planes(radius)
    return Nuclei(at, middle, radius, z, length / border, smoothstep(BLUR / 2, -BLUR / 2, beyond))


def outline(a, z):
    """R(z) of a (B, 4) at z, broadcastable to (B, ...), on the unit circle."""
    total = np.complex64(0)
    for each in a.astype(z.dtype).T[::-1]:  # Horner's scheme
        total = (total + each.reshape(-1, *(1,) * (z.ndim - 1))) * z
    return 1 + (total * z).real


def grain(lattice, size):
    """Smooth noise (B, size, size) of about unit deviation through lattices (B, n + 3, n + 3)."""
    weights = spline(size, lattice.shape[1] - 3)
    return weights @ lattice @ weights.T * np.float32(1 / 0.48)


def solid(light):
    """Sums of spots as a flat-topped share in [0, 1)."""
    return 1 - np.exp(-light)


def planes(values):
    """(B,) as (B, 1, 1)."""
    return values.astype(np.float32)[:, None, None]


def between(low, high, share):
    """Shares (B,) in [0, 1] as values from low to high, (B, 1, 1)."""
    return planes(low + (high - low) * share)


# ----------------------------------------------------------------------------------------------
# Patterns: functions of the draws and the nuclei of one class -> light (B, S, S), about [0, 1].
# ----------------------------------------------------------------------------------------------


def ring(nuclei, inside, width):
    """A ring at the distance `inside` from the outline; 1 in its middle."""
    return np.exp(-(((nuclei.t - 1 + inside) / width) ** 2))


def cytoplasm(nuclei):
    """1 in the nucleus, falling off around it."""
    return np.exp(-((np.maximum(nuclei.t - 1, 0) / 0.5) ** 2))


def homogeneous(d, nuclei):
    light = 0.84 + 0.05 * d["coarse"] + 0.04 * d["fine"]
    light += between(0.0, 0.22, d["accent"]) * ring(nuclei, 0.08, 0.10)
    light -= between(0.0, 0.18, d["share"]) * solid(3 * nuclei.spots(*nucleoli(d)))
    return nuclei.coverage * light


def speckled(d, nuclei):
    coarse, points = d["share"][:, None], d["scattered"]
    count = 300 - 190 * coarse
    weight = (np.arange(points.shape[1]) < count) * (0.25 + 1.1 * d["heights"] ** 2)
    sigma = (0.036 + 0.034 * coarse) * (0.75 + 0.5 * d["widths"])
    grains = nuclei.spots(points, sigma, weight)
    light = between(0.26, 0.46, d["base"]) + 0.85 * solid(0.95 * grains)
    light *= 1 - 0.60 * solid(3 * nuclei.spots(*nucleoli(d)))
    return nuclei.coverage * light


def nucleolar(d, nuclei):
    """Each nucleolus is a cluster of five granules that overlap."""
    points, sigma, weight = nucleoli(d)
    points = (points[..., None] + 1.1 * sigma[..., None] * d["clusters"]).reshape(len(points), -1)
    sigma, weight = np.repeat(0.62 * sigma, 5, 1), np.repeat(weight, 5, 1)
    clusters = solid(1.3 * nuclei.spots(points, sigma, weight))
    base = between(0.12, 0.28, d["base"]) * (1 + 0.12 * d["coarse"])
    return nuclei.coverage * base + clusters * (1 - base)


def centromere(d, nuclei):
    weight = (np.arange(60) < 40 + 20 * d["share"][:, None]) * (0.75 + 0.5 * d["heights"][:, :60])
    dots = nuclei.spots(d["even"], 0.042 + 0.012 * d["accent"][:, None], weight)
    base = between(0.08, 0.22, d["base"]) * (1 + 0.15 * d["coarse"])
    return nuclei.coverage * base + dots


def golgi(d, nuclei):
    around = cytoplasm(nuclei) - nuclei.coverage
    return between(0.08, 0.18, d["base"]) * around + apparatus(d, nuclei)


def apparatus(d, nuclei):
    """The light of the Golgi granules; pixels of at least 0.5 belong to them."""
    return solid(1.6 * nuclei.spots(*granules(d)))


def membrane(d, nuclei):
    along = 1 + 0.14 * (nuclei.z * d["turn"][:, None, None]).real
    along += 0.10 * (nuclei.z**3 * d["turn"][:, None, None]).real
    inner = between(0.20, 0.42, d["base"]) * (1 + 0.10 * d["coarse"] + 0.08 * d["fine"])
    inner *= 1 - 0.25 * solid(3 * nuclei.spots(*nucleoli(d)))
    rim = ring(nuclei, 0.07, between(0.07, 0.11, d["accent"])) * along
    return nuclei.coverage * inner * (1 - 0.6 * rim) + rim * (0.9 + 0.1 * nuclei.coverage)


PATTERNS = (homogeneous, speckled, nucleolar, centromere, golgi, membrane)


def nucleoli(d):
    """Points, widths and weights (B, 6) of one to six nucleoli."""
    weight = np.arange(6) < 6 * d["nucleoli"][:, None]
    many = weight.sum(1, keepdims=True)
    return d["islands"], (0.17 - 0.014 * many) * (0.8 + 0.4 * d["widths"][:, :6]), weight


def granules(d):
    """Points, widths and weights (B, 26) of the Golgi granules: an arc on one side."""
    spread = 0.20 + 0.40 * d["share"][:, None]
    turn = d["turn"][:, None] * np.exp(1j * spread * d["arc"].real)
    distance = 1.16 + 0.18 * d["arc"].imag
    sigma = 0.050 + 0.065 * d["widths"][:, :26] ** 2
    weight = (np.arange(26) < 12 + 14 * d["accent"][:, None]) * (0.5 + d["heights"][:, :26])
    return outline(d["a"], turn) * distance * turn, sigma, weight


# ----------------------------------------------------------------------------------------------
# Draws, place, picture
# ----------------------------------------------------------------------------------------------


def draw(rng, count):
    """All random numbers of a block except the camera's noise: a dict of arrays (count, ...)."""

    def uniform(low, high, *shape):
        return rng.uniform(low, high, (count, *shape))

    def disc(*shape, radius=1.0):
        """Points distributed uniformly over a disc."""
        return radius * np.sqrt(uniform(0, 1, *shape)) * circle(*shape)

    def circle(*shape):
        return np.exp(2j * np.pi * uniform(0, 1, *shape))

    def normal(*shape):
        return rng.standard_normal((count, *shape), np.float32)

    d = {name: uniform(0, 1) for name in ("share", "accent", "base", "nucleoli", "exposure")}
    d["label"] = rng.integers(len(LABELS), size=count)
    d["intensity"] = rng.integers(len(INTENSITIES), size=count)
    d["a"] = uniform(0.2, 1, 4) * LOBES * circle(4)
    d["radius"], d["place"] = uniform(0.23, 0.31), uniform(0, 1, 2)
    d["turn"] = circle()

    def inside(points):
        """Points of the unit disc, moved into the nucleus."""
        size = np.maximum(np.abs(points), 1e-9)
        return points * outline(d["a"], points / size)

    d["heights"], d["widths"] = uniform(0, 1, 300), uniform(0, 1, 300)
    d["scattered"] = inside(disc(300, radius=0.99))
    # Dots lie evenly like the seeds of a sunflower, each moved by a third of their distance.
    number = np.arange(60)
    golden = np.exp(1j * np.pi * (3 - np.sqrt(5)) * number)
    seeds = np.sqrt((number + 0.5) / (40 + 20 * d["share"][:, None])) * golden
    moved = 0.90 * seeds * d["turn"][:, None] + disc(60, radius=0.085)
    d["even"] = inside(moved / np.maximum(1, np.abs(moved) / 0.94))
    # Nucleoli do not touch: each lies in a direction of its own.
    turn = np.exp(2j * np.pi * uniform(-0.05, 0.05, 6)) * d["turn"][:, None]
    d["islands"] = inside(uniform(0.25, 0.68, 6) * golden[:6] * turn)
    d["clusters"] = disc(6, 5)
    d["arc"] = np.clip(normal(26), -2, 2) + 1j * uniform(-1, 1, 26)
    d["coarse lattice"], d["fine lattice"] = normal(13, 13), normal(35, 35)
    # Debris: up to four specks, each a row of three spots, and one blurred stain.
    row = uniform(0.02, 0.13, 4, 1) * circle(4, 1) * np.arange(-1, 2)
    d["specks"] = (uniform(1.55, 2.8, 4, 1) * circle(4, 1) + row).reshape(count, 12)
    d["speck widths"] = np.repeat(uniform(0.03, 0.10, 4), 3, 1)
    d["speck heights"] = np.repeat(uniform(0.1, 1, 4) * (uniform(0, 1, 4) < 0.5), 3, 1)
    d["stain"], d["stain light"] = uniform(2.0, 2.8, 1) * circle(1), uniform(0, 0.35, 1)
    d["haze"], d["level"] = uniform(0.03, 0.10), uniform(0.02, 0.10)
    d["slope"], d["uneven lattice"] = uniform(0, 0.7) * circle(), normal(5, 5)
    d["noise"] = uniform(0.5, 1.2)
    return d


def place(d):
    """Complex middle (B,) and radius (B,) of the nuclei; the whole cell lies inside MARGIN."""
    rim = outline(d["a"], ANGLES[None]) * ANGLES
    spots, sigma, weight = granules(d)
    own = (weight > 0) & (d["label"] == LABELS.index("golgi"))[:, None]
    points = np.concatenate((rim, np.where(own, spots, rim[:, :1])), 1)
    reach = np.concatenate((np.zeros(rim.shape), np.where(own, 2 * sigma, 0)), 1)
    sides = points.real, points.imag
    low = np.stack([(side - reach).min(1) for side in sides], 1)
    high = np.stack([(side + reach).max(1) for side in sides], 1)
    radius = np.minimum(d["radius"], (1 - 2 * MARGIN) / (high - low).max(1))
    room = 1 - 2 * MARGIN - radius[:, None] * (high - low)
    corner = MARGIN + d["place"] * room - radius[:, None] * low
    return corner[:, 0] + 1j * corner[:, 1], radius


def render(rng, count=BLOCK, *, label=None, intensity=None, size=64):
    """Renders cells.

    label and intensity are indices of LABELS and INTENSITIES, one for all cells or one for each;
    None: drawn uniformly. A value for one of them changes no other draw. Returns a dict with

        image   (count, size, size, 1) uint8
        mask    (count, size, size, 1) uint8, 255 where a pixel's centre lies in the cell
        bbox    (count, 4) float32: ymin, xmin, ymax, xmax, the mask's tight box, in [0, 1]
        label, intensity   (count,) int64
    """
    d = draw(rng, count)
    for name, value in (("label", label), ("intensity", intensity)):
        if value is not None:
            d[name] = np.broadcast_to(value, count)
    for name in ("coarse", "fine"):
        d[name] = grain(d[f"{name} lattice"], size)
    nuclei = on_grid(*place(d), d["a"], size)

    light = np.empty((count, size, size), np.float32)
    mask = nuclei.t <= 1
    for index, pattern in enumerate(PATTERNS):
        chosen = np.flatnonzero(d["label"] == index)
        if len(chosen):
            part, own = {k: v[chosen] for k, v in d.items()}, nuclei.pick(chosen)
            light[chosen] = pattern(part, own)
            if pattern is golgi:
                mask[chosen] |= apparatus(part, own) >= 0.5

    picture = photograph(d, nuclei, light)
    noise = rng.standard_normal(picture.shape, np.float32)
    picture += planes(d["noise"]) * (0.006 + 0.03 * np.sqrt(np.maximum(picture, 0))) * noise
    picture = np.uint8(255 * clip01(picture) + 0.5)
    return {
        "image": picture[..., None],
        "mask": np.where(mask, np.uint8(255), np.uint8(0))[..., None],
        "bbox": tight_boxes(mask),
        "label": np.int64(d["label"]),
        "intensity": np.int64(d["intensity"]),
    }


def photograph(d, nuclei, light):
    """Stained cells, light (B, S, S) -> the picture of a camera (B, S, S), without its noise."""
    light = light + planes(d["haze"]) * cytoplasm(nuclei)
    light += nuclei.spots(d["specks"], d["speck widths"], d["speck heights"])
    light += nuclei.spots(d["stain"], np.full_like(d["stain light"], 0.45), d["stain light"])
    exposure = np.where(d["intensity"] == 1, 0.55, 0.20) * (1 + 0.7 * d["exposure"])
    x = nuclei.at - np.float32(0.5)
    slope = d["slope"][:, None, None].astype(np.complex64)
    lit = 1 + (slope * (x + 1j * x[:, None]).astype(np.complex64)).real
    ground = planes(d["level"]) * (1 + 0.35 * grain(d["uneven lattice"], len(x)))
    return (ground + planes(exposure) * light) * lit


def tight_boxes(mask):
    """Boxes (B, 4) float32 (ymin, xmin, ymax, xmax), in [0, 1], of masks (B, S, S) of bool."""
    size = mask.shape[1]
    edges = []
    for axis in (2, 1):
        hit = mask.any(axis)
        edges.append((hit.argmax(1), size - hit[:, ::-1].argmax(1)))
    (top, bottom), (left, right) = edges
    return np.stack((top, left, bottom, right), 1).astype(np.float32) / np.float32(size)


def block(split, number, size=64):
    """Block `number` of `split` ("train" or "test"), in the form of `render`: the examples from
    number * BLOCK on, a function of these alone."""
    return render(np.random.default_rng((SPLIT_SEEDS[split], number)), size=size)

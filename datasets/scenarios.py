"""Data sets of the rendered animals of `creatures`, each of which asks a question.

    plain2striped   two domains, two coats: does a translation change the coat and keep the scene?
    many            one to three animals in a picture: which classes are there, and where?
    biased          a scene of its own for each body plan: does a network look at animal or scene?

A function draws one example, a dict of arrays, at `size` pixels a side. It is a function of split
and index, with the same composition at every size. Masks and maps are drawn at that size, never
resized. Only numpy and Pillow are needed here.
"""

from dataclasses import replace

import numpy as np

from . import creatures
from .creatures import COATS, LABELS, MARGIN, SCENES, SPLIT_SEEDS

VERSION = "1.0.0"  # changes when the pictures change
PLAIN2STRIPED, MANY, BIASED = 2, 3, 4  # first of an example's seed; `creatures` has 0 and 1
PAIR = ("plain", "striped")  # the coats of domains a and b
OWN_SCENE = (0, 1, 2, 3, 0, 1, 2, 3)  # of each body plan in `biased`

LONGEST = ((0.50, 0.85), (0.44, 0.68), (0.38, 0.58))  # side of an animal among one, two, three
GROUND = (0.62, 1 - MARGIN)  # range of y for the feet, from far to near
VISIBLE = 0.6  # least share of an animal that is not hidden by those before it
GRID = 32  # pixels a side of the grid on which VISIBLE is measured, at every size


def plain2striped(split, index, size=64):
    """Split "train_a", "train_b", "test_a" or "test_b": animals with plain coats are domain a, with
    striped coats domain b, and no animal is in both.

        image   (size, size, 3) uint8
    in test also
        mask    (size, size, 1) uint8, 255 on the animal, else 0
        truth   (size, size, 3) uint8, the same animal with the coat of the other domain; pixels
                that the animal does not cover are the same
    """
    side, domain = split.split("_")
    domain = "ab".index(domain)

    def drawn(coat):
        rng = np.random.default_rng((PLAIN2STRIPED, SPLIT_SEEDS[side], domain, index))
        return creatures.render(rng, coat=COATS.index(PAIR[coat]), size=size)

    ours = drawn(domain)
    if side == "train":
        return {"image": ours["image"]}
    return {"image": ours["image"], "mask": ours["mask"], "truth": drawn(1 - domain)["image"]}


def many(split, index, size=64):
    """One to three animals, each of a random body plan and coat, nearer ones before the others: a
    dict of

        image     (size, size, 3) uint8
        labels    (8,) float32, 1 for each body plan in the picture
        classes   (size, size, 1) uint8: 0 the scene, k + 1 body plan k, if it is that of the
                  foremost animal that covers at least half of the pixel
    """
    rng = np.random.default_rng((MANY, SPLIT_SEEDS[split], index))
    count, scene = 1 + rng.integers(3), rng.integers(len(SCENES))
    label, coat = rng.integers(len(LABELS), size=3), rng.integers(len(COATS), size=3)
    place_rng, scene_rng, *rngs = map(np.random.default_rng, rng.integers(2**63, size=8))
    herd = [creatures.pose(rngs[i], label[i]) for i in range(count)]
    herd = arranged(place_rng, herd)

    picture = creatures.background(scene_rng, scene, size)
    for animal in herd:
        picture *= creatures.contact_shadow(animal, size)
    classes = np.zeros((size, size, 1), np.uint8)
    for i, animal in enumerate(herd):
        shape = creatures.silhouette(animal, size)
        colour, alpha = creatures.paint(rngs[3 + i], coat[i], animal, shape, size)
        classes[creatures.composite(picture, shape, colour, alpha) > 0] = label[i] + 1
    labels = np.zeros(len(LABELS), np.float32)
    labels[label[:count]] = 1
    return {"image": creatures.to_bytes(picture), "labels": labels, "classes": classes}


def arranged(rng, herd):
    """The animals at random places and sizes, the furthest first, each visible enough."""
    count = len(herd)
    while True:
        ground = np.sort(rng.uniform(*GROUND, count))
        longest = rng.uniform(*LONGEST[count - 1], count)
        longest *= 0.85 + 0.3 * (ground - GROUND[0]) / (GROUND[1] - GROUND[0])
        placed = [moved(*each) for each in zip(herd, ground, longest, rng.uniform(size=count))]
        seen = np.array([covered(animal) for animal in placed])
        before = np.cumsum(seen[::-1], 0)[::-1] - seen  # number of animals before each pixel
        if ((seen & (before == 0)).sum((1, 2)) >= VISIBLE * seen.sum((1, 2))).all():
            return placed


def moved(animal, ground, longest, x):
    """An animal scaled and moved: the longer side of its box is `longest`, or less if there is no
    room; its lowest point is at y = ground; x in [0, 1] runs from the left margin to the right."""
    joints = np.concatenate([animal.start, animal.end])
    low = (joints[:, :2] - joints[:, 2:]).min(0)
    extent = (joints[:, :2] + joints[:, 2:]).max(0) - low
    factor = min(longest / extent.max(), (ground - MARGIN) / extent[1])
    left = MARGIN + x * (1 - 2 * MARGIN - factor * extent[0])
    shift = np.array((left, ground - factor * extent[1])) - factor * low

    def at(points):
        return (factor * points + np.append(shift, 0)[: points.shape[-1]]).astype(np.float32)

    return replace(
        animal,
        start=at(animal.start),
        end=at(animal.end),
        along=(factor * animal.along).astype(np.float32),
        eye=at(animal.eye),
        feet=at(animal.feet),
        scale=float(factor * animal.scale),
    )


def covered(animal):
    """bool (GRID, GRID): the pixels with their centre in one of the animal's cones."""
    at = creatures.pixel_centres(GRID)
    return (creatures.cones(at, at, animal.start, animal.end)[0] < 0).any(0)


def biased(split, index, size=64):
    """One animal. In train each body plan has a scene of its own, which one other plan shares. In
    test, example 2 k is like those of train, and 2 k + 1 is the same animal, in the same pose and
    coat, on one of the other three scenes.

        image, mask, bbox, label, coat, scene   as in `creatures`
        classes   (size, size, 1) uint8: 0 the scene, label + 1 the animal
        context   1 on the body plan's own scene, else 0
    """
    number, outside = divmod(index, 2) if split == "test" else (index, 0)
    rng = np.random.default_rng((BIASED, SPLIT_SEEDS[split], number))
    label, other = rng.integers(len(LABELS)), 1 + rng.integers(len(SCENES) - 1)
    scene = (OWN_SCENE[label] + outside * other) % len(SCENES)
    example = creatures.render(rng, label=label, scene=scene, size=size)
    return {
        "image": example["image"],
        "mask": example["mask"],
        "classes": np.where(example["mask"] > 0, label + 1, 0).astype(np.uint8),
        "bbox": np.float32(example["bbox"]),
        **{key: np.int32(example[key]) for key in ("label", "coat", "scene")},
        "context": np.int32(1 - outside),
    }

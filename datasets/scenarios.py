"""Data sets of the rendered animals of `creatures`, each posing a question of its own.

    plain2striped   the same world in two coats: can one be made the other, the scene left alone?
    many            one to three animals in a picture: which are there, and where is each?
    biased          a scene of its own for each body plan: is the animal looked at, or its scene?

A function draws one example, dict of arrays, of `size` pixels a side: it depends on split and index
alone, and its composition is the same at every size. Masks and maps are drawn at that size, never
resized. Only numpy and Pillow are needed here.
"""

from dataclasses import replace

import numpy as np

from . import creatures
from .creatures import COATS, LABELS, MARGIN, SCENES, SPLIT_SEEDS

VERSION = "1.0.0"  # another one where other pictures are drawn
PLAIN2STRIPED, MANY, BIASED = 2, 3, 4  # first of an example's seed; `creatures` has 0 and 1
PAIR = ("plain", "striped")  # the coats of domains a and b
OWN_SCENE = (0, 1, 2, 3, 0, 1, 2, 3)  # of each body plan in `biased`

LONGEST = ((0.50, 0.85), (0.44, 0.68), (0.38, 0.58))  # side of an animal among one, two, three
GROUND = (0.62, 1 - MARGIN)  # where the feet of the furthest and of the nearest may stand
VISIBLE = 0.6  # least share of an animal that those before it leave in sight
GRID = 32  # pixels a side on which that is found out, at every size


def plain2striped(split, index, size=64):
    """Split "train_a", "train_b", "test_a" or "test_b": animals of plain coats are domain a, of
    striped ones b, and no animal is in both.

        image   (size, size, 3) uint8
    in test also
        mask    (size, size, 1) uint8, 0 or 255, where the animal is
        truth   (size, size, 3) uint8, the same animal in the other domain's coat: the same picture
                where the animal covers nothing of a pixel
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
    """One to three animals, of body plans and coats drawn one by one, the nearer before the
    others: a dict of

        image     (size, size, 3) uint8
        labels    (8,) float32, 1 for each body plan that is there
        classes   (size, size, 1) uint8: 0 the scene, k + 1 the foremost animal of body plan k that
                  covers at least half of the pixel
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
    """The animals at other places and of other sizes, the furthest first, each in sight."""
    count = len(herd)
    while True:
        ground = np.sort(rng.uniform(*GROUND, count))
        longest = rng.uniform(*LONGEST[count - 1], count)
        longest *= 0.85 + 0.3 * (ground - GROUND[0]) / (GROUND[1] - GROUND[0])
        placed = [moved(*each) for each in zip(herd, ground, longest, rng.uniform(size=count))]
        seen = np.array([covered(animal) for animal in placed])
        before = np.cumsum(seen[::-1], 0)[::-1] - seen  # how many animals hide each pixel of each
        if ((seen & (before == 0)).sum((1, 2)) >= VISIBLE * seen.sum((1, 2))).all():
            return placed


def moved(animal, ground, longest, x):
    """An animal, its box's longer side `longest` or as much as there is room for, its lowest point
    at y = ground, and x in [0, 1] from the left margin to the right."""
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
    """bool (GRID, GRID): the pixels whose centre lies in one of the animal's cones."""
    at = creatures.pixel_centres(GRID)
    return (creatures.cones(at, at, animal.start, animal.end)[0] < 0).any(0)


def biased(split, index, size=64):
    """One animal. In train each body plan stands on a scene of its own, which it shares with one
    other plan. In test, example 2 k is as in train, and 2 k + 1 is the same animal, in the same
    pose and coat, on one of the other three scenes.

        image, mask, bbox, label, coat, scene   as of `creatures`
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

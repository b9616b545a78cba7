"""Rendered pictures of small four-legged animals with exact masks and boxes.

An animal of one of eight body plans (the class), in one of three coats, stands before one of
four fractal-noise scenes. A picture is put together from four layers:

    pose          joints of the animal: a list of round cones, placed in the image
    silhouette    antialiased coverage, surface normals and coat coordinates of those cones
    coat          animal colours: markings, accents and shading
    scene         ground, horizon and sky, with the soft shadow under the feet

and `composite` blends them: picture = alpha * animal + (1 - alpha) * scene, with alpha in [0, 1]
the coverage of the pixel. A pixel belongs to the object, mask 255, where alpha >= 0.5; where
alpha is 0 the picture is exactly the scene. The shadow under the feet belongs to the scene and
depends on the pose alone, so it is the same for every coat.

Pose, coat and scene draw from generators of their own: changing the coat of an animal changes
no pixel with alpha = 0, no mask and no box.

Only numpy and Pillow are needed here; the TFDS builder is in `creatures_builder`, which runs this
file in processes of its own. Image coordinates are
fractions of the image side, x to the right and y downwards, with pixel centres at (i + 0.5) /
size, so that a seed has the same composition at every size. Colours are linear blends of sRGB
values in [0, 1].
"""

import functools
import io
import itertools
import math
import pickle
import sys
from dataclasses import dataclass

import numpy as np
from PIL import Image

LABELS = ("fox", "bear", "giraffe", "horse", "pig", "dachshund", "elephant", "tortoise")
COATS = ("plain", "striped", "spotted")
SCENES = ("grass", "sand", "water", "snow")

SPLIT_SEEDS = {"train": 0, "test": 1}
MARGIN = 0.05  # least distance of the animal from the image border, a fraction of the side
COVERAGE = (0.10, 0.40)  # aimed at share of the image the animal covers

FAR, BODY, FRONT = range(3)  # drawing order of the cones
COAT, BARE, DARK, LIGHT = range(4)  # tone of a cone: coat, coat without markings, accents


# ----------------------------------------------------------------------------------------------
# Body plans. Joints are (x, y, radius) with the ground at y = 0, y upwards, the head to the
# right, and the torso about 1 long. Consecutive joints are joined by round cones.
# ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """One body plan. `head`, `ear`, `nose`, `trunk`, `tusk` and `eye` are relative to the last
    joint of the neck and turn with the head."""

    torso: tuple
    neck: tuple
    head: tuple
    eye: tuple  # (x, y)
    tail: tuple
    hips: tuple  # (x of the hind hip, x of the fore hip, height of both)
    leg: tuple  # radius at hip, knee and foot
    stride: float = 0.16
    ear: tuple = ()
    ear_tone: int = BARE
    tail_tone: int = COAT
    tail_tip: int = COAT  # tone of the last cone of the tail
    foot_tone: int = COAT
    nose: tuple = ()
    mane: tuple = ()
    trunk: tuple = ()
    tusk: tuple = ()
    rim: tuple = ()  # lower edge of a shell


PLANS = {
    "fox": Plan(
        torso=((-0.36, 0.56, 0.16), (0.0, 0.56, 0.15), (0.34, 0.60, 0.18)),
        neck=((0.38, 0.66, 0.15), (0.58, 0.86, 0.12)),
        head=((0.0, 0.0, 0.15), (0.14, -0.05, 0.10), (0.33, -0.11, 0.035)),
        ear=((-0.05, 0.10, 0.075), (-0.10, 0.30, 0.012)),
        eye=(0.11, 0.03),
        tail=((-0.46, 0.60, 0.06), (-0.70, 0.55, 0.13), (-0.94, 0.42, 0.15), (-1.16, 0.32, 0.03)),
        tail_tip=LIGHT,
        hips=(-0.36, 0.34, 0.52),
        leg=(0.13, 0.06, 0.05),
        foot_tone=DARK,
        nose=((0.34, -0.10, 0.028), (0.35, -0.10, 0.028)),
    ),
    "bear": Plan(
        torso=((-0.42, 0.60, 0.30), (0.0, 0.60, 0.29), (0.34, 0.69, 0.32)),
        neck=((0.45, 0.72, 0.25), (0.76, 0.68, 0.20)),
        head=((0.0, 0.0, 0.20), (0.15, -0.05, 0.14), (0.29, -0.09, 0.085)),
        ear=((-0.07, 0.18, 0.08), (-0.08, 0.22, 0.07)),
        eye=(0.13, 0.04),
        tail=((-0.68, 0.68, 0.07), (-0.76, 0.66, 0.06)),
        hips=(-0.44, 0.38, 0.50),
        leg=(0.21, 0.14, 0.12),
        nose=((0.35, -0.07, 0.04), (0.36, -0.07, 0.04)),
    ),
    "giraffe": Plan(
        torso=((-0.32, 0.92, 0.20), (0.0, 0.97, 0.20), (0.30, 1.05, 0.22)),
        neck=((0.34, 1.15, 0.18), (0.58, 1.65, 0.105), (0.66, 1.84, 0.09)),
        head=((0.0, 0.0, 0.105), (0.14, -0.06, 0.08), (0.28, -0.13, 0.055)),
        ear=((-0.03, 0.07, 0.025), (-0.05, 0.22, 0.028)),
        eye=(0.08, 0.02),
        tail=((-0.50, 1.0, 0.03), (-0.60, 0.78, 0.024), (-0.60, 0.60, 0.05)),
        tail_tip=DARK,
        hips=(-0.34, 0.32, 0.85),
        leg=(0.15, 0.065, 0.055),
        stride=0.20,
        mane=((0.18, 1.24, 0.03), (0.44, 1.72, 0.035), (0.58, 1.93, 0.03)),
        ear_tone=DARK,
    ),
    "horse": Plan(
        torso=((-0.42, 0.88, 0.23), (0.0, 0.85, 0.21), (0.38, 0.88, 0.23)),
        neck=((0.42, 1.0, 0.18), (0.72, 1.36, 0.11)),
        head=((0.0, 0.0, 0.115), (0.15, -0.15, 0.085), (0.26, -0.28, 0.065)),
        ear=((-0.02, 0.09, 0.035), (0.0, 0.22, 0.01)),
        eye=(0.08, -0.02),
        tail=((-0.62, 0.98, 0.05), (-0.76, 0.78, 0.09), (-0.80, 0.42, 0.04)),
        tail_tone=DARK,
        tail_tip=DARK,
        hips=(-0.42, 0.38, 0.74),
        leg=(0.17, 0.065, 0.055),
        stride=0.22,
        foot_tone=DARK,
        mane=((0.34, 1.20, 0.05), (0.52, 1.40, 0.065), (0.70, 1.50, 0.045)),
    ),
    "pig": Plan(
        torso=((-0.36, 0.50, 0.28), (0.0, 0.49, 0.30), (0.32, 0.50, 0.28)),
        neck=((0.4, 0.53, 0.23), (0.58, 0.54, 0.20)),
        head=((0.0, 0.0, 0.20), (0.15, -0.06, 0.14), (0.27, -0.08, 0.10)),
        ear=((-0.02, 0.16, 0.09), (0.10, 0.24, 0.02)),
        eye=(0.13, 0.05),
        tail=(
            (-0.62, 0.60, 0.03),
            (-0.73, 0.62, 0.027),
            (-0.78, 0.71, 0.027),
            (-0.70, 0.76, 0.027),
            (-0.67, 0.69, 0.025),
        ),
        hips=(-0.36, 0.34, 0.34),
        leg=(0.15, 0.075, 0.06),
        stride=0.10,
        foot_tone=DARK,
        nose=((0.35, -0.03, 0.045), (0.35, -0.13, 0.045)),
    ),
    "dachshund": Plan(
        torso=((-0.60, 0.40, 0.19), (0.0, 0.38, 0.18), (0.54, 0.41, 0.21)),
        neck=((0.60, 0.50, 0.16), (0.80, 0.70, 0.13)),
        head=((0.0, 0.0, 0.15), (0.17, -0.05, 0.095), (0.35, -0.09, 0.06)),
        ear=((-0.06, 0.04, 0.06), (-0.11, -0.18, 0.09)),
        ear_tone=DARK,
        eye=(0.11, 0.03),
        tail=((-0.76, 0.46, 0.06), (-0.94, 0.58, 0.04), (-1.04, 0.74, 0.025)),
        hips=(-0.60, 0.52, 0.30),
        leg=(0.14, 0.075, 0.065),
        stride=0.08,
        nose=((0.39, -0.07, 0.035), (0.40, -0.07, 0.035)),
    ),
    "elephant": Plan(
        torso=((-0.40, 0.84, 0.33), (0.0, 0.85, 0.33), (0.34, 0.86, 0.33)),
        neck=((0.42, 0.95, 0.26), (0.64, 1.02, 0.23)),
        head=((0.0, 0.0, 0.25), (0.10, -0.05, 0.20)),
        trunk=(
            (0.20, -0.08, 0.14),
            (0.36, -0.30, 0.10),
            (0.40, -0.56, 0.075),
            (0.50, -0.76, 0.055),
            (0.60, -0.78, 0.045),
        ),
        tusk=((0.20, -0.20, 0.04), (0.44, -0.34, 0.018)),
        ear=((-0.12, 0.06, 0.20), (-0.18, -0.16, 0.13)),
        eye=(0.16, 0.04),
        tail=((-0.70, 1.0, 0.035), (-0.80, 0.76, 0.025), (-0.80, 0.60, 0.04)),
        tail_tip=DARK,
        hips=(-0.44, 0.38, 0.68),
        leg=(0.20, 0.155, 0.15),
        stride=0.12,
    ),
    "tortoise": Plan(
        torso=(
            (-0.44, 0.37, 0.19),
            (-0.20, 0.49, 0.31),
            (0.20, 0.49, 0.31),
            (0.44, 0.37, 0.19),
        ),
        rim=((-0.57, 0.24, 0.055), (0.57, 0.24, 0.055)),
        neck=((0.50, 0.32, 0.11), (0.80, 0.44, 0.10)),
        head=((0.0, 0.0, 0.135), (0.12, -0.02, 0.10)),
        eye=(0.08, 0.04),
        tail=((-0.62, 0.22, 0.06), (-0.82, 0.13, 0.02)),
        hips=(-0.42, 0.40, 0.22),
        leg=(0.13, 0.115, 0.10),
        stride=0.10,
    ),
}

# (coat, markings): of clearly different lightness, shared by all body plans.
COLOURS = np.array(
    [
        [(0.80, 0.45, 0.18), (0.98, 0.90, 0.74)],  # russet, cream
        [(0.80, 0.66, 0.42), (0.30, 0.17, 0.08)],  # tawny, umber
        [(0.45, 0.27, 0.15), (0.90, 0.76, 0.52)],  # chestnut, straw
        [(0.60, 0.60, 0.62), (0.17, 0.17, 0.20)],  # grey, charcoal
        [(0.93, 0.89, 0.80), (0.25, 0.18, 0.15)],  # cream, sepia
        [(0.24, 0.21, 0.21), (0.82, 0.79, 0.74)],  # black, silver
        [(0.90, 0.66, 0.58), (0.42, 0.20, 0.18)],  # rose, maroon
        [(0.50, 0.48, 0.32), (0.93, 0.88, 0.62)],  # olive, primrose
        [(0.40, 0.45, 0.54), (0.88, 0.91, 0.94)],  # slate, frost
        [(0.88, 0.62, 0.22), (0.20, 0.13, 0.08)],  # ochre, black
    ],
    np.float32,
)


# ----------------------------------------------------------------------------------------------
# Pose
# ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Animal:
    """A posed animal in image coordinates: n round cones sorted by layer and tone."""

    start: np.ndarray  # (n, 3) x, y, radius of the first joint of each cone
    end: np.ndarray  # (n, 3)
    along: np.ndarray  # (n,) distance along the body and limb of the first joint
    layer: np.ndarray  # (n,) FAR, BODY or FRONT
    tone: np.ndarray  # (n,) COAT, BARE, DARK or LIGHT
    eye: np.ndarray  # (2,) x, y
    feet: np.ndarray  # (4, 2) x, y of the points that touch the ground
    scale: float  # image sides per body unit
    colours: np.ndarray  # (2, 3) coat, markings
    light: np.ndarray  # (3,) unit vector towards the light: x right, y down, z to the viewer


def rotate(joints, degrees, pivot):
    """Turns joints (n, 3) about the joint `pivot`, counterclockwise with y upwards."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    pivot = np.array((pivot[0], pivot[1], 0.0))
    return (np.asarray(joints) - pivot) @ ((cos, sin, 0.0), (-sin, cos, 0.0), (0, 0, 1)) + pivot


def limbs(plan, rng):
    """Bends a body plan into a random pose.

    Returns the limbs in body units, each (joints (m, 3), layer, tone or tones of its cones), the
    eye (1, 3) and the feet (4, 3), both with radius 0.
    """
    bow, turn, wag, flap = rng.uniform((-12, -16, -22, -10), (10, 14, 16, 10))
    neck = rotate(plan.neck, bow, plan.neck[0])
    pivot = (*neck[-1, :2], 0.0)

    def on_head(joints):
        return rotate(joints, turn, (0, 0)) + pivot

    out = [
        (np.array(plan.torso), BODY, COAT),
        (neck, BODY, COAT),
        (on_head(plan.head), BODY, BARE),
        (
            rotate(plan.tail, wag, plan.tail[0]),
            BODY,
            (plan.tail_tone,) * (len(plan.tail) - 2) + (plan.tail_tip,),
        ),
    ]

    # Legs: hip, knee, foot, toe. Diagonal pairs swing nearly together, as in a walk.
    hind, fore, height = plan.hips
    thigh, shin, foot = plan.leg
    phase, stride = rng.uniform((0, 0.35), (2 * np.pi, 1.15)) * (1, plan.stride)
    feet = []
    for x, lag, layer in (
        (hind, 0.0, BODY),
        (fore, 2.2, BODY),
        (hind, np.pi, FAR),
        (fore, 2.2 + np.pi, FAR),
    ):
        swing, lift = math.sin(phase + lag), max(0.0, math.cos(phase + lag))
        bend = (0.10 if x == fore else -0.10) * height * (0.3 + lift)
        far = layer == FAR
        x += 0.07 * far
        foot_x = x + stride * swing
        foot_y = foot + 0.35 * stride * lift + 0.03 * far
        joints = (
            (x, height, thigh * (0.8 if far else 1.0)),
            ((x + foot_x) / 2 + bend, 0.53 * height, shin),
            (foot_x, foot_y, foot),
            (foot_x + 0.7 * foot, foot_y - 0.1 * foot, 0.9 * foot),
        )
        out.append((np.array(joints), layer, (COAT, COAT, plan.foot_tone)))
        feet.append((foot_x, foot_y - foot, 0.0))

    curl = rng.uniform(-14, 30)
    if plan.trunk:
        trunk = on_head(plan.trunk)
        for joint in range(1, len(trunk) - 1):
            trunk[joint:] = rotate(trunk[joint:], curl / 2, trunk[joint])
        out.append((trunk, BODY, COAT))
    if plan.mane:
        out.append((rotate(plan.mane, bow, plan.neck[0]), BODY, DARK))
    if plan.nose:
        out.append((on_head(plan.nose), FRONT, DARK))
    if plan.tusk:
        out.append((on_head(plan.tusk), FRONT, LIGHT))
    if plan.rim:
        out.append((np.array(plan.rim), FRONT, DARK))
    if plan.ear:
        ear = on_head(rotate(plan.ear, flap, plan.ear[0]))
        out.append((ear, FRONT, plan.ear_tone))
        out.append((np.add(ear, (0.07, -0.01, 0.0)), FAR, plan.ear_tone))
    return out, on_head([(*plan.eye, 0.0)]), np.array(feet)


def pose(rng, label):
    """Draws a posed, placed and coloured animal of class `label`: an `Animal`."""
    plan = PLANS[LABELS[label]]
    parts, eye, feet = limbs(plan, rng)
    start = np.concatenate([joints[:-1] for joints, _, _ in parts])
    end = np.concatenate([joints[1:] for joints, _, _ in parts])
    kind, along = [], []  # along continues the torso's, whose axis is nearly x
    for joints, layer, tones in parts:
        n = len(joints) - 1
        kind += [(layer, tone) for tone in (tones if isinstance(tones, tuple) else (tones,) * n)]
        at = joints[0, 0]
        for before, after in itertools.pairwise(joints[:, :2].tolist()):
            along.append(at)
            at += math.dist(before, after)
    kind, along = np.array(kind), np.array(along)
    order = np.lexsort((kind[:, 1], kind[:, 0]))
    n = len(order)

    mirror = rng.choice((-1.0, 1.0))
    tilt, wide, tall, sun = rng.uniform((-6, 0.90, 0.95, 0.2), (6, 1.06, 1.06, 0.6))
    joints = np.concatenate([start[order], end[order], eye, feet])
    joints = rotate(joints, tilt, (0, 0)) * (mirror * wide, -tall, 1.0)
    low = (joints[:, :2] - joints[:, 2:]).min(0) - 0.02
    high = (joints[:, :2] + joints[:, 2:]).max(0) + 0.02

    largest = (1 - 2 * MARGIN) / (high - low).max()
    smaller, larger = np.sqrt(np.array(COVERAGE) / (rest_area(label) * wide * tall))
    scale = rng.uniform(min(smaller, 0.92 * largest), min(larger, largest))
    x, y = rng.uniform(size=2)
    room = 1 - 2 * MARGIN - scale * (high - low)
    # The feet stand between 0.6 and the lower margin, below every horizon.
    lowest = min(room[1], max(0.0, 0.6 - MARGIN - scale * (high - low)[1]))
    corner = MARGIN + np.array((x * room[0], lowest + y * (room[1] - lowest)))
    joints[:, :2] = corner + scale * (joints[:, :2] - low)
    joints[:, 2] *= scale
    joints = joints.astype(np.float32)

    colours = COLOURS[rng.integers(len(COLOURS))] * rng.uniform(0.92, 1.08, (2, 3))
    light = np.array((rng.choice((-1, 1)) * sun, -0.75, 0.65))
    return Animal(
        start=joints[:n],
        end=joints[n : 2 * n],
        along=(along[order] * scale).astype(np.float32),
        layer=kind[order, 0],
        tone=kind[order, 1],
        eye=joints[2 * n, :2],
        feet=joints[2 * n + 1 :, :2],
        scale=float(scale),
        colours=np.minimum(colours, 1).astype(np.float32),
        light=(light / np.linalg.norm(light)).astype(np.float32),
    )


@functools.cache
def rest_area(label):
    """Area of a body plan in square body units, the mean over a few poses."""
    grid = np.linspace(-1.6, 2.4, 160)
    areas = []
    for seed in range(4):
        parts, _, _ = limbs(PLANS[LABELS[label]], np.random.default_rng(seed))
        start = np.concatenate([joints[:-1] for joints, _, _ in parts])
        end = np.concatenate([joints[1:] for joints, _, _ in parts])
        inside = (cones(grid, grid, start, end)[0] < 0).any(0)
        areas.append(inside.sum() * (grid[1] - grid[0]) ** 2)
    return float(np.mean(areas))


# ----------------------------------------------------------------------------------------------
# Silhouette
# ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layer:
    """One drawing layer of an animal on a window of h x w pixels."""

    depth: int  # FAR, BODY or FRONT
    alpha: np.ndarray  # (h, w) coverage in [0, 1]
    normal: np.ndarray  # (3, h, w) unit surface normal: x right, y down, z to the viewer
    along: np.ndarray  # (h, w) distance along body and limb, in image sides
    tone: np.ndarray  # (4, h, w) shares of COAT, BARE, DARK and LIGHT, summing to 1


@dataclass(frozen=True)
class Silhouette:
    """Layers of an animal from back to front, on the window that holds all of it."""

    rows: slice
    cols: slice
    x: np.ndarray  # (w,) pixel centres in image coordinates
    y: np.ndarray  # (h,)
    layers: tuple


def pixel_centres(size):
    return ((np.arange(size) + 0.5) / size).astype(np.float32)


def cones(x, y, start, end):
    """Round cones on a pixel grid.

    x (w,) and y (h,) are pixel centres, start and end (n, 3) joints. Returns, each (n, h, w): the
    distance to the surface (negative inside), the position along the axis (0 at start, 1 at end,
    not clipped), the offset from the axis (two arrays, x and y) and the radius there.
    """
    axis = end - start
    axis_x, axis_y, growth = axis.T[:, :, None, None]
    squared = axis_x * axis_x + axis_y * axis_y + np.float32(1e-9)
    right = x[None, None, :] - start[:, 0, None, None]
    down = y[None, :, None] - start[:, 1, None, None]
    position = right * (axis_x / squared) + down * (axis_y / squared)
    clipped = clip01(position)
    right = right - clipped * axis_x
    down = down - clipped * axis_y
    radius = clipped
    radius *= growth
    radius += start[:, 2, None, None]
    distance = right * right
    distance += down * down
    np.sqrt(distance, out=distance)
    distance -= radius
    return distance, position, right, down, radius


def silhouette(animal, size):
    """Draws the outline of `animal` at `size` pixels a side: a `Silhouette`."""
    thinnest = (0.0, 0.0, np.float32(0.6 / size))  # no limb is thinner than a pixel and a bit
    start = np.maximum(animal.start, thinnest, dtype=np.float32)
    end = np.maximum(animal.end, thinnest, dtype=np.float32)
    joints = np.concatenate([start, end])
    reach = 0.06 * animal.scale + 2 / size
    low = (joints[:, :2] - joints[:, 2:]).min(0) - reach
    high = (joints[:, :2] + joints[:, 2:]).max(0) + reach
    x0, y0 = np.maximum(np.floor(low * size).astype(int), 0)
    x1, y1 = np.minimum(np.ceil(high * size).astype(int), size)
    x, y = pixel_centres(size)[x0:x1], pixel_centres(size)[y0:y1]

    layers = []
    blend = np.float32(0.030 * animal.scale)
    for depth in (FAR, BODY, FRONT):
        n = slice(*np.searchsorted(animal.layer, (depth, depth + 1)))
        distance, position, right, down, radius = cones(x, y, start[n], end[n])

        # A smooth union: every cone weighs exp(-distance / blend) at a pixel.
        distance *= -1 / blend
        weight = np.exp(distance, out=distance)
        tones = np.zeros((4, len(y), len(x)), np.float32)
        for tone, share in zip(animal.tone[n], weight):
            tones[tone] += share
        total = tones.sum(0)
        total += np.float32(1e-20)
        tones /= total

        along = position
        along *= np.hypot(*(end - start)[n, :2].T)[:, None, None]
        along += animal.along[n, None, None]
        along *= weight
        bulge = np.divide(weight, radius, out=radius)
        right *= bulge
        down *= bulge
        normal = np.stack([right.sum(0), down.sum(0), total])
        normal /= total
        normal[2] = np.sqrt(1 - np.minimum(normal[0] ** 2 + normal[1] ** 2, np.float32(0.96)))

        alpha = clip01(np.float32(0.5) + np.float32(size) * blend * np.log(total))
        layers.append(Layer(depth, alpha, normal, along.sum(0) / total, tones))
    return Silhouette(slice(y0, y1), slice(x0, x1), x, y, tuple(layers))


# ----------------------------------------------------------------------------------------------
# Noise and colour. Pictures are planes (3, h, w) of float32 in [0, 1].
# ----------------------------------------------------------------------------------------------


@functools.cache
def spline(size, cells):
    """Weights (size, cells + 3) of the uniform cubic B-spline over `cells` cells at the pixels."""
    at = (np.arange(size) + 0.5) / size * cells + 1
    d = np.abs(at[:, None] - np.arange(cells + 3))
    near = 2 / 3 - d**2 + d**3 / 2
    far = np.maximum(2 - d, 0) ** 3 / 6
    return np.where(d < 1, near, far).astype(np.float32)


def fractal_noise(rng, size, cells=(3, 3), octaves=4, gain=0.55):
    """Fractal noise (size, size) of about zero mean and unit deviation.

    `cells` are the lattice cells down and across of the first octave; each further octave has
    twice as many and `gain` times the amplitude. Octaves finer than the pixels are drawn, so that
    the generator's state is the same at every size, but left out.
    """
    out = np.zeros((size, size), np.float32)
    power = 0.0
    for octave in range(octaves):
        down, across = cells[0] << octave, cells[1] << octave
        lattice = rng.standard_normal((down + 3, across + 3), np.float32)
        lattice *= np.float32(gain**octave)
        if max(down, across) <= size:
            out += spline(size, down) @ lattice @ spline(size, across).T
        power += 0.23 * gain ** (2 * octave)
    out *= np.float32(1 / math.sqrt(power))
    return out


def noise_line(rng, size, cells, octaves=4, gain=0.5):
    """Fractal noise (size,) on a line, about zero mean and unit deviation."""
    out, power = np.zeros(size, np.float32), 0.0
    for octave in range(octaves):
        lattice = rng.standard_normal((cells << octave) + 3, np.float32)
        out += np.float32(gain**octave) * (spline(size, cells << octave) @ lattice)
        power += 0.48 * gain ** (2 * octave)
    return out / np.float32(math.sqrt(power))


def clip01(x):
    return np.clip(x, 0, 1)


def smoothstep(low, high, x):
    """0 below `low`, 1 above `high`, smooth between."""
    t = clip01((x - np.float32(low)) * np.float32(1 / (high - low)))
    return t * t * (3 - 2 * t)


def plane(colour):
    """A colour (3,) as planes (3, 1, 1)."""
    return np.asarray(colour, np.float32).reshape(3, 1, 1)


def mix(first, second, share):
    """first + share * (second - first), for planes (3, h, w) or (3, 1, 1) and a share (h, w)."""
    return first + np.asarray(share, np.float32) * (second - first)


# ----------------------------------------------------------------------------------------------
# Coat
# ----------------------------------------------------------------------------------------------


def markings(rng, coat, animal, shape, size):
    """The coat texture, a function of a layer of `shape`.

    Returns a function from `Layer` to the share (h, w) of the marking colour: 0 for a plain coat,
    bands across body and limbs, or round spots. The lengths have floors, so that the coat shows
    in 32 pixels.
    """
    edge = max(0.8 / size, 0.010)
    wide, lean, turn = rng.uniform((0.9, -0.15, 0), (1.25, 0.2, np.pi))
    if COATS[coat] == "plain":
        return lambda layer: np.zeros(layer.alpha.shape, np.float32)
    if COATS[coat] == "striped":
        period = max(0.21 * animal.scale, 0.095) * wide
        warp = np.float32(0.09) * fractal_noise(rng, size, (6, 6), 2)[shape.rows, shape.cols]
        phase = warp + np.float32(rng.uniform())
        ramp = 2 * math.pi * edge / period

        def bands(layer):
            turns = layer.along * np.float32(1 / period) + phase
            return smoothstep(lean - ramp, lean + ramp, np.sin(np.float32(2 * np.pi) * turns))

        return bands

    # One spot a cell of a turned square lattice, off its corner by at most 0.17 of a cell and of
    # radius 0.33 at most: only the four corners around a pixel matter.
    cell = max(0.21 * animal.scale, 0.10) * wide
    count = 32
    off = rng.uniform(-0.17, 0.17, (2, count, count)).astype(np.float32)
    radius = rng.uniform(0.20, 0.33, (count, count)).astype(np.float32)
    cos, sin = np.float32(math.cos(turn) / cell), np.float32(math.sin(turn) / cell)
    u = cos * shape.x[None, :] - sin * shape.y[:, None] + np.float32(count)
    v = sin * shape.x[None, :] + cos * shape.y[:, None] + np.float32(count)
    left, top = np.floor(u), np.floor(v)
    u, v = u - left, v - top
    left, top = left.astype(int), top.astype(int)
    distance = np.float32(1)
    for i, j in itertools.product((0, 1), (0, 1)):
        at = (top + j) % count * count + (left + i) % count
        across = u - (i + off[0].take(at))
        down = v - (j + off[1].take(at))
        distance = np.minimum(distance, np.sqrt(across * across + down * down) - radius.take(at))
    ramp = edge / cell
    share = smoothstep(ramp, -ramp, distance)
    return lambda layer: share


def paint(rng, coat, animal, shape, size):
    """Colours (3, h, w) and coverage (h, w) of an animal on the window of its silhouette."""
    base, second = (plane(colour) for colour in animal.colours)
    dark = base * np.float32(0.42)
    light = base * np.float32(0.35) + np.float32(0.62)
    texture = markings(rng, coat, animal, shape, size)
    colour, alpha = np.float32(0), np.float32(0)
    for layer in shape.layers:
        marked = layer.tone[COAT] * texture(layer)
        skin = base * (layer.tone[COAT] + layer.tone[BARE] - marked) + second * marked
        skin += dark * layer.tone[DARK]
        skin += light * layer.tone[LIGHT]
        x, y, z = layer.normal
        lit = animal.light[0] * x + animal.light[1] * y + animal.light[2] * z
        shade = np.float32(0.50) + np.float32(0.62) * np.maximum(lit, np.float32(-0.25))
        shade *= np.float32(0.75) + np.float32(0.25) * z  # darker towards the rim
        if layer.depth == FAR:
            shade *= np.float32(0.68)
        colour = colour * (1 - layer.alpha) + skin * (shade * layer.alpha)
        alpha = alpha * (1 - layer.alpha) + layer.alpha
    colour = colour / np.maximum(alpha, np.float32(1e-6))

    right, down = shape.x[None, :] - animal.eye[0], shape.y[:, None] - animal.eye[1]
    radius = np.float32(max(0.032 * animal.scale, 0.75 / size))
    spot = np.float32(0.5) - np.float32(size) * (np.sqrt(right**2 + down**2) - radius)
    colour = mix(colour, plane((0.05, 0.04, 0.04)), clip01(spot))
    right, down, radius = right - radius * 0.3, down + radius * 0.35, radius * 0.35
    spot = np.float32(0.5) - np.float32(size) * (np.sqrt(right**2 + down**2) - radius)
    return mix(colour, plane((1, 1, 1)), np.float32(0.8) * clip01(spot)), alpha


# ----------------------------------------------------------------------------------------------
# Scene
# ----------------------------------------------------------------------------------------------

# (zenith, horizon) of the sky.
SKIES = np.array(
    [
        [(0.36, 0.58, 0.86), (0.80, 0.89, 0.95)],  # noon
        [(0.52, 0.66, 0.78), (0.86, 0.87, 0.84)],  # haze
        [(0.40, 0.46, 0.66), (0.97, 0.78, 0.58)],  # evening
        [(0.56, 0.62, 0.70), (0.78, 0.81, 0.85)],  # overcast
        [(0.30, 0.52, 0.74), (0.93, 0.88, 0.74)],  # morning
    ],
    np.float32,
)

# Ground colours (low, high) of each scene.
GROUNDS = {
    "grass": [
        [(0.16, 0.34, 0.12), (0.52, 0.68, 0.26)],
        [(0.22, 0.40, 0.18), (0.62, 0.74, 0.36)],
        [(0.28, 0.33, 0.12), (0.70, 0.68, 0.32)],
    ],
    "sand": [
        [(0.72, 0.54, 0.34), (0.95, 0.82, 0.60)],
        [(0.66, 0.44, 0.27), (0.90, 0.70, 0.47)],
        [(0.70, 0.62, 0.48), (0.95, 0.90, 0.77)],
    ],
    "water": [
        [(0.05, 0.25, 0.42), (0.32, 0.62, 0.74)],
        [(0.04, 0.34, 0.40), (0.40, 0.74, 0.70)],
        [(0.12, 0.22, 0.36), (0.45, 0.56, 0.70)],
    ],
    "snow": [
        [(0.58, 0.68, 0.85), (0.97, 0.98, 1.00)],
        [(0.66, 0.71, 0.80), (0.98, 0.97, 0.96)],
        [(0.57, 0.61, 0.79), (0.98, 0.95, 0.95)],
    ],
}


def foreshorten(texture, rows, strength=3.0):
    """Samples the rows of `texture` (size, size) in perspective: rows (size,) is 0 at the horizon
    and 1 at the lower border, and textures shrink towards the horizon."""
    size = len(texture)
    at = np.log1p(math.expm1(strength) * clip01(rows)) * ((size - 1) / strength)
    index = np.minimum(at.astype(int), size - 2)
    share = (at - index).astype(np.float32)[:, None]
    return texture[index] * (1 - share) + texture[index + 1] * share


def ground(rng, name, rows, sky_rim):
    """Colours (3, size, size) of the ground, rows (size,) 0 at the horizon and 1 at the border."""
    size = len(rows)
    low, high = map(plane, GROUNDS[name][rng.integers(3)])
    dim, glow, ripples, sun, spread = rng.uniform(
        (0.9, 0.9, 55, 0.1, 0.15), (1.08, 1.05, 90, 0.9, 0.4)
    ).astype(np.float32)
    low, high = low * dim, high * glow
    near = clip01(rows)[:, None]
    broad = foreshorten(fractal_noise(rng, size, (5, 2), 3), rows)
    fine = fractal_noise(rng, size, (8, 8), 3, 0.8)
    if name == "grass":
        blades = fractal_noise(rng, size, (6, 24), 2, 0.8)
        value = 0.48 + 0.16 * broad + (0.03 + 0.09 * near) * fine + 0.13 * near * blades
        colour = mix(low, high, clip01(value))
        return mix(colour, 0.55 * sky_rim + 0.45 * high, 0.45 * (1 - near) ** 3)
    if name == "sand":
        drift = foreshorten(fractal_noise(rng, size, (4, 3), 2), rows)
        ripple = np.sin(ripples * np.sqrt(near + np.float32(0.02)) + np.float32(1.8) * drift)
        value = 0.55 + 0.20 * broad + (0.05 + 0.16 * near) * ripple + 0.05 * fine
        return mix(low, high, clip01(value))
    if name == "water":
        swell = foreshorten(fractal_noise(rng, size, (12, 3), 3, 0.75), rows)
        colour = mix(low, high, clip01(0.42 + 0.14 * broad + 0.22 * swell + 0.02 * fine))
        colour = mix(colour, sky_rim, 0.55 * (1 - near) ** 2)
        glare = np.exp(-(((pixel_centres(size) - sun) / spread) ** 2))
        sparkle = smoothstep(0.9, 2.0, swell) * (0.35 + 0.65 * glare)
        return mix(colour, plane((0.97, 0.98, 0.96)), 0.9 * sparkle)
    drift = foreshorten(fractal_noise(rng, size, (4, 3), 3, 0.4), rows, 2.0)
    slope = np.diff(drift, axis=0, prepend=drift[:1]) * np.float32(size / 64)
    return mix(low, high, clip01(0.66 + 0.16 * broad + 0.55 * slope + 0.04 * fine))


def background(rng, scene, size):
    """A landscape (3, size, size) of the given scene: sky, far and near ridge, ground."""
    name = SCENES[scene]
    y = pixel_centres(size)
    horizon = np.float32(rng.uniform(0.20, 0.48))
    zenith, rim = map(plane, SKIES[rng.integers(len(SKIES))])
    top = math.ceil(horizon * size) + 1  # rows of sky; the last two may lie under the ground
    sky = mix(zenith, rim, (clip01(y[:top] / horizon) ** 1.5)[:, None])
    clouds = smoothstep(0.1, 1.8, fractal_noise(rng, size, (4, 2), 4)[:top])
    sky = mix(sky, plane((0.97, 0.97, 0.98)), 0.75 * clouds)
    land = ground(rng, name, (y - horizon) / (1 - horizon), rim)

    # Hills, dunes, a far shore or a row of firs stand on the horizon.
    far_tops = 0.10 + 0.05 * noise_line(rng, size, 2, 3, 0.4)
    ridge = noise_line(rng, size, 3, 4, 0.45)
    pitch, phase = rng.uniform((9, 0), (15, 1))
    low = plane(GROUNDS[name][0][0])
    if name == "grass":
        tops, tint = 0.045 + 0.022 * ridge, 0.75 * low
    elif name == "sand":
        tops, tint = 0.035 + 0.030 * ridge, 0.82 * low + 0.12 * rim
    elif name == "water":
        tops, tint = 0.004 + 0.018 * ridge, 0.30 * low + 0.35 * rim
    else:
        firs = 0.5 - np.abs((y * pitch + phase) % 1 - 0.5)
        tops, tint = 0.055 + 0.03 * ridge + 0.12 * firs, plane((0.20, 0.28, 0.30))
    above = (horizon - y[:top])[:, None]
    sky = mix(sky, 0.45 * zenith + 0.40 * rim, clip01(size * (far_tops - above)))
    sky = mix(sky, tint, clip01(size * (tops - above)))
    land[:, :top] = mix(sky, land[:, :top], clip01(0.5 - size * above))
    return clip01(land)


def contact_shadow(animal, size):
    """Share of light (size, size) that the soft shadow under the feet leaves on the scene."""
    at = pixel_centres(size)
    x, y = animal.feet.T
    middle = (x.min() + x.max()) / 2
    half = (x.max() - x.min()) / 2 + np.float32(0.16 * animal.scale)
    thick = np.float32(0.085 * animal.scale + 0.5 / size)
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (((x - x.mean()) ** 2).sum() + 1e-6)
    line = y.mean() + slope * (at - x.mean())
    across, down = (at - middle) / half, (at[:, None] - line) / thick
    return 1 - np.float32(0.5) * np.exp(-(across**4) - down * down)


# ----------------------------------------------------------------------------------------------
# Picture
# ----------------------------------------------------------------------------------------------


def composite(picture, shape, colour, alpha):
    """Lays an animal over `picture` (3, size, size), in place: alpha * animal + (1 - alpha) *
    picture on the window of its silhouette. Returns its mask (size, size, 1), 0 or 255."""
    size = picture.shape[1]
    window = picture[:, shape.rows, shape.cols]
    window[...] = mix(window, colour, alpha)
    mask = np.zeros((size, size, 1), np.uint8)
    mask[shape.rows, shape.cols, 0] = np.where(alpha >= 0.5, 255, 0)
    return mask


def to_bytes(picture):
    """Planes (3, h, w) in [0, 1] as an image (h, w, 3) uint8."""
    return np.ascontiguousarray((255 * clip01(picture) + 0.5).astype(np.uint8).transpose(1, 2, 0))


def tight_box(mask):
    """Box (ymin, xmin, ymax, xmax) of the non-zero pixels of `mask` (h, w, 1), in [0, 1]."""
    height, width = mask.shape[:2]
    rows, cols = np.flatnonzero(mask.any((1, 2))), np.flatnonzero(mask.any((0, 2)))
    box = rows[0] / height, cols[0] / width, (rows[-1] + 1) / height, (cols[-1] + 1) / width
    return tuple(float(edge) for edge in box)


def render(rng, *, label=None, coat=None, scene=None, size=64):
    """Renders one animal.

    label, coat and scene are indices of LABELS, COATS and SCENES; None: drawn uniformly. A value
    for one of them changes no other draw. Returns a dict with

        image   (size, size, 3) uint8
        mask    (size, size, 1) uint8, 255 where the animal covers at least half of the pixel
        bbox    (ymin, xmin, ymax, xmax), the tight box of the mask as fractions of the side
        label, coat, scene   int
    """
    drawn = rng.integers((len(LABELS), len(COATS), len(SCENES)))
    label, coat, scene = (
        int(draw if value is None else value) for value, draw in zip((label, coat, scene), drawn)
    )
    pose_rng, coat_rng, scene_rng = map(np.random.default_rng, rng.integers(2**63, size=3))
    animal = pose(pose_rng, label)
    shape = silhouette(animal, size)
    colour, alpha = paint(coat_rng, coat, animal, shape, size)
    picture = background(scene_rng, scene, size) * contact_shadow(animal, size)
    mask = composite(picture, shape, colour, alpha)
    return {
        "image": to_bytes(picture),
        "mask": mask,
        "bbox": tight_box(mask),
        "label": label,
        "coat": coat,
        "scene": scene,
    }


def render_example(split, index):
    """Example `index` of `split` ("train" or "test"), a function of these alone."""
    return render(np.random.default_rng((SPLIT_SEEDS[split], index)))


def png(image):
    """The (h, w, 1 or 3) uint8 image as the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[2] == 1 else image).save(
        file, "png", compress_level=2
    )
    return file.getvalue()


def encoded_example(split, index):
    """`render_example` with image and mask as PNG files."""
    example = render_example(split, index)
    return {**example, "image": png(example["image"]), "mask": png(example["mask"])}


def main(split, start, stop, step):
    """Writes the encoded examples range(start, stop, step) of `split` to standard output, one
    pickle each."""
    for index in range(int(start), int(stop), int(step)):
        pickle.dump(encoded_example(split, index), sys.stdout.buffer)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Pictures as arrays: scales, files, overlays, grids.

Networks take and give float32 (N, H, W, 3) in [-1, 1]; pictures are uint8 (N, H, W, 3).
"""

import io
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

CELL = 112  # pixels, up to which the pictures of a labelled grid are enlarged
GAP = 4  # pixels between them
HEAT = 0.6  # the share of a map's colour in a heat map
COLOURS = "plasma"  # matplotlib's name of the colours from 0 to 1


def scaled(levels):
    """Grey levels from 0 to 255 -> [-1, 1], as floats: an array, or a tensor of any library."""
    return levels / 127.5 - 1


def unscaled(images):
    """The inverse of `scaled`."""
    return (images + 1) * 127.5


def to_float(images):
    """uint8 -> float32 in [-1, 1]."""
    return scaled(np.asarray(images, "float32"))


def to_uint8(images):
    """[-1, 1] -> uint8, rounded."""
    return np.clip(np.rint(unscaled(np.asarray(images))), 0, 255).astype(np.uint8)


def png(pixels):
    """uint8 (H, W, 3) or grey (H, W) -> PNG bytes."""
    return encoded(pixels, "png", optimize=True)


def reduced(pixels, side):
    """uint8 (H, W, 3) or (H, W) -> the same, made smaller by a whole number where a side is longer
    than `side`."""
    return np.asarray(Image.fromarray(pixels).reduce(-(-max(pixels.shape[:2]) // side)))


def encoded(pixels, kind, **options):
    """uint8 (H, W, 3) or grey (H, W) -> the bytes of a file of that kind, "png" or "jpeg"."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


def decoded(data):
    """The bytes of a PNG or JPEG -> uint8 (H, W, 3), or (H, W) of a grey one."""
    return np.asarray(Image.open(io.BytesIO(data)))


def image_grid(images, columns=8):
    """images (N, S, S, 3) in [-1, 1] -> uint8 (rows * S, columns * S, 3), white at the end."""
    count, size = images.shape[0], images.shape[1]
    rows = math.ceil(count / columns)
    pixels = to_uint8(images)
    filler = np.full((rows * columns - count, size, size, 3), 255, np.uint8)
    cells = np.concatenate([pixels, filler]).reshape(rows, columns, size, size, 3)
    return cells.transpose(0, 2, 1, 3, 4).reshape(rows * size, columns * size, 3)


def heat(images, maps):
    """Pictures (..., H, W, 3), uint8, in grey below the colours of maps (..., H, W) in [0, 1] ->
    uint8: blue where a map is 0, pink at 0.5, yellow at 1."""
    from matplotlib import colormaps

    grey = images @ np.array([0.299, 0.587, 0.114], "float32")
    colours = colormaps[COLOURS](np.asarray(maps, "float32"), bytes=True)[..., :3]
    mixed = np.float32(HEAT) * colours + np.float32(1 - HEAT) * grey[..., None]
    return np.uint8(np.rint(mixed))


def attention_grid(images, masks, places=(), labels=()):
    """uint8 (B, S, S, 3), (B, N, S, S) in [0, 1] -> uint8 (rows, columns, 3): a row an image.

    The image, then the heat map of each of its N masks over it, below a label; and the scale of the
    colours. labels: N texts, or () for "attention 1" and so on. places: (N, 2), row and column of a
    pixel for each mask, which is marked in green in that mask's column.
    """
    columns = [images, *(heat(images, mask) for mask in masks.swapaxes(0, 1))]
    half = max(1, images.shape[1] // 32)
    for pictures, (row, column) in zip(columns[1:], places):
        pictures[:, row - half : row + half, column - half : column + half] = (0, 255, 0)
    numbered = [f"attention {i + 1}" for i in range(masks.shape[1])]
    return labelled_grid(np.stack(columns, 1), ["image", *(labels or numbered)])


def labelled_grid(cells, labels, scale=True):
    """uint8 (R, C, H, W, 3), C texts -> uint8 (height, width, 3): R rows of C pictures below their
    labels, on white, beside a scale of the colours of `heat` from 0 to 1.

    Pictures that are narrower than CELL are enlarged by a whole number, unless they become higher
    than 4 CELL. scale: False leaves the scale out.
    """
    cells = _enlarged(cells)
    rows, columns, height, width = cells.shape[:4]
    size = _letters(width)
    top = size + 2 * GAP
    right = columns * (width + GAP)
    shape = (top + rows * (height + GAP) - GAP, right + 4 * size if scale else right - GAP, 3)
    canvas = np.full(shape, 255, np.uint8)
    for (r, c), picture in zip(np.ndindex(rows, columns), cells.reshape(-1, height, width, 3)):
        y, x = top + r * (height + GAP), c * (width + GAP)
        canvas[y : y + height, x : x + width] = picture
    if scale:
        canvas[top : top + height, right:] = _scale(height, size)
    places = ((c * (width + GAP) + width / 2, top / 2) for c in range(columns))
    return _written(canvas, size, [(*one, "mm") for one in zip(places, labels)])


def with_text(images, texts):
    """uint8 (N, H, W, 3) with a text below each -> uint8 (N, H', W', 3), enlarged as the pictures
    of a labelled_grid are."""
    images = _enlarged(images)
    count, height, width = images.shape[:3]
    size = _letters(width)
    strips = np.full((count, size + GAP, width, 3), 255, np.uint8)
    place = (width / 2, height + (size + GAP) / 2)
    cells = np.concatenate([images, strips], 1)
    return np.stack([_written(c, size, [(place, text, "mm")]) for c, text in zip(cells, texts)])


def with_scale(pixels):
    """A heat map (H, W, 3), uint8, on the left of the scale of its colours from 0 to 1 -> uint8 (H,
    W + GAP + 4 s, 3), s = max(11, W // 24)."""
    height, width = pixels.shape[:2]
    gap = np.full((height, GAP, 3), 255, np.uint8)
    return np.hstack([pixels, gap, _scale(height, _letters(width))])


def _enlarged(pictures):
    """Pictures (..., H, W, 3), each pixel repeated: up to CELL wide, at most 4 CELL high."""
    height, width = pictures.shape[-3:-1]
    times = max(1, min(-(-CELL // width), 4 * CELL // height))
    return pictures.repeat(times, -3).repeat(times, -2)


def _letters(width):
    """The size of the letters, in pixels, beside pictures of a width."""
    return max(11, width // 24)


def _written(canvas, size, texts):
    """uint8 (H, W, 3) with texts in black, each of (place, text, Pillow's anchor); size: of the
    letters, in pixels."""
    drawing, font = Image.fromarray(canvas), ImageFont.load_default(size)
    pen = ImageDraw.Draw(drawing)
    for place, text, anchor in texts:
        pen.text(place, text, fill="black", font=font, anchor=anchor)
    return np.asarray(drawing)


def _scale(height, size):
    """The colours of `heat` from 0 to 1 and their values, uint8 (height, 4 * size, 3); size: of the
    letters, in pixels."""
    canvas = np.full((height, 4 * size, 3), 255, np.uint8)
    ramp = np.linspace(1, 0, height)[:, None].repeat(size, 1)
    canvas[:, :size] = heat(np.full((*ramp.shape, 3), 128, np.uint8), ramp)
    texts = [
        ((size + GAP, (1 - value) * height), f"{value:g}", anchor)
        for value, anchor in ((1, "la"), (0.5, "lm"), (0, "ld"))
    ]
    return _written(canvas, size, texts)


def translation_grid(directions):
    """[{"image", "translated", "again" (B, S, S, 3), with attention also "masks" (B, S, S, n) and
    "contents" (B, S, S, m, 3), with a latent space "reconstructed" (B, S, S, 3) and "latent" (B, S,
    S, 1)}] in [-1, 1], masks and latent in [0, 1] -> uint8 (rows, columns, 3).

    A row for each image of each direction: the image, its translation, the translation back, the
    masks in grey, the contents; the reconstruction, and latent in grey.
    """

    def grey(maps):
        return np.broadcast_to(2 * maps[..., None] - 1, (*maps.shape, 3))

    rows = []
    for direction in directions:
        cells = [direction["image"], direction["translated"], direction["again"]]
        if "masks" in direction:
            cells += map(grey, np.moveaxis(direction["masks"], -1, 0))
        if "contents" in direction:
            cells += list(np.moveaxis(direction["contents"], -2, 0))
        if "latent" in direction:
            cells += [direction["reconstructed"], grey(direction["latent"][..., 0])]
        rows.append(np.stack(cells, 1))  # (B, columns, S, S, 3)
    cells = np.concatenate(rows)
    return image_grid(cells.reshape(-1, *cells.shape[2:]), cells.shape[1])


def foreground(masks):
    """Masks (B, H, W, n) -> attention on the foreground (B, H, W): the one mask, or, of several
    that sum to 1, all but the last one, which is the background's."""
    return masks[..., 0] if masks.shape[-1] == 1 else 1 - masks[..., -1]

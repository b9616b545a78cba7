"""How well attention maps, learnt without masks or boxes, show where the object is.

MaxBoxAcc and PxAP: Choe et al., 2020, arXiv:2001.07437. One threshold serves the whole set, because
to choose one for each image is to use the ground truth. Pointing game: Zhang et al., 2016,
arXiv:1608.00507.

Maps are `prepared`: (N, S, S) in [0, 1], as large as the images. Masks are bool (N, S, S), True on
the object; boxes (N, 4) are (ymin, xmin, ymax, xmax) as shares of the side, ends excluded.
"""

import numpy as np

from ..common import interpolation

THRESHOLDS = np.arange(1001) / 1000
BLOCK = 200  # images whose components are computed at a time
EIGHT = np.ones((3, 3))  # neighbours: pixels that touch at a side or a corner


def prepared(maps, size):
    """Maps (N, h, w) -> float64 (N, size, size), bilinear, then each scaled from 0 to 1.

    Pixel i covers [i, i + 1], and beyond the outermost samples their values go on. A constant map
    becomes 0.
    """
    maps = interpolation.resized(maps, size, size)
    maps -= maps.min((1, 2), keepdims=True)
    highest = maps.max((1, 2), keepdims=True)
    return maps / np.where(highest > 0, highest, 1)


def scores(maps, masks, boxes, threshold):
    """-> [(name, value, {"threshold"} or {})]: MaxBoxAcc at its best threshold, PxAP, the mean IoU
    of {map >= threshold} with the mask, and the pointing game. threshold: of the IoU; None: that of
    `halved_iou`, whose two are "thresholds"."""
    accuracy, best = max_box_acc(maps, boxes)
    if threshold is None:
        iou, about = halved_iou(maps, masks)
        iou, about = float(iou.mean()), {"thresholds": about}
    else:
        iou, about = float(mask_iou(maps, masks, [threshold]).mean()), {"threshold": threshold}
    return [
        ("maxboxacc", accuracy, {"threshold": best}),
        ("pxap", pxap(maps, masks), {}),
        ("iou", iou, about),
        ("pointing", pointing_game(maps, masks), {}),
    ]


def box_iou(ours, theirs):
    """Boxes (..., 4) -> intersection over union (...,)."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    low = np.maximum(ours[..., :2], theirs[..., :2])
    high = np.minimum(ours[..., 2:], theirs[..., 2:])
    both = (high - low).clip(0).prod(-1)
    areas = ((box[..., 2:] - box[..., :2]).prod(-1) for box in (ours, theirs))
    return both / (sum(areas) - both)


def max_box_acc(maps, boxes, iou=0.5, thresholds=THRESHOLDS):
    """-> (share of images, threshold): MaxBoxAcc, where every image is known to show an object.

    It is the share of images whose box about the largest component of {map >= threshold} has at
    least this IoU with the object's box, at the best threshold of the set; of equal ones at the
    lowest. With one threshold, chosen on other images, it is BoxAcc.
    """
    maps, boxes = _checked(maps), np.asarray(boxes, np.float64)
    if boxes.shape != (len(maps), 4) or not (boxes[:, :2] < boxes[:, 2:]).all():
        raise ValueError(f"boxes are ({len(maps)}, 4), low before high")
    ours = largest_boxes(maps, thresholds) / maps.shape[1]
    share = (box_iou(ours, boxes) >= iou).mean(1)
    best = share.argmax()
    return float(share[best]), float(thresholds[best])


def pxap(maps, masks, thresholds=THRESHOLDS):
    """-> area under the curve of precision and recall of the set's pixels, in [0, 1].

    PxAP = sum_l precision(t_l) (recall(t_l) - recall(t_l-1)) for falling t_l, each of
    {map >= t_l}.
    """
    inside, above, size = (x.sum(0) for x in pixel_counts(maps, masks, thresholds))
    precision = (inside / np.maximum(above, 1))[::-1]
    recall = (inside / size)[::-1]
    return float((precision * np.diff(recall, prepend=0)).sum())


def mask_iou(maps, masks, thresholds):
    """-> IoU (N, T) of {map >= threshold} and mask."""
    inside, above, size = pixel_counts(maps, masks, thresholds)
    return inside / (above + size[:, None] - inside)


def best_threshold(maps, masks, thresholds=THRESHOLDS):
    """-> the threshold with the highest mean `mask_iou`; choose it on training images."""
    return float(thresholds[mask_iou(maps, masks, thresholds).mean(0).argmax()])


def halved_iou(maps, masks):
    """-> (IoU (N,) of {map >= threshold} and mask, the two thresholds): that of every second image
    fits the others best, and the other way round, so that no image has a part in its own."""
    iou, thresholds = np.empty(len(maps)), []
    for half in (0, 1):
        own, other = (slice(start, None, 2) for start in (half, 1 - half))
        thresholds.append(best_threshold(maps[other], masks[other]))
        iou[own] = mask_iou(maps[own], masks[own], thresholds[-1:])[:, 0]
    return iou, thresholds


def brightness(images):
    """Images uint8 (N, S, S, 3) -> how bright each pixel is, as maps (N, S, S)."""
    return prepared(np.mean(images, -1), np.shape(images)[1])


def nearness(images):
    """Images (N, S, S, 3) -> how near each pixel is to the middle, as maps (N, S, S)."""
    count, size = np.shape(images)[:2]
    line = np.arange(size) - (size - 1) / 2
    return prepared(np.tile(-np.hypot(line[:, None], line), (count, 1, 1)), size)


def pointing_game(maps, masks):
    """-> share of images whose map has its maximum, the first of equal ones, on the object.

    Without the paper's tolerance of 15 pixels.
    """
    maps, masks = _checked(maps, masks)
    highest = maps.reshape(len(maps), -1).argmax(1)
    return float(masks.reshape(len(masks), -1)[np.arange(len(maps)), highest].mean())


def _checked(maps, masks=None):
    """The arrays, maps in float64; ValueError unless they are maps and masks as described above."""
    maps = np.asarray(maps, np.float64)
    if maps.ndim != 3 or maps.shape[1] != maps.shape[2] or not maps.size:
        raise ValueError(f"maps are (N, S, S), not {maps.shape}")
    if not ((maps >= 0) & (maps <= 1)).all():
        raise ValueError("maps lie in [0, 1], see `prepared`")
    if masks is None:
        return maps
    masks = np.asarray(masks)
    if masks.shape != maps.shape or masks.dtype != bool or not masks.any((1, 2)).all():
        raise ValueError(f"masks are bool {maps.shape}, and each holds an object")
    return maps, masks


def pixel_counts(maps, masks, thresholds):
    """-> numbers of pixels: of {map >= t} on the object (N, T), of {map >= t} (N, T), of the object
    (N,)."""
    maps, masks = _checked(maps, masks)
    count, steps = len(maps), len(thresholds) + 1
    level = np.searchsorted(thresholds, maps, side="right")  # how many thresholds a pixel reaches
    cell = np.arange(count)[:, None, None] * steps + level

    def reaching(cells):
        at_level = np.bincount(cells.ravel(), minlength=count * steps).reshape(count, steps)
        return at_level[:, ::-1].cumsum(1)[:, -2::-1]  # at that level or a higher one

    return reaching(cell[masks]), reaching(cell), masks.sum((1, 2))


def largest_box(mask):
    """-> (rows, columns), slices of the box about the largest component of a mask, bool (H, W), or
    None where the mask is empty.

    Pixels that touch at a side or a corner are connected; of components with equally many pixels
    the first in reading order counts.
    """
    from scipy import ndimage  # a tenth of a second, which few commands need

    labels, count = ndimage.label(mask, EIGHT)
    if not count:
        return None
    return ndimage.find_objects(labels)[np.bincount(labels.ravel())[1:].argmax()]


def largest_boxes(maps, thresholds=THRESHOLDS):
    """-> boxes (T, N, 4) in pixels, ends excluded: `largest_box` of {map >= t}, 0 for an empty one.
    Thresholds rise.

    One threshold is labelled by scipy.ndimage. For many, components grow together as the threshold
    falls: for 2,000 maps of 64 x 64 at 1,001 thresholds that took 16 s, and labelling at each of
    them 295 s.
    """
    maps = _checked(maps)
    boxes = np.zeros((len(thresholds), len(maps), 4), np.int32)
    if len(thresholds) == 1:
        for box, inside in zip(boxes[0], maps >= thresholds[0]):
            if inside.any():
                rows, columns = largest_box(inside)
                box[:] = rows.start, columns.start, rows.stop, columns.stop
        return boxes
    for start in range(0, len(maps), BLOCK):
        part = slice(start, start + BLOCK)
        boxes[:, part] = _largest_boxes(maps[part], thresholds)
    return boxes


def _largest_boxes(maps, thresholds):
    """`largest_boxes` of a few maps by union-find, from the highest threshold to the lowest.

    The pixels of all maps, each with a rim that reaches no threshold, are one line of nodes. A
    component is a tree; its root is its first pixel in reading order.
    """
    count, side = len(maps), maps.shape[1] + 2
    cells = side * side
    level = np.searchsorted(thresholds, maps, side="right")
    level = np.pad(level, ((0, 0), (1, 1), (1, 1))).astype(np.int16)
    pixels, steps = _by_level(level.ravel(), len(thresholds))
    a, b, reached = _pairs(level)
    pairs, pair_steps = _by_level(reached, len(thresholds))
    a, b = a[pairs], b[pairs]

    parent = np.arange(level.size, dtype=np.int32)
    y, x = parent % cells // side, parent % side
    size, left, right, bottom = np.ones(level.size, int), x.copy(), x.copy(), y.copy()
    merge = ((np.add, size), (np.minimum, left), (np.maximum, right), (np.maximum, bottom))
    first = np.arange(count) * cells
    best = np.zeros(count, int)  # size * cells - place of the root, which orders components
    boxes = np.zeros((len(thresholds), count, 4), np.int32)
    for k in range(len(thresholds) - 1, -1, -1):
        ended = _join(parent, a[pair_steps[k]], b[pair_steps[k]])
        root = _root(parent, ended)
        for ufunc, values in merge:
            ufunc.at(values, root, values[ended])
        root = _root(parent, pixels[steps[k]])
        np.maximum.at(best, root // cells, size[root] * cells - root % cells)
        root = first + -best % cells
        box = (y[root] - 1, left[root] - 1, bottom[root], right[root])  # without the rim
        boxes[k] = np.stack(box, 1) * (best > 0)[:, None]
    return boxes


def _pairs(level):
    """Nodes a, b of neighbours, and the level that both reach.

    A pair is left out if other pairs connect it at that level: two pixels of a row if the row below
    does, two diagonal pixels if one of the other two pixels of the square does.
    """
    nodes = np.arange(level.size, dtype=np.int32).reshape(level.shape)
    here, east, south, both = (
        np.s_[:, y : y - 1 or None, x : x - 1 or None] for y, x in ((0, 0), (0, 1), (1, 0), (1, 1))
    )
    parts = []
    for a, b, other in (
        (here, south, 0),
        (here, east, np.minimum(level[south], level[both])),
        (here, both, np.maximum(level[east], level[south])),
        (east, south, np.maximum(level[here], level[both])),
    ):
        reached = np.minimum(level[a], level[b])
        needed = reached > other
        parts.append((nodes[a][needed], nodes[b][needed], reached[needed]))
    return (np.concatenate(part) for part in zip(*parts))


def _by_level(level, count):
    """Indices that sort levels, and for each k < count the slice of those of level k + 1."""
    order = np.argsort(level, kind="stable")
    ends = np.searchsorted(level[order], np.arange(1, count + 2))
    return order, [slice(*ends[k : k + 2]) for k in range(count)]


def _root(parent, node):
    """The roots of nodes; makes them the nodes' parents."""
    root = parent[node]
    while (parent[root] != root).any():
        root = parent[parent[root]]
    parent[node] = root
    return root


def _join(parent, a, b):
    """Joins the trees of a_i and b_i for each i; returns the nodes that are roots no longer."""
    ended = []
    while len(a):
        a, b = _root(parent, a), _root(parent, b)
        apart = a != b
        a, b = np.minimum(a, b)[apart], np.maximum(a, b)[apart]
        parent[b] = a  # of several a for one b the last; the loop comes to the others again
        ended.append(b)
    return np.unique(np.concatenate(ended)) if ended else a

"""Boxes of Visual Genome as its files have them, ``(x, y, width, height)``, and clusters of them.

They stay in that form until all averaging is done: each of the published means is a float32 width,
and the detour over corners would round it a second time.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from pipelines.geometry.boxes import clusters
from shards.box_overlap import Boxes, as_array, iou

XYWH = tuple[float, float, float, float]  # each exactly a float32

LARGEST = 2.0**24  # a coordinate beyond this is no pixel; integers below it are exact in float32
ROUNDING = 0.01  # no IoU is rounded by as much
PAIRS_AT_ONCE = 1 << 18


def area(box: XYWH) -> float:
    """Width by height in float32."""
    size = box[2] * box[3]
    return size if size < LARGEST and size.is_integer() else float(np.float32(size))


def usable(x: float, y: float, w: float, h: float) -> XYWH | None:
    """The box in float32, None if a number is no pixel (NaN included)."""
    if not abs(x) + abs(y) + abs(w) + abs(h) < LARGEST:
        return None
    if x.is_integer() and y.is_integer() and w.is_integer() and h.is_integer():
        return (x, y, w, h)
    rounded = np.array((x, y, w, h), np.float32).tolist()
    return (rounded[0], rounded[1], rounded[2], rounded[3])


def averaged(boxes: list[XYWH], threshold: float) -> list[XYWH]:
    """The mean of each cluster of boxes whose IoU reaches ``threshold``."""
    if len(boxes) == 1:
        return list(boxes)
    groups = alike(boxes, threshold)
    if len(groups) == len(boxes):
        return list(boxes)
    return [mean([boxes[i] for i in members]) for members in groups]


def alike(boxes: list[XYWH], threshold: float) -> list[list[int]]:
    """Indices of the boxes, clustered by an IoU of at least ``threshold``."""
    if len(boxes) == 1:
        return [[0]]
    if len(boxes) == 2:  # by far the most frequent, and slow in numpy
        return [[0, 1]] if iou_over(boxes[0], boxes[1], threshold) >= 0 else [[0], [1]]
    corners = _corners(boxes)
    close = np.empty((len(boxes), len(boxes)), bool)
    for rows in blocks(len(boxes), len(boxes)):
        close[rows] = iou(corners[rows], corners) >= threshold
    return clusters(close)


def blocks(rows: int, columns: int) -> Iterator[slice]:
    """Cuts the rows of a matrix of pairs so that the arithmetic on one block takes few MB."""
    height = max(1, PAIRS_AT_ONCE // columns)
    return (slice(start, start + height) for start in range(0, rows, height))


def iou_over(a: XYWH, b: XYWH, threshold: float) -> float:
    """By how much the IoU exceeds ``threshold``; NaN for two empty boxes.

    The sign is that of float32 arithmetic on corners, which the published data was made with.
    """
    ax, ay, aw, ah = a
    bx, by, bw, bh = b
    width = min(ax + aw, bx + bw) - max(ax, bx)
    height = min(ay + ah, by + bh) - max(ay, by)
    intersection = width * height if width > 0 and height > 0 else 0.0
    union = aw * ah + bw * bh - intersection
    if union > 0:
        over = intersection / union - threshold
        if abs(over) > ROUNDING:
            return over
    corners = _corners([a, b])
    return float(iou(corners[:1], corners[1:])[0, 0] - np.float32(threshold))


def overlaps(a: Sequence[XYWH], b: Sequence[XYWH], threshold: float) -> npt.NDArray[np.bool_]:
    """Of every pair whether ``not iou_over(...) < 0``, shape (len(a), len(b))."""
    ax, ay, aw, ah = np.array(a, np.float64).T[:, :, None]
    bx, by, bw, bh = np.array(b, np.float64).T[:, None, :]
    width = np.minimum(ax + aw, bx + bw) - np.maximum(ax, bx)
    height = np.minimum(ay + ah, by + bh) - np.maximum(ay, by)
    intersection = np.where((width > 0) & (height > 0), width * height, 0)
    union = aw * ah + bw * bh - intersection
    with np.errstate(invalid="ignore", divide="ignore"):
        over = intersection / union - threshold
    settled = (union > 0) & (np.abs(over) > ROUNDING)
    if settled.all():
        return over > 0
    rounded = iou(_corners(a), _corners(b))
    return np.where(settled, over > 0, ~(rounded < np.float32(threshold)))


def mean(boxes: Sequence[XYWH]) -> XYWH:
    """The box whose corners are the mean corners, in float32."""
    x0, y0, x1, y1 = _corners(boxes).sum(0) / np.float32(len(boxes))
    return (float(x0), float(y0), float(x1 - x0), float(y1 - y0))


def _corners(boxes: Sequence[XYWH]) -> Boxes:
    corners = as_array(boxes)
    corners[:, 2:] += corners[:, :2]
    return corners

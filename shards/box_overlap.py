"""Areas and overlaps of boxes: float32 arrays of shape (n, 4), ``(x0, y0, x1, y1)`` in pixels."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from schemas import Box

Boxes = npt.NDArray[np.float32]


def as_array(boxes: Sequence[Box]) -> Boxes:
    """Returns boxes as an array of shape (n, 4), also for n = 0."""
    return np.asarray(boxes, np.float32).reshape(-1, 4)


def area(boxes: Boxes) -> npt.NDArray[np.float32]:
    """Returns the area of each box in square pixels, shape (n,)."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _intersection_and_union(a: Boxes, b: Boxes) -> tuple[Boxes, Boxes]:
    size = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    np.clip(size, 0, None, out=size)
    intersection = size[..., 0] * size[..., 1]
    return intersection, area(a)[:, None] + area(b)[None, :] - intersection


def iou(a: Boxes, b: Boxes) -> Boxes:
    """Returns the IoU of every pair, shape (len(a), len(b)); NaN for two empty boxes."""
    intersection, union = _intersection_and_union(a, b)
    with np.errstate(invalid="ignore", divide="ignore"):
        return intersection / union


def giou(a: Boxes, b: Boxes) -> Boxes:
    """Returns the GIoU of every pair (arXiv 1902.09630, algorithm 1), shape (len(a), len(b))."""
    intersection, union = _intersection_and_union(a, b)
    hull = np.maximum(a[:, None, 2:], b[None, :, 2:]) - np.minimum(a[:, None, :2], b[None, :, :2])
    hull_area = hull[..., 0] * hull[..., 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        overlap: Boxes = intersection / union - (hull_area - union) / hull_area
    return overlap

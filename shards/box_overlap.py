"""Areas and overlaps of boxes: float32 arrays of shape (n, 4), ``(x0, y0, x1, y1)`` in pixels."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from schemas import Box

Boxes = npt.NDArray[np.float32]
Indexes = npt.NDArray[np.intp]

# Rows and columns of the overlap matrix that are computed at once: its arrays fit the cache, and an
# ordinary image is one block.
_BLOCK = (128, 1024)


def as_array(boxes: Sequence[Box]) -> Boxes:
    """Returns boxes as an array of shape (n, 4), also for n = 0."""
    return np.asarray(boxes, np.float32).reshape(-1, 4)


def area(boxes: Boxes) -> npt.NDArray[np.float32]:
    """Returns the area of each box in square pixels, shape (n,)."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def largest_area(boxes: Boxes) -> npt.NDArray[np.float64]:
    """Returns the largest area that an object in each box can have, shape (n,).

    It is more than that of the box, because outlines are counted in whole pixels.
    """
    sides = (boxes[:, 2:] - boxes[:, :2]).astype(np.float64) + 2
    return 1.05 * sides[:, 0] * sides[:, 1]


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


def overlapping_pairs(
    boxes: Boxes, overlap: Callable[[Boxes, Boxes], Boxes], threshold: float
) -> Iterator[tuple[Indexes, Indexes]]:
    """Yields the pairs of boxes whose overlap is over a threshold, each pair once or twice.

    The matrix of all pairs is computed in blocks, and only where boxes may intersect, from left to
    right.

    Args:
        boxes: shape (n, 4).
        overlap: `iou` or `giou`.
        threshold: at least 0, so that boxes that do not intersect are no pair.

    Yields:
        The indexes of the first and of the second boxes of some pairs, two arrays of equal length.
    """
    # A box that is empty or not of numbers is compared with all others: its overlap is undefined.
    regular = (boxes[:, :2] < boxes[:, 2:]).all(axis=1)
    left = np.where(regular, boxes[:, 0], -np.inf)
    right = np.where(regular, boxes[:, 2], np.inf)
    order = np.argsort(left, kind="stable")
    boxes, left, right = boxes[order], left[order], right[order]
    height, width = _BLOCK
    for top in range(0, len(boxes), height):
        rows = slice(top, top + height)
        stop = int(np.searchsorted(left, right[rows].max()))
        for start in range(top, stop, width):
            columns = slice(start, min(start + width, stop))
            first, second = np.nonzero(overlap(boxes[rows], boxes[columns]) > threshold)
            yield order[first + top], order[second + start]

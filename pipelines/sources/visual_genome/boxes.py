"""Boxes of Visual Genome: means, clusters, and overlaps of many at once.

Boxes stay in the format of the files, ``(x, y, width, height)``, until all averaging is done: the
published means are float32 widths, which a conversion to corners would round a second time.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from pipelines.geometry.boxes import clusters
from shards.box_overlap import Boxes, as_array, iou

XYWH = tuple[float, float, float, float]  # each exactly representable in float32
BoxLists = Sequence[Sequence[XYWH]]  # the boxes of several captions; none of the lists is empty
Matrix = npt.NDArray[np.bool_]

MAX_COORDINATE = 2.0**24  # integers below it are exact in float32; no image is as large
ROUNDING = 0.01  # more than the rounding error of any IoU
LOOP_LIMIT = 1000  # pairs of boxes, up to which a loop is faster than numpy
BLOCK_SIZE = 1 << 18  # pairs of boxes that are compared at once, which takes a few MB


def float32_area(box: XYWH) -> float:
    """Returns width by height, rounded to float32."""
    size = box[2] * box[3]
    return size if size < MAX_COORDINATE and size.is_integer() else float(np.float32(size))


def float32_box(x: float, y: float, w: float, h: float) -> XYWH | None:
    """Returns the box in float32; None if a number is NaN or too large for a coordinate."""
    if not abs(x) + abs(y) + abs(w) + abs(h) < MAX_COORDINATE:
        return None
    if x.is_integer() and y.is_integer() and w.is_integer() and h.is_integer():
        return (x, y, w, h)
    rounded = np.array((x, y, w, h), np.float32).tolist()
    return (rounded[0], rounded[1], rounded[2], rounded[3])


def mean_box(boxes: Sequence[XYWH]) -> XYWH:
    """Returns the box whose corners are the mean corners, in float32."""
    x0, y0, x1, y1 = _corners(boxes).sum(0) / np.float32(len(boxes))
    return (float(x0), float(y0), float(x1 - x0), float(y1 - y0))


def average_overlapping(boxes: list[XYWH], threshold: float) -> list[XYWH]:
    """Returns the mean of each cluster of boxes whose IoU reaches ``threshold``."""
    if len(boxes) == 1:
        return list(boxes)
    groups = cluster_by_iou(boxes, threshold)
    if len(groups) == len(boxes):
        return list(boxes)
    return [mean_box([boxes[i] for i in members]) for members in groups]


def cluster_by_iou(boxes: list[XYWH], threshold: float) -> list[list[int]]:
    """Returns the indices of the boxes, clustered by an IoU of at least ``threshold``."""
    if len(boxes) == 1:
        return [[0]]
    if len(boxes) == 2:  # by far the most frequent case, and slow in numpy
        return [[0, 1]] if iou_excess(boxes[0], boxes[1], threshold) >= 0 else [[0], [1]]
    corners = _corners(boxes)
    close = np.empty((len(boxes), len(boxes)), bool)
    for rows in _row_blocks(len(boxes), len(boxes)):
        close[rows] = iou(corners[rows], corners) >= threshold
    return clusters(close)


# --- overlaps of pairs ----------------------------------------------------------------------------


def iou_excess(a: XYWH, b: XYWH, threshold: float) -> float:
    """Returns the IoU minus ``threshold``; NaN for two empty boxes.

    The sign is that of float32 arithmetic on corners, with which the published data was made.
    """
    ax, ay, aw, ah = a
    bx, by, bw, bh = b
    width = min(ax + aw, bx + bw) - max(ax, bx)
    height = min(ay + ah, by + bh) - max(ay, by)
    intersection = width * height if width > 0 and height > 0 else 0.0
    union = aw * ah + bw * bh - intersection
    if union > 0:
        excess = intersection / union - threshold
        if abs(excess) > ROUNDING:
            return excess
    corners = _corners([a, b])
    return float(iou(corners[:1], corners[1:])[0, 0] - np.float32(threshold))


def pairwise_overlaps(a: Sequence[XYWH], b: Sequence[XYWH], threshold: float) -> Matrix:
    """Returns ``not iou_excess(...) < 0`` for every pair, shape (len(a), len(b))."""
    ax, ay, aw, ah = np.array(a, np.float64).T[:, :, None]
    bx, by, bw, bh = np.array(b, np.float64).T[:, None, :]
    width = np.minimum(ax + aw, bx + bw) - np.maximum(ax, bx)
    height = np.minimum(ay + ah, by + bh) - np.maximum(ay, by)
    intersection = np.where((width > 0) & (height > 0), width * height, 0)
    union = aw * ah + bw * bh - intersection
    with np.errstate(invalid="ignore", divide="ignore"):
        excess = intersection / union - threshold
    certain = (union > 0) & (np.abs(excess) > ROUNDING)
    overlap: Matrix = excess > 0
    if certain.all():
        return overlap
    rounded = iou(_corners(a), _corners(b))
    return np.where(certain, overlap, ~(rounded < np.float32(threshold)))


# --- overlaps of captions -------------------------------------------------------------------------
# Most images have few captions with the same words, for which numpy is slow; but an image where
# thousands of captions have the same words must not take minutes.


def any_boxes_overlap(a: BoxLists, b: BoxLists, threshold: float) -> Matrix:
    """Returns whether any box of ``a[i]`` overlaps any of ``b[j]``, shape (len(a), len(b))."""
    result = np.zeros((len(a), len(b)), bool)
    if sum(map(len, a)) * sum(map(len, b)) <= LOOP_LIMIT:
        for i, a_boxes in enumerate(a):
            for j, b_boxes in enumerate(b):
                result[i, j] = any(
                    not iou_excess(x, y, threshold) < 0 for x in a_boxes for y in b_boxes
                )
        return result
    flat_a, a_owners = _flatten(a)
    flat_b, b_owners = _flatten(b)
    for rows in _row_blocks(len(flat_a), len(flat_b)):
        overlaps = pairwise_overlaps(flat_a[rows], flat_b, threshold)
        _or_by_owners(result, a_owners[rows], overlaps, b_owners)
    return result


def boxes_agree(box_lists: BoxLists, masks: Sequence[Sequence[int]], threshold: float) -> Matrix:
    """Returns whether boxes with common words overlap in two captions, shape (n, n).

    Captions with a box without words agree with no other.

    Args:
        box_lists: the boxes of each caption.
        masks: for each box the bit mask of its words.
        threshold: the IoU from which boxes overlap.
    """
    comparable = np.array([all(caption_masks) for caption_masks in masks], bool)
    if sum(map(len, box_lists)) ** 2 <= LOOP_LIMIT:
        conflict = np.zeros((len(box_lists), len(box_lists)), bool)
        for i in np.flatnonzero(comparable).tolist():
            for j in range(i):
                conflict[i, j] = conflict[j, i] = any(
                    a_mask & b_mask and iou_excess(a, b, threshold) < 0
                    for a, a_mask in zip(box_lists[i], masks[i], strict=True)
                    for b, b_mask in zip(box_lists[j], masks[j], strict=True)
                )
    else:
        flat_masks = [mask for caption_masks in masks for mask in caption_masks]
        conflict = _boxes_conflict(box_lists, flat_masks, threshold)
    agree: Matrix = ~conflict & comparable[:, None] & comparable[None, :]
    return agree


def _boxes_conflict(box_lists: BoxLists, masks: list[int], threshold: float) -> Matrix:
    """Returns whether two captions have boxes with common words that do not overlap."""
    boxes, owners = _flatten(box_lists)
    distinct_masks = {mask: index for index, mask in enumerate(dict.fromkeys(masks))}
    share_words = np.array([[bool(a & b) for b in distinct_masks] for a in distinct_masks])
    mask_index = np.array([distinct_masks[mask] for mask in masks])
    result = np.zeros((len(box_lists), len(box_lists)), bool)
    for rows in _row_blocks(len(boxes), len(boxes)):
        earlier = slice(rows.stop)  # the matrix is symmetric
        conflicts = ~pairwise_overlaps(boxes[rows], boxes[earlier], threshold)
        conflicts &= share_words[mask_index[rows]][:, mask_index[earlier]]
        _or_by_owners(result, owners[rows], conflicts, owners[earlier])
    return result | result.T


def _flatten(box_lists: BoxLists) -> tuple[list[XYWH], npt.NDArray[np.int_]]:
    """Returns all boxes, and for each the index of its list."""
    boxes = [box for box_list in box_lists for box in box_list]
    return boxes, np.repeat(np.arange(len(box_lists)), [len(box_list) for box_list in box_lists])


def _or_by_owners(
    result: Matrix, a_owners: npt.NDArray[np.int_], pairs: Matrix, b_owners: npt.NDArray[np.int_]
) -> None:
    """Sets ``result`` where any pair of two owners' boxes is set; an owner's boxes are adjacent."""
    a_first = np.flatnonzero(np.diff(a_owners, prepend=-1))
    b_first = np.flatnonzero(np.diff(b_owners, prepend=-1))
    by_b_owner = np.logical_or.reduceat(pairs, b_first, axis=1)
    owners = np.ix_(a_owners[a_first], b_owners[b_first])
    result[owners] |= np.logical_or.reduceat(by_b_owner, a_first, axis=0)


def _row_blocks(rows: int, columns: int) -> Iterator[slice]:
    """Divides the rows of a matrix into blocks of about ``BLOCK_SIZE`` elements."""
    height = max(1, BLOCK_SIZE // columns)
    return (slice(start, start + height) for start in range(0, rows, height))


def _corners(boxes: Sequence[XYWH]) -> Boxes:
    corners = as_array(boxes)
    corners[:, 2:] += corners[:, :2]
    return corners

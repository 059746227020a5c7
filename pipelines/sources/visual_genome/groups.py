"""Descriptions of Visual Genome held against each other: each has several boxes.

Most images have few with the same words, for which numpy is slow; an image where thousands say
the same must not take minutes.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipelines.sources.visual_genome.boxes import XYWH, blocks, iou_over, overlaps

FEW = 1000  # pairs of boxes, up to which they are compared one by one

Pairs = npt.NDArray[np.bool_]
BoxLists = Sequence[Sequence[XYWH]]  # none of them empty


def touching(a: BoxLists, b: BoxLists, threshold: float) -> Pairs:
    """Whether a box of ``a[i]`` and one of ``b[j]`` overlap, shape (len(a), len(b))."""
    result = np.zeros((len(a), len(b)), bool)
    if sum(map(len, a)) * sum(map(len, b)) <= FEW:
        for i, one in enumerate(a):
            for j, other in enumerate(b):
                result[i, j] = any(not iou_over(x, y, threshold) < 0 for x in one for y in other)
        return result
    a_boxes, a_owners = _flat(a)
    b_boxes, b_owners = _flat(b)
    for rows in blocks(len(a_boxes), len(b_boxes)):
        _add(result, a_owners[rows], overlaps(a_boxes[rows], b_boxes, threshold), b_owners)
    return result


def agreeing(of_each: BoxLists, marks: Sequence[Sequence[int]], threshold: float) -> Pairs:
    """Whether boxes of common words overlap, and every box has words to compare.

    Shape (n, n). ``marks`` has for each box the bit set of its words.
    """
    comparable = np.array([all(of_one) for of_one in marks], bool)
    if sum(map(len, of_each)) ** 2 <= FEW:
        apart = np.zeros((len(of_each), len(of_each)), bool)
        for i in np.flatnonzero(comparable).tolist():
            for j in range(i):
                apart[i, j] = apart[j, i] = any(
                    x_mark & y_mark and iou_over(x, y, threshold) < 0
                    for x, x_mark in zip(of_each[i], marks[i], strict=True)
                    for y, y_mark in zip(of_each[j], marks[j], strict=True)
                )
    else:
        apart = _apart(of_each, [mark for of_one in marks for mark in of_one], threshold)
    return ~apart & comparable[:, None] & comparable[None, :]


def _apart(of_each: BoxLists, marks: list[int], threshold: float) -> Pairs:
    """Whether a box of one and a box of the other have common words, and do not overlap."""
    boxes, owners = _flat(of_each)
    kinds = {mark: kind for kind, mark in enumerate(dict.fromkeys(marks))}
    share = np.array([[bool(one & other) for other in kinds] for one in kinds])
    kind = np.array([kinds[mark] for mark in marks])
    result = np.zeros((len(of_each), len(of_each)), bool)
    for rows in blocks(len(boxes), len(boxes)):
        earlier = slice(rows.stop)  # the others have their own rows
        apart = ~overlaps(boxes[rows], boxes[earlier], threshold)
        apart &= share[kind[rows]][:, kind[earlier]]
        _add(result, owners[rows], apart, owners[earlier])
    return result | result.T


def _flat(of_each: BoxLists) -> tuple[list[XYWH], npt.NDArray[np.int_]]:
    """All boxes, and for each whose it is."""
    boxes = [box for of_one in of_each for box in of_one]
    return boxes, np.repeat(np.arange(len(of_each)), [len(of_one) for of_one in of_each])


def _add(
    result: Pairs, a_owners: npt.NDArray[np.int_], pairs: Pairs, b_owners: npt.NDArray[np.int_]
) -> None:
    """Sets what any pair of the owners' boxes has; the boxes of one owner are neighbors."""
    a_first = np.flatnonzero(np.diff(a_owners, prepend=-1))
    b_first = np.flatnonzero(np.diff(b_owners, prepend=-1))
    by_owner = np.logical_or.reduceat(pairs, b_first, axis=1)
    at = np.ix_(a_owners[a_first], b_owners[b_first])
    result[at] |= np.logical_or.reduceat(by_owner, a_first, axis=0)

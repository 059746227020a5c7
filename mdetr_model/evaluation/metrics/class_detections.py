"""Detected objects of many classes, as columns, and the best of them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.floating[Any]]

#: Rows that `BestOfClasses` collects before it drops the worse ones.
MIN_ROWS_TO_PRUNE = 2_000_000


class ClassDetections(NamedTuple):
    """N detected objects, of any images and classes.

    Attributes:
        image_ids, category_ids: (N,)
        scores: (N,)
        boxes: (N, 4), as xyxy in pixels of the image.
    """

    image_ids: Ids
    category_ids: Ids
    scores: Numbers
    boxes: Numbers

    def take(self, rows: npt.NDArray[Any] | slice) -> "ClassDetections":
        """Returns the detections of the rows: an index, a mask or a slice."""
        return ClassDetections(
            self.image_ids[rows], self.category_ids[rows], self.scores[rows], self.boxes[rows]
        )


def concatenate(parts: Sequence[ClassDetections]) -> ClassDetections:
    """Returns the detections of all parts, in order; none without parts."""
    ids, numbers = np.zeros(0, np.int64), np.zeros(0, np.float32)
    all_parts = [ClassDetections(ids, ids, numbers, numbers.reshape(0, 4)), *parts]
    return ClassDetections(
        image_ids=np.concatenate([part.image_ids for part in all_parts]),
        category_ids=np.concatenate([part.category_ids for part in all_parts]),
        scores=np.concatenate([part.scores for part in all_parts]),
        boxes=np.concatenate([part.boxes for part in all_parts]),
    )


def best_of_each(groups: Ids, scores: Numbers, count: int) -> Ids:
    """Returns the rows (M,) of the ``count`` highest scores of each group, in ascending order.

    Of equal scores, earlier rows are kept.

    Args:
        groups: (N,) the group of each row.
        scores: (N,)
        count: maximum rows of a group.
    """
    order = np.lexsort((-scores, groups))  # stable
    ordered = groups[order]
    rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return np.sort(order[rank < count])


def best_of_classes(detections: ClassDetections, count: int) -> ClassDetections:
    """Returns the ``count`` best detections of each class, by image id.

    Of equal scores, those of lower image ids are kept, so that the order of images does not matter.
    """
    by_image = detections.take(np.argsort(detections.image_ids, kind="stable"))
    return by_image.take(best_of_each(by_image.category_ids, by_image.scores, count))


class BestOfClasses:
    """Collects the best detections of each class, in the memory of a few times their number.

    Args:
        category_ids: of all classes, none negative.
        count: maximum detections of a class.
    """

    def __init__(self, category_ids: Sequence[int], count: int) -> None:
        self._count = count
        self._best = concatenate([])
        self._added: list[ClassDetections] = []
        self._num_added = 0
        # The score that a detection needs, by category id.
        self._min_scores = np.full(max(category_ids) + 1, -np.inf, np.float32)

    def add(self, detections: ClassDetections) -> None:
        """Adds the detections of an image, of which those that are too bad are not kept."""
        needed = self._min_scores[detections.category_ids]
        added = detections.take(detections.scores >= needed)
        self._added.append(added)
        self._num_added += len(added.scores)
        if self._num_added > max(MIN_ROWS_TO_PRUNE, len(self._best.scores)):
            self.best()

    def best(self) -> ClassDetections:
        """Returns the best detections of each class so far."""
        self._best = best_of_classes(concatenate([self._best, *self._added]), self._count)
        self._added, self._num_added = [], 0
        category_ids, scores = self._best.category_ids, self._best.scores
        worst = np.full_like(self._min_scores, np.inf)
        np.minimum.at(worst, category_ids, scores.astype(np.float32))
        is_full = np.bincount(category_ids, minlength=len(worst)) == self._count
        self._min_scores = np.where(is_full, worst, -np.inf).astype(np.float32)
        return self._best

"""The best detections of images and of classes."""

import numpy as np
import pytest

from mdetr_model.evaluation.metrics import class_detections
from mdetr_model.evaluation.metrics.class_detections import (
    BestOfClasses,
    ClassDetections,
    best_of_classes,
    best_of_each,
    concatenate,
)


def random_detections(seed: int, image_id: int, count: int = 200) -> ClassDetections:
    """Returns detections of three classes, many with equal scores."""
    r = np.random.default_rng(seed)
    return ClassDetections(
        image_ids=np.full(count, image_id),
        category_ids=r.choice([2, 5, 9], count, p=[0.1, 0.3, 0.6]),
        scores=r.integers(0, 40, count).astype(np.float32) / 40,
        boxes=r.uniform(0, 9, (count, 4)).astype(np.float32),
    )


def test_best_of_each_group_keeps_order_and_earlier_rows() -> None:
    groups, scores = np.array([1, 2, 1, 1, 2]), np.array([0.5, 0.1, 0.5, 0.9, 0.3])
    assert best_of_each(groups, scores, 2).tolist() == [0, 1, 3, 4]
    assert best_of_each(groups, scores, 1).tolist() == [3, 4]
    assert best_of_each(groups[:0], scores[:0], 1).tolist() == []


@pytest.mark.parametrize("seed", range(5))
def test_best_of_classes_does_not_depend_on_order_or_ranks(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_detections, "MIN_ROWS_TO_PRUNE", 300)
    images = [random_detections(100 * seed + number, number) for number in range(20)]
    expected = best_of_classes(concatenate(images), 50)
    assert np.bincount(expected.category_ids).tolist() == [0, 0, 50, 0, 0, 50, 0, 0, 0, 50]
    ranks = [BestOfClasses([2, 5, 9], 50) for _ in range(3)]
    for number in np.random.default_rng(seed).permutation(20):
        ranks[number % 3].add(images[number])
    merged = best_of_classes(concatenate([rank.best() for rank in ranks]), 50)
    for ours, theirs in zip(merged, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)

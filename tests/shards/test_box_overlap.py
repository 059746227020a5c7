"""Overlaps of boxes, compared with shapely."""

from collections.abc import Callable

import numpy as np
import pytest
import shapely
from hypothesis import example, given
from hypothesis import strategies as st

from schemas import Box
from shards import box_overlap
from shards.box_overlap import (
    Boxes,
    area,
    as_array,
    giou,
    iou,
    largest_area,
    overlapping_pairs,
)


def box(x: int, y: int, width: int, height: int) -> Box:
    return (float(x), float(y), float(x + width), float(y + height))


PIXELS = st.integers(0, 600)
SIZES = st.integers(1, 400)
BOXES = st.lists(st.builds(box, PIXELS, PIXELS, SIZES, SIZES), min_size=1, max_size=5)


@given(BOXES, BOXES)
def test_iou_and_giou_equal_those_of_shapely(a: list[Box], b: list[Box]) -> None:
    of_a, of_b = shapely.box(*np.array(a).T)[:, None], shapely.box(*np.array(b).T)[None, :]
    intersection = shapely.area(shapely.intersection(of_a, of_b))
    union = shapely.area(shapely.union(of_a, of_b))
    envelope = shapely.area(shapely.envelope(shapely.union(of_a, of_b)))
    expected = intersection / union
    np.testing.assert_allclose(iou(as_array(a), as_array(b)), expected, rtol=1e-5, atol=1e-6)
    expected_giou = expected - (envelope - union) / envelope
    np.testing.assert_allclose(giou(as_array(a), as_array(b)), expected_giou, rtol=1e-4, atol=1e-5)


@given(BOXES)
def test_box_has_iou_and_giou_one_with_itself(boxes: list[Box]) -> None:
    array = as_array(boxes)
    assert np.all(np.diag(iou(array, array)) == 1)
    assert np.all(np.diag(giou(array, array)) == 1)
    assert np.array_equal(iou(array, array), iou(array, array).T)
    assert np.all(giou(array, array) <= iou(array, array))
    np.testing.assert_allclose(area(array), shapely.area(shapely.box(*np.array(boxes).T)))


def test_overlap_of_empty_boxes() -> None:
    empty, whole = as_array([(5, 5, 5, 5)]), as_array([(0, 0, 10, 10)])
    assert np.isnan(iou(empty, empty)).all()
    assert iou(empty, whole) == 0
    assert giou(empty, whole) == 0
    assert iou(as_array([]), whole).shape == (0, 1)
    assert iou(whole, as_array([])).shape == (1, 0)


def test_touching_boxes_do_not_overlap() -> None:
    left, right = as_array([(0, 0, 10, 10)]), as_array([(10, 0, 20, 10)])
    assert iou(left, right) == 0
    assert giou(left, right) == 0
    assert giou(left, as_array([(20, 0, 30, 10)])) == np.float32(-1 / 3)


def test_object_may_be_larger_than_its_box_by_a_pixel_on_each_side_and_a_twentieth() -> None:
    boxes = as_array([(100, 200, 110, 220), (5, 5, 5, 5)])
    np.testing.assert_allclose(largest_area(boxes), [1.05 * 12 * 22, 1.05 * 2 * 2])


EDGES = st.sampled_from([0.0, 5.0, 10.0, 15.0, 20.0, np.inf, np.nan])


@pytest.mark.parametrize("overlap", [iou, giou])
@given(
    boxes=st.lists(st.tuples(EDGES, EDGES, EDGES, EDGES), max_size=12),
    threshold=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
)
@example(boxes=[(0.0, 0.0, 1.0, 1.0)] * 7, threshold=0.5)  # several blocks
def test_overlapping_pairs_are_those_of_the_whole_matrix(
    overlap: Callable[[Boxes, Boxes], Boxes], boxes: list[Box], threshold: float
) -> None:
    """Also with empty boxes, and boxes that are not of numbers."""
    array = as_array(boxes)
    with np.errstate(invalid="ignore"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(box_overlap, "_BLOCK", (3, 2))
        pairs = [
            pair
            for first, second in overlapping_pairs(array, overlap, threshold)
            for pair in zip(first.tolist(), second.tolist(), strict=True)
        ]
        matrix = overlap(array, array) > threshold
    expected = {frozenset(pair) for pair in np.argwhere(matrix).tolist()}
    assert set(map(frozenset, pairs)) == expected
    assert len(set(pairs)) == len(pairs)  # each in either order at most


def test_boxes_side_by_side_are_compared_with_their_neighbors_only() -> None:
    """100,000 boxes: their whole matrix would take 40 GB."""
    left = np.arange(100_000, dtype=np.float32) * 10
    boxes = np.stack([left, left * 0, left + 14, left * 0 + 10], axis=1)
    pairs = [
        pair
        for first, second in overlapping_pairs(boxes, iou, 0.1)
        for pair in zip(first.tolist(), second.tolist(), strict=True)
        if pair[0] != pair[1]
    ]
    assert {frozenset(pair) for pair in pairs} == {frozenset((i, i + 1)) for i in range(99_999)}

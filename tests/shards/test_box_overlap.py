"""Overlaps of boxes, compared with shapely."""

import numpy as np
import shapely
from hypothesis import given
from hypothesis import strategies as st

from schemas import Box
from shards.box_overlap import area, as_array, giou, iou


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

import time

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask

from pipelines.geometry.polygons import Runs, extent

# Sixteenths have exact areas: that of an outline which retraces itself is zero.
coordinates = st.integers(0, 640 * 16).map(lambda number: number / 16)
polygons = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=12).map(
    lambda corners: [number for corner in corners for number in corner]
)
masks = st.integers(1, 12).flatmap(
    lambda height: st.integers(1, 12).flatmap(
        lambda width: st.lists(st.booleans(), min_size=height * width, max_size=height * width).map(
            lambda pixels: np.array(pixels, np.uint8).reshape(height, width)
        )
    )
)


def test_box_is_around_all_polygons() -> None:
    squares = [[0.0, 0, 10, 0, 10, 10, 0, 10], [5.0, 5, 15, 5, 15, 15, 5, 15]]
    assert extent(squares) == (0, 0, 15, 15)


def test_self_crossing_polygon_covers_both_loops() -> None:
    assert extent([[0.0, 0, 10, 10, 10, 0, 0, 10]]) == (0, 0, 10, 10)


def test_polygons_that_cross_a_million_times_take_no_time() -> None:
    random = np.random.default_rng(0)
    polygon = (random.random(20_000) * 600).tolist()
    started = time.process_time()
    x0, y0, x1, y1 = extent([polygon, polygon[::-1]])
    assert time.process_time() - started < 1
    assert 0 <= x0 < 1 < 599 < x1 <= 600 and 0 <= y0 < 1 < 599 < y1 <= 600


def test_long_outline_that_cancels_out_is_refused() -> None:
    eight = [0.0, 0, 10, 10, 10, 0, 0, 10]
    assert extent([eight * 2]) == (0, 0, 10, 10)
    with pytest.raises(ValueError, match="cover nothing"):
        extent([eight * 100])


def test_outline_that_retraces_itself_covers_nothing_for_all_rounding_errors() -> None:
    corners = [0.0, 1.5, 1.188, 1.0, 0.0, 0.0, 1.188, 1.0, 1.188, 1.0]
    assert shapely.polygons(np.array(corners).reshape(-1, 2)).area > 0
    with pytest.raises(ValueError, match="cover nothing"):
        extent([corners])


@given(st.lists(polygons, min_size=1, max_size=4))
def test_box_is_that_of_the_union_of_all_polygons(shapes: list[list[float]]) -> None:
    corners = [np.array(shape).reshape(-1, 2) for shape in shapes]
    union = shapely.union_all([shapely.make_valid(shapely.polygons(c)) for c in corners])
    if union.area < 1e-7:  # all corners on a line, or an outline that retraces itself
        with pytest.raises(ValueError, match="cover nothing"):
            extent(shapes)
    else:
        assert extent(shapes) == pytest.approx(union.bounds, abs=1e-6)


@given(masks)
def test_plain_and_compressed_runs_agree_with_the_pixels(pixels: np.ndarray) -> None:
    height, width = pixels.shape
    changes = np.flatnonzero(np.diff(pixels.ravel(order="F"), prepend=0, append=2))
    plain = Runs((height, width), np.diff(changes, prepend=0).tolist())
    compressed = mask.encode(np.asfortranarray(pixels))["counts"].decode()
    packed = Runs((height, width), compressed)
    if not pixels.any():
        for runs in (plain, packed):
            with pytest.raises(ValueError, match="covers nothing"):
                extent(runs)
        return
    # pycocotools gives full height to runs that cross from one column into the next.
    rows, columns = np.nonzero(pixels)
    covered = extent(plain)
    assert covered == extent(packed)
    assert (covered[0], covered[2]) == (columns.min(), columns.max() + 1)
    assert covered[1] <= rows.min()
    assert covered[3] >= rows.max() + 1


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([], "cover nothing"),
        ([[]], "0 numbers"),
        ([[0.0, 0, 1, 1]], "4 numbers"),
        ([[0.0, 0, 1, 1, 2, 0, 5]], "7 numbers"),
        ([[0.0, 0, 1, 1, 2, 2]], "cover nothing"),
        ([[3.0, 3, 3, 3, 3, 3]], "cover nothing"),
        ([[0.0, 0, 1e300, 1, 2, 2]], "out of bounds"),
        ([[0.0, 0, float("nan"), 1, 2, 2]], "out of bounds"),
        (Runs((0, 5), []), "0 x 5"),
        (Runs((-2, -5), [10]), "-2 x -5"),
        (Runs((1 << 20, 1 << 20), "0"), "pixels"),
        (Runs((4, 4), []), "add up to 16"),
        (Runs((4, 4), [3, 4]), "add up to 16"),
        (Runs((4, 4), [-1, 17]), "add up to 16"),
        (Runs((4, 4), "PPP"), "end early"),
        (Runs((4, 4), "\x00"), "invalid"),
        (Runs((4, 4), "ooooooooooooo0"), "end early"),
        (Runs((4, 4), "1" * 40), "more than its size"),
    ],
)
def test_malformed_segmentation_is_refused(
    segmentation: list[list[float]] | Runs, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        extent(segmentation)


@given(st.text(st.characters(codec="latin-1"), max_size=12))
def test_any_compressed_counts_are_read_or_refused(counts: str) -> None:
    try:
        x0, y0, x1, y1 = extent(Runs((9, 7), counts))
    except ValueError:
        return
    assert 0 <= x0 < x1 <= 7
    assert 0 <= y0 < y1 <= 9

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pycocotools import mask

from pipelines.geometry.polygons import Extent, Runs, extent

coordinates = st.floats(0, 640, width=32)
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


def test_overlapping_polygons_count_once() -> None:
    squares = [[0.0, 0, 10, 0, 10, 10, 0, 10], [5.0, 5, 15, 5, 15, 15, 5, 15]]
    assert extent(squares) == Extent((0, 0, 15, 15), 175)


def test_self_crossing_polygon_covers_both_loops() -> None:
    assert extent([[0.0, 0, 10, 10, 10, 0, 0, 10]]) == Extent((0, 0, 10, 10), 50)


@given(st.lists(polygons, min_size=1, max_size=4))
def test_extent_is_within_the_corners_and_holds_the_area(shapes: list[list[float]]) -> None:
    xs = [x for shape in shapes for x in shape[::2]]
    ys = [y for shape in shapes for y in shape[1::2]]
    try:
        covered = extent(shapes)
    except ValueError:
        assume(False)  # all corners on a line, or an outline that retraces itself
    x0, y0, x1, y1 = covered.box
    assert min(xs) - 1e-6 <= x0 <= x1 <= max(xs) + 1e-6
    assert min(ys) - 1e-6 <= y0 <= y1 <= max(ys) + 1e-6
    assert 0 < covered.area <= (x1 - x0) * (y1 - y0) * (1 + 1e-9) + 1e-9


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
    assert covered.area == pixels.sum()
    assert (covered.box[0], covered.box[2]) == (columns.min(), columns.max() + 1)
    assert covered.box[1] <= rows.min()
    assert covered.box[3] >= rows.max() + 1


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
        covered = extent(Runs((9, 7), counts))
    except ValueError:
        return
    x0, y0, x1, y1 = covered.box
    assert 0 <= x0 < x1 <= 7
    assert 0 <= y0 < y1 <= 9

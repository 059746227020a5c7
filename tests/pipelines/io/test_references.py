"""Boxes of references in Parquet: x, y, width, height, never corners."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.io.raw_files import RawFileError
from pipelines.io.references import check_boxes, load_references

WIDTH, HEIGHT = 640, 480
Box = list[float]


def write(folder: Path | str, boxes: list[Any], image: str | None = None, **columns: Any) -> str:
    """Writes a row for each box; returns the path."""
    path = Path(folder) / "train-00000-of-00001.parquet"
    table = {"image_id": [*range(1, len(boxes) + 1)], "answer": [["a man"]] * len(boxes)}
    table |= {"bbox": pa.array(boxes, pa.list_(pa.float64()))}
    table |= {"raw_image_info": [image] * len(boxes)} if image else {}
    pq.write_table(pa.table(table | columns), path)
    return str(path)


def image(width: int = WIDTH, height: int = HEIGHT) -> str:
    return json.dumps({"id": 1, "file_name": "1.jpg", "width": width, "height": height})


def spread(count: int) -> list[Box]:
    """Returns corners of boxes that are all over an image."""
    return [
        [10.0 + 37 * i % 400, 10.0 + 29 * i % 300, 110.0 + 37 * i % 400, 90.0 + 29 * i % 300]
        for i in range(count)
    ]


def as_sizes(boxes: list[Box]) -> list[Box]:
    return [[x0, y0, x1 - x0, y1 - y0] for x0, y0, x1, y1 in boxes]


def problems(path: str) -> list[str]:
    return [reference["problem"] for reference in load_references(path)]


@pytest.mark.parametrize("size", [None, image()])
@pytest.mark.parametrize("count", [1, 10, 1000])
@pytest.mark.parametrize("bad", [[], [[5, 5, 5, 5]], [[7, 3, 7, 9]], [[0, 0, 0, 0]], [None], [[1]]])
def test_corners_are_refused_however_many_and_beside_bad_ones(
    tmp_path: Path, count: int, bad: list[Any], size: str | None
) -> None:
    path = write(tmp_path, [*bad, *spread(count)], size)
    with pytest.raises(RawFileError, match=r"parquet: bbox looks like corners .*raw_anns") as error:
        check_boxes(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("count", [10, 1000])
def test_corners_that_leave_the_image_as_sizes_are_refused_in_any_order(
    tmp_path: Path, count: int
) -> None:
    """A third is reversed, which no corners are; the others leave the image if they are sizes."""
    boxes = [[300.0, 200, 600, 400] if i % 3 else [600.0, 400, 30, 40] for i in range(count)]
    with pytest.raises(RawFileError, match="cannot be x, y, width, height"):
        check_boxes(write(tmp_path, boxes, image()))


@pytest.mark.parametrize("size", [None, image()])
@pytest.mark.parametrize("bad", [[], [[5, 5, 5, 5]], [[600, 400, 610, 410]], [None], [[1]]])
def test_sizes_are_accepted_beside_a_bad_one(
    tmp_path: Path, bad: list[Any], size: str | None
) -> None:
    for count in (4, 100):
        check_boxes(write(tmp_path, [*as_sizes(spread(count)), *bad], size))


def test_box_that_leaves_its_image_is_no_box_of_its_row(tmp_path: Path) -> None:
    good = [600.0, 400, 41, 81]  # by a pixel each
    path = write(tmp_path, [good, [600.0, 400, 42, 60], [-2.0, 0, 9, 9], good], image())
    check_boxes(path)
    assert problems(path) == [
        *("", "bbox [600.0, 400.0, 42.0, 60.0] leaves its image of 640x480"),
        *("bbox [-2.0, 0.0, 9.0, 9.0] leaves its image of 640x480", ""),
    ]
    assert [reference["annotation"] == "" for reference in load_references(path)] == [
        *(False, True, True, False)
    ]


@pytest.mark.parametrize("annotation", [None, ""])
def test_bbox_is_never_read_where_the_file_has_annotations(
    tmp_path: Path, annotation: str | None
) -> None:
    annotations = [annotation, json.dumps({"id": 0, "bbox": [1, 2, 3, 4]})]
    path = write(tmp_path, spread(2), raw_anns=annotations)
    check_boxes(path)  # nothing in the column is used
    assert problems(path) == ["raw_anns is empty", ""]
    assert [r["annotation"] for r in load_references(path)] == ["", annotations[1]]
    path = write(tmp_path, spread(2), raw_anns=pa.array([None, None], pa.string()))
    assert problems(path) == ["raw_anns is empty"] * 2


@st.composite
def corners_in_image(draw: st.DrawFn) -> Box:
    x0, y0 = draw(st.integers(0, WIDTH - 1)), draw(st.integers(0, HEIGHT - 1))
    return [x0, y0, draw(st.integers(x0 + 1, WIDTH)), draw(st.integers(y0 + 1, HEIGHT))]


@settings(max_examples=40, deadline=None)
@given(
    boxes=st.lists(corners_in_image(), min_size=1, max_size=60),
    has_sizes=st.booleans(),
    empty=st.booleans(),
)
def test_corners_are_never_read_as_sizes(boxes: list[Box], has_sizes: bool, empty: bool) -> None:
    boxes = boxes + [[9, 9, 9, 9]] * (empty and len(boxes) // 20)
    with tempfile.TemporaryDirectory() as folder:
        path = write(folder, boxes, image() if has_sizes else None)
        with pytest.raises(RawFileError, match="looks like corners"):
            check_boxes(path)

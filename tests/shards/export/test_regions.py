"""Boxes keep their float32 values, and spans their letters, in every export format."""

import itertools
import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.geometry.boxes import from_xywh
from schemas import Caption, Region, Span
from shards.export.regions import (
    float32_boxes,
    groundable_regions,
    merge_spans,
    to_xywh,
    visible_regions,
)

pixels = st.floats(0.125, 4000, width=32)
boxes = st.tuples(pixels, pixels, pixels, pixels).map(
    lambda sides: (
        min(sides[0], sides[2]),
        min(sides[1], sides[3]),
        max(sides[0], sides[2]),
        max(sides[1], sides[3]),
    )
)
TEXT = "the red  dog, and a cat's tail"
spans = st.lists(
    st.tuples(st.integers(0, len(TEXT)), st.integers(0, len(TEXT))).map(
        lambda ends: (min(ends), max(ends))
    ),
    max_size=5,
)


@given(boxes)
def test_box_survives_xywh_and_json(box: tuple[float, float, float, float]) -> None:
    [numbers] = float32_boxes([Region([], box)])
    x, y, width, height = json.loads(json.dumps(to_xywh(numbers)))
    assert from_xywh(x, y, width, height) == box


def test_box_has_few_digits() -> None:
    box = tuple(np.array([153.87387, 258.56, 298.77177, 467.2], np.float32).tolist())
    [numbers] = float32_boxes([Region([], box)])
    assert to_xywh(numbers) == [153.87387, 258.56, 144.89789, 208.64]


@given(spans)
def test_merged_spans_cover_the_same_letters_in_order(unmerged: list[Span]) -> None:
    merged = merge_spans(unmerged, TEXT)
    assert letters(merged) == letters(unmerged)
    for (_, stop), (start, _) in itertools.pairwise(merged):
        assert stop < start and TEXT[stop:start] != " "


def letters(covered: list[Span]) -> set[int]:
    return {i for start, stop in covered for i in range(start, stop) if TEXT[i] != " "}


def test_groundable_regions_are_visible_named_and_no_crowds() -> None:
    phrase = [(4, 7), (0, 3)]
    regions = [
        Region(phrase, (10, 10, 30, 30)),
        Region(phrase, (-5, 10, 700, 30)),  # beyond the image
        Region(phrase, (10, 10, 30, 30), crowd=True),
        Region([], (10, 10, 30, 30)),
        Region(phrase, (10, 10, 10.5, 30)),  # half a pixel wide
        Region(phrase, (650, 10, 690, 30)),  # outside
    ]
    caption = Caption(TEXT, regions, [], [])
    groundable = groundable_regions(caption, 640, 480)
    assert [exported.box for exported in groundable] == [[10, 10, 30, 30], [0, 10, 640, 30]]
    assert {exported.phrase for exported in groundable} == {"the red"}
    assert {tuple(exported.spans) for exported in groundable} == {((0, 7),)}
    assert [exported.region for exported in groundable] == regions[:2]
    visible = visible_regions(caption, 640, 480)
    assert [exported.region for exported in visible] == regions[:4]

"""The words and the numbers of a region, as the formats state them."""

import itertools
import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.geometry.boxes import from_xywh
from schemas import Caption, Region, Span
from shards.export.phrases import corners, named, pieces, visible, xywh

pixel = st.floats(0.125, 4000, width=32)
boxes = st.tuples(pixel, pixel, pixel, pixel).map(
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
def test_a_box_comes_back_from_width_and_height(box: tuple[float, float, float, float]) -> None:
    [numbers] = corners([Region([], box)])
    x, y, width, height = json.loads(json.dumps(xywh(numbers)))
    assert from_xywh(x, y, width, height) == box


def test_few_digits() -> None:
    box = tuple(np.array([153.87387, 258.56, 298.77177, 467.2], np.float32).tolist())
    [numbers] = corners([Region([], box)])
    assert xywh(numbers) == [153.87387, 258.56, 144.89789, 208.64]


@given(spans)
def test_pieces_name_the_same_letters_in_order(given_spans: list[Span]) -> None:
    found = pieces(given_spans, TEXT)
    assert letters(found) == letters(given_spans)
    for (_, stop), (start, _) in itertools.pairwise(found):
        assert stop < start and TEXT[stop:start] != " "


def letters(of: list[Span]) -> set[int]:
    return {at for start, stop in of for at in range(start, stop) if TEXT[at] != " "}


def test_what_a_detector_can_be_trained_on() -> None:
    words = [(4, 7), (0, 3)]
    regions = [
        Region(words, (10, 10, 30, 30)),
        Region(words, (-5, 10, 700, 30)),  # beyond the image
        Region(words, (10, 10, 30, 30), crowd=True),
        Region([], (10, 10, 30, 30)),
        Region(words, (10, 10, 10.5, 30)),  # half a pixel wide
        Region(words, (650, 10, 690, 30)),  # outside
    ]
    caption = Caption(TEXT, regions, [], [])
    found = named(caption, 640, 480)
    assert [of.box for of in found] == [[10, 10, 30, 30], [0, 10, 640, 30]]
    assert {of.phrase for of in found} == {"the red"}
    assert {tuple(of.spans) for of in found} == {((0, 7),)}
    assert [of.region for of in found] == regions[:2]
    assert [of.region for of in visible(caption, 640, 480)] == regions[:4]

"""Span arithmetic against the published results and against sets of characters."""

import gzip
import json
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pipelines.captions.spans import consolidate, intersects, shift
from schemas import Span

SPANS = st.lists(
    st.tuples(st.integers(-3, 45), st.integers(-3, 45)).map(lambda ends: (min(ends), max(ends))),
    max_size=6,
)
TEXTS = st.text(alphabet="abc  -.,'", max_size=40)


def characters(spans: list[Span]) -> set[int]:
    return {position for start, stop in spans for position in range(start, stop)}


def test_spans_equal_the_published_functions(reference: Path) -> None:
    path = reference / "golden" / "functions" / "text_spans.json.gz"
    rows = json.loads(gzip.decompress(path.read_bytes()))["rows"]
    assert len(rows) == 300
    for row in rows:
        given_spans = [(start, stop) for start, stop in row["spans"]]
        first, last = given_spans[0], given_spans[-1]
        # The published function cannot take an empty caption.
        expected = [] if row["consolidate"] == {"raises": "IndexError"} else row["consolidate"]
        assert [list(s) for s in consolidate(given_spans, row["caption"])] == expected
        assert [list(s) for s in shift(given_spans, 7)] == row["shifted_by_7"]
        assert intersects(first, [last]) == row["first_last_intersect"]


@given(SPANS, SPANS)
def test_intersection_equals_that_of_character_sets(a: list[Span], b: list[Span]) -> None:
    a = [span for span in a if span[0] < span[1]]
    b = [span for span in b if span[0] < span[1]]
    shared = bool(characters(a) & characters(b))
    assert any(intersects(span, b) for span in a) == shared


@given(st.integers(0, 10), SPANS)
def test_empty_span_intersects_the_span_around_it(at: int, others: list[Span]) -> None:
    assert intersects((at, at), others) == any(start <= at < stop for start, stop in others)


@given(SPANS, st.integers(-50, 50))
def test_shift_is_undone_by_its_opposite(spans: list[Span], offset: int) -> None:
    assert shift(shift(spans, offset), -offset) == spans


@given(SPANS, TEXTS)
def test_consolidated_spans_are_sorted_disjoint_and_end_in_words(
    spans: list[Span], text: str
) -> None:
    result = consolidate(spans, text)
    assert all(a[1] <= b[0] for a, b in pairwise(result))
    for start, stop in result:
        assert 0 <= start < stop <= len(text)
        assert any(char.isalnum() or char == "-" for char in text[start:stop])


@given(SPANS, TEXTS)
def test_consolidation_keeps_every_letter(spans: list[Span], text: str) -> None:
    spans = [span for span in spans if span[0] >= 0]
    letters = {position for position, char in enumerate(text) if char.isalnum()}
    consolidated = characters(consolidate(spans, text))
    assert characters(spans) & letters <= consolidated
    if "-" not in text:
        assert consolidated & letters == characters(spans) & letters


@given(SPANS, st.text(alphabet="abc  .,'", max_size=40))
def test_consolidation_without_hyphens_is_idempotent(spans: list[Span], text: str) -> None:
    once = consolidate(spans, text)
    assert consolidate(once, text) == once

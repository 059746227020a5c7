"""Span arithmetic against the published results and against sets of characters."""

import gzip
import json
from itertools import accumulate, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.captions.spans import (
    consolidate,
    consolidate_or_whole,
    intersects,
    shift,
    whole_graphemes,
)
from schemas import Span
from schemas.graphemes import is_within_grapheme
from tests.graphemes import EMOJIS, WORDS

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


@pytest.mark.parametrize(
    ("text", "span", "expected"),
    [
        ("a t-shirt on it", (2, 3), [(2, 9)]),
        ("-a", (1, 2), [(0, 2)]),
        (" -a", (2, 3), [(1, 3)]),
        ("ab-", (3, 10), [(0, 3)]),
        ("e\u0301-", (3, 10), [(0, 3)]),
        (".-a b", (0, 1), []),
    ],
)
def test_hyphen_at_an_end_takes_in_the_whole_word(
    text: str, span: Span, expected: list[Span]
) -> None:
    assert consolidate([span], text) == expected


def test_whole_text_replaces_spans_without_words_only() -> None:
    assert consolidate_or_whole([(2, 5)], "a cat sits") == [(2, 5)]
    assert consolidate_or_whole([(4, 5)], "a b #") == [(0, 3)]
    assert consolidate_or_whole([(0, 1)], "#?") == []


def test_empty_span_within_a_grapheme_covers_nothing() -> None:
    assert consolidate([(4, 4), (5, 4)], "cafe\u0301 x") == []


@pytest.mark.parametrize("graphemes", WORDS.values(), ids=WORDS)
def test_span_takes_in_whole_graphemes(graphemes: list[str]) -> None:
    word = "".join(graphemes)
    text = f"a {word} sign"
    assert consolidate([(2, 2 + len(word))], text) == [(2, 2 + len(word))]
    # From within the first to within the last grapheme.
    first, last = 2 + len(graphemes[0]) - 1, 2 + len(word) - len(graphemes[-1]) + 1
    if first < last:
        assert consolidate([(first, last)], text) == [(2, 2 + len(word))]


@pytest.mark.parametrize("emoji", EMOJIS.values(), ids=EMOJIS)
def test_emojis_are_trimmed_as_punctuation_marks_are(emoji: str) -> None:
    text = f"{emoji} a dog{emoji} {emoji}"
    dog = (len(emoji) + 1, len(emoji) + 6)
    assert consolidate([(0, len(text))], text) == [dog]
    assert consolidate([(0, len(emoji))], text) == []
    assert consolidate_or_whole([(0, len(emoji))], text) == [dog]


def test_spans_that_meet_within_a_grapheme_become_one() -> None:
    assert consolidate([(0, 4), (4, 6)], "cafe\u0301s") == [(0, 6)]
    assert consolidate([(0, 4), (5, 6)], "cafe\u0301s") == [(0, 5), (5, 6)]


LETTERS = st.sampled_from(["a", "b", "-", " ", ".", "e\u0301", "\u0939\u093f", "\u2764\ufe0f"])


@given(SPANS, st.lists(LETTERS, max_size=40))
def test_marks_do_not_change_which_graphemes_a_span_covers(
    spans: list[Span], graphemes: list[str]
) -> None:
    """A letter with marks is treated as a letter without, an emoji as a full stop."""
    plain = "".join("x" if g[0].isalnum() else g if g.isascii() else "." for g in graphemes)
    borders = list(accumulate(map(len, graphemes), initial=0))

    def offset(border: int) -> int:
        return borders[border] if 0 <= border < len(borders) else 1000 * border

    marked = [(offset(start), offset(stop)) for start, stop in spans]
    result = consolidate(marked, "".join(graphemes))
    assert result == [(borders[a], borders[b]) for a, b in consolidate(spans, plain)]


@given(SPANS, st.text(alphabet="ae\u0301\u0939\u093f\u200d\ufe0f\U0001f469 -.", max_size=20))
def test_consolidated_spans_of_any_text_split_no_grapheme(spans: list[Span], text: str) -> None:
    for span in consolidate(spans, text):
        assert not any(is_within_grapheme(text, border) for border in span)
        assert 0 <= span[0] < span[1] <= len(text)


def test_spans_take_in_all_of_a_grapheme() -> None:
    """Others stay as they are: within the text, empty ones, and those that begin or end outside."""
    text = "e\u0301a cafe\u0301"
    spans = [(0, 1), (1, 2), (0, 2), (1, 3), (4, 8), (4, 9), (2, 4), (8, 9)]
    whole = [(0, 2), (0, 2), (0, 2), (0, 3), (4, 9), (4, 9), (2, 4), (7, 9)]
    assert whole_graphemes(spans, text) == whole
    others = [(1, 1), (8, 8), (8, 1), (-1, 1), (8, 10), (9, 9)]
    assert whole_graphemes(others, text) == others
    assert whole_graphemes([(1, 9), (1, 1)], "abc") == [(1, 9), (1, 1)]

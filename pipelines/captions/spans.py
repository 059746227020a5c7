"""Arithmetic on character spans: half-open ``(start, stop)`` offsets into a caption."""

import functools
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

from schemas import Span
from schemas.graphemes import grapheme_borders, split_graphemes


def shift(spans: Iterable[Span], offset: int) -> list[Span]:
    """Moves spans by an offset.

    >>> shift([(0, 3), (4, 7)], 10)
    [(10, 13), (14, 17)]
    """
    return [(start + offset, stop + offset) for start, stop in spans]


def intersects(span: Span, others: Iterable[Span]) -> bool:
    """Returns whether a span shares a character with any other; an empty span inside one counts.

    >>> intersects((0, 4), [(3, 5)]), intersects((0, 4), [(4, 6)])
    (True, False)
    """
    start, stop = span
    return any(start <= a < stop or a <= start < b for a, b in others)


def consolidate(spans: Iterable[Span], text: str) -> list[Span]:
    r"""Returns sorted spans that do not overlap, each from word border to word border.

    Overlapping spans become one, characters that are neither letters nor digits are trimmed from
    both ends, and a span that ends or starts at a hyphen takes in the whole hyphenated word.
    Spans with no letter or digit are dropped unless a hyphen is next to them, and so are those that
    begin before the text. A character is a whole grapheme: an accent is not cut off its letter, and
    a span that covers a part of a grapheme takes in all of it.

    >>> consolidate([(10, 16), (0, 3)], "the short-haired girl.")
    [(0, 3), (4, 16)]
    >>> consolidate([(0, 4)], "cafe\u0301 sign")
    [(0, 5)]
    """
    if text.isascii():
        return _consolidate(spans, text)
    borders = grapheme_borders(text)
    by_grapheme = [_to_graphemes(span, borders) for span in spans]
    cleaned = _consolidate(by_grapheme, _main_characters(text))
    return [(borders[start], borders[stop]) for start, stop in cleaned]


def consolidate_or_whole(spans: Iterable[Span], text: str) -> list[Span]:
    """Returns the consolidated spans or, if they have no words, the span of all words of the text.

    The root phrase of "# of a bus" is a punctuation mark, and that of another text an emoji.

    >>> consolidate_or_whole([(0, 1)], "# of a bus")
    [(2, 10)]
    """
    return consolidate(spans, text) or consolidate([(0, len(text))], text)


def whole_graphemes(spans: Iterable[Span], text: str) -> list[Span]:
    r"""Returns spans that take in all of a grapheme of which they cover a part.

    >>> whole_graphemes([(0, 4), (6, 10)], "cafe\u0301 sign")
    [(0, 5), (6, 10)]
    """
    if text.isascii():
        return list(spans)
    borders = grapheme_borders(text)
    return [
        (borders[bisect_right(borders, start) - 1], borders[bisect_left(borders, stop)])
        if 0 <= start < stop <= len(text)
        else (start, stop)
        for start, stop in spans
    ]


def _to_graphemes(span: Span, borders: Sequence[int]) -> Span:
    """Returns a span of code points as a span of the graphemes that it covers or is in.

    A span that begins outside the text remains outside, and an empty or reversed one is empty.
    """
    start, stop = span
    if not 0 <= start <= borders[-1]:
        return span
    first = bisect_right(borders, start) - 1
    return first, bisect_left(borders, stop) if start < stop else first


@functools.lru_cache(maxsize=64)
def _main_characters(text: str) -> str:
    """Returns the main character of each grapheme."""
    return "".join(map(_main_character, split_graphemes(text)))


def _main_character(grapheme: str) -> str:
    """Returns the letter or digit of a grapheme, or else its first character."""
    return next(filter(str.isalnum, grapheme), grapheme[0])


def _consolidate(spans: Iterable[Span], text: str) -> list[Span]:
    cleaned = _clean(spans, text)
    # A hyphenated word is included with the space after it, so spans may overlap now.
    return _clean(cleaned, text) if "-" in text else cleaned


def _clean(spans: Iterable[Span], text: str) -> list[Span]:
    return [
        span
        for span in (_to_word_borders(span, text) for span in _union(spans))
        if span is not None
    ]


def _union(spans: Iterable[Span]) -> list[Span]:
    """Joins overlapping spans; spans that only touch stay two."""
    union: list[Span] = []
    for start, stop in sorted(spans):
        if union and start < union[-1][1]:
            union[-1] = (union[-1][0], max(stop, union[-1][1]))
        else:
            union.append((start, stop))
    return union


def _to_word_borders(span: Span, text: str) -> Span | None:
    start, stop = span[0], min(span[1], len(text))
    if start < 0:
        return None
    while start < len(text) and not text[start].isalnum():
        start += 1
    while stop > 0 and not text[stop - 1].isalnum():
        stop -= 1
    if stop < len(text) and text[stop] == "-":
        space = text.find(" ", stop)
        stop = len(text) if space == -1 else space + 1
    if 0 < start <= len(text) and text[start - 1] == "-":
        start = text.rfind(" ", 0, start) + 1
    return (start, stop) if start < stop else None

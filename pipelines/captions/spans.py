"""Arithmetic on character spans: half-open ``(start, stop)`` offsets into a caption."""

from collections.abc import Iterable

from schemas import Span


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
    """Returns sorted spans that do not overlap, each from word border to word border.

    Overlapping spans become one, characters that are neither letters nor digits are trimmed from
    both ends, and a span that ends or starts at a hyphen takes in the whole hyphenated word.
    Spans with no letter or digit are dropped unless a hyphen is next to them, and so are those that
    begin before the text.

    >>> consolidate([(10, 16), (0, 3)], "the short-haired girl.")
    [(0, 3), (4, 16)]
    """
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

"""A caption and its boxes in matching colors: text segments with the phrases that cover them."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise
from typing import NamedTuple

from schemas import Caption, Region, Span

COLORS = 7  # of the style sheet; the eighth phrase has the color of the first
MAX_SPANS = 200  # underlined phrases: time and page size grow quadratically with nested spans


class PhraseMark(NamedTuple):
    """The underline of a phrase within a text segment.

    ``number`` counts the phrases from 1, ``color`` is an index from 0. ``level`` is the
    number of underlines between the text and this one. ``is_end``: whether the phrase ends with
    this segment, apart from a continuation after whitespace only.
    """

    number: int
    color: int
    level: int
    is_end: bool


class TextSegment(NamedTuple):
    """Some characters of a caption with the phrases that cover them, the outermost line first."""

    text: str
    marks: list[PhraseMark]


class BoxOutline(NamedTuple):
    """A box (xywh, pixels of the image) and its phrase, which may be ''.

    ``number`` and ``color`` are those of the phrase's `PhraseMark`; None if it is not underlined.
    ``region`` is the index of the caption's region.
    """

    x: float
    y: float
    width: float
    height: float
    number: int | None
    color: int | None
    phrase: str
    region: int


class MarkedCaption(NamedTuple):
    """A caption as consecutive segments, and the outlines of its boxes, the largest first.

    ``unmarked_count`` is the number of phrases beyond the limit, which are not underlined.
    """

    segments: list[TextSegment]
    outlines: list[BoxOutline]
    unmarked_count: int


class _NumberedPhrase(NamedTuple):
    """The spans that name one box or several."""

    number: int
    spans: tuple[Span, ...]

    @property
    def length(self) -> int:
        return sum(stop - start for start, stop in self.spans)

    @property
    def color(self) -> int:
        return (self.number - 1) % COLORS

    def overlaps(self, other: "_NumberedPhrase") -> bool:
        return any(a < d and c < b for a, b in self.spans for c, d in other.spans)

    def continues(self, text: str, stop: int) -> bool:
        """Returns whether another span of the phrase follows ``stop`` after whitespace only."""
        return any(start >= stop and not text[stop:start].strip() for start, _ in self.spans)


def mark_caption(caption: Caption) -> MarkedCaption:
    """Splits a caption into segments and gives each phrase and its boxes a number and a color.

    Numbers follow the order of the text. Spans are clipped to the text.
    """
    text = caption.text
    region_spans = [_clip(region.spans, len(text)) for region in caption.regions]
    unique = sorted({spans for spans in region_spans if spans})
    totals = list(accumulate(map(len, unique)))
    marked = unique[: bisect_right(totals, MAX_SPANS)]
    phrases = {spans: _NumberedPhrase(number, spans) for number, spans in enumerate(marked, 1)}
    outlines = [
        _outline(index, region, text, spans, phrases.get(spans))
        for index, (region, spans) in enumerate(zip(caption.regions, region_spans, strict=True))
    ]
    outlines.sort(key=lambda outline: -outline.width * outline.height)
    return MarkedCaption(
        segments=list(_segments(text, list(phrases.values()))),
        outlines=outlines,
        unmarked_count=len(unique) - len(marked),
    )


def _clip(spans: Iterable[Span], length: int) -> tuple[Span, ...]:
    clipped = ((max(start, 0), min(stop, length)) for start, stop in spans)
    return tuple(sorted({(start, stop) for start, stop in clipped if start < stop}))


def _segments(text: str, phrases: list[_NumberedPhrase]) -> Iterator[TextSegment]:
    levels = _underline_levels(phrases)
    outermost_first = sorted(phrases, key=lambda phrase: -levels[phrase.number])
    borders = {0, len(text), *(b for phrase in phrases for span in phrase.spans for b in span)}
    for start, stop in pairwise(sorted(borders)):
        marks = []
        for phrase in outermost_first:
            span = next((s for s in phrase.spans if s[0] <= start and stop <= s[1]), None)
            if span is not None:
                is_end = stop == span[1] and not phrase.continues(text, stop)
                level = levels[phrase.number]
                marks.append(PhraseMark(phrase.number, phrase.color, level, is_end))
        yield TextSegment(text[start:stop], marks)


def _underline_levels(phrases: list[_NumberedPhrase]) -> dict[int, int]:
    """Returns the level of each phrase's underline, which is the same in all of its segments.

    Short phrases are nearest to the text; phrases that overlap have different levels.
    """
    levels: dict[int, int] = {}
    placed: list[_NumberedPhrase] = []
    for phrase in sorted(phrases, key=lambda phrase: (phrase.length, phrase.number)):
        above = [levels[other.number] for other in placed if phrase.overlaps(other)]
        levels[phrase.number] = max(above, default=-1) + 1
        placed.append(phrase)
    return levels


def _outline(
    index: int, region: Region, text: str, spans: Iterable[Span], phrase: _NumberedPhrase | None
) -> BoxOutline:
    x0, y0, x1, y1 = region.box
    return BoxOutline(
        x=x0,
        y=y0,
        width=max(x1 - x0, 0.0),
        height=max(y1 - y0, 0.0),
        number=None if phrase is None else phrase.number,
        color=None if phrase is None else phrase.color,
        phrase=" … ".join(text[start:stop] for start, stop in spans),
        region=index,
    )

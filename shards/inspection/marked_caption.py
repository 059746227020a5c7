"""A caption and its boxes in matching colors: cut into pieces that the same regions name."""

from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate, pairwise
from typing import NamedTuple

from schemas import Caption, Region, Span

COLORS = 7  # of the style sheet; what names the eighth object has the first one's again
MOST_SPANS = 200  # that are marked: time and page grow with the square of nested ones


class Mark(NamedTuple):
    """Words that name something: its ``number`` from 1, and its ``color`` from 0.

    ``level`` is how many marks lie below this one's line, from 0; ``ends`` says that the words end
    here, with no more of them behind a mere space.
    """

    number: int
    color: int
    level: int
    ends: bool


class Piece(NamedTuple):
    """Some characters of a caption, and what they name, the mark of the most words first."""

    text: str
    marks: list[Mark]


class Outline(NamedTuple):
    """A box in pixels of the image, and the words that name it, if any do.

    ``number`` and ``color`` are None where no mention is marked for it.
    """

    x: float
    y: float
    width: float
    height: float
    number: int | None
    color: int | None
    words: str


class MarkedCaption(NamedTuple):
    """The pieces of a text, one after another, and the outlines of its boxes, large ones first.

    ``unmarked`` mentions, the last ones of very many, have neither a number nor a color.
    """

    pieces: list[Piece]
    outlines: list[Outline]
    unmarked: int


class _Mention(NamedTuple):
    """The words of a text that name one or several boxes."""

    number: int
    spans: tuple[Span, ...]

    @property
    def characters(self) -> int:
        return sum(end - begin for begin, end in self.spans)

    def overlaps(self, other: "_Mention") -> bool:
        return any(a < d and c < b for a, b in self.spans for c, d in other.spans)


def mark(caption: Caption) -> MarkedCaption:
    """Boxes that the same words name share a number and a color; numbers follow the text.

    Spans are taken as far as they lie in the text.
    """
    text = caption.text
    spans_of = [_within(region.spans, len(text)) for region in caption.regions]
    named = sorted({spans for spans in spans_of if spans})
    lengths = list(accumulate(map(len, named)))
    marked = named[: bisect_right(lengths, MOST_SPANS)]
    mentions = {spans: _Mention(number, spans) for number, spans in enumerate(marked, 1)}
    outlines = [
        _outline(region, text, spans, mentions.get(spans))
        for region, spans in zip(caption.regions, spans_of, strict=True)
    ]
    outlines.sort(key=lambda outline: -outline.width * outline.height)
    pieces = list(_pieces(text, list(mentions.values())))
    return MarkedCaption(pieces, outlines, len(named) - len(marked))


def _within(spans: Iterable[Span], length: int) -> tuple[Span, ...]:
    cut = ((max(begin, 0), min(end, length)) for begin, end in spans)
    return tuple(sorted({(begin, end) for begin, end in cut if begin < end}))


def _pieces(text: str, mentions: list[_Mention]) -> Iterable[Piece]:
    levels = _levels(mentions)
    cuts = {0, len(text), *(at for of in mentions for span in of.spans for at in span)}
    for begin, end in pairwise(sorted(cuts)):
        marks = []
        for of in sorted(mentions, key=lambda of: -levels[of.number]):
            if span := next((s for s in of.spans if s[0] <= begin and end <= s[1]), None):
                ends = end == span[1] and not _goes_on(of, text, end)
                marks.append(Mark(of.number, _color(of), levels[of.number], ends))
        yield Piece(text[begin:end], marks)


def _goes_on(of: _Mention, text: str, end: int) -> bool:
    return any(begin >= end and not text[end:begin].strip() for begin, _ in of.spans)


def _levels(mentions: list[_Mention]) -> dict[int, int]:
    """Fewer words lie nearer to the text, so that the line below a mention never jumps."""
    levels: dict[int, int] = {}
    placed: list[_Mention] = []
    for of in sorted(mentions, key=lambda of: (of.characters, of.number)):
        below = [levels[other.number] for other in placed if of.overlaps(other)]
        levels[of.number] = max(below, default=-1) + 1
        placed.append(of)
    return levels


def _outline(region: Region, text: str, spans: Iterable[Span], mention: _Mention | None) -> Outline:
    x0, y0, x1, y1 = region.box
    place = (x0, y0, max(x1 - x0, 0.0), max(y1 - y0, 0.0))
    words = " … ".join(text[begin:end] for begin, end in spans)
    if mention is None:
        return Outline(*place, None, None, words)
    return Outline(*place, mention.number, _color(mention), words)


def _color(mention: _Mention) -> int:
    return (mention.number - 1) % COLORS

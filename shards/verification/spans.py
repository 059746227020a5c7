"""Spans of a caption: inside the text, at the borders of words, and of which sentence."""

import heapq
from collections.abc import Sequence

from schemas import Caption, Provenance, Span
from schemas.graphemes import is_within_grapheme, is_within_word


def is_inside(span: Span, text: str) -> bool:
    """Returns whether a half-open span is not empty and inside the text."""
    return 0 <= span[0] < span[1] <= len(text)


def part_spans(caption: Caption) -> list[Span]:
    """Returns the spans of a caption's sentences and absent phrases, merged.

    Each of the two is left in its order, so that one that is not ascending shows.
    """
    sentences = [origin.span for origin in caption.provenance]
    return list(heapq.merge(sentences, [phrase.span for phrase in caption.absent]))


def sentence_index(span: Span, provenance: Sequence[Provenance]) -> int | None:
    """Returns the index of the sentence that contains the whole span."""
    for index, sentence in enumerate(provenance):
        if sentence.span[0] <= span[0] and span[1] <= sentence.span[1]:
            return index
    return None


def spans_that_split_words(text: str, spans: Sequence[Span]) -> list[Span]:
    r"""Returns the spans inside the text that begin or end within a word or a grapheme.

    A grapheme is a letter with its accents, for example. Where one span ends and another begins, no
    word is split: spaCy's tokenizer divides "dont" and "10am" into two tokens each, and so do
    captions.

    >>> spans_that_split_words("the man's t-shirt", [(4, 7), (7, 9), (10, 11), (4, 6)])
    [(4, 6)]
    >>> spans_that_split_words("10am", [(0, 2)]), spans_that_split_words("10am", [(0, 2), (2, 4)])
    ([(0, 2)], [])
    >>> spans_that_split_words("cafe\u0301", [(0, 4), (4, 5)])
    [(0, 4), (4, 5)]
    """
    within = {border for border in {b for s in spans for b in s} if is_within_word(text, border)}
    if not within:
        return []
    candidates = [span for span in spans if is_inside(span, text) and not within.isdisjoint(span)]
    joints = {start for start, _ in spans} & {stop for _, stop in spans}
    return [
        span
        for span in candidates
        if any(
            is_within_grapheme(text, border)
            or (border not in joints and is_within_word(text, border))
            for border in span
        )
    ]


def has_space_around(text: str, span: Span) -> bool:
    """Returns whether a span inside the text begins or ends with white space.

    >>> has_space_around("a cat", (1, 5)), has_space_around("a cat", (2, 5))
    (True, False)
    """
    return text[span[0]].isspace() or text[span[1] - 1].isspace()

"""Maps the spans of Visual Genome phrases to their cleaned text, and compares captions."""

import abc
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from pipelines.captions.parsing import Parse
from pipelines.captions.spans import consolidate_or_whole, intersects
from pipelines.captions.text_cleanup import clean_with_offsets, has_alphanumeric, lower
from schemas import Span
from schemas.graphemes import is_within_word


class TextRules(abc.ABC):
    """The text rules of a recipe, for captions that are already parsed.

    Args:
        parses: the parse of every text of ``texts_to_parse``.
        stop_words: words that are ignored when captions are compared.
    """

    #: captions about a "wall" that have no other words than these have spurious boxes
    uninformative_words: ClassVar[frozenset[str]]

    def __init__(self, parses: Mapping[str, Parse], stop_words: Iterable[str]) -> None:
        self._parses = parses
        self._stop_words = frozenset(stop_words)

    @staticmethod
    def texts_to_parse(caption: str) -> tuple[str, ...]:
        """Returns the texts whose parses a caption needs."""
        return (lower(caption),)

    def parse(self, caption: str) -> Parse:
        """Returns the parse of the caption in lower case."""
        return self._parses[lower(caption)]

    @abc.abstractmethod
    def map_spans(
        self, phrase: str, caption: str, spans: Sequence[Span]
    ) -> list[Span | None] | None:
        """Maps spans of the raw phrase to spans of the cleaned caption.

        Returns:
            A span for each, None where it covers no words. None instead of the list if the
            clean-up of the phrase cannot be followed.
        """

    @abc.abstractmethod
    def root_spans(self, root: Sequence[Span], caption: str) -> list[Span]:
        """Returns the spans that the boxes of the root phrase get."""

    @abc.abstractmethod
    def content_lemmas(self, caption: str) -> tuple[str, ...] | None:
        """Returns the lemmas by which captions are compared; None if there are no words."""

    @abc.abstractmethod
    def content_masks(self, caption: str, spans: Sequence[Sequence[Span]]) -> list[int] | None:
        """Returns for the spans of each box a bit mask of the content that they cover.

        A bit means the same in every caption with the same ``content_lemmas``. None if the spans
        cannot be mapped to the content.
        """


class TokenTextRules(TextRules):
    """Maps spans character by character, and compares captions token by token."""

    # As in "the wall on the side of the building": prepositions of place are not stop words here.
    uninformative_words: ClassVar = frozenset(
        ("wall", "side", "building", "on", "at", "to", "in", "by")
    )

    def map_spans(
        self, phrase: str, caption: str, spans: Sequence[Span]
    ) -> list[Span | None] | None:
        offsets = range(len(phrase)) if phrase == caption else clean_with_offsets(phrase)[1]
        mapped: list[Span | None] = []
        for start, stop in spans:
            span = (bisect_left(offsets, start), bisect_left(offsets, stop))
            in_phrase = start >= 0 and stop <= len(phrase)
            has_words = in_phrase and has_alphanumeric(caption[slice(*span)])
            mapped.append(_extend_to_words(span, caption) if has_words else None)
        return mapped

    def root_spans(self, root: Sequence[Span], caption: str) -> list[Span]:
        return consolidate_or_whole(root, caption)

    def content_lemmas(self, caption: str) -> tuple[str, ...] | None:
        parse = self.parse(caption)
        lemmas = tuple([parse.lemmas[i].lower() for i in self._content_tokens(parse)])
        # A caption that has only stop words is compared word by word.
        return lemmas or tuple(word for word in parse.words if has_alphanumeric(word)) or None

    def content_masks(self, caption: str, spans: Sequence[Sequence[Span]]) -> list[int] | None:
        parse = self.parse(caption)
        words = [parse.span(i) for i in self._content_tokens(parse)]
        return [
            sum(1 << bit for bit, word in enumerate(words) if intersects(word, box_spans))
            for box_spans in spans
        ]

    def _content_tokens(self, parse: Parse) -> list[int]:
        return [
            i
            for i, word in enumerate(parse.words)
            if word not in self._stop_words and has_alphanumeric(word)
        ]


def _extend_to_words(span: Span, text: str) -> Span:
    """Extends a span to whole words, because some annotations are off by a character.

    >>> _extend_to_words((3, 5), "a paw"), _extend_to_words((1, 3), "a cat on it")
    ((2, 5), (1, 5))
    """
    start, stop = span
    while start < stop and is_within_word(text, start):
        start -= 1
    while start < stop and is_within_word(text, stop):
        stop += 1
    return start, stop

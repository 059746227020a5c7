"""How spans of a Visual Genome phrase follow its clean-up: by a map of its characters."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from pipelines.captions.parsing import Parse, clean_with_origins, lower
from pipelines.captions.spans import consolidate, intersects
from schemas import Span


class Tokens:
    """Spans are carried over character by character; content is compared token by token."""

    # "the wall on the side of the building": the words of place are no stop words here
    uninformative: ClassVar = frozenset(("wall", "side", "building", "on", "at", "to", "in", "by"))

    def __init__(self, parses: Mapping[str, Parse], stop_words: Iterable[str]) -> None:
        self._parses = parses
        self._stop_words = frozenset(stop_words)

    @staticmethod
    def texts(caption: str) -> tuple[str, ...]:
        """What must be parsed besides the caption in lower case."""
        return ()

    @staticmethod
    def place(phrase: str, caption: str, spans: Sequence[Span]) -> list[Span | None] | None:
        origins = range(len(phrase)) if phrase == caption else clean_with_origins(phrase)[1]
        placed: list[Span | None] = []
        for start, stop in spans:
            words = (bisect_left(origins, start), bisect_left(origins, stop))
            within = start >= 0 and stop <= len(phrase)
            usable = within and has_letter(caption[slice(*words)])
            placed.append(_whole_words(words, caption) if usable else None)
        return placed

    @staticmethod
    def subject(root: Sequence[Span], caption: str) -> list[Span]:
        # The root of "# of a bus" is a mark.
        return consolidate(root, caption) or consolidate([(0, len(caption))], caption)

    def content(self, caption: str) -> tuple[str, ...] | None:
        parse = self._parses[lower(caption)]
        lemmas = tuple([parse.lemmas[i].lower() for i in self._content_tokens(parse)])
        # A caption of nothing but stop words is compared word by word.
        return lemmas or tuple(word for word in parse.words if has_letter(word)) or None

    def marks(self, caption: str, spans: Sequence[Sequence[Span]]) -> list[int] | None:
        parse = self._parses[lower(caption)]
        words = [parse.span(i) for i in self._content_tokens(parse)]
        return [
            sum(1 << bit for bit, word in enumerate(words) if intersects(word, of_box))
            for of_box in spans
        ]

    def _content_tokens(self, parse: Parse) -> list[int]:
        return [
            i
            for i, word in enumerate(parse.words)
            if word not in self._stop_words and has_letter(word)
        ]


def _whole_words(span: Span, text: str) -> Span:
    """A span that cuts into words takes them in: some annotations are off by a character.

    >>> _whole_words((3, 5), "a paw"), _whole_words((1, 3), "a cat on it")
    ((2, 5), (1, 5))
    """
    start, stop = span
    while 0 < start < stop and text[start].isalnum() and text[start - 1].isalnum():
        start -= 1
    while start < stop < len(text) and text[stop - 1].isalnum() and text[stop].isalnum():
        stop += 1
    return start, stop


def has_letter(word: str) -> bool:
    return word.isalnum() or any(char.isalnum() for char in word)

"""Pairs of captions of one image that differ in one of several words and name different objects.

A model that does not read the word has the same box for both captions of a pair, which is on the
object of one of them at most.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import NamedTuple

from mdetr_model.report.results import GroundedCaption, GroundedPhrase, overlap
from schemas import Span

_PUNCTUATION = ".,;:?!\"'()"


class ChangedCaption(NamedTuple):
    """A caption of a pair: the word that the other one does not have, and the phrase it decides."""

    caption: GroundedCaption
    word: Span
    phrase: GroundedPhrase


class WordChange(NamedTuple):
    """A pair of captions."""

    first: ChangedCaption
    second: ChangedCaption

    @property
    def is_right(self) -> bool:
        """Whether each caption's box is on the object that it names."""
        return self.first.phrase.is_right and self.second.phrase.is_right


def word_changes(captions: Iterable[GroundedCaption]) -> list[WordChange]:
    """Returns all pairs of the captions, in their order.

    The captions of a pair have two words or more, of which one differs, and equally many phrases,
    of which one has other objects: no box of the one overlaps a box of the other enough to be
    correct for it. A text that several captions of an image have is used once, and not at all if
    they name different objects.
    """
    of_image: dict[str, dict[tuple[str, ...], list[GroundedCaption]]] = {}
    for caption in captions:
        texts = of_image.setdefault(caption.key, {})
        texts.setdefault(_words(caption.caption.text), []).append(caption)
    return [change for texts in of_image.values() for change in _changes_of_image(texts)]


def _changes_of_image(
    texts: dict[tuple[str, ...], list[GroundedCaption]],
) -> Iterator[WordChange]:
    distinct = [
        (words, captions[0])
        for words, captions in texts.items()
        if all(_other_phrases(captions[0], other) == [] for other in captions)
    ]
    for (words, caption), (other_words, other) in combinations(distinct, 2):
        word = _only_difference(words, other_words)
        if word is None:
            continue
        phrases = _other_phrases(caption, other)
        if phrases is not None and len(phrases) == 1:
            yield WordChange(_changed(caption, word, phrases[0]), _changed(other, word, phrases[0]))


def _only_difference(words: tuple[str, ...], other_words: tuple[str, ...]) -> int | None:
    """Returns which of two words or more differs, if it is one."""
    if len(words) != len(other_words) or len(words) < 2:
        return None
    pairs = zip(words, other_words, strict=True)
    positions = [i for i, (word, other_word) in enumerate(pairs) if word != other_word]
    return positions[0] if len(positions) == 1 else None


def _words(text: str) -> tuple[str, ...]:
    """Returns the words of a text in lower case.

    >>> _words("Is the Star dark-red?")
    ('is', 'the', 'star', 'dark-red')
    """
    return tuple(text[begin:end].casefold() for begin, end in _word_spans(text))


def _word_spans(text: str) -> list[Span]:
    """Returns the words, without punctuation before and after them."""
    spans = []
    for match in re.finditer(r"\S+", text):
        stripped = match[0].strip(_PUNCTUATION)
        begin = match.start() + match[0].find(stripped)
        spans.append((begin, begin + len(stripped)))
    return spans


def _other_phrases(caption: GroundedCaption, other: GroundedCaption) -> list[int] | None:
    """Returns which phrases have other objects; None if the captions differ in their number."""
    if len(caption.phrases) != len(other.phrases):
        return None
    pairs = zip(caption.phrases, other.phrases, strict=True)
    return [i for i, (one, two) in enumerate(pairs) if not overlap(one.boxes, two.boxes)]


def _changed(caption: GroundedCaption, word: int, phrase: int) -> ChangedCaption:
    return ChangedCaption(caption, _word_spans(caption.caption.text)[word], caption.phrases[phrase])

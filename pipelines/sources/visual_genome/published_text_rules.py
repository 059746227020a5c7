"""The text rules of the published MDETR data, including their bugs.

The published scripts edit a text step by step and adjust offsets after each edit. That fails on
unexpected texts (``None`` below), and gives wrong offsets where words and tokens differ. The rules
named ``mdetr`` reproduce both.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import ClassVar

from pipelines.captions.parsing import Parse
from pipelines.captions.spans import consolidate, intersects
from pipelines.captions.text_cleanup import lower, normalize_whitespace, remove_punctuation
from pipelines.sources.visual_genome.text_rules import TextRules
from schemas import Span

_PUNCTUATION = ".,!?:"


class PublishedTextRules(TextRules):
    """Maps spans by replaying the edits, and compares captions by the joined lemmas."""

    uninformative_words: ClassVar = frozenset(("wall", "side", "building"))

    def __init__(self, parses: Mapping[str, Parse], stop_words: Iterable[str]) -> None:
        super().__init__(parses, stop_words)
        # The published order is that of a set; the results are the same in every order.
        self._sorted_stop_words = sorted(self._stop_words)

    @staticmethod
    def texts_to_parse(caption: str) -> tuple[str, ...]:
        collapsed = re.sub(" {2,}", " ", lower(caption).lstrip(" "))
        without_punctuation = collapsed.translate({ord(mark): None for mark in _PUNCTUATION})
        return (lower(caption), content_text(caption), without_punctuation)

    def map_spans(
        self, phrase: str, caption: str, spans: Sequence[Span]
    ) -> list[Span | None] | None:
        edited = _EditedText(lower(phrase), [[span] for span in spans])
        edited.collapse_spaces()
        if edited.text.strip() != lower(caption).strip():
            return None  # the clean-up changed more than spaces
        return [span for [span] in edited.spans]

    def root_spans(self, root: Sequence[Span], caption: str) -> list[Span]:
        return consolidate(root, caption)

    def content_lemmas(self, caption: str) -> tuple[str, ...] | None:
        text = content_text(caption)
        if not text:
            return None
        return tuple(content_words(text, self._parses[text], self._stop_words))

    def content_masks(self, caption: str, spans: Sequence[Sequence[Span]]) -> list[int] | None:
        canonical = self.canonical(caption, spans)
        if canonical is None:
            return None
        canonical_spans, canonical_text = canonical
        if canonical_text != " ".join(self.content_lemmas(caption) or ()):
            return None
        return [_bit_mask(box_spans) for box_spans in canonical_spans]

    def canonical(
        self, caption: str, spans: Sequence[Sequence[Span]]
    ) -> tuple[list[list[Span]], str] | None:
        """Maps spans to the caption of lemmas, without punctuation and stop words.

        Returns:
            The spans of each box and the text; None if an edit fails.
        """
        edited = _EditedText(lower(caption), spans)
        edited.collapse_spaces()
        edited.remove_punctuation()
        parse = self._parses[edited.text]
        for stop_word in self._sorted_stop_words:
            if stop_word in edited.text and not edited.remove_word(stop_word):
                return None
        lemmas = [
            lemma
            for word, lemma in zip(parse.words, parse.lemmas, strict=True)
            if word not in self._stop_words
        ]
        if not edited.replace_words(lemmas):
            return None
        return edited.non_empty_spans(), edited.text


def content_text(text: str) -> str:
    """Returns the text that ``content_words`` takes: lower case, single spaces, no punctuation."""
    return normalize_whitespace(remove_punctuation(lower(text)))


def content_words(text: str, parse: Parse, stop_words: Collection[str]) -> list[str]:
    """Returns the lemmas of the words of a ``content_text`` that are not stop words.

    Words are separated by spaces, and the n-th word gets the lemma of the n-th token of ``parse``,
    the parse of ``text``: after a token such as "'s" that is the wrong lemma.
    """
    return [
        word if parse.lemmas[i].startswith("-") else parse.lemmas[i]
        for i, word in enumerate(text.split(" "))
        if word not in stop_words
    ]


def _bit_mask(spans: Iterable[Span]) -> int:
    """Returns an integer with a bit set for each character that a span covers."""
    mask = 0
    for start, stop in spans:
        mask |= ((1 << (stop - start)) - 1) << start
    return mask


class _EditedText:
    """A text that is edited in place, and the spans of each box, adjusted after every edit."""

    def __init__(self, text: str, spans: Sequence[Sequence[Span]]) -> None:
        self.text = text
        self.spans: list[list[Span]] = [sorted(box_spans) for box_spans in spans]

    def non_empty_spans(self) -> list[list[Span]]:
        return [
            [(start, stop) for start, stop in box_spans if 0 <= start < stop]
            for box_spans in self.spans
        ]

    def collapse_spaces(self) -> None:
        """Removes leading spaces, and all but one of several spaces."""
        while self.text.startswith(" "):
            self._delete_character(0)
        while (position := self.text.find("  ")) != -1:
            self._delete_character(position)

    def remove_punctuation(self) -> None:
        for mark in _PUNCTUATION:
            while (position := self.text.find(mark)) != -1:
                self._delete_character(position)

    def remove_word(self, word: str) -> bool:
        """Removes ``word`` wherever it is between spaces; returns False if it is the whole text."""
        search_start = 0
        while (start := self.text.find(word, search_start)) != -1:
            stop = start + len(word)
            before, after = self.text[start - 1 : start], self.text[stop : stop + 1]
            if before not in ("", " ") or after not in ("", " "):
                search_start += 1
                continue
            if not before and not after:
                return False
            replacement = " " if before and after else ""
            removed = before + word + after
            self._shift_spans_for_deletion(start, len(removed) - len(replacement))
            # The first occurrence of the characters, which may be inside an earlier word.
            self.text = self.text.replace(removed, replacement, 1)
        return True

    def replace_words(self, lemmas: Sequence[str]) -> bool:
        """Replaces the n-th word by the n-th lemma; returns False if they cannot be aligned.

        A word whose lemma begins with a hyphen stays.
        """
        words = self.text.strip().split(" ")
        if len(words) != len(lemmas):
            return False
        start = 0
        for i, (word, lemma) in enumerate(zip(words, lemmas, strict=True)):
            if not lemma.startswith("-"):
                stop = start + len(word)
                if not self._shift_spans_for_replacement(start, stop, len(lemma) - len(word)):
                    return False
                words[i] = lemma
            start += 1 + len(words[i])
        self.text = " ".join(words)
        return True

    def _delete_character(self, position: int) -> None:
        self._shift_spans_for_deletion(position, 1)
        self.text = self.text[:position] + self.text[position + 1 :]

    def _shift_spans_for_deletion(self, position: int, length: int) -> None:
        deleted = (position, position + length)
        for box_spans in self.spans:
            for i, (start, stop) in enumerate(box_spans):
                if position < stop:
                    overlaps = intersects((start, stop), (deleted,))
                    box_spans[i] = (start if overlaps else start - length, stop - length)

    def _shift_spans_for_replacement(self, start: int, stop: int, growth: int) -> bool:
        """Adjusts spans to a word's new length; returns False if one covers only a part of it."""
        for box_spans in self.spans:
            for i, (first, last) in enumerate(box_spans):
                if start >= last:
                    continue
                if intersects((first, last), ((start, stop),)):
                    if not first <= start < stop <= last:
                        return False
                    box_spans[i] = (first, last + growth)
                else:
                    box_spans[i] = (first + growth, last + growth)
        return True

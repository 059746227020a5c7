"""How spans of a Visual Genome phrase follow its clean-up in the published MDETR data.

There, a text is edited character by character and offsets are adjusted after each edit. That fails
on texts that the edits do not foresee (`None` below), and slips where words and tokens differ.
The rules named ``mdetr`` need the same failures and slips.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import ClassVar

from pipelines.captions.parsing import Parse, lower, normalize_whitespace, remove_punctuation
from pipelines.captions.spans import consolidate, intersects
from schemas import Span

_MARKS = ".,!?:"


class Characters:
    """The text rules of the published data for captions whose ``parses`` are given."""

    uninformative: ClassVar = frozenset(("wall", "side", "building"))

    def __init__(self, parses: Mapping[str, Parse], stop_words: Iterable[str]) -> None:
        self._parses = parses
        # The published order is that of a set; the results are the same in every order.
        self._stop_words = dict.fromkeys(sorted(stop_words))

    @staticmethod
    def texts(caption: str) -> tuple[str, ...]:
        """What must be parsed besides the caption in lower case."""
        return (content_text(caption), _unmarked(_squeezed(lower(caption))))

    @staticmethod
    def place(phrase: str, caption: str, spans: Sequence[Span]) -> list[Span | None] | None:
        """Spans of ``phrase`` as spans of ``caption``; None if more than spaces was cleaned."""
        edited = _Edited(lower(phrase), [[span] for span in spans])
        edited.squeeze()
        if edited.text.strip() != lower(caption).strip():
            return None
        return [spans[0] for spans in edited.spans]

    @staticmethod
    def subject(root: Sequence[Span], caption: str) -> list[Span]:
        return consolidate(root, caption)

    def content(self, caption: str) -> tuple[str, ...] | None:
        """The lemmas by which captions are compared; None for a caption without words."""
        text = content_text(caption)
        if not text:
            return None
        return tuple(content_words(text, self._parses[text], self._stop_words))

    def marks(self, caption: str, spans: Sequence[Sequence[Span]]) -> list[int] | None:
        """For each list of spans, the bits of the characters of the joined lemmas it covers."""
        canonical = self.canonical(caption, spans)
        if canonical is None or canonical[1] != " ".join(self.content(caption) or ()):
            return None
        return [_bits(spans) for spans in canonical[0]]

    def canonical(
        self, caption: str, spans: Sequence[Sequence[Span]]
    ) -> tuple[list[list[Span]], str] | None:
        """Spans and text after punctuation and stop words are gone and words are lemmas.

        None if an edit meets a text that it does not foresee.
        """
        edited = _Edited(lower(caption), spans)
        edited.squeeze()
        edited.remove_marks()
        tokens = self._parses[edited.text]
        for stop_word in self._stop_words:
            if stop_word in edited.text and not edited.remove_word(stop_word):
                return None
        lemmas = [
            lemma
            for word, lemma in zip(tokens.words, tokens.lemmas, strict=True)
            if word not in self._stop_words
        ]
        if not edited.replace_words(lemmas):
            return None
        return edited.solid_spans(), edited.text


def content_text(text: str) -> str:
    """The text that is parsed for ``content_words``: lower case, no punctuation, single spaces."""
    return normalize_whitespace(remove_punctuation(lower(text)))


def content_words(text: str, parse: Parse, stop_words: Collection[str]) -> list[str]:
    """Lemmas of the words of a ``content_text`` that are no stop words.

    A word is what stands between spaces, and the n-th word gets the lemma of the n-th token of
    ``parse``, the parse of ``text``: the two slip apart after a token such as "'s".
    """
    return [
        word if parse.lemmas[i].startswith("-") else parse.lemmas[i]
        for i, word in enumerate(text.split(" "))
        if word not in stop_words
    ]


def _squeezed(text: str) -> str:
    return re.sub(" {2,}", " ", text.lstrip(" "))


def _unmarked(text: str) -> str:
    return text.translate({ord(mark): None for mark in _MARKS})


def _bits(spans: Iterable[Span]) -> int:
    bits = 0
    for start, stop in spans:
        bits |= ((1 << (stop - start)) - 1) << start
    return bits


class _Edited:
    """A text under edit, with lists of spans that follow."""

    def __init__(self, text: str, spans: Sequence[Sequence[Span]]) -> None:
        self.text = text
        self.spans: list[list[Span]] = [sorted(of_box) for of_box in spans]

    def solid_spans(self) -> list[list[Span]]:
        return [
            [(start, stop) for start, stop in of_box if 0 <= start < stop] for of_box in self.spans
        ]

    def squeeze(self) -> None:
        """Removes leading spaces, and all but one of several spaces."""
        while self.text.startswith(" "):
            self._cut(0)
        while (at := self.text.find("  ")) != -1:
            self._cut(at)

    def remove_marks(self) -> None:
        for mark in _MARKS:
            while (at := self.text.find(mark)) != -1:
                self._cut(at)

    def remove_word(self, word: str) -> bool:
        """Removes ``word`` wherever it stands between spaces; False if it is the whole text."""
        first = 0
        while (at := self.text.find(word, first)) != -1:
            end = at + len(word)
            before, after = self.text[at - 1 : at], self.text[end : end + 1]
            if before not in ("", " ") or after not in ("", " "):
                first += 1
                continue
            if not before and not after:
                return False
            kept = " " if before and after else ""
            removed = before + word + after
            self._shrink(at, len(removed) - len(kept))
            # The first place where the characters stand, which may be inside an earlier word.
            self.text = self.text.replace(removed, kept, 1)
        return True

    def replace_words(self, lemmas: Sequence[str]) -> bool:
        """Puts the n-th lemma for the n-th word; False if they cannot be matched up.

        A word whose lemma begins with a hyphen stays.
        """
        words = self.text.strip().split(" ")
        if len(words) != len(lemmas):
            return False
        start = 0
        for i, (word, lemma) in enumerate(zip(words, lemmas, strict=True)):
            if not lemma.startswith("-"):
                if not self._resize(start, start + len(word), len(lemma) - len(word)):
                    return False
                words[i] = lemma
            start += 1 + len(words[i])
        self.text = " ".join(words)
        return True

    def _cut(self, at: int) -> None:
        self._shrink(at, 1)
        self.text = self.text[:at] + self.text[at + 1 :]

    def _shrink(self, at: int, by: int) -> None:
        gone = (at, at + by)
        for of_box in self.spans:
            for i, (start, stop) in enumerate(of_box):
                if at < stop:
                    inside = intersects((start, stop), (gone,))
                    of_box[i] = (start if inside else start - by, stop - by)

    def _resize(self, start: int, stop: int, by: int) -> bool:
        """Whether no span covers only a part of the word from ``start`` to ``stop``."""
        for of_box in self.spans:
            for i, (first, last) in enumerate(of_box):
                if start >= last:
                    continue
                if intersects((first, last), ((start, stop),)):
                    if not first <= start < stop <= last:
                        return False
                    of_box[i] = (first, last + by)
                else:
                    of_box[i] = (first + by, last + by)
        return True

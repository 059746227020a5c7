"""Phrases that name nothing in an image, which its captions may have besides their sentences.

Proven ones are stated by annotators of the image. Unproven ones are drawn from the phrases of all
captions that are trained on, by frequency. Both are subject to one rule: no noun that an absent
phrase is about, and no synonym of it that a source lists, is a word by which a caption or a scene
graph states what the image shows. Of an unproven one, no word at all is. Synonyms are known from
LVIS, Visual Genome and a short list of words for people; hypernyms only as far as they are the last
word of a compound, or in the list of general nouns, which are never drawn.
"""

import re
from bisect import bisect
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from random import Random
from typing import NamedTuple

import msgspec

from schemas import (
    AbsentPhrase,
    AbsentSpan,
    Caption,
    GroundedCaption,
    ImageRecord,
    ObjectRegion,
    Region,
    Span,
)
from schemas.limits import MAX_NAME_CHARACTERS
from schemas.nouns import head_nouns, word_forms

#: The most phrases of a vocabulary, by frequency.
MAX_PHRASES = 5_000
#: The most words of one of them.
MAX_WORDS = 3
#: How often a phrase is drawn at most, for one that the rule admits.
DRAWS = 20

#: Reasons of rejected phrases.
IS_PRESENT = "absent phrase names what is present"
NO_NOUN = "absent phrase without a noun, or too long"
IS_AMBIGUOUS = "absent phrase in one of its meanings"

#: The dataset of an unproven phrase.
VOCABULARY = "vocabulary"

_PHRASE = re.compile(r"[a-z]+(?:[ -][a-z]+)*")
_DETERMINERS = frozenset(
    """
    a an the this that these those some any all both each every another other one two three four
    five six seven eight nine ten several many few his her their its my your our
    """.split()  # noqa: SIM905
)
# Words that no noun phrase of one noun has: prepositions, conjunctions, pronouns, directions.
_OTHER_WORDS = frozenset(
    """
    of with without in on at for from to by near under over behind beside between above below and
    or not no is are was were be he she it they who what which where left right top bottom middle
    center front back side corner up down
    """.split()  # noqa: SIM905
)
# What a phrase about a box may end in, without naming the object: "the red one", "the blue".
_NO_NOUNS = frozenset(
    """
    one ones red orange yellow green blue purple violet pink brown black white gray grey beige tan
    gold golden silver cyan magenta turquoise teal maroon navy
    """.split()  # noqa: SIM905
)
# What names so many objects that it is hardly ever absent.
_GENERAL_NOUNS = frozenset(
    """
    object item part piece shape animal vehicle food fruit clothes clothing furniture building
    plant device container group area background photo image color
    """.split()  # noqa: SIM905
)
_PEOPLE = tuple(
    """
    person man woman boy girl child kid baby guy lady adult player rider worker human individual
    male female teen toddler gentleman pedestrian
    """.split()  # noqa: SIM905
)


class VocabularyCounts(msgspec.Struct):
    """How often phrases name boxes, and the words that sources list as synonyms, by the first."""

    phrases: dict[str, int] = {}
    synonyms: dict[str, list[str]] = {}

    def add_captions(self, captions: Iterable[GroundedCaption]) -> None:
        """Counts the phrases of captions."""
        for caption in captions:
            regions: list[Region | ObjectRegion] = [*caption.regions, *caption.object_regions]
            for region in regions:
                if phrase := vocabulary_phrase(caption.text, region.spans):
                    self.phrases[phrase] = self.phrases.get(phrase, 0) + 1

    def add_synonyms(self, names: Sequence[str]) -> None:
        """Adds names of one class of objects."""
        known = self.synonyms.setdefault(names[0], [])
        known += [name for name in names[1:] if name not in known]

    def merge(self, other: "VocabularyCounts") -> None:
        """Adds the counts and the synonyms of another part."""
        for phrase, count in other.phrases.items():
            self.phrases[phrase] = self.phrases.get(phrase, 0) + count
        for name, others in other.synonyms.items():
            self.add_synonyms([name, *others])

    def most_frequent(self) -> "VocabularyCounts":
        """Returns them with the phrases that are drawn, the most frequent first."""
        frequent = sorted(self.phrases.items(), key=lambda item: (-item[1], item[0]))
        return VocabularyCounts(dict(frequent[:MAX_PHRASES]), self.synonyms)


def vocabulary_phrase(text: str, spans: Sequence[Span]) -> str:
    """Returns the words of a region as a phrase of the vocabulary; empty if they cannot be one.

    >>> vocabulary_phrase("the two red circles.", [(4, 7), (8, 11), (12, 19)])
    'red circles'
    >>> vocabulary_phrase("a man with a hat", [(0, 16)])
    ''
    """
    if not spans or any(text[a[1] : b[0]].strip() for a, b in pairwise(spans)):
        return ""
    words = text[spans[0][0] : spans[-1][1]].casefold().split()
    while words and words[0] in _DETERMINERS:
        words.pop(0)
    phrase = " ".join(words)
    is_phrase = 0 < len(words) <= MAX_WORDS and _PHRASE.fullmatch(phrase)
    if not is_phrase or not _OTHER_WORDS.isdisjoint(words) or not _is_noun(words[-1]):
        return ""
    return "" if _GENERAL_NOUNS & head_nouns(phrase) else phrase


def _is_noun(word: str) -> bool:
    """Returns whether a phrase may end in a word: "the man sitting" and "the red one" may not be.

    Nouns like "building" and "forest" are lost with the participles and the superlatives.
    """
    return not word.endswith(("ing", "est")) and word not in _NO_NOUNS


class Vocabulary:
    """The phrases from which unproven ones are drawn, and the synonyms that sources list.

    It depends on the counts alone, and not on their order.
    """

    def __init__(self, counts: VocabularyCounts) -> None:
        phrases = counts.most_frequent().phrases
        self._phrases = list(phrases)
        self._ends = list(accumulate(phrases.values()))
        self._synonyms: dict[str, set[str]] = {}  # by singular form of a noun
        for name, others in counts.synonyms.items():
            self._add_synonyms([name, *others])
        self._add_synonyms(_PEOPLE)

    def _add_synonyms(self, names: Sequence[str]) -> None:
        nouns = {form for name in names for form in head_nouns(name)}
        for noun in nouns:
            self._synonyms.setdefault(noun, set()).update(nouns)

    def nouns(self, phrase: str) -> set[str]:
        """Returns the nouns that a phrase is about, with their synonyms."""
        return self._with_synonyms(head_nouns(phrase))

    def words(self, phrase: str) -> set[str]:
        """Returns the forms of all words of a phrase, with their synonyms."""
        return self._with_synonyms(word_forms(phrase))

    def _with_synonyms(self, words: Collection[str]) -> set[str]:
        return set(words).union(*(self._synonyms.get(word, ()) for word in words))

    def draw(self, rng: Random) -> str:
        """Returns a phrase, each with a probability that is proportional to its frequency."""
        return self._phrases[bisect(self._ends, rng.randrange(self._ends[-1]))]

    def __len__(self) -> int:
        return len(self._phrases)


def stated_words(records: Iterable[ImageRecord]) -> set[str]:
    """Returns the singular forms of the words that state what an image shows.

    They are those of all captions of its records, also of those that are rejected later, and the
    names of its objects. Of a question, they are those of its boxes, as in `present_words`.
    """
    words: set[str] = set()
    for record in records:
        words.update(*map(word_forms, record.names))
        for caption in record.captions:
            text = caption.text
            if not text.rstrip().endswith("?"):
                words |= word_forms(text)
            regions: list[Region | ObjectRegion] = [*caption.regions, *caption.object_regions]
            for region in regions:
                for start, stop in region.spans:
                    words |= word_forms(text[start:stop])
    return words


class SourcedPhrase(NamedTuple):
    """An absent phrase, and the recipe's source that states it."""

    source: str
    phrase: AbsentPhrase


class ChosenPhrases(NamedTuple):
    """What became of the absent phrases of an image.

    ``merged`` repeat another one, ``left_out`` are more than the recipe asks for; ``rejected`` come
    with their reason.
    """

    proven: list[SourcedPhrase]
    unproven: list[AbsentPhrase]
    merged: list[SourcedPhrase]
    left_out: list[SourcedPhrase]
    rejected: list[tuple[SourcedPhrase, str]]


def choose_absent(
    stated: Iterable[SourcedPhrase],
    present: Collection[str],
    vocabulary: Vocabulary,
    *,
    proven: int,
    unproven: int,
    seed: str,
    max_characters: int = MAX_NAME_CHARACTERS,
) -> ChosenPhrases:
    """Chooses the absent phrases of an image.

    Args:
        stated: What its annotators stated, in order.
        present: The words that state what it shows, of `stated_words`.
        vocabulary: Synonyms, and the phrases to draw from.
        proven: The most of ``stated`` to choose.
        unproven: The most to draw.
        seed: Of the choice, the key of the image.
        max_characters: Of a phrase, at most `MAX_NAME_CHARACTERS`.
    """
    rng = Random(seed)  # of a text: the same on every machine
    merged: list[SourcedPhrase] = []
    rejected: list[tuple[SourcedPhrase, str]] = []
    usable: dict[str, SourcedPhrase] = {}
    for sourced in stated:
        text = sourced.phrase.text.casefold()
        if len(text) > min(max_characters, MAX_NAME_CHARACTERS) or not head_nouns(text):
            rejected.append((sourced, NO_NOUN))
        elif sourced.phrase.is_ambiguous:
            rejected.append((sourced, IS_AMBIGUOUS))
        elif not vocabulary.nouns(text).isdisjoint(present):
            rejected.append((sourced, IS_PRESENT))
        elif text in usable:
            merged.append(sourced)
        else:
            usable[text] = sourced
    shuffled = [usable[text] for text in rng.sample(sorted(usable), len(usable))]
    drawn = _draw(vocabulary, present, usable, rng, unproven)
    return ChosenPhrases(
        proven=shuffled[:proven],
        unproven=[
            AbsentPhrase(text, VOCABULARY, "", "drawn", "unproven")
            for text in drawn
            if len(text) <= max_characters
        ],
        merged=merged,
        left_out=shuffled[proven:],
        rejected=rejected,
    )


def _draw(
    vocabulary: Vocabulary,
    present: Collection[str],
    stated: Collection[str],
    rng: Random,
    count: int,
) -> Iterator[str]:
    """Yields up to ``count`` phrases without a present word, no two about the same nouns."""
    taken = set().union(*map(vocabulary.nouns, stated))
    for _ in range(DRAWS * count if len(vocabulary) else 0):
        phrase = vocabulary.draw(rng)
        nouns = vocabulary.nouns(phrase)
        if vocabulary.words(phrase).isdisjoint(present) and nouns.isdisjoint(taken):
            taken |= nouns
            yield phrase
            count -= 1
            if not count:
                return


def absent_caption(phrase: AbsentPhrase) -> Caption:
    """Returns an absent phrase as a caption without boxes."""
    span = (0, len(phrase.text))
    absent = AbsentSpan(span, phrase.dataset, phrase.record, phrase.reason, phrase.strength)
    return Caption(phrase.text, [], [span], [], absent=[absent])

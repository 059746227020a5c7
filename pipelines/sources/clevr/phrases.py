"""The noun phrases of a CLEVR question: "big red metal cube", "other objects"."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from pipelines.sources.clevr.programs import ATTRIBUTES, AttributeValues, ObjectReference
from schemas import Span

# The words of questions for the attribute values of scenes.
_WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "size": {"large": ("large", "big"), "small": ("small", "tiny")},
    "color": {
        color: (color,)
        for color in ("gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow")
    },
    "material": {"metal": ("metallic", "metal", "shiny"), "rubber": ("rubber", "matte")},
    "shape": {
        "cube": ("cube", "block"),
        "sphere": ("sphere", "ball"),
        "cylinder": ("cylinder",),
        "": ("thing", "object"),
    },
}
_VALUES = {
    word: value
    for words_by_value in _WORDS.values()
    for value, words in words_by_value.items()
    for word in words
}


def _alternatives(attribute: str) -> str:
    words = "|".join(word for words in _WORDS[attribute].values() for word in words)
    return f"(?P<{attribute}>{words})"


_NOUN_PHRASE = re.compile(
    rf"\b(?:{_alternatives('size')} )?(?:{_alternatives('color')} )?"
    rf"(?:{_alternatives('material')} )?{_alternatives('shape')}s?\b",
    re.IGNORECASE,
)


class NounPhrase(NamedTuple):
    """Words that name objects, and the attributes they state."""

    attributes: AttributeValues
    span: Span


def noun_phrases(question: str, is_comparison: bool = False) -> list[NounPhrase]:
    """Returns the noun phrases of a question in the order of its ``object_references``.

    That is the order of the words, except that the clause after a semicolon comes first: in
    "There is a cube; how many balls are left of it?" the balls. A comparison ("There is a cube; is
    it as large as the ball?") keeps the order of the words, as its program does.
    """
    phrases: list[tuple[int, NounPhrase]] = []
    for match in _NOUN_PHRASE.finditer(question):
        words = (match[attribute] for attribute in ATTRIBUTES)
        size, color, material, shape = ((word and _VALUES[word.lower()]) or None for word in words)
        clause = question.count(";", 0, match.start())
        phrases.append((clause, NounPhrase((size, color, material, shape), match.span())))
    if not is_comparison:
        phrases.sort(key=lambda clause_and_phrase: -clause_and_phrase[0])
    return [phrase for _, phrase in phrases]


def align(
    phrases: Sequence[NounPhrase], references: Sequence[ObjectReference]
) -> list[tuple[NounPhrase, ObjectReference]]:
    """Pairs phrases with references of the same attributes, in the order of both.

    The longest common subsequence: a program may refer to objects that a question does not name
    ("anything else"), and a question may name an object twice that its program selects once.
    """
    longest = [[0] * (len(references) + 1) for _ in range(len(phrases) + 1)]
    for i in reversed(range(len(phrases))):
        for j in reversed(range(len(references))):
            longest[i][j] = max(
                longest[i + 1][j],
                longest[i][j + 1],
                longest[i + 1][j + 1] + (phrases[i].attributes == references[j].attributes),
            )
    pairs = []
    i = j = 0
    while i < len(phrases) and j < len(references):
        same = phrases[i].attributes == references[j].attributes
        if same and longest[i][j] == longest[i + 1][j + 1] + 1:
            pairs.append((phrases[i], references[j]))
            i, j = i + 1, j + 1
        elif longest[i + 1][j] >= longest[i][j + 1]:
            i += 1
        else:
            j += 1
    return pairs

"""The words of a CLEVR question that name objects: "big red metal cube", "other objects"."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from pipelines.sources.clevr.programs import Attributes, Reference
from schemas import Span

# What questions say for the names that scenes have.
_WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "size": {"large": ("large", "big"), "small": ("small", "tiny")},
    "color": {
        name: (name,)
        for name in ("gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow")
    },
    "material": {"metal": ("metallic", "metal", "shiny"), "rubber": ("rubber", "matte")},
    "shape": {
        "cube": ("cube", "block"),
        "sphere": ("sphere", "ball"),
        "cylinder": ("cylinder",),
        "": ("object", "object"),
    },
}
_NAMES = {word: name for kind in _WORDS.values() for name, words in kind.items() for word in words}


def _any_of(kind: str) -> str:
    words = "|".join(word for words in _WORDS[kind].values() for word in words)
    return f"(?P<{kind}>{words})"


_PHRASE = re.compile(
    rf"\b(?:{_any_of('size')} )?(?:{_any_of('color')} )?(?:{_any_of('material')} )?"
    rf"{_any_of('shape')}s?\b",
    re.IGNORECASE,
)


class Phrase(NamedTuple):
    """Words that name objects, and what they say of them."""

    attributes: Attributes
    span: Span


def phrases(question: str, compares: bool = False) -> list[Phrase]:
    """The phrases of a question, in the order of ``references``.

    That is the order of the words, but for a question that begins with a statement: of "There is a
    cube; how many balls are left of it?" the part behind the semicolon comes first. Not so of one
    that ``compares``, "There is a cube; is it as large as the ball?", whose program does, too.
    """
    found = []
    for match in _PHRASE.finditer(question):
        named = (match[kind] for kind in ("size", "color", "material", "shape"))
        size, color, material, shape = ((word and _NAMES[word.lower()]) or None for word in named)
        clause = question.count(";", 0, match.start())
        found.append((clause, Phrase((size, color, material, shape), match.span())))
    if not compares:
        found.sort(key=lambda of: -of[0])
    return [phrase for _, phrase in found]


def aligned(said: Sequence[Phrase], meant: Sequence[Reference]) -> list[tuple[Phrase, Reference]]:
    """Phrases with what they refer to: as many as agree in what they say, in the order of both.

    A longest common subsequence. A program may refer to what a question does not name ("anything
    else"), and a question repeat what a program has once.
    """
    longest = [[0] * (len(meant) + 1) for _ in range(len(said) + 1)]
    for i in reversed(range(len(said))):
        for j in reversed(range(len(meant))):
            longest[i][j] = max(
                longest[i + 1][j],
                longest[i][j + 1],
                longest[i + 1][j + 1] + (said[i].attributes == meant[j].attributes),
            )
    pairs = []
    i = j = 0
    while i < len(said) and j < len(meant):
        alike = said[i].attributes == meant[j].attributes
        if alike and longest[i][j] == longest[i + 1][j + 1] + 1:
            pairs.append((said[i], meant[j]))
            i, j = i + 1, j + 1
        elif longest[i + 1][j] >= longest[i][j + 1]:
            i += 1
        else:
            j += 1
    return pairs

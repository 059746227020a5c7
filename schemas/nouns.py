"""The rule by which a phrase may be absent from an image, for builds and their verification.

No parser is used: an absent phrase is a noun with adjectives or other nouns before it, so its head
is its last word, or the last one before a preposition. WordNet is not used either: two nouns are
one if a list of synonyms states so, or if they are singular and plural.
"""

import functools
import re
from collections.abc import Iterable

from schemas.sample import Caption

_WORD = re.compile(r"[^\W\d_]+")
_PREPOSITION = re.compile(
    r"\b(?:of|with|without|in|on|at|for|from|to|by|near|under|over|behind|beside|between|and|or)\b"
)
_IRREGULAR = {
    "men": "man",
    "women": "woman",
    "children": "child",
    "people": "person",
    "feet": "foot",
    "teeth": "tooth",
    "geese": "goose",
    "mice": "mouse",
    "dice": "die",
    "oxen": "ox",
}


@functools.lru_cache(maxsize=100_000)
def singular_forms(word: str) -> frozenset[str]:
    """Returns a word in lower case, and all words of which it may be the plural.

    >>> sorted(singular_forms("Glasses")), sorted(singular_forms("women"))
    (['glass', 'glasse', 'glasses'], ['woman', 'women'])
    """
    word = word.casefold()
    forms = {word}
    for plural, singular in _IRREGULAR.items():
        if word.endswith(plural):  # policemen
            forms.add(word.removesuffix(plural) + singular)
    for ending, singulars in (("ies", ("y",)), ("ves", ("f", "fe")), ("es", ("",)), ("s", ("",))):
        if word.endswith(ending) and len(word) > len(ending) + 1 and not word.endswith("ss"):
            forms.update(word.removesuffix(ending) + singular for singular in singulars)
    return frozenset(forms)


def word_forms(text: str) -> set[str]:
    """Returns the singular forms of all words of a text.

    >>> sorted(word_forms("two men, 1 dog"))
    ['dog', 'man', 'men', 'two']
    """
    return {form for word in _WORD.findall(text) for form in singular_forms(word)}


@functools.lru_cache(maxsize=100_000)
def head_nouns(phrase: str) -> frozenset[str]:
    """Returns the singular forms of the nouns that a noun phrase is about.

    >>> sorted(head_nouns("small fire hydrants")), sorted(head_nouns("slice of pizza"))
    (['hydrant', 'hydrants'], ['pizza', 'slice'])
    """
    parts = (_WORD.findall(part) for part in _PREPOSITION.split(phrase.casefold()))
    return frozenset(form for words in parts if words for form in singular_forms(words[-1]))


def present_words(captions: Iterable[Caption]) -> set[str]:
    """Returns the singular forms of the words by which captions state what an image shows.

    They are all words of a sentence; but a question may be about what is not there, so only the
    words of its boxes count. Absent phrases do not count.
    """
    words: set[str] = set()
    for caption in captions:
        text = caption.text
        for region in caption.regions:
            for start, stop in region.spans:
                words |= word_forms(text[start:stop])
        for origin in caption.provenance:
            sentence = text[slice(*origin.span)]
            if not sentence.rstrip().endswith("?"):
                words |= word_forms(sentence)
    return words

"""Graphemes: what a reader sees as one character, and words, which consist of them.

A letter with its accents, a Hindi consonant with its vowel signs, and an emoji of several joined
code points are one grapheme each (extended grapheme cluster, Unicode annex 29). Offsets of spans
count code points, so a span could end within a grapheme.
"""

import functools
from bisect import bisect_left

import regex

# Marks that follow white space belong to no letter, and white space ends every word.
_GRAPHEME = regex.compile(r"\s|\X")


@functools.lru_cache(maxsize=64)
def split_graphemes(text: str) -> tuple[str, ...]:
    r"""Returns the graphemes of a text, which is their concatenation.

    >>> [len(grapheme) for grapheme in split_graphemes("cafe\u0301 \U0001f1eb\U0001f1f7")]
    [1, 1, 1, 2, 1, 2]
    """
    return tuple(_GRAPHEME.findall(text))


@functools.lru_cache(maxsize=64)
def grapheme_borders(text: str) -> tuple[int, ...]:
    r"""Returns the offsets between the graphemes of a text, from 0 to its length.

    >>> grapheme_borders("e\u0301s")
    (0, 2, 3)
    """
    borders = [0]
    for grapheme in split_graphemes(text):
        borders.append(borders[-1] + len(grapheme))
    return tuple(borders)


def is_within_grapheme(text: str, border: int) -> bool:
    r"""Returns whether an offset of a text is within a grapheme.

    >>> [is_within_grapheme("e\u0301s", border) for border in (0, 1, 2, 3)]
    [False, True, False, False]
    """
    if text.isascii() or not 0 < border < len(text):
        return False
    borders = grapheme_borders(text)
    return borders[bisect_left(borders, border)] != border


def is_within_word(text: str, border: int) -> bool:
    r"""Returns whether an offset of a text is within a grapheme or a word.

    It is within a word if the graphemes on both sides have a letter or a digit; a hyphen or an
    apostrophe has none.

    >>> [is_within_word("a cat's", border) for border in (2, 3, 5, 6, 7)]
    [False, True, False, False, False]
    >>> [is_within_word("e\u0301s", border) for border in (1, 2)]
    [True, True]
    """
    if not 0 < border < len(text):
        return False
    if text.isascii():
        return text[border - 1].isalnum() and text[border].isalnum()
    if is_within_grapheme(text, border):
        return True
    graphemes, after = split_graphemes(text), bisect_left(grapheme_borders(text), border)
    return all(any(map(str.isalnum, graphemes[i])) for i in (after - 1, after))

"""Borders of graphemes and of words, in several scripts."""

from itertools import accumulate

import pytest

from schemas.graphemes import (
    grapheme_borders,
    is_within_grapheme,
    is_within_word,
    split_graphemes,
)
from tests.graphemes import EMOJIS, WORDS

GRAPHEMES = WORDS | {name: [emoji] for name, emoji in EMOJIS.items()}


@pytest.mark.parametrize("graphemes", GRAPHEMES.values(), ids=GRAPHEMES)
def test_text_is_split_into_what_a_reader_sees_as_characters(graphemes: list[str]) -> None:
    text = "".join(graphemes)
    borders = list(accumulate(map(len, graphemes), initial=0))
    assert split_graphemes(text) == tuple(graphemes)
    assert grapheme_borders(text) == tuple(borders)
    within = [border for border in range(-1, len(text) + 2) if is_within_grapheme(text, border)]
    assert within == [border for border in range(len(text)) if border not in borders]


def test_mark_after_white_space_belongs_to_no_letter() -> None:
    assert split_graphemes("a \u0301b\r\n") == ("a", " ", "\u0301", "b", "\r", "\n")


@pytest.mark.parametrize(
    ("text", "within"),
    [
        ("ab c1", [1, 4]),
        ("a-b's", []),
        ("\xe9a b1", [1, 4]),
        ("\xe9-b's", []),
        ("-\xe9-", []),
        ("e\u0301s", [1, 2]),
        ("se\u0301", [1, 2]),
        ("e\u0301-s", [1]),
        ("-e\u0301", [2]),
        ("a\u2764\ufe0fb", [2]),
        ("\u0939\u093f\u0902\u0926\u0940", [1, 2, 3, 4]),
        ("", []),
    ],
)
def test_border_is_within_a_word_between_letters_or_digits(text: str, within: list[int]) -> None:
    borders = range(-1, len(text) + 2)
    assert [border for border in borders if is_within_word(text, border)] == within

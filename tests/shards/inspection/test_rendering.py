"""Invisible characters are escaped, and long names are cut to their columns."""

import pytest

from shards.inspection.rendering import make_visible, shorten


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a\u200eb\u200fc\u061cd", r"a\u200eb\u200fc\u061cd"),
        ("a\u200bb\u2060c\ufeffd\u00ade", r"a\u200bb\u2060c\ufeffd\u00ade"),
        ("a\U000e0041b", r"a\U000e0041b"),
        ("a\u2028b\u2029c", r"a\u2028b\u2029c"),
        ("a\x85b\x7fc\ud800", r"a\u0085b\u007fc\ud800"),
        ("pass\u200dword \u200c", r"pass\u200dword \u200c"),
    ],
)
def test_invisible_characters_are_escaped(text: str, escaped: str) -> None:
    assert make_visible(text) == escaped


@pytest.mark.parametrize(
    "text", ["two\nlines\tand a tab", "می\u200cخواهم", "👩\u200d🚀", "a\u00a0b", "e\u0301"]
)
def test_whitespace_joiners_and_marks_stay(text: str) -> None:
    assert make_visible(text) == text


def test_long_names_are_cut_to_their_columns() -> None:
    assert shorten("", 4) == ""
    assert shorten("coco", 4) == "coco"
    assert shorten("flickr", 4) == "fli…"
    assert shorten("日本語", 4) == "日…"
    assert shorten("\u202eabc", 7) == r"\u202e…"

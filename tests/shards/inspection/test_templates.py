"""What cannot be seen in a text is written out on the pages."""

import pytest

from shards.inspection.templates import shortened, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\u200eb\u200fc\u061cd", r"a\u200eb\u200fc\u061cd"),
        ("a\u200bb\u2060c\ufeffd\u00ade", r"a\u200bb\u2060c\ufeffd\u00ade"),
        ("a\U000e0041b", r"a\U000e0041b"),
        ("a\u2028b\u2029c", r"a\u2028b\u2029c"),
        ("a\x85b\x7fc\ud800", r"a\u0085b\u007fc\ud800"),
        ("pass\u200dword \u200c", r"pass\u200dword \u200c"),
    ],
)
def test_what_cannot_be_seen_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize(
    "text", ["two\nlines\tand a tab", "می\u200cخواهم", "👩\u200d🚀", "a\u00a0b", "e\u0301"]
)
def test_what_belongs_to_words_stays(text: str) -> None:
    assert visible(text) == text


def test_names_are_cut_to_the_room_that_they_have() -> None:
    assert shortened("", 4) == ""
    assert shortened("coco", 4) == "coco"
    assert shortened("flickr", 4) == "fli…"
    assert shortened("日本語", 4) == "日…"
    assert shortened("\u202eabc", 7) == r"\u202e…"

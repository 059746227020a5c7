"""Clean-up of text, against the results of the published code."""

import gzip
import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pipelines.captions.text_cleanup import clean, clean_with_offsets, lower, remove_punctuation

MESSY = st.text(alphabet="ab.,-_ \n\t!?/İ", max_size=30)


def test_cleanup_equals_the_published_results(reference: Path) -> None:
    path = reference / "golden" / "functions" / "text_phrases.json.gz"
    for row in json.loads(gzip.decompress(path.read_bytes()))["rows"]:
        phrase = row["phrase"]
        assert clean(phrase) == row["simplify_punctuation_of_normalize_whitespace"]
        assert remove_punctuation(phrase) == row["remove_punctuation"]


@given(MESSY)
def test_offsets_follow_the_cleanup(phrase: str) -> None:
    caption, offsets = clean_with_offsets(phrase)
    assert caption == clean(phrase)
    assert len(offsets) == len(caption) and offsets == sorted(offsets)
    assert all(phrase[o] == char for o, char in zip(offsets, caption, strict=True) if char in "abİ")
    assert [o for o in range(len(phrase)) if phrase[o].isalnum()] == [
        o for o, char in zip(offsets, caption, strict=True) if char.isalnum()
    ]


@given(MESSY)
def test_clean_text_has_single_spaces(phrase: str) -> None:
    caption = clean(phrase)
    assert "  " not in caption and "_" not in caption and " -" not in caption
    assert all(char == " " or not char.isspace() for char in caption)


@given(st.text(max_size=30))
def test_lower_keeps_the_length(phrase: str) -> None:
    assert len(lower(phrase)) == len(phrase)

"""The root noun phrase of a caption, against the results of the published code."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.captions.noun_phrases import root_and_negative_spans
from pipelines.captions.parsing import SpacyParser
from pipelines.captions.spans import consolidate


def as_lists(spans: list[tuple[int, int]]) -> list[list[int]]:
    return [list(span) for span in spans]


@pytest.mark.parametrize(("lazy", "suffix"), [(True, "lazy"), (False, "not_lazy")])
def test_root_and_negative_spans_equal_the_published_results(
    reference: Path, lazy: bool, suffix: str
) -> None:
    path = reference / "golden" / "functions" / "text_phrases.json.gz"
    rows: list[dict[str, Any]] = json.loads(gzip.decompress(path.read_bytes()))["rows"]
    parses = SpacyParser()(row["phrase"] for row in rows)
    for row in rows:
        phrase = row["phrase"]
        root, negative = root_and_negative_spans(phrase, parses[phrase], lazy)
        _, _, expected_root, expected_negative = row[f"root_and_nouns_{suffix}"]
        assert as_lists(root) == expected_root, phrase
        assert sorted(as_lists(negative)) == sorted(expected_negative), phrase
        consolidated = [as_lists(consolidate(spans, phrase)) for spans in (root, negative)]
        assert consolidated == row[f"consolidated_{suffix}"], phrase

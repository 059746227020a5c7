"""The language model's parses, noun phrases and clean-up against what the published code gave."""

import doctest
import gzip
import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.captions import parsing
from pipelines.captions.parsing import (
    MAX_CHARACTERS,
    Parse,
    SpacyParser,
    clean,
    clean_with_origins,
    lower,
    model_name_and_version,
    normalize_whitespace,
    remove_punctuation,
    root_and_negative,
    simplify_punctuation,
)
from pipelines.captions.spans import consolidate

MESSY = st.text(alphabet="ab.,-_ \n\t!?/İ", max_size=30)


@pytest.fixture(scope="session")
def parser() -> SpacyParser:
    return SpacyParser()


@pytest.fixture(scope="session")
def golden_parses(reference: Path) -> dict[str, list[list[Any]]]:
    path = reference / "golden" / "functions" / "spacy_parses.json.gz"
    return json.loads(gzip.decompress(path.read_bytes()))["parses"]


@pytest.fixture(scope="session")
def golden_phrases(reference: Path) -> list[dict[str, Any]]:
    path = reference / "golden" / "functions" / "text_phrases.json.gz"
    return json.loads(gzip.decompress(path.read_bytes()))["rows"]


def rows(parse: Parse) -> list[list[Any]]:
    columns = (parse.words, parse.starts, parse.tags, parse.deps, parse.heads, parse.lemmas)
    return [list(row) for row in zip(*columns, strict=True)]


def as_lists(spans: list[tuple[int, int]]) -> list[list[int]]:
    return [list(span) for span in spans]


def test_examples() -> None:
    result = doctest.testmod(parsing)
    assert result.attempted > 0 and result.failed == 0


def test_parses_are_those_of_single_calls(
    parser: SpacyParser, golden_parses: dict[str, list[list[Any]]]
) -> None:
    parses = parser(golden_parses)
    assert {phrase: rows(parse) for phrase, parse in parses.items()} == golden_parses


def test_looked_up_rules_are_those_of_the_whole_pipeline(parser: SpacyParser) -> None:
    texts = [
        "let's see the man", "let the man go", "there is a dog", "there 's a dog", "y' all",
        "all the men", "it is gonna rain", "he's gonna go", "got ta go", "a got ta", "c'm on man",
        "c'm the man", "it ain't a dog", "she ain't", "gonna", "i got a dog", "two  spaces \n here",
        "it is left of the men's bikes", "", " ", "left man", "the left man left", "ai n't",
    ]  # fmt: skip
    nlp = importlib.import_module(model_name_and_version()[0]).load(exclude=["ner"])
    expected = {
        doc.text: [[t.text, t.idx, t.tag_, t.dep_, t.head.i, t.lemma_] for t in doc]
        for doc in map(nlp, texts)
    }
    for _ in range(2):  # the second time from what was looked up, not from the parses kept
        parses = SpacyParser()(texts)
        assert {phrase: rows(parse) for phrase, parse in parses.items()} == expected


def test_nothing_is_learnt_from_texts_with_a_rule_on_two_tokens() -> None:
    model = parsing._Model()
    assert list(model(["let's see the man", "there is a dog"]))
    assert not model._known
    assert list(model(["see the man"])) and len(model._known) == 3


def test_parses_do_not_depend_on_their_batch(
    parser: SpacyParser, golden_parses: dict[str, list[list[Any]]]
) -> None:
    texts = list(golden_parses)[:120]
    apart: dict[str, Parse] = {}
    for first in range(0, len(texts), 7):
        apart |= SpacyParser()(texts[first : first + 7])
    assert apart == {phrase: parser(texts)[phrase] for phrase in reversed(texts)}


def test_parses_are_kept_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "KEPT", 3)
    parser = SpacyParser()
    texts = [f"{count} dogs" for count in range(8)]
    first = parser(texts[:1])[texts[0]]
    assert parser(iter([texts[0], texts[0]]))[texts[0]] is first
    for phrase in texts:
        parser([phrase])
    assert len(parser._younger) + len(parser._older) <= 8
    again = parser(texts[:1])[texts[0]]
    assert again is not first and again == first


def test_a_text_that_is_too_long_is_refused(parser: SpacyParser) -> None:
    with pytest.raises(ValueError, match="10001 characters"):
        parser(["a dog", "x" * (MAX_CHARACTERS + 1)])
    assert parser(["x" * MAX_CHARACTERS])


def test_a_missing_model_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "MODEL_PACKAGES", ("no_such_model", "numpy"))
    with pytest.raises(ModuleNotFoundError, match=r"found numpy .*pip install en-core-web-sm"):
        model_name_and_version.__wrapped__()


@pytest.mark.parametrize(("lazy", "suffix"), [(True, "lazy"), (False, "not_lazy")])
def test_root_and_negative_golden(
    lazy: bool, suffix: str, parser: SpacyParser, golden_phrases: list[dict[str, Any]]
) -> None:
    for row in golden_phrases:
        phrase = row["phrase"]
        root, negative = root_and_negative(phrase, parser([phrase])[phrase], lazy)
        _, _, expected_root, expected_negative = row[f"root_and_nouns_{suffix}"]
        assert as_lists(root) == expected_root, phrase
        assert sorted(as_lists(negative)) == sorted(expected_negative), phrase
        consolidated = [as_lists(consolidate(spans, phrase)) for spans in (root, negative)]
        assert consolidated == row[f"consolidated_{suffix}"], phrase


def test_clean_up_golden(golden_phrases: list[dict[str, Any]]) -> None:
    for row in golden_phrases:
        phrase = row["phrase"]
        expected = row["simplify_punctuation_of_normalize_whitespace"]
        assert clean(phrase) == expected
        assert simplify_punctuation(normalize_whitespace(phrase)) == expected
        assert remove_punctuation(phrase) == row["remove_punctuation"]


@given(MESSY)
def test_origins_follow_the_clean_up(phrase: str) -> None:
    caption, origins = clean_with_origins(phrase)
    assert caption == clean(phrase)
    assert len(origins) == len(caption) and origins == sorted(origins)
    assert all(phrase[o] == char for o, char in zip(origins, caption, strict=True) if char in "abİ")
    assert [o for o in range(len(phrase)) if phrase[o].isalnum()] == [
        o for o, char in zip(origins, caption, strict=True) if char.isalnum()
    ]


@given(MESSY)
def test_clean_text_has_single_spaces(phrase: str) -> None:
    caption = clean(phrase)
    assert "  " not in caption and "_" not in caption and " -" not in caption
    assert all(char == " " or not char.isspace() for char in caption)


@given(st.text(max_size=30))
def test_lower_keeps_the_length(phrase: str) -> None:
    assert len(lower(phrase)) == len(phrase)

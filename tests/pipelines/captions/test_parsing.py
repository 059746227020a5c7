"""Parses of the language model: equal to the published ones for any batch and cache state."""

import gzip
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines.captions import arc_eager, parsing
from pipelines.captions.parsing import (
    BATCH_SIZE,
    BATCH_TOKENS,
    Parse,
    SpacyParser,
    model_name_and_version,
)
from schemas.limits import MAX_PARSED_CHARACTERS, MAX_WORD_CHARACTERS
from tests.processes import run


@pytest.fixture(scope="module")
def parser() -> SpacyParser:
    return SpacyParser()


@pytest.fixture(scope="module")
def published_parses(reference: Path) -> dict[str, list[list[Any]]]:
    path = reference / "golden" / "functions" / "spacy_parses.json.gz"
    parses: dict[str, list[list[Any]]] = json.loads(gzip.decompress(path.read_bytes()))["parses"]
    return parses


def rows(parse: Parse) -> list[list[Any]]:
    columns = (parse.words, parse.starts, parse.tags, parse.deps, parse.heads, parse.lemmas)
    return [list(row) for row in zip(*columns, strict=True)]


def test_parses_equal_the_published_ones(
    parser: SpacyParser, published_parses: dict[str, list[list[Any]]]
) -> None:
    parses = parser(published_parses)
    assert {phrase: rows(parse) for phrase, parse in parses.items()} == published_parses


def test_cached_rules_equal_the_whole_pipeline() -> None:
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
    for _ in range(2):  # the second time with the cached rules, but without cached parses
        parses = SpacyParser()(texts)
        assert {phrase: rows(parse) for phrase, parse in parses.items()} == expected


def test_rules_on_two_tokens_are_not_cached() -> None:
    model = parsing._Model()
    assert list(model(["let's see the man", "there is a dog"]))
    words = {word for word, *_ in model._tokens.values()}
    assert words == {"'s", "see", "the", "man", "is", "a", "dog"}  # neither "let" nor "there"


def test_model_with_other_parses_than_spacys_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a library that computes wrong products on this processor."""
    sums = arc_eager.ArcEager._sums
    monkeypatch.setattr(arc_eager.ArcEager, "_sums", lambda *args: sums(*args)[::-1])
    with pytest.raises(parsing.ParserError, match=r"another parse than spaCy for 'a man"):
        parsing._Model()


def test_parses_do_not_depend_on_their_batch(
    parser: SpacyParser, published_parses: dict[str, list[list[Any]]]
) -> None:
    texts = list(published_parses)[:120]
    small_batches: dict[str, Parse] = {}
    for first in range(0, len(texts), 7):
        small_batches |= SpacyParser()(texts[first : first + 7])
    assert small_batches == {text: parser(texts)[text] for text in reversed(texts)}


def test_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "CACHE_SIZE", 3)
    parser = SpacyParser()
    texts = [f"{count} dogs" for count in range(8)]
    first = parser(texts[:1])[texts[0]]
    assert parser(iter([texts[0], texts[0]]))[texts[0]] is first
    for text in texts:
        parser([text])
    assert len(parser._younger) + len(parser._older) <= 8
    again = parser(texts[:1])[texts[0]]
    assert again is not first and again == first


def test_too_long_text_is_refused(parser: SpacyParser) -> None:
    with pytest.raises(ValueError, match="2001 characters"):
        parser(["a dog", "x " * (MAX_PARSED_CHARACTERS // 2) + "x"])
    with pytest.raises(ValueError, match="a word of 251 characters"):
        parser(["a dog " + "x" * (MAX_WORD_CHARACTERS + 1)])
    assert parser([f"{'x' * MAX_WORD_CHARACTERS} {'x ' * 800}"[:MAX_PARSED_CHARACTERS]])


def test_batches_are_bounded_in_texts_and_tokens() -> None:
    """The memory of the network is that of the tokens of a batch."""
    nlp = parsing._model()._nlp
    texts = ["( " * 500, "(" * 100, *["a dog"] * 600, *["( " * 900] * 3, "( " * 1000, "a cat"]
    batches = list(parsing._batches(map(nlp.make_doc, texts)))
    assert [doc.text for batch in batches for doc in batch] == texts
    sizes = [(len(batch), sum(map(len, batch))) for batch in batches]
    assert all(count <= BATCH_SIZE and tokens <= BATCH_TOKENS for count, tokens in sizes)
    # None could have had the first text of the next one, too.
    assert all(
        count == BATCH_SIZE or tokens + len(following[0]) > BATCH_TOKENS
        for (count, tokens), following in zip(sizes, batches[1:], strict=False)
    )


def test_every_label_of_the_model_has_its_string() -> None:
    nlp = parsing._Model()._nlp
    labels = [label for name in ("tagger", "parser") for label in nlp.get_pipe(name).labels]
    assert len(labels) > 90
    assert all(label in nlp.vocab.strings for label in labels)


def test_parser_does_not_import_torch_and_the_command_line() -> None:
    """spaCy would; a process that needs them still can."""
    code = (
        "import sys; from pipelines.captions.parsing import SpacyParser; SpacyParser()(['a cat']); "
        "assert not {'torch', 'spacy.cli', 'spacy.cli.info'} & {*sys.modules}; "
        "import torch; from spacy.cli.info import info; info(silent=True)"
    )
    run([sys.executable, "-c", code], check=True)


def test_spacy_that_was_imported_before_stays_whole() -> None:
    code = (
        "import spacy; from pipelines.captions.parsing import SpacyParser; "
        "SpacyParser()(['a cat']); assert spacy.info(silent=True)"
    )
    run([sys.executable, "-c", code], check=True)


def test_missing_model_error_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "MODEL_PACKAGES", ("no_such_model", "numpy"))
    with pytest.raises(ModuleNotFoundError, match=r"found numpy .*pip install en-core-web-sm"):
        model_name_and_version.__wrapped__()

"""Predictions of tags and trees: those of spaCy, whatever the batch, the weights and the rounding.

Texts are random sequences of words of the published phrases, which have unlikely trees.
"""

import gzip
import importlib
import json
import random
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pipelines.captions import networks, token_vectors
from pipelines.captions.networks import MIN_LEAD, Networks, Prediction
from pipelines.captions.parsing import model_name_and_version

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc

MARKS = [*",.;:-()'\"!?\n", "...", "n't", "'s", ""]


def load() -> "Language":
    nlp: Language = importlib.import_module(model_name_and_version()[0]).load(
        exclude=["ner", "senter", "attribute_ruler", "lemmatizer"]
    )
    return nlp


@pytest.fixture(scope="module")
def nlp() -> "Language":
    return load()


@pytest.fixture(scope="module")
def texts(reference: Path) -> list[str]:
    """600 texts of up to 60 tokens; some are empty."""
    path = reference / "golden" / "functions" / "spacy_parses.json.gz"
    phrases = list(json.loads(gzip.decompress(path.read_bytes()))["parses"])
    words = sorted({word for phrase in phrases for word in phrase.split()})
    source = random.Random(1)
    lengths = [source.choice((0, 1, 2, 3, 5, 8, 13, 60)) for _ in range(300)]
    made = [
        " ".join(source.choice(words if source.random() < 0.8 else MARKS) for _ in range(length))
        for length in lengths
    ]
    return [*made, *source.sample(phrases, 300)]


def predict(
    predictor: Networks, nlp: "Language", texts: Sequence[str], batch: int
) -> list[Prediction | None]:
    docs = [nlp.make_doc(text) for text in texts]
    return [
        prediction
        for first in range(0, len(docs), batch)
        for prediction in predictor(docs[first : first + batch])
    ]


def by_spacy(doc: "Doc") -> Prediction:
    return Prediction(
        words=[token.orth for token in doc],
        starts=[token.idx for token in doc],
        tags=[token.tag for token in doc],
        deps=[token.dep for token in doc],
        heads=[token.head.i for token in doc],
    )


def differences(
    predictions: Sequence[Prediction | None], nlp: "Language", texts: Sequence[str]
) -> list[str]:
    """Returns the texts with predictions that are not those of spaCy."""
    return [
        text
        for text, prediction, doc in zip(texts, predictions, nlp.pipe(texts), strict=True)
        if prediction is not None and prediction != by_spacy(doc)
    ]


def test_predictions_equal_spacys(nlp: "Language", texts: list[str]) -> None:
    predictions = predict(Networks(nlp), nlp, texts, batch=256)
    assert not differences(predictions, nlp, texts)
    assert sum(prediction is None for prediction in predictions) < 0.05 * len(texts)


@pytest.mark.parametrize("seed", range(4))
def test_predictions_equal_spacys_for_any_weights(texts: list[str], seed: int) -> None:
    """Random weights take actions that a trained parser hardly ever takes, in any order."""
    nlp = load()
    upper = nlp.get_pipe("parser").model.get_ref("upper")
    noise = np.random.default_rng(seed)
    weights, bias = upper.get_param("W"), upper.get_param("b")
    bias = noise.normal(0, 4, bias.shape)
    names = nlp.get_pipe("parser").move_names
    bias[[name[0] in "DB" or (name[0] == "L" and seed > 1) for name in names]] += 3 + seed
    upper.set_param("W", noise.normal(0, 1, weights.shape).astype(np.float32))
    upper.set_param("b", bias.astype(np.float32))
    predictions = predict(Networks(nlp), nlp, texts, batch=100)
    assert not differences(predictions, nlp, texts)
    assert sum(prediction is not None for prediction in predictions) > 0.1 * len(texts)


def test_predictions_do_not_depend_on_batch_and_order(nlp: "Language", texts: list[str]) -> None:
    expected = dict(zip(texts, predict(Networks(nlp), nlp, texts, batch=256), strict=True))
    source = random.Random(2)
    for batch in (1, 3, 50, 1000):
        some = source.sample(texts, 60 if batch == 1 else len(texts))
        predictions = predict(Networks(nlp), nlp, some, batch)
        assert {text: expected[text] for text in some} == dict(zip(some, predictions, strict=True))


def in_float64(value: Any) -> None:
    """Converts all arrays of weights in an object of ours, and in those that it has."""
    for name, field in vars(value).items():
        if isinstance(field, np.ndarray) and field.dtype == np.float32:
            setattr(value, name, field.astype(np.float64))
        for part in field if isinstance(field, list) else [field]:
            if type(part).__module__.startswith("pipelines."):
                in_float64(part)


def test_predictions_do_not_depend_on_rounding(nlp: "Language", texts: list[str]) -> None:
    """Another library for matrices, or another processor, rounds otherwise."""
    exact = Networks(nlp)
    in_float64(exact)
    predictions = predict(exact, nlp, texts, batch=256)
    assert not differences(predictions, nlp, texts)


def test_rounding_is_far_below_the_least_lead(
    nlp: "Language", texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    leads: list[Any] = []
    choose = networks.best_and_lead

    def record(scores: Any) -> Any:
        leads.append(choose(scores)[1])
        return choose(scores)

    monkeypatch.setattr(networks, "best_and_lead", record)
    exact = Networks(nlp)
    in_float64(exact)
    for predictor in (Networks(nlp), exact):
        predict(predictor, nlp, texts, batch=len(texts))
    rounded, precise = leads
    assert 0 < abs(rounded - precise).max() < MIN_LEAD / 10


def test_vectors_equal_spacys_up_to_rounding(nlp: "Language", texts: list[str]) -> None:
    docs = [nlp.make_doc(text) for text in texts]
    lengths = np.array([len(doc) for doc in docs])
    forms = [(token.orth, token.norm, bool(token.whitespace_)) for doc in docs for token in doc]
    vectors = token_vectors.TokenVectors(nlp.get_pipe("tok2vec").model)(docs, lengths, forms)
    expected = np.concatenate(nlp.get_pipe("tok2vec").predict(docs))
    assert vectors.shape == expected.shape
    assert abs(vectors - expected).max() < 1e-5 < abs(expected).max()


def test_table_of_forms_is_bounded(
    nlp: "Language", texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_vectors, "MAX_FORMS", 150)
    predictor = Networks(nlp)
    expected = predict(Networks(nlp), nlp, texts, batch=10)
    assert predict(predictor, nlp, texts, batch=10) == expected
    table = predictor._token_vectors._table
    assert len(table._rows) <= 150
    assert {len(array) for array in (table._embeddings, *table._shares)} == {1 + len(table._rows)}


def test_threads_share_the_table_of_forms(
    nlp: "Language", texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is filled anew all the time; threads take turns within numpy's products, too."""
    expected = predict(Networks(nlp), nlp, texts, batch=10)
    monkeypatch.setattr(token_vectors, "MAX_FORMS", 100)
    predictor = Networks(nlp)
    parts = [texts[first : first + 10] for first in range(0, len(texts), 10)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(6) as pool:
            predictions = list(pool.map(lambda part: predict(predictor, nlp, part, 10), parts))
    finally:
        sys.setswitchinterval(interval)
    assert list(chain.from_iterable(predictions)) == expected


def test_close_choices_have_no_prediction(
    nlp: "Language", texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Networks(nlp)
    predictions = predict(predictor, nlp, texts, batch=256)
    monkeypatch.setattr(networks, "MIN_LEAD", 0.3)
    fewer = predict(predictor, nlp, texts, batch=256)
    assert predictions.count(None) < fewer.count(None) < len(texts)
    monkeypatch.setattr(networks, "MIN_LEAD", 1000)
    assert all(
        (p is None) == bool(text)
        for p, text in zip(predict(predictor, nlp, texts, batch=256), texts, strict=True)
    )

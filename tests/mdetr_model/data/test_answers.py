"""The answer vocabulary, and the answer labels of questions."""

import json
from pathlib import Path

import pytest

from mdetr_model.data.answers import (
    CLEVR,
    UNKNOWN,
    AnswerVocabulary,
    gqa_answers,
    read_answers,
    write_answers,
)
from mdetr_model.modeling.answer_types import (
    CLEVR_ANSWER_HEADS,
    CLEVR_TYPES,
    GQA_ANSWER_HEADS,
    GQA_TYPES,
)
from mdetr_model.modeling.configuration_mdetr import MdetrConfig
from schemas import Question
from tests.mdetr_model import golden

QUESTIONS = [
    Question("1", "red", "attr"),
    Question("2", "blue", "attr"),
    Question("3", "blue", "attr"),
    Question("4", "yes", "obj"),
    None,
    Question("5", None, "rel"),
]
NOT_ASKED = {"type": -100, "obj": -100, "attr": -100, "rel": -100, "global": -100, "cat": -100}


def test_gqa_vocabulary_has_the_most_frequent_answers_first() -> None:
    vocabulary = gqa_answers(QUESTIONS)
    assert vocabulary.answers == {
        "obj": ("yes", UNKNOWN),
        "attr": ("blue", "red", UNKNOWN),
        **dict.fromkeys(("rel", "global", "cat"), (UNKNOWN,)),
    }
    assert vocabulary.labels(QUESTIONS[0]) == {
        **NOT_ASKED,
        "type": GQA_TYPES.index("attr"),
        "attr": 1,
    }
    assert vocabulary.labels(None) == vocabulary.labels(QUESTIONS[5]) == NOT_ASKED


def test_missing_answer_is_labeled_unknown() -> None:
    vocabulary = gqa_answers(QUESTIONS)
    question = Question("6", "green", "obj")
    assert not vocabulary.knows(question)
    assert vocabulary.knows(Question("7", "yes", "obj"))
    assert vocabulary.labels(question) == {**NOT_ASKED, "type": GQA_TYPES.index("obj"), "obj": 1}


@pytest.mark.parametrize("kind", [None, "", "color"])
def test_gqa_question_without_known_type_is_refused(kind: str | None) -> None:
    question = Question("q9", "red", kind)
    with pytest.raises(ValueError, match="question q9 has the semantic type"):
        gqa_answers([question])
    with pytest.raises(ValueError, match="question q9 has the semantic type"):
        gqa_answers(QUESTIONS).labels(question)


def test_vocabulary_without_answers_is_refused() -> None:
    with pytest.raises(ValueError, match="no questions with answers"):
        gqa_answers([None, Question("1", None, "obj")])


def test_clevr_labels_equal_the_published_ones(reference: Path) -> None:
    for answer, published in golden.function(reference, "qa")["clevr_encode_answer"].items():
        labels = CLEVR.labels(Question("1", answer))
        head = CLEVR_TYPES[published["answer_type"]]
        assert labels["type"] == published["answer_type"]
        assert labels[head] == published[f"answer_{head}"]
        assert all(labels[other] == -100 for other in CLEVR_TYPES if other != head)


def test_heads_come_in_the_order_of_the_published_models() -> None:
    assert CLEVR.heads == [list(head) for head in CLEVR_ANSWER_HEADS]


def test_vocabulary_round_trips_through_a_file(tmp_path: Path) -> None:
    for vocabulary in (CLEVR, gqa_answers(QUESTIONS), AnswerVocabulary({"total": ("no", "yes")})):
        write_answers(tmp_path / "new" / "answers.json", vocabulary)
        assert read_answers(tmp_path / "new" / "answers.json") == vocabulary
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["answers.json"]


def test_clevr_ignores_answers_outside_of_its_vocabulary() -> None:
    """CLEVR-Humans has such answers."""
    question = Question("1", "maybe")
    assert not CLEVR.knows(question)
    assert set(CLEVR.labels(question).values()) == {-100}


def test_published_vocabulary_fits_the_published_heads(reference: Path, tmp_path: Path) -> None:
    folder = reference / "real" / "gqa_answers"
    vocabulary = read_answers(folder / "gqa_answer2id_by_type.json")
    assert vocabulary.heads == [list(head) for head in GQA_ANSWER_HEADS]
    published = json.loads((folder / "gqa_answer2id_by_type.json").read_text())
    for kind in GQA_TYPES:
        for answer, number in published[f"answer_{kind}"].items():
            assert vocabulary.labels(Question("1", answer, kind))[kind] == number
    config = MdetrConfig(answer_heads=vocabulary.heads, answers=vocabulary.names)
    config.save_pretrained(tmp_path)
    again = MdetrConfig.from_pretrained(tmp_path)
    assert again.answers == vocabulary.names

    unified = tmp_path / "unified.json"
    unified.write_text(json.dumps({"yes": 1, "no": 0}))
    assert read_answers(unified).answers == {"total": ("no", "yes")}
    assert read_answers(unified).labels(Question("1", "yes")) == {"total": 1}
    assert read_answers(unified).labels(Question("1", "perhaps")) == {"total": -100}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "answers.json: "),
        ("{", "answers.json: "),
        ("{}", "no model has the answer heads total"),
        ('{"answer_obj": {"yes": 0}}', "no model has the answer heads obj"),
        ('{"yes": 0, "no": 2}', "not numbered from 0 on"),
        ('{"yes": 0, "no": 0}', "not numbered from 0 on"),
    ],
)
def test_malformed_vocabulary_files_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "answers.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_answers(path)


def test_a_configuration_has_answers_for_its_heads() -> None:
    names = gqa_answers(QUESTIONS).names
    with pytest.raises(ValueError, match="answers are for the heads"):
        MdetrConfig(answer_heads=CLEVR.heads, answers=names)
    with pytest.raises(ValueError, match="an answer twice"):
        AnswerVocabulary({"total": ("yes", "yes")})

"""Accuracy of answers, and the text-only baseline."""

import pytest

from mdetr_model.evaluation.metrics.question_answering import (
    PredictedAnswer,
    TextOnlyBaseline,
    accuracies,
)
from schemas import Question

QUESTIONS = {
    "1": Question("1", "red", "attr", "query"),
    "2": Question("2", "yes", "obj", "verify"),
    "3": Question("3", "no", "obj", "verify"),
    "4": Question("4", None, "obj", "verify"),
}
PREDICTIONS = [PredictedAnswer("1", "red"), PredictedAnswer("2", "no"), PredictedAnswer("3", "no")]
LAST = PredictedAnswer("4", "yes")


def test_accuracy_by_type_of_question() -> None:
    metrics = accuracies([*PREDICTIONS, LAST], QUESTIONS)
    assert {kind: values["accuracy"] for kind, values in metrics.items()} == {
        "all": 2 / 3,
        "attr": 1.0,
        "query": 1.0,
        "obj": 0.5,
        "verify": 0.5,
    }
    assert accuracies([LAST], {"4": QUESTIONS["4"]}) == {}


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        (PREDICTIONS, "not answered: 1 questions, 4 among them"),
        ([*PREDICTIONS, LAST, LAST], "question 4 is answered twice"),
        ([*PREDICTIONS, LAST, PredictedAnswer("5", "red")], "there is no question 5"),
    ],
)
def test_every_question_must_be_answered_once(
    predictions: list[PredictedAnswer], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        accuracies(predictions, QUESTIONS)


def test_text_only_baseline_answers_by_the_longest_known_beginning() -> None:
    training_questions = [("What color is the car?", "red")] * 6 + [("What is this?", "car")] * 5
    training_questions += [("What color is the sky?", "blue")] * 4  # fewer than MIN_QUESTIONS
    baseline = TextOnlyBaseline(training_questions)
    assert baseline.answer("what color is the car?") == "red"
    assert baseline.answer("What is that?") == "car"
    assert baseline.answer("What color is the sky?") == "red"
    assert baseline.answer("Who?") == "red"
    assert TextOnlyBaseline([]).answer("Who?") == ""

"""Accuracy of answers, and what reading the question alone gives."""

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
GIVEN = [PredictedAnswer("1", "red"), PredictedAnswer("2", "no"), PredictedAnswer("3", "no")]
LAST = PredictedAnswer("4", "yes")


def test_accuracy_is_the_share_of_right_answers_by_type() -> None:
    found = accuracies([*GIVEN, LAST], QUESTIONS)
    assert {kind: of["accuracy"] for kind, of in found.items()} == {
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
        (GIVEN, "not answered: 1 questions, 4 among them"),
        ([*GIVEN, LAST, LAST], "question 4 is answered twice"),
        ([*GIVEN, LAST, PredictedAnswer("5", "red")], "there is no question 5"),
    ],
)
def test_every_question_is_answered_once(predictions: list[PredictedAnswer], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        accuracies(predictions, QUESTIONS)


def test_habit_answers_by_the_longest_known_beginning() -> None:
    known = [("What color is the car?", "red")] * 6 + [("What is this?", "car")] * 5
    known += [("What color is the sky?", "blue")] * 4  # too few to go by
    habit = TextOnlyBaseline(known)
    assert habit.answer("what color is the car?") == "red"
    assert habit.answer("What is that?") == "car"
    assert habit.answer("What color is the sky?") == "red"
    assert habit.answer("Who?") == "red"
    assert TextOnlyBaseline([]).answer("Who?") == ""

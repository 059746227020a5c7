"""Question answering: the accuracy of answers (paper, section 4.4 and table 5).

It is the accuracy of GQA's and CLEVR's own evaluations: an exact match of the answer.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from schemas import Question


class PredictedAnswer(NamedTuple):
    """A model's answer to a question."""

    question_id: str
    answer: str


def accuracies(
    predictions: Iterable[PredictedAnswer], questions: Mapping[str, Question]
) -> dict[str, dict[str, float]]:
    """Returns the accuracy by type of question.

    "all" comes before each semantic ("rel", "attr", ...) and each structural type ("verify",
    "query", ...). Questions without a known answer, as in test splits, are ignored; empty if there
    are no others.

    Args:
        predictions: one for each question.
        questions: by their ids.

    Raises:
        ValueError: a question is answered twice or not at all, or there is none of that id.
    """
    answers: dict[str, str] = {}
    for question_id, answer in predictions:
        if question_id in answers:
            raise ValueError(f"question {question_id} is answered twice")
        if question_id not in questions:
            raise ValueError(f"there is no question {question_id}")
        answers[question_id] = answer
    missing = questions.keys() - answers.keys()
    if missing:
        raise ValueError(f"not answered: {len(missing)} questions, {min(missing)} among them")

    correct_by_type: defaultdict[str, list[bool]] = defaultdict(list)
    for question_id, question in questions.items():
        if question.answer is None:
            continue
        for question_type in ("all", question.semantic_type, question.structural_type):
            if question_type is not None:
                correct_by_type[question_type].append(answers[question_id] == question.answer)
    return {
        question_type: {"accuracy": sum(correct) / len(correct)}
        for question_type, correct in correct_by_type.items()
    }


class TextOnlyBaseline:
    """Answers questions from their text only: the language prior that a model has to exceed.

    The answer is the most frequent one of the training questions with the longest common prefix, in
    words, that at least ``MIN_QUESTIONS`` of them share.

    Args:
        questions: text and right answer of training questions.
    """

    MIN_QUESTIONS = 5

    def __init__(self, questions: Iterable[tuple[str, str]]) -> None:
        answers: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        for text, answer in questions:
            words = text.lower().split()
            for end in range(len(words) + 1):
                answers[tuple(words[:end])][answer] += 1
        self._best_answers = {
            words: counter.most_common(1)[0][0]
            for words, counter in answers.items()
            if counter.total() >= self.MIN_QUESTIONS or not words
        }

    def answer(self, text: str) -> str:
        """Returns the answer to a question; empty without training questions."""
        words = text.lower().split()
        beginnings = (tuple(words[:end]) for end in range(len(words), -1, -1))
        known = (self._best_answers[words] for words in beginnings if words in self._best_answers)
        return next(known, "")

"""Question answering: is the answer given the right one? (paper, section 4.4 and table 5)

Accuracy is that of GQA's and CLEVR's own evaluations: the answer has to be the same word.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from schemas import Question


class Prediction(NamedTuple):
    """The answer given to a question."""

    question: str
    answer: str


def accuracies(
    predictions: Iterable[Prediction], questions: Mapping[str, Question]
) -> dict[str, dict[str, float]]:
    """The share of questions answered rightly.

    "all" before each semantic ("rel", "attr", ...) and each structural type ("verify", "query",
    ...). Questions without a known answer, as in test splits, do not count; empty without others.

    Args:
        predictions: one for each question.
        questions: by their ids.

    Raises:
        ValueError: a question is answered twice or not at all, or there is none of that id.
    """
    given: dict[str, str] = {}
    for prediction in predictions:
        if prediction.question in given:
            raise ValueError(f"question {prediction.question} is answered twice")
        if prediction.question not in questions:
            raise ValueError(f"there is no question {prediction.question}")
        given[prediction.question] = prediction.answer
    missing = questions.keys() - given.keys()
    if missing:
        raise ValueError(f"not answered: {len(missing)} questions, {min(missing)} among them")

    right: defaultdict[str, list[bool]] = defaultdict(list)
    for id, question in questions.items():
        if question.answer is None:
            continue
        for kind in ("all", question.semantic_type, question.structural_type):
            if kind is not None:
                right[kind].append(given[id] == question.answer)
    return {kind: {"accuracy": sum(of_kind) / len(of_kind)} for kind, of_kind in right.items()}


class TextOnlyBaseline:
    """Answers questions by their words alone: what a model that sees has to be above.

    The answer is the most frequent one of those training questions that begin with the same words,
    as many of them as at least ``LEAST`` do.

    Args:
        questions: text and right answer of training questions.
    """

    LEAST = 5

    def __init__(self, questions: Iterable[tuple[str, str]]) -> None:
        answers: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        for text, answer in questions:
            words = text.lower().split()
            for end in range(len(words) + 1):
                answers[tuple(words[:end])][answer] += 1
        self._best = {
            words: of.most_common(1)[0][0]
            for words, of in answers.items()
            if of.total() >= self.LEAST or not words
        }

    def answer(self, text: str) -> str:
        """Empty without training questions."""
        words = text.lower().split()
        beginnings = (tuple(words[:end]) for end in range(len(words), -1, -1))
        return next((self._best[words] for words in beginnings if words in self._best), "")

"""The answers that a model can give to questions, and which of them is right (paper, section 4.4).

The heads are those of ``answer_losses``: of GQA one for each semantic type, or ``total`` for all;
of CLEVR yes or no, attributes, and numbers.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mdetr_model.json_files import write_json
from mdetr_model.modeling.answer_losses import CLEVR_TYPES, GQA_TYPES, NOT_ASKED
from schemas import Question

# What the heads of GQA say in place of an answer that they do not have.
UNKNOWN = "unknown"
BINARY = ("no", "yes")
# The order of the published checkpoints, whose head of numbers has twenty of them.
CLEVR_ATTRIBUTES = (
    *("small", "large"),
    *("gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow"),
    *("cube", "sphere", "cylinder"),
    *("rubber", "metal"),
)
NUMBERS = tuple(map(str, range(20)))
# In the order of the published models' queries, those of GQA and those of CLEVR.
HEADS = ("type", "total", "binary", "reg", "obj", "rel", "attr", "cat", "global")


@dataclass(frozen=True)
class AnswerVocabulary:
    """The answers of every head but ``type``, in the order of its outputs.

    Attributes:
        answers: by head.

    Raises:
        ValueError: these are not the heads of GQA, of its unified head or of CLEVR, or a head
            has no answer, or one twice.
    """

    answers: Mapping[str, tuple[str, ...]]
    _numbers: dict[str, dict[str, int]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.answers.keys() != set(self.types) or not all(self.answers.values()):
            raise ValueError(f"no model has the answer heads {', '.join(sorted(self.answers))}")
        numbers = {
            head: {answer: number for number, answer in enumerate(answers)}
            for head, answers in self.answers.items()
        }
        for head, answers in self.answers.items():
            if len(numbers[head]) < len(answers):
                raise ValueError(f"the answer head {head} has an answer twice")
        object.__setattr__(self, "_numbers", numbers)

    @property
    def heads(self) -> list[list[str | int]]:
        """``answer_heads`` of ``MdetrConfig``."""
        sizes = {head: len(answers) for head, answers in self.answers.items()}
        if "binary" in sizes:
            sizes["binary"] = 1  # one output for both
        if "total" not in sizes:
            sizes["type"] = len(self.answers)
        return [[head, sizes[head]] for head in HEADS if head in sizes]

    @property
    def names(self) -> dict[str, list[str]]:
        """``answers`` of ``MdetrConfig``."""
        return {head: list(of) for head, of in self.answers.items()}

    @property
    def types(self) -> tuple[str, ...]:
        """The heads that a question may belong to, in the order of the type head's classes."""
        return next(
            kind for kind in (("total",), GQA_TYPES, CLEVR_TYPES) if kind[0] in self.answers
        )

    def knows(self, question: Question) -> bool:
        """Whether the right answer is one that can be given."""
        return question.answer in self._numbers[self._head(question)]

    def labels(self, question: Question | None) -> dict[str, int]:
        """What ``answer_losses`` takes of one question: by head, the number of the right answer.

        An answer that the vocabulary does not have is ``UNKNOWN``, as in published training, where
        the head has that; of another head, or of no question or none with an answer, nothing is
        asked.

        Raises:
            ValueError: GQA's question states no type that there is.
        """
        labels = {str(head): NOT_ASKED for head, _ in self.heads}
        if question is None or question.answer is None:
            return labels
        head = self._head(question)
        numbers = self._numbers[head]
        number = numbers.get(question.answer, numbers.get(UNKNOWN))
        if number is not None:
            labels[head] = number
            if "type" in labels:
                labels["type"] = self.types.index(head)
        return labels

    def _head(self, question: Question) -> str:
        """The head that has to answer; that of CLEVR is told by the answer."""
        if "total" in self.answers:
            return "total"
        if "binary" in self.answers:
            if question.answer in BINARY:
                return "binary"
            return "attr" if question.answer in self._numbers["attr"] else "reg"
        return _semantic_type(question)


def _semantic_type(question: Question) -> str:
    if question.semantic_type not in GQA_TYPES:
        raise ValueError(
            f"question {question.id} has the semantic type {question.semantic_type}; "
            f"GQA's are {', '.join(GQA_TYPES)}"
        )
    return str(question.semantic_type)


def answers_of(config: Any) -> AnswerVocabulary | None:
    """Those of a model's configuration, where it has any."""
    answers: Mapping[str, list[str]] | None = config.answers
    if answers is None:
        return None
    return AnswerVocabulary({head: tuple(of) for head, of in answers.items()})


CLEVR = AnswerVocabulary({"binary": BINARY, "attr": CLEVR_ATTRIBUTES, "reg": NUMBERS})


def write_answers(path: Path, vocabulary: AnswerVocabulary) -> None:
    """Writes what ``read_answers`` reads; complete, or not at all.

    Raises:
        OSError: it cannot be written.
    """
    numbered = {
        f"answer_{head}": {answer: number for number, answer in enumerate(answers)}
        for head, answers in vocabulary.answers.items()
    }
    write_json(path, numbered)


def gqa_answers(questions: Iterable[Question | None]) -> AnswerVocabulary:
    """All right answers of GQA's questions, by semantic type; the most frequent come first.

    Raises:
        ValueError: a question states no type that there is, or no question has an answer.
    """
    found: dict[str, Counter[str]] = {kind: Counter() for kind in GQA_TYPES}
    for question in questions:
        if question is None or question.answer is None:
            continue
        found[_semantic_type(question)][question.answer] += 1
    if not any(found.values()):
        raise ValueError("there are no questions with answers")
    return AnswerVocabulary(
        {
            kind: (*sorted(answers.keys() - {UNKNOWN}, key=lambda a: (-answers[a], a)), UNKNOWN)
            for kind, answers in found.items()
        }
    )


def read_answers(path: Path) -> AnswerVocabulary:
    """The answers of a published file: of ``gqa_answer2id_by_type.json`` or ``gqa_answer2id.json``.

    Raises:
        ValueError: it is neither.
        OSError: it cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if all(isinstance(number, int) for number in content.values()):
            content = {"answer_total": content}
        answers = {
            head.removeprefix("answer_"): tuple(sorted(numbers, key=numbers.__getitem__))
            for head, numbers in content.items()
        }
        for head, numbers in content.items():
            if sorted(numbers.values()) != list(range(len(numbers))):
                raise ValueError(f"the answers of {head} are not numbered from 0 on")
        return AnswerVocabulary(answers)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: {error}") from error

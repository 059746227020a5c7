"""The answer vocabulary of question answering, and the labels of a question (paper, section 4.4).

The heads are those of ``answer_losses``: for GQA one for each semantic type, or ``total`` for all;
for CLEVR yes or no, attributes, and numbers.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mdetr_model.json_files import write_json
from mdetr_model.modeling.answer_losses import IGNORE_INDEX
from mdetr_model.modeling.answer_types import GQA_TYPES, answer_heads_for, question_types
from schemas import Question

# The answer of GQA's heads for questions whose answer they do not have.
UNKNOWN = "unknown"
BINARY = ("no", "yes")
# In the order of the published checkpoints, whose number head has twenty outputs.
CLEVR_ATTRIBUTES = (
    *("small", "large"),
    *("gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow"),
    *("cube", "sphere", "cylinder"),
    *("rubber", "metal"),
)
NUMBERS = tuple(map(str, range(20)))


@dataclass(frozen=True)
class AnswerVocabulary:
    """The answers of every head but ``type``, in the order of its outputs.

    Attributes:
        answers: by head.

    Raises:
        ValueError: the heads are neither GQA's, nor its unified head, nor CLEVR's; or a head has
            no answer, or one twice.
    """

    answers: Mapping[str, tuple[str, ...]]
    _indices: dict[str, dict[str, int]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        answer_heads_for(self.answers)  # raises
        indices = {
            head: {answer: index for index, answer in enumerate(answers)}
            for head, answers in self.answers.items()
        }
        object.__setattr__(self, "_indices", indices)

    @property
    def heads(self) -> list[list[Any]]:
        """``answer_heads`` of ``MdetrConfig``: names and numbers of outputs."""
        return answer_heads_for(self.answers)

    @property
    def names(self) -> dict[str, list[str]]:
        """``answers`` of ``MdetrConfig``."""
        return {head: list(answers) for head, answers in self.answers.items()}

    @property
    def types(self) -> tuple[str, ...]:
        """The heads that a question may belong to, in the order of the type head's classes."""
        return question_types(self.answers)

    def knows(self, question: Question) -> bool:
        """Returns whether the vocabulary has the right answer of a question."""
        return question.answer in self._indices[self._head(question)]

    def labels(self, question: Question | None) -> dict[str, int]:
        """Returns the labels of one question for ``answer_losses``: by head, the answer's index.

        An answer that the head does not have is labeled ``UNKNOWN``, as in published training, if
        the head has that output. ``IGNORE_INDEX`` is the label of all other heads, and of captions
        that are not questions or have no answer.

        Raises:
            ValueError: a question of GQA states no known semantic type.
        """
        labels = {str(head): IGNORE_INDEX for head, _ in self.heads}
        if question is None or question.answer is None:
            return labels
        head = self._head(question)
        indices = self._indices[head]
        index = indices.get(question.answer, indices.get(UNKNOWN))
        if index is not None:
            labels[head] = index
            if "type" in labels:
                labels["type"] = self.types.index(head)
        return labels

    def _head(self, question: Question) -> str:
        """Returns the head that has to answer; for CLEVR, the answer decides it."""
        if "total" in self.answers:
            return "total"
        if "binary" in self.answers:
            if question.answer in BINARY:
                return "binary"
            return "attr" if question.answer in self._indices["attr"] else "reg"
        return _semantic_type(question)


def _semantic_type(question: Question) -> str:
    if question.semantic_type not in GQA_TYPES:
        raise ValueError(
            f"question {question.id} has the semantic type {question.semantic_type}; "
            f"GQA's are {', '.join(GQA_TYPES)}"
        )
    return str(question.semantic_type)


def vocabulary_of(config: Any) -> AnswerVocabulary | None:
    """Returns the answer vocabulary of an ``MdetrConfig``, if it has one."""
    answers: Mapping[str, list[str]] | None = config.answers
    if answers is None:
        return None
    return AnswerVocabulary({head: tuple(names) for head, names in answers.items()})


CLEVR = AnswerVocabulary({"binary": BINARY, "attr": CLEVR_ATTRIBUTES, "reg": NUMBERS})


def write_answers(path: Path, vocabulary: AnswerVocabulary) -> None:
    """Writes a file that ``read_answers`` reads: complete, or not at all.

    Raises:
        OSError: it cannot be written.
    """
    indices = {
        f"answer_{head}": {answer: index for index, answer in enumerate(answers)}
        for head, answers in vocabulary.answers.items()
    }
    write_json(path, indices)


def gqa_answers(questions: Iterable[Question | None]) -> AnswerVocabulary:
    """Collects the answers of GQA's questions by semantic type, the most frequent first.

    Raises:
        ValueError: a question states no known type, or no question has an answer.
    """
    counts: dict[str, Counter[str]] = {semantic_type: Counter() for semantic_type in GQA_TYPES}
    for question in questions:
        if question is None or question.answer is None:
            continue
        counts[_semantic_type(question)][question.answer] += 1
    if not any(counts.values()):
        raise ValueError("there are no questions with answers")
    return AnswerVocabulary(
        {
            semantic_type: (
                *sorted(counter.keys() - {UNKNOWN}, key=lambda a: (-counter[a], a)),
                UNKNOWN,
            )
            for semantic_type, counter in counts.items()
        }
    )


def read_answers(path: Path) -> AnswerVocabulary:
    """Reads a published ``gqa_answer2id_by_type.json`` or ``gqa_answer2id.json``.

    Raises:
        ValueError: it is neither.
        OSError: it cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if all(isinstance(index, int) for index in content.values()):
            content = {"answer_total": content}
        answers = {
            head.removeprefix("answer_"): tuple(sorted(indices, key=indices.__getitem__))
            for head, indices in content.items()
        }
        for head, indices in content.items():
            if sorted(indices.values()) != list(range(len(indices))):
                raise ValueError(f"the answers of {head} are not numbered from 0 on")
        return AnswerVocabulary(answers)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: {error}") from error

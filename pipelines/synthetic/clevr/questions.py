"""CLEVR's questions about a scene, with the programs that answer them."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Any, NamedTuple

from pipelines.synthetic.clevr.scenes import (
    COLORS,
    MATERIALS,
    SHAPES,
    SIZES,
    ClevrRecord,
    relationships,
)

#: Maximum questions per image; maximum attempts at a question of one type.
MAX_QUESTIONS, ATTEMPTS = 8, 20
#: Maximum ratio of the counts of the most and the second most frequent answer to a question type.
MAX_ANSWER_RATIO = 1.1
RELATIONS = {"left": "left of", "right": "right of", "front": "in front of", "behind": "behind"}
ATTRIBUTES = {
    "size": SIZES,
    "color": tuple(COLORS),
    "material": MATERIALS,
    "shape": SHAPES,
}
#: Probability that an attribute in a description is random, so that it may fit no object.
RANDOM_SHARE = 0.15

#: The last function of the program, and the question's ``specificity``.
QuestionType = tuple[str, int]
Program = list[dict[str, Any]]


class ClevrQuestion(NamedTuple):
    """A question with the program that answers it.

    ``specificity`` is the number of attributes that it states; in a comparison of numbers, those of
    the first object minus those of the second. It predicts the answer, because few objects have
    many given attributes.
    """

    text: str
    program: Program
    answer: str
    specificity: int = 0


class AttributeDescription(NamedTuple):
    """Some attributes, and the words that state them."""

    attributes: dict[str, str]
    words: str


class Questioner:
    """Asks questions with one answer about the objects of one scene."""

    def __init__(self, objects: list[ClevrRecord], rng: Random) -> None:
        self._objects = objects
        self._relations = relationships(objects)
        self._rng = rng

    def ask(self) -> ClevrQuestion | None:
        """Returns a question of a random type; None if no attempt at that type succeeds."""
        types: list[Callable[[], ClevrQuestion | None]] = [
            self._exist,
            self._count,
            self._compare_number,
            self._compare_attribute,
            self._query_attribute,
        ]
        make_question = self._rng.choice(types)
        return next(filter(None, (make_question() for _ in range(ATTEMPTS))), None)

    def _describe_any(self, share: float = 0.5) -> AttributeDescription:
        """Returns a random ``share`` of the attributes, mostly those of an existing object."""
        obj = self._rng.choice(self._objects)
        attributes: dict[str, str] = {}
        for name, values in ATTRIBUTES.items():
            if self._rng.random() < share:
                is_random = self._rng.random() < RANDOM_SHARE
                attributes[name] = self._rng.choice(values) if is_random else obj[name]
        adjectives = [value for name, value in attributes.items() if name != "shape"]
        words = " ".join([*adjectives, attributes.get("shape", "thing")])
        return AttributeDescription(attributes, words)

    def _matching(
        self, description: AttributeDescription, candidates: Iterable[int] | None = None
    ) -> list[int]:
        """Returns the objects that have the attributes, among all by default."""
        return [
            i
            for i in (range(len(self._objects)) if candidates is None else candidates)
            if all(self._objects[i][k] == v for k, v in description.attributes.items())
        ]

    def _describe_one(self) -> tuple[int, AttributeDescription] | None:
        """Returns an object and a description that fits only this one."""
        for _ in range(10):
            description = self._describe_any()
            objects = self._matching(description)
            if len(objects) == 1:
                return objects[0], description
        return None

    def _exist(self) -> ClevrQuestion | None:
        description = self._describe_any()
        program = _filter_scene([], description)
        _append(program, "exist")
        return ClevrQuestion(
            text=f"Are there any {description.words}s?",
            program=program,
            answer=_yes_or_no(bool(self._matching(description))),
            specificity=len(description.attributes),
        )

    def _count(self) -> ClevrQuestion | None:
        one = self._describe_one()
        if one is None:
            return None
        anchor, anchor_description = one
        relation = self._rng.choice(sorted(RELATIONS))
        counted = self._describe_any(0.2)
        program = _filter_scene([], anchor_description)
        _append(program, "unique")
        _append(program, "relate", relation)
        _append_filters(program, counted)
        _append(program, "count")
        objects = self._matching(counted, self._relations[relation][anchor])
        return ClevrQuestion(
            text=f"How many {counted.words}s are {RELATIONS[relation]} "
            f"the {anchor_description.words}?",
            program=program,
            answer=str(len(objects)),
            specificity=len(counted.attributes),
        )

    def _compare_number(self) -> ClevrQuestion | None:
        first, second = self._describe_any(), self._describe_any()
        program = _filter_scene([], first)
        _append(program, "count")
        first_count = len(program) - 1
        _filter_scene(program, second)
        _append(program, "count")
        program.append(_step("greater_than", [first_count, len(program) - 1]))
        return ClevrQuestion(
            text=f"Are there more {first.words}s than {second.words}s?",
            program=program,
            answer=_yes_or_no(len(self._matching(first)) > len(self._matching(second))),
            specificity=len(first.attributes) - len(second.attributes),
        )

    def _compare_attribute(self) -> ClevrQuestion | None:
        one, other = self._describe_one(), self._describe_one()
        name = self._rng.choice(list(ATTRIBUTES))
        if one is None or other is None or one[0] == other[0]:
            return None
        (first, first_description), (second, second_description) = one, other
        if name in first_description.attributes or name in second_description.attributes:
            return None
        program = _filter_scene([], first_description)
        _append(program, "unique")
        _append(program, f"query_{name}")
        first_value = len(program) - 1
        _filter_scene(program, second_description)
        _append(program, "unique")
        _append(program, f"query_{name}")
        program.append(_step(f"equal_{name}", [first_value, len(program) - 1]))
        return ClevrQuestion(
            text=f"Does the {first_description.words} have the same {name} "
            f"as the {second_description.words}?",
            program=program,
            answer=_yes_or_no(self._objects[first][name] == self._objects[second][name]),
        )

    def _query_attribute(self) -> ClevrQuestion | None:
        one = self._describe_one()
        name = self._rng.choice(list(ATTRIBUTES))
        if one is None or name in one[1].attributes:
            return None
        obj, description = one
        program = _filter_scene([], description)
        _append(program, "unique")
        _append(program, f"query_{name}")
        return ClevrQuestion(
            text=f"What {name} is the {description.words}?",
            program=program,
            answer=self._objects[obj][name],
        )


def balance(
    questions: Iterable[ClevrQuestion], answer_counts: Counter[tuple[QuestionType, str]]
) -> Iterator[ClevrQuestion]:
    """Yields up to MAX_QUESTIONS questions, without those whose answer is already too frequent.

    As in CLEVR, this keeps a model that ignores the images from guessing well.

    Args:
        questions: about one image.
        answer_counts: the answers to each type of question so far, which the call updates.
    """
    count = 0
    for question in questions:
        question_type = question.program[-1]["function"], question.specificity
        key = question_type, question.answer
        others = [
            number
            for (other_type, answer), number in answer_counts.items()
            if other_type == question_type and answer != question.answer
        ]
        most = MAX_ANSWER_RATIO * max(others, default=0) + 1
        if count < MAX_QUESTIONS and answer_counts[key] <= most:
            answer_counts[key] += 1
            count += 1
            yield question


def _step(function: str, inputs: list[int], *values: str) -> dict[str, Any]:
    return {"inputs": inputs, "function": function, "value_inputs": list(values)}


def _append(program: Program, function: str, *values: str) -> None:
    """Appends a step that takes the output of the last one."""
    program.append(_step(function, [len(program) - 1], *values))


def _append_filters(program: Program, description: AttributeDescription) -> None:
    """Appends a filter for each attribute."""
    for name, value in description.attributes.items():
        _append(program, f"filter_{name}", value)


def _filter_scene(program: Program, description: AttributeDescription) -> Program:
    """Appends a chain of steps that outputs the objects a description fits; returns the program."""
    program.append(_step("scene", []))
    _append_filters(program, description)
    return program


def _yes_or_no(condition: bool) -> str:
    return "yes" if condition else "no"

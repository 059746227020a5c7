"""CLEVR's functional programs, and the objects that a question refers to by its program."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

ATTRIBUTES = ("size", "color", "material", "shape")
# CLEVR's names, in the order of ATTRIBUTES; None for attributes that a question does not state.
AttributeValues = tuple[str | None, str | None, str | None, str | None]
ObjectIds = frozenset[int]
# By relationship ("left", "behind", ...): for each object, the objects in that relationship to it.
Relationships = Mapping[str, Sequence[Sequence[int]]]
MAX_STEPS = 100  # CLEVR's programs have up to about 25 steps


class ClevrObject(msgspec.Struct, gc=False):
    """The attributes of an object of a scene."""

    size: str
    color: str
    material: str
    shape: str


class ProgramNode(msgspec.Struct, gc=False):
    """A step of a program. The released files have ``function``, the generator's have ``type``."""

    inputs: list[int] = []
    value_inputs: list[str] = []
    function: str = ""
    type: str = ""

    @property
    def name(self) -> str:
        """The name of the step's function, such as ``filter_color``."""
        return self.function or self.type


class ObjectReference(NamedTuple):
    """The objects that a noun phrase of a question refers to, and the attributes it states."""

    attributes: AttributeValues
    objects: ObjectIds


# --- running a program ----------------------------------------------------------------------------


def run_program(
    program: Sequence[ProgramNode],
    objects: Sequence[ClevrObject],
    relationships: Relationships,
) -> list[ObjectIds | None]:
    """Returns the objects that each step of a program yields; None if it yields an answer.

    Args:
        program: the steps; each takes the results of earlier ones.
        objects: the objects of the scene.
        relationships: the relationships of the scene.

    Raises:
        ValueError: it is not a valid program for this scene.
    """
    if len(program) > MAX_STEPS:
        raise ValueError(f"{len(program)} steps")
    results: list[ObjectIds | None] = []
    unused: set[int] = set()
    for number, node in enumerate(program):
        if not unused.issuperset(node.inputs) or len(set(node.inputs)) < len(node.inputs):
            raise ValueError(f"step {number} takes {node.inputs}, which are not all available")
        unused.difference_update(node.inputs)
        unused.add(number)
        try:
            inputs = [results[step] for step in node.inputs]
            results.append(_run_step(node, inputs, objects, relationships))
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ValueError(f"step {number}, {node.name}: {error!r}") from error
    return results


def _run_step(
    node: ProgramNode,
    inputs: list[Any],
    objects: Sequence[ClevrObject],
    relationships: Relationships,
) -> ObjectIds | None:
    function, _, attribute = node.name.partition("_")
    match function:
        case "scene":
            return frozenset(range(len(objects)))
        case "filter":
            value = node.value_inputs[0]
            return frozenset(i for i in inputs[0] if getattr(objects[i], attribute) == value)
        case "unique":
            if len(inputs[0]) != 1:
                raise ValueError(f"unique, of {len(inputs[0])} objects")
            return frozenset(inputs[0])
        case "relate":
            return _related(_single(inputs[0]), relationships[node.value_inputs[0]], len(objects))
        case "same":
            selected = _single(inputs[0])
            value = getattr(objects[selected], attribute)
            same = (i for i, obj in enumerate(objects) if getattr(obj, attribute) == value)
            return frozenset(same) - {selected}
        case "union":
            return frozenset(inputs[0] | inputs[1])
        case "intersect":
            return frozenset(inputs[0] & inputs[1])
        case "count" | "exist" | "query" | "equal" | "greater" | "less":
            return None
    raise ValueError(f"unknown function {node.name}")


def _single(objects: ObjectIds) -> int:
    (selected,) = objects
    return selected


def _related(selected: int, relationship: Sequence[Sequence[int]], count: int) -> ObjectIds:
    related = relationship[selected]
    if any(not 0 <= i < count for i in related):
        raise ValueError(f"the scene relates objects that it does not have: {related}")
    return frozenset(related)


# --- what a program refers to ---------------------------------------------------------------------


def object_references(
    program: Sequence[ProgramNode], results: Sequence[ObjectIds | None]
) -> list[ObjectReference]:
    """Returns the references of a program in the order of the question's noun phrases.

    That is from the answer backwards: the program of "How many cubes are left of the ball?" begins
    with the ball.
    """
    return list(_references_from(program, results, len(program) - 1, None)) if program else []


def _references_from(
    program: Sequence[ProgramNode],
    results: Sequence[ObjectIds | None],
    step: int,
    within: ObjectIds | None,
) -> Iterator[ObjectReference]:
    """Yields the reference of a step and those of its inputs.

    Args:
        program: the steps.
        results: the objects of each step.
        step: the step to begin with; filters before it belong to the same reference.
        within: the objects that later filters leave, if there is a union in between.
    """
    objects = results[step]
    stated: dict[str, str] = {}
    function, _, attribute = program[step].name.partition("_")
    while function in ("filter", "unique"):
        if function == "filter":
            stated[attribute] = program[step].value_inputs[0]
        step = program[step].inputs[0]
        function, _, attribute = program[step].name.partition("_")
    if objects is not None:
        referenced = objects if within is None else objects & within
        size, color, material, shape = map(stated.get, ATTRIBUTES)
        yield ObjectReference((size, color, material, shape), referenced)
    within = objects if function == "union" else None
    inputs = program[step].inputs
    # Questions state the inputs of an intersection in reverse order.
    for input_step in inputs[::-1] if function == "intersect" else inputs:
        if function == "intersect" and program[input_step].name == "relate":
            # "right of the ball and ...": no noun phrase stands for what is there.
            input_step = program[input_step].inputs[0]
        yield from _references_from(program, results, input_step, within)


def mentions_an_object_twice(
    program: Sequence[ProgramNode], results: Sequence[ObjectIds | None]
) -> bool:
    """Returns whether a question is excluded from CLEVR-Medium.

    It is if it singles out, counts or asks about an object twice, or if an object is on both sides
    of its union.
    """
    mentioned = [
        results[node.inputs[0]] or frozenset()
        for node in program
        if node.name in ("unique", "count", "exist") and node.inputs
    ]
    on_both_sides = [
        (results[node.inputs[0]] or frozenset()) & (results[node.inputs[1]] or frozenset())
        for node in program
        if node.name == "union"
    ]
    distinct: ObjectIds = frozenset().union(*mentioned)
    return any(on_both_sides) or sum(map(len, mentioned)) > len(distinct)

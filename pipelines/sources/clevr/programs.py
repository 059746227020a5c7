"""CLEVR's functional programs: which objects a question speaks of, in the order of its words."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

ATTRIBUTES = ("size", "color", "material", "shape")
# By CLEVR's own names; those that a question does not state are None.
Attributes = tuple[str | None, str | None, str | None, str | None]
Things = frozenset[int]
MOST_STEPS = 100  # CLEVR's programs have up to some 25


class ClevrObject(msgspec.Struct, gc=False):
    """What a program can ask of one object of a scene."""

    size: str
    color: str
    material: str
    shape: str


class Node(msgspec.Struct, gc=False):
    """A step of a program. The released files say ``function``, the generator's say ``type``."""

    inputs: list[int] = []
    value_inputs: list[str] = []
    function: str = ""
    type: str = ""

    @property
    def name(self) -> str:
        return self.function or self.type


class Reference(NamedTuple):
    """Objects that the words of a question stand for, and what it says of them."""

    attributes: Attributes
    objects: Things


def objects_of(
    program: Sequence[Node],
    objects: Sequence[ClevrObject],
    relationships: Mapping[str, Sequence[Sequence[int]]],
) -> list[Things | None]:
    """The objects that each step of a program yields; None for those that yield an answer.

    Args:
        program: steps that take those before them.
        objects: of the scene.
        relationships: for "left", "behind" and so on, the objects that are so of each object.

    Raises:
        ValueError: it is no program of this scene.
    """
    if len(program) > MOST_STEPS:
        raise ValueError(f"{len(program)} steps")
    found: list[Things | None] = []
    untaken: set[int] = set()
    for number, node in enumerate(program):
        if not untaken.issuperset(node.inputs) or len(set(node.inputs)) < len(node.inputs):
            raise ValueError(f"step {number} takes {node.inputs}, not all of them there to take")
        untaken.difference_update(node.inputs)
        untaken.add(number)
        try:
            inputs = [found[place] for place in node.inputs]
            found.append(_yielded(node, inputs, objects, relationships))
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ValueError(f"step {number}, {node.name}: {error!r}") from error
    return found


def _yielded(
    node: Node,
    inputs: list[Any],
    objects: Sequence[ClevrObject],
    relationships: Mapping[str, Sequence[Sequence[int]]],
) -> Things | None:
    kind, _, attribute = node.name.partition("_")
    if kind == "scene":
        return frozenset(range(len(objects)))
    if kind == "filter":
        value = node.value_inputs[0]
        return frozenset(i for i in inputs[0] if getattr(objects[i], attribute) == value)
    if kind in ("unique", "relate", "same"):
        chosen = inputs[0]
        if len(chosen) != 1 and kind == "unique":
            raise ValueError(f"unique, of {len(chosen)} objects")
        if kind == "unique":
            return frozenset(chosen)
        (one,) = chosen
        if kind == "relate":
            related = relationships[node.value_inputs[0]][one]
            if any(not 0 <= i < len(objects) for i in related):
                raise ValueError(f"the scene relates objects that it does not have: {related}")
            return frozenset(related)
        wanted = getattr(objects[one], attribute)
        alike = (i for i, obj in enumerate(objects) if getattr(obj, attribute) == wanted)
        return frozenset(alike) - {one}
    if kind == "union":
        return frozenset(inputs[0] | inputs[1])
    if kind == "intersect":
        return frozenset(inputs[0] & inputs[1])
    if kind in ("count", "exist", "query", "equal", "greater", "less"):
        return None
    raise ValueError("there is no such step")


def references(program: Sequence[Node], found: Sequence[Things | None]) -> list[Reference]:
    """What is referred to, in the order in which questions name it: from the answer backwards.

    "How many cubes are left of the ball?" is a program that begins with the ball.
    """
    return list(_from(program, found, len(program) - 1, None)) if program else []


def _from(
    program: Sequence[Node], found: Sequence[Things | None], step: int, within: Things | None
) -> Iterator[Reference]:
    """``within``: what a step further on leaves of these objects, where a union lies between."""
    objects = found[step]
    stated: dict[str, str] = {}
    kind, _, attribute = program[step].name.partition("_")
    while kind in ("filter", "unique"):
        if kind == "filter":
            stated[attribute] = program[step].value_inputs[0]
        step = program[step].inputs[0]
        kind, _, attribute = program[step].name.partition("_")
    if objects is not None:
        meant = objects if within is None else objects & within
        size, color, material, shape = map(stated.get, ATTRIBUTES)
        yield Reference((size, color, material, shape), meant)
    within = objects if kind == "union" else None
    for place in _in_order_of_words(program, step):
        if kind == "intersect" and program[place].name == "relate":
            place = program[place].inputs[0]  # "right of it and ...": no words for what is there
        yield from _from(program, found, place, within)


def _in_order_of_words(program: Sequence[Node], step: int) -> list[int]:
    """The inputs of a step; questions name that of an intersection the other way round."""
    inputs = program[step].inputs
    return inputs[::-1] if program[step].name == "intersect" else inputs


def names_an_object_twice(program: Sequence[Node], found: Sequence[Things | None]) -> bool:
    """Whether a question is none of CLEVR-Medium: it singles out, counts or asks for an object twice,
    or an object is on both sides of its union.
    """
    asked = [
        found[node.inputs[0]] or frozenset()
        for node in program
        if node.name in ("unique", "count", "exist") and node.inputs
    ]
    both = [
        (found[node.inputs[0]] or frozenset()) & (found[node.inputs[1]] or frozenset())
        for node in program
        if node.name == "union"
    ]
    return any(both) or sum(map(len, asked)) > len(frozenset().union(*asked))

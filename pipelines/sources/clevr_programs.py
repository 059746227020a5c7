"""CLEVR's functional programs: which things a question speaks of, in the order of its words."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

ATTRIBUTES = ("size", "color", "material", "shape")
# By CLEVR's own names; those that a question does not state are None.
Attributes = tuple[str | None, str | None, str | None, str | None]
Things = frozenset[int]


class Thing(msgspec.Struct, gc=False):
    """What a program can ask of one thing of a scene."""

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
    """Things that the words of a question stand for, and what it says of them."""

    attributes: Attributes
    things: Things


def things_of(
    program: Sequence[Node],
    things: Sequence[Thing],
    relationships: Mapping[str, Sequence[Sequence[int]]],
) -> list[Things | None]:
    """The things that each step of a program yields; None for those that yield an answer.

    Args:
        program: steps that take those before them.
        things: of the scene.
        relationships: for "left", "behind" and so on, the things that are so of each thing.

    Raises:
        ValueError: it is no program of this scene.
    """
    found: list[Things | None] = []
    for number, node in enumerate(program):
        if any(not 0 <= place < number for place in node.inputs):
            raise ValueError(f"step {number} takes {node.inputs}")
        try:
            inputs = [found[place] for place in node.inputs]
            found.append(_yielded(node, inputs, things, relationships))
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ValueError(f"step {number}, {node.name}: {error!r}") from error
    return found


def _yielded(
    node: Node,
    inputs: list[Any],
    things: Sequence[Thing],
    relationships: Mapping[str, Sequence[Sequence[int]]],
) -> Things | None:
    kind, _, attribute = node.name.partition("_")
    if kind == "scene":
        return frozenset(range(len(things)))
    if kind == "filter":
        value = node.value_inputs[0]
        return frozenset(i for i in inputs[0] if getattr(things[i], attribute) == value)
    if kind in ("unique", "relate", "same"):
        chosen = inputs[0]
        if len(chosen) != 1 and kind == "unique":
            raise ValueError(f"unique, of {len(chosen)} things")
        if kind == "unique":
            return frozenset(chosen)
        (one,) = chosen
        if kind == "relate":
            return frozenset(relationships[node.value_inputs[0]][one])
        wanted = getattr(things[one], attribute)
        alike = (i for i, thing in enumerate(things) if getattr(thing, attribute) == wanted)
        return frozenset(alike) - {one}
    if kind == "union":
        return frozenset(inputs[0] | inputs[1])
    if kind == "intersect":
        return frozenset(inputs[0] & inputs[1])
    return None  # count, exist, query_..., equal_..., greater_than, less_than


def references(program: Sequence[Node], found: Sequence[Things | None]) -> list[Reference]:
    """What is referred to, in the order in which questions name it: from the answer backwards.

    "How many cubes are left of the ball?" is a program that begins with the ball.
    """
    return list(_from(program, found, len(program) - 1)) if program else []


def _from(
    program: Sequence[Node], found: Sequence[Things | None], step: int
) -> Iterator[Reference]:
    things = found[step]
    stated: dict[str, str] = {}
    kind, _, attribute = program[step].name.partition("_")
    while kind in ("filter", "unique"):
        if kind == "filter":
            stated[attribute] = program[step].value_inputs[0]
        step = program[step].inputs[0]
        kind, _, attribute = program[step].name.partition("_")
    if things is not None:
        size, color, material, shape = map(stated.get, ATTRIBUTES)
        yield Reference((size, color, material, shape), things)
    for place in program[step].inputs:
        yield from _from(program, found, place)

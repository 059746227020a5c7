"""Words about a scene that are true of it.

A `Description` names objects by some of their properties; `Language` finds, for every object of a
scene, the descriptions that fit no other object, and the spatial relations that hold.
"""

from collections import Counter
from collections.abc import Sequence
from math import inf
from random import Random
from typing import NamedTuple, TypeVar

from pipelines.synthetic.scene import Scene, SceneObject
from pipelines.synthetic.shapes import OUTLINES

T = TypeVar("T")

#: Words that stand for others, each as often as it is listed.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "small": ("small", "small", "little", "tiny", "mini"),
    "large": ("large", "big", "big", "huge", "giant"),
    "dark": ("dark", "dark", "deep"),
    "light": ("light", "light", "pale"),
    "striped": ("striped", "striped", "stripy"),
    "dotted": ("dotted", "dotted", "spotted"),
    "outlined": ("outlined", "bordered"),
    "purple": ("purple", "purple", "violet"),
    "gray": ("gray", "gray"),
    "circle": ("circle", "circle", "disc", "disk"),
    "square": ("square", "square", "box"),
    "rectangle": ("rectangle", "bar"),
    "diamond": ("diamond", "diamond", "rhombus"),
    "oval": ("oval", "oval", "ellipse"),
    "crescent": ("crescent", "moon"),
    "plus sign": ("plus sign", "plus", "cross"),
    "half circle": ("half circle", "semicircle", "dome"),
    "in the top left corner": ("at top left", "in the top left corner", "in the upper left"),
    "in the top right corner": ("at top right", "in the top right corner", "in the upper right"),
    "in the bottom left corner": (
        "at bottom left",
        "in the lower left",
        "in the bottom left corner",
    ),
    "in the bottom right corner": (
        "at bottom right",
        "in the lower right",
        "in the bottom right corner",
    ),
    "on the left side": ("on the left", "at left", "on the left side"),
    "on the right side": ("on the right", "at right", "on the right side"),
    "at the top": ("at the top", "at the top edge", "up high"),
    "at the bottom": ("at the bottom", "at the bottom edge", "down low"),
    "in the middle": ("in the middle", "in the center"),
}
#: Words that people use only when nothing else tells two objects apart.
LAST_RESORTS = ("medium", "solid")
#: How brief people are, unless told otherwise: two thirds of the names they use are a noun alone.
CAPTION_LENGTH_BIAS = 5.0
#: How much more than the shortest description people say.
MOST_EXTRA_EFFORT = 2
#: The first of each is what GQA's programs say.
RELATIONS = {
    "left": ("to the left of", "left of", "left of"),
    "right": ("to the right of", "right of", "right of"),
    "above": ("above", "above", "over"),
    "below": ("below", "below", "under", "beneath"),
}
NEARNESS = ("near", "near", "by", "beside", "next to", "close to")
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

#: A direction holds if the centers differ by this share of the image's side along it, and by
#: less across it.
LEAST_OFFSET = 0.10
#: A side tells an object from its like if it lies in that half, and all others by this share of the
#: image's side farther from the edge.
SIDE_MARGIN = 0.15
#: How often people who say where an object is leave it to a side to tell it from its like.
TOLD_BY_SIDE_SHARE = 0.7
#: Two objects are near if no more than this share of the shorter side lies between their boxes.
NEAR = 0.12


class Named(NamedTuple):
    """A part of a sentence that names objects; ``words`` ends with ``noun``."""

    words: str
    noun: str
    objects: list[int]


class Description(NamedTuple):
    """Properties that a text mentions; "" is not mentioned. ``color`` includes the shade."""

    size: str
    texture: str
    color: str
    noun: str

    @property
    def effort(self) -> int:
        """How many adjectives there are, those of LAST_RESORTS counted thrice."""
        adjectives = [word for word in self[:3] if word]
        return len(adjectives) + 2 * sum(word in LAST_RESORTS for word in adjectives)

    def named(self, rng: Random, objects: list[int]) -> Named:
        """As words without article, each drawn among its synonyms."""
        noun = synonym(rng, self.noun)
        shade, _, color = self.color.rpartition(" ")
        adjectives = [self.size, self.texture, shade, color]
        words = [synonym(rng, word) for word in adjectives if word]
        return Named(" ".join([*words, noun]), noun, objects)


class Mention(NamedTuple):
    """Objects and the words that name them: characters start..stop, of which noun..stop the noun."""

    objects: list[int]
    start: int
    noun: int
    stop: int


class Sentence(NamedTuple):
    text: str
    mentions: list[Mention]


def sentence(parts: Sequence[str | Named]) -> Sentence:
    """Parts joined by spaces; empty ones are left out.

    >>> sentence(["a", Named("red circle", "circle", [0]), "", "on the left"])[0]
    'a red circle on the left'
    """
    texts: list[str] = []
    mentions: list[Mention] = []
    start = 0
    for part in parts:
        words = part if isinstance(part, str) else part.words
        if not words:
            continue
        stop = start + len(words)
        if not isinstance(part, str):
            mentions.append(Mention(part.objects, start, stop - len(part.noun), stop))
        texts.append(words)
        start = stop + 1
    return Sentence(" ".join(texts), mentions)


class Relation(NamedTuple):
    """``subject`` lies in ``direction`` (a key of RELATIONS, or "near") of ``object``."""

    subject: int
    direction: str
    object: int


class Language:
    """What can be said about a scene.

    ``caption_length_bias``: the higher, the shorter are the descriptions that people choose; from 1, where all
    that fit are as likely.
    ``unique[i]``: descriptions of object i alone, from the shortest to the longest. It is never
    empty, because no two objects of a scene are alike in noun, color, texture and size.
    ``colorless[i]``: the shortest such description without a color, or None.
    ``relations``: those that clearly hold. ``groups``: plural descriptions and their objects.
    ``places[i]``: where in the image object i is, or "".
    ``told_by_side[i]``: descriptions that fit others, too, and a side where object i lies alone.
    """

    def __init__(self, scene: Scene, caption_length_bias: float = CAPTION_LENGTH_BIAS) -> None:
        self.scene = scene
        self.caption_length_bias = caption_length_bias
        self.objects = scene.objects
        possible = [_descriptions(obj) for obj in scene.objects]
        count = Counter(description for each in possible for description in each)
        alone = [[d for d in each if count[d] == 1] for each in possible]
        self.unique = [
            [d for d in each if d.effort <= each[0].effort + MOST_EXTRA_EFFORT] for each in alone
        ]
        self.colorless = [next((d for d in each if not d.color), None) for each in alone]
        self.relations = _relations(scene)
        self.groups = [
            (description, [i for i, each in enumerate(possible) if description in each])
            for description in count
            if count[description] > 1 and not description.size and not description.texture
        ]
        self.places = [_place(obj, scene) for obj in scene.objects]
        self.told_by_side = [self._told_by_side(i, possible) for i in range(len(possible))]

    def place(self, rng: Random, obj: int) -> str:
        """Where in the image an object is, in some words, or ""."""
        return synonym(rng, self.places[obj])

    def located(self, rng: Random, obj: int) -> tuple[Named, str]:
        """An object and where it is: "circle", "on the left".

        Where a side tells it from its like, mostly only both together fit it alone. The place is ""
        if there is nothing to say about it.
        """
        options = self.told_by_side[obj]
        if options and rng.random() < TOLD_BY_SIDE_SHARE:
            description, side = _briefly(rng, options, self.caption_length_bias)
            return description.named(rng, [obj]), synonym(rng, side)
        return self.describe(rng, obj), self.place(rng, obj)

    def describe(self, rng: Random, obj: int, most_brevity: float = inf) -> Named:
        """A description that fits this object only, at most as brief as that."""
        options = self.unique[obj]
        return _briefly(rng, options, min(self.caption_length_bias, most_brevity)).named(rng, [obj])

    def describe_absent(self, rng: Random) -> Named:
        """A description such as `describe` gives, of a shape that the scene does not have."""
        options = self.unique[rng.randrange(len(self.objects))]
        description = _briefly(rng, options, self.caption_length_bias)
        shown = {obj.noun for obj in self.objects}
        noun = rng.choice([noun for noun in OUTLINES if noun not in shown])
        return description._replace(noun=noun).named(rng, [])

    def describe_without_color(self, rng: Random, obj: int) -> Named | None:
        """A description of this object only that keeps its color back, if there is one."""
        description = self.colorless[obj]
        return description.named(rng, [obj]) if description else None

    def group(self, rng: Random) -> Named:
        """The objects that share a description, in the plural: "two red circles"."""
        description, members = rng.choice(self.groups)
        named = description.named(rng, members)
        words = f"{NUMBERS[len(members)]} {plural(named.words)}"
        return Named(words, plural(named.noun), members)

    def _told_by_side(
        self, obj: int, possible: list[list[Description]]
    ) -> list[tuple[Description, str]]:
        found: list[tuple[Description, str]] = []
        for description in possible[obj]:
            like = [
                other
                for other, fitting in zip(self.objects, possible, strict=True)
                if description in fitting and other is not self.objects[obj]
            ]
            if like and description.effort <= MOST_EXTRA_EFFORT:
                sides = _sides(self.objects[obj], like, self.scene)
                found += [(description, side) for side in sides]
        return found

    def beside(self, obj: int, direction: str) -> list[int]:
        """The objects that might be meant by "in that direction of ``obj``", generously."""
        x, y = self.objects[obj].center
        centers = [other.center for other in self.objects]
        if direction in ("left", "right"):
            sign = 1 if direction == "left" else -1
            return [i for i, (cx, _) in enumerate(centers) if sign * (x - cx) > 0]
        sign = 1 if direction == "above" else -1
        return [i for i, (_, cy) in enumerate(centers) if sign * (y - cy) > 0]


def _briefly(rng: Random, options: Sequence[T], caption_length_bias: float) -> T:
    """One of the options, which go from short to long: a short one, the higher ``caption_length_bias`` is."""
    return options[int(len(options) * rng.random() ** caption_length_bias)]


def plural(words: str) -> str:
    return words + ("es" if words.endswith(("s", "x")) else "s")


def synonym(rng: Random, words: str) -> str:
    """Words that stand for the given ones, or the given ones if there are no others."""
    synonyms = SYNONYMS.get(words)
    return rng.choice(synonyms) if synonyms else words


def article(words: str) -> str:
    return "an" if words[0] in "aeiou" else "a"


def _descriptions(obj: SceneObject) -> list[Description]:
    """Every way to mention some of an object's properties, with few words first."""
    colors = ["", obj.color]
    if obj.shade:
        colors.append(f"{obj.shade} {obj.color}")
    found = [
        Description(size, texture, color, obj.noun)
        for color in colors
        for texture in ("", obj.texture)
        for size in ("", obj.size)
    ]
    return sorted(found, key=lambda description: description.effort)


def _relations(scene: Scene) -> list[Relation]:
    least_x, least_y = LEAST_OFFSET * scene.width, LEAST_OFFSET * scene.height
    near = NEAR * min(scene.width, scene.height)
    centers = [obj.center for obj in scene.objects]
    found: list[Relation] = []
    for i, (xi, yi) in enumerate(centers):
        for j, (xj, yj) in enumerate(centers):
            if i == j:
                continue
            dx, dy = xi - xj, yi - yj
            if abs(dx) > abs(dy) and abs(dx) > least_x:
                found.append(Relation(i, "left" if dx < 0 else "right", j))
            elif abs(dy) > abs(dx) and abs(dy) > least_y:
                found.append(Relation(i, "above" if dy < 0 else "below", j))
            if _between(scene.objects[i], scene.objects[j]) < near:
                found.append(Relation(i, "near", j))
    return found


def _between(a: SceneObject, b: SceneObject) -> float:
    """The larger of the horizontal and the vertical gap of two boxes."""
    across = max(a.box[0], b.box[0]) - min(a.box[2], b.box[2])
    down = max(a.box[1], b.box[1]) - min(a.box[3], b.box[3])
    return max(across, down)


def _sides(obj: SceneObject, like: list[SceneObject], scene: Scene) -> list[str]:
    """The sides of the image on which an object lies, but clearly none of its like."""
    found: list[str] = []
    for axis, length, sides in (
        (0, scene.width, ("on the left side", "on the right side")),
        (1, scene.height, ("at the top", "at the bottom")),
    ):
        here = obj.center[axis] / length
        others = [other.center[axis] / length for other in like]
        if here < 0.5 and here + SIDE_MARGIN < min(others):
            found.append(sides[0])
        if here > 0.5 and here - SIDE_MARGIN > max(others):
            found.append(sides[1])
    return found


def _place(obj: SceneObject, scene: Scene) -> str:
    """Where an object is, in words that nobody would dispute."""
    x, y = obj.center[0] / scene.width, obj.center[1] / scene.height
    across = "left" if x < 0.27 else "right" if x > 0.73 else ""
    down = "top" if y < 0.27 else "bottom" if y > 0.73 else ""
    if across and down:
        return f"in the {down} {across} corner"
    if across:
        return f"on the {across} side"
    if down:
        return f"at the {down}"
    return "in the middle" if abs(x - 0.5) < 0.1 and abs(y - 0.5) < 0.1 else ""

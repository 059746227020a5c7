"""Texts about a scene that are true of it.

`ObjectDescription` states some properties of an object. `Language` determines, for every object of
a scene, the descriptions that fit no other object, and the spatial relations that hold.
"""

from collections.abc import Sequence
from math import inf
from random import Random
from typing import NamedTuple, TypeVar

from pipelines.synthetic.scene import Scene, SyntheticObject
from pipelines.synthetic.shapes import OUTLINES

T = TypeVar("T")

#: Phrases and what may be written for them, each as often as it is listed.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "small": ("small", "small", "little", "tiny", "mini"),
    "large": ("large", "big", "big", "huge", "giant"),
    "dark": ("dark", "dark", "deep"),
    "light": ("light", "light", "pale"),
    "striped": ("striped", "striped", "stripy"),
    "dotted": ("dotted", "dotted", "spotted"),
    "outlined": ("outlined", "bordered"),
    "purple": ("purple", "purple", "violet"),
    "gray": ("gray", "grey"),
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
#: Adjectives that are used only when no other property distinguishes two objects.
UNUSUAL_ADJECTIVES = ("medium", "solid")
#: The default preference for short descriptions, under which two thirds are a noun alone.
CAPTION_LENGTH_BIAS = 5.0
#: Maximum extra effort of a description over the shortest one of an object.
MAX_EXTRA_EFFORT = 2
#: Words for each direction; the first are those of GQA's programs.
RELATIONS = {
    "left": ("to the left of", "left of", "left of"),
    "right": ("to the right of", "right of", "right of"),
    "above": ("above", "above", "over"),
    "below": ("below", "below", "under", "beneath"),
}
NEAR_WORDS = ("near", "near", "by", "beside", "next to", "close to")
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

#: A direction holds if the centers differ by this share of the image's side along it, and by
#: less across it.
MIN_OFFSET = 0.10
#: A side distinguishes an object from similar ones if it lies in that half of the image, and each
#: of them by this share of the image's side farther from the edge.
SIDE_MARGIN = 0.15
#: Probability that a text with a position needs it to distinguish an object, if that is possible.
UNIQUE_BY_SIDE_SHARE = 0.7
#: Two objects are near if no more than this share of the shorter side lies between their boxes.
MAX_NEAR_GAP = 0.12


class ObjectPhrase(NamedTuple):
    """Words that refer to objects (indices into the scene's list); they end with ``noun``."""

    words: str
    noun: str
    objects: list[int]


class ObjectDescription(NamedTuple):
    """Properties that a text states; "" is not stated. ``color`` includes the shade."""

    size: str
    texture: str
    color: str
    noun: str

    @property
    def effort(self) -> int:
        """The number of adjectives, those of UNUSUAL_ADJECTIVES counted three times."""
        adjectives = [word for word in self[:3] if word]
        return len(adjectives) + 2 * sum(word in UNUSUAL_ADJECTIVES for word in adjectives)

    def noun_phrase(self, rng: Random, objects: list[int]) -> ObjectPhrase:
        """Returns the description as words without article, each drawn among its synonyms."""
        noun = synonym(rng, self.noun)
        shade, _, color = self.color.rpartition(" ")
        adjectives = [self.size, self.texture, shade, color]
        words = [synonym(rng, word) for word in adjectives if word]
        return ObjectPhrase(" ".join([*words, noun]), noun, objects)


class Mention(NamedTuple):
    """A noun phrase in a text.

    ``start``, ``noun_start`` and ``stop`` are character offsets: the phrase is ``start:stop``, its
    noun ``noun_start:stop``.
    """

    objects: list[int]
    start: int
    noun_start: int
    stop: int

    def shifted(self, characters: int) -> "Mention":
        """Returns the mention in a text that has more characters in front."""
        return self._replace(
            start=self.start + characters,
            noun_start=self.noun_start + characters,
            stop=self.stop + characters,
        )


class Sentence(NamedTuple):
    """A text, and which of its words refer to which objects."""

    text: str
    mentions: list[Mention]


def sentence(parts: Sequence[str | ObjectPhrase]) -> Sentence:
    """Joins parts by spaces and leaves out the empty ones.

    >>> sentence(["a", ObjectPhrase("red circle", "circle", [0]), "", "on the left"]).text
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


class SpatialRelation(NamedTuple):
    """``subject`` lies in ``direction`` (a key of RELATIONS, or "near") of ``object``."""

    subject: int
    direction: str
    object: int


class Language:
    """The statements that texts can make about a scene.

    Attributes:
        scene: the scene; ``objects`` are its objects.
        caption_length_bias: 1 makes all descriptions that fit equally likely; higher values give
            shorter ones.
        nouns: what scenes of its style may show, so that a text cannot tell what one lacks.
        unique: for each object, its descriptions that fit no other object, from the shortest to the
            longest. There is at least one, because no two objects of a scene agree in noun, color,
            texture and size.
        colorless: for each object, the shortest such description without a color, or None.
        unique_by_side: for each object, descriptions that fit other objects too, and a side of the
            image on which only this one lies.
        positions: for each object, where in the image it is, or "".
        relations: the spatial relations that clearly hold.
        groups: descriptions without size and texture that fit several objects, and those objects.
    """

    def __init__(
        self,
        scene: Scene,
        caption_length_bias: float = CAPTION_LENGTH_BIAS,
        nouns: Sequence[str] = tuple(OUTLINES),
    ) -> None:
        self.scene = scene
        self.nouns = nouns
        self.objects = scene.objects
        self.caption_length_bias = caption_length_bias
        possible = [_descriptions(obj) for obj in scene.objects]
        fitting = _objects_by_description(possible)
        unique = [[d for d in descriptions if len(fitting[d]) == 1] for descriptions in possible]
        self.unique = [
            [d for d in descriptions if d.effort <= descriptions[0].effort + MAX_EXTRA_EFFORT]
            for descriptions in unique
        ]
        self.colorless = [
            next((d for d in descriptions if not d.color), None) for descriptions in unique
        ]
        self.unique_by_side = [
            [
                (description, side)
                for description in descriptions
                if description.effort <= MAX_EXTRA_EFFORT
                for side in _exclusive_sides(scene, i, fitting[description])
            ]
            for i, descriptions in enumerate(possible)
        ]
        self.positions = [_position(obj, scene) for obj in scene.objects]
        self.relations = _relations(scene)
        self.groups = [
            (description, members)
            for description, members in fitting.items()
            if len(members) > 1 and not description.size and not description.texture
        ]

    def noun_phrase(self, rng: Random, obj: int, max_bias: float = inf) -> ObjectPhrase:
        """Returns words that fit this object only.

        ``max_bias`` limits the caption length bias, so that the words are longer.
        """
        bias = min(self.caption_length_bias, max_bias)
        return _draw_short(rng, self.unique[obj], bias).noun_phrase(rng, [obj])

    def absent_noun_phrase(self, rng: Random) -> ObjectPhrase:
        """Returns words such as those of `noun_phrase`, for a shape that the scene lacks."""
        options = self.unique[rng.randrange(len(self.objects))]
        description = _draw_short(rng, options, self.caption_length_bias)
        present = {obj.noun for obj in self.objects}
        absent = [noun for noun in self.nouns if noun not in present]
        # A scene that shows all of its style lacks other shapes.
        noun = rng.choice(absent or [noun for noun in OUTLINES if noun not in present])
        return description._replace(noun=noun).noun_phrase(rng, [])

    def colorless_noun_phrase(self, rng: Random, obj: int) -> ObjectPhrase | None:
        """Returns words that fit this object only and omit its color, if there are any."""
        description = self.colorless[obj]
        return description.noun_phrase(rng, [obj]) if description else None

    def located_noun_phrase(self, rng: Random, obj: int) -> tuple[ObjectPhrase, str]:
        """Returns words for an object and its position, such as "circle" and "on the left".

        Where a side distinguishes the object, mostly only both together fit it alone. The position
        is "" for an object in no special one.
        """
        options = self.unique_by_side[obj]
        if options and rng.random() < UNIQUE_BY_SIDE_SHARE:
            description, side = _draw_short(rng, options, self.caption_length_bias)
            return description.noun_phrase(rng, [obj]), synonym(rng, side)
        return self.noun_phrase(rng, obj), self.position(rng, obj)

    def plural_noun_phrase(self, rng: Random) -> ObjectPhrase:
        """Returns words for all objects that share a description: "two red circles"."""
        description, members = rng.choice(self.groups)
        singular = description.noun_phrase(rng, members)
        words = f"{NUMBERS[len(members)]} {plural(singular.words)}"
        return ObjectPhrase(words, plural(singular.noun), members)

    def position(self, rng: Random, obj: int) -> str:
        """Returns some words for an object's position in the image, or ""."""
        return synonym(rng, self.positions[obj])

    def possible_subjects(self, direction: str, obj: int) -> list[int]:
        """Returns all objects whose center is left, right, above or below that of an object."""
        axis = 0 if direction in ("left", "right") else 1
        sign = 1 if direction in ("left", "above") else -1
        border = self.objects[obj].center[axis]
        return [
            i for i, other in enumerate(self.objects) if sign * (border - other.center[axis]) > 0
        ]


def plural(words: str) -> str:
    """Returns the plural of a noun phrase."""
    return words + ("es" if words.endswith(("s", "x")) else "s")


def synonym(rng: Random, words: str) -> str:
    """Returns one of the SYNONYMS of a phrase, or the phrase itself if it has none."""
    synonyms = SYNONYMS.get(words)
    return rng.choice(synonyms) if synonyms else words


def article(words: str) -> str:
    """Returns "a" or "an", whichever fits in front of the words."""
    return "an" if words[0] in "aeiou" else "a"


def _draw_short(rng: Random, options: Sequence[T], bias: float) -> T:
    """Returns one of the options, which go from short to long: the higher ``bias``, the shorter."""
    return options[int(len(options) * rng.random() ** bias)]


def _descriptions(obj: SyntheticObject) -> list[ObjectDescription]:
    """Returns every combination of an object's properties, those of least effort first."""
    colors = ["", obj.color]
    if obj.shade:
        colors.append(f"{obj.shade} {obj.color}")
    descriptions = [
        ObjectDescription(size, texture, color, obj.noun)
        for color in colors
        for texture in ("", obj.texture)
        for size in ("", obj.size)
    ]
    return sorted(descriptions, key=lambda description: description.effort)


def _objects_by_description(
    possible: list[list[ObjectDescription]],
) -> dict[ObjectDescription, list[int]]:
    """Returns each description with all objects that it fits, from the descriptions of each."""
    fitting: dict[ObjectDescription, list[int]] = {}
    for i, descriptions in enumerate(possible):
        for description in descriptions:
            fitting.setdefault(description, []).append(i)
    return fitting


def _exclusive_sides(scene: Scene, obj: int, similar: list[int]) -> list[str]:
    """Returns the sides of the image on which only one of several similar objects lies."""
    if similar == [obj]:
        return []
    sides: list[str] = []
    for axis, length, (first_side, last_side) in (
        (0, scene.width, ("on the left side", "on the right side")),
        (1, scene.height, ("at the top", "at the bottom")),
    ):
        center = scene.objects[obj].center[axis] / length
        others = [scene.objects[i].center[axis] / length for i in similar if i != obj]
        if center < 0.5 and center + SIDE_MARGIN < min(others):
            sides.append(first_side)
        if center > 0.5 and center - SIDE_MARGIN > max(others):
            sides.append(last_side)
    return sides


def _relations(scene: Scene) -> list[SpatialRelation]:
    min_x, min_y = MIN_OFFSET * scene.width, MIN_OFFSET * scene.height
    max_gap = MAX_NEAR_GAP * min(scene.width, scene.height)
    centers = [obj.center for obj in scene.objects]
    relations: list[SpatialRelation] = []
    for i, (xi, yi) in enumerate(centers):
        for j, (xj, yj) in enumerate(centers):
            if i == j:
                continue
            dx, dy = xi - xj, yi - yj
            if abs(dx) > abs(dy) and abs(dx) > min_x:
                relations.append(SpatialRelation(i, "left" if dx < 0 else "right", j))
            elif abs(dy) > abs(dx) and abs(dy) > min_y:
                relations.append(SpatialRelation(i, "above" if dy < 0 else "below", j))
            if _gap(scene.objects[i], scene.objects[j]) < max_gap:
                relations.append(SpatialRelation(i, "near", j))
    return relations


def _gap(a: SyntheticObject, b: SyntheticObject) -> float:
    """Returns the larger of the horizontal and the vertical gap between two boxes."""
    horizontal = max(a.box[0], b.box[0]) - min(a.box[2], b.box[2])
    vertical = max(a.box[1], b.box[1]) - min(a.box[3], b.box[3])
    return max(horizontal, vertical)


def _position(obj: SyntheticObject, scene: Scene) -> str:
    """Returns an object's position in the image in words, or "" where it is not obvious."""
    x, y = obj.center[0] / scene.width, obj.center[1] / scene.height
    horizontal = "left" if x < 0.27 else "right" if x > 0.73 else ""
    vertical = "top" if y < 0.27 else "bottom" if y > 0.73 else ""
    if horizontal and vertical:
        return f"in the {vertical} {horizontal} corner"
    if horizontal:
        return f"on the {horizontal} side"
    if vertical:
        return f"at the {vertical}"
    return "in the middle" if abs(x - 0.5) < 0.1 and abs(y - 0.5) < 0.1 else ""

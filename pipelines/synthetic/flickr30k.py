"""Flickr30k Entities: one XML of boxes and one text of five sentences a photograph.

In a sentence, ``[/EN#12/other a red circle]`` says that the words name entity 12; entity 0 is
nothing visible. An entity may have several boxes ("two red circles"), a box several entities, and
an entity of the scene has none. Boxes count from 1 and reach to the image's width and height.
"""

from random import Random
from typing import NamedTuple

from pipelines.synthetic import corruption
from pipelines.synthetic.boxes import annotate, copy_of
from pipelines.synthetic.phrases import RELATIONS, Language, article
from pipelines.synthetic.plan import FLICKR30K_LONGEST, SyntheticImage

SENTENCES = 5
#: Objects that nobody drew a box for, although sentences name them.
UNBOXED_SHARE = 0.04
#: Files of sentences with an empty line between two sentences.
EMPTY_LINE_SHARE = 0.02
#: Ids of entities: each image has its own.
IDS_PER_IMAGE = 30
#: What kind of object a shape is, in the dataset's words; "other" if not listed.
TYPES = {"heart": "bodyparts", "arrow": "instruments", "half circle": "other/instruments"}


class _Entities(NamedTuple):
    """Entity ids of an image: of objects, of groups of objects (by words), of the scene."""

    first: int
    groups: dict[str, tuple[int, list[int]]]

    def obj(self, place: int) -> int:
        return self.first + place

    @property
    def scene(self) -> int:
        return self.first + IDS_PER_IMAGE - 1


def describe(rng: Random, image: SyntheticImage, language: Language) -> tuple[str, str]:
    """The contents of the photograph's XML and of its sentences."""
    first = IDS_PER_IMAGE * image.number + 1
    entities = _Entities(first, {})
    lines = [_sentence(rng, language, entities) for _ in range(SENTENCES)]
    if rng.random() < EMPTY_LINE_SHARE:
        lines.insert(rng.randrange(1, SENTENCES), "")
    planted = corruption.plan(rng, corruption.SENTENCES, image.number, SENTENCES, SENTENCES)
    xml = _xml(rng, image, language, entities, bool(planted) and image.flickr30k == "train")
    return xml, "\n".join(lines) + "\n"


def _sentence(rng: Random, language: Language, entities: _Entities) -> str:
    kind = rng.random()
    background = language.scene.background
    ground = _entity(entities.scene, "scene", f"a {background.name} background")
    obj = rng.randrange(len(language.objects))
    if kind < 0.2 and language.groups:
        start, verb, obj = _group(rng, language, entities), "are", -1
    else:
        start, verb = _obj(rng, language, entities, obj, capital=True), "is"
    about = [r for r in language.relations if r.subject == obj and r.direction != "near"]
    if about and kind < 0.8:
        relation = rng.choice(about)
        other = _obj(rng, language, entities, relation.object)
        ending = f" on {ground}" if rng.random() < 0.4 else ""
        return f"{start} {verb} {RELATIONS[relation.direction][0]} {other}{ending} ."
    if rng.random() < 0.3:
        return f"{start} {verb} shown in {_entity(0, 'notvisual', 'the image')} ."
    return f"{start} {verb} on {ground} ."


def _obj(
    rng: Random, language: Language, entities: _Entities, obj: int, capital: bool = False
) -> str:
    named = language.describe(rng, obj)
    words = f"{rng.choice(('the', article(named.words)))} {named.words}"
    kind = TYPES.get(language.objects[named.objects[0]].noun, "other")
    return _entity(entities.obj(obj), kind, _capitalized(words) if capital else words)


def _group(rng: Random, language: Language, entities: _Entities) -> str:
    """Several objects at once; their entity gets its id when it is first named."""
    named = language.group(rng)
    next_id = entities.obj(len(language.objects) + len(entities.groups))
    number, _ = entities.groups.setdefault(named.words, (next_id, named.objects))
    return _entity(
        number,
        TYPES.get(language.objects[named.objects[0]].noun, "other"),
        _capitalized(named.words),
    )


def _entity(number: int, kind: str, words: str) -> str:
    return f"[/EN#{number}/{kind} {words}]"


def _capitalized(words: str) -> str:
    return words[0].upper() + words[1:]


def _xml(
    rng: Random, image: SyntheticImage, language: Language, entities: _Entities, box_at_0: bool
) -> str:
    copy = copy_of(language.scene, FLICKR30K_LONGEST)
    objects: list[str] = []
    unboxed: list[str] = [_unboxed(entities.scene, scene=True)]
    for place, obj in enumerate(language.objects):
        names = [entities.obj(place)]
        if rng.random() < UNBOXED_SHARE:
            unboxed.append(_unboxed(names.pop(), scene=False))
        names += [number for number, members in entities.groups.values() if place in members]
        if names:
            x, y, w, h = annotate(rng, obj.box, copy)
            left = 0 if box_at_0 and not objects else max(1, x)
            objects.append(_boxed(names, (left, max(1, y), x + w, y + h)))
    size = {"width": copy.width, "height": copy.height, "depth": 3}
    lines = [
        "<annotation>",
        f"\t<filename>{image.photo_id}.jpg</filename>",
        "\t<size>",
        *(f"\t\t<{side}>{pixels}</{side}>" for side, pixels in size.items()),
        "\t</size>",
        *objects,
        *unboxed,
        "</annotation>",
    ]
    return "\n".join(lines)


def _boxed(names: list[int], box: tuple[int, int, int, int]) -> str:
    sides = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    lines = [
        *_names(names),
        "\t\t<bndbox>",
        *(f"\t\t\t<{side}>{pixel}</{side}>" for side, pixel in sides),
        "\t\t</bndbox>",
    ]
    return _object(lines)


def _unboxed(name: int, scene: bool) -> str:
    flags = [f"\t\t<scene>{int(scene)}</scene>", "\t\t<nobndbox>1</nobndbox>"]
    return _object([*_names([name]), *flags])


def _names(names: list[int]) -> list[str]:
    return [f"\t\t<name>{name}</name>" for name in names]


def _object(lines: list[str]) -> str:
    return "\n".join(["\t<object>", *lines, "\t</object>"])

"""Flickr30k Entities: one XML of boxes and one text of five sentences for each photo.

In a sentence, ``[/EN#12/other a red circle]`` states that the words refer to entity 12; entity 0 is
not visual. An entity may have several boxes ("two red circles"), a box several entities, and an
entity of the scene has none. Boxes count from 1 and reach to the image's width and height.
"""

from random import Random
from typing import NamedTuple

from pipelines.synthetic import corruption
from pipelines.synthetic.boxes import annotate_box, scale_to_longest
from pipelines.synthetic.phrases import RELATIONS, Language, article
from pipelines.synthetic.plan import FLICKR30K_LONGEST, SyntheticImage

SENTENCES = 5
#: Share of objects without a box, although sentences refer to them.
UNBOXED_SHARE = 0.04
#: Share of files with an empty line between two sentences.
EMPTY_LINE_SHARE = 0.02
#: Ids of entities: every image has an interval of them.
IDS_PER_IMAGE = 30
#: The dataset's phrase types of the shapes; "other" if not listed.
PHRASE_TYPES = {"heart": "bodyparts", "arrow": "instruments", "half circle": "other/instruments"}


class _Entities(NamedTuple):
    """The entity ids of an image: of objects, of groups of objects by their words, of the scene."""

    first: int
    groups: dict[str, tuple[int, list[int]]]

    def obj(self, index: int) -> int:
        return self.first + index

    @property
    def scene(self) -> int:
        return self.first + IDS_PER_IMAGE - 1


def xml_and_sentences(rng: Random, image: SyntheticImage, language: Language) -> tuple[str, str]:
    """Returns the contents of the photo's XML file and of its sentence file."""
    first = IDS_PER_IMAGE * image.number + 1
    entities = _Entities(first, {})
    lines = [_sentence(rng, language, entities) for _ in range(SENTENCES)]
    if rng.random() < EMPTY_LINE_SHARE:
        lines.insert(rng.randrange(1, SENTENCES), "")
    corrupted = corruption.plan_corruption(
        rng, corruption.SENTENCES, image.number, SENTENCES, SENTENCES
    )
    box_at_0 = bool(corrupted) and image.flickr30k == "train"
    xml = _xml(rng, image, language, entities, box_at_0)
    return xml, "\n".join(lines) + "\n"


def _sentence(rng: Random, language: Language, entities: _Entities) -> str:
    lot = rng.random()
    background = language.scene.background
    ground = _entity(entities.scene, "scene", f"a {background.name} background")
    obj = rng.randrange(len(language.objects))
    if lot < 0.2 and language.groups:
        subject, verb, obj = _group_entity(rng, language, entities), "are", -1
    else:
        subject, verb = _object_entity(rng, language, entities, obj, capitalize=True), "is"
    relations = [r for r in language.relations if r.subject == obj and r.direction != "near"]
    if relations and lot < 0.8:
        relation = rng.choice(relations)
        other = _object_entity(rng, language, entities, relation.object)
        ending = f" on {ground}" if rng.random() < 0.4 else ""
        return f"{subject} {verb} {RELATIONS[relation.direction][0]} {other}{ending} ."
    if rng.random() < 0.3:
        return f"{subject} {verb} shown in {_entity(0, 'notvisual', 'the image')} ."
    return f"{subject} {verb} on {ground} ."


def _object_entity(
    rng: Random, language: Language, entities: _Entities, obj: int, capitalize: bool = False
) -> str:
    phrase = language.noun_phrase(rng, obj)
    words = f"{rng.choice(('the', article(phrase.words)))} {phrase.words}"
    phrase_type = PHRASE_TYPES.get(language.objects[obj].noun, "other")
    return _entity(entities.obj(obj), phrase_type, _capitalized(words) if capitalize else words)


def _group_entity(rng: Random, language: Language, entities: _Entities) -> str:
    """Returns words for several objects; their entity gets its id when it first occurs."""
    phrase = language.plural_noun_phrase(rng)
    next_id = entities.obj(len(language.objects) + len(entities.groups))
    number, _ = entities.groups.setdefault(phrase.words, (next_id, phrase.objects))
    phrase_type = PHRASE_TYPES.get(language.objects[phrase.objects[0]].noun, "other")
    return _entity(number, phrase_type, _capitalized(phrase.words))


def _entity(number: int, phrase_type: str, words: str) -> str:
    return f"[/EN#{number}/{phrase_type} {words}]"


def _capitalized(words: str) -> str:
    return words[0].upper() + words[1:]


def _xml(
    rng: Random, image: SyntheticImage, language: Language, entities: _Entities, box_at_0: bool
) -> str:
    scale = scale_to_longest(language.scene, FLICKR30K_LONGEST)
    objects: list[str] = []
    unboxed: list[str] = [_unboxed(entities.scene, scene=True)]
    for i, obj in enumerate(language.objects):
        names = [entities.obj(i)]
        if rng.random() < UNBOXED_SHARE:
            unboxed.append(_unboxed(names.pop(), scene=False))
        names += [number for number, members in entities.groups.values() if i in members]
        if names:
            x, y, w, h = annotate_box(rng, obj.box, scale)
            left = 0 if box_at_0 and not objects else max(1, x)
            objects.append(_boxed(names, (left, max(1, y), x + w, y + h)))
    size = {"width": scale.width, "height": scale.height, "depth": 3}
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

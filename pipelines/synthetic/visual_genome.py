"""Visual Genome: image_data.json and region_graphs.json (version 1.2).

A region is a phrase with its box, the objects that it speaks of, each with its own box and
WordNet synsets, and the characters of the phrase that each synset stands for. Objects are drawn
anew for every region, as in the published file.
"""

from random import Random
from typing import Any

from pipelines.synthetic import corruption
from pipelines.synthetic.boxes import annotate, copy_of, hull
from pipelines.synthetic.phrases import (
    NEARNESS,
    RELATIONS,
    Language,
    Mention,
    Named,
    Relation,
    Sentence,
    article,
    sentence,
)
from pipelines.synthetic.plan import SyntheticImage

#: Regions that repeat an earlier one of the image: nearly the same text, the box drawn again.
DUPLICATE_SHARE = 0.08
#: Objects whose synsets are not exactly one.
NO_SYNSET, TWO_SYNSETS = 0.03, 0.02
#: Ids of regions, objects and relationships: each image has its own thousands.
IDS_PER_IMAGE = 10_000

Record = dict[str, Any]


def folder(image: SyntheticImage) -> str:
    return "VG_100K" if image.vg_id % 2 else "VG_100K_2"


def image_data(image: SyntheticImage, language: Language) -> Record:
    """The image's row of image_data.json."""
    copy = copy_of(language.scene, image.vg_longest)
    url = f"https://cs.stanford.edu/people/rak248/{folder(image)}/{image.vg_id}.jpg"
    return {
        "width": copy.width,
        "url": url,
        "height": copy.height,
        "image_id": image.vg_id,
        "coco_id": image.vg_coco_id,
        "flickr_id": image.vg_flickr_id,
    }


def region_graph(rng: Random, image: SyntheticImage, language: Language, average: float) -> Record:
    """The image's element of region_graphs.json, with ``average`` regions in the mean."""
    count = int(average * (0.5 + rng.random()) + rng.random())
    planted = corruption.plan(rng, corruption.REGIONS, image.vg_ordinal, average, count)
    annotator = _Annotator(rng, image, language)
    said: list[Sentence] = []
    regions: list[Record] = []
    for place in range(count):
        again = bool(said) and rng.random() < DUPLICATE_SHARE
        clean = _reworded(rng, rng.choice(said)) if again else phrase(rng, language)
        said.append(clean)
        regions.append(annotator.region(clean, planted.get(place, "")))
    return {"image_id": image.vg_id, "regions": regions}


def phrase(rng: Random, language: Language) -> Sentence:
    """Something true of the image, five or six words long in the mean."""
    kind = rng.random()
    if kind < 0.62 and language.relations:
        return sentence(_related(rng, language, rng.choice(language.relations)))
    if kind < 0.645 and language.groups:
        return sentence([language.group(rng), rng.choice(("", "in the image", "together"))])
    obj = rng.randrange(len(language.objects))
    if kind < 0.73 and len(language.objects) > 1:
        other = rng.choice([i for i in range(len(language.objects)) if i != obj])
        return sentence([*_named(rng, language, obj), "and", *_named(rng, language, other)])
    if kind < 0.75:
        owner = sentence(["the", language.describe(rng, obj)])
        ending = f"'s color is {language.objects[obj].color}"
        return Sentence(owner.text + ending, owner.mentions)
    if kind < 0.81:
        return _property(rng, language, obj)
    if kind < 0.93:
        named, place = language.located(rng, obj)
        return sentence([_determiner(rng, named), named, place])
    background = language.scene.background
    if kind < 0.985:
        return sentence([*_named(rng, language, obj), f"on {background.name} background"])
    return Sentence(f"{background.pattern} {background.name} background", [])


def _related(rng: Random, language: Language, relation: Relation) -> list[str | Named]:
    words = NEARNESS if relation.direction == "near" else RELATIONS[relation.direction]
    verb = "is" if rng.random() < 0.06 else ""
    subject = _named(rng, language, relation.subject)
    return [*subject, verb, rng.choice(words), *_named(rng, language, relation.object)]


def _named(rng: Random, language: Language, obj: int) -> list[str | Named]:
    """An object with "the", "a" or no article."""
    named = language.describe(rng, obj)
    return [_determiner(rng, named), named]


def _determiner(rng: Random, named: Named) -> str:
    choice = rng.random()
    return "the" if choice < 0.15 else article(named.words) if choice < 0.28 else ""


def _property(rng: Random, language: Language, obj: int) -> Sentence:
    """ "the big star is dark red": the predicate says what the subject leaves out."""
    look = language.objects[obj]
    named = language.describe_without_color(rng, obj)
    if named is None:
        return sentence([language.describe(rng, obj), f"is {look.texture}"])
    shade = f"{look.shade} " if look.shade and rng.random() < 0.5 else ""
    return sentence([rng.choice(("the", "", "")), named, f"is {shade}{look.color}"])


def _reworded(rng: Random, said: Sentence) -> Sentence:
    """A sentence as a second annotator words it: the same, or with "the" in front."""
    if not said.mentions or said.text.startswith(("the ", "a ", "an ")) or rng.random() < 0.5:
        return said
    moved = [Mention(m.objects, m.start + 4, m.noun + 4, m.stop + 4) for m in said.mentions]
    return Sentence("the " + said.text, moved)


class _Annotator:
    """Makes the regions of one image and numbers them, their objects and relationships."""

    def __init__(self, rng: Random, image: SyntheticImage, language: Language) -> None:
        self.rng = rng
        self.image_id = image.vg_id
        self.objects = language.objects
        self.copy = copy_of(language.scene, image.vg_longest)
        self.whole = (0.0, 0.0, float(language.scene.width), float(language.scene.height))
        self.next_id = IDS_PER_IMAGE * (image.number + 1)

    def region(self, clean: Sentence, defect: str) -> Record:
        """A region; ``defect`` is a key of `defects.REGIONS` or ""."""
        written = corruption.make_sloppy(self.rng, clean)
        if defect:
            written = corruption.malform_text(self.rng, clean, defect)
        objects = [self.object(obj) for mention in clean.mentions for obj in mention.objects]
        named = [self.objects[t].box for mention in clean.mentions for t in mention.objects]
        box = annotate(self.rng, hull(named) if named else self.whole, self.copy)
        x, y, width, height = corruption.malform_box(box, self.copy.width, self.copy.height, defect)
        return {
            "region_id": self.new_id(),
            "image_id": self.image_id,
            "phrase": written.text,
            "x": x,
            "y": y,
            "width": width,
            "height": height,
            "objects": objects,
            "synsets": [self.synset(mention) for mention in written.mentions],
            "relationships": self.relationships(clean, objects),
        }

    def object(self, obj: int) -> Record:
        name = self.objects[obj].noun
        x, y, w, h = annotate(self.rng, self.objects[obj].box, self.copy)
        lot = self.rng.random()
        synsets = [synset_name(name)] if lot >= NO_SYNSET else []
        if lot > 1 - TWO_SYNSETS:
            synsets.append("shape.n.02")
        return {
            "object_id": self.new_id(),
            "name": name,
            "x": x,
            "y": y,
            "w": w,
            "h": h,
            "synsets": synsets,
        }

    def synset(self, mention: Mention) -> Record:
        noun = self.objects[mention.objects[0]].noun
        return {
            "entity_idx_start": mention.noun,
            "entity_idx_end": mention.stop,
            "entity_name": noun,
            "synset_name": synset_name(noun),
        }

    def relationships(self, clean: Sentence, objects: list[Record]) -> list[Record]:
        """One for a phrase of two objects: the words between them are its predicate."""
        if len(clean.mentions) != 2 or len(objects) != 2:
            return []
        first, second = clean.mentions
        predicate = clean.text[first.stop : second.start].strip()
        for determiner in (" the", " a", " an"):
            predicate = predicate.removesuffix(determiner)
        return [
            {
                "relationship_id": self.new_id(),
                "predicate": predicate,
                "synsets": [],
                "subject_id": objects[0]["object_id"],
                "object_id": objects[1]["object_id"],
            }
        ]

    def new_id(self) -> int:
        self.next_id += 1
        return self.next_id


def synset_name(noun: str) -> str:
    return f"{noun.replace(' ', '_')}.n.01"

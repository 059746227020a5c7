"""Visual Genome: image_data.json and region_graphs.json (version 1.2).

A region is a phrase with its box, the objects that it refers to, each with its own box and
WordNet synsets, and the characters of the phrase that each synset stands for. Objects are annotated
again for every region, as in the published file.
"""

from random import Random
from typing import Any

from pipelines.synthetic import corruption
from pipelines.synthetic.boxes import annotate_box, enclosing_box, scale_to_longest
from pipelines.synthetic.phrases import (
    NEAR_WORDS,
    RELATIONS,
    Language,
    Mention,
    ObjectPhrase,
    Sentence,
    SpatialRelation,
    article,
    sentence,
)
from pipelines.synthetic.plan import SyntheticImage

#: Regions that repeat an earlier one of the image with nearly the same text and another box.
DUPLICATE_SHARE = 0.08
#: Objects with no synset, and with two.
NO_SYNSET_SHARE, TWO_SYNSETS_SHARE = 0.03, 0.02
#: Ids of regions, objects and relationships: every image has an interval of them.
IDS_PER_IMAGE = 10_000

Record = dict[str, Any]


def image_folder(image: SyntheticImage) -> str:
    """Returns the folder that holds the image, one of the two of Visual Genome."""
    return "VG_100K" if image.vg_id % 2 else "VG_100K_2"


def image_data(image: SyntheticImage, language: Language) -> Record:
    """Returns the image's row of image_data.json."""
    scale = scale_to_longest(language.scene, image.vg_longest)
    url = f"https://cs.stanford.edu/people/rak248/{image_folder(image)}/{image.vg_id}.jpg"
    return {
        "width": scale.width,
        "url": url,
        "height": scale.height,
        "image_id": image.vg_id,
        "coco_id": image.vg_coco_id,
        "flickr_id": image.vg_flickr_id,
    }


def region_graph(
    rng: Random, image: SyntheticImage, language: Language, mean_count: float
) -> Record:
    """Returns the image's element of region_graphs.json, ``mean_count`` regions on average."""
    count = int(mean_count * (0.5 + rng.random()) + rng.random())
    corrupted = corruption.plan_corruption(
        rng, corruption.REGIONS, image.vg_ordinal, mean_count, count
    )
    annotator = _Annotator(rng, image, language)
    phrases: list[Sentence] = []
    regions: list[Record] = []
    for number in range(count):
        repeats = bool(phrases) and rng.random() < DUPLICATE_SHARE
        clean = _reworded(rng, rng.choice(phrases)) if repeats else make_phrase(rng, language)
        phrases.append(clean)
        regions.append(annotator.region(clean, corrupted.get(number, "")))
    return {"image_id": image.vg_id, "regions": regions}


def make_phrase(rng: Random, language: Language) -> Sentence:
    """Returns a true statement about the image, five or six words long on average."""
    lot = rng.random()
    if lot < 0.62 and language.relations:
        return sentence(_relation(rng, language, rng.choice(language.relations)))
    if lot < 0.645 and language.groups:
        return sentence(
            [language.plural_noun_phrase(rng), rng.choice(("", "in the image", "together"))]
        )
    obj = rng.randrange(len(language.objects))
    if lot < 0.73 and len(language.objects) > 1:
        other = rng.choice([i for i in range(len(language.objects)) if i != obj])
        first, second = _determined(rng, language, obj), _determined(rng, language, other)
        return sentence([*first, "and", *second])
    if lot < 0.75:
        owner = sentence(["the", language.noun_phrase(rng, obj)])
        ending = f"'s color is {language.objects[obj].color}"
        return Sentence(owner.text + ending, owner.mentions)
    if lot < 0.81:
        return _property(rng, language, obj)
    if lot < 0.93:
        phrase, position = language.located_noun_phrase(rng, obj)
        return sentence([_determiner(rng, phrase), phrase, position])
    background = language.scene.background
    if lot < 0.985:
        return sentence([*_determined(rng, language, obj), f"on {background.name} background"])
    return Sentence(f"{background.pattern} {background.name} background", [])


def _relation(
    rng: Random, language: Language, relation: SpatialRelation
) -> list[str | ObjectPhrase]:
    words = NEAR_WORDS if relation.direction == "near" else RELATIONS[relation.direction]
    verb = "is" if rng.random() < 0.06 else ""
    subject = _determined(rng, language, relation.subject)
    return [*subject, verb, rng.choice(words), *_determined(rng, language, relation.object)]


def _determined(rng: Random, language: Language, obj: int) -> list[str | ObjectPhrase]:
    """Returns words for an object with "the", "a" or no article."""
    phrase = language.noun_phrase(rng, obj)
    return [_determiner(rng, phrase), phrase]


def _determiner(rng: Random, phrase: ObjectPhrase) -> str:
    lot = rng.random()
    return "the" if lot < 0.15 else article(phrase.words) if lot < 0.28 else ""


def _property(rng: Random, language: Language, obj: int) -> Sentence:
    """Returns "the big star is dark red": the predicate states what the subject omits."""
    shown = language.objects[obj]
    phrase = language.colorless_noun_phrase(rng, obj)
    if phrase is None:
        return sentence([language.noun_phrase(rng, obj), f"is {shown.texture}"])
    shade = f"{shown.shade} " if shown.shade and rng.random() < 0.5 else ""
    return sentence([rng.choice(("the", "", "")), phrase, f"is {shade}{shown.color}"])


def _reworded(rng: Random, phrase: Sentence) -> Sentence:
    """Returns a phrase as a second annotator words it: the same, or with "the" in front."""
    has_determiner = phrase.text.startswith(("the ", "a ", "an "))
    if not phrase.mentions or has_determiner or rng.random() < 0.5:
        return phrase
    return Sentence("the " + phrase.text, [mention.shifted(4) for mention in phrase.mentions])


class _Annotator:
    """Makes the regions of one image, and gives ids to them, their objects and relationships."""

    def __init__(self, rng: Random, image: SyntheticImage, language: Language) -> None:
        self.rng = rng
        self.image_id = image.vg_id
        self.objects = language.objects
        self.scale = scale_to_longest(language.scene, image.vg_longest)
        self.whole_scene = (0.0, 0.0, float(language.scene.width), float(language.scene.height))
        self.next_id = IDS_PER_IMAGE * (image.number + 1)

    def region(self, clean: Sentence, corrupted_by: str) -> Record:
        """Returns a region; ``corrupted_by`` is a key of `corruption.REGIONS` or ""."""
        written = corruption.make_careless(self.rng, clean)
        if corrupted_by:
            written = corruption.corrupt_text(self.rng, clean, corrupted_by)
        objects = [self.object(obj) for mention in clean.mentions for obj in mention.objects]
        boxes = [self.objects[i].box for mention in clean.mentions for i in mention.objects]
        box = annotate_box(
            self.rng, enclosing_box(boxes) if boxes else self.whole_scene, self.scale
        )
        x, y, width, height = corruption.corrupt_box(
            box, self.scale.width, self.scale.height, corrupted_by
        )
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
        """Returns the annotation of an object of the scene."""
        name = self.objects[obj].noun
        x, y, w, h = annotate_box(self.rng, self.objects[obj].box, self.scale)
        lot = self.rng.random()
        synsets = [synset_name(name)] if lot >= NO_SYNSET_SHARE else []
        if lot > 1 - TWO_SYNSETS_SHARE:
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
        """Returns which characters of the phrase stand for which synset."""
        noun = self.objects[mention.objects[0]].noun
        return {
            "entity_idx_start": mention.noun_start,
            "entity_idx_end": mention.stop,
            "entity_name": noun,
            "synset_name": synset_name(noun),
        }

    def relationships(self, clean: Sentence, objects: list[Record]) -> list[Record]:
        """Returns one for a phrase of two objects: the words between them are its predicate."""
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
        """Returns the next id of the image's interval."""
        self.next_id += 1
        return self.next_id


def synset_name(noun: str) -> str:
    """Returns the WordNet name of a noun's first synset."""
    return f"{noun.replace(' ', '_')}.n.01"

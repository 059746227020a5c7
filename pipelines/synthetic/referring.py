"""RefCOCO, RefCOCO+ and RefCOCOg: pickled lists of references to COCO annotations.

RefCOCO+ does without words for places; RefCOCOg has longer sentences. ``ref_id`` and ``sent_id``
count through a file, so `number` gives them when a whole file's references are known.
"""

from collections.abc import Iterable
from random import Random
from typing import Any

import msgspec

from pipelines.synthetic import corruption
from pipelines.synthetic.coco import CATEGORY_IDS, annotation_id, file_name
from pipelines.synthetic.phrases import RELATIONS, Language, Named, sentence
from pipelines.synthetic.plan import REFCOCO_SHARES, REFCOCOG_SHARES, SyntheticImage

#: The file of each dataset, below the folder of references.
FILES = {
    "refcoco": "refcoco/refs(unc).p",
    "refcoco+": "refcoco+/refs(unc).p",
    "refcocog": "refcocog/refs(umd).p",
}
#: How the sentences divide among the three datasets, as in the published files.
SENTENCE_SHARES = {"refcoco": 0.375, "refcoco+": 0.373, "refcocog": 0.252}
#: Mean number of sentences of one reference.
SENTENCES_PER_REFERENCE = {"refcoco": 2.84, "refcoco+": 2.84, "refcocog": 1.91}
#: Sentences typed in capitals or with "w" for "with": cleaned in ``sent``, kept in ``raw``.
CAPITALS_SHARE = 0.06
UNKNOWN_ANNOTATION = 2_000_000_000


class Reference(msgspec.Struct):
    """A reference before it is numbered; sentences are (raw, sent)."""

    file_name: str
    ann_id: int
    image_id: int
    split: str
    category_id: int
    sentences: list[tuple[str, str]]


def references(
    rng: Random, image: SyntheticImage, language: Language, dataset: str, average: float
) -> list[Reference]:
    """An image's references in one dataset.

    ``average`` is the mean number of sentences a COCO train2014 image, over all three datasets
    and whether or not the image is in them.
    """
    split = image.refcocog if dataset == "refcocog" else image.refcoco
    if not split:
        return []
    shares = REFCOCOG_SHARES if dataset == "refcocog" else REFCOCO_SHARES
    wanted = average * SENTENCE_SHARES[dataset] / sum(shares.values())
    count = max(1, int(wanted * (0.5 + rng.random()) + rng.random()))
    found: list[Reference] = []
    while count > 0:
        length = min(count, _length(rng, dataset))
        found.append(_reference(rng, image, language, dataset, len(found), length))
        count -= length
    if split == "train":
        planted = corruption.plan(rng, corruption.REFERENCES, image.number, wanted, len(found))
        for place, defect in planted.items():
            _malform(found[place], defect)
    return found


def number(references: Iterable[Reference]) -> list[dict[str, Any]]:
    """The content of a published pickle: plain containers, ids counted from 0."""
    numbered: list[dict[str, Any]] = []
    next_sentence = 0
    for ref_id, reference in enumerate(references):
        ids = list(range(next_sentence, next_sentence + len(reference.sentences)))
        next_sentence += len(ids)
        sentences = [
            {"tokens": sent.split(), "raw": raw, "sent_id": sent_id, "sent": sent}
            for sent_id, (raw, sent) in zip(ids, reference.sentences, strict=True)
        ]
        numbered.append(
            {
                "sent_ids": ids,
                "file_name": reference.file_name,
                "ann_id": reference.ann_id,
                "ref_id": ref_id,
                "image_id": reference.image_id,
                "split": reference.split,
                "sentences": sentences,
                "category_id": reference.category_id,
            }
        )
    return numbered


def _length(rng: Random, dataset: str) -> int:
    """A number of sentences whose mean is SENTENCES_PER_REFERENCE."""
    return int(SENTENCES_PER_REFERENCE[dataset] + rng.random())


def _reference(
    rng: Random, image: SyntheticImage, language: Language, dataset: str, place: int, length: int
) -> Reference:
    obj = (place + image.number) % len(language.objects)
    ann_id = annotation_id(image, obj)
    suffix = ann_id if dataset == "refcocog" else place
    say = {"refcoco": _short, "refcoco+": _appearance, "refcocog": _long}[dataset]
    sentences = [_typed(rng, say(rng, language, obj)) for _ in range(length)]
    return Reference(
        file_name=f"{file_name(image).removesuffix('.jpg')}_{suffix}.jpg",
        ann_id=ann_id,
        image_id=image.coco_id,
        split=image.refcocog if dataset == "refcocog" else image.refcoco,
        category_id=CATEGORY_IDS[language.objects[obj].noun],
        sentences=sentences,
    )


def _short(rng: Random, language: Language, obj: int) -> str:
    """A few words, places included: "red circle on the left side"."""
    determiner = "the" if rng.random() < 0.25 else ""
    located = rng.random() < 0.5
    named = language.located(rng, obj) if located else [language.describe(rng, obj)]
    return sentence([determiner, *named]).text


def _appearance(rng: Random, language: Language, obj: int) -> str:
    determiner = "the" if rng.random() < 0.25 else ""
    return sentence([determiner, language.describe(rng, obj, most_brevity=2)]).text


def _long(rng: Random, language: Language, obj: int) -> str:
    """A sentence with a further object: "the red circle to the left of the big star"."""
    about = [r for r in language.relations if r.subject == obj and r.direction != "near"]
    named: list[str | Named] = ["the", language.describe(rng, obj, most_brevity=2)]
    end = "." if rng.random() < 0.3 else ""
    if not about:
        return sentence([*named, language.place(rng, obj), end]).text
    relation = rng.choice(about)
    words = RELATIONS[relation.direction][0]
    return sentence([*named, words, "the", language.describe(rng, relation.object), end]).text


def _typed(rng: Random, sent: str) -> tuple[str, str]:
    return (sent.upper() if rng.random() < CAPITALS_SHARE else sent), sent


def _malform(reference: Reference, defect: str) -> None:
    if defect == "empty sentence":
        reference.sentences[-1] = ("", "")
    else:
        reference.ann_id += UNKNOWN_ANNOTATION

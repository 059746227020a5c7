"""RefCOCO, RefCOCO+ and RefCOCOg: pickled lists of references to COCO annotations.

RefCOCO+ has no words for positions; RefCOCOg has longer sentences. ``ref_id`` and ``sent_id`` count
through a file, so `with_ids` adds them when all references of a file are known.
"""

from collections.abc import Iterable
from random import Random
from typing import Any

import msgspec

from pipelines.synthetic import corruption
from pipelines.synthetic.coco import CATEGORY_IDS, annotation_id, file_name
from pipelines.synthetic.phrases import RELATIONS, Language, ObjectPhrase, sentence
from pipelines.synthetic.plan import REFCOCO_SHARES, REFCOCOG_SHARES, SyntheticImage

#: The file of each dataset, below the folder of references.
FILES = {
    "refcoco": "refcoco/refs(unc).p",
    "refcoco+": "refcoco+/refs(unc).p",
    "refcocog": "refcocog/refs(umd).p",
}
#: Shares of the three datasets in all sentences, as in the published files.
SENTENCE_SHARES = {"refcoco": 0.375, "refcoco+": 0.373, "refcocog": 0.252}
#: Mean number of sentences of one reference.
SENTENCES_PER_REFERENCE = {"refcoco": 2.84, "refcoco+": 2.84, "refcocog": 1.91}
#: Share of sentences typed in capitals: as typed in ``raw``, in lower case in ``sent``.
CAPITALS_SHARE = 0.06
UNKNOWN_ANNOTATION = 2_000_000_000


class ReferringExpressions(msgspec.Struct):
    """A reference without its ids: sentences, (raw, sent) each, that refer to one annotation."""

    file_name: str
    ann_id: int
    image_id: int
    split: str
    category_id: int
    sentences: list[tuple[str, str]]


def references(
    rng: Random, image: SyntheticImage, language: Language, dataset: str, mean_sentences: float
) -> list[ReferringExpressions]:
    """Returns an image's references in one dataset.

    ``mean_sentences`` is the mean number of sentences of a COCO train2014 image in all three
    datasets together, images that are in none of them included.
    """
    split = image.refcocog if dataset == "refcocog" else image.refcoco
    if not split:
        return []
    shares = REFCOCOG_SHARES if dataset == "refcocog" else REFCOCO_SHARES
    mean_count = mean_sentences * SENTENCE_SHARES[dataset] / sum(shares.values())
    remaining = max(1, int(mean_count * (0.5 + rng.random()) + rng.random()))
    image_references: list[ReferringExpressions] = []
    while remaining > 0:
        length = min(remaining, _draw_length(rng, dataset))
        number = len(image_references)
        image_references.append(_reference(rng, image, language, dataset, number, length))
        remaining -= length
    if split == "train":
        corrupted = corruption.plan_corruption(
            rng, corruption.REFERENCES, image.number, mean_count, len(image_references)
        )
        for number, kind in corrupted.items():
            _corrupt(image_references[number], kind)
    return image_references


def with_ids(references: Iterable[ReferringExpressions]) -> list[dict[str, Any]]:
    """Returns the content of a published pickle: plain containers, ids counted from 0."""
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


def _draw_length(rng: Random, dataset: str) -> int:
    """Returns a number of sentences whose mean is SENTENCES_PER_REFERENCE."""
    return int(SENTENCES_PER_REFERENCE[dataset] + rng.random())


def _reference(
    rng: Random, image: SyntheticImage, language: Language, dataset: str, number: int, length: int
) -> ReferringExpressions:
    obj = (number + image.number) % len(language.objects)
    ann_id = annotation_id(image, obj)
    suffix = ann_id if dataset == "refcocog" else number
    make_text = {"refcoco": _refcoco, "refcoco+": _refcoco_plus, "refcocog": _refcocog}[dataset]
    sentences = [_typed(rng, make_text(rng, language, obj)) for _ in range(length)]
    return ReferringExpressions(
        file_name=f"{file_name(image).removesuffix('.jpg')}_{suffix}.jpg",
        ann_id=ann_id,
        image_id=image.coco_id,
        split=image.refcocog if dataset == "refcocog" else image.refcoco,
        category_id=CATEGORY_IDS[language.objects[obj].noun],
        sentences=sentences,
    )


def _refcoco(rng: Random, language: Language, obj: int) -> str:
    """Returns a few words, with or without a position: "red circle on the left side"."""
    determiner = "the" if rng.random() < 0.25 else ""
    with_position = rng.random() < 0.5
    if with_position:
        return sentence([determiner, *language.located_noun_phrase(rng, obj)]).text
    return sentence([determiner, language.noun_phrase(rng, obj)]).text


def _refcoco_plus(rng: Random, language: Language, obj: int) -> str:
    """Returns the object's appearance in a few words."""
    determiner = "the" if rng.random() < 0.25 else ""
    return sentence([determiner, language.noun_phrase(rng, obj, max_bias=2)]).text


def _refcocog(rng: Random, language: Language, obj: int) -> str:
    """Returns a text with a further object: "the red circle to the left of the big star"."""
    relations = [r for r in language.relations if r.subject == obj and r.direction != "near"]
    subject: list[str | ObjectPhrase] = ["the", language.noun_phrase(rng, obj, max_bias=2)]
    end = "." if rng.random() < 0.3 else ""
    if not relations:
        return sentence([*subject, language.position(rng, obj), end]).text
    relation = rng.choice(relations)
    words = RELATIONS[relation.direction][0]
    anchor = language.noun_phrase(rng, relation.object)
    return sentence([*subject, words, "the", anchor, end]).text


def _typed(rng: Random, sent: str) -> tuple[str, str]:
    return (sent.upper() if rng.random() < CAPITALS_SHARE else sent), sent


def _corrupt(reference: ReferringExpressions, corrupted_by: str) -> None:
    if corrupted_by == "empty sentence":
        reference.sentences[-1] = ("", "")
    else:
        reference.ann_id += UNKNOWN_ANNOTATION

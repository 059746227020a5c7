"""Visual Genome: the region descriptions of one image become cleaned, merged captions.

A region is a phrase, a box, and the objects in it with their WordNet synsets; another list tells
which words of the phrase a synset stands for. ``describe`` finds the words and boxes of one region,
``merge`` joins the many regions of an image that say the same (MDETR, arXiv 2104.12763, appendix
on pre-training data). What is text in this comes in two sorts, ``Tokens`` and ``Characters``.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import ClassVar, Protocol

import msgspec

from pipelines.captions.parsing import MAX_CHARACTERS, Parse, root_and_negative
from pipelines.captions.spans import consolidate, intersects
from pipelines.geometry.boxes import clusters
from pipelines.sources.decoding import Id
from pipelines.sources.visual_genome.boxes import LARGEST, XYWH, alike, averaged, mean, usable
from pipelines.sources.visual_genome.groups import agreeing, touching
from pipelines.sources.visual_genome.tokens import has_letter
from schemas import Span

SHORTEST = 3  # characters of a caption
SAME_OBJECT = 0.7  # IoU from which boxes of the same words in one region are one
SAME_REGION = 0.5  # IoU from which boxes of the same words in two regions are one
SAME_BOX = 0.75  # IoU from which boxes of one text are one, whatever words they have
COVERED = 0.1  # IoU from which a region without objects adds nothing to one with objects


class RawObject(msgspec.Struct, gc=False):
    x: float
    y: float
    w: float
    h: float
    synsets: list[str]


class RawSynset(msgspec.Struct, gc=False):
    entity_idx_start: int
    entity_idx_end: int
    synset_name: str


class RawRegion(msgspec.Struct, gc=False):
    region_id: Id
    phrase: str
    x: float
    y: float
    width: float
    height: float
    objects: list[RawObject]
    synsets: list[RawSynset]


class Description(msgspec.Struct, gc=False):
    """What one or more regions say: ``spans`` has the words of each box."""

    text: str
    records: list[int]  # ids of the regions; the first is the one whose text was taken
    boxes: list[XYWH]
    spans: list[list[Span]]
    negative: list[Span]
    found: bool  # whether a box is that of an object, not of the region


class Refusal(msgspec.Struct, gc=False):
    record: int
    reason: str
    detail: str


class TextRules(Protocol):
    """How spans follow a text's clean-up, and when two texts say the same."""

    #: a sentence of "wall" and others of these has spurious boxes and is left out
    uninformative: ClassVar[frozenset[str]]

    def place(self, phrase: str, caption: str, spans: Sequence[Span]) -> list[Span | None] | None:
        """Spans of the raw phrase in the caption, None for one without words there.

        None instead of a list if the clean-up cannot be followed.
        """

    def subject(self, root: Sequence[Span], caption: str) -> list[Span]:
        """The words that the boxes of a caption's root get."""

    def content(self, caption: str) -> tuple[str, ...] | None:
        """The lemmas by which captions are compared; None for a caption without words."""

    def marks(self, caption: str, spans: Sequence[Sequence[Span]]) -> list[int] | None:
        """For each list of spans a bit set of what it covers of the content.

        Bits mean the same in every caption with the same content. None if that cannot be told.
        """


def refusal_of_text(region: RawRegion, caption: str) -> Refusal | None:
    """Why a caption is not worth a parse, or too long for one."""
    if len(caption) < SHORTEST:
        return Refusal(region.region_id, "caption too short", repr(region.phrase))
    if not has_letter(caption):
        return Refusal(region.region_id, "no words", repr(region.phrase))
    if len(caption) > MAX_CHARACTERS:
        return Refusal(region.region_id, "caption too long", f"{len(caption)} characters")
    return None


def describe(
    region: RawRegion, caption: str, parse: Parse, rules: TextRules
) -> Description | Refusal:
    """The words and boxes of a region; ``parse`` is that of ``caption`` in lower case.

    The phrase that the caption is about gets the boxes of the objects it names, or else the box of
    the region; each other phrase that names objects gets theirs.
    """
    own_box = usable(region.x, region.y, region.width, region.height)
    object_boxes = [usable(obj.x, obj.y, obj.w, obj.h) for obj in region.objects]
    if own_box is None or None in object_boxes:
        return Refusal(region.region_id, "bad box", f"a coordinate beyond {LARGEST:g}")

    words_of = _words_of_synsets(region)
    placed = rules.place(region.phrase, caption, list(words_of.values()))
    if placed is None:
        return Refusal(region.region_id, "clean-up not followed", repr(region.phrase))
    span_of = dict(zip(words_of, placed, strict=True))

    root, negative = root_and_negative(caption, parse, lazy=False)
    root_boxes: list[XYWH] = []
    other_boxes: dict[Span, list[XYWH]] = {}
    for obj, box in zip(region.objects, object_boxes, strict=True):
        span = span_of.get(obj.synsets[0]) if len(obj.synsets) == 1 else None
        if span is None or box is None:
            continue
        if intersects(span, root):
            root_boxes.append(box)
        else:
            other_boxes.setdefault(span, []).append(box)

    result = Description(
        text=caption,
        records=[region.region_id],
        boxes=averaged(root_boxes or [own_box], SAME_OBJECT),
        spans=[],
        negative=consolidate([*negative, *other_boxes], caption),
        found=bool(root_boxes or other_boxes),
    )
    result.spans = [rules.subject(root, caption)] * len(result.boxes)
    for span, of_span in other_boxes.items():
        distinct = averaged(of_span, SAME_OBJECT)
        result.boxes += distinct
        result.spans += [consolidate([span], caption)] * len(distinct)
    return result


def _words_of_synsets(region: RawRegion) -> dict[str, Span]:
    """Span in the raw phrase of each synset that names objects of the region without doubt.

    An object with several synsets is likely spurious, and a synset that the phrase has twice does
    not tell which of the words an object goes with.
    """
    if not region.objects or not region.synsets:
        return {}
    of_objects = {obj.synsets[0] for obj in region.objects if len(obj.synsets) == 1}
    times = Counter([synset.synset_name for synset in region.synsets])
    return {
        synset.synset_name: (synset.entity_idx_start, synset.entity_idx_end)
        for synset in region.synsets
        if times[synset.synset_name] == 1 and synset.synset_name in of_objects
    }


def merge(
    descriptions: Iterable[Description], rules: TextRules
) -> tuple[list[Description], list[Refusal]]:
    """Descriptions of one image with those that say the same of the same boxes made one.

    Every record that comes in is a record of exactly one description or refusal that comes out.
    """
    by_content: dict[tuple[str, ...], list[Description]] = defaultdict(list)
    refused: list[Refusal] = []
    for description in descriptions:
        content = rules.content(description.text)
        if content is None:
            refused += [Refusal(id_, "no words", description.text) for id_ in description.records]
        elif "wall" in content and rules.uninformative.issuperset(content):
            refused += [
                Refusal(id_, "uninformative", description.text) for id_ in description.records
            ]
        else:
            by_content[content].append(description)
    merged: list[Description] = []
    for group in by_content.values():
        merged += group if len(group) == 1 else _merge_group(group, rules)
    return merged, refused


def _merge_group(group: list[Description], rules: TextRules) -> list[Description]:
    """Merges descriptions with the same content."""
    found = [description for description in group if description.found]
    others = []
    without_objects = [description for description in group if not description.found]
    covered = touching(_boxes(without_objects), _boxes(found), COVERED)
    for description, covering in zip(without_objects, covered, strict=True):
        if covering.any():
            found[covering.argmax()].records += description.records  # the first of them
        else:
            others.append(description)

    by_text: dict[str, list[Description]] = defaultdict(list)
    for description in _merge_alike(found, rules) + _merge_alike(others, rules):
        by_text[description.text].append(description)
    return [_join(same_text) for same_text in by_text.values()]


def _boxes(descriptions: Iterable[Description]) -> list[list[XYWH]]:
    return [description.boxes for description in descriptions]


def _merge_alike(group: list[Description], rules: TextRules) -> list[Description]:
    """Merges those of the group whose boxes agree wherever their words do; all of them, or none."""
    if len(group) < 2:
        return group
    marks = [rules.marks(description.text, description.spans) for description in group]
    known = [of_description for of_description in marks if of_description is not None]
    if len(known) < len(group):
        return group
    merged = []
    for members in clusters(agreeing(_boxes(group), known, SAME_REGION)):
        cluster = [group[i] for i in members]
        joined = _merge_cluster(cluster, [known[i] for i in members])
        if joined is None:
            return group
        merged.append(joined)
    return merged


def _merge_cluster(cluster: list[Description], marks: list[list[int]]) -> Description | None:
    """One description for all: the text of the one with most boxes, the boxes of every one.

    None if another has a box for words that the first has no box for.
    """
    if len(cluster) == 1:
        return cluster[0]
    order = sorted(range(len(cluster)), key=lambda i: (len(cluster[i].boxes), i), reverse=True)
    first = cluster[order[0]]
    bucket_marks: list[int] = []
    bucket_spans: list[list[Span]] = []
    bucket_boxes: list[list[XYWH]] = []
    for i in order:
        for box, mark, spans in zip(cluster[i].boxes, marks[i], cluster[i].spans, strict=True):
            for bucket, known in zip(bucket_boxes, bucket_marks, strict=True):
                if mark & known:
                    bucket.append(box)
                    break
            else:
                if i != order[0]:
                    return None
                bucket_marks.append(mark)
                bucket_spans.append(spans)
                bucket_boxes.append([box])
    result = msgspec.structs.replace(
        first, boxes=[], spans=[], records=[id_ for i in order for id_ in cluster[i].records]
    )
    for spans, of_bucket in zip(bucket_spans, bucket_boxes, strict=True):
        distinct = averaged(of_bucket, SAME_REGION)
        result.boxes += distinct
        result.spans += [spans] * len(distinct)
    return result


def _join(same_text: list[Description]) -> Description:
    """One description for all with one text; boxes that are nearly equal get the words of both."""
    text = same_text[0].text
    boxes = [box for description in same_text for box in description.boxes]
    spans = [of_box for description in same_text for of_box in description.spans]
    groups = alike(boxes, SAME_BOX)
    if len(groups) < len(boxes):
        boxes = [mean([boxes[i] for i in members]) for members in groups]
        spans = [consolidate([s for i in members for s in spans[i]], text) for members in groups]
    return Description(
        text=text,
        records=[id_ for description in same_text for id_ in description.records],
        boxes=boxes,
        spans=spans,
        negative=consolidate([s for one in same_text for s in one.negative], text),
        found=False,
    )

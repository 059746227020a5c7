"""The regions of Visual Genome, and the caption with boxes that each of them becomes.

A region is a phrase, a box, and the objects in it with their WordNet synsets; another list gives
the words of the phrase that a synset stands for. See MDETR, arXiv 2104.12763, appendix on
pre-training data. The descriptions of regions, without objects, are published as a smaller file.
"""

from collections import Counter
from typing import ClassVar

import msgspec

from pipelines.captions.noun_phrases import root_and_negative_spans
from pipelines.captions.parsing import length_error
from pipelines.captions.spans import consolidate, intersects
from pipelines.captions.text_cleanup import has_alphanumeric
from pipelines.io.json_records import Id
from pipelines.sources.visual_genome.boxes import (
    MAX_COORDINATE,
    XYWH,
    average_overlapping,
    float32_box,
)
from pipelines.sources.visual_genome.text_rules import TextRules
from schemas import Span
from schemas.limits import MAX_CAPTION_BOXES

MIN_CHARACTERS = 3  # of a caption
_NO_ID = -(2**63)  # where a file does not state an id
SAME_OBJECT_IOU = 0.7  # IoU from which boxes of the same words in one region are one object


class RawObject(msgspec.Struct, gc=False):
    """An object of a region."""

    x: float
    y: float
    w: float
    h: float
    synsets: list[str]


class RawSynset(msgspec.Struct, gc=False):
    """A synset and the words of the phrase, as character offsets, that it stands for."""

    entity_idx_start: int
    entity_idx_end: int
    synset_name: str


class _Described(msgspec.Struct, gc=False, kw_only=True):
    """What all versions state of a region; its id is ``region_id``, or ``id`` in version 1.0."""

    region_id: Id = _NO_ID
    id: Id = _NO_ID
    phrase: str
    x: float
    y: float
    width: float
    height: float

    def __post_init__(self) -> None:
        if self.region_id == _NO_ID:
            if self.id == _NO_ID:
                raise ValueError("Object missing required field `region_id`")
            self.region_id = self.id


class RawRegion(_Described, gc=False, kw_only=True):
    """A region of ``region_graphs.json``."""

    objects: list[RawObject]
    synsets: list[RawSynset]


class RegionDescription(_Described, gc=False, kw_only=True):
    """A region of ``region_descriptions.json``, which states no objects."""

    objects: ClassVar[list[RawObject]] = []
    synsets: ClassVar[list[RawSynset]] = []


AnyRegion = RawRegion | RegionDescription


class RegionCaption(msgspec.Struct, gc=False):
    """The caption of one region, or of several that were merged."""

    text: str
    region_ids: list[int]  # the first is the one whose text was taken
    boxes: list[XYWH]
    spans: list[list[Span]]  # the words of each box
    tokens_negative: list[Span]
    has_objects: bool  # whether a box is that of an object, not that of the region
    named_boxes: int  # the boxes that its words name, before equal ones were averaged


class RejectedRegion(msgspec.Struct, gc=False):
    """A region that gives no caption, and why; ``boxes`` are those that are lost with it."""

    region_id: int
    reason: str
    detail: str
    boxes: int


def box_count(region: AnyRegion) -> int:
    """Returns the number of boxes that a region states: its own, and those of its objects."""
    return 1 + len(region.objects)


def check_region(region: AnyRegion, caption: str) -> RejectedRegion | None:
    """Returns the rejection of a region that is too large, or whose caption is no usable text."""
    if len(caption) < MIN_CHARACTERS:
        return _reject(region, "caption too short", repr(region.phrase))
    if not has_alphanumeric(caption):
        return _reject(region, "no words", repr(region.phrase))
    if error := length_error(caption):
        return _reject(region, "caption too long", error)
    if max(len(region.objects), len(region.synsets)) > MAX_CAPTION_BOXES:
        detail = f"{len(region.objects)} objects and {len(region.synsets)} synsets"
        return _reject(region, "too many objects", detail)
    return None


def _reject(region: AnyRegion, reason: str, detail: str) -> RejectedRegion:
    return RejectedRegion(region.region_id, reason, detail, box_count(region))


def preprocess_region(
    region: AnyRegion, caption: str, rules: TextRules
) -> RegionCaption | RejectedRegion:
    """Returns the caption of a region with the boxes that its words name.

    The root phrase of the caption gets the boxes of the objects it names, or else the box of the
    region; each other phrase that names objects gets theirs.

    Args:
        region: the region as published.
        caption: its phrase, cleaned.
        rules: text rules that have the parses of the caption.
    """
    region_box = float32_box(region.x, region.y, region.width, region.height)
    object_boxes = [float32_box(obj.x, obj.y, obj.w, obj.h) for obj in region.objects]
    if region_box is None or None in object_boxes:
        detail = f"a coordinate beyond {MAX_COORDINATE:g}"
        return _reject(region, "bad box", detail)

    phrase_spans = _synset_spans(region)
    mapped_spans = rules.map_spans(region.phrase, caption, list(phrase_spans.values()))
    if mapped_spans is None:
        return _reject(region, "clean-up not followed", repr(region.phrase))
    caption_spans = dict(zip(phrase_spans, mapped_spans, strict=True))

    root, negative = root_and_negative_spans(caption, rules.parse(caption), lazy=False)
    root_boxes: list[XYWH] = []
    boxes_by_span: dict[Span, list[XYWH]] = {}  # outside the root phrase
    for obj, box in zip(region.objects, object_boxes, strict=True):
        span = caption_spans.get(obj.synsets[0]) if len(obj.synsets) == 1 else None
        if span is None or box is None:
            continue
        if intersects(span, root):
            root_boxes.append(box)
        else:
            boxes_by_span.setdefault(span, []).append(box)

    named_boxes = len(root_boxes) or 1
    boxes = average_overlapping(root_boxes or [region_box], SAME_OBJECT_IOU)
    spans = [rules.root_spans(root, caption)] * len(boxes)
    for span, span_boxes in boxes_by_span.items():
        named_boxes += len(span_boxes)
        distinct_boxes = average_overlapping(span_boxes, SAME_OBJECT_IOU)
        boxes += distinct_boxes
        spans += [consolidate([span], caption)] * len(distinct_boxes)
    return RegionCaption(
        text=caption,
        region_ids=[region.region_id],
        boxes=boxes,
        spans=spans,
        tokens_negative=consolidate([*negative, *boxes_by_span], caption),
        has_objects=bool(root_boxes or boxes_by_span),
        named_boxes=named_boxes,
    )


def _synset_spans(region: AnyRegion) -> dict[str, Span]:
    """Returns the span in the raw phrase of each synset that names objects unambiguously.

    An object with several synsets is likely spurious, and a synset that occurs twice in the phrase
    is ambiguous.
    """
    if not region.objects or not region.synsets:
        return {}
    object_synsets = {obj.synsets[0] for obj in region.objects if len(obj.synsets) == 1}
    counts = Counter([synset.synset_name for synset in region.synsets])
    return {
        synset.synset_name: (synset.entity_idx_start, synset.entity_idx_end)
        for synset in region.synsets
        if counts[synset.synset_name] == 1 and synset.synset_name in object_synsets
    }

"""Merging the captions of an image that describe the same objects.

Many regions of an image have nearly the same phrase and box. See MDETR, arXiv 2104.12763, appendix
on pre-training data.
"""

from collections import defaultdict
from collections.abc import Iterable

import msgspec

from pipelines.captions.spans import consolidate
from pipelines.geometry.boxes import clusters
from pipelines.sources.visual_genome.boxes import (
    XYWH,
    any_boxes_overlap,
    average_overlapping,
    boxes_agree,
    cluster_by_iou,
    mean_box,
)
from pipelines.sources.visual_genome.regions import RegionCaption, RejectedRegion
from pipelines.sources.visual_genome.text_rules import TextRules
from schemas import Span

SAME_REGION_IOU = 0.5  # IoU from which boxes of the same words in two captions are merged
SAME_BOX_IOU = 0.75  # IoU from which boxes of captions with the same text are merged
COVERED_IOU = 0.1  # IoU from which a caption without objects is redundant to one with objects


def deduplicate_captions(
    captions: Iterable[RegionCaption], rules: TextRules
) -> tuple[list[RegionCaption], list[RejectedRegion]]:
    """Merges the captions of one image that have the same content and agree in their boxes.

    Every region id of the input is in exactly one caption or rejection of the output.
    """
    by_content: dict[tuple[str, ...], list[RegionCaption]] = defaultdict(list)
    rejected: list[RejectedRegion] = []
    for caption in captions:
        content = rules.content_lemmas(caption.text)
        if content is None:
            rejected += _reject(caption, "no words")
        elif "wall" in content and rules.uninformative_words.issuperset(content):
            rejected += _reject(caption, "uninformative")
        else:
            by_content[content].append(caption)
    merged: list[RegionCaption] = []
    for group in by_content.values():
        merged += group if len(group) == 1 else _merge_same_content(group, rules)
    return merged, rejected


def _reject(caption: RegionCaption, reason: str) -> list[RejectedRegion]:
    [region_id] = caption.region_ids
    return [RejectedRegion(region_id, reason, caption.text, caption.named_boxes)]


def _merge_same_content(group: list[RegionCaption], rules: TextRules) -> list[RegionCaption]:
    with_objects = [caption for caption in group if caption.has_objects]
    without_objects = [caption for caption in group if not caption.has_objects]
    covered = any_boxes_overlap(_boxes(without_objects), _boxes(with_objects), COVERED_IOU)
    uncovered: list[RegionCaption] = []
    for caption, covering in zip(without_objects, covered, strict=True):
        if covering.any():
            first_covering = with_objects[covering.argmax()]
            first_covering.region_ids += caption.region_ids
            first_covering.named_boxes += caption.named_boxes
        else:
            uncovered.append(caption)

    by_text: dict[str, list[RegionCaption]] = defaultdict(list)
    for caption in _merge_agreeing(with_objects, rules) + _merge_agreeing(uncovered, rules):
        by_text[caption.text].append(caption)
    return [_merge_same_text(same_text) for same_text in by_text.values()]


def _boxes(captions: Iterable[RegionCaption]) -> list[list[XYWH]]:
    return [caption.boxes for caption in captions]


def _merge_agreeing(group: list[RegionCaption], rules: TextRules) -> list[RegionCaption]:
    """Merges captions whose boxes of common words overlap: all such captions, or none."""
    if len(group) < 2:
        return group
    masks: list[list[int]] = []
    for caption in group:
        caption_masks = rules.content_masks(caption.text, caption.spans)
        if caption_masks is None:
            return group
        masks.append(caption_masks)
    merged = []
    for members in clusters(boxes_agree(_boxes(group), masks, SAME_REGION_IOU)):
        merged_caption = _merge_cluster([group[i] for i in members], [masks[i] for i in members])
        if merged_caption is None:
            return group
        merged.append(merged_caption)
    return merged


class _WordGroup(msgspec.Struct):
    """Boxes that have words in common, over all captions of a cluster."""

    mask: int
    spans: list[Span]
    boxes: list[XYWH]


def _merge_cluster(cluster: list[RegionCaption], masks: list[list[int]]) -> RegionCaption | None:
    """Merges captions into the one with most boxes, and averages the boxes of common words.

    Returns:
        None if another caption has a box for words that the one with most boxes has no box for.
    """
    if len(cluster) == 1:
        return cluster[0]
    most_boxes_first = sorted(
        zip(cluster, masks, strict=True), key=lambda pair: len(pair[0].boxes)
    )[::-1]
    base = most_boxes_first[0][0]
    groups: list[_WordGroup] = []
    for caption, caption_masks in most_boxes_first:
        for box, mask, spans in zip(caption.boxes, caption_masks, caption.spans, strict=True):
            group = next((group for group in groups if group.mask & mask), None)
            if group is not None:
                group.boxes.append(box)
            elif caption is base:
                groups.append(_WordGroup(mask, spans, [box]))
            else:
                return None
    boxes: list[XYWH] = []
    spans_of_boxes: list[list[Span]] = []
    for group in groups:
        distinct_boxes = average_overlapping(group.boxes, SAME_REGION_IOU)
        boxes += distinct_boxes
        spans_of_boxes += [group.spans] * len(distinct_boxes)
    return RegionCaption(
        text=base.text,
        region_ids=[id_ for caption, _ in most_boxes_first for id_ in caption.region_ids],
        boxes=boxes,
        spans=spans_of_boxes,
        tokens_negative=base.tokens_negative,
        has_objects=base.has_objects,
        named_boxes=sum(caption.named_boxes for caption in cluster),
    )


def _merge_same_text(same_text: list[RegionCaption]) -> RegionCaption:
    """Merges captions with one text; boxes that are nearly equal get the words of all of them."""
    text = same_text[0].text
    boxes = [box for caption in same_text for box in caption.boxes]
    spans = [box_spans for caption in same_text for box_spans in caption.spans]
    groups = cluster_by_iou(boxes, SAME_BOX_IOU)
    if len(groups) < len(boxes):
        boxes = [mean_box([boxes[i] for i in members]) for members in groups]
        spans = [
            consolidate([span for i in members for span in spans[i]], text) for members in groups
        ]
    negative = [span for caption in same_text for span in caption.tokens_negative]
    return RegionCaption(
        text=text,
        region_ids=[id_ for caption in same_text for id_ in caption.region_ids],
        boxes=boxes,
        spans=spans,
        tokens_negative=consolidate(negative, text),
        has_objects=False,
        named_boxes=sum(caption.named_boxes for caption in same_text),
    )

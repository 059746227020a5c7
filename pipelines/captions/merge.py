"""All that the sources say of one image, brought to one size and held against the image."""

from collections.abc import Iterable, Iterator, Sequence

import msgspec
import numpy as np

from pipelines.captions.options import Rules
from pipelines.dedup.image_registry import ImageRegistry
from schemas import Box, GroundedCaption, ImageInfo, ImageRecord, Object, Phrase, Region, Rejected
from shards import box_overlap as bx

# Copies whose ratios of width to height differ by more are crops: boxes cannot be carried over.
_RATIO_TOLERANCE = 0.02
_NOWHERE: Box = (np.nan, np.nan, np.nan, np.nan)


class Merged(msgspec.Struct):
    """An image with the sentences about it, boxes bound and in its pixels.

    ``sources`` tells for each caption which source of the recipe it is from.
    """

    image: ImageInfo
    captions: list[GroundedCaption]
    sources: list[str]


def merge(
    parts: Iterable[ImageRecord], image_registry: ImageRegistry, rules: Rules
) -> Iterator[Merged | Rejected]:
    """The image that these parts, all of one canonical key, speak of.

    A copy of another shape than the canonical one is a crop of the photo, and stays an image of
    its own. Under ``boxes = "as_is"`` shapes and boxes are not looked at.
    """
    parts = sorted(parts, key=lambda part: part.rank)
    objects: dict[tuple[str, str], dict[str, Object]] = {}
    for part in parts:
        known = objects.setdefault((part.source, part.image), {})
        for id_, named in part.objects.items():
            if known.setdefault(id_, named) != named:
                detail = "object: the first one was kept"
                yield Rejected(part.source, id_, "duplicate id", detail, part.image, records=0)
    merged: dict[str, Merged] = {}
    seen: set[tuple[str, str]] = set()
    copies: set[str] = set()
    for part in parts:
        if not part.captions:
            continue
        if image_registry.image(part.image) is None:
            detail, records = "in no table of images", len(part.captions)
            yield Rejected(part.source, part.image, "unknown image", detail, part.image, records)
            continue
        if part.image in image_registry.repeated and part.image not in copies:
            detail = "image: the first row was kept"
            yield Rejected(part.source, part.image, "duplicate id", detail, part.image, records=0)
        copies.add(part.image)
        copy = _sized(part, image_registry)
        target = image_registry.image(image_registry.canonical(part.image))
        if target is None or target.key == copy.key or not _can_rescale(copy, target, rules):
            target = copy
        into = merged.setdefault(target.key, Merged(target, [], []))
        own = objects[part.source, part.image]
        for caption in _bound(part, own, copy, target, rules):
            if isinstance(caption, Rejected):
                yield caption
            elif (caption.dataset, caption.record) in seen:
                record = f"{caption.dataset}/{caption.record}"
                yield Rejected(part.source, record, "duplicate id", "", part.image)
            else:
                seen.add((caption.dataset, caption.record))
                into.captions.append(caption)
                into.sources.append(part.source)
    yield from merged.values()


def _sized(part: ImageRecord, image_registry: ImageRegistry) -> ImageInfo:
    """The copy that a part speaks of, with the size that its own file states, if it does."""
    row = image_registry.image(part.image) or ImageInfo(part.image, part.source, "")
    if part.width and part.height:
        return msgspec.structs.replace(row, width=part.width, height=part.height)
    return row


def _can_rescale(copy: ImageInfo, target: ImageInfo, rules: Rules) -> bool:
    if not (copy.width and copy.height and target.width and target.height):
        return False
    if rules.boxes == "as_is":
        return True
    ratio = (copy.width * target.height) / (copy.height * target.width)
    return abs(ratio - 1) <= _RATIO_TOLERANCE


def _bound(
    part: ImageRecord, objects: dict[str, Object], copy: ImageInfo, target: ImageInfo, rules: Rules
) -> Iterator[GroundedCaption | Rejected]:
    """The captions of a part with their boxes in the target's pixels, and what had to go.

    A caption that loses some of its regions is kept, one that loses all of them is not.
    """
    regions = [region for caption in part.captions for region in caption.regions]
    named = [_object_of(region, objects) for region in regions]
    boxes = _rescaled(bx.as_array([o.box if o else _NOWHERE for o in named]), copy, target)
    fitted, problems = (boxes, [""] * len(boxes))
    if rules.boxes == "clip":
        fitted, problems = _clip(boxes, target)
    areas = _areas(named, boxes, fitted, copy, target, rules)
    at = 0
    for caption in part.captions:
        fault = _text_fault(caption)
        kept: list[Region] = []
        faults = [fault] if fault else []
        for i in range(at, at + len(caption.regions)):
            region, object_ = regions[i], named[i]
            if object_ is None:
                faults.append(("unknown object", region.object))
            elif problems[i]:
                faults.append((problems[i], str(object_.box)))
            else:
                x0, y0, x1, y1 = fitted[i].tolist()
                box = (x0, y0, x1, y1)
                kept.append(Region(region.spans, box, "", areas[i], region.category, object_.crowd))
        at += len(caption.regions)
        lost = fault is not None or (not kept and bool(faults))
        record = f"{caption.dataset}/{caption.record}"
        for n, (reason, detail) in enumerate(faults):
            yield Rejected(
                part.source, record, reason, detail, part.image, records=int(lost and n == 0)
            )
        if not lost:
            caption.regions = kept
            caption.phrases = [_rescaled_phrase(p, copy, target) for p in caption.phrases]
            yield caption


def _object_of(region: Region, objects: dict[str, Object]) -> Object | None:
    if region.box is not None:
        return Object(region.box, region.area, region.category, region.crowd)
    return objects.get(region.object)


def _text_fault(caption: GroundedCaption) -> tuple[str, str] | None:
    text = caption.text
    if not text.strip():
        return "empty caption", ""
    for region in caption.regions:
        for start, stop in region.spans:
            if not 0 <= start < stop <= len(text):
                return "span outside the caption", f"({start}, {stop}) of {len(text)} characters"
    return None


def _rescaled(boxes: bx.Boxes, copy: ImageInfo, target: ImageInfo) -> bx.Boxes:
    """Boxes in pixels of the copy -> of the target, computed in float64 and rounded once."""
    if (copy.width, copy.height) == (target.width, target.height):
        return boxes
    old = np.array([copy.width, copy.height] * 2, np.float64)
    new = np.array([target.width, target.height] * 2, np.float64)
    return (boxes / old * new).astype(np.float32)


def _clip(boxes: bx.Boxes, image: ImageInfo) -> tuple[bx.Boxes, list[str]]:
    """Boxes cut to the image, and for each what makes it unusable, or nothing."""
    size = np.array([image.width, image.height] * 2, np.float32)
    clipped = np.clip(boxes, 0, size) if image.width else boxes
    not_finite = ~np.isfinite(boxes).all(axis=1)
    empty = ((boxes[:, 2:] - boxes[:, :2]) <= 0).any(axis=1)
    outside = ((clipped[:, 2:] - clipped[:, :2]) <= 0).any(axis=1)
    problem = np.select(
        [not_finite, empty, outside],
        ["box is not of numbers", "empty box", "box outside the image"],
        "",
    )
    return clipped, problem.tolist()


def _areas(
    named: Sequence[Object | None],
    boxes: bx.Boxes,
    fitted: bx.Boxes,
    copy: ImageInfo,
    target: ImageInfo,
    rules: Rules,
) -> list[float | None]:
    """Square pixels of each region, as stated or in pixels of the target, as the rules ask for."""
    stated = [o.area if o else None for o in named]
    if rules.area == "source":
        return stated
    scale = target.width * target.height / (copy.width * copy.height) if copy.width else 1.0
    own = bx.area(fitted).astype(np.float64).tolist()
    whole = (fitted == boxes).all(axis=1).tolist()
    return [
        round(area * scale if area is not None and whole[i] else own[i], 2)
        for i, area in enumerate(stated)
    ]


def _rescaled_phrase(phrase: Phrase, copy: ImageInfo, target: ImageInfo) -> Phrase:
    boxes = _rescaled(bx.as_array(phrase.boxes), copy, target).tolist()
    return msgspec.structs.replace(phrase, boxes=[tuple(box) for box in boxes])

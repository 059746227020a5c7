"""All that the sources say of one image, brought to one size and held against the image."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import msgspec
import numpy as np

from pipelines.captions.options import Rules
from pipelines.dedup.image_registry import ImageRegistry
from schemas import (
    Caption,
    GroundedCaption,
    ImageInfo,
    ImageRecord,
    Object,
    ObjectRegion,
    Phrase,
    Provenance,
    Region,
    Rejected,
)
from shards import box_overlap as bx

# Copies whose ratios of width to height differ by more are crops: boxes cannot be carried over.
_RATIO_TOLERANCE = 0.02


class Merged(msgspec.Struct):
    """An image with its captions, each of one sentence, with boxes in pixels of the image.

    ``sources`` has for each caption the source of the recipe that it is from.
    """

    image: ImageInfo
    captions: list[Caption]
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
    seen: set[tuple[str, str]] = set()  # dataset and record of a caption
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
                continue
            [origin] = caption.provenance
            if (origin.dataset, origin.record) in seen:
                record = f"{origin.dataset}/{origin.record}"
                yield Rejected(part.source, record, "duplicate id", "", part.image)
            else:
                seen.add((origin.dataset, origin.record))
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


class _Unusable(NamedTuple):
    """Why a region or a caption cannot be used: a reason, one of few, and free text."""

    reason: str
    detail: str


def _bound(
    part: ImageRecord, objects: dict[str, Object], copy: ImageInfo, target: ImageInfo, rules: Rules
) -> Iterator[Caption | Rejected]:
    """Yields the captions of a record with boxes in the target's pixels, and what is rejected.

    A caption that loses some of its regions is kept, one that loses all of them is not.
    """
    regions = [region for caption in part.captions for region in _regions(caption)]
    fitted = iter(_fit_all(regions, objects, copy, target, rules))
    for caption in part.captions:
        text_error = _text_fault(caption)
        errors = [] if text_error is None else [text_error]
        usable: list[Region] = []
        for region in islice(fitted, len(_regions(caption))):
            if isinstance(region, _Unusable):
                errors.append(region)
            else:
                usable.append(region)
        is_lost = text_error is not None or (not usable and bool(errors))
        record = f"{caption.dataset}/{caption.record}"
        for i, (reason, detail) in enumerate(errors):
            records = int(is_lost and i == 0)
            yield Rejected(part.source, record, reason, detail, part.image, records)
        if not is_lost:
            yield Caption(
                text=caption.text,
                regions=usable,
                tokens_negative=caption.tokens_negative,
                provenance=[Provenance(caption.dataset, caption.record, (0, len(caption.text)))],
                phrases=[_rescaled_phrase(phrase, copy, target) for phrase in caption.phrases],
                question=caption.question,
            )


def _fit_all(
    regions: Sequence[Region | ObjectRegion],
    objects: dict[str, Object],
    copy: ImageInfo,
    target: ImageInfo,
    rules: Rules,
) -> list[Region | _Unusable]:
    """Returns each region with its box in the target's pixels, or why it cannot be used."""
    located = [_located(region, objects) for region in regions]
    known = [region for region in located if isinstance(region, Region)]
    boxes = _rescaled(bx.as_array([region.box for region in known]), copy, target)
    fitted, problems = boxes, [""] * len(boxes)
    if rules.boxes == "clip":
        fitted, problems = _clip(boxes, target)
    areas = _areas(known, boxes, fitted, copy, target, rules)
    results = iter(
        _Unusable(problem, str(region.box))
        if problem
        else msgspec.structs.replace(region, box=tuple(box), area=area)
        for region, box, area, problem in zip(known, fitted.tolist(), areas, problems, strict=True)
    )
    return [next(results) if isinstance(region, Region) else region for region in located]


def _located(region: Region | ObjectRegion, objects: dict[str, Object]) -> Region | _Unusable:
    """Returns a region with the box of the object that it names."""
    if isinstance(region, Region):
        return region
    obj = objects.get(region.object)
    if obj is None:
        return _Unusable("unknown object", region.object)
    return Region(
        spans=region.spans, box=obj.box, area=obj.area, category=region.category, crowd=obj.crowd
    )


def _regions(caption: GroundedCaption) -> list[Region | ObjectRegion]:
    return [*caption.regions, *caption.object_regions]


def _text_fault(caption: GroundedCaption) -> _Unusable | None:
    text = caption.text
    if not text.strip():
        return _Unusable("empty caption", "")
    for region in _regions(caption):
        for start, stop in region.spans:
            if not 0 <= start < stop <= len(text):
                detail = f"({start}, {stop}) of {len(text)} characters"
                return _Unusable("span outside the caption", detail)
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
    regions: Sequence[Region],
    boxes: bx.Boxes,
    fitted: bx.Boxes,
    copy: ImageInfo,
    target: ImageInfo,
    rules: Rules,
) -> list[float | None]:
    """Square pixels of each region, as stated or in pixels of the target, as the rules ask for."""
    stated = [region.area for region in regions]
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

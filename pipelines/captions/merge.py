"""Merges all records of one image: boxes are rescaled to one size and clipped to the image."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import msgspec
import numpy as np

from pipelines.captions.negatives import SourcedPhrase
from pipelines.captions.rules import CaptionRules
from pipelines.dedup.image_registry import Conflict, ImageRegistry, have_same_ratio
from schemas import (
    UNKNOWN_IMAGE,
    UNKNOWN_OBJECT,
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
from schemas.sample import region_identity
from shards import box_overlap as bx


class MergedImage(msgspec.Struct):
    """An image with its one-sentence captions, with boxes in pixels of the image.

    ``sources`` has the recipe's source of each caption, ``keys`` the images that they are about,
    ``absent`` what annotators stated not to be in it.
    """

    image: ImageInfo
    captions: list[Caption]
    sources: list[str]
    keys: list[str] = []
    absent: list[SourcedPhrase] = []


def merge(
    records: Iterable[ImageRecord], image_registry: ImageRegistry, rules: CaptionRules
) -> Iterator[MergedImage | Rejected]:
    """Merges records that have one canonical key.

    Yields one image, or several: a duplicate whose ratio of width to height differs from the
    canonical image's is a crop of the photo, and stays a separate image. Under
    ``boxes = "as_is"`` boxes are not checked, nor ratios of images with a ``coco_id``. Records of
    an image whose rows contradict each other are rejected: each may be about another file.
    """
    records = sorted(records, key=lambda record: record.rank)
    objects, repeated_objects = _collect_objects(records)
    yield from repeated_objects
    merged: dict[str, MergedImage] = {}
    caption_ids: set[tuple[str, str]] = set()  # dataset and record
    for record in records:
        if not record.captions and not record.absent:
            continue
        row = image_registry.image_in(record.source, record.image)
        image = _annotated_image(record, row, image_registry.conflict(record.source, record.image))
        if isinstance(image, _Unusable):
            yield reject_record(record, image.reason, image.detail)
            continue
        target = image_registry.image(image_registry.canonical(record.image))
        # Without a size or boxes, what is absent goes with the image's captions.
        joins = not (record.captions or image.width) and record.image not in merged
        if target is None or not (joins or _can_rescale(image, target, rules, image_registry)):
            target = image_registry.image(record.image)
        if target is None or not target.width:
            target = image
        into = merged.setdefault(target.key, MergedImage(target, [], []))
        if record.image not in into.keys:
            into.keys.append(record.image)
        into.absent += [SourcedPhrase(record.source, phrase) for phrase in record.absent]
        named = objects[record.source, record.image]
        for caption in _captions(record, named, image, target, rules):
            if isinstance(caption, Rejected):
                yield caption
                continue
            [origin] = caption.provenance
            if (origin.dataset, origin.record) in caption_ids:
                id_, boxes = f"{origin.dataset}/{origin.record}", len(caption.regions)
                yield _reject(record, id_, "duplicate id", "", 1, boxes)
            else:
                caption_ids.add((origin.dataset, origin.record))
                into.captions.append(caption)
                into.sources.append(record.source)
    yield from merged.values()


def reject_unknown_image(record: ImageRecord) -> Rejected:
    """Rejects the captions of a record because their image is in no table."""
    return reject_record(record, UNKNOWN_IMAGE, "in no table of images")


def scale_boxes(record: ImageRecord) -> None:
    """Converts the relative boxes of a record to pixels of its image, whose size it states."""
    size = np.array([record.width, record.height] * 2, np.float64)
    for caption in record.captions:
        for region in caption.regions:
            x0, y0, x1, y1 = (np.array(region.box, np.float64) * size).astype(np.float32).tolist()
            region.box = x0, y0, x1, y1


def reject_record(record: ImageRecord, reason: str, detail: str) -> Rejected:
    """Rejects the captions of a record, all for one reason."""
    count, boxes = len(record.captions), sum(caption.box_count() for caption in record.captions)
    return _reject(record, record.image, reason, detail, count, boxes)


_Objects = dict[str, Object]  # by id


def _collect_objects(
    records: Iterable[ImageRecord],
) -> tuple[dict[tuple[str, str], _Objects], list[Rejected]]:
    """Returns the objects of each source and image, and ids that two objects share."""
    objects: dict[tuple[str, str], _Objects] = {}
    rejected: list[Rejected] = []
    for record in records:
        known = objects.setdefault((record.source, record.image), {})
        for id_, obj in record.objects.items():
            if known.setdefault(id_, obj) != obj:
                detail = "object: the first one was kept"
                rejected.append(_reject(record, id_, "duplicate id", detail, 0))
    return objects, rejected


def _reject(
    record: ImageRecord, id_: str, reason: str, detail: str, count: int, boxes: int = 0
) -> Rejected:
    return Rejected(
        source=record.source,
        record=id_,
        reason=reason,
        detail=detail,
        image=record.image,
        records=count,
        boxes=boxes,
    )


def _annotated_image(
    record: ImageRecord, row: ImageInfo | None, conflict: Conflict | None
) -> "ImageInfo | _Unusable":
    """Returns the image of a record, with the size in the annotation file, if it has one."""
    if row is None:
        return _Unusable(UNKNOWN_IMAGE, "in no table of images")
    if conflict is not None:
        return _Unusable(conflict.reason, conflict.detail)
    if not (record.width and record.height):
        return row
    image = msgspec.structs.replace(row, width=record.width, height=record.height)
    if row.width and not have_same_ratio(image, row):
        sizes = f"{image.width}x{image.height}, in {row.source} {row.width}x{row.height}"
        return _Unusable("image of another size", sizes)
    return image


def _can_rescale(
    image: ImageInfo, target: ImageInfo, rules: CaptionRules, image_registry: ImageRegistry
) -> bool:
    if not (image.width and target.width):
        return False
    if rules.boxes == "as_is" and image_registry.has_coco_id_of(image.key, target.key):
        return True  # as in the published scripts, which know no other join
    return have_same_ratio(image, target)


class _Unusable(NamedTuple):
    """The reason, short and fixed, and details why a region or a caption cannot be used."""

    reason: str
    detail: str


def _captions(
    record: ImageRecord,
    objects: _Objects,
    image: ImageInfo,
    target: ImageInfo,
    rules: CaptionRules,
) -> Iterator[Caption | Rejected]:
    """Yields the captions of a record with boxes in the target's pixels, and what is rejected.

    A caption that loses some of its regions is kept, one that loses all of them is not.
    """
    regions = [region for caption in record.captions for region in _all_regions(caption)]
    fitted = iter(_fit_regions(regions, objects, image, target, rules))
    for caption in record.captions:
        text_error = _text_error(caption)
        errors: list[_Unusable] = []
        usable: list[Region] = []
        seen: set[tuple[object, ...]] = set()
        for region in islice(fitted, len(_all_regions(caption))):
            if isinstance(region, _Unusable):
                errors.append(region)
            elif rules.boxes == "clip" and region_identity(region) in seen:
                errors.append(_Unusable("same region twice", str(region.box)))
            else:
                usable.append(region)
                seen.add(region_identity(region))
        id_ = f"{caption.dataset}/{caption.record}"
        is_lost = text_error is not None or (not usable and bool(errors))
        if text_error is not None:
            yield _reject(record, id_, *text_error, count=1, boxes=len(usable))
        for i, (reason, detail) in enumerate(errors):
            count = int(is_lost and text_error is None and i == 0)
            yield _reject(record, id_, reason, detail, count, boxes=1)
        if not is_lost:
            yield Caption(
                text=caption.text,
                regions=usable,
                tokens_negative=caption.tokens_negative,
                provenance=[Provenance(caption.dataset, caption.record, (0, len(caption.text)))],
                phrases=[_rescale_phrase(phrase, image, target) for phrase in caption.phrases],
                question=caption.question,
            )


def _fit_regions(
    regions: Sequence[Region | ObjectRegion],
    objects: _Objects,
    image: ImageInfo,
    target: ImageInfo,
    rules: CaptionRules,
) -> list[Region | _Unusable]:
    """Returns each region with its box in the target's pixels, or why it cannot be used."""
    located = [_locate(region, objects) for region in regions]
    known = [region for region in located if isinstance(region, Region)]
    boxes = _rescale(bx.as_array([region.box for region in known]), image, target)
    fitted, problems = boxes, [""] * len(boxes)
    if rules.boxes == "clip":
        fitted, problems = _clip(boxes, target)
    areas = _areas(known, boxes, fitted, image, target, rules)
    results = iter(
        _Unusable(problem, str(region.box))
        if problem
        else msgspec.structs.replace(region, box=tuple(box), area=area)
        for region, box, area, problem in zip(known, fitted.tolist(), areas, problems, strict=True)
    )
    return [next(results) if isinstance(region, Region) else region for region in located]


def _locate(region: Region | ObjectRegion, objects: _Objects) -> Region | _Unusable:
    """Returns a region with the box of the object that it names."""
    if isinstance(region, Region):
        return region
    obj = objects.get(region.object)
    if obj is None:
        return _Unusable(UNKNOWN_OBJECT, region.object)
    category = obj.category if region.category is None else region.category
    return Region(region.spans, obj.box, obj.area, category, obj.crowd)


def _all_regions(caption: GroundedCaption) -> list[Region | ObjectRegion]:
    return [*caption.regions, *caption.object_regions]


def _text_error(caption: GroundedCaption) -> _Unusable | None:
    text = caption.text
    if not text.strip():
        return _Unusable("empty caption", "")
    for region in _all_regions(caption):
        for start, stop in region.spans:
            if not 0 <= start < stop <= len(text):
                detail = f"({start}, {stop}) of {len(text)} characters"
                return _Unusable("span outside the caption", detail)
    return None


def _rescale(boxes: bx.Boxes, image: ImageInfo, target: ImageInfo) -> bx.Boxes:
    """Rescales boxes from pixels of an image to a target's, in float64, rounded to float32 once."""
    if (image.width, image.height) == (target.width, target.height):
        return boxes
    old = np.array([image.width, image.height] * 2, np.float64)
    new = np.array([target.width, target.height] * 2, np.float64)
    return (boxes / old * new).astype(np.float32)


def _clip(boxes: bx.Boxes, image: ImageInfo) -> tuple[bx.Boxes, list[str]]:
    """Clips boxes to the image; returns for each why it is unusable, or an empty string."""
    size = np.array([image.width, image.height] * 2, np.float32)
    clipped = np.clip(boxes, 0, size) if image.width else boxes
    not_finite = ~np.isfinite(boxes).all(axis=1)
    empty = ((boxes[:, 2:] - boxes[:, :2]) <= 0).any(axis=1)
    outside = ((clipped[:, 2:] - clipped[:, :2]) <= 0).any(axis=1)
    problems = np.select(
        [not_finite, empty, outside],
        ["box is not of numbers", "empty box", "box outside the image"],
        "",
    )
    return clipped, problems.tolist()


def _areas(
    regions: Sequence[Region],
    boxes: bx.Boxes,
    clipped: bx.Boxes,
    image: ImageInfo,
    target: ImageInfo,
    rules: CaptionRules,
) -> list[float | None]:
    """Returns the area of each region: as stated, or in square pixels of the target.

    The source's area is rescaled if the box was not clipped and an object in it can have that area;
    otherwise it is the box's area.
    """
    stated_areas = [region.area for region in regions]
    if rules.area == "source":
        return stated_areas
    scale = target.width * target.height / (image.width * image.height) if image.width else 1.0
    box_areas = [round(area, 2) for area in bx.area(clipped).astype(np.float64).tolist()]
    is_whole = (clipped == boxes).all(axis=1).tolist()
    largest = bx.largest_area(clipped).tolist()
    rescaled = [None if area is None else area * scale for area in stated_areas]
    return [
        round(area, 2) if area is not None and is_whole[i] and 0 <= area <= largest[i] else box_area
        for i, (area, box_area) in enumerate(zip(rescaled, box_areas, strict=True))
    ]


def _rescale_phrase(phrase: Phrase, image: ImageInfo, target: ImageInfo) -> Phrase:
    boxes = _rescale(bx.as_array(phrase.boxes), image, target).tolist()
    return msgspec.structs.replace(phrase, boxes=[tuple(box) for box in boxes])

"""Captions that are names of classes: all boxes of a class in an image, whichever slices have them.

The boxes of an image may be anywhere in a file of a detection dataset, which is read in slices. So
each slice gives a caption for each class of an image with the boxes that it has, and they are
united where all records of the image are.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from schemas import ALL_BOXES_LOST, GroundedCaption, ImageRecord, Rejected
from schemas.limits import MAX_CLASS_BOXES


class United(NamedTuple):
    """Records in the order of their ranks, in which no two captions are of one class.

    Attributes:
        records: the records, also those that have no captions left.
        merged: how many captions of each source became part of another one.
        rejected: captions of no boxes, all of which were unusable, or of too many.
    """

    records: list[ImageRecord]
    merged: Counter[str]
    rejected: list[Rejected]


def unite(records: Iterable[ImageRecord]) -> United:
    """Unites the captions of one class in the records of one image; changes the records.

    >>> from schemas import Region
    >>> boxes = [Region([(0, 3)], (0, 0, 9, 9)), Region([(0, 3)], (5, 5, 9, 9))]
    >>> captions = [GroundedCaption("cat", [b], [], "v3det", "7:3", of_class=True) for b in boxes]
    >>> records = [ImageRecord("v3det/7", "v3det", "train", [caption]) for caption in captions]
    >>> [len(record.captions) for record in unite(records).records], len(captions[0].regions)
    ([1, 0], 2)
    """
    ordered = sorted(records, key=lambda record: record.rank)
    first: dict[tuple[str, str, str], GroundedCaption] = {}
    merged: Counter[str] = Counter()
    for record in ordered:
        distinct: list[GroundedCaption] = []
        for caption in record.captions:
            key = (record.source, caption.dataset, caption.record)
            known = first.setdefault(key, caption) if caption.of_class else caption
            if known is caption:
                distinct.append(caption)
            else:
                known.regions.extend(caption.regions)
                merged[record.source] += 1
        record.captions = distinct
    return United(ordered, merged, list(_reject_unusable(ordered)))


def _reject_unusable(records: Iterable[ImageRecord]) -> Iterator[Rejected]:
    """Removes captions of classes that have no boxes or too many, and yields their rejections."""
    for record in records:
        usable: list[GroundedCaption] = []
        for caption in record.captions:
            count = len(caption.regions)
            if caption.of_class and not 0 < count <= MAX_CLASS_BOXES:
                id_, reason = f"{caption.dataset}/{caption.record}", ALL_BOXES_LOST
                if count:
                    reason = "too many objects"
                yield Rejected(record.source, id_, reason, "", record.image, boxes=count)
            else:
                usable.append(caption)
        record.captions = usable

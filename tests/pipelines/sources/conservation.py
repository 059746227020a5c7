"""Every reader accounts for all captions and boxes of a slice, whatever the slice is."""

from collections.abc import Iterable

from pipelines.sources.base import SliceItem
from schemas import ImageRecord, NotAskedFor, RawCounts, Rejected


def conserved(items: Iterable[SliceItem]) -> list[ImageRecord | Rejected]:
    """Returns the records and rejections of a slice; what it states is what they account for."""
    result: list[ImageRecord | Rejected] = []
    captions = boxes = 0
    for item in items:
        match item:
            case RawCounts():
                captions -= item.captions
                boxes -= item.boxes
            case NotAskedFor():
                captions += item.captions
                boxes += item.boxes
            case Rejected():
                captions += item.records
                boxes += item.boxes
                result.append(item)
            case ImageRecord():
                captions += len(item.captions) + item.merged
                boxes += sum(caption.box_count() for caption in item.captions) + item.merged_boxes
                result.append(item)
    assert (captions, boxes) == (0, 0)
    return result

"""Regions for the export formats: clipped boxes, merged spans and the phrase."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import orjson

from schemas import Caption, Region, Span

BoxNumbers = list[float]


class ExportedRegion(NamedTuple):
    """A region with its box clipped to the image, and the phrase that names it.

    ``box`` is xyxy in pixels. ``spans`` are in ascending order, merged if at most a space separates
    them. ``phrase`` is the text of the spans, '' if there are none.
    """

    box: BoxNumbers
    spans: list[Span]
    phrase: str
    region: Region


def visible_regions(caption: Caption, width: int, height: int) -> Iterator[ExportedRegion]:
    """Yields the regions of a caption, clipped to an image of ``width`` x ``height`` pixels.

    Leaves out regions less than a pixel wide or high inside the image, as mmdetection and
    YOLO-World require.
    """
    for region, box in zip(caption.regions, float32_boxes(caption.regions), strict=True):
        x0, y0, x1, y1 = box
        clipped = [max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)]
        if clipped[2] - clipped[0] >= 1 and clipped[3] - clipped[1] >= 1:
            spans = merge_spans(region.spans, caption.text)
            phrase = " ".join(caption.text[start:stop] for start, stop in spans)
            yield ExportedRegion(box=clipped, spans=spans, phrase=phrase, region=region)


def groundable_regions(caption: Caption, width: int, height: int) -> list[ExportedRegion]:
    """Returns the visible regions that a detector can be trained on: with a phrase, no crowds."""
    return [
        exported
        for exported in visible_regions(caption, width, height)
        if exported.phrase.strip() and not exported.region.crowd
    ]


def merge_spans(spans: Sequence[Span], text: str) -> list[Span]:
    """Returns the non-empty spans, sorted, and merged if at most a single space separates them.

    >>> merge_spans([(4, 8), (0, 3), (12, 15)], "the soap in the box")
    [(0, 8), (12, 15)]
    """
    merged: list[Span] = []
    for start, stop in sorted(span for span in spans if span[0] < span[1]):
        if merged and text[merged[-1][1] : start] in ("", " "):
            start, stop = merged[-1][0], max(merged.pop()[1], stop)
        merged.append((start, stop))
    return merged


def float32_boxes(regions: Sequence[Region]) -> list[BoxNumbers]:
    """Returns the boxes (xyxy) with the shortest digits that identify each float32."""
    boxes = np.array([region.box for region in regions], np.float32)
    numbers: list[BoxNumbers] = orjson.loads(orjson.dumps(boxes, option=orjson.OPT_SERIALIZE_NUMPY))
    return numbers


def to_xywh(box: BoxNumbers) -> BoxNumbers:
    """Converts xyxy to x, y, width, height, again with few digits.

    ``x + width`` differs from the corner by less than 1e-9 pixels, so it is the same float32.
    """
    x0, y0, x1, y1 = box
    return [x0, y0, round(x1 - x0, 9), round(y1 - y0, 9)]

"""What the formats make of a region: its words, and its box as they state it."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import orjson

from schemas import Caption, Region, Span

Numbers = list[float]


class Named(NamedTuple):
    """A region's box inside its image, and the words that name it.

    ``box`` is x0, y0, x1, y1 in pixels. ``spans`` are in rising order, and what stood apart by no
    more than a space is one. ``phrase`` is their words, of a box that none name ''.
    """

    box: Numbers
    spans: list[Span]
    phrase: str
    region: Region


def visible(caption: Caption, width: int, height: int) -> Iterator[Named]:
    """The regions of a caption, their boxes cut to the image.

    What is not as much as a pixel inside, as mmdetection and YOLO-World ask for, is left out.
    """
    for region, (x0, y0, x1, y1) in zip(caption.regions, corners(caption.regions), strict=True):
        box = [max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)]
        if box[2] - box[0] >= 1 and box[3] - box[1] >= 1:
            spans = pieces(region.spans, caption.text)
            phrase = " ".join(caption.text[start:stop] for start, stop in spans)
            yield Named(box, spans, phrase, region)


def named(caption: Caption, width: int, height: int) -> list[Named]:
    """Those that detectors can be trained on: that words name, and that are not a crowd."""
    found = visible(caption, width, height)
    return [of for of in found if of.phrase.strip() and not of.region.crowd]


def pieces(spans: Sequence[Span], text: str) -> list[Span]:
    """Spans that are not empty, in rising order; those with a space between, or none, are joined.

    >>> pieces([(4, 8), (0, 3), (12, 15)], "the soap in the box")
    [(0, 8), (12, 15)]
    """
    joined: list[Span] = []
    for start, stop in sorted(span for span in spans if span[0] < span[1]):
        if joined and text[joined[-1][1] : start] in ("", " "):
            start, stop = joined[-1][0], max(joined.pop()[1], stop)
        joined.append((start, stop))
    return joined


def corners(regions: Sequence[Region]) -> list[Numbers]:
    """The boxes as the numbers with the fewest digits that name their float32."""
    boxes = np.array([region.box for region in regions], np.float32)
    return orjson.loads(orjson.dumps(boxes, option=orjson.OPT_SERIALIZE_NUMPY))


def xywh(box: Numbers) -> Numbers:
    """Corners as x, y, width and height, again of few digits.

    ``x + width`` is the corner to less than 1e-9 pixels, so as float32 it is the same.
    """
    x0, y0, x1, y1 = box
    return [x0, y0, round(x1 - x0, 9), round(y1 - y0, 9)]

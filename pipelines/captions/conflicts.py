"""Conflicts between the sentences of one image, which may not share a caption.

Two sentences conflict if a box of one overlaps a box of the other too much: they refer to the same
object.
"""

from collections.abc import Sequence

import numpy as np

from pipelines.captions.rules import CaptionRules
from schemas import Caption
from shards import box_overlap as bx

# Rows of the overlap matrix held at once: an image may have 5,000 captions, 25 million pairs.
_ROWS = 512


def conflict_graph(captions: Sequence[Caption], rules: CaptionRules) -> list[int]:
    """Returns for each caption the captions that conflict with it, as the bits of an integer."""
    boxes = bx.as_array([region.box for caption in captions for region in caption.regions])
    caption_of_box = np.repeat(np.arange(len(captions)), [len(c.regions) for c in captions])
    overlap = bx.giou if rules.conflict == "giou" else bx.iou
    graph = [0] * len(captions)
    for start in range(0, len(boxes), _ROWS):
        rows, columns = np.nonzero(overlap(boxes[start : start + _ROWS], boxes) > rules.threshold)
        pairs = caption_of_box[rows + start] * len(captions) + caption_of_box[columns]
        for pair in np.unique(pairs).tolist():
            a, b = divmod(pair, len(captions))
            if a != b:
                graph[a] |= 1 << b
    return graph

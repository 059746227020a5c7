"""Conflicts between the sentences of one image, which may not share a caption.

Two sentences conflict if a box of one overlaps a box of the other too much: they refer to the same
object.
"""

from collections.abc import Sequence

import numpy as np

from pipelines.captions.rules import CaptionRules
from schemas import Caption
from shards import box_overlap as bx


def conflict_graph(captions: Sequence[Caption], rules: CaptionRules) -> list[int]:
    """Returns for each caption the captions that conflict with it, as the bits of an integer.

    Its memory is 2 bytes for each pair of captions, whatever the number of boxes.
    """
    if len(captions) < 2:
        return [0] * len(captions)
    boxes = bx.as_array([region.box for caption in captions for region in caption.regions])
    caption_of_box = np.repeat(np.arange(len(captions)), [len(c.regions) for c in captions])
    overlap = bx.giou if rules.conflict == "giou" else bx.iou
    conflicts = np.zeros((len(captions), len(captions)), bool)
    for first, second in bx.overlapping_pairs(boxes, overlap, rules.threshold):
        a, b = caption_of_box[first], caption_of_box[second]
        conflicts[a, b] = conflicts[b, a] = True
    np.fill_diagonal(conflicts, val=False)
    rows = np.packbits(conflicts, axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in rows]

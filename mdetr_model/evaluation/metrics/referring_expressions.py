"""Referring expressions: is the best box that of the one object which the expression refers to?

RefCOCO, RefCOCO+ and RefCOCOg (paper, section 4.2), by two measures: the published evaluation asks
for a generalized IoU of at least 0.5, the literature for an IoU of more than 0.5. The first is
never more than the second but where an IoU is exactly 0.5.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mdetr_model.data.samples import Reference
from mdetr_model.evaluation.metrics.phrase_grounding import place_of_first
from mdetr_model.modeling.box_ops import giou, iou
from mdetr_model.modeling.postprocess import boxes_in_pixels, object_scores

LEAST = 0.5
BEST = (1, 5, 10)


class Ranks(NamedTuple):
    """How many wrong boxes are taken to be more surely what is referred to than the first right
    one, by measure.
    """

    giou: int
    iou: int


@torch.no_grad()
def ranks_of_expressions(outputs: Any, references: Sequence[Reference]) -> list[Ranks]:
    """The ranks of every expression of a batch.

    Args:
        outputs: with ``logits`` (B, Q, 256) and ``pred_boxes`` (B, Q, 4).
        references: of the batch, each with one box.

    Raises:
        ValueError: a caption does not refer to one object.
    """
    sizes = torch.tensor([reference.size for reference in references])
    boxes = boxes_in_pixels(outputs.pred_boxes.float().cpu(), sizes)
    scores = object_scores(outputs.logits.float()).cpu()
    ranks = []
    for item, reference in enumerate(references):
        truth = [box for phrase in reference.phrases for box in phrase.boxes]
        if len(truth) != 1:
            raise ValueError(f"a caption with {len(truth)} boxes is no referring expression")
        ranks.append(ranks_of(boxes[item], scores[item], torch.tensor(truth[0])))
    return ranks


def ranks_of(boxes: Tensor, scores: Tensor, truth: Tensor) -> Ranks:
    """The ranks of an object with the box (4,), for boxes (Q, 4) with scores (Q,); all as xyxy.

    Of boxes with the same score, the one with the larger coordinates comes first, as published.
    """
    keys = np.column_stack([boxes.numpy()[:, ::-1], scores.numpy()])
    ranked = boxes[np.lexsort(keys.T)[::-1].copy()]
    truth = truth.expand_as(ranked)
    right = giou(ranked, truth) >= LEAST, iou(ranked, truth) > LEAST
    return Ranks(*map(place_of_first, right))


def precisions(ranks: Iterable[Ranks]) -> dict[str, dict[str, float]]:
    """The share of expressions whose first right box is among the 1, 5, 10 best, by measure.

    Empty without expressions.
    """
    found = np.array(list(ranks), np.int64).reshape(-1, 2)
    if not len(found):
        return {}
    names = ("GIoU >= 0.5", "IoU > 0.5")
    return {
        name: {f"precision@{k}": float((of < k).mean()) for k in BEST}
        for name, of in zip(names, found.T, strict=True)
    }

"""Referring expressions: precision@k of the box of the one object that an expression refers to.

RefCOCO, RefCOCO+ and RefCOCOg (paper, section 4.2), by two criteria: the published evaluation
requires a generalized IoU of at least 0.5, the literature an IoU of more than 0.5. The first
implies the second, except where an IoU is exactly 0.5.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mdetr_model.data.samples import GroundTruth
from mdetr_model.evaluation.metrics.phrase_grounding import hit_rank
from mdetr_model.modeling.box_ops import giou, iou
from mdetr_model.modeling.postprocess import boxes_in_pixels, object_scores
from schemas import Box, Phrase

MIN_OVERLAP = 0.5
TOP_K = (1, 5, 10)


class ExpressionHitRanks(NamedTuple):
    """The rank of the first correct box for an expression, counted from 0, by criterion."""

    giou: int
    iou: int


@torch.no_grad()
def batch_hit_ranks(outputs: Any, ground_truths: Sequence[GroundTruth]) -> list[ExpressionHitRanks]:
    """Returns the hit ranks of every expression of a batch.

    Args:
        outputs: with ``logits`` (B, Q, 256) and ``pred_boxes`` (B, Q, 4).
        ground_truths: of the batch, each with one box.

    Raises:
        ValueError: a caption does not refer to exactly one object.
    """
    sizes = torch.tensor([truth.size for truth in ground_truths])
    boxes = boxes_in_pixels(outputs.pred_boxes.float().cpu(), sizes)
    scores = object_scores(outputs.logits.float()).cpu()
    ranks = []
    for item, truth in enumerate(ground_truths):
        [referent] = referents(truth.phrases)
        ranks.append(expression_hit_ranks(boxes[item], scores[item], torch.tensor(referent)))
    return ranks


def referents(phrases: Iterable[Phrase]) -> list[Box]:
    """Returns the one box that the phrases of an expression refer to.

    Raises:
        ValueError: they do not refer to exactly one object.
    """
    boxes = [box for phrase in phrases for box in phrase.boxes]
    if len(boxes) != 1:
        raise ValueError(f"a caption with {len(boxes)} boxes is not a referring expression")
    return boxes


def expression_hit_ranks(boxes: Tensor, scores: Tensor, truth: Tensor) -> ExpressionHitRanks:
    """Returns the hit ranks of an expression. Boxes are xyxy.

    Of boxes with equal scores, the one with the larger coordinates comes first, as published.

    Args:
        boxes: (Q, 4), predicted boxes.
        scores: (Q,), their scores.
        truth: (4,), the box of the object.
    """
    keys = np.column_stack([boxes.numpy()[:, ::-1], scores.numpy()])
    ranked = boxes[np.lexsort(keys.T)[::-1].copy()]
    truth = truth.expand_as(ranked)
    return ExpressionHitRanks(
        giou=hit_rank(giou(ranked, truth) >= MIN_OVERLAP),
        iou=hit_rank(iou(ranked, truth) > MIN_OVERLAP),
    )


def precisions(ranks: Iterable[ExpressionHitRanks]) -> dict[str, dict[str, float]]:
    """Returns precision@1, @5 and @10 by criterion; empty without expressions."""
    table = np.array(list(ranks), np.int64).reshape(-1, 2)
    if not len(table):
        return {}
    criteria = ("GIoU >= 0.5", "IoU > 0.5")
    return {
        criterion: {f"precision@{k}": float((column < k).mean()) for k in TOP_K}
        for criterion, column in zip(criteria, table.T, strict=True)
    }

"""Generalized referring expressions: those of any number of objects, or of none (gRefCOCO).

Liu et al., GRES, CVPR 2023, and He et al., GREC, arXiv 2308.16182: a prediction is all boxes with
a score of at least ``MIN_SCORE``. Of an expression with objects, boxes are matched with them one to
one, the best overlap first; it is right if the F1 of the matches is 1: each box has an object and
each object a box. An expression without objects is right if nothing is predicted.

The paper matches by IoU, the published code by generalized IoU; both are reported.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mdetr_model.modeling.box_ops import giou, iou

MIN_SCORE = 0.7  # of the published evaluation of MDETR
MIN_OVERLAP = 0.5
CRITERIA = {"IoU >= 0.5": iou, "GIoU >= 0.5": giou}


class ExpressionResult(NamedTuple):
    """The result of an expression.

    Attributes:
        has_target: whether it refers to any object.
        has_prediction: whether any box is predicted.
        is_right: by criterion, whether F1 is 1.
    """

    has_target: bool
    has_prediction: bool
    is_right: dict[str, bool]


def expression_result(boxes: Tensor, scores: Tensor, truth: Tensor) -> ExpressionResult:
    """Returns the result of an expression. Boxes are xyxy.

    Args:
        boxes: (Q, 4) predicted boxes.
        scores: (Q,) their scores.
        truth: (N, 4) the objects' boxes; none of an expression without objects.
    """
    predicted = boxes[scores >= MIN_SCORE]
    return ExpressionResult(
        has_target=len(truth) > 0,
        has_prediction=len(predicted) > 0,
        is_right={
            name: len(predicted) == len(truth)
            and matches(overlap(predicted[:, None], truth[None])) == len(truth)
            for name, overlap in CRITERIA.items()
        },
    )


def matches(overlaps: Tensor) -> int:
    """Returns the number of matches one to one, the best first, of at least ``MIN_OVERLAP``.

    Args:
        overlaps: (P, N) of predicted boxes with objects.
    """
    left = overlaps.clone()
    for count in range(min(left.shape)):
        row, column = divmod(int(left.argmax()), left.shape[1])
        if left[row, column] < MIN_OVERLAP:
            return count
        left[row], left[:, column] = -torch.inf, -torch.inf
    return min(left.shape)


def generalized_metrics(results: Sequence[ExpressionResult]) -> dict[str, dict[str, float]]:
    """Returns Pr@(F1=1) of all expressions by criterion, N-acc and T-acc.

    N-acc is the share of expressions without objects for which nothing is predicted, T-acc that of
    expressions with objects for which something is. A metric of no expressions is left out.
    """
    tables: dict[str, dict[str, float]] = {"accuracy": {}}
    for name, has_target in (("N-acc", False), ("T-acc", True)):
        of_kind = [r.has_prediction == has_target for r in results if r.has_target == has_target]
        if of_kind:
            tables["accuracy"][name] = float(np.mean(of_kind))
    for criterion in CRITERIA if results else ():
        right = [result.is_right[criterion] for result in results]
        tables[criterion] = {"Pr@(F1=1)": float(np.mean(right))}
    return tables

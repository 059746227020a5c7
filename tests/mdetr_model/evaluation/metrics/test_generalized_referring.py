"""gRefCOCO's metrics, on cases that can be checked by hand."""

import pytest
import torch

from mdetr_model.evaluation.metrics.generalized_referring import (
    ExpressionResult,
    expression_result,
    generalized_metrics,
    matches,
)

A, B = [0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 40.0, 40.0]
NEAR_A = [0.0, 0.0, 10.0, 8.0]  # IoU 0.8
HALF_A = [0.0, 0.0, 10.0, 5.0]  # IoU 0.5


def result(
    boxes: list[list[float]], truth: list[list[float]], score: float = 0.7
) -> ExpressionResult:
    predicted = torch.tensor([*boxes, [1.0, 1.0, 2.0, 2.0]])  # the last one has too low a score
    scores = torch.tensor([score] * len(boxes) + [0.69])
    return expression_result(predicted, scores, torch.tensor(truth).reshape(-1, 4))


@pytest.mark.parametrize(
    ("boxes", "truth", "is_right"),
    [
        ([A], [A], True),
        ([NEAR_A, B], [B, A], True),
        ([HALF_A], [A], True),
        ([A, NEAR_A], [A], False),  # one too many, though it overlaps
        ([A], [A, B], False),
        ([A, NEAR_A], [A, B], False),  # one object twice
        ([], [A], False),
        ([], [], True),
        ([A], [], False),
    ],
)
def test_f1_is_1_if_boxes_and_objects_match_one_to_one(
    boxes: list[list[float]], truth: list[list[float]], is_right: bool
) -> None:
    expression = result(boxes, truth)
    assert expression.is_right["IoU >= 0.5"] == is_right
    assert (expression.has_target, expression.has_prediction) == (bool(truth), bool(boxes))


def test_best_overlaps_are_matched_first() -> None:
    assert matches(torch.tensor([[0.9, 0.6], [0.7, 0.1]])) == 1  # greedily, as published
    assert matches(torch.tensor([[0.9, 0.6], [0.7, 0.5]])) == 2
    assert matches(torch.zeros(2, 0)) == 0


def test_generalized_iou_is_stricter() -> None:
    side_by_side = result([[0.0, 0.0, 10.0, 8.0]], [[0.0, 2.4, 10.0, 10.0]])  # both are 0.56
    assert side_by_side.is_right == {"IoU >= 0.5": True, "GIoU >= 0.5": True}
    shifted = result([[0.0, 0.0, 10.0, 10.0]], [[1.8, 1.8, 11.8, 11.8]])  # IoU 0.506, GIoU 0.46
    assert shifted.is_right == {"IoU >= 0.5": True, "GIoU >= 0.5": False}


def test_accuracies_by_kind_of_expression() -> None:
    results = [
        result([A], [A]),
        result([B], [A]),
        result([], [A, B]),
        result([], []),
        result([A], []),
    ]
    tables = generalized_metrics(results)
    assert tables["accuracy"] == {"N-acc": pytest.approx(1 / 2), "T-acc": pytest.approx(2 / 3)}
    assert tables["IoU >= 0.5"] == {"Pr@(F1=1)": pytest.approx(2 / 5)}
    assert generalized_metrics(results[:3])["accuracy"].keys() == {"T-acc"}
    assert generalized_metrics([]) == {"accuracy": {}}

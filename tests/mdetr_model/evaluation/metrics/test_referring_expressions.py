"""Precision of referring expressions, as published and as in the literature."""

from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mdetr_model.data.samples import GroundTruth
from mdetr_model.evaluation.metrics.phrase_grounding import NO_HIT
from mdetr_model.evaluation.metrics.referring_expressions import (
    ExpressionHitRanks,
    batch_hit_ranks,
    expression_hit_ranks,
    precisions,
)
from schemas import Phrase
from tests.mdetr_model import golden


def test_precision_equals_the_published_code(reference: Path) -> None:
    """Includes ties, and boxes that are correct by only one criterion."""
    for case in golden.function(reference, "refexp_eval")["cases"]:
        ranks: dict[str, list[ExpressionHitRanks]] = defaultdict(list)
        for (data_set, (x, y, width, height)), predicted in zip(
            case["images"], case["predictions"], strict=True
        ):
            boxes, scores = (torch.tensor(predicted[name]) for name in ("boxes_xyxy", "scores"))
            truth = torch.tensor([x, y, x + width, y + height])
            ranks[data_set].append(expression_hit_ranks(boxes, scores, truth))
        for data_set, published in case["refexp_result"].items():
            ours = precisions(ranks[data_set]).get("GIoU >= 0.5", {"none": 0.0})
            assert list(ours.values()) == pytest.approx(published[: len(ours)]), case["key"]
        between = sum(rank.iou < rank.giou for group in ranks.values() for rank in group)
        assert (between > 0) == (case["counts"]["iou_ge_05_but_giou_lt_05"] > 0)


def test_queries_are_ranked_by_object_score() -> None:
    logits = torch.zeros(1, 2, 256)
    logits[0, :, 255] = torch.tensor([4.0, 2.0])  # the second has the higher object score
    outputs = SimpleNamespace(
        logits=logits, pred_boxes=torch.tensor([[[0.5, 0.5, 1.0, 1.0], [0.2, 0.5, 0.4, 1.0]]])
    )
    phrase = Phrase([(0, 3)], "", [], [(0.0, 0.0, 200.0, 100.0)])
    truth = GroundTruth((100, 200), "", [phrase], torch.zeros(1, 256, dtype=torch.bool))
    assert batch_hit_ranks(outputs, [truth]) == [ExpressionHitRanks(1, 1)]
    two = GroundTruth((100, 200), "", [phrase, phrase], torch.zeros(2, 256, dtype=torch.bool))
    with pytest.raises(ValueError, match="2 boxes is not a referring expression"):
        batch_hit_ranks(outputs, [two])


def test_overlap_of_exactly_half_counts_for_giou_only() -> None:
    half = expression_hit_ranks(
        torch.tensor([[0.0, 0, 1, 1]]), torch.ones(1), torch.tensor([0.0, 0, 1, 2])
    )
    assert half == ExpressionHitRanks(0, NO_HIT)


def test_no_expressions() -> None:
    assert precisions([]) == {}

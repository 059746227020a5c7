"""From outputs to boxes, scores and spans: the published ordering, and runs of tokens."""

from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mdetr_model.modeling.postprocess import (
    boxes_in_pixels,
    final_scores,
    object_scores,
    phrase_scores,
    spans_of_tokens,
)
from tests.mdetr_model import golden


def _outputs(formulas: ModuleType, case: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, boxes and finality by the golden file's rule."""
    shape = (case["batch"], case["queries"])
    key = case["key"]
    logits = formulas.rng(f"pp/{key}/logits").standard_normal((*shape, 256), np.float32)
    boxes = formulas.rng(f"pp/{key}/boxes").random((*shape, 4), np.float32)
    final = formulas.rng(f"pp/{key}/isfinal").standard_normal((*shape, 1), np.float32)
    return (
        torch.from_numpy(logits * np.float32(2)),
        torch.from_numpy(boxes * np.float32(0.96) + np.float32(0.02)),
        torch.from_numpy(final * np.float32(2))[..., 0],
    )


def test_boxes_scores_and_order_equal_published_ones(reference: Path) -> None:
    formulas = golden.formulas(reference)
    for case in golden.function(reference, "postprocess")["cases"]:
        logits, boxes, final = _outputs(formulas, case)
        boxes = boxes_in_pixels(boxes, torch.tensor(case["target_sizes_h_w"]))
        published = case["postprocess"]
        first = {
            "scores_first10": object_scores(logits)[:, :10],
            "scores_refexp_first10": final_scores(logits, final)[:, :10],
            "boxes_first3": boxes[:, :3],
        }
        for name, values in first.items():
            expected = torch.tensor(published[name])
            torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-6)

        numbers = case["items_per_batch_element"]
        phrases = torch.zeros(case["batch"], max(numbers), 256, dtype=torch.bool)
        rows = iter(case["positive_map_columns"])
        for item, number in enumerate(numbers):
            for phrase in range(number):
                phrases[item, phrase, next(rows)] = True
        order = phrase_scores(logits, phrases).argsort(descending=True)
        for item, number in enumerate(numbers):
            assert order[item, :number].tolist() == case["order"][item]
            for phrase in range(number):
                best = boxes[item, order[item, phrase, :3]]
                expected = torch.tensor(case["first3_boxes_xyxy"][item][phrase])
                torch.testing.assert_close(best, expected, rtol=1e-5, atol=1e-4)


def test_adjacent_tokens_share_a_span() -> None:
    offsets = np.array([(0, 0), (0, 1), (2, 5), (5, 5), (6, 9), (9, 10), (0, 0)])
    chosen = np.zeros((3, 7), bool)
    chosen[0, [1, 2, 5]] = True
    chosen[1, [2, 4]] = True
    assert spans_of_tokens(chosen, offsets) == [[(0, 5), (9, 10)], [(2, 9)], []]


def test_special_tokens_have_no_span() -> None:
    assert spans_of_tokens(np.ones((1, 2), bool), np.zeros((2, 2), int)) == [[]]
    assert spans_of_tokens(np.ones((0, 1), bool), np.array([(0, 3)])) == []


@given(st.lists(st.booleans(), min_size=1, max_size=20))
def test_spans_cover_the_chosen_tokens_and_no_others(chosen: list[bool]) -> None:
    offsets = np.array([(3 * i, 3 * i + 2) for i in range(len(chosen))])
    (spans,) = spans_of_tokens(np.array([chosen]), offsets)
    covered = [any(a <= begin and end <= b for a, b in spans) for begin, end in offsets]
    assert covered == chosen
    assert all(end + 1 < begin for (_, end), (begin, _) in pairwise(spans))


def test_boxes_are_scaled_by_width_and_height() -> None:
    boxes = boxes_in_pixels(torch.tensor([[[0.5, 0.5, 1.0, 0.5]]]), torch.tensor([[100, 200]]))
    assert boxes.tolist() == [[pytest.approx([0, 25, 200, 75])]]

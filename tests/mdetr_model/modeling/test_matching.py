"""Matching: valid, optimal, equal to the published one."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mdetr_model.modeling.box_ops import cxcywh_to_xyxy, giou, xyxy_to_cxcywh
from mdetr_model.modeling.losses import soft_token_targets
from mdetr_model.modeling.matching import Matching, match_grid, match_queries
from tests.mdetr_model import golden


@pytest.mark.parametrize("mode", golden.TOKEN_TARGETS)
@pytest.mark.parametrize(
    "targets", ("normal", "many30", "empty_first", "empty_second", "none", "edge_spans")
)
def test_matching_equals_published_one_in_every_layer(
    reference: Path, targets: str, mode: str
) -> None:
    results = golden.losses(reference, "r101")["results"]
    key = f"odd/{targets}/{mode}"
    texts = golden.captions(reference, "detection", "odd")
    labels = golden.labels(reference, results, texts, key)
    with np.load(reference / "golden" / "losses" / "r101.odd.outputs.npz") as stored:
        logits, boxes = (torch.from_numpy(stored[k]) for k in ("pred_logits", "pred_boxes"))
    matching = match_queries(
        logits,
        boxes,
        soft_token_targets(labels["positive_map"], golden.TOKEN_TARGETS[mode]),
        labels["boxes"],
        labels["box_mask"],
    )
    expected = [
        {(item, q, b) for item, pairs in enumerate(layer) for q, b in zip(*pairs, strict=True)}
        for layer in results[key]["matcher_indices_layer0_to_5"]
    ]
    assert _pairs(matching) == expected


def _pairs(matching: Matching) -> list[set[tuple[int, int, int]]]:
    """Returns the (batch element, query, box) of each layer."""
    batch = matching.batch.tolist()
    return [
        set(zip(batch, query, box, strict=True))
        for query, box in zip(matching.query.tolist(), matching.box.tolist(), strict=True)
    ]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 5), st.lists(st.booleans(), max_size=4)
)
def test_matching_is_one_to_one_and_optimal(
    seed: int, layers: int, queries: int, real: list[bool]
) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.tensor([real, real[::-1]], dtype=torch.bool)
    shape = (layers, 2, queries)
    logits = torch.randn(*shape, 6, generator=generator)
    boxes = torch.rand(*shape, 4, generator=generator)
    target_boxes = torch.rand(2, len(real), 4, generator=generator)
    tokens = torch.rand(2, len(real), 6, generator=generator)
    matching = match_queries(logits, boxes, tokens, target_boxes, mask)

    for layer, pairs in enumerate(_pairs(matching)):
        for item in range(2):
            mine = [(q, b) for i, q, b in pairs if i == item]
            assert len({q for q, _ in mine}) == len({b for _, b in mine}) == len(mine)
            assert len(mine) == min(queries, int(mask[item].sum()))
            assert all(mask[item, b] for _, b in mine)

            def price(chosen: list[tuple[int, int]], layer: int = layer, item: int = item) -> float:
                q, b = torch.tensor(chosen, dtype=torch.long).reshape(-1, 2).unbind(-1)
                mine, theirs = boxes[layer, item, q], target_boxes[item, b]
                token = (logits[layer, item, q].softmax(-1) * tokens[item, b]).sum()
                overlap = giou(cxcywh_to_xyxy(mine), cxcywh_to_xyxy(theirs)).sum()
                return float(5 * (mine - theirs).abs().sum() - token - 2 * overlap)

            columns = mask[item].nonzero()[:, 0].tolist()
            number = len(mine)
            cheapest = min(
                price(list(zip(q, b, strict=True)))
                for q in permutations(range(queries), number)
                for b in ([columns] if number == len(columns) else permutations(columns, number))
            )
            assert price(mine) == pytest.approx(cheapest, abs=1e-4)


def test_nan_costs_give_valid_matching() -> None:
    logits = torch.full((1, 1, 3, 4), torch.nan)
    boxes = torch.full((1, 1, 3, 4), torch.inf)
    mask = torch.tensor([[True, False, True]])
    target = torch.rand(1, 3, 4)
    (pairs,) = _pairs(match_queries(logits, boxes, target, target, mask))
    assert {box for _, _, box in pairs} == {0, 2} and len({query for _, query, _ in pairs}) == 2


def test_rows_are_selected_by_pair() -> None:
    query, box = torch.tensor([[2, 0], [1, 1]]), torch.tensor([[0, 1]])
    matching = Matching(torch.tensor([0, 1]), query, box)
    values = torch.arange(12).reshape(2, 2, 3)
    assert matching.select_queries(values).tolist() == [[2, 3], [7, 10]]
    assert matching.select_boxes(torch.tensor([[5, 6], [7, 8]])).tolist() == [[5, 8]]


coordinate = st.floats(0, 1, width=32)
boxes_xyxy = st.tuples(coordinate, coordinate, coordinate, coordinate).map(
    lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3]))
)


@given(boxes_xyxy, boxes_xyxy)
def test_generalized_iou_is_symmetric_and_bounded(a: tuple[float], b: tuple[float]) -> None:
    first, second = torch.tensor(a), torch.tensor(b)
    value = giou(first, second)
    torch.testing.assert_close(value, giou(second, first))
    assert -1 - 1e-5 <= value.item() <= 1 + 1e-5
    back = cxcywh_to_xyxy(xyxy_to_cxcywh(first))
    torch.testing.assert_close(back, first, rtol=0, atol=1e-6)


def test_generalized_iou_of_known_boxes() -> None:
    box = torch.tensor([0.0, 0.0, 2.0, 2.0])
    others = torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 3.0, 3.0], [2.0, 0.0, 4.0, 2.0]])
    assert giou(box[None], others).tolist() == pytest.approx([1, 1 / 7 - 2 / 9, 0])
    point = torch.zeros(4)
    assert giou(point, point).item() == -1


def test_boxes_match_grid_location_of_their_center() -> None:
    """Locations are counted over the image without its padding; its edge is in the last one."""
    grid_mask = torch.zeros(2, 3, 4, dtype=torch.bool)
    grid_mask[0] = True
    grid_mask[1, :2, :2] = True
    boxes = torch.tensor([[[0.3, 0.4], [1.0, 1.0]], [[0.49, 0.51], [0.0, 0.0]]])
    boxes = torch.cat([boxes, torch.full_like(boxes, 0.1)], dim=-1)
    matching = match_grid(grid_mask, boxes, torch.tensor([[True, True], [True, False]]))
    assert matching.batch.tolist() == [0, 0, 1]
    assert matching.box.tolist() == [[0, 1, 0]]
    assert matching.query.tolist() == [[1 * 4 + 1, 2 * 4 + 3, 1 * 4 + 0]]

"""Which query answers for which box: the Hungarian matching of DETR, all decoder layers at once."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mdetr_model.modeling.box_ops import cxcywh_to_xyxy, giou


@dataclass(frozen=True, slots=True)
class MatchingCosts:
    """Weights of the three parts of the matching cost (paper, appendix; DETR, section 3.1)."""

    token: float = 1.0
    box: float = 5.0
    giou: float = 2.0


@dataclass(frozen=True, slots=True)
class Matching:
    """Pairs of queries and boxes; every layer has the same number K of them.

    Attributes:
        batch: (K,) the batch element of each pair.
        query: (L, K) its query.
        box: (L, K) its box; ascending within a batch element.
    """

    batch: Tensor
    query: Tensor
    box: Tensor

    def of_queries(self, values: Tensor) -> Tensor:
        """The matched rows (L, K, ...) of values (L, B, Q, ...)."""
        layers, batch, queries = values.shape[:3]
        layer = torch.arange(layers, device=values.device)[:, None]
        rows = (layer * batch + self.batch) * queries + self.query
        return values.flatten(0, 2).index_select(0, rows.flatten()).unflatten(0, rows.shape)

    def of_boxes(self, values: Tensor) -> Tensor:
        """The matched rows (L, K, ...) of values (B, N, ...)."""
        rows = self.batch * values.shape[1] + self.box
        return values.flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, rows.shape)


@torch.no_grad()
def match(
    logits: Tensor,
    boxes: Tensor,
    target_tokens: Tensor,
    target_boxes: Tensor,
    box_mask: Tensor,
    costs: MatchingCosts,
) -> Matching:
    """The cheapest one-to-one pairs of queries and boxes, by layer and batch element.

    All costs travel to the host in one copy; only the assignment itself runs there.

    Args:
        logits: (L, B, Q, C) of the token positions.
        boxes: (L, B, Q, 4) as cxcywh, 0 to 1.
        target_tokens: (B, N, C) the weight of each token position.
        target_boxes: (B, N, 4) as cxcywh, 0 to 1, padded.
        box_mask: (B, N) False for padding.
        costs: the weights of the parts.

    Returns:
        min(N_b, Q) pairs of every batch element b, where N_b of its boxes are not padding.
    """
    cost = _costs(logits, boxes, target_tokens, target_boxes, costs)
    # A step that diverges must reach the trainer, who judges it by its loss: the assignment only
    # has to be a valid one. Infinity is left to mean padding.
    cost = cost.nan_to_num(nan=0.0).masked_fill(~box_mask[:, :, None], torch.inf)
    pairs = torch.from_numpy(_assign(cost.cpu().numpy())).to(boxes.device)
    return Matching(batch=pairs[0, 0], query=pairs[1], box=pairs[2])


def match_cells(cell_mask: Tensor, boxes: Tensor, box_mask: Tensor) -> Matching:
    """Each box with the cell of the image that its center lies in, as one layer of queries.

    A cell may be matched with several boxes. Where an image ends within its last cells, it is
    taken to fill them, as for the positions.

    Args:
        cell_mask: (B, H, W) False for cells on the padding, right and below.
        boxes: (B, N, 4) as cxcywh, 0 to 1, padded.
        box_mask: (B, N) False for padding.
    """
    batch, box = box_mask.nonzero(as_tuple=True)
    sides = torch.stack([cell_mask.any(1).sum(1), cell_mask.any(2).sum(1)], dim=-1)[batch]
    center = boxes[batch, box, :2]
    column, row = torch.minimum((center * sides).long().clamp(min=0), sides - 1).unbind(-1)
    return Matching(batch, (row * cell_mask.shape[2] + column)[None], box[None])


def _costs(
    logits: Tensor,
    boxes: Tensor,
    target_tokens: Tensor,
    target_boxes: Tensor,
    costs: MatchingCosts,
) -> Tensor:
    """The cost (L, B, N, Q) of every pair."""
    token = target_tokens @ logits.softmax(-1).transpose(-1, -2)
    distance = torch.cdist(target_boxes.expand(len(boxes), -1, -1, -1), boxes, p=1)
    query, target = cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(target_boxes)
    overlap = giou(target[None, :, :, None], query[:, :, None])
    return costs.box * distance - costs.token * token - costs.giou * overlap


def _assign(cost: np.ndarray) -> np.ndarray:
    """Batch element, query and box (3, L, K) of the cheapest pairs in costs (L, B, N, Q)."""
    layers, _, _, queries = cost.shape
    columns = []
    for element in range(cost.shape[1]):
        real = np.flatnonzero(np.isfinite(cost[0, element, :, 0]))
        pairs = np.empty((3, layers, min(len(real), queries)), np.int64)
        pairs[0] = element
        for layer in range(layers):
            box, query = linear_sum_assignment(cost[layer, element, real])
            pairs[1, layer], pairs[2, layer] = query, real[box]
        columns.append(pairs)
    return np.concatenate(columns, axis=-1)

"""Bipartite matching of queries and boxes (DETR, section 3.1), for all decoder layers at once."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from .box_ops import cxcywh_to_xyxy, giou
from .host_copy import HostCopy, to_device


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

    def select_queries(self, values: Tensor) -> Tensor:
        """Returns the matched rows (L, K, ...) of values (L, B, Q, ...)."""
        layers, batch, queries = values.shape[:3]
        layer = torch.arange(layers, device=values.device)[:, None]
        rows = (layer * batch + self.batch) * queries + self.query
        selected = values.flatten(0, 2).index_select(0, rows.flatten())
        return selected.reshape(*rows.shape, *values.shape[3:])

    def select_boxes(self, values: Tensor) -> Tensor:
        """Returns the matched rows (L, K, ...) of values (B, N, ...)."""
        rows = self.batch * values.shape[1] + self.box
        selected = values.flatten(0, 1).index_select(0, rows.flatten())
        return selected.reshape(*rows.shape, *values.shape[2:])


@torch.no_grad()
def match_queries(
    logits: Tensor,
    boxes: Tensor,
    target_tokens: Tensor,
    target_boxes: Tensor,
    box_mask: Tensor,
    *,
    class_cost: float = 1.0,
    bbox_cost: float = 5.0,
    giou_cost: float = 2.0,
) -> Matching:
    """Returns the one-to-one assignment of least cost, by layer and batch element.

    All costs are copied to the host at once; only the assignment itself runs there. The host waits
    for this copy alone, and not for that of the pairs.

    Args:
        logits: (L, B, Q, C) of the token positions.
        boxes: (L, B, Q, 4) as cxcywh, 0 to 1.
        target_tokens: (B, N, C) the weight of each token position.
        target_boxes: (B, N, 4) as cxcywh, 0 to 1, padded.
        box_mask: (B, N) False for padding.
        class_cost: weight of the probability of the box's tokens.
        bbox_cost: weight of the L1 distance.
        giou_cost: weight of the generalized IoU.

    Returns:
        min(N_b, Q) pairs for every batch element b with N_b boxes.
    """
    token_score = target_tokens @ logits.softmax(-1).transpose(-1, -2)
    distance = torch.cdist(target_boxes.expand(len(boxes), -1, -1, -1), boxes, p=1)
    query_xyxy, target_xyxy = cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(target_boxes)
    overlap = giou(target_xyxy[None, :, :, None], query_xyxy[:, :, None])
    cost = bbox_cost * distance - class_cost * token_score - giou_cost * overlap
    # With NaN costs, the assignment only has to be valid: the trainer checks the loss. Infinity
    # marks padding.
    cost = cost.nan_to_num(nan=0.0).masked_fill(~box_mask[:, :, None], torch.inf)
    pairs = _assign(HostCopy(cost).wait().numpy())
    batch, query, box = to_device(pairs, boxes.device)
    return Matching(batch=batch[0], query=query, box=box)


def match_grid(grid_mask: Tensor, boxes: Tensor, box_mask: Tensor) -> Matching:
    """Matches each box with the grid location of its center, as one layer of queries.

    Several boxes may share a location. An image is assumed to fill its last grid locations, as in
    the position encoding.

    Args:
        grid_mask: (B, H, W) False for locations on the padding, on the right and at the bottom.
        boxes: (B, N, 4) as cxcywh, 0 to 1, padded.
        box_mask: (B, N) False for padding.
    """
    batch, box = box_mask.nonzero(as_tuple=True)
    sides = torch.stack([grid_mask.any(1).sum(1), grid_mask.any(2).sum(1)], dim=-1)[batch]
    center = boxes[batch, box, :2]
    column, row = torch.minimum((center * sides).long().clamp(min=0), sides - 1).unbind(-1)
    return Matching(batch=batch, query=(row * grid_mask.shape[2] + column)[None], box=box[None])


def _assign(cost: np.ndarray) -> np.ndarray:
    """Returns batch element, query and box (3, L, K) of the optimal pairs of costs (L, B, N, Q)."""
    layers, _, _, queries = cost.shape
    assignments = []
    for element in range(cost.shape[1]):
        boxes = np.flatnonzero(np.isfinite(cost[0, element, :, 0]))
        pairs = np.empty((3, layers, min(len(boxes), queries)), np.int64)
        pairs[0] = element
        for layer in range(layers):
            box, query = linear_sum_assignment(cost[layer, element, boxes])
            pairs[1, layer], pairs[2, layer] = query, boxes[box]
        assignments.append(pairs)
    return np.concatenate(assignments, axis=-1)

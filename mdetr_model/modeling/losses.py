"""The losses of boxes and their tokens (section 2.2 of the paper), for all decoder layers at once.

Shapes: L decoder layers, B images with their captions, Q queries, N boxes (padded), K matched
pairs of a layer, C = 256 token positions of which the last means "no object", T tokens.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .box_ops import cxcywh_to_xyxy, giou
from .matching import Matching


def soft_token_targets(positive_map: Tensor, kind: str) -> Tensor:
    """Returns the target (..., C) of the token logits of each box, from a boolean map (..., C).

    Args:
        positive_map: the tokens of each box.
        kind: "normalized" for the paper's uniform distribution over the tokens of the box (section
            2.2.2); "binary" for 1 at each of them, as in the published training, where collation
            converted the distribution to boolean.

    Raises:
        ValueError: unknown kind.
    """
    weight = positive_map.float()
    match kind:
        case "normalized":
            return weight / (weight.sum(-1, keepdim=True) + 1e-6)
        case "binary":
            return weight
    raise ValueError(f"token targets are 'normalized' or 'binary', not {kind!r}")


def soft_token_loss(
    logits: Tensor,
    target_tokens: Tensor,
    matching: Matching,
    eos_coef: float,
    query_mask: Tensor | None = None,
) -> Tensor:
    """Returns the soft token prediction loss (section 2.2.2): cross entropy (L,), summed.

    The target of a query without a box is "no object", weighted by ``eos_coef``; a box without
    tokens adds nothing.

    Args:
        logits: (L, B, Q, C)
        target_tokens: (B, N, C)
        query_mask: (B, Q) boolean, False for queries to leave out; default: none.
    """
    log_probabilities = logits.log_softmax(-1)
    matched = matching.select_queries(log_probabilities) * matching.select_boxes(target_tokens)
    no_object = log_probabilities[..., -1]
    weight = torch.full(no_object.shape, eos_coef, device=no_object.device)
    if query_mask is not None:
        weight = weight * query_mask
    layer = torch.arange(len(weight), device=no_object.device)[:, None]
    weight[layer, matching.batch, matching.query] = 0
    return -matched.sum((1, 2)) - (no_object * weight).sum((1, 2))


@torch.no_grad()
def cardinality_error(logits: Tensor, box_mask: Tensor, query_mask: Tensor | None = None) -> Tensor:
    """Returns the mean absolute error (L,) of the number of predicted objects; for logs only."""
    is_object = logits[..., -1] < logits.amax(-1)
    predicted = (is_object if query_mask is None else is_object & query_mask).sum(-1)
    return (predicted - box_mask.sum(-1)).abs().float().mean(-1)


def box_losses(boxes: Tensor, target_boxes: Tensor, matching: Matching) -> tuple[Tensor, Tensor]:
    """Returns L1 and 1 - GIoU of the matched boxes, each (L,), summed over the pairs.

    Args:
        boxes: (L, B, Q, 4) as cxcywh, 0 to 1.
        target_boxes: (B, N, 4) in the same format.
    """
    predicted, target = matching.select_queries(boxes), matching.select_boxes(target_boxes)
    distance = (predicted - target).abs().sum((1, 2))
    overlap = giou(cxcywh_to_xyxy(predicted), cxcywh_to_xyxy(target))
    return distance, (1 - overlap).sum(-1)


def contrastive_alignment_loss(
    queries: Tensor,
    tokens: Tensor,
    positive_map: Tensor,
    matching: Matching,
    temperature: float,
    query_mask: Tensor | None = None,
) -> Tensor:
    """Returns the contrastive alignment loss (L,), summed (equations 1 and 2).

    The mean of two directions: every matched query is classified to the tokens of its box, among
    all tokens, and every token of a box to the queries of its boxes, among all queries. As in the
    published training, the padding after a caption is among the tokens.

    Args:
        queries: (L, B, Q, E) unit vectors.
        tokens: (B, T, E) unit vectors.
        positive_map: (B, N, T) boolean: the tokens of each box.
        query_mask: (B, Q) boolean, False for queries to leave out; default: none.
    """
    similarity = queries @ (tokens / temperature).transpose(-1, -2)
    positive = matching.select_boxes(positive_map).float()
    matched = matching.select_queries(similarity)
    positive_score = matched * positive

    tokens_per_box = positive.sum(-1)
    box_to_tokens = matched.logsumexp(-1) - positive_score.sum(-1) / (tokens_per_box + 1e-6)
    box_to_tokens = (box_to_tokens * (tokens_per_box > 0)).sum(-1)

    zeros = similarity.new_zeros(len(queries), *tokens.shape[:2])
    boxes_per_token = zeros.index_add(1, matching.batch, positive)
    score_per_token = zeros.index_add(1, matching.batch, positive_score)
    if query_mask is not None:
        similarity = similarity.masked_fill(~query_mask[..., None], -torch.inf)
    token_to_boxes = similarity.logsumexp(-2) - score_per_token / (boxes_per_token + 1e-6)
    token_to_boxes = (token_to_boxes * (boxes_per_token > 0)).sum((1, 2))
    return (box_to_tokens + token_to_boxes) / 2


def is_final_loss(logits: Tensor, target: Tensor, matching: Matching) -> tuple[Tensor, Tensor]:
    """Returns loss and accuracy, (L,), of predicting what the whole caption refers to (CLEVR-Ref+).

    Args:
        logits: (L, B, Q)
        target: (B, N) 1 for the boxes referred to, else 0.
    """
    predicted, expected = matching.select_queries(logits), matching.select_boxes(target).float()
    loss = F.binary_cross_entropy_with_logits(predicted, expected, reduction="none").sum(-1)
    correct = ((predicted > 0) == (expected > 0.5)).sum(-1)
    return loss, correct / max(predicted.shape[-1], 1)


def word_loss(
    logits: Tensor, input_ids: Tensor, positive_map: Tensor, matching: Matching
) -> Tensor:
    """Returns the binary cross entropy of predicting the tokens that name a box, summed.

    Every token of the vocabulary is a separate binary class, so colors, which are rarely named, do
    not compete with shapes, which nearly always are. Boxes without tokens add nothing.

    Args:
        logits: (K, W) over the vocabulary, at the grid location of each matched box.
        input_ids: (B, T) the captions.
        positive_map: (B, N, T) boolean: the tokens of each box.
        matching: of grid locations and boxes, one layer.
    """
    named = matching.select_boxes(positive_map)[0].float()
    target = torch.zeros_like(logits).scatter_add_(1, input_ids[matching.batch], named).clamp(max=1)
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (loss.sum(-1) * named.any(-1)).sum()

"""The training losses of MDETR (arXiv 2104.12763, section 2.2), all decoder layers at once.

Shapes: L decoder layers, B images with their captions, Q queries, N boxes (padded), K matched
pairs of a layer, C = 256 token positions of which the last means "no object", T tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from mdetr_model.modeling.answer_losses import answer_losses
from mdetr_model.modeling.box_ops import cxcywh_to_xyxy, giou
from mdetr_model.modeling.configuration_mdetr import MdetrConfig
from mdetr_model.modeling.label_checks import check_labels
from mdetr_model.modeling.matching import Matching, MatchingCosts, match, match_cells

# What outputs hold of every query, by layer; the last two only of some models.
PREDICTIONS = ("logits", "pred_boxes", "proj_queries", "is_final")


def soft_token_targets(positive_map: Tensor, kind: str) -> Tensor:
    """What the token logits of each box should say: (..., C) from a boolean map (..., C).

    ``normalized`` is the paper's uniform distribution over the tokens of the box (section 2.2.2).
    ``binary`` has 1 for each of them, which is what the published training used: its collation
    turned the distribution into a boolean.

    Raises:
        ValueError: there is no such kind.
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
    counted: Tensor | None = None,
) -> Tensor:
    """Soft token prediction (section 2.2.2): cross entropy (L,) summed over all queries.

    A query without a box has "no object" for its target, at ``eos_coef``; a box without
    a token adds nothing.

    Args:
        logits: (L, B, Q, C)
        target_tokens: (B, N, C)
        counted: (B, Q) boolean, False for queries that are none; default: all are.
    """
    log_probabilities = logits.log_softmax(-1)
    matched = matching.of_queries(log_probabilities) * matching.of_boxes(target_tokens)
    no_object = log_probabilities[..., -1]
    weight = torch.full(no_object.shape, eos_coef, device=no_object.device)
    if counted is not None:
        weight = weight * counted
    layer = torch.arange(len(weight), device=no_object.device)[:, None]
    weight[layer, matching.batch, matching.query] = 0
    return -matched.sum((1, 2)) - (no_object * weight).sum((1, 2))


@torch.no_grad()
def cardinality_error(logits: Tensor, box_mask: Tensor, counted: Tensor | None = None) -> Tensor:
    """How far the number of predicted objects is off: mean over the batch (L,); for logs only."""
    found = logits[..., -1] < logits.amax(-1)
    predicted = (found if counted is None else found & counted).sum(-1)
    return (predicted - box_mask.sum(-1)).abs().float().mean(-1)


def box_losses(boxes: Tensor, target_boxes: Tensor, matching: Matching) -> tuple[Tensor, Tensor]:
    """L1 and 1 - GIoU of the matched boxes, each (L,), summed over the pairs.

    Args:
        boxes: (L, B, Q, 4) as cxcywh, 0 to 1.
        target_boxes: (B, N, 4) likewise.
    """
    predicted, target = matching.of_queries(boxes), matching.of_boxes(target_boxes)
    distance = (predicted - target).abs().sum((1, 2))
    overlap = giou(cxcywh_to_xyxy(predicted), cxcywh_to_xyxy(target))
    return distance, (1 - overlap).sum(-1)


def contrastive_alignment_loss(
    queries: Tensor,
    tokens: Tensor,
    positive_map: Tensor,
    matching: Matching,
    temperature: float,
    counted: Tensor | None = None,
) -> Tensor:
    """Contrastive alignment (equations 1 and 2): mean of both directions (L,), summed.

    Every matched query is to be closer to the tokens of its box than to the other tokens, and
    every token of a box closer to its queries than to the others. As in the published training,
    the padding behind a caption is among the other tokens.

    Args:
        queries: (L, B, Q, E) unit vectors.
        tokens: (B, T, E) unit vectors.
        positive_map: (B, N, T) boolean: the tokens of each box.
        counted: (B, Q) boolean, False for queries that are none; default: all are.
    """
    similarity = queries @ (tokens / temperature).transpose(-1, -2)
    positive = matching.of_boxes(positive_map).float()
    matched = matching.of_queries(similarity)
    positive_score = matched * positive

    tokens_of_box = positive.sum(-1)
    box_to_tokens = matched.logsumexp(-1) - positive_score.sum(-1) / (tokens_of_box + 1e-6)
    box_to_tokens = (box_to_tokens * (tokens_of_box > 0)).sum(-1)

    by_element = similarity.new_zeros(len(queries), *tokens.shape[:2])
    boxes_of_token = by_element.index_add(1, matching.batch, positive)
    score_of_token = by_element.index_add(1, matching.batch, positive_score)
    if counted is not None:
        similarity = similarity.masked_fill(~counted[..., None], -torch.inf)
    token_to_boxes = similarity.logsumexp(-2) - score_of_token / (boxes_of_token + 1e-6)
    token_to_boxes = (token_to_boxes * (boxes_of_token > 0)).sum((1, 2))
    return (box_to_tokens + token_to_boxes) / 2


def word_loss(words: Tensor, input_ids: Tensor, positive_map: Tensor, matching: Matching) -> Tensor:
    """Whether each token that there is names a box, told by its cell: binary cross entropy, summed.

    So a color that is named now and then need not outdo the shapes that nearly always are. Boxes
    that nothing names add nothing.

    Args:
        words: (K, W) logits of the cell of each matched box over all tokens that there are.
        input_ids: (B, T) the captions.
        positive_map: (B, N, T) boolean: the tokens of each box.
        matching: of cells and boxes, one layer.
    """
    named = matching.of_boxes(positive_map)[0].float()
    target = torch.zeros_like(words).scatter_add_(1, input_ids[matching.batch], named).clamp(max=1)
    loss = F.binary_cross_entropy_with_logits(words, target, reduction="none")
    return (loss.sum(-1) * named.any(-1)).sum()


def is_final_loss(logits: Tensor, target: Tensor, matching: Matching) -> tuple[Tensor, Tensor]:
    """Whether a box is what the whole caption refers to (CLEVR-Ref+): loss and accuracy, (L,).

    Args:
        logits: (L, B, Q)
        target: (B, N) 1 for the boxes referred to, else 0.
    """
    predicted, wanted = matching.of_queries(logits), matching.of_boxes(target).float()
    loss = F.binary_cross_entropy_with_logits(predicted, wanted, reduction="none").sum(-1)
    correct = ((predicted > 0) == (wanted > 0.5)).sum(-1)
    return loss, correct / max(predicted.shape[-1], 1)


@dataclass(frozen=True, slots=True)
class CriterionOptions:
    """Weights of the losses and of the matching; the defaults are the published ones.

    ``MdetrConfig`` describes them. Published training on GQA has ``answer_weight`` 25.
    """

    token_weight: float = 1.0
    bbox_loss_coef: float = 5.0
    giou_loss_coef: float = 2.0
    contrastive_weight: float = 1.0
    final_weight: float = 1.0
    answer_weight: float = 1.0
    grid_loss_coef: float = 0.0
    word_loss_coef: float = 0.0
    eos_coef: float = 0.1
    temperature: float = 0.07
    token_targets: str = "normalized"
    token_cost: float = 1.0
    box_cost: float = 5.0
    giou_cost: float = 2.0


def criterion_options(config: MdetrConfig) -> CriterionOptions:
    """Those of a model's configuration."""
    return CriterionOptions(
        **{field.name: getattr(config, field.name) for field in fields(CriterionOptions)}
    )


class MdetrCriterion(nn.Module):
    """Matching and all losses of a model's outputs (section 2.2).

    Every loss but those of the answers is a sum over the batch divided by the mean number of
    boxes that a rank has, and comes once for every decoder layer: ``loss_ce`` for the last one,
    ``loss_ce_0`` for the first; and, with a ``grid_loss_coef``, as ``loss_ce_cells`` for the cells of
    the encoder's memory, each of them taken for a query. All of it is computed in float32.

    Args:
        options: the weights.
        word_head: from features (K, D) of cells to logits (K, W) over all tokens, where there is
            to be a ``loss_words``. Only cells that boxes lie in are given to it.
    """

    def __init__(self, options: CriterionOptions, word_head: nn.Module | None = None) -> None:
        super().__init__()
        self.options = options
        self.word_head = word_head
        self.costs = MatchingCosts(options.token_cost, options.box_cost, options.giou_cost)

    def forward(self, outputs: Any, labels: Mapping[str, Any]) -> dict[str, Tensor]:
        """Losses by name, and their weighted sum as ``loss``.

        Args:
            outputs: has the attributes ``logits`` (B, Q, C), ``pred_boxes`` (B, Q, 4) as cxcywh,
                0 to 1, and, each of them possibly None or absent: ``proj_queries`` (B, Q, E) and
                ``proj_tokens`` (B, T, E); ``is_final`` (B, Q); ``answers``, logits by head (see
                ``answer_losses``); the layers of the first four stacked as ``layer_NAME``
                (L, B, Q, ...), the last of them being the outputs themselves; those of the
                encoder's cells as ``cell_NAME`` (B, H·W, ...); ``cell_features`` (B, H·W, D), of
                the image alone; with either of these ``cell_mask`` (B, H, W).
            labels: ``boxes`` (B, N, 4) as cxcywh, 0 to 1, padded; ``box_mask`` (B, N), False for
                padding; ``positive_map`` (B, N, C) boolean, see ``positive_maps``; where the outputs have
                them, ``is_final`` (B, N) and ``answers``, (B,) by head; and, where a step has
                several batches, ``normalizer``: a scalar, what losses of boxes are divided by
                instead of the mean number of boxes that a rank has in this one.

        Raises:
            ValueError: a label is missing; says which.

        Returns:
            Scalars ``loss_ce``, ``loss_bbox``, ``loss_giou``, ``cardinality_error`` and, where the
            outputs allow, ``loss_contrastive_align``, ``loss_isfinal``, ``accuracy_isfinal``; then
            the answers' losses and accuracies; and ``loss``.
        """
        check_labels(outputs, labels)
        with torch.autocast(outputs.logits.device.type, enabled=False):
            number = labels.get("normalizer")
            if number is None:
                number = mean_over_ranks(labels["box_mask"].sum()).clamp(min=1)
            target_tokens = soft_token_targets(labels["positive_map"], self.options.token_targets)
            by_layer = self._by_layer(outputs, labels, target_tokens, number)
            of_cells, of_words = self._before_decoder(outputs, labels, target_tokens, number)
            of_answers = {}
            if getattr(outputs, "answers", None) is not None:
                answers = {head: logits.float() for head, logits in outputs.answers.items()}
                of_answers = answer_losses(answers, labels["answers"])

        options = self.options
        weights = {
            "loss_ce": options.token_weight,
            "loss_bbox": options.bbox_loss_coef,
            "loss_giou": options.giou_loss_coef,
            "loss_contrastive_align": options.contrastive_weight,
            "loss_isfinal": options.final_weight,
        }
        terms = [
            weights[name] * values.sum() for name, values in by_layer.items() if name in weights
        ]
        terms += [
            options.grid_loss_coef * weights[name] * values.sum()
            for name, values in of_cells.items()
            if name in weights
        ]
        terms += [options.word_loss_coef * value for value in of_words.values()]
        terms += [
            options.answer_weight * value
            for name, value in of_answers.items()
            if name.startswith("loss_")
        ]
        total = torch.stack(terms).sum()
        named = {**_named_by_layer(by_layer), **_of_cells_named(of_cells)}
        return {"loss": total, **named, **of_words, **of_answers}

    def _by_layer(
        self, outputs: Any, labels: Mapping[str, Any], target_tokens: Tensor, number: Tensor
    ) -> dict[str, Tensor]:
        """The losses (L,) of all decoder layers."""
        layers = {name: _layers(outputs, name) for name in PREDICTIONS}
        logits, boxes = layers["logits"], layers["pred_boxes"]
        assert logits is not None
        assert boxes is not None
        matching = match(
            logits, boxes, target_tokens, labels["boxes"], labels["box_mask"], self.costs
        )
        return self._of_queries(layers, outputs, labels, target_tokens, matching, number)

    def _before_decoder(
        self, outputs: Any, labels: Mapping[str, Any], target_tokens: Tensor, number: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The losses of cells (1,) and of their words, as far as the outputs have any."""
        if getattr(outputs, "cell_mask", None) is None:
            return {}, {}
        matching = match_cells(outputs.cell_mask, labels["boxes"], labels["box_mask"])
        of_cells = self._of_cells(outputs, labels, target_tokens, matching, number)
        return of_cells, self._of_words(outputs, labels, matching, number)

    def _of_cells(
        self,
        outputs: Any,
        labels: Mapping[str, Any],
        target_tokens: Tensor,
        matching: Matching,
        number: Tensor,
    ) -> dict[str, Tensor]:
        """The losses (1,) of the cells of the encoder's memory, as if they were one layer."""
        if getattr(outputs, "cell_logits", None) is None:
            return {}
        cells = {name: _one_layer(getattr(outputs, f"cell_{name}")) for name in PREDICTIONS}
        counted = outputs.cell_mask.flatten(1)
        return self._of_queries(cells, outputs, labels, target_tokens, matching, number, counted)

    def _of_words(
        self, outputs: Any, labels: Mapping[str, Any], matching: Matching, number: Tensor
    ) -> dict[str, Tensor]:
        """The loss of the words of cells, a scalar."""
        if self.word_head is None:
            return {}
        words = self.word_head(matching.of_queries(outputs.cell_features.float()[None])[0])
        ids = outputs.input_ids[:, : labels["positive_map"].shape[-1]]
        positive_map = labels["positive_map"][..., : ids.shape[1]]
        return {"loss_words": word_loss(words, ids, positive_map, matching) / number}

    def _of_queries(
        self,
        predicted: Mapping[str, Tensor | None],
        outputs: Any,
        labels: Mapping[str, Any],
        target_tokens: Tensor,
        matching: Matching,
        number: Tensor,
        counted: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The losses (L,) of predictions (L, B, Q, ...) by name, divided by a number."""
        options = self.options
        logits, boxes = predicted["logits"], predicted["pred_boxes"]
        assert logits is not None
        assert boxes is not None
        positive_map = labels["positive_map"]
        distance, overlap = box_losses(boxes, labels["boxes"], matching)
        token = soft_token_loss(logits, target_tokens, matching, options.eos_coef, counted)
        losses = {
            "loss_ce": token / number,
            "loss_bbox": distance / number,
            "loss_giou": overlap / number,
            "cardinality_error": cardinality_error(logits, labels["box_mask"], counted),
        }
        queries, final = predicted["proj_queries"], predicted["is_final"]
        if queries is not None:
            tokens = outputs.proj_tokens.float()
            # Tokens beyond the map's columns are named by no box.
            beyond = max(0, tokens.shape[1] - positive_map.shape[-1])
            named = F.pad(positive_map, (0, beyond))[..., : tokens.shape[1]]
            contrastive = contrastive_alignment_loss(
                queries, tokens, named, matching, options.temperature, counted
            )
            losses["loss_contrastive_align"] = contrastive / number
        if final is not None:
            loss, accuracy = is_final_loss(final, labels["is_final"], matching)
            losses["loss_isfinal"], losses["accuracy_isfinal"] = loss / number, accuracy
        return losses


def mean_over_ranks(number: Tensor) -> Tensor:
    """The mean of a number over all processes of a distributed run; float32."""
    number = number.float()
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(number)
        number = number / dist.get_world_size()
    return number


def _layers(outputs: Any, name: str) -> Tensor | None:
    """One output of all layers (L, B, Q, ...) in float32; of the last one where that is all."""
    layers = getattr(outputs, f"layer_{name}", None)
    return layers.float() if layers is not None else _one_layer(getattr(outputs, name, None))


def _one_layer(values: Tensor | None) -> Tensor | None:
    return values[None].float() if values is not None else None


def _of_cells_named(losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{name}_cells": values[0] for name, values in losses.items()}


def _named_by_layer(losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Scalars by the published names: ``loss_ce`` of the last layer, ``loss_ce_0`` of the first."""
    return {
        name if layer == len(values) - 1 else f"{name}_{layer}": value
        for name, values in losses.items()
        for layer, value in enumerate(values.unbind())
    }

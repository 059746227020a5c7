"""The training objective: matching and all losses of a model's outputs (paper, section 2.2).

Shapes: L decoder layers, B images with their captions, Q queries, N boxes (padded), C = 256 token
positions of which the last means "no object", T tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from .answer_losses import answer_losses
from .configuration_mdetr import MdetrConfig
from .labels import prepare_labels
from .losses import (
    box_losses,
    cardinality_error,
    contrastive_alignment_loss,
    is_final_loss,
    soft_token_loss,
    soft_token_targets,
    word_loss,
)
from .matching import Matching, match_grid, match_queries
from .outputs import MdetrOutput


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions of L layers of queries, in float32.

    Attributes:
        logits: (L, B, Q, C)
        boxes: (L, B, Q, 4) as cxcywh, 0 to 1.
        proj_queries, proj_tokens: (L, B, Q, E) and (B, T, E), if the model has projections.
        is_final: (L, B, Q), if the model has that head.
        query_mask: (B, Q), False for queries to leave out; None if there are none.
    """

    logits: Tensor
    boxes: Tensor
    proj_queries: Tensor | None
    proj_tokens: Tensor | None
    is_final: Tensor | None
    query_mask: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Targets:
    """Labels of a batch, prepared for the losses of boxes.

    Attributes:
        boxes: (B, N, 4) as cxcywh, 0 to 1, padded.
        box_mask: (B, N), False for padding.
        positive_map: (B, N, C) boolean, the tokens of each box.
        tokens: (B, N, C) the targets of the token logits.
        is_final: (B, N), if the labels have them.
        num_boxes: scalar, the divisor of the losses.
    """

    boxes: Tensor
    box_mask: Tensor
    positive_map: Tensor
    tokens: Tensor
    is_final: Tensor | None
    num_boxes: Tensor


class MdetrCriterion(nn.Module):
    """All losses of a model's outputs, and their weighted sum.

    Every loss except those of the answers is a sum over the batch divided by the mean number of
    boxes of a rank, and is computed once for every decoder layer: ``loss_ce`` for the last one,
    ``loss_ce_0`` for the first; and, with a ``grid_loss_coef``, as ``loss_ce_grid`` with the
    locations of the feature grid as queries. All losses are computed in float32.

    Args:
        config: weights of the losses and matching costs.
        word_head: maps features (K, D) at grid locations to logits (K, W) over the vocabulary, for
            ``loss_word``; it is only called for locations that contain the center of a box.
        all_ranks: whether the mean number of boxes is that of all ranks, which then have to compute
            their losses together; otherwise the number of this rank is used.
    """

    def __init__(
        self, config: MdetrConfig, word_head: nn.Module | None = None, all_ranks: bool = True
    ) -> None:
        super().__init__()
        self.config = config
        self.word_head = word_head
        self.all_ranks = all_ranks

    def forward(
        self, outputs: MdetrOutput, labels: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    ) -> dict[str, Tensor]:
        """Returns the losses by name, and their weighted sum as ``loss``.

        Args:
            outputs: of a model that was called with labels.
            labels: ``boxes`` (B, N, 4) as cxcywh, 0 to 1, padded; ``box_mask`` (B, N), True or 1
                for a box, anything else for padding, such as -100; ``positive_map`` (B, N, C),
                positive for the tokens of a box; if the outputs have them, ``is_final`` (B, N) and
                ``answers``, (B,) by head; and, if a step has several batches, ``normalizer``: a
                scalar that losses are divided by instead of the mean number of boxes of a rank in
                this batch. Or, as in DETR, a list with a dictionary for each caption: ``boxes``
                (N, 4) and ``positive_map`` (N, C) or, if the whole caption names all of its boxes,
                ``class_labels`` (N,), which are then all equal.

        Returns:
            Scalars ``loss_ce``, ``loss_bbox``, ``loss_giou``, ``cardinality_error`` and, if the
            outputs have the predictions, ``loss_contrastive_align``, ``loss_isfinal``,
            ``accuracy_isfinal``, ``loss_word``, losses and accuracies of answers; and ``loss``.

        Raises:
            ValueError: a label is missing, or has another shape or type; the message names it.
        """
        labels = prepare_labels(labels, outputs, self.config)
        with torch.autocast(outputs.logits.device.type, enabled=False):
            targets = self._targets(labels)
            decoder_losses = self._decoder_losses(outputs, targets)
            grid_losses, word_losses = self._grid_losses(outputs, targets)
            qa_losses = {}
            if outputs.answers is not None:
                answers = {head: logits.float() for head, logits in outputs.answers.items()}
                qa_losses = answer_losses(answers, labels["answers"])
            loss = self._weighted_sum(decoder_losses, grid_losses, word_losses, qa_losses)
        return {
            "loss": loss,
            **_scalars_by_layer(decoder_losses),
            **{f"{name}_grid": values[0] for name, values in grid_losses.items()},
            **word_losses,
            **qa_losses,
        }

    def _targets(self, labels: Mapping[str, Any]) -> Targets:
        num_boxes = labels.get("normalizer")
        if num_boxes is None:
            num_boxes = labels["box_mask"].sum().float()
            if self.all_ranks:
                num_boxes = mean_over_ranks(num_boxes)
            num_boxes = num_boxes.clamp(min=1)
        return Targets(
            boxes=labels["boxes"],
            box_mask=labels["box_mask"],
            positive_map=labels["positive_map"],
            tokens=soft_token_targets(labels["positive_map"], self.config.token_targets),
            is_final=labels.get("is_final"),
            num_boxes=num_boxes,
        )

    def _decoder_losses(self, outputs: MdetrOutput, targets: Targets) -> dict[str, Tensor]:
        """Returns the losses (L,) of all decoder layers, or (1,) without auxiliary losses."""
        predictions = _decoder_predictions(outputs)
        matching = match_queries(
            predictions.logits,
            predictions.boxes,
            targets.tokens,
            targets.boxes,
            targets.box_mask,
            class_cost=self.config.class_cost,
            bbox_cost=self.config.bbox_cost,
            giou_cost=self.config.giou_cost,
        )
        return self._query_losses(predictions, targets, matching)

    def _grid_losses(
        self, outputs: MdetrOutput, targets: Targets
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Returns the losses (1,) with grid locations as queries, and their word loss."""
        if outputs.grid_mask is None:
            return {}, {}
        matching = match_grid(outputs.grid_mask, targets.boxes, targets.box_mask)
        grid_losses, word_losses = {}, {}
        if outputs.grid_logits is not None:
            grid_losses = self._query_losses(_grid_predictions(outputs), targets, matching)
        if self.word_head is not None and outputs.grid_features is not None:
            features = matching.select_queries(outputs.grid_features.float()[None])[0]
            input_ids = outputs.input_ids[:, : targets.positive_map.shape[-1]]
            positive_map = targets.positive_map[..., : input_ids.shape[1]]
            loss = word_loss(self.word_head(features), input_ids, positive_map, matching)
            word_losses = {"loss_word": loss / targets.num_boxes}
        return grid_losses, word_losses

    def _query_losses(
        self, predictions: Predictions, targets: Targets, matching: Matching
    ) -> dict[str, Tensor]:
        """Returns the losses (L,) of predictions, matched with the targets."""
        logits, query_mask = predictions.logits, predictions.query_mask
        distance, overlap = box_losses(predictions.boxes, targets.boxes, matching)
        tokens = soft_token_loss(logits, targets.tokens, matching, self.config.eos_coef, query_mask)
        losses = {
            "loss_ce": tokens / targets.num_boxes,
            "loss_bbox": distance / targets.num_boxes,
            "loss_giou": overlap / targets.num_boxes,
            "cardinality_error": cardinality_error(logits, targets.box_mask, query_mask),
        }
        if predictions.proj_queries is not None and predictions.proj_tokens is not None:
            contrastive = contrastive_alignment_loss(
                predictions.proj_queries,
                predictions.proj_tokens,
                _resized(targets.positive_map, predictions.proj_tokens.shape[1]),
                matching,
                self.config.temperature_nce,
                query_mask,
            )
            losses["loss_contrastive_align"] = contrastive / targets.num_boxes
        if predictions.is_final is not None:
            assert targets.is_final is not None
            loss, accuracy = is_final_loss(predictions.is_final, targets.is_final, matching)
            losses["loss_isfinal"] = loss / targets.num_boxes
            losses["accuracy_isfinal"] = accuracy
        return losses

    def _weighted_sum(
        self,
        decoder_losses: Mapping[str, Tensor],
        grid_losses: Mapping[str, Tensor],
        word_losses: Mapping[str, Tensor],
        qa_losses: Mapping[str, Tensor],
    ) -> Tensor:
        config = self.config
        coefs = {
            "loss_ce": config.ce_loss_coef,
            "loss_bbox": config.bbox_loss_coef,
            "loss_giou": config.giou_loss_coef,
            "loss_contrastive_align": config.contrastive_align_loss_coef,
            "loss_isfinal": config.isfinal_loss_coef,
        }
        terms = [
            coef * coefs[name] * values.sum()
            for coef, losses in ((1.0, decoder_losses), (config.grid_loss_coef, grid_losses))
            for name, values in losses.items()
            if name in coefs
        ]
        terms += [config.word_loss_coef * loss for loss in word_losses.values()]
        terms += [
            config.qa_loss_coef * loss
            for name, loss in qa_losses.items()
            if name.startswith("loss_")
        ]
        return torch.stack(terms).sum()


def mean_over_ranks(number: Tensor) -> Tensor:
    """Returns the float32 mean of a scalar over all processes of a distributed run."""
    number = number.float()
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(number)
        number = number / dist.get_world_size()
    return number


def _decoder_predictions(outputs: MdetrOutput) -> Predictions:
    """Returns the predictions of all decoder layers, or of the last without auxiliary losses."""

    def by_layer(name: str) -> Any:
        layers, last = getattr(outputs, f"layer_{name}"), getattr(outputs, name)
        if layers is None and last is not None:
            layers = last[None]
        return _as_float(layers)

    return Predictions(
        logits=by_layer("logits"),
        boxes=by_layer("pred_boxes"),
        proj_queries=by_layer("proj_queries"),
        proj_tokens=_as_float(outputs.proj_tokens),
        is_final=by_layer("is_final"),
    )


def _grid_predictions(outputs: MdetrOutput) -> Predictions:
    """Returns the predictions at the locations of the feature grid, as one layer of queries."""

    def one_layer(name: str) -> Any:
        values = getattr(outputs, f"grid_{name}")
        return None if values is None else _as_float(values[None])

    assert outputs.grid_mask is not None

    return Predictions(
        logits=one_layer("logits"),
        boxes=one_layer("pred_boxes"),
        proj_queries=one_layer("proj_queries"),
        proj_tokens=_as_float(outputs.proj_tokens),
        is_final=one_layer("is_final"),
        query_mask=outputs.grid_mask.flatten(1),
    )


def _as_float(values: Tensor | None) -> Tensor | None:
    return None if values is None else values.float()


def _resized(positive_map: Tensor, tokens: int) -> Tensor:
    """Truncates or pads the map (B, N, C) to (B, N, T); no box has tokens after C."""
    return F.pad(positive_map, (0, max(0, tokens - positive_map.shape[-1])))[..., :tokens]


def _scalars_by_layer(losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns scalars by published names: ``loss_ce`` (last layer), ``loss_ce_0`` (first), ..."""
    return {
        name if layer == len(values) - 1 else f"{name}_{layer}": value
        for name, values in losses.items()
        for layer, value in enumerate(values.unbind())
    }

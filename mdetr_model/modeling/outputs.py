"""The outputs of the models.

Shapes: B images with their captions, T tokens, Q object queries, L decoder layers, D channels,
H x W locations of the feature grid.
"""

from dataclasses import dataclass
from typing import Any

from torch import LongTensor, Tensor
from transformers.utils.generic import ModelOutput

# What both kinds of outputs have of the layers of the joint transformer, if it was asked for.
LAYER_STATES = (
    "encoder_hidden_states",
    "encoder_attentions",
    "decoder_hidden_states",
    "decoder_attentions",
    "cross_attentions",
)


@dataclass
class MdetrModelOutput(ModelOutput):
    """Output of ``MdetrModel``.

    Attributes:
        last_hidden_state: (B, Q, D), the decoder's output.
        intermediate_hidden_states: (L, B, Q, D), that of all its layers; the last is the one above.
        text_memory: (B, T, D), the encoder's output for the caption.
        image_memory: (B, H·W, D), the encoder's output for the image.
        image_features: (B, H·W, D), projected image features before the encoder, without positions.
        grid_mask: (B, H, W) bool, False for grid locations on the padding.
        encoder_hidden_states, encoder_attentions, decoder_hidden_states, decoder_attentions,
            cross_attentions: of the joint transformer; see ``MdetrOutput``.
    """

    last_hidden_state: Tensor | None = None
    intermediate_hidden_states: Tensor | None = None
    text_memory: Tensor | None = None
    image_memory: Tensor | None = None
    image_features: Tensor | None = None
    grid_mask: Tensor | None = None
    encoder_hidden_states: tuple[Tensor, ...] | None = None
    encoder_attentions: tuple[Tensor, ...] | None = None
    decoder_hidden_states: tuple[Tensor, ...] | None = None
    decoder_attentions: tuple[Tensor, ...] | None = None
    cross_attentions: tuple[Tensor, ...] | None = None

    def layer_states(self) -> dict[str, Any]:
        """Returns hidden states and attentions, by name."""
        return {name: getattr(self, name) for name in LAYER_STATES}


@dataclass
class MdetrOutput(ModelOutput):
    """Predictions, and losses if there were labels.

    Attributes:
        loss: the weighted sum of the losses.
        loss_dict: every loss by name, unweighted.
        logits: (B, Q, 256) over the tokens of the caption, the last for "no object".
        pred_boxes: (B, Q, 4) as cxcywh, relative to the image without its padding, 0 to 1.
        proj_queries: (B, Q, 64) unit vectors, near those of the tokens that name the object.
        proj_tokens: (B, T, 64) unit vectors.
        is_final: (B, Q) logits that the whole caption refers to an object.
        answers: logits by answer head, (B, answers), or (B,) for yes or no.
        layer_logits, layer_pred_boxes, layer_proj_queries, layer_is_final: the same of all
            decoder layers, (L, B, Q, ...), from the first to the last.
        grid_logits, grid_pred_boxes, grid_proj_queries, grid_is_final: the same, (B, H·W, ...),
            predicted from the encoder's output at each grid location; in training with a
            ``grid_loss_coef``.
        grid_features: (B, H·W, D), of the image alone; in training with a ``word_loss_coef``.
        grid_mask: (B, H, W) bool, False for grid locations on the padding.
        input_ids: (B, T), the captions, from which
            ``MdetrProcessor.post_process_grounded_object_detection`` reads the phrases.
        encoder_hidden_states, decoder_hidden_states: with ``output_hidden_states``, the input and
            the output of each layer of the joint transformer: (B, H·W + T, D), the grid locations
            before the tokens, and (B, Q, D).
        encoder_attentions, decoder_attentions, cross_attentions: with ``output_attentions``, the
            attention weights (B, heads, queries, keys) of each layer.
    """

    loss: Tensor | None = None
    loss_dict: dict[str, Tensor] | None = None
    logits: Tensor = None  # type: ignore[assignment]  # this and two others are always present
    pred_boxes: Tensor = None  # type: ignore[assignment]
    proj_queries: Tensor | None = None
    proj_tokens: Tensor | None = None
    is_final: Tensor | None = None
    answers: dict[str, Tensor] | None = None
    layer_logits: Tensor | None = None
    layer_pred_boxes: Tensor | None = None
    layer_proj_queries: Tensor | None = None
    layer_is_final: Tensor | None = None
    grid_logits: Tensor | None = None
    grid_pred_boxes: Tensor | None = None
    grid_proj_queries: Tensor | None = None
    grid_is_final: Tensor | None = None
    grid_features: Tensor | None = None
    grid_mask: Tensor | None = None
    input_ids: LongTensor = None  # type: ignore[assignment]
    encoder_hidden_states: tuple[Tensor, ...] | None = None
    encoder_attentions: tuple[Tensor, ...] | None = None
    decoder_hidden_states: tuple[Tensor, ...] | None = None
    decoder_attentions: tuple[Tensor, ...] | None = None
    cross_attentions: tuple[Tensor, ...] | None = None

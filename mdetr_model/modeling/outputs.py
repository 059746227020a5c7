"""What the models return.

Shapes: B images with their captions, T tokens, Q object queries, L decoder layers, D channels.
"""

from dataclasses import dataclass

from torch import LongTensor, Tensor
from transformers.utils import ModelOutput


@dataclass
class MdetrModelOutput(ModelOutput):
    """What ``MdetrModel`` returns.

    Attributes:
        last_hidden_state: (B, Q, D), the decoder's output.
        layer_hidden_states: (L, B, Q, D), that of all its layers; the last is the one above.
        text_memory: (B, T, D), the encoder's output for the caption.
        image_memory: (B, H·W, D), that for the cells of the image, with their positions.
        image_features: (B, H·W, D), those of the cells before the encoder, without positions.
        image_mask: (B, H, W) bool, which of the cells are on the image.
    """

    last_hidden_state: Tensor | None = None
    layer_hidden_states: Tensor | None = None
    text_memory: Tensor | None = None
    image_memory: Tensor | None = None
    image_features: Tensor | None = None
    image_mask: Tensor | None = None


@dataclass
class MdetrOutput(ModelOutput):
    """Predictions, and losses where there were labels.

    Attributes:
        loss: the weighted sum of the losses.
        loss_dict: every loss by name, unweighted.
        logits: (B, Q, 256) over the tokens of the caption, the last for "no object".
        pred_boxes: (B, Q, 4) as cxcywh in shares of the image without its padding, 0 to 1.
        proj_queries: (B, Q, 64) unit vectors, to be near those of their tokens.
        proj_tokens: (B, T, 64) unit vectors.
        is_final: (B, Q) logits that the whole caption refers to an object.
        answers: logits by answer head, (B, answers), or (B,) for yes or no.
        layer_logits, layer_pred_boxes, layer_proj_queries, layer_is_final: the same of all
            decoder layers, (L, B, Q, ...), from the first to the last.
        cell_logits, cell_pred_boxes, cell_proj_queries, cell_is_final: the same of the cells of
            the encoder's memory, (B, H·W, ...), in training with a ``grid_loss_coef``.
        cell_features: (B, H·W, D), of the image alone, in training with a ``word_loss_coef``.
        cell_mask: (B, H, W) bool, which of the cells are on the image.
        input_ids: (B, T), the captions that these are about, which
            ``MdetrProcessor.post_process_grounding`` reads the phrases off.
    """

    loss: Tensor | None = None
    loss_dict: dict[str, Tensor] | None = None
    logits: Tensor | None = None
    pred_boxes: Tensor | None = None
    proj_queries: Tensor | None = None
    proj_tokens: Tensor | None = None
    is_final: Tensor | None = None
    answers: dict[str, Tensor] | None = None
    layer_logits: Tensor | None = None
    layer_pred_boxes: Tensor | None = None
    layer_proj_queries: Tensor | None = None
    layer_is_final: Tensor | None = None
    cell_logits: Tensor | None = None
    cell_pred_boxes: Tensor | None = None
    cell_proj_queries: Tensor | None = None
    cell_is_final: Tensor | None = None
    cell_features: Tensor | None = None
    cell_mask: Tensor | None = None
    input_ids: LongTensor | None = None

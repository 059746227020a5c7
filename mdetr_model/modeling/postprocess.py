"""From a model's outputs to boxes in pixels, scores, and the words that name them.

Shapes: B images, Q queries, C = 256 token positions of which the last means "no object".
"""

import numpy as np
import torch
from torch import Tensor

from mdetr_model.modeling.box_ops import cxcywh_to_xyxy


def boxes_in_pixels(boxes: Tensor, target_sizes: Tensor) -> Tensor:
    """Boxes (B, Q, 4) as xyxy in pixels.

    Args:
        boxes: (B, Q, 4) as cxcywh, 0 to 1.
        target_sizes: (B, 2) height and width of each image.
    """
    height, width = target_sizes.to(boxes).unbind(-1)
    scale = torch.stack([width, height, width, height], dim=-1)
    return cxcywh_to_xyxy(boxes) * scale[:, None]


def object_scores(logits: Tensor) -> Tensor:
    """The probability (B, Q) that a query has found anything, from token logits (B, Q, C)."""
    return 1 - logits.softmax(-1)[..., -1]


def final_scores(logits: Tensor, is_final: Tensor) -> Tensor:
    """The probability (B, Q) that a query has found what the whole caption refers to.

    Args:
        logits: (B, Q, C)
        is_final: (B, Q) logits, see ``MdetrOutput``.
    """
    return object_scores(logits) * is_final.sigmoid()


def phrase_scores(logits: Tensor, phrases: Tensor) -> Tensor:
    """How well every query answers to every phrase (B, P, Q): its most probable token's value.

    This is what Flickr30k Entities and the referring expressions are evaluated by; the queries
    of a phrase are to be sorted by it.

    Args:
        logits: (B, Q, C)
        phrases: (B, P, C) boolean, the tokens of each phrase, padded with rows of zeros.
    """
    probabilities = logits.softmax(-1)[:, None]
    return (probabilities * phrases[:, :, None]).amax(-1)


def spans_of_tokens(chosen: np.ndarray, offsets: np.ndarray) -> list[list[tuple[int, int]]]:
    """Character spans, by object, of its tokens; neighboring tokens share a span.

    Args:
        chosen: (N, T) boolean, the tokens of each object.
        offsets: (T, 2) half-open characters of each token; tokens without any, such as the
            special ones, are passed over.
    """
    has_characters = offsets[:, 1] > offsets[:, 0]
    offsets = offsets[has_characters]
    # A run of tokens begins where 0 becomes 1, and ends where 1 becomes 0.
    edges = np.diff(chosen[:, has_characters].astype(np.int8), axis=1, prepend=0, append=0)
    spans: list[list[tuple[int, int]]] = [[] for _ in chosen]
    begins, ends = np.nonzero(edges == 1), np.nonzero(edges == -1)
    for item, first, behind in zip(*begins, ends[1], strict=True):
        spans[item].append((int(offsets[first, 0]), int(offsets[behind - 1, 1])))
    return spans

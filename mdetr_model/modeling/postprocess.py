"""Converts a model's outputs to boxes in pixels, scores, named spans of the caption, and answers.

Shapes: B images, Q queries, C = 256 token positions of which the last means "no object".
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from .answer_types import question_types
from .box_ops import cxcywh_to_xyxy


def boxes_in_pixels(boxes: Tensor, target_sizes: Tensor) -> Tensor:
    """Converts boxes (B, Q, 4) to xyxy in pixels.

    Args:
        boxes: (B, Q, 4) as cxcywh, 0 to 1.
        target_sizes: (B, 2) height and width of each image.
    """
    height, width = target_sizes.to(boxes).unbind(-1)
    scale = torch.stack([width, height, width, height], dim=-1)
    return cxcywh_to_xyxy(boxes) * scale[:, None]


def object_scores(logits: Tensor) -> Tensor:
    """Returns the probability (B, Q) that a query is an object, from token logits (B, Q, C)."""
    return 1 - logits.softmax(-1)[..., -1]


def final_scores(logits: Tensor, is_final: Tensor) -> Tensor:
    """Returns the probability (B, Q) that the whole caption refers to a query's object.

    Args:
        logits: (B, Q, C)
        is_final: (B, Q) logits, see ``MdetrOutput``.
    """
    return object_scores(logits) * is_final.sigmoid()


def phrase_scores(logits: Tensor, phrases: Tensor) -> Tensor:
    """Returns the score (B, P, Q) of every query for every phrase: that of its most probable token.

    On Flickr30k Entities and referring expressions, the queries of a phrase are ranked by this
    score.

    Args:
        logits: (B, Q, C)
        phrases: (B, P, C) boolean, the tokens of each phrase, padded with rows of zeros.
    """
    probabilities = logits.softmax(-1)[:, None]
    return (probabilities * phrases[:, :, None]).amax(-1)


def spans_of_tokens(token_mask: np.ndarray, offsets: np.ndarray) -> list[list[tuple[int, int]]]:
    """Returns for each object the character spans of its tokens; adjacent tokens share a span.

    Args:
        token_mask: (N, T) boolean, the tokens of each object.
        offsets: (T, 2) half-open characters of each token; tokens without characters, such as
            special tokens, are skipped.
    """
    has_characters = offsets[:, 1] > offsets[:, 0]
    offsets = offsets[has_characters]
    # A run of tokens begins where 0 becomes 1, and ends where 1 becomes 0.
    runs = token_mask[:, has_characters].astype(np.int8)
    edges = np.diff(runs, axis=1, prepend=0, append=0)
    rows, begins = np.nonzero(edges == 1)
    _, ends = np.nonzero(edges == -1)
    spans: list[list[tuple[int, int]]] = [[] for _ in token_mask]
    for row, begin, end in zip(rows, begins, ends, strict=True):
        spans[row].append((int(offsets[begin, 0]), int(offsets[end - 1, 1])))
    return spans


def predicted_answers(logits: Mapping[str, Tensor]) -> list[tuple[str, int]]:
    """Returns for every question the head that answers it, and the index of its answer.

    For ``binary``, 1 is yes. The logits have the shapes of ``answer_losses``.
    """
    if "total" in logits:
        return [("total", index) for index in logits["total"].argmax(-1).tolist()]
    types = question_types(logits)
    predicted_type = logits["type"].argmax(-1)
    by_type = torch.stack([predicted_index(logits[head]) for head in types])
    answers = by_type.gather(0, predicted_type[None])[0]
    pairs = zip(predicted_type.tolist(), answers.tolist(), strict=True)
    return [(types[index], answer) for index, answer in pairs]


def predicted_index(logits: Tensor) -> Tensor:
    """Returns the index (B,) of the answer of one head, from logits (B, answers) or (B,)."""
    return logits.argmax(-1) if logits.ndim > 1 else (logits > 0).long()

"""Converts a model's outputs to boxes in pixels, scores, named spans of the caption, and answers.

Shapes: B images, Q queries, C = 256 token positions of which the last means "no object".
"""

import math
from collections.abc import Mapping
from typing import Any

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


def image_sizes(sizes: Any, images: int) -> Tensor:
    """Returns height and width (B, 2) of B images, float32.

    Args:
        sizes: a tensor, an array, or a list of pairs, of tensors or of arrays; of a single image
            also its pair; None for 1 x 1, which keeps boxes relative to the image.
        images: how many there are.

    Raises:
        ValueError: these are not as many sizes as images, or not positive.
    """
    if sizes is None:
        return torch.ones(images, 2)
    try:
        rows = [torch.as_tensor(size, dtype=torch.float32, device="cpu") for size in sizes]
        pairs = torch.stack(rows)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"sizes {sizes!r}: expected height and width of each image") from error
    if images == 1 and pairs.shape == (2,):
        pairs = pairs[None]
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ValueError(f"sizes {sizes!r}: expected height and width of each of {images} images")
    if len(pairs) != images:
        raise ValueError(f"{images} images, {len(pairs)} target sizes")
    if not (pairs.isfinite() & (pairs > 0)).all():
        image = int((pairs.isfinite() & (pairs > 0)).all(-1).int().argmin())
        height, width = pairs[image].tolist()
        raise ValueError(f"caption {image}: an image of height {height:g}, width {width:g}")
    return pairs


def as_threshold(name: str, value: Any) -> float:
    """Returns a threshold as a number.

    Raises:
        ValueError: it is none, or NaN, which no score exceeds.
    """
    try:
        number = math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError, RuntimeError):
        number = math.nan
    if math.isnan(number):
        raise ValueError(f"{name} is {value!r}; it has to be a number")
    return number


def as_floats(values: Any) -> Tensor:
    """Returns outputs as a float32 tensor; from a ``Trainer`` they are numpy arrays."""
    return torch.as_tensor(values).detach().float()


def query_scores(outputs: Any) -> Tensor:
    """Returns the score (B, Q) of each query, float32.

    It is the probability of an object; if the model has ``is_final``, the probability that the
    whole caption refers to it.
    """
    logits, is_final = as_floats(outputs.logits), getattr(outputs, "is_final", None)
    return object_scores(logits) if is_final is None else final_scores(logits, as_floats(is_final))


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

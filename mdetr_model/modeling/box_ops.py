"""Boxes as tensors: two formats, intersection over union, and its generalization."""

import torch
from torch import Tensor

EPSILON = torch.finfo(torch.float32).tiny


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Converts boxes (..., 4) from center, width and height to corners."""
    center, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([center - half, center + half], dim=-1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """Converts boxes (..., 4) from corners to center, width and height."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def giou(first: Tensor, second: Tensor) -> Tensor:
    """Returns the generalized IoU (https://giou.stanford.edu), -1 to 1, of xyxy boxes (..., 4).

    Both arguments have the same number of dimensions, which broadcast: the value of every pair is
    ``giou(a[:, None], b[None])``. For two boxes on one line the formula divides 0 by 0; here the
    value is -1.
    """
    # Operations on all pairs are several times faster where each coordinate is contiguous.
    a, b = first.movedim(-1, 0).contiguous(), second.movedim(-1, 0).contiguous()
    shared = (torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])).clamp(min=0)
    intersection = shared[0] * shared[1]
    union = _area(a) + _area(b) - intersection
    hull_sides = torch.maximum(a[2:], b[2:]) - torch.minimum(a[:2], b[:2])
    hull = (hull_sides[0] * hull_sides[1]).clamp(min=EPSILON)
    return intersection / union.clamp(min=EPSILON) - (hull - union) / hull


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Returns the IoU, 0 to 1, of xyxy boxes (..., 4), which broadcast as in ``giou``."""
    a, b = first.movedim(-1, 0), second.movedim(-1, 0)
    shared = (torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])).clamp(min=0)
    intersection = shared[0] * shared[1]
    return intersection / (_area(a) + _area(b) - intersection).clamp(min=EPSILON)


def _area(boxes: Tensor) -> Tensor:
    """Returns the areas (...) of xyxy boxes (4, ...)."""
    sides = boxes[2:] - boxes[:2]
    return sides[0] * sides[1]

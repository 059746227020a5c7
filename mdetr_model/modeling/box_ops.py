"""Boxes as tensors: two formats, intersection over union, and its generalization."""

import torch
from torch import Tensor

SMALLEST = torch.finfo(torch.float32).tiny


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Corners (..., 4) of boxes (..., 4) given by center, width and height."""
    center, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([center - half, center + half], dim=-1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """Center, width and height (..., 4) of boxes (..., 4) given by their corners."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def giou(first: Tensor, second: Tensor) -> Tensor:
    """Generalised IoU (https://giou.stanford.edu), -1 to 1, of boxes (..., 4) as xyxy.

    Both have as many dimensions, which broadcast: ``giou(a[:, None], b[None])`` has the value of
    every pair. Where both lie on one line the formula divides 0 by 0; here they have -1.
    """
    # The operations on all pairs are several times faster on coordinates that lie together.
    a, b = first.movedim(-1, 0).contiguous(), second.movedim(-1, 0).contiguous()
    shared = (torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])).clamp(min=0)
    intersection = shared[0] * shared[1]
    union = _area(a) + _area(b) - intersection
    around = torch.maximum(a[2:], b[2:]) - torch.minimum(a[:2], b[:2])
    hull = (around[0] * around[1]).clamp(min=SMALLEST)
    return intersection / union.clamp(min=SMALLEST) - (hull - union) / hull


def iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union, 0 to 1, of boxes (..., 4) as xyxy; they broadcast as in ``giou``."""
    a, b = first.movedim(-1, 0), second.movedim(-1, 0)
    shared = (torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])).clamp(min=0)
    intersection = shared[0] * shared[1]
    return intersection / (_area(a) + _area(b) - intersection).clamp(min=SMALLEST)


def _area(box: Tensor) -> Tensor:
    """Of boxes (4, ...) as xyxy."""
    sides = box[2:] - box[:2]
    return sides[0] * sides[1]

"""Sine encoding of the positions of a feature grid."""

import math

import torch
from torch import Tensor

TEMPERATURE = 10_000.0
# As in the published encoding: avoids a division by zero, and shifts every position slightly.
EPSILON = 1e-6


def sine_positions(mask: Tensor, size: int) -> Tensor:
    """Encodes grid locations as sines and cosines of 2π · (row or column) / (last of them).

    The encoding of "Attention is all you need" (section 3.5) on both axes, as in DETR (section 4
    and appendix A.4): rows and columns are counted over the valid locations of each image, so a
    position does not change with the padding.

    Args:
        mask: (B, H, W) bool, True on the image and False on padding.
        size: number of channels, divisible by four: the first half is for the row, the rest for
            the column, sines on even and cosines on odd channels.

    Returns:
        (B, H·W, size) float32.
    """
    rows = mask.cumsum(1, dtype=torch.float32)
    columns = mask.cumsum(2, dtype=torch.float32)
    rows = rows / (rows[:, -1:, :] + EPSILON) * 2 * math.pi
    columns = columns / (columns[:, :, -1:] + EPSILON) * 2 * math.pi
    exponents = torch.arange(0, size // 2, 2, dtype=torch.float32, device=mask.device)
    periods = TEMPERATURE ** (exponents / (size // 2))
    angles = torch.stack([rows, columns], dim=-1).flatten(1, 2)[..., None] / periods
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(2)

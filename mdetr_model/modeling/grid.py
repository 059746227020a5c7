"""The cells of the image features: which are on the image, and what they alone can tell."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mdetr_model.modeling.configuration_mdetr import MdetrConfig


class WordHead(nn.Module):
    """Which words name what lies in a cell, told from its image features before any text is read.

    Only training has it, and only with a ``word_loss_coef``.
    """

    def __init__(self, config: MdetrConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size)
        self.words = nn.Linear(config.hidden_size, config.text_config.vocab_size, bias=False)
        self.bias = nn.Parameter(torch.zeros(config.text_config.vocab_size))

    def forward(self, x: Tensor) -> Tensor:
        """From features (..., D) to logits over all tokens that there are (..., W)."""
        return self.words(self.norm(x)) + self.bias


def pad_to_stride(pixels: Tensor, mask: Tensor | None, cell: int) -> tuple[Tensor, Tensor]:
    """Pixels (B, 3, H, W) and their mask (B, H, W), padded to sides that are multiples of a cell.

    ``cell`` is how many pixels of the image the side of a cell of the features has.
    """
    if mask is None:
        mask = torch.ones_like(pixels[:, 0])
    padding = (0, -pixels.shape[-1] % cell, 0, -pixels.shape[-2] % cell)
    return F.pad(pixels, padding), F.pad(mask, padding)


def mask_of_cells(pixel_mask: Tensor | None, features: Tensor) -> Tensor:
    """Which cells (B, H, W) of the features (B, C, H, W) are on the image; bool."""
    batch, _, height, width = features.shape
    if pixel_mask is None:
        return torch.ones(batch, height, width, dtype=torch.bool, device=features.device)
    return F.interpolate(pixel_mask[:, None].float(), size=(height, width))[:, 0].bool()

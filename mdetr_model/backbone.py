"""Image encoders: the convolutional part of transformers' ResNet and EfficientNet.

Both halve the size five times, rounding up. The published encoders let the padding of a picture
into it: it is zero in the pixels only, since batch norm moves it. Given a mask, padding is kept at
zero in front of every convolution, so a picture has the same features in every batch.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AutoBackbone,
    EfficientNetConfig,
    EfficientNetModel,
    PreTrainedConfig,
    ResNetConfig,
)

# The published model uses this in every backbone, also in EfficientNets trained with 1e-3.
BATCH_NORM_EPSILON = 1e-5


class FrozenBatchNorm2d(nn.Module):
    """Batch norm with fixed statistics and fixed affine parameters: all of it are buffers."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """From (B, C, H, W) to (B, C, H, W)."""
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=BATCH_NORM_EPSILON
        )


class SamePadding(nn.Module):
    """TensorFlow's "same" padding before a strided convolution, for any size.

    The output has ceil(size / stride) cells, and an odd amount of padding has its larger half on
    the right and at the bottom. How much is needed depends on the size of the input, which is why
    padding fixed for even sizes shifts the grid of odd ones by a pixel.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.kernel = convolution.kernel_size[0]
        self.stride = convolution.stride[0]

    def forward(self, x: Tensor) -> Tensor:
        """From (B, C, H, W) to (B, C, H + padding, W + padding)."""
        top, bottom = self._padding(x.shape[-2])
        left, right = self._padding(x.shape[-1])
        return F.pad(x, (left, right, top, bottom))

    def _padding(self, size: int) -> tuple[int, int]:
        cells = (size + self.stride - 1) // self.stride
        # Never negative where the kernel is at least as large as the stride, as it is here.
        total = (cells - 1) * self.stride + self.kernel - size
        return total // 2, total - total // 2


class ResNetEncoder(nn.Module):
    """ResNet up to its last stage. The stem and the first stage are not trained, as in DETR."""

    channels: int

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.backbone: Any = AutoBackbone.from_config(config)
        freeze_batch_norms(self.backbone)
        for module in self.backbone.modules():
            if isinstance(module, nn.ReLU):
                # Nothing needs what was before it: that is a copy of every activation saved.
                module.inplace = True
        self.channels = self.backbone.num_features[-1]
        self.freeze_first_layers()

    def freeze_first_layers(self) -> None:
        """Takes the stem and the first stage out of training."""
        self.backbone.embedder.requires_grad_(False)
        self.backbone.encoder.stages[0].requires_grad_(False)

    def forward(self, pixels: Tensor, mask: Tensor | None = None) -> Tensor:
        """From (B, 3, H, W) to (B, C, ceil(H / 32), ceil(W / 32)).

        ``mask`` is (B, 1, H, W), 1 on the picture and 0 on its padding; None leaves padding be.
        """
        stages = self.backbone.encoder.stages
        if mask is None:
            x = self.backbone.embedder(pixels)
            for stage in stages:
                x = stage(x)
            return x
        x = self.backbone.embedder.embedder(pixels * mask)
        mask = halved(mask)
        # What is pooled is not negative, so zeros are as good as nothing.
        x = self.backbone.embedder.pooler(x * mask)
        mask = halved(mask)
        for stage in stages:
            for block in stage.layers:
                shortcut = block.shortcut(x)
                for layer in block.layer:
                    x = layer(x * mask)
                    mask = mask if layer.convolution.stride == (1, 1) else halved(mask)
                x = block.activation(x + shortcut)
        return x


class EfficientNetEncoder(nn.Module):
    """EfficientNet up to its last block, without the convolution on top."""

    channels: int

    def __init__(self, config: EfficientNetConfig) -> None:
        super().__init__()
        model: Any = EfficientNetModel(config)
        self.stem = model.embeddings
        self.blocks = model.encoder.blocks
        freeze_batch_norms(self)
        self.stem.padding = SamePadding(self.stem.convolution)
        for block in self.blocks:
            depthwise = block.depthwise_conv
            if depthwise.stride == 2:
                depthwise.depthwise_conv_pad = SamePadding(depthwise.depthwise_conv)
        self.channels = model.encoder.top_conv.in_channels

    def forward(self, pixels: Tensor, mask: Tensor | None = None) -> Tensor:
        """From (B, 3, H, W) to (B, C, ceil(H / 32), ceil(W / 32)).

        ``mask`` is (B, 1, H, W), 1 on the picture and 0 on its padding; None leaves padding be.
        With it, sides have to be multiples of 32: "same" padding shifts the grid by the parity.
        """
        if mask is None:
            x = self.stem(pixels)
            for block in self.blocks:
                x = block(x)
            return x
        x = self.stem(pixels * mask)
        mask = halved(mask)
        for block in self.blocks:
            inner = block.expansion(x) if block.expand else x
            inner = block.depthwise_conv(inner * mask)
            mask = mask if block.depthwise_conv.stride == 1 else halved(mask)
            x = block.projection(x, _squeeze_excite(block.squeeze_excite, inner, mask))
        return x


def halved(mask: Tensor) -> Tensor:
    """The mask (B, 1, ceil(H / 2), ceil(W / 2)) behind a convolution of stride 2."""
    return mask[..., ::2, ::2]


def _squeeze_excite(layer: Any, x: Tensor, mask: Tensor) -> Tensor:
    """The channels of (B, C, H, W), weighted by what is in the picture and not in its padding."""
    mean = (x * mask).sum((2, 3), keepdim=True) / mask.sum((2, 3), keepdim=True)
    return x * layer.act_expand(layer.expand(layer.act_reduce(layer.reduce(mean))))


def freeze_batch_norms(module: nn.Module) -> None:
    """Replaces every batch norm inside ``module`` by a frozen one, in place."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, FrozenBatchNorm2d(child.num_features))
        else:
            freeze_batch_norms(child)


def image_encoder(config: PreTrainedConfig) -> ResNetEncoder | EfficientNetEncoder:
    """The encoder for a backbone configuration of transformers.

    Raises:
        ValueError: the configuration is for neither ResNet nor EfficientNet.
    """
    if isinstance(config, ResNetConfig):
        return ResNetEncoder(config)
    if isinstance(config, EfficientNetConfig):
        return EfficientNetEncoder(config)
    raise ValueError(f"no image encoder for a backbone of type {config.model_type!r}")

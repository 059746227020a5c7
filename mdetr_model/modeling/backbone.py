"""Image encoders: the convolutional part of transformers' ResNet and EfficientNet.

Both halve the size five times, rounding up. In the published encoders the padding of an image
influences its features: only the input is zero there, because batch norm shifts it. With a mask,
padding is set to zero before every convolution, so an image has the same features in every batch.
"""

import copy
import itertools
import math
import operator
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AutoBackbone,
    EfficientNetConfig,
    EfficientNetModel,
    PreTrainedConfig,
    ResNetConfig,
    initialization,
)

# The published model uses this in every backbone, even in EfficientNets trained with 1e-3.
BATCH_NORM_EPSILON = 1e-5


class ScaleAndShift(NamedTuple):
    """What a frozen batch norm applies, as long as its buffers stay the same.

    Attributes:
        scale, shift: (C, 1, 1), in the type of the features.
        buffers: from which they were computed.
        versions: of these: torch counts the changes of a tensor in place.
    """

    scale: Tensor
    shift: Tensor
    buffers: tuple[Tensor, ...]
    versions: tuple[int, ...]


class FrozenBatchNorm2d(nn.Module):
    """Batch norm with fixed statistics and affine parameters, which are all buffers.

    Scale and shift are computed once, and again if a buffer was replaced or changed in place, but
    not if it was changed through its ``data``. A graph computes them in every pass.
    """

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
        self._known: ScaleAndShift | None = None

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """Returns scale and shift (C,) of the channels."""
        scale = self.weight * (self.running_var + BATCH_NORM_EPSILON).rsqrt()
        return scale, self.bias - self.running_mean * scale

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, C, H, W) of the same type, also under autocast."""
        known = self._known
        if known is None or not self._applies(known, x):
            known = self._scale_and_shift(x.dtype)
        # A single pass over the features, half of what torch's batch norm takes.
        return torch.addcmul(known.shift, x, known.scale)

    def _applies(self, known: ScaleAndShift, x: Tensor) -> bool:
        """Returns whether scale and shift are those for features ``x``."""
        return (
            not torch.compiler.is_compiling()
            and known.scale.dtype == x.dtype
            and all(map(operator.is_, known.buffers, self._buffers.values()))
            and known.versions == tuple(buffer._version for buffer in known.buffers)
        )

    @torch.no_grad()
    def _scale_and_shift(self, dtype: torch.dtype) -> ScaleAndShift:
        """Computes scale and shift, and keeps them for the next passes if that is possible."""
        buffers = (self.weight, self.bias, self.running_mean, self.running_var)
        has_versions = not (torch.compiler.is_compiling() or self.weight.is_inference())
        # Tensors of inference mode could not be used in training.
        with torch.inference_mode(False) if has_versions else nullcontext():
            scale, shift = (values.to(dtype)[:, None, None] for values in self.scale_and_shift())
        if not has_versions:
            return ScaleAndShift(scale, shift, (), ())
        versions = tuple(buffer._version for buffer in buffers)
        self._known = ScaleAndShift(scale, shift, buffers, versions)
        return self._known


class SamePadding(nn.Module):
    """TensorFlow's "same" padding before a strided convolution, for any size.

    The output has ceil(size / stride) locations, and an odd amount of padding has its larger half
    on the right and at the bottom. The amount depends on the size of the input, so padding that is
    fixed for even sizes shifts the grid of odd ones by a pixel.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.kernel = convolution.kernel_size[0]
        self.stride = convolution.stride[0]

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, C, H + padding, W + padding)."""
        top, bottom = self._padding(x.shape[-2])
        left, right = self._padding(x.shape[-1])
        return F.pad(x, (left, right, top, bottom))

    def _padding(self, size: int) -> tuple[int, int]:
        locations = (size + self.stride - 1) // self.stride
        # Not negative because the kernel is at least as large as the stride.
        total = (locations - 1) * self.stride + self.kernel - size
        return total // 2, total - total // 2


class ResNetEncoder(nn.Module):
    """ResNet up to its last stage.

    Attributes:
        channels: of the features.
        stride: of the feature grid, in pixels.
        memory_format: of the features; in channels_last, convolutions need not reorder them.
    """

    def __init__(self, config: ResNetConfig, freeze_norms: bool, freeze_first_layers: bool) -> None:
        super().__init__()
        self.backbone: Any = AutoBackbone.from_config(config)
        if freeze_norms:
            freeze_batch_norms(self.backbone)
        for module in self.backbone.modules():
            if isinstance(module, nn.ReLU):
                # Their input is not used again; this saves a copy of every activation.
                module.inplace = True
        self.channels: int = self.backbone.num_features[-1]
        self.stride = 2 ** (
            len(self.backbone.encoder.stages) + (2 if config.downsample_in_first_stage else 1)
        )
        self.has_frozen_layers = freeze_first_layers
        self.memory_format = torch.channels_last
        self.freeze_first_layers()

    def freeze_first_layers(self) -> None:
        """Freezes the stem and the first stage, as in DETR, if the encoder is configured so."""
        if self.has_frozen_layers:
            self.backbone.embedder.requires_grad_(False)
            self.backbone.encoder.stages[0].requires_grad_(False)

    def forward(self, pixels: Tensor, mask: Tensor | None = None) -> Tensor:
        """Maps (B, 3, H, W) to (B, C, ceil(H / stride), ceil(W / stride)).

        ``mask`` is (B, 1, H, W), 1 on the image and 0 on its padding; None does not mask.
        """
        pixels = pixels.contiguous(memory_format=self.memory_format)
        if mask is None:
            features: Tensor = self.backbone.embedder(pixels)
            for stage in self.backbone.encoder.stages:
                features = stage(features)
            return features
        features, mask = _masked_convolution(self.backbone.embedder.embedder, pixels, mask)
        # Activations are not negative, so zeros do not change the maximum.
        features = self.backbone.embedder.pooler(features * mask)
        mask = halved(mask)
        for stage in self.backbone.encoder.stages:
            for block in stage.layers:
                features, mask = _masked_residual_block(block, features, mask)
        return features


def _masked_residual_block(block: Any, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the output of a ResNet's block, and its mask."""
    shortcut = block.shortcut(x)
    for layer in block.layer:
        x, mask = _masked_convolution(layer, x, mask)
    return block.activation(x + shortcut), mask


def _masked_convolution(layer: Any, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the output of a ResNet's layer, and its mask."""
    x = layer(x * mask)
    # Strides are 1 or 2, so the size states which it was; a side of 1 stays, and so does its mask.
    return x, mask if x.shape[-2:] == mask.shape[-2:] else halved(mask)


class EfficientNetEncoder(nn.Module):
    """EfficientNet up to its last block, without the convolution on top, and without dropout.

    Attributes:
        channels: of the features.
        stride: of the feature grid, in pixels.
        memory_format: of the features; in channels_last, convolutions need not reorder them.
    """

    def __init__(self, config: EfficientNetConfig, freeze_norms: bool) -> None:
        super().__init__()
        model: Any = EfficientNetModel(config)
        self.stem = model.embeddings
        self.blocks = model.encoder.blocks
        if freeze_norms:
            freeze_batch_norms(self)
        # transformers initializes all weights, those of norms included, with a standard deviation
        # of 0.02, with which features vanish.
        for module in self.modules():
            initialize(module)
        self.stem.padding = SamePadding(self.stem.convolution)
        for block in self.blocks:
            # Stochastic depth would be elementwise dropout here; published training has none.
            block.projection.dropout = nn.Identity()
            depthwise = block.depthwise_conv
            if depthwise.stride == 2:
                depthwise.depthwise_conv_pad = SamePadding(depthwise.depthwise_conv)
        self.channels: int = model.encoder.top_conv.in_channels
        self.stride = 2 * math.prod(config.strides)
        self.memory_format = torch.channels_last

    def forward(self, pixels: Tensor, mask: Tensor | None = None) -> Tensor:
        """Maps (B, 3, H, W) to (B, C, ceil(H / 32), ceil(W / 32)).

        ``mask`` is (B, 1, H, W), 1 on the image and 0 on its padding; None does not mask.
        With it, sides have to be multiples of 32: "same" padding shifts the grid by the parity.
        """
        pixels = pixels.contiguous(memory_format=self.memory_format)
        if mask is None:
            features: Tensor = self.stem(pixels)
            for block in self.blocks:
                features = block(features)
            return features
        features = self.stem(pixels * mask)
        mask = halved(mask)
        for block in self.blocks:
            features, mask = _masked_inverted_bottleneck(block, features, mask)
        return features


def _masked_inverted_bottleneck(block: Any, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the output of an EfficientNet's block, and its mask."""
    inner = block.expansion(x) if block.expand else x
    inner = block.depthwise_conv(inner * mask)
    if block.depthwise_conv.stride == 2:
        mask = halved(mask)
    inner = _masked_squeeze_excite(block.squeeze_excite, inner, mask)
    return block.projection(x, inner), mask


def _masked_squeeze_excite(layer: Any, x: Tensor, mask: Tensor) -> Tensor:
    """Weights the channels of (B, C, H, W) by their mean over the image without its padding."""
    mean = (x * mask).sum((2, 3), keepdim=True) / mask.sum((2, 3), keepdim=True)
    weight: Tensor = layer.act_expand(layer.expand(layer.act_reduce(layer.reduce(mean))))
    return x * weight


def halved(mask: Tensor) -> Tensor:
    """Returns the mask (B, 1, ceil(H / 2), ceil(W / 2)) after a convolution of stride 2."""
    return mask[..., ::2, ::2]


def pad_to_stride(pixels: Tensor, mask: Tensor | None, stride: int) -> tuple[Tensor, Tensor]:
    """Pads pixels (B, 3, H, W) and their mask (B, H, W) to sides that are multiples of a stride."""
    if mask is None:
        mask = torch.ones_like(pixels[:, 0])
    padding = (0, -pixels.shape[-1] % stride, 0, -pixels.shape[-2] % stride)
    return F.pad(pixels, padding), F.pad(mask, padding)


def downsampled_mask(pixel_mask: Tensor | None, features: Tensor) -> Tensor:
    """Returns the boolean mask (B, H, W) of the grid of features (B, C, H, W), False on padding."""
    batch, _, height, width = features.shape
    if pixel_mask is None:
        return torch.ones(batch, height, width, dtype=torch.bool, device=features.device)
    return F.interpolate(pixel_mask[:, None].float(), size=(height, width))[:, 0].bool()


def freeze_batch_norms(module: nn.Module) -> None:
    """Replaces every batch norm inside ``module`` with a frozen one, in place."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, FrozenBatchNorm2d(child.num_features))
        else:
            freeze_batch_norms(child)


@torch.no_grad()
def fold_frozen_batch_norms(module: nn.Module) -> None:
    """Moves every frozen batch norm inside ``module`` into the convolution before it, in place.

    Convolutions that are wrapped, such as by adapters, keep their norms.
    """
    children = list(module.named_children())
    for (_, convolution), (name, norm) in itertools.pairwise(children):
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, FrozenBatchNorm2d):
            scale, shift = norm.scale_and_shift()
            convolution.weight.mul_(scale[:, None, None, None])
            convolution.bias = nn.Parameter(shift, requires_grad=convolution.weight.requires_grad)
            setattr(module, name, nn.Identity())
    for _, child in children:
        fold_frozen_batch_norms(child)


@torch.no_grad()
def initialize(module: nn.Module) -> None:
    """Initializes a convolution or a batch norm; other modules are not changed.

    Norms become the identity. Convolutions are Kaiming normal, with the fan-out of one group: torch
    counts the outputs of all groups, which makes depthwise convolutions far too small.
    """
    if isinstance(module, nn.Conv2d):
        outputs = module.out_channels // module.groups * math.prod(module.kernel_size)
        initialization.normal_(module.weight, std=math.sqrt(2 / outputs))
        if module.bias is not None:
            initialization.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d):
        for name, values in module.state_dict(keep_vars=True).items():
            is_scale = name in ("weight", "running_var")
            (initialization.ones_ if is_scale else initialization.zeros_)(values)


def image_encoder(
    config: PreTrainedConfig, freeze_norms: bool = True, freeze_first_layers: bool = True
) -> ResNetEncoder | EfficientNetEncoder:
    """Builds the encoder for a backbone configuration of transformers.

    Args:
        config: of a ResNet or an EfficientNet.
        freeze_norms: whether batch norm keeps the statistics and weights that are loaded.
        freeze_first_layers: whether the stem and the first stage of a ResNet are not trained.

    Raises:
        ValueError: the configuration is for neither ResNet nor EfficientNet.
    """
    # The choice for the model's attention is also set here, where there is none.
    config = copy.deepcopy(config)
    config._attn_implementation = None
    if isinstance(config, ResNetConfig):
        return ResNetEncoder(config, freeze_norms, freeze_first_layers)
    if isinstance(config, EfficientNetConfig):
        return EfficientNetEncoder(config, freeze_norms)
    raise ValueError(f"no image encoder for a backbone of type {config.model_type!r}")

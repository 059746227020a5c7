"""The memory layout of image features, which the encoder's convolutions decide."""

import copy

import pytest
import torch
from torch import nn

from mdetr_model.training.memory_format import (
    convert_convolutions,
    convert_moments,
    memory_format_of,
)
from tests.mdetr_model.small import tiny_model


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "expected"),
    [
        (4, 1, 2, torch.contiguous_format),
        (7, 1, 2, torch.contiguous_format),
        (8, 1, 2, torch.channels_last),
        (4, 3, 2, torch.channels_last),
        (4, 1, 1, torch.channels_last),
    ],
)
def test_narrow_strided_1x1_convolution_rules_out_channels_last(
    channels: int, kernel: int, stride: int, expected: torch.memory_format
) -> None:
    strided = nn.Conv2d(channels, 16, kernel, stride)
    encoder = nn.Sequential(nn.Conv2d(3, channels, 3), nn.Sequential(strided))
    assert memory_format_of(encoder) == expected


@pytest.mark.parametrize(
    ("channels", "expected"), [(4, torch.contiguous_format), (8, torch.channels_last)]
)
def test_features_have_the_memory_format_of_the_encoder(
    channels: int, expected: torch.memory_format
) -> None:
    resnet = {
        "model_type": "resnet",
        "layer_type": "basic",
        "embedding_size": channels,
        "hidden_sizes": [channels, 16],
        "depths": [1, 1],
    }
    encoder = tiny_model(backbone_config=resnet).mdetr.image_encoder
    encoder.memory_format = memory_format_of(encoder)
    assert encoder.memory_format == expected
    pixels = torch.randn(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    features = encoder(pixels)
    assert features.is_contiguous(memory_format=expected)


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_gradients_have_the_strides_of_their_weights(memory_format: torch.memory_format) -> None:
    """So autograd copies none, and neither does DDP."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 16, 1), nn.Conv2d(16, 8, 3)
    )
    before = [parameter.detach().clone() for parameter in model.parameters()]
    convert_convolutions(model, memory_format)
    assert all(map(torch.equal, before, model.parameters()))
    pixels = torch.randn(2, 3, 32, 32).contiguous(memory_format=memory_format)
    outputs = model(pixels)
    weights = [parameter for parameter in model.parameters() if parameter.ndim == 4]
    for weight, gradient in zip(weights, torch.autograd.grad(outputs.sum(), weights), strict=True):
        assert gradient.stride() == weight.stride()


def test_moments_of_another_layout_are_converted_with_their_values() -> None:
    """As in a checkpoint from before the weights had theirs: fused kernels read memory in order."""
    torch.manual_seed(0)
    old, new = nn.Conv2d(4, 8, 3), nn.Conv2d(4, 8, 3)
    new.load_state_dict(old.state_dict())
    convert_convolutions(new, torch.channels_last)
    optimizers = [torch.optim.AdamW(model.parameters(), fused=True) for model in (old, new)]
    gradients = [torch.randn(8, 4, 3, 3) for _ in range(2)]
    _step(old, optimizers[0], gradients[0])
    new.load_state_dict(old.state_dict())
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    convert_moments(optimizers[1])
    for model, optimizer in zip((old, new), optimizers, strict=True):
        _step(model, optimizer, gradients[1])
    assert new.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(new.weight, old.weight)


def _step(model: nn.Conv2d, optimizer: torch.optim.Optimizer, gradient: torch.Tensor) -> None:
    model.weight.grad = torch.empty_like(model.weight).copy_(gradient)
    optimizer.step()

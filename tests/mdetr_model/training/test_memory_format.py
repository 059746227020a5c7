"""The memory layout of image features, which the encoder's convolutions decide."""

import pytest
import torch
from torch import nn

from mdetr_model.training.memory_format import match_weight_strides, memory_format_of
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


def test_strides_of_weights_are_those_of_their_gradients() -> None:
    """Where both have the same layout; the other gradients are copied to that of the weight."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 16, 1), nn.Conv2d(16, 4, 3)
    )
    before = [parameter.detach().clone() for parameter in model.parameters()]
    match_weight_strides(model, torch.channels_last)
    assert all(map(torch.equal, before, model.parameters()))
    pixels = torch.randn(2, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    model(pixels).sum().backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.stride() == parameter.stride()

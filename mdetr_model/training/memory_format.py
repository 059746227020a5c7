"""The memory layout of image features in training, and of the weights of convolutions."""

import torch
from torch import nn

# Fewer input channels than this are not safe: see ``memory_format_of``.
MIN_CHANNELS = 8


def memory_format_of(encoder: nn.Module) -> torch.memory_format:
    """Returns the fastest memory format in which an image encoder can be trained.

    That is channels_last, but for encoders with a 1x1 convolution of stride 2 over fewer than 8
    channels: in channels_last, the backward pass of torch 2.13 corrupts the heap for these on
    processors without AVX-512 ("double free", or SIGSEGV). Only tiny models, such as those of the
    tests, have such convolutions.
    """
    for module in encoder.modules():
        if (
            isinstance(module, nn.Conv2d)
            and module.kernel_size == (1, 1)
            and module.stride == (2, 2)
            and module.in_channels < MIN_CHANNELS
        ):
            return torch.contiguous_format
    return torch.channels_last


def match_weight_strides(model: nn.Module, memory_format: torch.memory_format) -> None:
    """Gives convolutions the strides of a memory format, where that moves no weight.

    Those are the 1x1 and the depthwise ones, whose layout is the same in all formats: only the
    strides of dimensions of size 1 differ, which address nothing. But DDP compares them with those
    of the gradient, which autograd computes in the format of the features, and warns of a
    difference.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.weight.is_contiguous(
            memory_format=memory_format
        ):
            weight = module.weight.data
            strides = torch.empty_like(weight, memory_format=memory_format).stride()
            module.weight.data = weight.as_strided(weight.shape, strides)

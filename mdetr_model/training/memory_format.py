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


def convert_convolutions(model: nn.Module, memory_format: torch.memory_format) -> None:
    """Converts the weights of convolutions to a memory format.

    In that of the features, kernels need not reorder weights in every forward pass, nor autograd
    their gradients in every backward pass. 1x1 and depthwise convolutions have the same layout in
    all formats: their strides change, with which DDP compares those of the gradients.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            weight = module.weight.data
            module.weight.data = torch.empty_like(weight, memory_format=memory_format).copy_(weight)


@torch.no_grad()
def convert_moments(optimizer: torch.optim.Optimizer) -> None:
    """Gives the moments of a checkpoint the layout of the weights.

    Fused optimizers read weights and moments as they are in memory.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if value.shape == parameter.shape and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter).copy_(value)

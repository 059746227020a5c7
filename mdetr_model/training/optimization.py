"""Parameter groups, learning rate schedules and the EMA of the weights (paper, appendix A)."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import compress
from typing import Any

import torch
from torch import Tensor, nn

from mdetr_model.training.config import OptimizerConfig


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Returns AdamW's groups "rest", "backbone" and "text_encoder" of the trainable parameters."""
    peak_lrs = {
        "rest": config.lr,
        "backbone": config.lr_backbone,
        "text_encoder": config.lr_text_encoder,
    }
    parameters: dict[str, list[nn.Parameter]] = {group: [] for group in peak_lrs}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameters[_group_of(name)].append(parameter)
    return [
        {"name": group, "params": parameters[group], "lr": lr, "peak_lr": lr}
        for group, lr in peak_lrs.items()
        if parameters[group]
    ]


def _group_of(parameter_name: str) -> str:
    if ".image_encoder." in parameter_name:
        return "backbone"
    return "text_encoder" if ".text_encoder." in parameter_name else "rest"


def lr_factor(group: str, step: int, epoch_steps: int, config: OptimizerConfig) -> float:
    """Returns the factor of a group's peak learning rate that a schedule has at a step.

    Args:
        group: name of the parameter group.
        step: counted from 0 over all epochs.
        epoch_steps: steps of an epoch.
        config: schedule, epochs, ``warmup_fraction`` and ``lr_drop``.
    """
    steps = epoch_steps * config.epochs
    warmup_steps = round(config.warmup_fraction * steps)
    if config.schedule == "published":
        if group != "text_encoder":
            return 0.1 ** (step // epoch_steps // config.lr_drop)
        if step < warmup_steps:
            return step / warmup_steps
        return (steps - step) / max(1, steps - warmup_steps)
    warmup_steps = max(1, warmup_steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, steps - warmup_steps)
    return (1 + math.cos(math.pi * progress)) / 2


def set_learning_rates(
    optimizer: torch.optim.Optimizer, step: int, epoch_steps: int, config: OptimizerConfig
) -> None:
    """Sets the learning rate of every parameter group for a step.

    Published training sets the rates of a step after that step, so they are those of the next one,
    and the first step is taken with the peak rates. "cosine" sets them before.
    """
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"]
        if config.schedule == "cosine":
            group["lr"] *= lr_factor(group["name"], step, epoch_steps, config)
        elif step > 0:
            group["lr"] *= lr_factor(group["name"], step - 1, epoch_steps, config)


class EMA:
    """An exponential moving average of a model's weights and buffers, in separate memory.

    The model's tensors are listed once, since listing takes a few milliseconds: they may change
    their values and their memory, but not be replaced.

    Args:
        model: whose weights are averaged, from their initial values on.
        decay: of the average.
        warmup: whether ``decay`` is capped at ``steps / (steps + 10)`` over the first steps, so
            that initial random weights are forgotten soon. The published average has no such cap.
    """

    def __init__(self, model: nn.Module, decay: float, *, warmup: bool = False) -> None:
        self.decay = decay
        self.warmup = warmup
        self.steps = 0
        tensors: dict[str, Tensor] = model.state_dict(keep_vars=True)
        self.values = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        self._tensors = list(tensors.values())
        averages = list(self.values.values())
        is_float = [tensor.is_floating_point() for tensor in averages]
        is_integer = [not each for each in is_float]
        self._weights = list(compress(self._tensors, is_float))
        self._averages = list(compress(averages, is_float))
        self._integers = list(compress(self._tensors, is_integer))
        self._integer_copies = list(compress(averages, is_integer))

    @torch.no_grad()
    def update(self) -> None:
        """Updates the average with the model's current weights; copies integer buffers."""
        self.steps += 1
        decay = self.decay
        if self.warmup:
            decay = min(decay, self.steps / (self.steps + 10))
        torch._foreach_lerp_(self._averages, self._weights, 1 - decay)
        if self._integers:
            torch._foreach_copy_(self._integer_copies, self._integers)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Swaps the averaged values into the model inside the block, then restores its own."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for tensor, value in zip(self._tensors, self.values.values(), strict=True):
            before = tensor.clone()
            tensor.copy_(value)
            value.copy_(before)

    def state_dict(self) -> dict[str, Any]:
        """Returns the number of steps and the averaged values."""
        return {"steps": self.steps, "values": self.values}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what ``state_dict`` returned."""
        self.steps = state["steps"]
        for name, value in state["values"].items():
            self.values[name].copy_(value)

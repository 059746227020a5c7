"""Parameter groups, learning rates and the average of the weights (paper, appendix A)."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mdetr_model.training.config import Optimization

WARM = "text"  # the group whose rate rises first and falls steadily in the published schedule


def parameter_groups(model: nn.Module, options: Optimization) -> list[dict[str, object]]:
    """The groups "rest", "image" and "text" of the parameters that are trained, for AdamW."""
    rates = {
        "rest": options.lr,
        "image": options.lr_backbone,
        "text": options.lr_text_encoder,
    }
    members: dict[str, list[nn.Parameter]] = {name: [] for name in rates}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            members[_group_of(name)].append(parameter)
    return [
        {"name": name, "params": members[name], "lr": rate, "peak": rate}
        for name, rate in rates.items()
        if members[name]
    ]


def _group_of(name: str) -> str:
    if ".image_encoder." in name:
        return "image"
    return "text" if ".text_encoder." in name else "rest"


def rate_factor(group: str, step: int, steps_of_epoch: int, options: Optimization) -> float:
    """What the peak rate of a group is multiplied by at a step, counted from 0 over all epochs."""
    steps = steps_of_epoch * options.epochs
    rise = max(1, round(options.warmup_fraction * steps))
    if options.schedule == "published" and group != WARM:
        return 1.0 if step // steps_of_epoch < options.lr_drop else 0.1
    if step < rise:
        return (step + 1) / rise
    share = (step - rise) / max(1, steps - rise)
    return 1 - share if options.schedule == "published" else (1 + math.cos(math.pi * share)) / 2


def set_rates(
    optimizer: torch.optim.Optimizer, step: int, steps_of_epoch: int, options: Optimization
) -> None:
    """Gives every group its rate at a step."""
    for group in optimizer.param_groups:
        factor = rate_factor(group["name"], step, steps_of_epoch, options)
        group["lr"] = group["peak"] * factor


class EMA:
    """A moving average of a model's weights and buffers, in its own memory.

    ``decay`` is what an old value keeps of its weight at each step. Over the first steps it is
    less, so that the random weights of the start are forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.values = {name: value.clone() for name, value in _state(model).items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Takes in the weights as they are now."""
        self.steps += 1
        decay = min(self.decay, self.steps / (self.steps + 10))
        state = _state(model)
        floats = [name for name, value in self.values.items() if value.is_floating_point()]
        mine, theirs = [self.values[n] for n in floats], [state[n] for n in floats]
        torch._foreach_lerp_(mine, theirs, 1 - decay)
        for name in self.values.keys() - set(floats):
            self.values[name].copy_(state[name])

    @contextmanager
    def in_place_of(self, model: nn.Module) -> Iterator[None]:
        """The model has the averaged values inside the block, and its own ones after it."""
        self._exchange(model)
        try:
            yield
        finally:
            self._exchange(model)

    @torch.no_grad()
    def _exchange(self, model: nn.Module) -> None:
        for name, value in _state(model).items():
            kept = value.clone()
            value.copy_(self.values[name])
            self.values[name].copy_(kept)

    def state(self) -> dict[str, Any]:
        return {"steps": self.steps, "values": self.values}

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]
        for name, value in state["values"].items():
            self.values[name].copy_(value)


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in model.state_dict(keep_vars=True).items()}

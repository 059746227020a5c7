"""A training step: where the host waits, and what a step that is not finite changes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mdetr_model.distributed import DistributedContext
from mdetr_model.modeling.host_copy import HostCopy
from mdetr_model.training.config import load_config
from mdetr_model.training.flops import StepFlops
from mdetr_model.training.trainer import NonFiniteLossError, Trainer
from mdetr_model.training.training_log import read_log
from tests.end_to_end import small_training as small

# Methods of tensors and operators for which the host waits until a GPU has computed a value.
WAITING_METHODS = ("item", "tolist", "numpy", "nonzero", "__bool__", "__float__", "__int__")
WAITING_OPERATORS = ("_local_scalar_dense", "nonzero", "masked_select", "unique")


class Events(TorchDispatchMode):
    """Lists in order the operators of interest, and where the host would wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = str(function.overloadpacket).removeprefix("aten.")
        if name == "_fused_adamw_":
            self.events.append("optimizer")
        elif name.endswith("_backward"):
            self.events.append("backward")
        elif name.startswith(WAITING_OPERATORS):
            self.events.append("wait for an operator")
        return function(*args, **(kwargs or {}))


@contextmanager
def recorded_events(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Yields the list of events inside the block; no two adjacent ones are equal."""

    def recording(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def method(*args: Any, **kwargs: Any) -> Any:
            mode.events.append(name)
            return original(*args, **kwargs)

        return method

    mode = Events()
    with monkeypatch.context() as patch, mode:
        for name in WAITING_METHODS:
            patch.setattr(Tensor, name, recording("wait for a tensor", getattr(Tensor, name)))
        patch.setattr(HostCopy, "wait", recording("wait for a copy", HostCopy.wait))
        yield mode.events


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    small.write_shards(folder)
    return folder


def trainer_of(folder: Path, output: Path, **changes: Any) -> Trainer:
    config = load_config(str(small.write_config(folder, **changes))).resolve_paths(folder)
    return Trainer(config, output, DistributedContext(0, 1, torch.device("cpu")))


def test_host_waits_for_the_matching_and_for_the_step_before(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(folder, tmp_path, precision="bfloat16")
    batches = iter(trainer.loader)
    before = trainer.start_step([next(batches)])
    batch = next(batches)
    with recorded_events(monkeypatch) as events:
        trainer.start_step([batch])
        trainer.read_step(before)
    order = [event for i, event in enumerate(events) if events[i - 1 : i] != [event]]
    assert order == [
        "wait for a copy",  # the costs of the matching, which HostCopy.wait returns
        "wait for a tensor",  # its numpy(), of a tensor that is on the host
        "backward",
        "optimizer",
        "wait for a copy",
        "wait for a tensor",
    ]


def test_log_has_the_share_of_the_peak_that_the_batches_need(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the rate of an imagined device: no CPU has a known one."""
    name = "mdetr_model.training.trainer.peak_of"
    monkeypatch.setattr(name, lambda device, precision: 1e9 if precision == "tf32" else None)
    trainer = trainer_of(folder, tmp_path / "known", precision="tf32", epochs=1)
    count = StepFlops(trainer.model.config)
    flops = [count(batch) for batch in trainer.loader]
    trainer.run()
    lines = [line for line in read_log(trainer.output) if line["kind"] == "train"]
    seconds = [8 / line["samples_per_second"] for line in lines]
    shares = [count / time / 1e9 for count, time in zip(flops, seconds, strict=True)]
    assert [line["mfu"] for line in lines] == pytest.approx(shares)

    unknown = trainer_of(folder, tmp_path / "unknown", epochs=1)
    unknown.run()
    assert not any("mfu" in line for line in read_log(unknown.output))


class BesideInfiniteLoss(DistributedContext):
    """The context of a rank beside one whose loss is infinite, with finite gradients."""

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        is_losses = len(values) > 3  # else boxes, tokens, and whether to stop
        if is_losses:
            values[0] += torch.inf
        return values


def test_loss_that_is_infinite_on_another_rank_changes_no_weights(
    folder: Path, tmp_path: Path
) -> None:
    """All ranks decide alike: their weights would differ otherwise."""
    config = load_config(str(small.write_config(folder))).resolve_paths(folder)
    trainer = Trainer(config, tmp_path, BesideInfiniteLoss(0, 1, torch.device("cpu")))
    before = [value.detach().clone() for value in trainer.model.parameters()]
    taken = trainer.start_step([next(iter(trainer.loader))])
    after = list(trainer.model.parameters())
    assert all(torch.equal(value, old) for value, old in zip(after, before, strict=True))
    with pytest.raises(NonFiniteLossError, match=r"its mean over ranks inf, .* vg/"):
        trainer.read_step(taken)


def test_step_that_is_not_finite_changes_no_weights(folder: Path, tmp_path: Path) -> None:
    trainer = trainer_of(folder, tmp_path)
    batches = iter(trainer.loader)
    trainer.read_step(trainer.start_step([next(batches)]))
    with torch.no_grad():
        trainer.model.object_heads.tokens.bias[0] = torch.inf
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    moments = [
        {name: value.clone() for name, value in state.items()}
        for state in trainer.optimizer.state.values()
    ]
    taken = trainer.start_step([next(batches)])
    for name, value in trainer.model.named_parameters():
        assert torch.equal(value, before[name]), name
    for state, expected in zip(trainer.optimizer.state.values(), moments, strict=True):
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[name], value) for name, value in expected.items())
    with pytest.raises(NonFiniteLossError, match=r"^step 1 on rank 0: the loss is nan, .* vg/"):
        trainer.read_step(taken)

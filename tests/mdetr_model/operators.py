"""Counts the operators that torch computes: on a GPU, each is at least one kernel."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class OperatorCounter(TorchDispatchMode):
    """Counts operators by name, without those that only return a view of a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if not function.is_view and function.namespace == "aten":
            self.counts[str(function.overloadpacket).removeprefix("aten.")] += 1
        return function(*args, **(kwargs or {}))


@contextmanager
def count_operators() -> Iterator[Counter[str]]:
    """Yields the counts of the operators inside the block."""
    counter = OperatorCounter()
    with counter, torch.no_grad():
        yield counter.counts

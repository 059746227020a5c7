"""What a training run tells: a bar on the terminal, a line of JSON and TensorBoard every few steps.

Only rank 0 has one.
"""

import json
import math
import os
import time
from pathlib import Path
from statistics import fmean
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from mdetr_model.data.samples import Batch

NAME = "log.jsonl"


class TrainingLog:
    """The log of a run in the folder ``output``, from a step on.

    Lines of later steps, which a run that was killed wrote after its last checkpoint, are removed:
    every step is in the file once.
    """

    def __init__(self, output: Path, step: int, steps: int) -> None:
        output.mkdir(parents=True, exist_ok=True)
        path = output / NAME
        self._before = kept = [line for line in read_log(output) if line["step"] <= step]
        temporary = output / f".{NAME}.tmp"
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        temporary.replace(path)
        self._file = path.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(output / "tensorboard"), purge_step=step + 1)
        self.bar = tqdm(total=steps, initial=step, unit="step", dynamic_ncols=True)

    def write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Records values after a step; ``kind`` is "train" or "validation"."""
        self._file.write(json.dumps(_finite({"kind": kind, "step": step, **values})) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(f"{kind}/{name}", value, step)

    def has(self, kind: str, step: int) -> bool:
        """Whether there is a line of that kind for a step."""
        return any(line["kind"] == kind and line["step"] == step for line in self._before)

    def say(self, text: str) -> None:
        """Prints a line above the bar."""
        self.bar.write(text)

    def close(self) -> None:
        self.bar.close()
        self._board.close()
        os.fsync(self._file.fileno())
        self._file.close()


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """With None, which is JSON, for infinity and what is no number, which are not."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


class Meter:
    """Means over the steps between two lines of the log."""

    def __init__(self) -> None:
        self.waited = self.paused = 0.0  # seconds: for batches; for what is not training
        self._begin = time.perf_counter()
        self._samples = 0
        self._padding: list[float] = []
        self._dropped_spans = self._unknown_answers = 0
        self._values: list[dict[str, float]] = []

    def took(self, samples: int, values: dict[str, float], batches: list[Batch]) -> None:
        """Counts a step: the samples of all ranks, the losses, and the batches of this rank."""
        self._samples += samples
        self._values.append(values)
        self._padding += [batch.padding for batch in batches]
        self._dropped_spans += sum(batch.dropped_spans for batch in batches)
        self._unknown_answers += sum(batch.unknown_answers for batch in batches)

    def means(self) -> dict[str, float]:
        """``data_wait`` is the share of the time that was spent waiting for batches, ``padding``
        the share of the pixels that was padding; ``dropped_spans`` and ``unknown_answers`` are
        counts of this rank, like these.
        """
        seconds = time.perf_counter() - self._begin - self.paused
        return {
            **{name: fmean(of[name] for of in self._values) for name in self._values[0]},
            "samples_per_second": self._samples / seconds,
            "data_wait": self.waited / seconds,
            "padding": fmean(self._padding),
            "dropped_spans": self._dropped_spans,
            "unknown_answers": self._unknown_answers,
        }


def read_log(output: Path) -> list[dict[str, Any]]:
    """The lines of a run's log; the last one only if it was written to its end."""
    path = output / NAME
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]

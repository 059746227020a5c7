"""The log of a run: a progress bar, `log.jsonl`, TensorBoard, trackers. Only rank 0 has one."""

import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from mdetr_model.data.samples import Batch
from mdetr_model.training.trackers import Tracker
from shards.atomic import atomic_write

FILE_NAME = "log.jsonl"


class TrainingLog:
    """The log of a run in the folder ``output``, from a step on.

    Lines of later steps, which a killed run wrote after its last checkpoint, are removed: every
    step is in the file once.

    Args:
        output: the run's folder.
        step: the last step that was taken before.
        total_steps: the length of the progress bar.
        trackers: they get all lines from now on, and are closed with the log.
    """

    def __init__(
        self, output: Path, step: int, total_steps: int, trackers: Sequence[Tracker] = ()
    ) -> None:
        output.mkdir(parents=True, exist_ok=True)
        path = output / FILE_NAME
        self._earlier_lines = [line for line in read_log(output) if line["step"] <= step]
        with atomic_write(path) as file:
            file.write("".join(json.dumps(line) + "\n" for line in self._earlier_lines).encode())
        self._file = path.open("a", encoding="utf-8")
        self._tensorboard = SummaryWriter(str(output / "tensorboard"), purge_step=step + 1)
        self._trackers = trackers
        self.bar = tqdm(total=total_steps, initial=step, unit="step", dynamic_ncols=True)

    def write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Logs values after a step; ``kind`` is "train" or "validation"."""
        self._file.write(json.dumps(_nan_as_null({"kind": kind, "step": step, **values})) + "\n")
        self._file.flush()
        named = {f"{kind}/{name}": value for name, value in values.items()}
        for name, value in named.items():
            self._tensorboard.add_scalar(name, value, step)
        for tracker in self._trackers:
            tracker.log(named, step=step)

    def has(self, kind: str, step: int) -> bool:
        """Returns whether a line of this kind was logged for a step before the run was resumed."""
        return any(line["kind"] == kind and line["step"] == step for line in self._earlier_lines)

    def print(self, text: str) -> None:
        """Prints a line above the bar."""
        self.bar.write(text)

    def close(self) -> None:
        """Closes bar and files."""
        self.bar.close()
        self._tensorboard.close()
        for tracker in self._trackers:
            tracker.finish()
        os.fsync(self._file.fileno())
        self._file.close()


def _nan_as_null(values: dict[str, Any]) -> dict[str, Any]:
    """Replaces infinity and NaN, which are not JSON, with None."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


class IntervalMetrics:
    """Means and rates over the steps between two lines of the log.

    Attributes:
        data_seconds: time spent waiting for batches.
        excluded_seconds: time spent on checkpoints and validation, which is not counted.
        flops: floating point operations of this rank's batches, where they are counted.
    """

    def __init__(self) -> None:
        self.data_seconds = self.excluded_seconds = self.flops = 0.0
        self._tokens = 0
        self._begin = time.perf_counter()
        self._samples = 0
        self._padding: list[float] = []
        self._dropped_spans = self._unknown_answers = 0
        self._values: list[dict[str, float]] = []

    def add_step(
        self, samples: int, tokens: int, values: dict[str, float], batches: list[Batch]
    ) -> None:
        """Adds a step: samples and tokens of all ranks, losses, and the batches of this rank."""
        self._samples += samples
        self._tokens += tokens
        self._values.append(values)
        self._padding += [batch.padding for batch in batches]
        self._dropped_spans += sum(batch.dropped_spans for batch in batches)
        self._unknown_answers += sum(batch.unknown_answers for batch in batches)

    def seconds(self) -> float:
        """Returns the time since the begin of the interval, without what is excluded."""
        return time.perf_counter() - self._begin - self.excluded_seconds

    def summary(self, seconds: float) -> dict[str, float]:
        """Returns the means of all values, and the throughput of an interval of a length.

        ``data_wait`` is the fraction of the time spent waiting for batches, ``padding`` that of
        the pixels that is padding; ``dropped_spans`` and ``unknown_answers`` are counts. These
        four are those of this rank.
        """
        return {
            **{name: fmean(step[name] for step in self._values) for name in self._values[0]},
            "samples_per_second": self._samples / seconds,
            "tokens_per_second": self._tokens / seconds,
            "data_wait": self.data_seconds / seconds,
            "padding": fmean(self._padding),
            "dropped_spans": self._dropped_spans,
            "unknown_answers": self._unknown_answers,
        }


def read_log(output: Path) -> list[dict[str, Any]]:
    """Returns the complete lines of a run's log, without a truncated last one.

    Raises:
        ValueError: a line is not of a log; the message has its number.
    """
    path = output / FILE_NAME
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    return [_parse(line, f"{path}, line {number}") for number, line in enumerate(lines[:-1], 1)]


def _parse(line: bytes, place: str) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{place}: not JSON: {error}") from error
    if not isinstance(values, dict) or not values.keys() >= {"kind", "step"}:
        raise ValueError(f"{place}: not of the log of a training run")
    return values

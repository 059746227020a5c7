"""The learning curve of a training run, from its log."""

from pathlib import Path
from typing import NamedTuple

import msgspec

from mdetr_model.training.trainer import CONFIG_NAME
from mdetr_model.training.training_log import FILE_NAME, read_log
from schemas.decodable import decodable


class LossPoint(NamedTuple):
    """The mean loss of the steps since the previous point.

    Attributes:
        step: the last of these steps.
        samples: number of samples trained until then.
        minutes: of training until then, without validation and checkpoints.
        loss: the mean; None if it is not a number.
    """

    step: int
    samples: int
    minutes: float
    loss: float | None


class ValidationPoint(NamedTuple):
    """The metrics of a validation, after as many steps, samples and minutes as a `LossPoint`."""

    step: int
    samples: int
    minutes: float
    metrics: dict[str, float]


class LearningCurve(NamedTuple):
    """The course of a run; ``epochs`` is the number that its configuration states."""

    epochs: int
    losses: list[LossPoint]
    validations: list[ValidationPoint]

    @property
    def samples(self) -> int:
        """The number of samples trained."""
        validated = max((point.samples for point in self.validations), default=0)
        return max(self.losses[-1].samples, validated)

    @property
    def minutes(self) -> float:
        """The minutes of training."""
        return self.losses[-1].minutes


class _OptimizerConfig(msgspec.Struct):
    epochs: int
    global_batch_size: int


class _Config(msgspec.Struct):
    optimizer: _OptimizerConfig


def learning_curve(run: Path) -> LearningCurve:
    """Reads the learning curve from the folder of a run.

    Raises:
        OSError: the folder has no configuration.
        ValueError: it is not that of a run, or no step is logged.
    """
    path = run / CONFIG_NAME
    try:
        config = msgspec.json.decode(path.read_bytes(), type=decodable(_Config)).optimizer
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not the configuration of a training run: {error}") from error
    losses: list[LossPoint] = []
    validations: list[ValidationPoint] = []
    minutes, previous = 0.0, 0
    for line in read_log(run):
        step = line["step"]
        samples = step * config.global_batch_size
        if line["kind"] == "train":
            new_samples = (step - previous) * config.global_batch_size
            minutes += new_samples / line["samples_per_second"] / 60
            previous = step
            losses.append(LossPoint(step, samples, minutes, line["loss"]))
        else:
            metrics = {name: v for name, v in line.items() if name not in ("kind", "step")}
            validations.append(ValidationPoint(step, samples, minutes, metrics))
    if not losses:
        raise ValueError(f"{run / FILE_NAME} has no steps: expected the folder of a training run")
    return LearningCurve(config.epochs, losses, validations)

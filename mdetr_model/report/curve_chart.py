"""Curves over the samples of a run: coordinates in the units of the SVG of ``shards``' charts."""

import math
from statistics import fmean
from typing import NamedTuple

from mdetr_model.training.learning_curve import LearningCurve
from shards.inspection.report.charts import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Tick,
    multiples,
    round_step,
)

MAX_POINTS = 150  # of the curve of the loss; each is the mean of some lines of the log
X_STEPS, Y_STEPS = 5, 5  # at most, between ticks
RECALL_TICKS = [0, 0.2, 0.4, 0.6, 0.8, 1]


class CurvePoint(NamedTuple):
    """A value of a curve at a coordinate of the plot, and its tooltip."""

    x: float
    y: float
    label: str


class CurveChart(NamedTuple):
    """A curve with ticks, and a horizontal line to compare it with, if there is one."""

    title: str
    points: list[CurvePoint]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    baseline: Tick | None


def loss_chart(curve: LearningCurve) -> CurveChart:
    """Returns the curve of the training loss."""
    losses = [(p.samples, p.minutes, p.loss) for p in curve.losses if p.loss is not None]
    group = max(1, math.ceil(len(losses) / MAX_POINTS))
    means = []
    for start in range(0, len(losses), group):
        points = losses[start : start + group]
        samples, minutes, _ = points[-1]
        means.append((samples, minutes, fmean(loss for _, _, loss in points)))
    largest = max((loss for _, _, loss in means), default=1.0)
    step = round_step(largest, Y_STEPS)
    y_ticks = multiples(step, max(1, math.ceil(largest / step)) * step)
    return _chart("Training loss", curve, means, y_ticks)


def recall_chart(curve: LearningCurve, baseline: tuple[str, float]) -> CurveChart | None:
    """Returns the curve of recall@1 over the validations; None if there is none.

    Args:
        curve: of the run. Of several validation splits, the first one is shown.
        baseline: its name and recall@1, for a line.
    """
    recalls = [
        (point.samples, point.minutes, value)
        for point in curve.validations
        for value in _recalls_at_1(point.metrics)[:1]
    ]
    if not recalls:
        return None
    return _chart("Recall@1 in validation", curve, recalls, RECALL_TICKS, baseline)


def _recalls_at_1(metrics: dict[str, float]) -> list[float]:
    return [value for name, value in metrics.items() if name.endswith(" recall@1")]


def _chart(
    title: str,
    curve: LearningCurve,
    values: list[tuple[int, float, float]],
    y_ticks: list[float],
    baseline: tuple[str, float] | None = None,
) -> CurveChart:
    """Returns a chart of samples, minutes and values, from 0 to the end of the run."""
    y_end = y_ticks[-1]

    def x(samples: float) -> float:
        return LEFT + (RIGHT - LEFT) * samples / curve.samples

    def y(value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * value / y_end

    return CurveChart(
        title=title,
        points=[
            CurvePoint(x(samples), y(value), f"{samples:,} samples, {minutes:.1f} min: {value:.3g}")
            for samples, minutes, value in values
        ],
        x_ticks=[
            Tick(x(samples), f"{samples:,}")
            for samples in multiples(round_step(curve.samples, X_STEPS), curve.samples)
        ],
        y_ticks=[Tick(y(value), f"{value:.3g}") for value in y_ticks],
        baseline=Tick(y(baseline[1]), f"{baseline[0]} {baseline[1]:.3f}") if baseline else None,
    )

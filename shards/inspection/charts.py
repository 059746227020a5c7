"""Histograms as bars: where each bar, tick and line of a chart lies, in units of its SVG."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from shards.format.stats import Histogram

WIDTH, HEIGHT = 360, 200
LEFT, RIGHT, TOP, BOTTOM = 42, 350, 30, 160  # of the area that has the bars
FEWEST_BARS, MOST_BARS = 5, 55  # that an axis has room for


class Measure(NamedTuple):
    """What a histogram counts: ``unit`` is below its axis, ``of`` is what its shares are of.

    ``continuous`` values are percents with all that is between them, the others are whole numbers.
    """

    name: str
    unit: str
    of: str
    continuous: bool = False


class Bar(NamedTuple):
    """``n`` of the counted objects, a ``share`` of all, have one of these values."""

    x: float
    y: float
    width: float
    height: float
    values: str
    n: int
    share: float


class Tick(NamedTuple):
    at: float
    label: str


class Chart(NamedTuple):
    """A histogram of ``n`` objects; ``mean`` and ``limit`` are upright lines, or None."""

    title: str
    measure: Measure
    n: int
    bars: list[Bar]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    mean: Tick | None
    limit: Tick | None


def charts(
    measure: Measure,
    histograms: Mapping[str, Histogram],
    means: Mapping[str, float | None],
    limit: int | None = None,
) -> list[Chart]:
    """One chart for each title, all with the same axes, so that they can be compared.

    Bars are shares of what a histogram counts. Nothing was counted: a chart without bars.
    """
    width = _bar_width(list(histograms.values()), limit or 0)
    counts = {title: _rebinned(of, width) for title, of in histograms.items()}
    ends = (start + width for of in counts.values() for start in of)
    end = max([limit or 0, FEWEST_BARS * width, *ends])
    shares = [n / sum(of.values()) for of in counts.values() for n in of.values()]
    top = max(shares, default=0)
    x_step, y_step = _step(end, 7), _step(100 * top, 5) / 100
    top = math.ceil(top / y_step - 1e-9) * y_step
    # A whole number fills the axis up to the next one, and has its tick in the middle.
    middle = 0.0 if measure.continuous or width > 1 else 0.5

    def x(value: float) -> float:
        return LEFT + (RIGHT - LEFT) * value / end

    def y(share: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * share / max(top, 1e-9)

    def chart(title: str) -> Chart:
        total = sum(counts[title].values())
        mean = means[title]
        offset = 0.0 if measure.continuous else 0.5
        return Chart(
            title,
            measure,
            total,
            [
                Bar(
                    x(start) + 0.5,
                    y(n / total),
                    x(start + width) - x(start) - 1,
                    BOTTOM - y(n / total),
                    _values(start, width, measure.continuous),
                    n,
                    n / total,
                )
                for start, n in sorted(counts[title].items())
            ],
            [Tick(x(value + middle), f"{value:,}") for value in _multiples(x_step, end - middle)],
            [Tick(y(share), f"{100 * share:.3g} %") for share in _multiples(y_step, top)],
            None if mean is None else Tick(x(mean + offset), f"{mean:.3g}"),
            None if limit is None else Tick(x(limit), f"{limit:,}"),
        )

    return [chart(title) for title in histograms]


def _bar_width(histograms: Sequence[Histogram], limit: int) -> int:
    """A multiple of the bins' width: as few values a bar as ``MOST_BARS`` allow."""
    width = histograms[0].width
    end = max([limit, *(start + width for of in histograms for start in of.bins)])
    return width * next(n for n in _round_numbers() if end <= MOST_BARS * width * n)


def _rebinned(histogram: Histogram, width: int) -> dict[int, int]:
    wider: dict[int, int] = {}
    for start, n in histogram.bins.items():
        wider[start // width * width] = wider.get(start // width * width, 0) + n
    return wider


def _values(start: int, width: int, continuous: bool) -> str:
    if continuous:  # all of something, 100 %, is in the last bin below
        return f"{start:,} {'to' if start + width == 100 else 'up to'} {start + width:,}"
    return f"{start:,}" if width == 1 else f"{start:,} to {start + width - 1:,}"


def _step(end: float, most: int) -> int:
    """A round number that makes at most so many steps up to ``end``."""
    return next(n for n in _round_numbers() if end <= most * n)


def _round_numbers() -> Sequence[int]:
    return [digit * 10**power for power in range(12) for digit in (1, 2, 5)]


def _multiples(step: float, end: float) -> list[float]:
    return [step * i for i in range(math.floor(end / step + 1e-9) + 1)]

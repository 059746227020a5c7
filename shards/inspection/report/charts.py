"""Histograms as bar charts: the coordinates of bars, ticks and lines in units of an SVG."""

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from shards.format.stats import Histogram

WIDTH, HEIGHT = 360, 200
LEFT, RIGHT, TOP, BOTTOM = 42, 350, 30, 160  # of the plot area
MIN_BARS, MAX_BARS = 5, 55  # that an axis has room for


class Measure(NamedTuple):
    """A quantity: ``unit`` labels the axis of its histogram, ``counted`` names the counted items.

    ``continuous`` values are percentages, all others whole numbers.
    """

    name: str
    unit: str
    counted: str
    continuous: bool = False


class Bar(NamedTuple):
    """A bar (xywh): ``frequency`` values, a ``share`` of all, are in the range ``values``."""

    x: float
    y: float
    width: float
    height: float
    values: str
    frequency: int
    share: float


class Tick(NamedTuple):
    """A label at a coordinate of an axis."""

    position: float
    label: str


class Chart(NamedTuple):
    """A histogram of ``total`` values; ``mean`` and ``limit`` are vertical lines, or None."""

    title: str
    measure: Measure
    total: int
    bars: list[Bar]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    mean: Tick | None
    limit: Tick | None


class _Axes(NamedTuple):
    """The scales that all charts of a measure share: the largest value, the largest share."""

    bar_width: int
    x_end: float
    y_end: float
    x_step: float
    y_step: float

    def x(self, value: float) -> float:
        return LEFT + (RIGHT - LEFT) * value / self.x_end

    def y(self, share: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * share / max(self.y_end, 1e-9)


def bar_charts(
    measure: Measure,
    histograms: Mapping[str, Histogram],
    means: Mapping[str, float | None],
    limit: int | None = None,
) -> list[Chart]:
    """Returns one chart per title, all with the same axes, so that they can be compared.

    Bars are shares of the values of their histogram; an empty histogram has no bars.
    """
    bar_width = _bar_width(list(histograms.values()), limit or 0)
    counts = {title: _rebin(histogram, bar_width) for title, histogram in histograms.items()}
    axes = _axes(counts.values(), bar_width, limit or 0)
    return [
        _chart(title, measure, axes, counts[title], means[title], limit) for title in histograms
    ]


def _axes(histograms: Collection[Mapping[int, int]], bar_width: int, limit: int) -> _Axes:
    ends = [start + bar_width for counts in histograms for start in counts]
    x_end = max([limit, MIN_BARS * bar_width, *ends])
    shares = [n / sum(counts.values()) for counts in histograms for n in counts.values()]
    max_share = max(shares, default=0)
    y_step = round_step(100 * max_share, 5) / 100
    return _Axes(
        bar_width=bar_width,
        x_end=x_end,
        y_end=math.ceil(max_share / y_step - 1e-9) * y_step,
        x_step=round_step(x_end, 7),
        y_step=y_step,
    )


def _chart(
    title: str,
    measure: Measure,
    axes: _Axes,
    counts: Mapping[int, int],
    mean: float | None,
    limit: int | None,
) -> Chart:
    total, width = sum(counts.values()), axes.bar_width
    # The bar of a whole number extends to the next one; its tick is in the middle of the bar.
    tick_offset = 0.0 if measure.continuous or width > 1 else 0.5
    mean_offset = 0.0 if measure.continuous else 0.5
    return Chart(
        title=title,
        measure=measure,
        total=total,
        bars=[
            Bar(
                x=axes.x(start) + 0.5,
                y=axes.y(count / total),
                width=axes.x(start + width) - axes.x(start) - 1,
                height=BOTTOM - axes.y(count / total),
                values=_range_label(start, width, measure.continuous),
                frequency=count,
                share=count / total,
            )
            for start, count in sorted(counts.items())
        ],
        x_ticks=[
            Tick(axes.x(value + tick_offset), f"{value:,}")
            for value in multiples(axes.x_step, axes.x_end - tick_offset)
        ],
        y_ticks=[
            Tick(axes.y(share), f"{100 * share:.3g} %")
            for share in multiples(axes.y_step, axes.y_end)
        ],
        mean=None if mean is None else Tick(axes.x(mean + mean_offset), f"{mean:.3g}"),
        limit=None if limit is None else Tick(axes.x(limit), f"{limit:,}"),
    )


def _bar_width(histograms: Sequence[Histogram], limit: int) -> int:
    """Returns the smallest round multiple of the bin width that needs at most ``MAX_BARS`` bars."""
    bin_width = histograms[0].width
    end = max([limit, *(start + bin_width for h in histograms for start in h.bins)])
    return bin_width * next(n for n in _round_numbers() if end <= MAX_BARS * bin_width * n)


def _rebin(histogram: Histogram, bar_width: int) -> dict[int, int]:
    counts: dict[int, int] = {}
    for start, n in histogram.bins.items():
        bar_start = start // bar_width * bar_width
        counts[bar_start] = counts.get(bar_start, 0) + n
    return counts


def _range_label(start: int, width: int, continuous: bool) -> str:
    if continuous:  # the last bin below 100 % includes 100 % itself
        return f"{start:,} {'to' if start + width == 100 else 'up to'} {start + width:,}"
    return f"{start:,}" if width == 1 else f"{start:,} to {start + width - 1:,}"


def round_step(end: float, max_steps: int) -> int:
    """Returns the smallest round number that divides ``end`` into at most ``max_steps`` steps."""
    return next(n for n in _round_numbers() if end <= max_steps * n)


def _round_numbers() -> Iterator[int]:
    return (digit * 10**power for power in itertools.count() for digit in (1, 2, 5))


def multiples(step: float, end: float) -> list[float]:
    """Returns the multiples of a step from 0 to ``end``, which is included if it is one."""
    return [step * i for i in range(math.floor(end / step + 1e-9) + 1)]

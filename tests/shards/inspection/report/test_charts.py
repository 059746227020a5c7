"""The bars, ticks and lines of charts are to scale."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.format.stats import Histogram
from shards.inspection.report.charts import (
    BOTTOM,
    LEFT,
    MAX_BARS,
    RIGHT,
    TOP,
    Measure,
    bar_charts,
)

WORDS = Measure("Words per caption", "words", "captions")
AREA = Measure("Box area", "% of the image", "boxes", continuous=True)


def histogram(width: int, *values: float) -> Histogram:
    counted = Histogram.empty(width)
    for value in values:
        counted.add(value)
    return counted


def test_bars_ticks_and_mean_share_an_axis() -> None:
    values = histogram(1, 1, 1, 1, 4)
    [chart] = bar_charts(WORDS, {"train": values}, {"train": values.mean()})
    ticks = {tick.label: tick.position for tick in chart.x_ticks}
    for bar in chart.bars:
        assert bar.x + bar.width / 2 == pytest.approx(ticks[bar.values])
    assert chart.mean is not None
    assert chart.mean.label == "1.75"
    assert chart.mean.position == pytest.approx(ticks["1"] + 0.75 * (ticks["2"] - ticks["1"]))
    y = {tick.label: tick.position for tick in chart.y_ticks}
    assert y["0 %"] == BOTTOM
    height = (BOTTOM - y["60 %"]) / 60
    assert [bar.height for bar in chart.bars] == pytest.approx([75 * height, 25 * height])


def test_continuous_values_lie_between_ticks() -> None:
    values = histogram(2, 0.5, 1.5, 3, 7)
    [chart] = bar_charts(AREA, {"train": values}, {"train": values.mean()})
    ticks = {tick.label: tick.position for tick in chart.x_ticks}
    assert chart.bars[0].values == "0 up to 2"
    assert chart.bars[0].x - 0.5 == pytest.approx(ticks["0"]) == LEFT
    assert chart.mean is not None
    assert chart.mean.label == "3"
    assert chart.mean.position == pytest.approx((ticks["2"] + ticks["4"]) / 2)


def test_100_percent_is_in_the_last_bin() -> None:
    values = Histogram.empty(2)
    for area in (99, 100, 100, 100.5):
        values.add(area, closed_at=100)
    [chart] = bar_charts(AREA, {"train": values}, {"train": values.mean()})
    assert [(bar.values, bar.frequency) for bar in chart.bars] == [
        ("98 to 100", 3),
        ("100 up to 102", 1),
    ]


def test_charts_of_splits_have_the_same_axes() -> None:
    values = {"train": histogram(1, 1, 9), "val": histogram(1, 2, 2), "test": Histogram.empty(1)}
    train, val, test = bar_charts(WORDS, values, {"train": 5.0, "val": 2.0, "test": None})
    assert train.x_ticks == val.x_ticks == test.x_ticks
    assert train.y_ticks == val.y_ticks == test.y_ticks
    assert val.bars[0].height == pytest.approx(2 * train.bars[0].height) == BOTTOM - TOP
    assert (test.total, test.bars, test.mean) == (0, [], None)


def test_limit_is_within_the_axis() -> None:
    values = histogram(10, 15, 25)
    [chart] = bar_charts(WORDS, {"train": values}, {"train": 20.0}, limit=250)
    assert chart.limit is not None
    assert chart.limit.label == "250"
    assert chart.bars[-1].x < chart.limit.position <= RIGHT


def test_empty_histogram_has_no_bars() -> None:
    [chart] = bar_charts(WORDS, {"train": Histogram.empty(1)}, {"train": None})
    assert (chart.bars, chart.mean) == ([], None)


@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=60), st.sampled_from([1, 2, 5, 10]))
def test_number_of_bars_is_limited_and_counts_add_up(numbers: list[int], width: int) -> None:
    values = histogram(width, *numbers)
    [chart] = bar_charts(WORDS, {"train": values}, {"train": values.mean()})
    assert len(chart.bars) <= MAX_BARS
    assert sum(bar.frequency for bar in chart.bars) == len(numbers)
    assert sum(bar.share for bar in chart.bars) == pytest.approx(1)
    assert 2 <= len(chart.x_ticks) <= 9
    for bar in chart.bars:
        assert bar.x >= LEFT
        assert bar.width > 2
        assert bar.x + bar.width <= RIGHT
        assert bar.y >= TOP - 1e-6
        assert bar.y + bar.height == pytest.approx(BOTTOM)

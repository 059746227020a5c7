"""Charts are right to scale."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.format.stats import Histogram
from shards.inspection.charts import BOTTOM, LEFT, MOST_BARS, RIGHT, TOP, Measure, charts

WORDS = Measure("Words of a caption", "words", "captions")
AREA = Measure("Area of a box", "% of the image", "boxes", continuous=True)


def histogram(width: int, *values: float) -> Histogram:
    of = Histogram.empty(width)
    for value in values:
        of.add(value)
    return of


def test_bars_ticks_and_the_mean_share_an_axis() -> None:
    of = histogram(1, 1, 1, 1, 4)
    [chart] = charts(WORDS, {"train": of}, {"train": of.mean()})
    ticks = {tick.label: tick.at for tick in chart.x_ticks}
    for bar in chart.bars:
        assert bar.x + bar.width / 2 == pytest.approx(ticks[bar.values])
    assert chart.mean is not None
    assert chart.mean.label == "1.75"
    assert chart.mean.at == pytest.approx(ticks["1"] + 0.75 * (ticks["2"] - ticks["1"]))
    y = {tick.label: tick.at for tick in chart.y_ticks}
    assert y["0 %"] == BOTTOM
    height = (BOTTOM - y["60 %"]) / 60
    assert [bar.height for bar in chart.bars] == pytest.approx([75 * height, 25 * height])


def test_continuous_values_lie_between_the_ticks() -> None:
    of = histogram(2, 0.5, 1.5, 3, 7)
    [chart] = charts(AREA, {"train": of}, {"train": of.mean()})
    ticks = {tick.label: tick.at for tick in chart.x_ticks}
    assert chart.bars[0].values == "0 up to 2"
    assert chart.bars[0].x - 0.5 == pytest.approx(ticks["0"]) == LEFT
    assert chart.mean is not None
    assert chart.mean.label == "3"
    assert chart.mean.at == pytest.approx((ticks["2"] + ticks["4"]) / 2)


def test_all_of_an_image_is_in_the_last_bin() -> None:
    of = Histogram.empty(2)
    for area in (99, 100, 100, 100.5):
        of.add(area, closed_at=100)
    [chart] = charts(AREA, {"train": of}, {"train": of.mean()})
    assert [(bar.values, bar.n) for bar in chart.bars] == [("98 to 100", 3), ("100 up to 102", 1)]


def test_splits_have_the_same_axes() -> None:
    of = {"train": histogram(1, 1, 9), "val": histogram(1, 2, 2), "test": Histogram.empty(1)}
    train, val, test = charts(WORDS, of, {"train": 5.0, "val": 2.0, "test": None})
    assert train.x_ticks == val.x_ticks == test.x_ticks
    assert train.y_ticks == val.y_ticks == test.y_ticks
    assert val.bars[0].height == pytest.approx(2 * train.bars[0].height) == BOTTOM - TOP
    assert (test.n, test.bars, test.mean) == (0, [], None)


def test_a_limit_is_on_the_axis() -> None:
    of = histogram(10, 15, 25)
    [chart] = charts(WORDS, {"train": of}, {"train": 20.0}, limit=250)
    assert chart.limit is not None
    assert chart.limit.label == "250"
    assert chart.bars[-1].x < chart.limit.at <= RIGHT


def test_nothing_at_all() -> None:
    [chart] = charts(WORDS, {"train": Histogram.empty(1)}, {"train": None})
    assert (chart.bars, chart.mean) == ([], None)


@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=60), st.sampled_from([1, 2, 5, 10]))
def test_many_values_make_few_bars_of_the_same_sum(values: list[int], width: int) -> None:
    of = histogram(width, *values)
    [chart] = charts(WORDS, {"train": of}, {"train": of.mean()})
    assert len(chart.bars) <= MOST_BARS
    assert sum(bar.n for bar in chart.bars) == len(values)
    assert sum(bar.share for bar in chart.bars) == pytest.approx(1)
    assert 2 <= len(chart.x_ticks) <= 9
    for bar in chart.bars:
        assert bar.x >= LEFT
        assert bar.width > 2
        assert bar.x + bar.width <= RIGHT
        assert bar.y >= TOP - 1e-6
        assert bar.y + bar.height == pytest.approx(BOTTOM)

"""The bars and bands of the flow diagram are to scale and fit together."""

import re
from itertools import pairwise

import msgspec
import pytest

from shards.format.source_counts import SourceCounts
from shards.inspection.report.flow import RECORDS_HEIGHT, FlowDiagram, flow_diagram
from shards.inspection.summary import SplitSummary

SOURCES = {
    "coco": SourceCounts(read=100, in_shards=80, rejected=1, excluded=19),
    "vg": SourceCounts(read=300, in_shards=160, merged=40, excluded=100),
}


def split(sentences: int, captions: int) -> SplitSummary:
    zeros = dict.fromkeys((field.name for field in msgspec.structs.fields(SplitSummary)), 0)
    return SplitSummary(**zeros | {"sentences": sentences, "captions": captions})


@pytest.fixture
def diagram() -> FlowDiagram:
    drawn = flow_diagram(SOURCES, {"train": split(200, 80), "val": split(40, 40)})
    assert drawn is not None
    return drawn


def test_bar_heights_are_proportional_to_counts(diagram: FlowDiagram) -> None:
    assert [(bar.name, bar.total) for bar in diagram.bars] == [
        *(("coco", 100), ("vg", 300)),
        *(("in the shards", 240), ("excluded", 119), ("merged into another", 40), ("rejected", 1)),
        *(("train", 200), ("val", 40), ("train", 80), ("val", 40)),
    ]
    for bar in diagram.bars:
        assert bar.height == pytest.approx(RECORDS_HEIGHT * bar.total / 400)
        assert bar.y + bar.height <= diagram.height


def test_bars_of_a_column_do_not_touch(diagram: FlowDiagram) -> None:
    for column in range(4):
        bars = [bar for bar in diagram.bars if bar.column == column]
        for upper, lower in pairwise(bars):
            assert upper.y + upper.height < lower.y


def test_bands_fill_the_bars_they_join(diagram: FlowDiagram) -> None:
    heights: dict[float, float] = {}
    for band in diagram.bands:
        x0, y0, x1, y1, bottom1, bottom0 = edges(band.path)
        heights[x0] = heights.get(x0, 0) + bottom0 - y0
        heights[x1] = heights.get(x1, 0) + bottom1 - y1
    columns = [
        sum(bar.height for bar in diagram.bars if bar.column == column) for column in range(4)
    ]
    in_shards = RECORDS_HEIGHT * 240 / 400
    expected = [columns[0], columns[1], in_shards, columns[2], columns[2], columns[3]]
    assert [heights[x] for x in sorted(heights)] == pytest.approx(expected, abs=0.1)
    assert {band.title for band in diagram.bands} >= {
        "coco: 1 rejected",
        "vg: 160 in the shards",
        "train: 200 sentences in 80 captions",
    }


def edges(path: str) -> tuple[float, ...]:
    """Returns x and top of the left and the right edge, and the bottoms of right and left."""
    numbers = [float(number) for number in re.findall(r"[\d.]+", path)]
    return tuple(numbers[i] for i in (0, 1, 6, 7, 8, 12))


def test_no_diagram_if_nothing_was_read() -> None:
    assert flow_diagram({}, {"train": split(0, 0)}) is None
    assert flow_diagram({"vg": SourceCounts()}, {}) is None


def test_diagram_without_records_in_shards() -> None:
    sources = {"vg": SourceCounts(read=5, excluded=5)}
    drawn = flow_diagram(sources, {"train": split(0, 0)})
    assert drawn is not None
    assert [bar.name for bar in drawn.bars] == ["vg", "excluded", "train", "train"]

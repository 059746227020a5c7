"""The diagram of records is right to scale."""

import re
from itertools import pairwise

import msgspec
import pytest

from shards.format.source_counts import SourceCounts, total
from shards.inspection.contents import SplitContents
from shards.inspection.flow import RECORDS_HEIGHT, Flow, flow

SOURCES = {
    "coco": SourceCounts(read=100, rejected=1, excluded=19),
    "vg": SourceCounts(read=300, merged=40, excluded=100),
}


def split(sentences: int, captions: int) -> SplitContents:
    fields = dict.fromkeys((of.name for of in msgspec.structs.fields(SplitContents)), 0)
    return SplitContents(**fields | {"sentences": sentences, "captions": captions})


def drawn() -> Flow:
    found = flow(SOURCES, {"train": split(200, 80), "val": split(40, 40)})
    assert found is not None
    return found


def test_records_in_shards_are_those_not_merged_rejected_or_excluded() -> None:
    assert [counts.in_shards for counts in SOURCES.values()] == [80, 160]
    assert total(SOURCES.values()).in_shards == 240


def test_heights_are_in_proportion() -> None:
    found = drawn()
    assert [(node.name, node.n) for node in found.nodes] == [
        *(("coco", 100), ("vg", 300)),
        *(("in the shards", 240), ("excluded", 119), ("merged into another", 40), ("rejected", 1)),
        *(("train", 200), ("val", 40), ("train", 80), ("val", 40)),
    ]
    for node in found.nodes:
        assert node.height == pytest.approx(RECORDS_HEIGHT * node.n / 400)
        assert node.y + node.height <= found.height


def test_bars_of_a_column_do_not_touch() -> None:
    nodes = drawn().nodes
    for column in range(4):
        for one, next_ in pairwise([node for node in nodes if node.column == column]):
            assert one.y + one.height < next_.y


def test_ribbons_fill_the_bars_they_join() -> None:
    found = drawn()
    heights: dict[float, float] = {}
    for ribbon in found.ribbons:
        x0, y0, x1, y1, bottom1, bottom0 = _edges(ribbon.path)
        heights[x0] = heights.get(x0, 0) + bottom0 - y0
        heights[x1] = heights.get(x1, 0) + bottom1 - y1
    by_column = [
        sum(node.height for node in found.nodes if node.column == column) for column in range(4)
    ]
    kept = RECORDS_HEIGHT * 240 / 400
    columns = [by_column[0], by_column[1], kept, by_column[2], by_column[2], by_column[3]]
    assert [heights[x] for x in sorted(heights)] == pytest.approx(columns, abs=0.1)
    assert {ribbon.title for ribbon in found.ribbons} >= {
        "coco: 1 rejected",
        "vg: 160 in the shards",
        "train: 200 sentences in 80 captions",
    }


def _edges(path: str) -> tuple[float, ...]:
    numbers = [float(number) for number in re.findall(r"[\d.]+", path)]
    x0, y0, x1, y1, bottom1, bottom0 = (numbers[i] for i in (0, 1, 6, 7, 8, 12))
    return x0, y0, x1, y1, bottom1, bottom0


def test_nothing_was_read() -> None:
    assert flow({}, {"train": split(0, 0)}) is None
    assert flow({"vg": SourceCounts()}, {}) is None


def test_everything_was_left_out() -> None:
    sources = {"vg": SourceCounts(read=5, excluded=5)}
    found = flow(sources, {"train": split(0, 0)})
    assert found is not None
    assert [node.name for node in found.nodes] == ["vg", "excluded", "train", "train"]

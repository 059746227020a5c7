"""Conflicts between the sentences of an image."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pipelines.captions.conflicts import conflict_graph
from pipelines.captions.rules import PAPER
from schemas import Caption
from tests.pipelines.captions.sentences import (
    NEAR_THRESHOLD,
    caption,
    images,
    plain_giou,
    plain_iou,
)


@given(images(), st.sampled_from(["giou", "iou"]))
def test_conflicts_are_overlaps_over_the_threshold(sentences: list[Caption], conflict: str) -> None:
    graph = conflict_graph(sentences, msgspec.structs.replace(PAPER, conflict=conflict))
    overlap = plain_giou if conflict == "giou" else plain_iou
    for i, one in enumerate(sentences):
        for j, other in enumerate(sentences):
            if i == j:
                assert not graph[i] >> j & 1
                continue
            values = [overlap(a.box, b.box) for a in one.regions for b in other.regions]
            if any(abs(value - 0.5) < NEAR_THRESHOLD for value in values):
                continue
            assert bool(graph[i] >> j & 1) == any(value > 0.5 for value in values)


def test_conflicts_of_more_boxes_than_one_block() -> None:
    """2,000 boxes in 1,000 sentences: sentence i names object i // 2 twice."""
    sentences = [
        caption(f"n{i}", *[(20.0 * (i // 2), 0.0, 20.0 * (i // 2) + 10, 10.0)] * 2)
        for i in range(1000)
    ]
    graph = conflict_graph(sentences, PAPER)
    assert graph == [1 << (i ^ 1) for i in range(1000)]


def test_threshold_itself_is_no_conflict() -> None:
    """The overlap of the boxes is exactly a half, in both measures."""
    sentences = [caption("a", (0, 0, 10, 10)), caption("b", (0, 0, 10, 5))]
    for conflict in ("giou", "iou"):
        rules = msgspec.structs.replace(PAPER, conflict=conflict)
        assert conflict_graph(sentences, rules) == [0, 0]
        lower = msgspec.structs.replace(rules, threshold=0.499)
        assert conflict_graph(sentences, lower) == [0b10, 0b01]


def test_conflict_is_measured_as_the_rule_states() -> None:
    """IoU 0.61, GIoU 0.59: the hull of the boxes has corners that neither box covers."""
    sentences = [caption("a", (0, 0, 20, 20)), caption("b", (3, 3, 22, 22))]
    assert conflict_graph(sentences, msgspec.structs.replace(PAPER, conflict="iou")) == [2, 1]
    stricter = msgspec.structs.replace(PAPER, conflict="iou", threshold=0.62)
    assert conflict_graph(sentences, stricter) == [0, 0]
    giou = msgspec.structs.replace(PAPER, conflict="giou", threshold=0.6)
    assert conflict_graph(sentences, giou) == [0, 0]
    assert conflict_graph(sentences, msgspec.structs.replace(giou, conflict="iou")) == [2, 1]


def test_sentence_does_not_conflict_with_itself() -> None:
    box = (0.0, 0.0, 10.0, 10.0)
    assert conflict_graph([caption("a", box, box)], PAPER) == [0]
    assert conflict_graph([caption("a", box, box), caption("b")], PAPER) == [0, 0]
    assert conflict_graph([], PAPER) == []

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

"""Joining the sentences of an image into captions."""

import itertools
import time
import tracemalloc

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings

from pipelines.captions.combine import _runs, combine, join
from pipelines.captions.conflicts import conflict_graph
from pipelines.captions.rules import MDETR, PAPER
from schemas import Caption, Provenance, Region
from schemas.sentences import as_sentence
from tests.pipelines.captions.sentences import NEAR_THRESHOLD, caption, images, plain_giou


def copied(captions: list[Caption]) -> list[Caption]:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(captions), type=list[Caption])


@given(images())
@settings(max_examples=200)
def test_combined_captions_follow_the_paper_rules(sentences: list[Caption]) -> None:
    by_record = {s.provenance[0].record: s for s in sentences}
    captions = combine(copied(sentences), PAPER)

    # Every sentence is in exactly one caption.
    parts = [part.record for c in captions for part in c.provenance]
    assert sorted(parts) == sorted(by_record)
    for c in captions:
        assert len(c.text) < 250
        # The caption consists of its sentences with full stops, at the spans in the provenance.
        assert c.text == " ".join(as_sentence(by_record[p.record].text) for p in c.provenance)
        for part in c.provenance:
            assert c.text[slice(*part.span)] == by_record[part.record].text
        # Each region is its sentence's, on the same characters.
        regions = [(p, r) for p in c.provenance for r in by_record[p.record].regions]
        assert len(regions) == len(c.regions)
        for (part, raw), region in zip(regions, c.regions, strict=True):
            assert (region.box, region.area) == (raw.box, raw.area)
            sentence_text = by_record[part.record].text
            assert [c.text[a:b] for a, b in region.spans] == [
                sentence_text[a:b] for a, b in raw.spans
            ]
            assert all(part.span[0] <= a < b <= part.span[1] for a, b in region.spans)
        # No two of its sentences refer to the same object.
        for one, other in itertools.combinations(c.provenance, 2):
            for a in by_record[one.record].regions:
                for b in by_record[other.record].regions:
                    assert plain_giou(a.box, b.box) <= 0.5 + NEAR_THRESHOLD


@given(images())
def test_best_makes_no_more_captions_than_first_fit(sentences: list[Caption]) -> None:
    greedy = msgspec.structs.replace(PAPER, coloring="first_fit")
    assert len(combine(sentences, PAPER)) <= len(combine(sentences, greedy))


@given(images())
def test_combine_is_deterministic(sentences: list[Caption]) -> None:
    for rules in (PAPER, MDETR):
        assert combine(copied(sentences), rules) == combine(copied(sentences), rules)


def test_mdetr_rules_have_the_published_order_and_length() -> None:
    """Most conflicts first, the last among ties; raw lengths plus 2 may reach 250."""
    box, other = (0.0, 0.0, 10.0, 10.0), (50.0, 50.0, 60.0, 60.0)
    sentences = [
        caption("a" * 100, box, record="0"),
        caption("b" * 100, other, record="1"),
        caption("c" * 148, record="2"),
        caption("d" * 101, box, record="3"),
    ]
    # 3 and 0 conflict and go first; 2 fits after 0 (248 + 2 = 250) and not after 3; 1 after 3.
    groups = [[p.record for p in c.provenance] for c in combine(sentences, MDETR)]
    assert groups == [["3", "1"], ["0", "2"]]


@pytest.mark.parametrize(("length", "captions"), [(124, 1), (125, 2)])
def test_joined_caption_has_fewer_characters_than_the_limit(length: int, captions: int) -> None:
    """With full stops and the space between them: 249 characters, and 250."""
    sentences = [caption("a" * 123), caption("b" * (length - 1))]
    assert len(combine(sentences, PAPER)) == captions


def test_mdetr_rules_let_a_single_long_sentence_pass() -> None:
    [one] = combine([caption("a" * 300)], MDETR)
    assert one.text == "a" * 300 + "."


def test_flickr30k_is_separate_or_joined_by_rule() -> None:
    sentences = [
        caption("a dog", dataset="flickr30k", record="5#0"),
        caption("a cat", dataset="flickr30k", record="5#1"),
        caption("a mat", record="7"),
    ]
    assert [c.text for c in combine(sentences, PAPER)] == ["a dog. a cat. a mat."]
    assert [c.text for c in combine(sentences, MDETR)] == ["a dog", "a cat", "a mat."]


@pytest.mark.parametrize(
    ("text", "joined"),
    [("a cat", "a cat."), ("a cat.", "a cat."), ("a cat?", "a cat?"), ("a cat!", "a cat!.")],
)
def test_full_stop_is_added_unless_it_ends_in_one_or_a_question_mark(
    text: str, joined: str
) -> None:
    assert as_sentence(text) == joined


def test_join_moves_spans_and_keeps_other_fields() -> None:
    first = Caption(
        "a cat",
        [Region([(2, 5)], (0, 0, 5, 5), 12.5, 17, True)],
        [(0, 5)],
        [Provenance("vg", "1", (0, 5))],
    )
    second = Caption(
        "the mat?",
        [Region([(4, 7)], (6, 6, 9, 9))],
        [(4, 7)],
        [Provenance("gqa", "2", (0, 8))],
    )
    joined = join([first, second])
    assert joined.text == "a cat. the mat?"
    assert joined.regions == [
        Region([(2, 5)], (0, 0, 5, 5), 12.5, 17, True),
        Region([(11, 14)], (6, 6, 9, 9)),
    ]
    assert joined.tokens_negative == [(0, 5), (11, 14)]
    assert [(p.dataset, p.record, p.span) for p in joined.provenance] == [
        ("vg", "1", (0, 5)),
        ("gqa", "2", (7, 15)),
    ]


def many_sentences(
    count: int, lengths: tuple[int, int], extent: float, boxes: int = 1
) -> list[Caption]:
    """Sentences of random lengths, with boxes at random places of a square."""
    random = np.random.default_rng(0)
    sentences = []
    for i, length in enumerate(random.integers(*lengths, count).tolist()):
        corners = random.random((boxes, 2)) * extent
        sizes = 20 + random.random((boxes, 2)) * 60
        rows = np.concatenate([corners, corners + sizes], axis=1).astype(np.float32).tolist()
        sentences.append(caption("x" * length, *map(tuple, rows), record=str(i)))
    return sentences


@pytest.mark.parametrize(
    ("lengths", "extent"),
    [
        pytest.param((20, 40), 640, id="short"),
        pytest.param((90, 130), 200, id="long"),
        pytest.param((10, 240), 200, id="any length"),
        pytest.param((20, 40), 10, id="boxes at one place"),
    ],
)
def test_image_with_5000_sentences_takes_seconds(lengths: tuple[int, int], extent: float) -> None:
    sentences = many_sentences(5000, lengths, extent)
    started = time.process_time()
    captions = combine(sentences, PAPER)
    assert time.process_time() - started < 5
    assert sorted(p.record for c in captions for p in c.provenance) == sorted(map(str, range(5000)))
    greedy = combine(sentences, msgspec.structs.replace(PAPER, coloring="first_fit"))
    assert len(captions) <= len(greedy)


def test_image_with_20000_sentences_is_combined_in_runs_of_5000() -> None:
    sentences = many_sentences(20_000, (84, 120), 640)
    assert [len(run) for run in _runs(sentences)] == [5000] * 4
    assert len(combine(sentences, PAPER)) == 10_000  # two in each, as without runs


def test_sentences_with_many_boxes_are_combined_in_runs() -> None:
    """Runs have up to 10,000 boxes; a sentence with more of them is a run of its own."""
    box = (0.0, 0.0, 1.0, 1.0)
    counts = [10_001, 6_000, 4_000, 1]
    sentences = [caption(f"n{i}", *[box] * count) for i, count in enumerate(counts)]
    assert [len(run) for run in _runs(sentences)] == [1, 2, 1]
    sentences = [caption("a", *[box] * 9_999), caption("b", box), caption("c", box)]
    assert [[c.text for c in run] for run in _runs(sentences)] == [["a", "b"], ["c"]]
    sentences = [caption("a"), caption("b", *[box] * 10_001), caption("c")]
    assert [[c.text for c in run] for run in _runs(sentences)] == [["a"], ["b"], ["c"]]


@pytest.mark.parametrize(("count", "boxes"), [(5000, 2), (10, 1000)])
def test_conflicts_of_10000_boxes_take_little_memory(count: int, boxes: int) -> None:
    sentences = many_sentences(count, (20, 40), 100, boxes)
    tracemalloc.start()
    try:
        conflict_graph(sentences, PAPER)
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()

"""Caption markup keeps every character and marks each with the phrases that cover it."""

from hypothesis import given
from hypothesis import strategies as st

from schemas import Caption, Region
from shards.inspection.caption_markup import (
    MAX_SPANS,
    MarkedCaption,
    PhraseMark,
    mark_caption,
)


def caption(text: str, *spans: list[tuple[int, int]]) -> Caption:
    boxes = [(i, 0.0, i + 10.0, 10.0) for i in range(len(spans))]
    regions = [Region(s, box) for s, box in zip(spans, boxes, strict=True)]
    return Caption(text, regions, [], [])


def numbers(marked: MarkedCaption) -> list[tuple[str, list[int]]]:
    return [(segment.text, [m.number for m in segment.marks]) for segment in marked.segments]


def test_phrase_and_its_box_have_the_same_number_and_color() -> None:
    marked = mark_caption(caption("a dog on a sofa", [(9, 15)], [(2, 5)], []))
    assert [(s.text, s.marks) for s in marked.segments] == [
        ("a ", []),
        ("dog", [PhraseMark(1, 0, 0, True)]),
        (" on ", []),
        ("a sofa", [PhraseMark(2, 1, 0, True)]),
    ]
    outlines = {(o.x, o.number, o.color, o.phrase) for o in marked.outlines}
    assert outlines == {(0, 2, 1, "a sofa"), (1, 1, 0, "dog"), (2, None, None, "")}


def test_boxes_of_one_phrase_share_number_and_color() -> None:
    marked = mark_caption(caption("two cats", [(0, 8)], [(0, 8)]))
    assert [outline.number for outline in marked.outlines] == [1, 1]
    assert [[m.number for m in segment.marks] for segment in marked.segments] == [[1]]


def test_nested_phrases_have_all_marks() -> None:
    text = "the man in a red hat"
    assert numbers(mark_caption(caption(text, [(0, 20)], [(11, 20)], [(13, 16)]))) == [
        ("the man in ", [1]),
        ("a ", [1, 2]),
        ("red", [1, 2, 3]),
        (" hat", [1, 2]),
    ]


def test_underline_of_a_phrase_stays_on_one_level() -> None:
    marked = mark_caption(caption("abcdef", [(0, 4)], [(2, 6)], [(3, 4)]))
    levels: dict[int, set[int]] = {}
    for segment in marked.segments:
        assert [m.level for m in segment.marks] == sorted(m.level for m in segment.marks)[::-1]
        for m in segment.marks:
            levels.setdefault(m.number, set()).add(m.level)
    assert all(len(phrase_levels) == 1 for phrase_levels in levels.values())


def test_number_is_shown_once_after_consecutive_spans() -> None:
    marked = mark_caption(
        caption("the small red cat and the small", [(0, 3), (4, 9), (14, 17), (26, 31)])
    )
    ends = {s.text: s.marks[0].is_end for s in marked.segments if s.marks}
    assert ends == {"the": False, "small": True, "cat": True}


def test_spans_are_clipped_to_the_text() -> None:
    assert numbers(mark_caption(caption("cat", [(-5, 99)], [(5, 9)], [(2, 1)]))) == [("cat", [1])]
    assert mark_caption(caption("", [(0, 3)])).segments == []


def test_number_of_marked_phrases_is_limited() -> None:
    n = 4000
    marked = mark_caption(caption("a" * 2 * n, *([(i, 2 * n - i)] for i in range(n))))
    assert len(marked.segments) <= 2 * MAX_SPANS + 1
    assert marked.unmarked_count == n - MAX_SPANS
    assert max(len(segment.marks) for segment in marked.segments) == MAX_SPANS
    assert [(o.number, o.phrase == "") for o in marked.outlines].count((None, False)) == n - 200
    many = [(2 * i, 2 * i + 1) for i in range(MAX_SPANS + 1)]
    assert mark_caption(caption("ab" * n, many, [(3, 4)])).unmarked_count == 2


spans = st.lists(st.tuples(st.integers(-2, 22), st.integers(-2, 22)), max_size=3)


@given(st.text(max_size=20), st.lists(spans, max_size=5))
def test_every_character_has_the_marks_of_its_phrases(
    text: str, region_spans: list[list[tuple[int, int]]]
) -> None:
    marked = mark_caption(caption(text, *region_spans))
    assert "".join(segment.text for segment in marked.segments) == text
    numbers = {int(outline.x): outline.number for outline in marked.outlines}
    start = 0
    for segment in marked.segments:
        for i in range(start, start + len(segment.text)):
            covering = {
                numbers[n]
                for n, spans in enumerate(region_spans)
                if any(a <= i < b for a, b in spans)
            }
            assert {m.number for m in segment.marks} == covering
        assert len({m.level for m in segment.marks}) == len(segment.marks)
        start += len(segment.text)

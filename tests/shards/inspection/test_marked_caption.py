"""Captions in pieces: no character is lost, and each has the marks of what names it."""

import time

from hypothesis import given
from hypothesis import strategies as st

from schemas import Caption, Region
from shards.inspection.marked_caption import MOST_SPANS, Mark, mark


def caption(text: str, *spans: list[tuple[int, int]]) -> Caption:
    regions = [Region(of, (i, 0.0, i + 10.0, 10.0)) for i, of in enumerate(spans)]
    return Caption(text, regions, [], [])


def numbers(of: Caption) -> list[tuple[str, list[int]]]:
    return [(piece.text, [m.number for m in piece.marks]) for piece in mark(of).pieces]


def test_words_and_boxes_have_the_same_number_and_color() -> None:
    found = mark(caption("a dog on a sofa", [(9, 15)], [(2, 5)], []))
    assert [(p.text, p.marks) for p in found.pieces] == [
        ("a ", []),
        ("dog", [Mark(1, 0, 0, True)]),
        (" on ", []),
        ("a sofa", [Mark(2, 1, 0, True)]),
    ]
    outlines = {(of.x, of.number, of.color, of.words) for of in found.outlines}
    assert outlines == {(0, 2, 1, "a sofa"), (1, 1, 0, "dog"), (2, None, None, "")}


def test_boxes_of_the_same_words_share_them() -> None:
    found = mark(caption("two cats", [(0, 8)], [(0, 8)]))
    assert [of.number for of in found.outlines] == [1, 1]
    assert [[m.number for m in piece.marks] for piece in found.pieces] == [[1]]


def test_nested_words_have_the_marks_of_both() -> None:
    text = "the man in a red hat"
    assert numbers(caption(text, [(0, 20)], [(11, 20)], [(13, 16)])) == [
        ("the man in ", [1]),
        ("a ", [1, 2]),
        ("red", [1, 2, 3]),
        (" hat", [1, 2]),
    ]


def test_the_line_of_a_mention_never_jumps() -> None:
    found = mark(caption("abcdef", [(0, 4)], [(2, 6)], [(3, 4)]))
    levels: dict[int, set[int]] = {}
    for piece in found.pieces:
        assert [m.level for m in piece.marks] == sorted(m.level for m in piece.marks)[::-1]
        for m in piece.marks:
            levels.setdefault(m.number, set()).add(m.level)
    assert all(len(of) == 1 for of in levels.values())


def test_a_number_stands_once_behind_words_that_follow_each_other() -> None:
    found = mark(caption("the small red cat and the small", [(0, 3), (4, 9), (14, 17), (26, 31)]))
    ends = {p.text: p.marks[0].ends for p in found.pieces if p.marks}
    assert ends == {"the": False, "small": True, "cat": True}


def test_spans_outside_the_text_are_cut() -> None:
    assert numbers(caption("cat", [(-5, 99)], [(5, 9)], [(2, 1)])) == [("cat", [1])]
    assert mark(caption("", [(0, 3)])).pieces == []


def test_very_many_mentions_are_marked_as_far_as_that_goes() -> None:
    n = 4000
    begin = time.monotonic()
    found = mark(caption("a" * 2 * n, *([(i, 2 * n - i)] for i in range(n))))
    assert time.monotonic() - begin < 5  # however busy the machine is
    assert found.unmarked == n - MOST_SPANS
    assert max(len(piece.marks) for piece in found.pieces) == MOST_SPANS
    assert [(of.number, of.words == "") for of in found.outlines].count((None, False)) == n - 200
    many = [(2 * i, 2 * i + 1) for i in range(MOST_SPANS + 1)]
    assert mark(caption("ab" * n, many, [(3, 4)])).unmarked == 2


spans = st.lists(st.tuples(st.integers(-2, 22), st.integers(-2, 22)), max_size=3)


@given(st.text(max_size=20), st.lists(spans, max_size=5))
def test_every_character_has_the_marks_of_the_words_it_is_in(
    text: str, of: list[list[tuple[int, int]]]
) -> None:
    found = mark(caption(text, *of))
    assert "".join(piece.text for piece in found.pieces) == text
    numbers = {int(each.x): each.number for each in found.outlines}
    at = 0
    for piece in found.pieces:
        for i in range(at, at + len(piece.text)):
            naming = {numbers[n] for n, spans in enumerate(of) if any(a <= i < b for a, b in spans)}
            assert {m.number for m in piece.marks} == naming
        assert len({m.level for m in piece.marks}) == len(piece.marks)
        at += len(piece.text)

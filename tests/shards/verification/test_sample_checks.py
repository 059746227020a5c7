"""Captions, spans, boxes and provenance that violate the recipe's requirements."""

import math
import tracemalloc
import warnings
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import AbsentSpan, Box, Caption, Phrase, Provenance, Region, Sample, Span
from shards import box_overlap
from shards.verification.datasets import datasets_of
from shards.verification.errors import ErrorKind
from shards.verification.recipe import RecipeRules, SampleRequirements
from shards.verification.sample_checks import (
    MOST_CAPTIONS,
    check_sample,
    is_too_long,
    not_checked,
    overlapping_sentences,
)
from shards.verification.spans import (
    has_space_around,
    is_inside,
    sentence_index,
    spans_that_split_words,
)

PAPER = RecipeRules(
    "giou", 0.5, 250, "joined", "object", "tokens", "clip", "joined", "box", same_photo=True
)
MDETR = RecipeRules(
    "iou", 0.5, 250, "sentences", "find", "characters", "as_is", "separate", "source", False
)


def caption(
    text: str, *sentences: Span, regions: Sequence[Region] = (), dataset: str = "vg"
) -> Caption:
    return Caption(text, list(regions), [], [Provenance(dataset, "1", span) for span in sentences])


def kinds_of(checked: Caption, required: SampleRequirements) -> set[ErrorKind]:
    return {error.kind for error in check_sample(Sample("vg/1", 100, 50, "", [checked]), required)}


def region(span: Span, box: Box = (1.0, 2.0, 3.0, 4.0)) -> Region:
    return Region([span], box)


words = st.text(st.sampled_from("ab1é'- .,_"), min_size=1, max_size=12)


@given(words, st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=4))
def test_spans_that_split_words_divide_letters(text: str, spans: list[Span]) -> None:
    def divides(border: int) -> bool:
        before, after = text[:border], text[border:]
        return before[-1:].isalnum() and after[:1].isalnum()

    def is_joint(border: int) -> bool:
        return any(a == border for a, _ in spans) and any(b == border for _, b in spans)

    expected = [
        span
        for span in spans
        if span[0] < span[1] <= len(text)
        and any(divides(border) and not is_joint(border) for border in span)
    ]
    assert spans_that_split_words(text, spans) == expected


@pytest.mark.parametrize(
    ("text", "spans", "splitting"),
    [
        ("10am", [(0, 2)], [(0, 2)]),
        ("10am", [(0, 2), (2, 4)], []),
        ("10am", [(2, 4), (0, 2), (0, 3)], [(0, 3)]),
        ("cafe\u0301", [(0, 4), (4, 5)], [(0, 4), (4, 5)]),
    ],
)
def test_two_spans_may_divide_a_word_but_no_grapheme(
    text: str, spans: list[Span], splitting: list[Span]
) -> None:
    assert spans_that_split_words(text, spans) == splitting


@pytest.mark.parametrize(
    ("text", "named"),
    [("the man's hat", "man"), ("the man's hat", "'s"), ("a t-shirt", "shirt"), ("x_y", "x")],
)
def test_apostrophes_hyphens_and_underscores_are_borders(text: str, named: str) -> None:
    start = text.index(named)
    assert not spans_that_split_words(text, [(start, start + len(named))])


def test_datasets_whose_words_may_be_split() -> None:
    rhino = caption("the rhino", (0, 9), regions=[region((4, 6))])
    vg, gqa = (SampleRequirements(words_may_be_split=frozenset([d])) for d in ("vg", "gqa"))
    assert kinds_of(rhino, SampleRequirements()) == {ErrorKind.WORD}
    assert kinds_of(rhino, vg) == set()
    assert kinds_of(rhino, gqa) == {ErrorKind.WORD}
    rhino.regions[0].spans = [(-1, 6)]
    assert kinds_of(rhino, vg) == {ErrorKind.SPAN}


pixels = st.floats(-10, 110, width=32) | st.just(math.nan) | st.just(math.inf)


@given(st.tuples(pixels, pixels, pixels, pixels))
def test_boxes_must_be_inside_the_image(box: Box) -> None:
    x0, y0, x1, y1 = box
    checked = caption("a man", (0, 5), regions=[region((2, 5), box)])
    inside = 0 <= x0 < x1 <= 100 and 0 <= y0 < y1 <= 50
    assert kinds_of(checked, SampleRequirements()) == (set() if inside else {ErrorKind.BOX})
    finite = all(map(math.isfinite, box))
    assert kinds_of(checked, SampleRequirements(clipped=False)) == (
        set() if finite else {ErrorKind.BOX}
    )


@pytest.mark.parametrize(
    ("box", "wrong"),
    [
        ((0.0, 0.0, 100.0, 50.0), False),
        ((-1.0, 0.0, 100.0, 50.0), True),
        ((0.0, -1.0, 100.0, 50.0), True),
        ((0.0, 0.0, 101.0, 50.0), True),
        ((0.0, 0.0, 100.0, 51.0), True),
    ],
)
def test_boxes_end_at_the_borders_of_the_image(box: Box, wrong: bool) -> None:
    checked = caption("a cat", (0, 5), regions=[region((2, 5), box)])
    assert kinds_of(checked, SampleRequirements()) == ({ErrorKind.BOX} if wrong else set())
    small = Sample("vg/1", 1, 1, "", [checked])
    assert {error.kind for error in check_sample(small, SampleRequirements())} == {ErrorKind.BOX}


def test_boxes_as_published_may_be_outside_the_image_or_empty() -> None:
    required = SampleRequirements(clipped=False)
    for box in ((-5.0, 0.0, 500.0, 20.0), (5.0, 5.0, 5.0, 5.0)):
        checked = caption("a cat", (0, 5), regions=[region((2, 5), box)])
        assert kinds_of(checked, required) == set()
        assert kinds_of(checked, SampleRequirements()) == {ErrorKind.BOX}
    checked.regions[0].box = (5.0, 5.0, math.inf, 5.0)
    assert kinds_of(checked, required) == {ErrorKind.BOX}


def test_phrase_boxes_may_be_outside_the_image() -> None:
    checked = caption("a man", (0, 5))
    checked.phrases = [Phrase([(2, 5)], "1", ["people"], [(-5.0, 0.0, 500.0, 20.0)])]
    assert kinds_of(checked, SampleRequirements()) == set()
    checked.phrases[0].boxes.append((5.0, 0.0, 5.0, 20.0))
    assert kinds_of(checked, SampleRequirements()) == {ErrorKind.BOX}
    checked.phrases[0] = Phrase([(3, 5)], "1", ["people"], [])
    assert kinds_of(checked, SampleRequirements()) == {ErrorKind.WORD}


def test_phrase_must_have_spans() -> None:
    checked = caption("a man", (0, 5))
    checked.phrases = [Phrase([], "1", ["people"], [])]
    assert kinds_of(checked, SampleRequirements()) == {ErrorKind.PHRASE}


@pytest.mark.parametrize(
    ("area", "wrong"),
    [(None, False), (0.0, False), (1e9, False), (-0.5, True), (math.inf, True), (math.nan, True)],
)
def test_area_must_be_finite_and_not_negative(area: float | None, wrong: bool) -> None:
    checked = caption("a man", (0, 5), regions=[region((2, 5))])
    checked.regions[0].area = area
    assert kinds_of(checked, SampleRequirements()) == ({ErrorKind.AREA} if wrong else set())


def test_boxes_are_not_checked_if_the_image_size_is_unknown() -> None:
    sample = Sample("vg/1", 0, 0, "", [caption("a man", (0, 5), regions=[region((2, 5))])])
    assert not list(check_sample(sample, SampleRequirements()))
    assert len(list(not_checked(sample, SampleRequirements()))) == 1
    assert not list(not_checked(sample, SampleRequirements(clipped=False)))


@pytest.mark.parametrize(
    ("sentences", "wrong"),
    [
        ([(0, 3), (3, 6)], False),
        ([(0, 4), (3, 6)], True),
        ([(0, 3), (4, 7)], True),
        ([(0, 0)], True),
        ([], True),
    ],
)
def test_provenance_must_be_ordered_and_inside_the_text(sentences: list[Span], wrong: bool) -> None:
    assert (
        ErrorKind.PROVENANCE in kinds_of(caption("abc de", *sentences), SampleRequirements())
    ) == wrong


@pytest.mark.parametrize(
    ("rules", "lengths", "too_long"),
    [
        (PAPER, [249], False),
        (PAPER, [250], True),
        (PAPER, [100, 148], False),  # and a space
        (PAPER, [100, 149], True),
        (MDETR, [100, 148], False),
        (MDETR, [100, 149], True),
        (MDETR, [300], False),
    ],
)
def test_length_limit(rules: RecipeRules, lengths: list[int], too_long: bool) -> None:
    spans: list[Span] = []
    for length in lengths:
        start = spans[-1][1] + 1 if spans else 0
        spans.append((start, start + length))
    assert is_too_long(caption("a" * spans[-1][1], *spans), rules) == too_long


def test_length_is_checked_only_in_combined_splits() -> None:
    long = caption("a" * 300, (0, 300))
    assert kinds_of(long, SampleRequirements()) == set()
    assert kinds_of(long, SampleRequirements(combined=PAPER)) == {ErrorKind.LENGTH}


BOX: Box = (0.0, 0.0, 10.0, 10.0)


def two_sentences(one: Box, other: Box) -> Caption:
    return caption("abc def", (0, 3), (4, 7), regions=[region((0, 3), one), region((4, 7), other)])


def test_overlap_is_measured_as_the_rules_say() -> None:
    half: Box = (0.0, 0.0, 10.0, 5.0)  # IoU and GIoU 0.5: not more than the threshold
    assert not overlapping_sentences(two_sentences(BOX, half), PAPER)
    above: Box = (0.0, 0.0, 10.0, float(np.nextafter(np.float32(5), np.float32(6))))
    assert not overlapping_sentences(two_sentences(BOX, above), PAPER)  # by one step of float32
    assert overlapping_sentences(two_sentences(BOX, (0.0, 0.0, 10.0, 5.1)), PAPER)
    shifted: Box = (3.0, 3.0, 13.0, 12.0)
    low = msgspec.structs.replace(MDETR, threshold=0.3)
    assert overlapping_sentences(two_sentences(BOX, shifted), low)
    assert not overlapping_sentences(
        two_sentences(BOX, shifted), msgspec.structs.replace(low, conflict="giou")
    )


def test_boxes_of_one_sentence_may_overlap() -> None:
    checked = two_sentences(BOX, (50.0, 20.0, 60.0, 30.0))
    checked.regions.append(region((0, 3), BOX))
    assert not overlapping_sentences(checked, PAPER)
    checked.regions.append(region((4, 7), BOX))
    assert list(overlapping_sentences(checked, PAPER)) == [(0, 1, 1.0)]


def test_overlaps_are_in_the_order_of_the_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes are compared from left to right, in blocks."""
    monkeypatch.setattr(box_overlap, "_BLOCK", (1, 4))
    right = (50.0, 0.0, 60.0, 10.0)
    regions = [region((0, 1), right), region((2, 3), right), region((2, 3), BOX)]
    checked = caption("a b c", (0, 1), (2, 3), (4, 5), regions=[*regions, region((4, 5), BOX)])
    pairs = [(first, second) for first, second, _ in overlapping_sentences(checked, PAPER)]
    assert pairs == [(0, 1), (1, 2)]


def test_thousands_of_boxes_are_compared_in_little_memory() -> None:
    """Each sentence names 2,000 boxes: the matrix of all pairs has 16 million elements."""
    caption = two_sentences(BOX, (40.0, 40.0, 50.0, 50.0))
    first, second = caption.regions
    caption.regions[:] = [first] * 2000 + [second] * 2000
    tracemalloc.start()
    try:
        assert overlapping_sentences(caption, PAPER) == []
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()


def test_sentences_without_boxes_do_not_overlap() -> None:
    assert not overlapping_sentences(caption("abc def", (0, 3), (4, 7)), PAPER)
    empty: Box = (5.0, 5.0, 5.0, 5.0)
    assert not overlapping_sentences(two_sentences(empty, empty), MDETR)
    assert not overlapping_sentences(two_sentences(BOX, (0.0, 0.0, math.inf, 1.0)), PAPER)
    checked = two_sentences(BOX, BOX)
    checked.regions[1].box = (0.0, 0.0, 10.0, math.inf)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of numpy, about infinite areas
        assert not overlapping_sentences(checked, MDETR)
    checked.regions[1] = Region([], BOX)  # of no words
    assert not overlapping_sentences(checked, PAPER)


@pytest.mark.parametrize(
    ("span", "inside"),
    [
        ((0, 5), True),
        ((4, 5), True),
        ((0, 0), False),
        ((3, 2), False),
        ((-1, 2), False),
        ((2, 6), False),
    ],
)
def test_span_inside_a_text_has_a_character(span: Span, inside: bool) -> None:
    assert is_inside(span, "a cat") == inside


def test_span_is_of_the_sentence_that_contains_all_of_it() -> None:
    provenance = [Provenance("vg", str(i), span) for i, span in enumerate([(0, 3), (4, 7)])]
    spans = [(0, 3), (1, 2), (4, 7), (2, 5), (3, 7), (4, 8)]
    assert [sentence_index(span, provenance) for span in spans] == [0, 0, 1, None, None, None]


def test_record_is_in_one_sentence_of_an_image() -> None:
    captions = [caption("a cat", (0, 5)), caption("a dog", (0, 5))]
    captions[1].provenance[0].record = "2"
    sample = Sample("vg/1", 100, 50, "", captions)
    assert not list(check_sample(sample, SampleRequirements()))
    captions[1].provenance[0].record = "1"
    [error] = check_sample(sample, SampleRequirements())
    assert (error.kind, error.key, error.caption) == (ErrorKind.RECORD, "vg/1", 1)


SOURCES = {"coco": {"refs": {"refcoco": "refs(unc).p"}}, "vg": {}}
CLOSED = SampleRequirements(datasets=datasets_of(SOURCES, []), areas_of_sources=False)
OPEN = SampleRequirements(datasets=datasets_of({"mdetr_json": {}}, []), areas_of_sources=False)


@pytest.mark.parametrize(
    ("file", "of_another"),
    [
        ("COCO_train2014_000000000001.jpg", False),
        ("COCO_train2014_000000000002.jpg", True),
        ("own.jpg", False),
    ],
)
def test_published_file_name_is_that_of_the_image(file: str, of_another: bool) -> None:
    sample = Sample("coco/1", 100, 50, file, [])
    kinds = [error.kind for error in check_sample(sample, CLOSED)]
    assert kinds == [ErrorKind.FILE_NAME] * of_another
    assert not list(check_sample(sample, OPEN))
    assert not list(check_sample(sample, SampleRequirements()))


def test_space_around_a_span_is_at_either_end() -> None:
    spans = [(1, 5), (2, 6), (1, 6), (2, 5), (2, 9)]
    assert [has_space_around("a cat sat", span) for span in spans] == [True] * 3 + [False] * 2


@pytest.mark.parametrize(
    ("span", "has_space"), [((2, 5), False), ((1, 5), True), ((2, 6), True), ((2, 9), False)]
)
def test_span_neither_begins_nor_ends_with_a_space(span: Span, has_space: bool) -> None:
    checked = caption("a cat sat", (0, 9), regions=[region(span)])
    checked.tokens_negative = [span]
    assert kinds_of(checked, CLOSED) == ({ErrorKind.WORD} if has_space else set())
    assert kinds_of(checked, OPEN) == set()
    as_published = msgspec.structs.replace(CLOSED, words_may_be_split=frozenset(["vg"]))
    assert kinds_of(checked, as_published) == set()


LARGEST = float(box_overlap.largest_area(box_overlap.as_array([(30.0, 20.0, 40.0, 40.0)]))[0])


@pytest.mark.parametrize(
    ("dataset", "area", "wrong"),
    [
        # The area of a box of 10 x 20 pixels, with a tolerance of 0.25.
        ("vg", None, False),
        ("vg", 200.0, False),
        ("vg", 199.76, False),
        ("vg", 199.74, True),
        ("vg", 200.25, False),
        ("vg", 200.26, True),
        # An outline in the box, which may be wider by a pixel on each side, and a twentieth.
        ("refcoco", 3.0, False),
        ("refcoco", 1.05 * 12 * 22, False),
        ("refcoco", 1.05 * 12 * 22 + 0.03, True),
        ("refcoco", LARGEST + 0.02, False),
        ("unknown", 3.0, False),
        ("unknown", 1.05 * 12 * 22 + 0.03, True),
    ],
)
def test_area_is_that_of_the_box_or_of_an_object_in_it(
    dataset: str, area: float | None, wrong: bool
) -> None:
    named = Region([(2, 5)], (30.0, 20.0, 40.0, 40.0), area)
    checked = caption("a cat", (0, 5), regions=[named], dataset=dataset)
    checked.tokens_negative = [(2, 5)]
    other = {ErrorKind.DATASET} if dataset == "unknown" else set()
    assert kinds_of(checked, CLOSED) - other == ({ErrorKind.AREA} if wrong else set())
    of_sources = msgspec.structs.replace(CLOSED, areas_of_sources=True)
    assert kinds_of(checked, of_sources) - other == set()


def test_area_of_a_region_without_words_may_be_less_than_its_box() -> None:
    required = msgspec.structs.replace(CLOSED, words_may_be_split=frozenset(["vg"]))
    nameless = Region([], (30.0, 20.0, 40.0, 40.0), 3.0)
    checked = caption("a cat", (0, 5), regions=[nameless])
    assert kinds_of(checked, required) == set()
    nameless.area = 300.0
    assert kinds_of(checked, required) == {ErrorKind.AREA}


# --- room for each other --------------------------------------------------------------------------


def joinable(
    captions: Sequence[Caption], rules: RecipeRules, separate: Sequence[str] = ()
) -> list[int | None]:
    """Returns the first caption of each pair that the rules allow to be one."""
    for record, checked in enumerate(captions):
        for sentence in checked.provenance:
            sentence.record = str(record)
    sample = Sample("vg/1", 100, 50, "", list(captions))
    required = SampleRequirements(combined=rules, separate=frozenset(separate))
    errors = check_sample(sample, required)
    return [error.caption for error in errors if error.kind is ErrorKind.JOINABLE]


def of_length(length: int, *boxes: Box, dataset: str = "vg") -> Caption:
    regions = [region((0, length), box) for box in boxes]
    return caption("a" * length, (0, length), regions=regions, dataset=dataset)


@pytest.mark.parametrize(
    ("rules", "lengths", "pairs"),
    [
        (PAPER, [124, 124], [0]),  # 249 characters with a space
        (PAPER, [124, 125], []),
        (MDETR, [124, 124], [0]),
        (MDETR, [124, 125], []),
        (PAPER, [240, 5, 240], [0, 1]),
        (PAPER, [240], []),
        (PAPER, [], []),
    ],
)
def test_captions_of_an_image_have_no_room_for_each_other(
    rules: RecipeRules, lengths: list[int], pairs: list[int]
) -> None:
    assert joinable([of_length(length) for length in lengths], rules) == pairs


@pytest.mark.parametrize(
    ("other", "is_joinable"),
    [
        ((0.0, 0.0, 10.0, 4.9), True),
        ((0.0, 0.0, 10.0, 5.0), False),  # at the threshold, with a tolerance
        ((0.0, 0.0, 10.0, 6.0), False),
        ((20.0, 20.0, 30.0, 30.0), True),
    ],
)
def test_captions_about_one_object_cannot_be_joined(other: Box, is_joinable: bool) -> None:
    for captions in (
        [of_length(9, BOX), of_length(9, other)],
        [of_length(9, other), of_length(9, BOX)],
        [of_length(9, (50.0, 30.0, 60.0, 40.0), BOX), of_length(9, other)],
    ):
        assert joinable(captions, PAPER) == [0] * is_joinable


def test_captions_are_compared_whichever_box_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """In blocks, each pair of boxes is found once."""
    monkeypatch.setattr(box_overlap, "_BLOCK", (1, 4))
    captions = [of_length(9, (1.0, 0.0, 11.0, 10.0)), of_length(9, BOX)]
    assert joinable(captions, PAPER) == joinable(captions[::-1], PAPER) == []


def test_length_of_captions_without_separators_is_that_of_their_sentences() -> None:
    two = caption("a" * 121, (0, 60), (61, 121))
    assert joinable([two, of_length(128)], MDETR) == [0]
    assert joinable([two, of_length(129)], MDETR) == []


def test_overlap_of_captions_is_measured_as_the_rules_say() -> None:
    """IoU 0.35, GIoU 0.25."""
    captions = [of_length(9, BOX), of_length(9, (3.0, 3.0, 13.0, 12.0))]
    low = msgspec.structs.replace(MDETR, threshold=0.3)
    assert joinable(captions, low) == []
    assert joinable(captions, msgspec.structs.replace(low, conflict="giou")) == [0]


def test_captions_of_datasets_that_are_not_joined_may_have_room() -> None:
    captions = [of_length(9), of_length(9, dataset="flickr30k")]
    assert joinable(captions, PAPER) == [0]
    assert joinable(captions, PAPER, separate=["flickr30k"]) == []
    assert joinable([of_length(9), caption("of no sentence")], PAPER) == []


def test_room_is_checked_up_to_a_number_of_captions() -> None:
    captions = [of_length(125) for _ in range(MOST_CAPTIONS - 1)]
    captions.append(of_length(123))
    assert len(joinable(captions, PAPER)) == MOST_CAPTIONS - 1
    required = SampleRequirements(combined=PAPER)
    assert not list(not_checked(Sample("vg/1", 100, 50, "", captions), required))
    captions.append(of_length(123))
    assert joinable(captions, PAPER) == []
    assert len(list(not_checked(Sample("vg/1", 100, 50, "", captions), required))) == 1
    assert not list(not_checked(Sample("vg/1", 100, 50, "", captions), SampleRequirements()))


# --- messages, and the captions that they name ----------------------------------------------------


def errors_of(
    checked: Caption, required: SampleRequirements | None = None
) -> list[tuple[ErrorKind, str]]:
    """Returns the errors of a sample whose second caption is checked."""
    other = caption("abc", (0, 3), regions=[region((0, 3), (60.0, 30.0, 70.0, 40.0))])
    other.provenance[0].record = "0"
    other.tokens_negative = [(0, 3)]
    sample = Sample("vg/1", 100, 50, "", [other, checked])
    errors = list(check_sample(sample, required or SampleRequirements()))
    assert {(error.key, error.caption) for error in errors} <= {("vg/1", 1)}
    return [(error.kind, error.message) for error in errors]


def numbered(checked: Caption) -> Caption:
    """Returns a caption with its sentences numbered from 1."""
    for number, origin in enumerate(checked.provenance, 1):
        origin.record = str(number)
    return checked


def test_spans_are_checked_in_the_whole_text_and_words_in_their_sentence() -> None:
    checked = numbered(caption("ab cd\u0600. ef gh", (0, 2), (3, 6), (8, 10)))
    checked.regions = [region((3, 6)), region((3, 4)), region((8, 9))]
    words = [
        "(3, 4) is 'c' in 'ab cd\\u0600. ef gh'",
        "(8, 9) is 'e' in 'ab cd\\u0600. ef gh'",
    ]
    assert errors_of(checked) == [(ErrorKind.WORD, message) for message in words]
    checked.regions = [region((11, 12))]  # of no sentence
    assert errors_of(checked) == [
        (ErrorKind.WORD, "(11, 12) is 'g' in 'b cd\\u0600. ef gh'"),
        (ErrorKind.REGION, "[(11, 12)] of the sentences [(0, 2), (3, 6), (8, 10)]"),
    ]
    checked.provenance[2] = Provenance("gqa", "9", (8, 13))
    as_published = SampleRequirements(words_may_be_split=frozenset(["gqa"]))
    assert errors_of(checked, as_published) == []


def test_spans_outside_the_text() -> None:
    checked = caption("a cat", (0, 5), regions=[region((1, 9)), Region([(2, 5), (0, 99)], BOX)])
    checked.tokens_negative = [(2, 6)]
    checked.phrases = [Phrase([(4, 3)], "7", ["people"], [])]
    spans = ["(1, 9)", "(0, 99)", "(2, 6)", "(4, 3)"]
    expected = [(ErrorKind.SPAN, f"{span} of 5 characters") for span in spans]
    assert errors_of(checked) == expected
    kinds = [kind for kind, _ in errors_of(checked, CLOSED)]
    assert ErrorKind.WORD not in kinds
    checked = caption("a cat", (0, 5))
    checked.tokens_negative = [(2, 4)]
    assert errors_of(checked) == [(ErrorKind.WORD, "(2, 4) is 'ca' in 'a cat'")]


def test_provenance_is_named_with_the_text() -> None:
    assert errors_of(caption("abc")) == [(ErrorKind.PROVENANCE, "it is empty")]
    assert errors_of(numbered(caption("abcdef", (0, 4), (2, 3), (3, 6), (5, 9)))) == [
        (ErrorKind.PROVENANCE, "(2, 3) begins before 4, where another ends"),
        (ErrorKind.PROVENANCE, "(3, 6) begins before 4, where another ends"),
        (ErrorKind.PROVENANCE, "(5, 9) of 6 characters"),
    ]


def test_caption_of_absent_phrases_needs_no_sentence() -> None:
    checked = caption("a cat.")
    checked.tokens_negative = [(0, 6)]
    checked.absent = [AbsentSpan((0, 5), "gqa", "1", "stated", "proven")]
    assert errors_of(checked) == []
    checked.absent[0].record = ""
    [(kind, message)] = errors_of(checked)
    assert (kind, message) == (ErrorKind.ABSENT, "'a cat' is proven, of record ''")


def test_phrase_and_area_are_named() -> None:
    checked = caption("a cat", (0, 5), regions=[region((2, 5))])
    checked.phrases = [Phrase([], "7", ["people"], [])]
    checked.regions[0].area = -2.0
    assert errors_of(checked) == [
        (ErrorKind.AREA, "-2.0 square pixels"),
        (ErrorKind.PHRASE, "entity 7 has no spans"),
    ]


def test_region_of_no_words_of_datasets_whose_words_may_be_split() -> None:
    required = SampleRequirements(words_may_be_split=frozenset(["gqa"]))
    checked = caption("a cat", (0, 5), regions=[Region([], BOX)], dataset="gqa")
    assert errors_of(checked, required) == []
    assert errors_of(checked) == [(ErrorKind.REGION, "[] of the sentences [(0, 5)]")]
    checked = numbered(caption("abc def", (0, 3), (4, 7), dataset="gqa"))
    checked.regions = [Region([(0, 3), (4, 7)], BOX)]
    message = "[(0, 3), (4, 7)] of the sentences [(0, 3), (4, 7)]"
    assert errors_of(checked, required) == [(ErrorKind.REGION, message)]


def test_violations_of_the_rules_are_named() -> None:
    rules = msgspec.structs.replace(PAPER, max_length=7)
    checked = numbered(caption("abc def", (0, 3), (4, 7)))
    checked.regions = [region((0, 3), BOX), region((4, 7), BOX)]
    errors = errors_of(checked, SampleRequirements(combined=rules))
    assert errors == [
        (ErrorKind.LENGTH, "7 characters in 2 sentences"),
        (ErrorKind.OVERLAP, "0 and 1: giou 1.000"),
    ]


def test_records_files_and_boxes_are_named() -> None:
    checked = caption("abc def", (0, 3), (4, 7))
    assert errors_of(checked) == [(ErrorKind.RECORD, "vg/1 is in two sentences")]
    checked = caption("a cat", (0, 5), regions=[region((2, 5), (1.0, 2.0, 101.0, 4.0))])
    message = "(1.0, 2.0, 101.0, 4.0) of 100x50 pixels"
    assert errors_of(checked) == [(ErrorKind.BOX, message)]
    sample = Sample("vg/1", 100, 50, "2.jpg", [])
    [error] = check_sample(sample, CLOSED)
    assert (error.key, error.caption, error.message) == ("vg/1", None, "'2.jpg' is that of vg/2")


def test_areas_are_named_with_the_box() -> None:
    checked = caption("a cat", (0, 5), regions=[region((2, 5)), region((2, 5))])
    checked.regions[1] = Region([(2, 5)], (30.0, 20.0, 41.0, 40.0), 100.0)
    checked.tokens_negative = [(2, 5)]
    message = "100.0 square pixels, the box (30.0, 20.0, 41.0, 40.0) has 220.00"
    assert errors_of(checked, CLOSED) == [(ErrorKind.AREA, message)]
    unknown = msgspec.structs.replace(CLOSED, datasets=None)
    assert errors_of(checked, unknown) == []


def test_joinable_captions_are_named_with_their_lengths() -> None:
    checked = caption("abcd", (0, 4))
    errors = list(
        check_sample(
            Sample("vg/1", 100, 50, "", [of_length(3), msgspec.structs.replace(checked)]),
            SampleRequirements(combined=PAPER),
        )
    )
    joinable_errors = [error for error in errors if error.kind is ErrorKind.JOINABLE]
    [error] = joinable_errors
    assert (error.key, error.caption) == ("vg/1", 0)
    assert error.message == "0 and 1: 3 and 4 characters"


def test_what_is_not_checked_is_named() -> None:
    checked, required = caption("a cat", (0, 5)), SampleRequirements()
    captions = [checked, caption("a dog", (0, 5), regions=[region((2, 5))])]
    assert list(not_checked(Sample("vg/1", 100, 50, "", captions), required)) == []
    assert list(not_checked(Sample("vg/1", 0, 0, "", [checked]), required)) == []
    checked.phrases = [Phrase([(2, 5)], "7", ["people"], []), Phrase([(2, 5)], "8", [], [BOX])]
    assert list(not_checked(Sample("vg/1", 0, 0, "", captions), required)) == [
        "boxes of phrases against the image borders: no rule clips them",
        "boxes against the borders of images of unknown size",
    ]
    many = [of_length(125) for _ in range(MOST_CAPTIONS + 1)]
    combined = SampleRequirements(combined=PAPER)
    assert list(not_checked(Sample("vg/1", 9, 9, "", many), combined)) == [
        "whether captions of images with more than 200 could be joined"
    ]

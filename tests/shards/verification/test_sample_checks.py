"""Captions, spans, boxes and provenance that violate the recipe's requirements."""

import io
import math
import struct
import tracemalloc
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from schemas import Box, Caption, Phrase, Provenance, Region, Sample, Span
from shards.reading.shard_set import ShardSet
from shards.verification.errors import ErrorKind
from shards.verification.recipe import RecipeRules, SampleRequirements
from shards.verification.sample_checks import (
    check_sample,
    is_too_long,
    not_checked,
    overlapping_sentences,
)
from shards.verification.spans import sentence_index, spans_that_split_words
from shards.verification.verify import verify
from tests.shards.verification.corruption import (
    SHARD,
    ShardContents,
    StoredSample,
    reindex,
    replace_fields,
    retar,
    rewrite,
)

PAPER = RecipeRules(
    "giou", 0.5, 250, "joined", "object", "tokens", "clip", "joined", "box", same_photo=True
)
MDETR = RecipeRules(
    "iou", 0.5, 250, "sentences", "find", "characters", "as_is", "separate", "source", False
)


# --- in an otherwise correct shard set ------------------------------------------------------------


def is_suitable(stored: StoredSample) -> bool:
    """Returns whether two sentences of the first caption have regions."""
    first = stored.sample.captions[0]
    owners = {sentence_index(r.spans[0], first.provenance) for r in first.regions}
    return len(owners) > 1


def edit_one(folder: Path, edit: Callable[[Caption], object]) -> str:
    """Edits the first caption of a train image, whose key it returns."""
    keys: list[str] = []

    def edit_set(contents: ShardContents) -> None:
        stored = next(stored for stored in contents[SHARD] if is_suitable(stored))
        edit(stored.sample.captions[0])
        keys.append(stored.sample.key)

    rewrite(folder, edit_set)
    return keys[0]


def png(width: int, height: int) -> bytes:
    """Returns the header of a PNG of that size; the rest is not read."""
    header = struct.pack(">4sIIBBBBB", b"IHDR", width, height, 8, 0, 0, 0, 0)
    crc32 = struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n\0\0\0\x0d" + header + crc32 + b"\0\0\0\x0aIDAT"


def move_box(box: Box) -> Callable[[Caption], object]:
    return lambda caption: setattr(caption.regions[0], "box", box)


def move_span(move: Callable[[Span], Span]) -> Callable[[Caption], object]:
    def edit(caption: Caption) -> None:
        region = caption.regions[0]
        region.spans[0] = move(region.spans[0])

    return edit


def lengthen(caption: Caption) -> None:
    caption.text += " " + "a" * 250


def share_a_box(caption: Caption) -> None:
    first = caption.regions[0]
    owner = sentence_index(first.spans[0], caption.provenance)
    other = next(
        r for r in caption.regions if sentence_index(r.spans[0], caption.provenance) != owner
    )
    other.box = first.box


def share_a_region(caption: Caption) -> None:
    caption.regions[0].spans.append(caption.provenance[-1].span)
    caption.regions[0].spans.append(caption.provenance[0].span)


def swap_sentences(caption: Caption) -> None:
    caption.provenance[0], caption.provenance[1] = caption.provenance[1], caption.provenance[0]


CORRUPTIONS = {
    "span beyond the end": (move_span(lambda span: (span[0], 9_999)), ErrorKind.SPAN),
    "span before the beginning": (move_span(lambda span: (-1, span[1])), ErrorKind.SPAN),
    "empty span": (move_span(lambda span: (span[0], span[0])), ErrorKind.SPAN),
    "span that ends in a word": (move_span(lambda span: (span[0], span[1] - 1)), ErrorKind.WORD),
    "span that begins in a word": (move_span(lambda span: (span[0] + 1, span[1])), ErrorKind.WORD),
    "box outside": (move_box((-1.0, 0.0, 20.0, 20.0)), ErrorKind.BOX),
    "box far outside": (move_box((0.0, 0.0, 20.0, 9_999.0)), ErrorKind.BOX),
    "negative area": (
        lambda caption: setattr(caption.regions[0], "area", -1.0),
        ErrorKind.AREA,
    ),
    "caption too long": (lengthen, ErrorKind.LENGTH),
    "two sentences with one box": (share_a_box, ErrorKind.OVERLAP),
    "region of two sentences": (share_a_region, ErrorKind.REGION),
    "sentences out of order": (swap_sentences, ErrorKind.PROVENANCE),
    "missing sentence": (lambda c: setattr(c, "provenance", c.provenance[:1]), ErrorKind.REGION),
}


CONTRADICTED = {
    ErrorKind.BOX: {ErrorKind.AREA},
    ErrorKind.OVERLAP: {ErrorKind.AREA},
    ErrorKind.LENGTH: {ErrorKind.COMPOSITION},
    ErrorKind.REGION: {ErrorKind.COMPOSITION, ErrorKind.SOURCES},
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corrupted_caption_is_found(name: str, copied_set: Path) -> None:
    """Nothing else is, except what contradicts the corrupted detail."""
    edit, kind = CORRUPTIONS[name]
    key = edit_one(copied_set, edit)
    errors = verify(ShardSet.open(copied_set)).errors
    assert kind in errors.counts
    assert errors.counts.keys() <= {kind, *CONTRADICTED.get(kind, ())}
    located = {(e.file, e.key, e.caption) for e in errors.listed if e.kind != ErrorKind.SOURCES}
    assert located == {(SHARD, key, 0)}


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda item: replace_fields(item, width=item.sample.width + 1),
            "pixels, the index states",
        ),
        (lambda stored: stored._replace(image=b"no image"), "neither JPEG nor PNG"),
        (lambda stored: stored._replace(image=stored.image[:20]), ".jpg"),
        (lambda stored: stored._replace(image=None), "missing, though"),
        (lambda stored: stored._replace(extension="png"), ".png holds JPEG"),
        (lambda stored: stored._replace(image=png(20_000, 20_000)), "is too large: Image size"),
        (
            lambda stored: stored._replace(image=png(9_500, 9_500), extension="png"),
            "9500x9500 pixels",
        ),
    ],
)
def test_image_that_differs_from_the_index(
    edit: Callable[[StoredSample], StoredSample], message: str, copied_set: Path
) -> None:
    def edit_first(contents: ShardContents) -> None:
        contents[SHARD][0] = edit(contents[SHARD][0])

    rewrite(copied_set, edit_first)
    with warnings.catch_warnings(action="error"):
        [error] = verify(ShardSet.open(copied_set)).errors.listed
    assert error.kind is ErrorKind.IMAGE and message in error.message


def test_jpeg_with_several_images_is_accepted(copied_set: Path) -> None:
    def edit(contents: ShardContents) -> None:
        item = contents[SHARD][0]
        to = io.BytesIO()
        image = Image.new("RGB", (item.sample.width, item.sample.height))
        image.save(to, "MPO", save_all=True, append_images=[image])
        contents[SHARD][0] = item._replace(image=to.getvalue())

    rewrite(copied_set, edit)
    assert verify(ShardSet.open(copied_set)).errors.listed == []


@pytest.mark.parametrize(
    ("field", "value", "kinds"),
    [
        ("width", 7, {ErrorKind.SAMPLE, ErrorKind.IMAGE}),
        ("height", 7, {ErrorKind.SAMPLE, ErrorKind.IMAGE}),
        ("captions", 999, {ErrorKind.SAMPLE, ErrorKind.TOTALS}),
        ("regions", 999, {ErrorKind.SAMPLE, ErrorKind.TOTALS}),
        ("datasets", ["coco"], {ErrorKind.SAMPLE}),
    ],
)
def test_index_that_differs_from_the_sample(
    field: str, value: object, kinds: set[ErrorKind], copied_set: Path
) -> None:
    reindex(copied_set, lambda rows: setattr(rows[SHARD][0], field, value))
    assert verify(ShardSet.open(copied_set)).errors.counts.keys() == kinds


@pytest.mark.parametrize("content", [b"{}", b"\xff", b'{"key": "coco/1", "captions": []}'])
def test_json_that_is_not_a_sample(content: bytes, copied_set: Path) -> None:
    def edit(members: dict[str, bytes]) -> dict[str, bytes]:
        name = next(name for name in members if name.endswith(".json"))
        return members | {name: content}

    retar(copied_set, SHARD, edit)
    [error] = verify(ShardSet.open(copied_set)).errors.listed
    assert error.kind is ErrorKind.SAMPLE


def test_json_of_another_image(copied_set: Path) -> None:
    def swap(members: dict[str, bytes]) -> dict[str, bytes]:
        one, other = [name for name in members if name.endswith(".json")][:2]
        return members | {one: members[other], other: members[one]}

    retar(copied_set, SHARD, swap)
    errors = verify(ShardSet.open(copied_set)).errors.listed
    messages = [error.message for error in errors if error.kind is ErrorKind.SAMPLE]
    assert sum(message.startswith("key is") for message in messages) == 2


# --- without a shard set --------------------------------------------------------------------------


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

"""Captions, spans, boxes and parts that are not what the recipe promises."""

import doctest
import io
import math
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from schemas import Box, Caption, Phrase, Provenance, Region, Sample, Span
from shards.reading.shard_set import ShardSet
from shards.verification import errors, sample_checks
from shards.verification.errors import Kind
from shards.verification.expected import Expected, Rules
from shards.verification.sample_checks import (
    cut_words,
    is_too_long,
    overlapping_parts,
    sample_faults,
    unchecked,
)
from shards.verification.verify import verify
from tests.shards.verification.damage import SHARD, Contents, Item, change, reindex, retar, rewrite

PAPER = Rules("giou", 0.5, 250, "joined", "object", "tokens", "clip")
MDETR = Rules("iou", 0.5, 250, "sentences", "find", "characters", "as_is")


@pytest.mark.parametrize("module", [errors, sample_checks])
def test_examples(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted > 0 and result.failed == 0


# --- in a shard set, where everything else is right -----------------------------------------------


def is_suitable(item: Item) -> bool:
    """Whether the first caption is of several parts, and regions of two of them have boxes."""
    first = item.sample.captions[0]
    owners = {sample_checks.part_of(r.spans[0], first.provenance) for r in first.regions}
    return len(owners) > 1


def edit_one(folder: Path, edit: Callable[[Caption], object]) -> str:
    """Edits the first caption of an image of train, whose key it returns."""
    keys: list[str] = []

    def edit_set(contents: Contents) -> None:
        item = next(item for item in contents[SHARD] if is_suitable(item))
        edit(item.sample.captions[0])
        keys.append(item.sample.key)

    rewrite(folder, edit_set)
    return keys[0]


def png(width: int, height: int) -> bytes:
    """The beginning of an image of that size, which is all that is read of it."""
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
    owner = sample_checks.part_of(first.spans[0], caption.provenance)
    other = next(
        r for r in caption.regions if sample_checks.part_of(r.spans[0], caption.provenance) != owner
    )
    other.box = first.box


def share_a_region(caption: Caption) -> None:
    caption.regions[0].spans.append(caption.provenance[-1].span)
    caption.regions[0].spans.append(caption.provenance[0].span)


def swap_parts(caption: Caption) -> None:
    caption.provenance[0], caption.provenance[1] = caption.provenance[1], caption.provenance[0]


DAMAGES = {
    "span beyond the end": (move_span(lambda span: (span[0], 9_999)), Kind.SPAN),
    "span before the beginning": (move_span(lambda span: (-1, span[1])), Kind.SPAN),
    "empty span": (move_span(lambda span: (span[0], span[0])), Kind.SPAN),
    "span that ends in a word": (move_span(lambda span: (span[0], span[1] - 1)), Kind.WORD),
    "span that begins in a word": (move_span(lambda span: (span[0] + 1, span[1])), Kind.WORD),
    "box outside": (move_box((-1.0, 0.0, 20.0, 20.0)), Kind.BOX),
    "box far outside": (move_box((0.0, 0.0, 20.0, 9_999.0)), Kind.BOX),
    "area below nothing": (lambda caption: setattr(caption.regions[0], "area", -1.0), Kind.AREA),
    "caption too long": (lengthen, Kind.LENGTH),
    "two parts with one box": (share_a_box, Kind.OVERLAP),
    "region of two parts": (share_a_region, Kind.REGION),
    "parts out of order": (swap_parts, Kind.PART),
    "no parts": (
        lambda caption: setattr(caption, "provenance", caption.provenance[:1]),
        Kind.REGION,
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damage_is_one_kind_of_fault(name: str, damaged: Path) -> None:
    edit, kind = DAMAGES[name]
    key = edit_one(damaged, edit)
    found = verify(ShardSet.open(damaged)).faults
    assert found.counts.keys() == {kind}
    assert {(f.file, f.key, f.caption) for f in found.first} == {(SHARD, key, 0)}


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (lambda item: change(item, width=item.sample.width + 1), "pixels, the index says"),
        (lambda item: item._replace(image=b"no image"), "neither JPEG nor PNG"),
        (lambda item: item._replace(image=item.image[:20]), ".jpg"),
        (lambda item: item._replace(image=None), "there is none"),
        (lambda item: item._replace(extension="png"), ".png holds JPEG"),
        (lambda item: item._replace(image=png(20_000, 20_000)), "is too large: Image size"),
        (
            lambda item: item._replace(image=png(9_500, 9_500), extension="png"),
            "9500x9500 pixels",
        ),
    ],
)
def test_an_image_that_is_not_as_stated(
    edit: Callable[[Item], Item], what: str, damaged: Path
) -> None:
    def edit_first(contents: Contents) -> None:
        contents[SHARD][0] = edit(contents[SHARD][0])

    rewrite(damaged, edit_first)
    with warnings.catch_warnings(action="error"):
        [fault] = verify(ShardSet.open(damaged)).faults.first
    assert fault.kind is Kind.IMAGE and what in fault.what


def test_a_jpeg_with_more_images_behind_the_first_is_one(damaged: Path) -> None:
    def edit(contents: Contents) -> None:
        item = contents[SHARD][0]
        to = io.BytesIO()
        image = Image.new("RGB", (item.sample.width, item.sample.height))
        image.save(to, "MPO", save_all=True, append_images=[image])
        contents[SHARD][0] = item._replace(image=to.getvalue())

    rewrite(damaged, edit)
    assert verify(ShardSet.open(damaged)).faults.first == []


@pytest.mark.parametrize(
    ("field", "value", "kinds"),
    [
        ("width", 7, {Kind.SAMPLE, Kind.IMAGE}),
        ("height", 7, {Kind.SAMPLE, Kind.IMAGE}),
        ("captions", 999, {Kind.SAMPLE, Kind.TOTALS}),
        ("regions", 999, {Kind.SAMPLE, Kind.TOTALS}),
        ("datasets", ["coco"], {Kind.SAMPLE}),
    ],
)
def test_an_index_that_says_other_than_the_sample(
    field: str, value: object, kinds: set[Kind], damaged: Path
) -> None:
    reindex(damaged, lambda rows: setattr(rows[SHARD][0], field, value))
    assert verify(ShardSet.open(damaged)).faults.counts.keys() == kinds


@pytest.mark.parametrize("content", [b"{}", b"\xff", b'{"key": "coco/1", "captions": []}'])
def test_json_that_is_no_sample(content: bytes, damaged: Path) -> None:
    def edit(members: dict[str, bytes]) -> dict[str, bytes]:
        name = next(name for name in members if name.endswith(".json"))
        return members | {name: content}

    retar(damaged, SHARD, edit)
    [fault] = verify(ShardSet.open(damaged)).faults.first
    assert fault.kind is Kind.SAMPLE


def test_json_of_another_image(damaged: Path) -> None:
    def swap(members: dict[str, bytes]) -> dict[str, bytes]:
        one, other = [name for name in members if name.endswith(".json")][:2]
        return members | {one: members[other], other: members[one]}

    retar(damaged, SHARD, swap)
    found = [f.what for f in verify(ShardSet.open(damaged)).faults.first if f.kind is Kind.SAMPLE]
    assert sum(what.startswith("key is") for what in found) == 2


# --- by themselves --------------------------------------------------------------------------------


def caption(text: str, *parts: Span, regions: list[Region] = [], dataset: str = "vg") -> Caption:  # noqa: B006
    return Caption(text, regions, [], [Provenance(dataset, "1", part) for part in parts])


def kinds_of(of: Caption, expected: Expected) -> set[Kind]:
    return {fault.kind for fault in sample_faults(Sample("vg/1", 100, 50, "", [of]), expected)}


def region(span: Span, box: Box = (1.0, 2.0, 3.0, 4.0)) -> Region:
    return Region([span], box)


words = st.text(st.sampled_from("ab1é'- .,_"), min_size=1, max_size=12)


@given(words, st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=4))
def test_cut_words_are_those_whose_letters_are_divided(text: str, spans: list[Span]) -> None:
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
    assert cut_words(text, spans) == expected


@pytest.mark.parametrize(
    ("text", "named"),
    [("the man's hat", "man"), ("the man's hat", "'s"), ("a t-shirt", "shirt"), ("x_y", "x")],
)
def test_apostrophes_hyphens_and_underscores_are_borders(text: str, named: str) -> None:
    start = text.index(named)
    assert not cut_words(text, [(start, start + len(named))])


def test_words_as_the_published_scripts_find_them() -> None:
    cut = caption("the rhino", (0, 9), regions=[region((4, 6))])
    assert kinds_of(cut, Expected()) == {Kind.WORD}
    assert kinds_of(cut, Expected(as_published=frozenset(["vg"]))) == set()
    assert kinds_of(cut, Expected(as_published=frozenset(["gqa"]))) == {Kind.WORD}
    cut.regions[0].spans = [(-1, 6)]
    assert kinds_of(cut, Expected(as_published=frozenset(["vg"]))) == {Kind.SPAN}


pixels = st.floats(-10, 110, width=32) | st.just(math.nan) | st.just(math.inf)


@given(st.tuples(pixels, pixels, pixels, pixels))
def test_boxes_are_held_against_their_image(box: Box) -> None:
    x0, y0, x1, y1 = box
    of = caption("a man", (0, 5), regions=[region((2, 5), box)])
    inside = 0 <= x0 < x1 <= 100 and 0 <= y0 < y1 <= 50
    assert kinds_of(of, Expected()) == (set() if inside else {Kind.BOX})
    finite = all(map(math.isfinite, box))
    assert kinds_of(of, Expected(clipped=False)) == (set() if finite else {Kind.BOX})


def test_boxes_of_phrases_may_be_outside_of_the_image() -> None:
    of = caption("a man", (0, 5))
    of.phrases = [Phrase([(2, 5)], "1", ["people"], [(-5.0, 0.0, 500.0, 20.0)])]
    assert kinds_of(of, Expected()) == set()
    of.phrases[0].boxes.append((5.0, 0.0, 5.0, 20.0))
    assert kinds_of(of, Expected()) == {Kind.BOX}
    of.phrases[0] = Phrase([(3, 5)], "1", ["people"], [])
    assert kinds_of(of, Expected()) == {Kind.WORD}


def test_phrases_have_words() -> None:
    of = caption("a man", (0, 5))
    of.phrases = [Phrase([], "1", ["people"], [])]
    assert kinds_of(of, Expected()) == {Kind.PHRASE}


@pytest.mark.parametrize(
    ("area", "wrong"),
    [(None, False), (0.0, False), (1e9, False), (-0.5, True), (math.inf, True), (math.nan, True)],
)
def test_areas(area: float | None, wrong: bool) -> None:
    of = caption("a man", (0, 5), regions=[region((2, 5))])
    of.regions[0].area = area
    assert kinds_of(of, Expected()) == ({Kind.AREA} if wrong else set())


def test_a_box_where_the_size_is_not_known() -> None:
    sample = Sample("vg/1", 0, 0, "", [caption("a man", (0, 5), regions=[region((2, 5))])])
    assert not list(sample_faults(sample, Expected()))
    assert len(list(unchecked(sample, Expected()))) == 1
    assert not list(unchecked(sample, Expected(clipped=False)))


@pytest.mark.parametrize(
    ("parts", "wrong"),
    [
        ([(0, 3), (3, 6)], False),
        ([(0, 4), (3, 6)], True),
        ([(0, 3), (4, 7)], True),
        ([(0, 0)], True),
        ([], True),
    ],
)
def test_parts_divide_the_text(parts: list[Span], wrong: bool) -> None:
    assert (Kind.PART in kinds_of(caption("abc de", *parts), Expected())) == wrong


@pytest.mark.parametrize(
    ("rules", "sentences", "too_long"),
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
def test_length(rules: Rules, sentences: list[int], too_long: bool) -> None:
    parts: list[Span] = []
    for length in sentences:
        start = parts[-1][1] + 1 if parts else 0
        parts.append((start, start + length))
    assert is_too_long(caption("a" * parts[-1][1], *parts), rules) == too_long


def test_the_rules_are_those_of_combined_splits() -> None:
    long = caption("a" * 300, (0, 300))
    assert kinds_of(long, Expected()) == set()
    assert kinds_of(long, Expected(combined=PAPER)) == {Kind.LENGTH}


BOX: Box = (0.0, 0.0, 10.0, 10.0)


def parts_with(one: Box, other: Box) -> Caption:
    return caption("abc def", (0, 3), (4, 7), regions=[region((0, 3), one), region((4, 7), other)])


def test_parts_overlap_by_the_measure_of_the_rules() -> None:
    half: Box = (0.0, 0.0, 10.0, 5.0)  # IoU and GIoU 0.5: not more than the threshold
    assert not overlapping_parts(parts_with(BOX, half), PAPER)
    above: Box = (0.0, 0.0, 10.0, float(np.nextafter(np.float32(5), np.float32(6))))
    assert not overlapping_parts(parts_with(BOX, above), PAPER)  # by one step of float32
    assert overlapping_parts(parts_with(BOX, (0.0, 0.0, 10.0, 5.1)), PAPER)
    shifted: Box = (3.0, 3.0, 13.0, 12.0)
    low = msgspec.structs.replace(MDETR, threshold=0.3)
    assert overlapping_parts(parts_with(BOX, shifted), low)
    assert not overlapping_parts(
        parts_with(BOX, shifted), msgspec.structs.replace(low, conflict="giou")
    )


def test_boxes_of_one_part_may_overlap() -> None:
    of = parts_with(BOX, (50.0, 20.0, 60.0, 30.0))
    of.regions.append(region((0, 3), BOX))
    assert not overlapping_parts(of, PAPER)
    of.regions.append(region((4, 7), BOX))
    assert list(overlapping_parts(of, PAPER)) == [(0, 1, 1.0)]


def test_parts_without_boxes_overlap_nothing() -> None:
    assert not overlapping_parts(caption("abc def", (0, 3), (4, 7)), PAPER)
    empty: Box = (5.0, 5.0, 5.0, 5.0)
    assert not overlapping_parts(parts_with(empty, empty), MDETR)
    assert not overlapping_parts(parts_with(BOX, (0.0, 0.0, math.inf, 1.0)), PAPER)

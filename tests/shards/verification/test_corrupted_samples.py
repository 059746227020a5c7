"""Samples of an otherwise correct shard set that violate the recipe's requirements."""

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from schemas import Box, Caption, Span
from shards.reading.shard_set import ShardSet
from shards.verification.errors import ErrorKind
from shards.verification.spans import sentence_index
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

"""Packing and unpacking records is lossless."""

from hypothesis import given
from hypothesis import strategies as st

from pipelines.beam.dofns import SliceOutput
from pipelines.beam.reading import Reading
from pipelines.beam.serialization import pack, unpack
from schemas import (
    GroundedCaption,
    ImageInfo,
    ImageRecord,
    NotAskedFor,
    Object,
    ObjectRegion,
    Phrase,
    Question,
    RawCounts,
    Region,
    Rejected,
)

text = st.text(st.characters(codec="utf-8"), max_size=5)
number = st.integers(0, 2**31 - 1)
pixel = st.floats(width=32, allow_nan=False)
box = st.tuples(pixel, pixel, pixel, pixel)
spans = st.lists(st.tuples(number, number), max_size=2)
images = st.builds(ImageInfo, text, text, text, number, number, text, text)
rejected = st.builds(Rejected, text, text, text, text, text, number, number)
regions = st.builds(Region, spans, box, st.none() | pixel, number, st.booleans())
object_regions = st.builds(ObjectRegion, spans, text, number)
captions = st.builds(
    GroundedCaption,
    text,
    st.lists(regions, max_size=2),
    spans,
    text,
    text,
    st.lists(
        st.builds(Phrase, spans, text, st.lists(text, max_size=2), st.lists(box, max_size=2)),
        max_size=1,
    ),
    st.none() | st.builds(Question, text, st.none() | text),
    st.lists(object_regions, max_size=2),
)
objects = st.dictionaries(text, st.builds(Object, box, st.none() | pixel), max_size=2)
records = st.builds(ImageRecord, text, text, text, st.lists(captions, max_size=2), objects, number)


@given(st.lists(images, max_size=5))
def test_packed_images_unpack_to_the_same(rows: list[ImageInfo]) -> None:
    assert unpack(pack(rows), list[ImageInfo]) == rows


@given(st.lists(records, max_size=3), st.lists(images, max_size=3))
def test_packed_slice_outputs_unpack_to_the_same(
    records: list[ImageRecord], images: list[ImageInfo]
) -> None:
    unpacked = unpack(pack(SliceOutput(records, images)), SliceOutput)
    assert (unpacked.records, unpacked.images) == (records, images)


@given(st.lists(rejected, max_size=3), st.dictionaries(text, number, max_size=2), number)
def test_packed_readings_unpack_to_the_same(
    rejected: list[Rejected], splits: dict[str, int], count: int
) -> None:
    reading = Reading("vg", "a.json", rejected=rejected, splits=splits)
    reading.add_raw(RawCounts("vg", count, 2 * count, splits))
    reading.add_not_asked_for(NotAskedFor("vg", "the rest", count, 0))
    assert unpack(pack(reading), Reading) == reading


def test_similar_records_pack_to_few_bytes() -> None:
    rows = [ImageInfo(f"vg/{i}", "vg", f"{i}.jpg", 800, 600) for i in range(10_000)]
    assert len(pack(rows)) < 10 * len(rows)

"""A sample survives encoding and decoding."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import Caption, Phrase, Provenance, Question, Region, Sample
from schemas.sample import decode_caption, decode_sample, encode_sample

pixel = st.floats(-100, 10_000, width=32)
boxes = st.tuples(pixel, pixel, pixel, pixel)
spans = st.lists(st.tuples(st.integers(0, 250), st.integers(0, 250)), max_size=3)
areas = st.none() | st.floats(0, 1e6)
regions = st.builds(Region, spans, boxes, areas, st.integers(0, 1200), st.booleans())
phrases = st.builds(
    Phrase, spans, st.text(max_size=5), st.lists(st.text(max_size=5)), st.lists(boxes, max_size=2)
)
questions = st.builds(Question, st.text(max_size=5), st.none() | st.text(max_size=5))
parts = st.builds(
    Provenance, st.text(max_size=5), st.text(max_size=5), st.tuples(*[st.integers(0, 9)] * 2)
)
captions = st.builds(
    Caption,
    st.text(),
    st.lists(regions, max_size=3),
    spans,
    st.lists(parts, max_size=2),
    st.lists(phrases, max_size=2),
    st.none() | questions,
)


@given(st.lists(captions, min_size=1, max_size=3))
def test_captions_come_back(written: list[Caption]) -> None:
    sample = Sample("coco/9", 640, 480, "9.jpg", written)
    member = encode_sample(sample)
    assert decode_sample(member) == sample
    for number, caption in enumerate(written):
        assert decode_caption(memoryview(member), number) == ("coco/9", caption)


def test_a_caption_that_is_not_there() -> None:
    with pytest.raises(IndexError):
        decode_caption(encode_sample(Sample("coco/9", 1, 1, "", [])), 0)


@pytest.mark.parametrize("member", [b"", b"[]", b"{}", b'{"key": "a/b", "captions": [{}]}'])
def test_what_is_no_sample(member: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_caption(member, 0)
    with pytest.raises(msgspec.DecodeError):
        decode_sample(member)

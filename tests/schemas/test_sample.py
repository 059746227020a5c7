"""The JSON of a sample."""

import msgspec
import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import Caption, Phrase, Provenance, Question, Region, Sample
from schemas.sample import decode_caption, decode_sample, encode_sample

pixels = st.floats(-100, 10_000, width=32)
boxes = st.tuples(pixels, pixels, pixels, pixels)
spans = st.lists(st.tuples(st.integers(0, 250), st.integers(0, 250)), max_size=3)
areas = st.none() | st.floats(0, 1e6)
regions = st.builds(Region, spans, boxes, areas, st.integers(0, 1200), st.booleans())
phrases = st.builds(
    Phrase, spans, st.text(max_size=5), st.lists(st.text(max_size=5)), st.lists(boxes, max_size=2)
)
questions = st.builds(Question, st.text(max_size=5), st.none() | st.text(max_size=5))
provenance = st.builds(
    Provenance, st.text(max_size=5), st.text(max_size=5), st.tuples(*[st.integers(0, 9)] * 2)
)
captions = st.builds(
    Caption,
    st.text(),
    st.lists(regions, max_size=3),
    spans,
    st.lists(provenance, max_size=2),
    st.lists(phrases, max_size=2),
    st.none() | questions,
)


@given(st.lists(captions, min_size=1, max_size=3))
def test_sample_survives_encoding_and_decoding(written: list[Caption]) -> None:
    sample = Sample("coco/9", 640, 480, "9.jpg", written)
    member = encode_sample(sample)
    assert decode_sample(member) == sample
    for i, caption in enumerate(written):
        assert decode_caption(memoryview(member), i) == ("coco/9", caption)


@pytest.mark.parametrize("text", ['{"text":', '[{"text":"a', '\\"captions":[{\\"text":', "]},"])
def test_texts_that_look_like_captions_are_none(text: str) -> None:
    provenance = [Provenance(text, text, (0, 1))]
    written = [Caption(text, [], [(0, 1)], provenance) for _ in range(3)]
    member = encode_sample(Sample(text, 1, 1, text, written))
    for i, caption in enumerate(written):
        assert decode_caption(member, i) == (text, caption)


def test_caption_is_found_in_json_of_other_programs() -> None:
    written = [Caption(f"{i}", [Region([(0, 1)], (1, 2, 3, 4), 1.0)], [], []) for i in range(3)]
    document = orjson.loads(encode_sample(Sample("coco/9", 640, 480, "9.jpg", written)))
    for caption in document["captions"][:2]:
        caption["comment"] = {"text": "a"}  # begins as a caption does
    reordered = dict(reversed(document.items()))
    for member in (
        orjson.dumps(document),
        orjson.dumps(document, option=orjson.OPT_INDENT_2),
        orjson.dumps(document, option=orjson.OPT_SORT_KEYS),
        orjson.dumps(reordered),
    ):
        assert decode_caption(member, 0) == ("coco/9", written[0])
        assert decode_caption(member, 1) == ("coco/9", written[1])


@pytest.mark.parametrize("captions", [0, 2])
def test_missing_caption_raises_index_error(captions: int) -> None:
    written = [Caption("a", [], [], [])] * captions
    with pytest.raises(IndexError):
        decode_caption(encode_sample(Sample("coco/9", 1, 1, "", written)), captions)


@pytest.mark.parametrize("member", [b"", b"[]", b"{}", b'{"key": "a/b", "captions": [{}]}'])
def test_json_of_another_layout_is_refused(member: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_caption(member, 0)
    with pytest.raises(msgspec.DecodeError):
        decode_sample(member)


def test_boxes_have_the_fewest_digits_of_their_float32() -> None:
    third = float(np.float32(1 / 3))
    caption = Caption("a", [Region([(0, 1)], (third, 0.1, 2.0, 1e4))], [], [])
    assert b'"box":[0.33333334,0.1,2.0,10000.0]' in encode_sample(
        Sample("a/b", 1, 1, "", [caption])
    )


def test_fields_of_the_json() -> None:
    caption = Caption(
        "zoë?",
        [Region([(0, 3)], (1, 2, 3, 4), 8.0), Region([], (1, 2, 3, 4), None, 17, True)],
        [(0, 4)],
        [Provenance("gqa", "05", (0, 4))],
        [Phrase([(0, 3)], "47", ["people"], [(1, 2, 3, 4)])],
        Question("05", "yes", "obj", "verify", False),
    )
    assert orjson.loads(encode_sample(Sample("vg/1", 640, 480, "1.jpg", [caption]))) == {
        "key": "vg/1",
        "width": 640,
        "height": 480,
        "file": "1.jpg",
        "captions": [
            {
                "text": "zoë?",
                "regions": [
                    {"box": [1, 2, 3, 4], "tokens_positive": [[0, 3]], "area": 8.0},
                    {
                        "box": [1, 2, 3, 4],
                        "tokens_positive": [],
                        "category": 17,
                        "crowd": True,
                    },
                ],
                "tokens_negative": [[0, 4]],
                "provenance": [{"dataset": "gqa", "record": "05", "span": [0, 4]}],
                "phrases": [
                    {
                        "tokens_positive": [[0, 3]],
                        "entity": "47",
                        "types": ["people"],
                        "boxes": [[1, 2, 3, 4]],
                    }
                ],
                "question": {
                    "id": "05",
                    "answer": "yes",
                    "semantic_type": "obj",
                    "structural_type": "verify",
                    "balanced": False,
                },
            }
        ],
    }

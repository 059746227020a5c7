"""Reading the JSON member of a sample, which `shards.format.writer.encode_sample` writes."""

from array import array

import msgspec

from schemas import Box, Caption, Phrase, Provenance, Question, Region, Sample, Span


def decode_caption(member: bytes | memoryview, number: int) -> tuple[str, Caption]:
    """The key of a sample and one of its captions; the others are passed over undecoded.

    Raises:
        msgspec.DecodeError: it is not the JSON of a sample.
        IndexError: it has no caption of that number.
    """
    sample = _SAMPLE.decode(member)
    return sample.key, _caption(_CAPTION.decode(sample.captions[number]))


def decode_sample(member: bytes | memoryview) -> Sample:
    """A sample with all its captions.

    Raises:
        msgspec.DecodeError: it is not the JSON of a sample.
    """
    found = _WHOLE.decode(member)
    captions = [_caption(caption) for caption in found.captions]
    return Sample(found.key, found.width, found.height, found.file, captions)


class _SampleJson(msgspec.Struct):
    key: str
    captions: list[msgspec.Raw]


class _RegionJson(msgspec.Struct):
    box: Box
    spans: list[Span]
    area: float | None
    category: int = 1
    crowd: bool = False


class _PartJson(msgspec.Struct):
    dataset: str
    record: str
    span: Span


class _PhraseJson(msgspec.Struct):
    spans: list[Span]
    entity: str
    types: list[str]
    boxes: list[Box]


class _CaptionJson(msgspec.Struct):
    text: str
    regions: list[_RegionJson]
    negative: list[Span]
    parts: list[_PartJson]
    phrases: list[_PhraseJson] = []
    question: Question | None = None


class _WholeJson(msgspec.Struct):
    key: str
    width: int
    height: int
    file: str
    captions: list[_CaptionJson]


_SAMPLE = msgspec.json.Decoder(_SampleJson)
_CAPTION = msgspec.json.Decoder(_CaptionJson)
_WHOLE = msgspec.json.Decoder(_WholeJson)


def _caption(found: _CaptionJson) -> Caption:
    return Caption(
        found.text,
        [Region(r.spans, _float32(r.box), "", r.area, r.category, r.crowd) for r in found.regions],
        found.negative,
        [Provenance(p.dataset, p.record, p.span) for p in found.parts],
        [
            Phrase(p.spans, p.entity, p.types, [_float32(box) for box in p.boxes])
            for p in found.phrases
        ],
        found.question,
    )


def _float32(box: Box) -> Box:
    """The float32 numbers that the digits name."""
    x0, y0, x1, y1 = array("f", box)
    return x0, y0, x1, y1

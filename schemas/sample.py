"""A sample of a shard: one image with its captions, and the JSON of its tar member.

The structs state the JSON once, for encoding and decoding: a field is written under its own name,
except that ``spans`` are ``tokens_positive``, as in MDETR's annotation files, and a field that has
its default value is left out.

Boxes are ``(x0, y0, x1, y1)`` in pixels of the image. Every number of a box is a Python float that
a float32 represents exactly. Spans are half-open character offsets into the caption's text. The
structs are untracked by the garbage collector (``gc=False``), which is safe because none can form a
cycle.
"""

from collections.abc import Iterable
from struct import Struct
from typing import Any, Literal

import msgspec

from schemas.decodable import decodable

Span = tuple[int, int]
Box = tuple[float, float, float, float]

#: How an absent phrase is known to be absent: annotators of the image stated so, or it was drawn
#: from the vocabulary of the recipe, without what names a present object.
Strength = Literal["proven", "unproven"]


class Region(msgspec.Struct, gc=False, omit_defaults=True):
    """A box and the words of a caption that name it.

    ``area`` is in square pixels, as the source states it or computed from the box; None where the
    source states none. ``category`` is the class id of a detection dataset. ``crowd`` marks a
    box around a group of objects (COCO's ``iscrowd``).
    """

    spans: list[Span] = msgspec.field(name="tokens_positive")
    box: Box
    area: float | None = None
    category: int = 1
    crowd: bool = False


def region_identity(region: Region) -> tuple[object, ...]:
    """Returns a key that two regions share only if they are the same in every field."""
    return (*region.spans, region.box, region.area, region.category, region.crowd)


class Phrase(msgspec.Struct, gc=False):
    """A phrase to ground at evaluation (Flickr30k Entities), with every box of its entity."""

    spans: list[Span] = msgspec.field(name="tokens_positive")
    entity: str
    types: list[str]
    boxes: list[Box]


class Question(msgspec.Struct, gc=False):
    """The annotation of a question that a question answering evaluator needs."""

    id: str
    answer: str | None = None
    semantic_type: str | None = None  # GQA: rel, obj, global, attr, cat
    structural_type: str | None = None  # GQA: verify, query, choose, logical, compare
    balanced: bool = True


class Provenance(msgspec.Struct, gc=False):
    """The raw record from which the characters ``span`` of a caption were made.

    ``dataset`` is the published dataset (``vg``, ``gqa``, ``refcoco``, ``refcoco+``,
    ``refcocog``, ``flickr30k``, ...), ``record`` the id of the record in it.
    """

    dataset: str
    record: str
    span: Span


class AbsentSpan(msgspec.Struct, gc=False):
    """The characters of a caption that name no object of the image, and how that is known.

    ``dataset`` and ``record`` are those of the raw record that states so; of an unproven phrase,
    ``record`` is empty and ``dataset`` is that of the recipe's phrases: "vocabulary". ``reason`` is
    short and fixed.
    """

    span: Span
    dataset: str
    record: str
    reason: str
    strength: Strength


class Caption(msgspec.Struct, gc=False, omit_defaults=True):
    """A caption of an image: one sentence, or several joined, and phrases that name nothing in it.

    ``tokens_negative`` are the spans that match no box except the boxes of regions that name them,
    as in MDETR's annotation files: words of present objects, and all words of absent ones.
    ``provenance`` has one entry for each sentence, ``absent`` for each absent phrase, which may be
    before, between or after those. A caption of absent phrases only has no provenance.
    """

    text: str
    regions: list[Region]
    tokens_negative: list[Span]
    provenance: list[Provenance]
    phrases: list[Phrase] = []
    question: Question | None = None
    absent: list[AbsentSpan] = []

    def is_absent(self) -> bool:
        """Returns whether it is made of absent phrases only: no sentence, question or class."""
        return bool(self.absent) and not self.provenance


class Sample(msgspec.Struct, gc=False):
    """One image with all its captions. ``file`` is the name of its file in its source."""

    key: str
    width: int
    height: int
    file: str
    captions: list[Caption]


class _LazySample(msgspec.Struct, gc=False):
    """A sample whose captions are not decoded."""

    key: str
    captions: list[msgspec.Raw]


# How `encode_sample` begins a caption, and nothing else: in a text, its quotes would be escaped.
_CAPTION_START = b'{"text":'
_FLOAT32_BOX = Struct("4f")

_decoder = msgspec.json.Decoder(decodable(Sample))
_lazy_decoder = msgspec.json.Decoder(decodable(_LazySample))
_caption_decoder = msgspec.json.Decoder(decodable(Caption))


def encode_sample(sample: Sample) -> bytes:
    """Returns the JSON of a sample; boxes have the shortest digits that identify their float32.

    >>> region = Region(spans=[(2, 5)], box=(0.1, 0, 8, 9), area=71.0)
    >>> caption = Caption(
    ...     "a cat", [region], tokens_negative=[], provenance=[Provenance("vg", "7", (0, 5))]
    ... )
    >>> member = encode_sample(Sample("vg/1", 640, 480, "1.jpg", [caption]))
    >>> member[member.index(b'"regions"') : member.index(b',"tokens_negative"')]
    b'"regions":[{"tokens_positive":[[2,5]],"box":[0.1,0.0,8.0,9.0],"area":71.0}]'
    """
    # Imported here, so that the --help of every program, which imports schemas, is fast.
    import numpy as np
    import orjson

    document: dict[str, Any] = msgspec.to_builtins(sample)
    for caption in document["captions"]:
        for region in caption["regions"]:
            region["box"] = np.array(region["box"], np.float32)
        for phrase in caption.get("phrases", ()):
            phrase["boxes"] = np.array(phrase["boxes"], np.float32).reshape(-1, 4)
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def decode_sample(member: bytes | memoryview) -> Sample:
    """Returns the sample that `encode_sample` wrote.

    Raises:
        msgspec.DecodeError: ``member`` is not the JSON of a sample.
    """
    sample = _decoder.decode(member)
    _round_boxes(sample.captions)
    return sample


def decode_caption(member: bytes | memoryview, index: int) -> tuple[str, Caption]:
    """Returns the key of a sample and one of its captions; decodes no other caption.

    Raises:
        msgspec.DecodeError: ``member`` is not the JSON of a sample; errors in other captions may
            be overlooked.
        IndexError: the sample has no caption of that index.
    """
    content = bytes(member)
    try:
        key, caption = _find_caption(content, index)
    except (ValueError, msgspec.DecodeError):  # other JSON than that of `encode_sample`
        sample = _lazy_decoder.decode(content)
        key, caption = sample.key, _caption_decoder.decode(sample.captions[index])
    _round_boxes([caption])
    return key, caption


def _find_caption(content: bytes, index: int) -> tuple[str, Caption]:
    """Returns the key and a caption of what `encode_sample` wrote.

    A search passes over the captions before it in a third of the time of a decoder.

    Raises:
        ValueError: there are too few captions.
        msgspec.DecodeError: `encode_sample` has not written ``content``.
    """
    first = start = content.index(_CAPTION_START)
    for _ in range(index):
        start = content.index(_CAPTION_START, start + 1)
    next_start = content.find(_CAPTION_START, start + 1)
    end = next_start - len(",") if next_start >= 0 else len(content) - len("]}")
    sample = _lazy_decoder.decode(content[:first] + b"]}")
    return sample.key, _caption_decoder.decode(content[start:end])


def _round_boxes(captions: Iterable[Caption]) -> None:
    """Rounds the decimal numbers of decoded boxes to float32."""
    for caption in captions:
        for region in caption.regions:
            region.box = _as_float32(region.box)
        for phrase in caption.phrases:
            phrase.boxes = [_as_float32(box) for box in phrase.boxes]


def _as_float32(box: Box) -> Box:
    x0, y0, x1, y1 = _FLOAT32_BOX.unpack(_FLOAT32_BOX.pack(*box))
    return x0, y0, x1, y1

"""The records that travel from the readers to the shard writer.

Boxes are ``(x0, y0, x1, y1)`` in pixels of the picture that the record names, and every number
of a box is exactly representable as a float32. Spans are half-open character offsets into the
caption's text. The structs are array-like so that a million of them pack tightly into msgpack,
and untracked by the garbage collector (``gc=False``), which is safe because none can form a cycle.
"""

import msgspec

Span = tuple[int, int]
Box = tuple[float, float, float, float]


class Region(msgspec.Struct, array_like=True, gc=False):
    """A box and the words of a caption that name it (``tokens_positive`` of the published files).

    A region carries its ``box``, or the id of an ``object`` whose box another file of the same
    source holds (RefCOCO sentence -> COCO annotation, GQA question -> scene graph object); the
    shard writer binds the two once all parts of a picture have met.
    """

    spans: list[Span]
    box: Box | None = None
    object: str = ""
    area: float | None = None  # square pixels as the source states it; None: the area of the box
    category: int = 1
    crowd: bool = False


class Object(msgspec.Struct, array_like=True, gc=False):
    """A box that captions of the same source may name by its id."""

    box: Box
    area: float | None = None
    category: int = 1
    crowd: bool = False


class Phrase(msgspec.Struct, array_like=True, gc=False):
    """A phrase to be grounded at evaluation (Flickr30k Entities): every box of its entity."""

    spans: list[Span]
    entity: str
    types: list[str]
    boxes: list[Box]


class Question(msgspec.Struct, array_like=True, gc=False):
    """What a question answering evaluator needs beside the question's text."""

    id: str
    answer: str | None = None
    semantic_type: str | None = None  # GQA: rel, obj, global, attr, cat
    structural_type: str | None = None  # GQA: verify, query, choose, logical, compare
    balanced: bool = True


class GroundedCaption(msgspec.Struct, array_like=True, gc=False):
    """One sentence about one picture, with its regions.

    ``dataset`` is the published data set the sentence is from (``vg``, ``gqa``, ``refcoco``,
    ``refcoco+``, ``refcocog``, ``flickr30k``); ``record`` is the id of the raw record there.
    ``negative`` are the spans that must not be matched to any box but their own
    (``tokens_negative`` of the published files).
    """

    text: str
    regions: list[Region]
    negative: list[Span]
    dataset: str
    record: str
    phrases: list[Phrase] = []
    question: Question | None = None


class ImagePart(msgspec.Struct, array_like=True, gc=False):
    """What one slice of one raw file says of one picture.

    ``rank`` orders the parts of a picture as their raw files do: (source, input, slice start).
    ``split`` is empty where the part serves every split (object tables). ``width`` and
    ``height`` are 0 where the file does not state them.
    """

    picture: str  # image key: coco/139, vg/2320633, flickr30k/1000092795
    source: str
    split: str
    captions: list[GroundedCaption] = []
    objects: dict[str, Object] = {}
    width: int = 0
    height: int = 0
    rank: tuple[int, int, int] = (0, 0, 0)


class Picture(msgspec.Struct, array_like=True, gc=False):
    """One row of a source's table of pictures.

    ``photo`` is the Flickr photo id if the table tells it; ``same_as`` the key of the picture
    that this one was made from, if the table tells it (VG's ``coco_id``).
    """

    key: str
    source: str
    file: str  # name below the source's picture roots
    width: int = 0
    height: int = 0
    photo: str = ""
    same_as: str = ""


class Rejected(msgspec.Struct, array_like=True, gc=False):
    """An input record that could not be used. ``reason`` is one of few, ``detail`` is free text."""

    source: str
    record: str
    reason: str
    detail: str = ""
    picture: str = ""

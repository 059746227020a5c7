"""The records that travel from the readers to the shard writer.

Boxes are ``(x0, y0, x1, y1)`` in pixels of the image that the record names, and every number
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
    shard writer binds the two once all parts of an image have met.
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


class Question(msgspec.Struct, gc=False):
    """What a question answering evaluator needs beside the question's text."""

    id: str
    answer: str | None = None
    semantic_type: str | None = None  # GQA: rel, obj, global, attr, cat
    structural_type: str | None = None  # GQA: verify, query, choose, logical, compare
    balanced: bool = True


class GroundedCaption(msgspec.Struct, array_like=True, gc=False):
    """One sentence about one image, with its regions.

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


class ImageRecord(msgspec.Struct, array_like=True, gc=False):
    """What one slice of one raw file says of one image.

    ``rank`` orders the parts of an image as their raw files do: (source, input, slice start).
    ``split`` is empty where the part serves every split (object tables). ``width`` and
    ``height`` are 0 where the file does not state them. ``merged`` counts the raw records that
    became part of another record's caption.
    """

    image: str  # image key: coco/139, vg/2320633, flickr30k/1000092795
    source: str
    split: str
    captions: list[GroundedCaption] = []
    objects: dict[str, Object] = {}
    width: int = 0
    height: int = 0
    rank: tuple[int, int, int] = (0, 0, 0)
    merged: int = 0


class ImageInfo(msgspec.Struct, array_like=True, gc=False):
    """One row of a source's table of images.

    ``photo`` is the Flickr photo id if the table tells it; ``same_as`` the key of the image
    that this one was made from, if the table tells it (VG's ``coco_id``).
    """

    key: str
    source: str
    file: str  # name below the source's image roots
    width: int = 0
    height: int = 0
    photo: str = ""
    same_as: str = ""


class Rejected(msgspec.Struct, array_like=True, gc=False):
    """An input record that could not be used. ``reason`` is one of few, ``detail`` is free text.

    ``records`` is how many records were lost by it: several with a missing image, none where a
    caption lost one of its regions and is kept.
    """

    source: str
    record: str
    reason: str
    detail: str = ""
    image: str = ""
    records: int = 1


class HeldOut(msgspec.Struct, array_like=True, gc=False):
    """An image of an evaluation set: it must not be seen in training."""

    set: str  # refcoco, flickr30k, lvis_minival, ...
    key: str
    photo: str = ""
    file: str = ""  # name below the set's image roots, where its own file tells it


class Excluded(msgspec.Struct, array_like=True, gc=False):
    """A copy of an image that was left out of a split, and why.

    ``copy`` is the key under which the left-out annotations name the image, ``image`` the key
    it would have had in the shards, ``held_out`` the key under which ``set`` names it. ``join``
    says what ties the two: ``id``, ``coco_id``, ``flickr photo id`` or ``perceptual hash``.
    ``left_out`` is false where a near-duplicate is only reported.
    """

    split: str
    image: str
    copy: str
    set: str
    held_out: str
    join: str
    captions: int
    left_out: bool = True


class Provenance(msgspec.Struct, array_like=True, gc=False):
    """Provenance: the raw record that the characters ``span`` of a caption came from."""

    dataset: str
    record: str
    span: Span


class Caption(msgspec.Struct, gc=False):
    """A caption as it stands in a shard: one sentence, or several joined."""

    text: str
    regions: list[Region]
    negative: list[Span]
    parts: list[Provenance]
    phrases: list[Phrase] = []
    question: Question | None = None


class Sample(msgspec.Struct, gc=False):
    """One image with all its captions: one tar sample of a shard."""

    key: str
    width: int
    height: int
    file: str
    captions: list[Caption]

"""The records that readers create from raw files, and the rows of excluded and rejected data.

Boxes and spans are those of `schemas.sample`. The structs of this module are array-like, so that a
million of them pack tightly into msgpack.
"""

import msgspec

from schemas.licenses import UNKNOWN_LICENSE, License
from schemas.sample import Box, Phrase, Question, Region, Span, Strength


class ObjectRegion(msgspec.Struct, array_like=True, gc=False):
    """The words of a caption that name an object, whose box another file of the source holds.

    RefCOCO's sentences refer to COCO annotations in this way, and GQA's questions to objects of
    scene graphs. The shard builder replaces it by a `Region` when it has all records of the image.
    """

    spans: list[Span]
    object: str  # the object's id, a key of `ImageRecord.objects`
    category: int | None = 1  # None: that of the object


class Object(msgspec.Struct, array_like=True, gc=False):
    """A box that captions of the same source may name by its id; fields as of `Region`."""

    box: Box
    area: float | None = None
    category: int = 1
    crowd: bool = False


class GroundedCaption(msgspec.Struct, array_like=True, gc=False):
    """One sentence about one image, with its regions.

    ``dataset`` is the published dataset that the sentence is from (``vg``, ``gqa``, ``refcoco``,
    ``refcoco+``, ``refcocog``, ``flickr30k``, ...), ``record`` the id of the raw record in it.
    ``regions`` have boxes, ``object_regions`` name objects. ``of_class``: it is the name of a
    class, of which other slices may have more boxes. The other fields are those of
    `schemas.sample.Caption`.
    """

    text: str
    regions: list[Region]
    tokens_negative: list[Span]
    dataset: str
    record: str
    phrases: list[Phrase] = []
    question: Question | None = None
    object_regions: list[ObjectRegion] = []
    of_class: bool = False

    def box_count(self) -> int:
        """Returns the number of boxes that the caption refers to."""
        return len(self.regions) + len(self.object_regions)


class AbsentPhrase(msgspec.Struct, array_like=True, gc=False):
    """A phrase that names no object of an image: a noun, perhaps with adjectives before it.

    ``dataset`` and ``record`` are those of the raw record that states so, ``reason`` is short and
    fixed: "answered no", "class not shown". A source emits only what its annotators stated about
    this image, which is ``proven``; ``unproven`` ones are drawn when a shard is written. One that
    ``is_ambiguous`` states that one meaning of its words is absent, so it is rejected.
    """

    text: str
    dataset: str
    record: str
    reason: str
    strength: Strength = "proven"
    is_ambiguous: bool = False


class Synonyms(msgspec.Struct, array_like=True, gc=False):
    """Names of one class of objects, by a list of the source; the first stands for all."""

    source: str
    names: list[str]


class ImageRecord(msgspec.Struct, array_like=True, gc=False):
    """The data of one slice of one raw file about one image.

    ``rank`` orders the records of an image as their raw files do: (source, input, slice start).
    ``split`` is empty if the record applies to every split (object tables). ``width`` and
    ``height`` are 0 if the file does not state them. ``merged`` counts the raw captions that became
    part of another one, ``merged_boxes`` the boxes of captions that became part of another box.
    ``absent`` has what the image does not show, ``names`` what it shows, whether a caption mentions
    it or not: both are empty unless `Context.negatives` asks for them. ``has_relative_boxes``: the
    boxes of regions are fractions of width and height of the image's own file.
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
    merged_boxes: int = 0
    absent: list[AbsentPhrase] = []
    names: list[str] = []
    has_relative_boxes: bool = False


class RawCounts(msgspec.Struct, array_like=True, gc=False):
    """How many captions and boxes a slice of a raw file states, whatever becomes of them.

    A box is counted once for each caption that refers to it. ``splits`` has the captions of each
    split that the file names, if it is the file that divides its captions into splits.
    """

    source: str
    captions: int
    boxes: int
    splits: dict[str, int] = {}


class NotAskedFor(msgspec.Struct, array_like=True, gc=False):
    """Captions and boxes of a slice that the recipe does not ask for, and ``what`` they are."""

    source: str
    what: str
    captions: int
    boxes: int


class ImageInfo(msgspec.Struct, array_like=True, gc=False):
    """A row of a source's image table.

    ``photo_id`` is the id of the Flickr photo, ``same_as`` the key of the image that this one was
    made from (VG's ``coco_id``), ``url`` its address on the web; each is empty where the table does
    not state it, and so are name and URL of ``license``.
    """

    key: str
    source: str
    file: str  # name below the source's image roots
    width: int = 0
    height: int = 0
    photo_id: str = ""
    same_as: str = ""
    joins_only: bool = False  # it states ids, and is no image of the build
    license: License = UNKNOWN_LICENSE
    url: str = ""


class EvalImage(msgspec.Struct, array_like=True, gc=False):
    """An image of an evaluation set, which must not be trained on."""

    eval_set: str  # refcoco, flickr30k, lvis_minival, ...
    key: str
    photo_id: str = ""
    file: str = ""  # path below the set's image roots


# Reasons of captions that were lost because of another row, which is rejected as well: the row of
# their image, of the object that they name, or of all their boxes.
UNKNOWN_IMAGE = "unknown image"
UNKNOWN_OBJECT = "unknown object"
ALL_BOXES_LOST = "all boxes lost"


class Rejected(msgspec.Struct, array_like=True, gc=False):
    """An input record that could not be used: a row of ``rejected.parquet``.

    ``reason`` is short and fixed, ``detail`` is free text. ``records`` counts the lost captions:
    several for a missing image, none if a caption only lost one of its boxes; ``boxes`` counts the
    boxes that were lost. Both are 0 for a row of a table: the captions that need it are counted.
    """

    source: str
    record: str
    reason: str
    detail: str = ""
    image: str = ""
    records: int = 1
    boxes: int = 0


class Excluded(msgspec.Struct, array_like=True, gc=False):
    """An image that an evaluation set holds out of a split: a row of ``excluded.parquet``.

    ``join`` is how the image was matched with that of the evaluation set: ``id``, ``coco_id``,
    ``flickr photo id`` or ``perceptual hash``.
    """

    split: str
    image: str  # key in the annotations
    duplicate_of: str  # key of the canonical image in the shards; ``image`` if not a duplicate
    eval_set: str
    eval_image: str  # key in the evaluation set
    join: str
    captions: int  # the number of the image's captions
    excluded: bool = True  # false if a near-duplicate is only reported

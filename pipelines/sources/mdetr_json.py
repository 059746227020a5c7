"""MDETR's JSON format, in which GoldG is distributed: captions that are already combined.

Layout: ``final_mixed_train.json``, ``final_flickr_separateGT_train.json`` and ``finetune_*.json``
of github.com/ashkamath/mdetr, in COCO's layout, with an "image" per caption. The files do not state
the raw records of a caption, except the ids of questions.
"""

import functools
import itertools
import mmap
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from pipelines.captions.spans import whole_graphemes
from pipelines.dedup.joins import TableIds
from pipelines.geometry.boxes import from_xywh
from pipelines.geometry.polygons import MAX_COORDINATE
from pipelines.io.archives import file_name, map_file, version_of
from pipelines.io.json_records import (
    BadRecord,
    Category,
    Id,
    decode_list,
    decode_parts,
    decode_record,
    reject_malformed,
)
from pipelines.io.slices import Input, Slice, element_ranges
from pipelines.sources.base import Context, SliceItem, Source
from schemas import (
    ALL_BOXES_LOST,
    UNKNOWN_IMAGE,
    GroundedCaption,
    ImageInfo,
    ImageRecord,
    Phrase,
    Question,
    RawCounts,
    Region,
    Rejected,
)
from schemas.image_ids import ImageIdError, RawId, image_key, key_of_name, photo_id_of_key
from schemas.joins import PHOTO_ID
from schemas.limits import MAX_CAPTION_PAIRS, MAX_CHARACTERS, MAX_RECORD_BYTES

#: ``data_source`` or, without one, ``dataset_name`` in the published files -> namespace of the
#: images, where that has another name
NAMESPACES = {
    "flickr": "flickr30k",
    "refcoco": "coco",
    "refcoco+": "coco",
    "refcocog": "coco",
    "phrasecut": "vg",
}


_SPAN_BYTES = 100  # of an annotation, about, for each of its spans
_Coordinate = Annotated[float, msgspec.Meta(gt=-MAX_COORDINATE, lt=MAX_COORDINATE)]
_Side = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
_Offset = Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)]
_Span = tuple[_Offset, _Offset]


class _Image(msgspec.Struct, gc=False):
    id: Id
    file_name: str
    height: _Side | str  # Flickr30k's are strings
    width: _Side | str
    caption: str
    dataset_name: str
    data_source: str = ""
    original_id: RawId = None
    original_img_id: RawId = None
    sentence_id: Id | None = None
    question_id: Id | str | None = msgspec.field(name="questionId", default=None)
    question_type: str | None = None
    answer: str | None = None
    tokens_negative: list[_Span] = []
    tokens_positive_eval: list[list[_Span]] = []


class _Annotation(msgspec.Struct, gc=False):
    id: Id
    image_id: Id
    bbox: tuple[_Coordinate, _Coordinate, _Coordinate, _Coordinate]
    tokens_positive: list[_Span]
    area: float | None = None
    iscrowd: bool | int = 0
    category_id: Category = 1


class MdetrJson(Source, kw_only=True):
    """Captions and boxes of MDETR's files; each caption of a file is a sentence of this source.

    ``namespaces`` states the namespace of the images of datasets that are not published, by the
    ``data_source`` (or ``dataset_name``) of their records: their own, or one that they share. An id
    such as ``yard-3``, which no published dataset has, is the name of an image of one's own.
    """

    namespace: ClassVar[str] = "mdetr_json"

    files: dict[str, list[str]]  # split -> its files
    namespaces: dict[str, str] = {}

    def __post_init__(self) -> None:
        for name, namespace in self.namespaces.items():
            if not re.fullmatch("[A-Za-z0-9_+-]{1,40}", namespace):
                raise ValueError(
                    f"namespaces.{name}: {namespace!a} cannot begin the key of an image"
                )

    def paths(self) -> list[str]:
        return [path for paths in self.files.values() for path in paths]

    def split_names(self) -> set[str]:
        return set(self.files)

    def image_ids(self) -> TableIds:
        known = {"coco": frozenset(), "vg": frozenset(), "flickr30k": frozenset({PHOTO_ID})}
        return {**dict.fromkeys(self._own_namespaces, frozenset()), **known}

    def image_tables(self) -> list[Input]:
        return [Input(path, "list", within="images") for path in self.paths()]

    def read_image_table(self, raw_slice: Slice) -> Iterator[ImageInfo | Rejected]:
        images, _ = decode_list(raw_slice.content, _Image)  # `read` reports the bad ones
        rows: set[tuple[str, str, int, int]] = set()
        for image in images:
            key, size = self._key(image)[0], _size(image)
            if key and size:
                rows.add((key, image.file_name, *size))
        for key, file, width, height in sorted(rows):
            yield ImageInfo(key, self.namespace, file, width, height, photo_id_of_key(key))

    def inputs(self, splits: tuple[str, ...]) -> list[Input]:
        return [
            Input(path, "list", within="images", role=split)
            for split in splits
            for path in self.files.get(split, [])
        ]

    def read(self, raw_slice: Slice, context: Context) -> Iterator[SliceItem]:
        path = raw_slice.input.path
        images, bad = decode_list(raw_slice.content, _Image)
        index = annotation_index(path)
        read = RawCounts(self.namespace, captions=len(images) + len(bad), boxes=0)
        ids = decode_parts(raw_slice.content, bad, _ImageId)
        for record_of_bad, id_ in zip(bad, ids, strict=True):
            lost = 0 if id_ is None else len(index.rows_of(id_.image))
            read.boxes += lost
            yield from reject_malformed(self.namespace, [record_of_bad], path, boxes=lost)
        if raw_slice.first == 0:  # once per file
            # Annotations of no caption: no box that a caption refers to.
            for position, image_id in index.without_image:
                raw_record, detail = f"annotations/{position}", f"image_id {image_id}"
                yield Rejected(self.namespace, raw_record, UNKNOWN_IMAGE, detail, records=0)
            yield from reject_malformed(self.namespace, index.without_id, path, records=0)
        records: dict[str, ImageRecord] = {}
        file = self._file_names()[raw_slice.input.path]
        for image in images:
            (key, error), size = self._key(image), _size(image)
            caption_id = _caption_id(image, key, file)
            raw_record = f"{image.dataset_name}/{caption_id}"
            rows = index.rows_of(image.id)
            boxes = len(rows)
            read.boxes += boxes
            if not key:
                yield Rejected(self.namespace, raw_record, "bad image id", error, boxes=boxes)
                continue
            if not size:
                detail = f"{image.width}x{image.height}"
                yield Rejected(self.namespace, raw_record, "bad image size", detail, boxes=boxes)
                continue
            error = _size_error(image, index, rows)
            if image.id in index.repeated_images:
                detail = f"image {image.id}, whose annotations may be those of either"
                yield Rejected(self.namespace, raw_record, "duplicate id", detail, key, 1, boxes)
                continue
            if error:
                yield Rejected(self.namespace, raw_record, "record too large", error, key, 1, boxes)
                continue
            annotations, bad = index.annotations_of(rows)
            yield from reject_malformed(self.namespace, bad, path, 0, image=key, boxes=1)
            if bad and not annotations:
                yield Rejected(self.namespace, raw_record, ALL_BOXES_LOST, image=key)
                continue
            record = records.get(key)
            if record is None:
                record = records[key] = ImageRecord(
                    image=key,
                    source=self.namespace,
                    split=raw_slice.input.role,
                    width=size[0],
                    height=size[1],
                )
            record.captions.append(_caption(image, annotations, caption_id))
        yield from records.values()
        yield read

    def _key(self, image: _Image) -> tuple[str, str]:
        """Returns the key of an image, and why there is none; one of them is empty."""
        name = image.data_source or image.dataset_name
        namespace = self.namespaces.get(name) or NAMESPACES.get(name.lower(), name)
        id_ = image.original_id if image.original_id is not None else image.original_img_id
        try:
            return image_key(namespace, id_, self._own_namespaces), ""
        except ImageIdError as error:
            if key := key_of_name(namespace, id_):
                return key, ""
            field = "data_source" if image.data_source else "no data_source, dataset_name"
            return "", f"{image.file_name} ({field} {name!a}): {error}"

    @property
    def _own_namespaces(self) -> frozenset[str]:
        return frozenset(self.namespaces.values())

    def _file_names(self) -> dict[str, str]:
        """Returns the name of each file in the ids of its records: ids are of a file.

        Files with the same name, in several folders, are numbered.
        """
        names: dict[str, str] = {}
        for path in dict.fromkeys(self.paths()):
            name = file_name(path).removesuffix(".zip").removesuffix(".json")
            candidates = itertools.chain([name], (f"{name}~{n}" for n in itertools.count(2)))
            names[path] = next(c for c in candidates if c not in names.values())
        return names


def _caption_id(image: _Image, key: str, file: str) -> str:
    """Returns the caption's own id, as Flickr30k has one, or the id of its "image" in its file."""
    if key and image.original_img_id is not None and image.sentence_id is not None:
        return f"{key.partition('/')[2]}#{image.sentence_id}"
    return f"{file}:{image.id}"


def _size_error(image: _Image, index: "AnnotationIndex", rows: range) -> str:
    """Returns why a caption would take too long; empty if it would not."""
    if len(image.caption) > MAX_CHARACTERS:
        return f"{len(image.caption)} characters"
    count, size = len(rows), index.size_of(rows)
    if size > MAX_RECORD_BYTES:
        return f"{size} bytes of annotations"
    # Each phrase is compared with each annotation: both are at most as long as their bytes allow.
    phrases, spans = len(image.tokens_positive_eval), sum(map(len, image.tokens_positive_eval))
    if phrases * count > MAX_CAPTION_PAIRS or spans * size > MAX_CAPTION_PAIRS * _SPAN_BYTES:
        return f"{size} bytes of annotations for {phrases} phrases of {spans} spans"
    return ""


def _size(image: _Image) -> tuple[int, int] | None:
    try:
        width, height = int(image.width), int(image.height)
    except ValueError:
        return None
    return (width, height) if max(width, height) < MAX_COORDINATE else None


def _caption(image: _Image, annotations: Sequence[_Annotation], caption_id: str) -> GroundedCaption:
    regions = [
        Region(
            spans=whole_graphemes(annotation.tokens_positive, image.caption),
            box=from_xywh(*annotation.bbox),
            area=annotation.area,
            category=annotation.category_id,
            crowd=bool(annotation.iscrowd),
        )
        for annotation in annotations
    ]
    phrases = [
        Phrase(
            spans=spans,
            entity="",
            types=[],
            boxes=[region.box for region in regions if any(span in region.spans for span in spans)],
        )
        for spans in (whole_graphemes(s, image.caption) for s in image.tokens_positive_eval)
    ]
    return GroundedCaption(
        text=image.caption,
        regions=regions,
        tokens_negative=image.tokens_negative,
        dataset=image.dataset_name,
        record=caption_id,
        phrases=phrases,
        question=_question(image),
    )


def _question(image: _Image) -> Question | None:
    if image.question_id is None:
        return None
    return Question(str(image.question_id), image.answer, semantic_type=image.question_type)


# --- annotations ----------------------------------------------------------------------------------


class _ImageId(msgspec.Struct, gc=False):
    image: Id = msgspec.field(name="id")


class _AnnotationImageId(msgspec.Struct, gc=False):
    image: Id = msgspec.field(name="image_id")


class AnnotationIndex:
    """The annotations of a file by their image, read on demand from the mapped file.

    Several workers read slices of the images, and each looks up their annotations. The index takes
    24 bytes per annotation of any length.

    Attributes:
        repeated_images: the ids that several images of the file have.
        without_image: position and ``image_id`` of the annotations whose image is not in the file.
        without_id: the annotations that state no ``image_id``.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._content: mmap.mmap = map_file(path)
        # Images without an id are skipped: no annotation refers to them, and `read` reports them.
        known_images, _, _ = self._image_ids("images", _ImageId)
        annotated_images, borders, without_id = self._image_ids("annotations", _AnnotationImageId)
        self.without_id = [BadRecord(f"annotations/{key}", error) for key, error in without_id]
        positions = np.delete(
            np.arange(len(borders) + len(without_id)), [int(bad.key) for bad in without_id]
        )
        distinct, counts = np.unique(known_images, return_counts=True)
        self.repeated_images = frozenset(distinct[counts > 1].tolist())
        unknown = np.flatnonzero(~np.isin(annotated_images, known_images))
        self.without_image = list(
            zip(positions[unknown].tolist(), annotated_images[unknown].tolist(), strict=True)
        )
        order = np.argsort(annotated_images, kind="stable")
        self._images = annotated_images[order]
        self._borders = borders[order]
        self._positions = positions[order]

    def rows_of(self, image_id: int) -> range:
        """Returns the rows of the index with the annotations of an image."""
        first = np.searchsorted(self._images, image_id, "left")
        last = np.searchsorted(self._images, image_id, "right")
        return range(int(first), int(last))

    def size_of(self, rows: range) -> int:
        """Returns the number of bytes of annotations."""
        borders = self._borders[rows.start : rows.stop]
        return int((borders[:, 1] - borders[:, 0]).sum())

    def annotations_of(self, rows: range) -> tuple[list[_Annotation], list[BadRecord]]:
        """Returns the good annotations in the order of the file, and the bad ones."""
        borders = self._borders[rows.start : rows.stop]
        elements = (self._content[start:stop] for start, stop in borders)
        good, bad = decode_list(b"[" + b",".join(elements) + b"]", _Annotation)
        positions = (self._positions[rows[int(record.key)]] for record in bad)
        return good, [
            BadRecord(f"annotations/{position}", record.error)
            for position, record in zip(positions, bad, strict=True)
        ]

    def _image_ids(
        self, key: str, record_type: type[_ImageId | _AnnotationImageId]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], list[BadRecord]]:
        """Returns the image id and the borders of each element of a list, and those without id."""
        borders = element_ranges(self._content, Input(self._path, "list", within=key))
        content = memoryview(self._content)
        image_ids = np.empty(len(borders), np.int64)
        has_id = np.ones(len(borders), np.bool_)
        without_id: list[BadRecord] = []
        for position, (start, stop) in enumerate(borders.tolist()):
            try:
                image_ids[position] = decode_record(content[start:stop], record_type).image
            except ValueError as error:
                has_id[position] = False
                without_id.append(BadRecord(str(position), str(error)))
        return image_ids[has_id], borders[has_id], without_id


def annotation_index(path: str) -> AnnotationIndex:
    """Returns the index of a file, which is built once per process and version of the file."""
    return _cached_index(path, version_of(path))


@functools.lru_cache(maxsize=4)
def _cached_index(path: str, file_version: tuple[int, str]) -> AnnotationIndex:
    return AnnotationIndex(path)

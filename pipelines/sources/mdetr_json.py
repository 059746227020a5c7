"""MDETR's JSON format, in which GoldG is distributed: captions that are already combined.

Layout: ``final_mixed_train.json`` and ``final_flickr_separateGT_train.json`` of
github.com/ashkamath/mdetr, in COCO's layout, with an "image" per caption. The files do not state
the raw records of a caption.
"""

import functools
import itertools
import mmap
import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from pipelines.dedup.joins import PHOTO_ID, TableIds
from pipelines.geometry.boxes import from_xywh
from pipelines.io.json_records import (
    BadRecord,
    Category,
    Id,
    decode_list,
    decode_record,
    reject_malformed,
)
from pipelines.io.raw_files import RawFileError
from pipelines.io.slices import Input, Slice, element_ranges
from pipelines.io.zips import map_file, version_of
from pipelines.sources.base import Context, Source
from schemas import GroundedCaption, ImageInfo, ImageRecord, Phrase, Region, Rejected, Span
from schemas.image_ids import ImageIdError, RawId, image_key, photo_id_of_key
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


class _Image(msgspec.Struct, gc=False):
    id: Id
    file_name: str
    height: int | str  # Flickr30k's are strings
    width: int | str
    caption: str
    dataset_name: str
    data_source: str = ""
    original_id: RawId = None
    original_img_id: RawId = None
    sentence_id: Id | None = None
    tokens_negative: list[Span] = []
    tokens_positive_eval: list[list[Span]] = []


class _Annotation(msgspec.Struct, gc=False):
    id: Id
    image_id: Id
    bbox: tuple[float, float, float, float]
    tokens_positive: list[Span]
    area: float | None = None
    iscrowd: int = 0
    category_id: Category = 1


class MdetrJson(Source, kw_only=True):
    """Captions and boxes of MDETR's files; each caption of a file is a sentence of this source.

    ``namespaces`` states the namespace of the images of datasets that are not published, by the
    ``data_source`` (or ``dataset_name``) of their records: their own, or one that they share.
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

    def read(self, raw_slice: Slice, context: Context) -> Iterator[ImageRecord | Rejected]:
        images, bad = decode_list(raw_slice.content, _Image)
        yield from reject_malformed(self.namespace, bad, raw_slice.input.path)
        index = annotation_index(raw_slice.input.path)
        if any(image.id == index.first_image for image in images):  # once per file
            for position, image_id in index.without_image:
                raw_record, detail = f"annotations/{position}", f"image_id {image_id}"
                yield Rejected(self.namespace, raw_record, "unknown image", detail, records=0)
        records: dict[str, ImageRecord] = {}
        file = self._file_names()[raw_slice.input.path]
        for image in images:
            (key, error), size = self._key(image), _size(image)
            caption_id = _caption_id(image, key, file)
            raw_record = f"{image.dataset_name}/{caption_id}"
            if not key:
                yield Rejected(self.namespace, raw_record, "bad image id", error)
                continue
            if not size:
                detail = f"{image.width}x{image.height}"
                yield Rejected(self.namespace, raw_record, "bad image size", detail)
                continue
            if image.id in index.repeated_images:
                detail = f"image {image.id}, whose annotations may be those of either"
                yield Rejected(self.namespace, raw_record, "duplicate id", detail, key)
                continue
            size_error = _size_error(image, index)
            if size_error:
                yield Rejected(self.namespace, raw_record, "record too large", size_error, key)
                continue
            annotations, bad = index.annotations_of(image.id)
            yield from reject_malformed(
                self.namespace, bad, raw_slice.input.path, records=0, image=key
            )
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

    def _key(self, image: _Image) -> tuple[str, str]:
        """Returns the key of an image, and why there is none; one of them is empty."""
        name = image.data_source or image.dataset_name
        namespace = self.namespaces.get(name) or NAMESPACES.get(name.lower(), name)
        id_ = image.original_id if image.original_id is not None else image.original_img_id
        try:
            return image_key(namespace, id_, self._own_namespaces), ""
        except ImageIdError as error:
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
            name = PurePosixPath(path).name.removesuffix(".zip").removesuffix(".json")
            candidates = itertools.chain([name], (f"{name}~{n}" for n in itertools.count(2)))
            names[path] = next(c for c in candidates if c not in names.values())
        return names


def _caption_id(image: _Image, key: str, file: str) -> str:
    """Returns the caption's own id, as Flickr30k has one, or the id of its "image" in its file."""
    if key and image.original_img_id is not None and image.sentence_id is not None:
        return f"{key.partition('/')[2]}#{image.sentence_id}"
    return f"{file}:{image.id}"


def _size_error(image: _Image, index: "AnnotationIndex") -> str:
    """Returns why a caption would take too long; empty if it would not."""
    if len(image.caption) > MAX_CHARACTERS:
        return f"{len(image.caption)} characters"
    count, size = index.size_of(image.id)
    if size > MAX_RECORD_BYTES:
        return f"{size} bytes of annotations"
    # Each phrase is compared with each annotation: both are at most as long as their bytes allow.
    phrases, spans = len(image.tokens_positive_eval), sum(map(len, image.tokens_positive_eval))
    if phrases * count > MAX_CAPTION_PAIRS or spans * size > MAX_CAPTION_PAIRS * _SPAN_BYTES:
        return f"{size} bytes of annotations for {phrases} phrases of {spans} spans"
    return ""


def _size(image: _Image) -> tuple[int, int] | None:
    try:
        return int(image.width), int(image.height)
    except ValueError:
        return None


def _caption(image: _Image, annotations: Sequence[_Annotation], caption_id: str) -> GroundedCaption:
    regions = [
        Region(
            spans=annotation.tokens_positive,
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
        for spans in image.tokens_positive_eval
    ]
    return GroundedCaption(
        text=image.caption,
        regions=regions,
        tokens_negative=image.tokens_negative,
        dataset=image.dataset_name,
        record=caption_id,
        phrases=phrases,
    )


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
        first_image: the id of the first image; None in a file without images.
        repeated_images: the ids that several images of the file have.
        without_image: position and ``image_id`` of the annotations whose image is not in the file.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._content: mmap.mmap = map_file(path)
        known_images, _ = self._image_ids("images", _ImageId)
        annotated_images, borders = self._image_ids("annotations", _AnnotationImageId)
        distinct, counts = np.unique(known_images, return_counts=True)
        self.repeated_images = frozenset(distinct[counts > 1].tolist())
        self.first_image = int(known_images[0]) if len(known_images) else None
        unknown = np.flatnonzero(~np.isin(annotated_images, known_images))
        self.without_image = list(
            zip(unknown.tolist(), annotated_images[unknown].tolist(), strict=True)
        )
        order = np.argsort(annotated_images, kind="stable")
        self._images = annotated_images[order]
        self._borders = borders[order]

    def size_of(self, image_id: int) -> tuple[int, int]:
        """Returns the number of annotations of an image, and of their bytes."""
        borders = self._borders[self._rows_of(image_id)]
        return len(borders), int((borders[:, 1] - borders[:, 0]).sum())

    def annotations_of(self, image_id: int) -> tuple[list[_Annotation], list[BadRecord]]:
        """Returns the good annotations of an image in the order of the file, and the bad ones."""
        borders = self._borders[self._rows_of(image_id)]
        elements = (self._content[start:stop] for start, stop in borders)
        return decode_list(b"[" + b",".join(elements) + b"]", _Annotation)

    def _rows_of(self, image_id: int) -> slice:
        first = np.searchsorted(self._images, image_id, "left")
        last = np.searchsorted(self._images, image_id, "right")
        return slice(int(first), int(last))

    def _image_ids(
        self, key: str, record_type: type[_ImageId | _AnnotationImageId]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Returns the image id of each element of a list, and the borders of the elements.

        Images without an id are skipped: no annotation refers to them.
        """
        borders = element_ranges(self._content, Input(self._path, "list", within=key))
        content = memoryview(self._content)
        image_ids = np.empty(len(borders), np.int64)
        has_id = np.ones(len(borders), np.bool_)
        for position, (start, stop) in enumerate(borders.tolist()):
            try:
                image_ids[position] = decode_record(content[start:stop], record_type).image
            except msgspec.ValidationError as error:
                if record_type is _AnnotationImageId:
                    message = f"{self._path}: an annotation without an image id: {error}"
                    raise RawFileError(message) from error
                has_id[position] = False  # `MdetrJson.read` reports it
        return image_ids[has_id], borders[has_id]


def annotation_index(path: str) -> AnnotationIndex:
    """Returns the index of a file, which is built once per process and version of the file."""
    return _cached_index(path, version_of(path))


@functools.lru_cache(maxsize=4)
def _cached_index(path: str, file_version: tuple[int, str]) -> AnnotationIndex:
    return AnnotationIndex(path)

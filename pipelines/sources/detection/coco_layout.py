"""Detection datasets in COCO's layout: COCO itself, Objects365 and V3Det.

Layout: a JSON object with lists ``images``, ``annotations`` and ``categories``, as that of
cocodataset.org. Annotations are read in slices, so a file may have any number of them.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, ClassVar

import msgspec

from pipelines.geometry.boxes import from_xywh
from pipelines.geometry.polygons import MAX_COORDINATE
from pipelines.io.json_records import (
    Id,
    decode_list,
    decode_parts,
    decode_record,
    reject_malformed,
)
from pipelines.io.raw_files import RawFileError
from pipelines.io.slices import Input, Slice
from pipelines.sources import image_licenses
from pipelines.sources.base import Context, SliceItem, Source
from pipelines.sources.detection.class_groups import ClassGroups
from pipelines.sources.image_licenses import LicenseTable, web_address
from schemas import ImageInfo, Region, Rejected
from schemas.class_names import class_name
from schemas.image_ids import ImageIdError, image_key

_Coordinate = Annotated[float, msgspec.Meta(gt=-MAX_COORDINATE, lt=MAX_COORDINATE)]
ImageId = Id | str  # a number, or in files of one's own a name
_CategoryId = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1, extra={"is_id": True})]


class ImageRow(msgspec.Struct, gc=False):
    """An element of ``images``."""

    id: ImageId
    file_name: str
    width: int
    height: int
    flickr_url: msgspec.Raw = msgspec.Raw()
    coco_url: msgspec.Raw = msgspec.Raw()
    url: msgspec.Raw = msgspec.Raw()
    license: msgspec.Raw = msgspec.Raw()


class _Annotation(msgspec.Struct, gc=False):
    image_id: ImageId
    category_id: _CategoryId
    bbox: tuple[_Coordinate, _Coordinate, _Coordinate, _Coordinate]
    area: float | None = None
    iscrowd: bool | int = 0


class _AnnotatedClass(msgspec.Struct, gc=False):
    """The caption that an annotation is for, whatever is wrong with its box."""

    image_id: ImageId
    category_id: _CategoryId


class _Category(msgspec.Struct, gc=False):
    id: _CategoryId
    name: str


class CocoLayout(Source, kw_only=True):
    """Names of classes as captions; the base of the datasets in COCO's layout."""

    #: the dataset of the captions
    dataset_name: ClassVar[str]

    annotations: dict[str, str]  # split -> its file

    def paths(self) -> list[str]:
        return list(self.annotations.values())

    def split_names(self) -> set[str]:
        return set(self.annotations)

    def image_tables(self) -> list[Input]:
        return [
            Input(path, "list", within="images", beside=image_licenses.KEY)
            for path in self.annotations.values()
        ]

    def read_image_table(self, raw_slice: Slice) -> Iterator[ImageInfo | Rejected]:
        return read_images(raw_slice, self.namespace, self.key_of, self.image_info)

    def inputs(self, splits: tuple[str, ...]) -> list[Input]:
        return [
            Input(self.annotations[split], "list", "annotations", role=split, beside="categories")
            for split in splits
            if split in self.annotations
        ]

    def read(self, raw_slice: Slice, context: Context) -> Iterator[SliceItem]:
        return read_boxes(raw_slice, self.namespace, self.dataset_name, self.key_of)

    def key_of(self, image_id: ImageId) -> str:
        """Returns the key of an image, or an empty string if its id is none."""
        try:
            return image_key(self.namespace, image_id)
        except ImageIdError:
            return ""

    def image_info(self, image: ImageRow, key: str, licenses: LicenseTable) -> ImageInfo:
        """Returns the row of an image in the image table."""
        return image_info(image, key, licenses, self.namespace)


def image_info(image: ImageRow, key: str, licenses: LicenseTable, source: str) -> ImageInfo:
    """Returns the row of an image in the image table."""
    return ImageInfo(
        key=key,
        source=source,
        file=image.file_name,
        width=image.width,
        height=image.height,
        license=licenses.license(image.license),
        url=web_address(image.url, image.flickr_url, image.coco_url),
    )


def read_images(
    raw_slice: Slice,
    source: str,
    key_of: Callable[[ImageId], str],
    info: Callable[[ImageRow, str, LicenseTable], ImageInfo],
) -> Iterator[ImageInfo | Rejected]:
    """Yields the rows of a slice of ``images``, by functions for their keys and rows."""
    images, bad = decode_list(raw_slice.content, ImageRow)
    yield from reject_malformed(source, bad, raw_slice.input.path)
    licenses = LicenseTable(source, raw_slice)
    for image in images:
        if key := key_of(image.id):
            yield info(image, key, licenses)
        else:
            yield Rejected(source, str(image.id), "bad image id", image.file_name)
    yield from licenses.rejected()


def read_boxes(
    raw_slice: Slice,
    source: str,
    dataset: str,
    key_of: Callable[[ImageId], str],
    has_local_ids: bool = False,
) -> Iterator[SliceItem]:
    """Yields the captions of a slice of ``annotations``, by a function for the keys of images.

    ``has_local_ids`` is as of `ClassGroups`.
    """
    annotations, bad = decode_list(raw_slice.content, _Annotation)
    yield from reject_malformed(source, bad, raw_slice.input.path, records=0, boxes=1)
    names, count = class_names(raw_slice), len(annotations) + len(bad)
    split = raw_slice.input.role
    groups = ClassGroups(source, dataset, split, names, count, has_local_ids=has_local_ids)
    for annotation in annotations:
        region = Region(
            spans=[],
            box=from_xywh(*annotation.bbox),
            area=annotation.area,
            category=annotation.category_id,
            crowd=bool(annotation.iscrowd),
        )
        id_ = annotation.image_id
        groups.add(key_of(id_), str(id_), str(annotation.category_id), region)
    for lost in filter(None, decode_parts(raw_slice.content, bad, _AnnotatedClass)):
        groups.add(key_of(lost.image_id), str(lost.image_id), str(lost.category_id), None)
    yield from groups.items()


def class_names(raw_slice: Slice) -> Mapping[str, str]:
    """Returns the caption of each class of a file, by the class's id.

    Raises:
        RawFileError: the file has no ``categories``, or a malformed one.
    """
    names = _class_names(raw_slice.beside)
    if isinstance(names, str):
        raise RawFileError(f"{raw_slice.input.path}: {names}")
    return names


@functools.cache  # slices of all files are interleaved
def _class_names(categories: bytes) -> "dict[str, str] | str":
    """Returns the names, or why there are none; all slices of a file have the same bytes."""
    try:
        rows = decode_record(categories or b"[]", list[_Category])
    except ValueError as error:
        return f"its categories are not in COCO's layout: {error}"
    if not rows:
        return "it has no categories"
    return {str(row.id): class_name(row.name) for row in rows}

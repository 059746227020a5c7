"""OpenImages V6 and V7: boxes of 601 classes, and classes that people verified to be absent.

Layout: storage.googleapis.com/openimages, CSV files. Boxes are fractions of the sides of an image,
which no file states: they become pixels where the image is read.
"""

import csv
import functools
import io
from collections.abc import Iterator
from typing import ClassVar

import msgspec

from pipelines.dedup.joins import TableIds
from pipelines.io.archives import read_whole, version_of
from pipelines.io.csv_rows import read_rows
from pipelines.io.json_records import BadRecord, reject_malformed
from pipelines.io.raw_files import RawFileError, without_byte_order_mark
from pipelines.io.slices import Input, Slice
from pipelines.sources.base import Context, SliceItem, Source
from pipelines.sources.detection.class_groups import ClassGroups
from schemas import AbsentPhrase, Box, ImageInfo, ImageRecord, License, Region, Rejected
from schemas.class_names import class_name
from schemas.image_ids import ImageIdError, image_key, photo_id_of_url
from schemas.joins import PHOTO_ID
from schemas.limits import MAX_LIST_BYTES

_PHOTO_COLUMNS = ("ImageID", "OriginalURL", "License")
_BOX_COLUMNS = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax", "IsGroupOf")
_LABEL_COLUMNS = ("ImageID", "LabelName", "Confidence")
# Whether people found a class: labels of machines have other confidences.
_VERIFIED = {"0": False, "0.0": False, "1": True, "1.0": True}
_LARGEST_FRACTION = 10.0  # of a coordinate that is clipped to the image, and no error


class _Class(msgspec.Struct, frozen=True):
    name: str
    number: int  # from 1, in the order of the file


class OpenImages(Source, kw_only=True):
    """Names of classes as captions of OpenImages' images.

    A box of a group of objects (``IsGroupOf``) is a crowd. Where the recipe asks for negatives,
    ``labels`` states classes that an image does not show.
    """

    namespace: ClassVar[str] = "openimages"
    has_relative_boxes: ClassVar[bool] = True

    photos: dict[str, str]  # split -> its table of images, with URLs: *-images-*.csv
    boxes: dict[str, str]  # split -> its *-annotations-bbox.csv
    labels: dict[str, str] = {}  # split -> its *-annotations-human-imagelabels-boxable.csv
    classes: str  # class-descriptions-boxable.csv, with or without a header

    def paths(self) -> list[str]:
        tables = (*self.photos.values(), *self.boxes.values(), *self.labels.values())
        return [*tables, self.classes]

    def split_names(self) -> set[str]:
        return set(self.boxes)

    def image_ids(self) -> TableIds:
        return {self.namespace: frozenset({PHOTO_ID})}

    def image_tables(self) -> list[Input]:
        return [Input(path, "csv") for path in self.photos.values()]

    def read_image_table(self, raw_slice: Slice) -> Iterator[ImageInfo | Rejected]:
        for row in read_rows(raw_slice, _PHOTO_COLUMNS):
            if isinstance(row, BadRecord):
                yield from reject_malformed(self.namespace, [row], raw_slice.input.path)
                continue
            image_id, url, license = row
            if key := _key(image_id):
                yield ImageInfo(
                    key=key,
                    source=self.namespace,
                    file=f"{image_id.removesuffix('.jpg')}.jpg",
                    photo_id=photo_id_of_url(url),
                    license=License("", license),
                    url=url,
                )
            else:
                yield Rejected(self.namespace, image_id, "bad image id")

    def inputs(self, splits: tuple[str, ...]) -> list[Input]:
        return [
            Input(tables[split], "csv", within=kind, role=split)
            for kind, tables in (("boxes", self.boxes), ("labels", self.labels))
            for split in splits
            if split in tables
        ]

    def read(self, raw_slice: Slice, context: Context) -> Iterator[SliceItem]:
        if raw_slice.input.within == "boxes":
            yield from self._read_boxes(raw_slice)
        elif context.negatives:
            yield from self._read_labels(raw_slice)

    def _read_boxes(self, raw_slice: Slice) -> Iterator[SliceItem]:
        classes = _classes(self.classes)
        groups = ClassGroups(
            self.namespace,
            self.namespace,
            raw_slice.input.role,
            {label: each.name for label, each in classes.items()},
            has_relative_boxes=True,
        )
        for row in read_rows(raw_slice, _BOX_COLUMNS):
            groups.boxes += 1
            bad, region = row, None
            if not isinstance(row, BadRecord):
                image_id, label, x0, x1, y0, y1, is_group = row
                box = _box(x0, y0, x1, y1)
                bad = BadRecord(f"{image_id}:{label}", f"no box: {','.join(row[2:6])[:200]}")
                if box is not None:
                    number = classes[label].number if label in classes else 1
                    region = Region([], box, category=number, crowd=is_group == "1")
                groups.add(_key(image_id), image_id, label, region)
            if region is None and isinstance(bad, BadRecord):
                path = raw_slice.input.path
                yield from reject_malformed(self.namespace, [bad], path, records=0, boxes=1)
        yield from groups.items()

    def _read_labels(self, raw_slice: Slice) -> Iterator[SliceItem]:
        """Yields what the people who verified labels found absent, and present."""
        classes, split, path = _classes(self.classes), raw_slice.input.role, raw_slice.input.path
        records: dict[str, ImageRecord] = {}
        for row in read_rows(raw_slice, _LABEL_COLUMNS):
            if isinstance(row, BadRecord):
                yield from reject_malformed(self.namespace, [row], path, records=0)
                continue
            image_id, label, confidence = row
            key, record_id = _key(image_id), f"{image_id}:{label}"
            if not key or label not in classes or confidence not in _VERIFIED:
                bad = BadRecord(record_id, f"no verified label: {','.join(row)[:200]}")
                yield from reject_malformed(self.namespace, [bad], path, records=0)
                continue
            record = records.setdefault(key, ImageRecord(key, self.namespace, split))
            name = classes[label].name
            if _VERIFIED[confidence]:
                record.names.append(name)
            else:
                phrase = AbsentPhrase(name, self.namespace, record_id, "class not shown")
                record.absent.append(phrase)
        yield from records.values()


def _key(image_id: str) -> str:
    """Returns the key of an image; empty if its id is none."""
    try:
        return image_key("openimages", image_id)
    except ImageIdError:
        return ""


def _box(*corners: str) -> Box | None:
    """Returns the corners of a box as numbers; None if one is no usable number."""
    try:
        x0, y0, x1, y1 = map(float, corners)
    except ValueError:
        return None
    # False for a NaN, too.
    usable = all(abs(corner) < _LARGEST_FRACTION for corner in (x0, y0, x1, y1))
    return (x0, y0, x1, y1) if usable else None


def _classes(path: str) -> dict[str, _Class]:
    """Returns the classes by their labels, such as ``/m/01g317``.

    Raises:
        RawFileError: The file has no classes, or is no table of two columns.
    """
    return _cached_classes(path, version_of(path))


@functools.lru_cache(maxsize=4)
def _cached_classes(path: str, file_version: tuple[int, str]) -> dict[str, _Class]:
    content = without_byte_order_mark(read_whole(path, MAX_LIST_BYTES))
    try:
        rows = [row for row in csv.reader(io.StringIO(content.decode(), newline="")) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise RawFileError(f"{path}: expected labels and names of classes: {error}") from error
    rows = [row for row in rows if row[0].startswith("/")]  # the header has no label
    if not rows or any(len(row) != 2 for row in rows):
        raise RawFileError(f"{path}: expected rows of two columns, a label and the class's name")
    return {row[0]: _Class(class_name(row[1]), i) for i, row in enumerate(rows, start=1)}

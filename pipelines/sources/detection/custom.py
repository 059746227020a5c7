"""Images and annotations of one's own: files in COCO's layout, and ODVG.

ODVG is the format of MM-Grounding-DINO and Open-GroundingDino: a JSON object on each line, with a
caption whose boxes have phrases (``grounding``), or with boxes of classes (``detection``). Ids of
images count from 0 in files of one's own, and ODVG has none, so the key of an image is the name of
its file: an image that files of two splits list is one.
"""

import functools
import re
from collections.abc import Iterator
from typing import Annotated

import msgspec

from pipelines.captions.spans import whole_graphemes
from pipelines.dedup.joins import TableIds
from pipelines.geometry.polygons import MAX_COORDINATE
from pipelines.io.archives import file_name, map_file, version_of
from pipelines.io.json_records import (
    BadRecord,
    Category,
    decode_file,
    decode_list,
    decode_record,
    reject_malformed,
)
from pipelines.io.raw_files import RawFileError
from pipelines.io.slices import Input, Slice, without_mark
from pipelines.sources import image_licenses
from pipelines.sources.base import Context, SliceItem, Source
from pipelines.sources.detection.class_groups import ClassGroups
from pipelines.sources.detection.coco_layout import (
    ImageId,
    ImageRow,
    image_info,
    read_boxes,
    read_images,
)
from pipelines.sources.image_licenses import LicenseTable
from schemas import Box, GroundedCaption, ImageInfo, ImageRecord, RawCounts, Region, Rejected, Span
from schemas.class_names import CLASSES_ENDING, class_name
from schemas.image_ids import NAMESPACES, key_of_own_file
from schemas.limits import MAX_CAPTION_BOXES, MAX_CAPTION_PAIRS, MAX_CHARACTERS

_ODVG_ENDING = ".jsonl"

_Coordinate = Annotated[float, msgspec.Meta(gt=-MAX_COORDINATE, lt=MAX_COORDINATE)]
_Box = tuple[_Coordinate, _Coordinate, _Coordinate, _Coordinate]
_Side = Annotated[int, msgspec.Meta(ge=1, lt=2**31)]
_Offset = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class _Phrase(msgspec.Struct, gc=False):
    bbox: msgspec.Raw
    phrase: str | list[str]
    tokens_positive: list[tuple[_Offset, _Offset]] = []

    def boxes(self) -> list[Box]:
        """Returns its boxes: ``bbox`` is one, or a list of them.

        Raises:
            ValueError: it is neither.
        """
        content = bytes(self.bbox)
        is_one = content.count(b"[") == 1
        return decode_record(b"[" + content + b"]" if is_one else content, list[_Box])

    def phrases(self) -> list[str]:
        """Returns its phrases, of which ``phrase`` is one, or a list of several."""
        return [self.phrase] if isinstance(self.phrase, str) else self.phrase


class _Grounding(msgspec.Struct, gc=False):
    caption: str
    regions: list[_Phrase] = []


class _Instance(msgspec.Struct, gc=False):
    bbox: _Box
    category: str
    label: Category = 1


class _Detection(msgspec.Struct, gc=False):
    instances: list[_Instance] = []


class _Image(msgspec.Struct, gc=False):
    filename: str
    height: _Side
    width: _Side


class _Line(_Image, gc=False):
    grounding: _Grounding | None = None
    detection: _Detection | None = None


class _ImageName(msgspec.Struct, gc=False):
    id: ImageId
    file_name: str


class _Images(msgspec.Struct):
    images: msgspec.Raw


class Custom(Source, kw_only=True):
    """Images and annotations of one's own, in files of COCO's layout (.json) or ODVG (.jsonl).

    ``dataset`` is the namespace of the images' keys, and the dataset of the captions; that of names
    of classes ends in "_classes".
    """

    files: dict[str, list[str]]  # split -> its files
    dataset: str = "custom"

    def __post_init__(self) -> None:
        if not re.fullmatch("[A-Za-z0-9_+-]{1,40}", self.dataset):
            raise ValueError(f"dataset: {self.dataset!a} cannot begin the key of an image")
        if self.dataset.lower() in NAMESPACES:
            raise ValueError(f"dataset: {self.dataset!a} is a published one; choose another name")

    def paths(self) -> list[str]:
        return [path for paths in self.files.values() for path in paths]

    def split_names(self) -> set[str]:
        return set(self.files)

    def image_ids(self) -> TableIds:
        return {self.dataset: frozenset()}

    def image_tables(self) -> list[Input]:
        return [
            Input(path, "jsonl")
            if _is_odvg(path)
            else Input(path, "list", within="images", beside=image_licenses.KEY)
            for path in self.paths()
        ]

    def read_image_table(self, raw_slice: Slice) -> Iterator[ImageInfo | Rejected]:
        if not _is_odvg(raw_slice.input.path):
            names = _names_of_file(raw_slice.input.path)
            yield from read_images(
                raw_slice, self.dataset, lambda id_: self._key(names.get(str(id_), "")), self._info
            )
            return
        seen: set[tuple[str, int, int]] = set()  # a file may have several captions of an image
        for _, line in _lines(raw_slice.content):
            try:
                image = decode_record(line, _Image)
            except ValueError:
                continue  # `read` rejects it
            row = ImageInfo(
                key=self._key(image.filename),
                source=self.dataset,
                file=image.filename,
                width=image.width,
                height=image.height,
            )
            if (identity := (row.file, row.width, row.height)) not in seen:
                seen.add(identity)
                yield row

    def inputs(self, splits: tuple[str, ...]) -> list[Input]:
        return [
            Input(path, "jsonl", role=split)
            if _is_odvg(path)
            else Input(path, "list", "annotations", role=split, beside="categories")
            for split in splits
            for path in self.files.get(split, [])
        ]

    def read(self, raw_slice: Slice, context: Context) -> Iterator[SliceItem]:
        if _is_odvg(raw_slice.input.path):
            yield from self._read_odvg(raw_slice)
        else:
            names = _names_of_file(raw_slice.input.path)

            def key_of(image_id: ImageId) -> str:
                # An image that the file does not list is in no table of images.
                return self._key(names.get(str(image_id), f"{image_id} of no file"))

            yield from read_boxes(
                raw_slice, self.dataset, self._classes, key_of, has_local_ids=True
            )

    @property
    def _classes(self) -> str:
        return f"{self.dataset}{CLASSES_ENDING}"

    def _key(self, file: str) -> str:
        return key_of_own_file(self.dataset, file)

    def _record_name(self, path: str, split: str) -> str:
        """Returns the name by which captions name their file: with its place if others share it."""
        name = file_name(path)
        if [file_name(other) for other in set(self.paths())].count(name) == 1:
            return name
        return f"{split}/{self.files[split].index(path)}/{name}"

    def _info(self, image: ImageRow, key: str, licenses: LicenseTable) -> ImageInfo:
        return image_info(image, key, licenses, self.dataset)

    def _read_odvg(self, raw_slice: Slice) -> Iterator[SliceItem]:
        path, split = raw_slice.input.path, raw_slice.input.role
        read = RawCounts(self.dataset, captions=0, boxes=0)
        file = self._record_name(path, split)
        names: dict[str, str] = {}
        groups = ClassGroups(self.dataset, self._classes, split, names, has_local_ids=True)
        for offset, content in _lines(raw_slice.content):
            record_id = f"{file}:{raw_slice.first + offset}"
            try:
                line = decode_record(content, _Line)
                if (line.grounding is None) == (line.detection is None):
                    raise ValueError("expected either grounding or detection")
                regions = line.grounding.regions if line.grounding else []
                boxes = [phrase.boxes() for phrase in regions]
            except ValueError as error:
                read.captions += 1
                bad = BadRecord(f"byte {raw_slice.first + offset}", str(error))
                yield from reject_malformed(self.dataset, [bad], path)
                continue
            key = self._key(line.filename)
            if line.detection is not None:
                for instance in line.detection.instances:
                    groups.boxes += 1
                    names.setdefault(instance.category, class_name(instance.category))
                    region = Region([], instance.bbox, category=instance.label)
                    groups.add(key, key.partition("/")[2], instance.category, region)
            elif line.grounding is not None:
                read.captions += 1
                read.boxes += sum(map(len, boxes))
                yield from self._caption(line, line.grounding, boxes, key, split, record_id)
        yield read
        yield from groups.items()

    def _caption(
        self,
        line: _Line,
        grounding: _Grounding,
        boxes: list[list[Box]],
        key: str,
        split: str,
        record_id: str,
    ) -> Iterator[ImageRecord | Rejected]:
        """Yields the record of a caption, and its phrases that it does not have.

        ``boxes`` has those of each phrase.
        """
        text, count = grounding.caption, sum(map(len, boxes))
        id_ = f"{self.dataset}/{record_id}"
        searched = {
            each
            for phrase in grounding.regions
            if not phrase.tokens_positive
            for each in phrase.phrases()
        }
        characters = sum(len(phrase) + 1 for phrase in searched)
        pairs = sum(
            len(of_phrase) * len(phrase.tokens_positive or phrase.phrases())
            for phrase, of_phrase in zip(grounding.regions, boxes, strict=True)
        )
        if (
            max(len(text), characters) > MAX_CHARACTERS
            or count > MAX_CAPTION_BOXES
            or pairs > MAX_CAPTION_PAIRS
        ):
            detail = f"{len(text)} characters, {characters} of its phrases, {count} boxes"
            yield Rejected(self.dataset, id_, "record too large", detail, key, boxes=count)
            return
        occurrences = {phrase: _occurrence(phrase, text) for phrase in searched}
        regions: list[Region] = []
        for phrase, boxes_of_phrase in zip(grounding.regions, boxes, strict=True):
            places = (occurrences.get(each) for each in phrase.phrases())
            spans = phrase.tokens_positive or [span for span in places if span]
            spans = whole_graphemes(spans, text)
            if spans:
                regions += [Region([*spans], box) for box in boxes_of_phrase]
        if lost := count - len(regions):
            reason = "phrase that is not in the caption"
            records = int(not regions)
            yield Rejected(self.dataset, id_, reason, "", key, records=records, boxes=lost)
            if not regions:
                return
        negative = [(0, len(text))] if text else []
        caption = GroundedCaption(text, regions, negative, self.dataset, record_id)
        yield ImageRecord(key, self.dataset, split, [caption], width=line.width, height=line.height)


def _is_odvg(path: str) -> bool:
    return file_name(path).endswith(_ODVG_ENDING)


def _lines(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields each line that is not empty, with its first byte."""
    offset = 0
    for line in content.split(b"\n"):
        if line.strip():
            yield offset, line
        offset += len(line) + 1


def _occurrence(phrase: str, text: str) -> Span | None:
    """Returns where a caption has a phrase for the first time.

    >>> _occurrence("cat ", "A caterpillar and a Cat"), _occurrence("dog", "a cat")
    ((20, 23), None)
    """
    words = phrase.strip()
    match = re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text, re.IGNORECASE) if words else None
    return match.span() if match else None


def _names_of_file(path: str) -> dict[str, str]:
    """Returns the file of each image of a file in COCO's layout, by its id.

    Raises:
        RawFileError: it is not in that layout.
    """
    return _cached_names(path, version_of(path))


@functools.cache  # slices of all files are interleaved
def _cached_names(path: str, file_version: tuple[int, str]) -> dict[str, str]:
    try:
        tables = decode_file(without_mark(map_file(path)), _Images)
        images, _ = decode_list(tables.images, _ImageName)
    except (ValueError, RecursionError) as error:
        raise RawFileError(f"{path}: not in the layout of COCO: {error}") from error
    return {str(image.id): image.file_name for image in images}

"""Flickr30k Entities: five sentences per image, with boxes for their phrases.

Layout: github.com/BryanPlummer/flickr30k_entities. ``Annotations/ID.xml`` has the boxes of the
entities of an image. ``Sentences/ID.txt`` has a sentence per line, with marks around the phrases
that refer to an entity: ``[/EN#47/people A man] sits on [/EN#48/other a chair] .``
"""

import contextlib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import ClassVar, Literal, Self
from xml.etree.ElementTree import Element, ParseError, fromstring

import msgspec
import numpy as np
from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from pipelines.dedup.joins import TableIds
from pipelines.geometry.boxes import clusters
from pipelines.io.archives import file_name, find_in_archives, open_archive, split_archive_path
from pipelines.io.file_roots import Root, UnreadableFileError, check_root, read_from
from pipelines.io.members import AmbiguousNameError, MemberIndex
from pipelines.io.raw_files import RawFileError, exists, is_folder, without_byte_order_mark
from pipelines.io.slices import Input, Slice
from pipelines.sources.base import Context, SliceItem, Source
from schemas import (
    ALL_BOXES_LOST,
    Box,
    GroundedCaption,
    ImageInfo,
    ImageRecord,
    Phrase,
    RawCounts,
    Region,
    Rejected,
    Span,
)
from schemas.image_ids import ImageIdError, image_key
from schemas.joins import PHOTO_ID
from schemas.limits import (
    MAX_CAPTION_BOXES,
    MAX_CHARACTERS,
    MAX_FLICKR_FILE_BYTES,
    MAX_IMAGE_SENTENCES,
)
from shards.box_overlap import as_array, iou

SAME_BOX_IOU = 0.95  # IoU from which the published conversion merges two boxes
SENTENCES_PER_IMAGE = 5
MAX_SIDE = 1 << 24  # of an image in pixels

_PHRASE_START = re.compile(r"\[/EN#([0-9]+)((?:/[^/\[\]]+)+)")

ReadFile = Callable[[str], bytes]


class Flickr30k(Source, kw_only=True):
    """Sentences of Flickr30k with the boxes of Flickr30k Entities.

    ``ground_truth = "merged"`` replaces several boxes of an entity by the one box around them: the
    protocol of the Entities paper (arXiv 1505.04870), MERGED-BOXES of MDETR's table 3.
    ``separate`` is its ANY-BOX.
    """

    namespace: ClassVar[str] = "flickr30k"

    annotations: str  # the folder or archive with Annotations/ and Sentences/, or annotations.zip
    split_files: dict[str, str]  # split -> file of image ids, one per line
    ground_truth: Literal["separate", "merged"] = "separate"

    def paths(self) -> list[str]:
        return [self.annotations, *self.split_files.values()]

    def with_found_files(self) -> Self:
        return msgspec.structs.replace(self, annotations=_annotations_root(self.annotations))

    def split_names(self) -> set[str]:
        return set(self.split_files)

    def image_ids(self) -> TableIds:
        return {"flickr30k": frozenset({PHOTO_ID})}

    def image_tables(self) -> list[Input]:
        return [Input(path, "lines", role=split) for split, path in self.split_files.items()]

    def read_image_table(self, raw_slice: Slice) -> Iterator[ImageInfo | Rejected]:
        for id_ in _image_ids(raw_slice):
            # `read` gets the same lines, and reports the bad ones.
            if not isinstance(id_, Rejected):
                key = image_key("flickr30k", id_)
                yield ImageInfo(key, "flickr30k", file=f"{id_}.jpg", photo_id=id_)

    def inputs(self, splits: tuple[str, ...]) -> list[Input]:
        return [
            Input(self.split_files[split], "lines", role=split)
            for split in splits
            if split in self.split_files
        ]

    def read(self, raw_slice: Slice, context: Context) -> Iterator[SliceItem]:
        read_file = _file_reader(context.roots.open(self.annotations))
        for id_ in _image_ids(raw_slice):
            if isinstance(id_, Rejected):
                yield id_
                yield RawCounts(self.namespace, captions=id_.records, boxes=0)
            else:
                yield from self._read_image(id_, raw_slice.input.role, read_file)

    def _read_image(self, id_: str, split: str, read_file: ReadFile) -> Iterator[SliceItem]:
        record = ImageRecord(image_key("flickr30k", id_), "flickr30k", split)
        sentences: list[bytes] = []
        try:
            content = read_file(f"Sentences/{id_}.txt")
            sentences = [line for line in content.splitlines() if line.strip()]
            if len(sentences) > MAX_IMAGE_SENTENCES:
                raise _UnreadableError(f"{len(sentences)} sentences")
            xml = read_file(f"Annotations/{id_}.xml")
        except _UnreadableError as error:
            yield from _reject_image(id_, "unreadable file", error, sentences)
            return
        try:
            annotation = _parse_xml(xml)
        except _BadSizeError as error:
            yield from _reject_image(id_, "bad image size", error, sentences)
            return
        except _XML_ERRORS as error:
            yield from _reject_image(id_, "malformed record", error, sentences)
            return
        for detail in annotation.box_errors:
            yield Rejected("flickr30k", id_, "no usable box", detail, record.image, records=0)
        record.width, record.height = annotation.width, annotation.height
        boxes = annotation.boxes
        if self.ground_truth == "merged":
            boxes = {entity: [_enclosing_box(several)] for entity, several in boxes.items()}
        read_boxes = 0
        for number, line in enumerate(sentences):
            sentence_id = f"{id_}#{number}"
            try:
                text, phrases = _parse_sentence(line.decode())
                caption = _caption(text, phrases, boxes, sentence_id)
            except ValueError as error:
                detail = str(error)[:200]
                yield Rejected("flickr30k", sentence_id, "malformed record", detail, record.image)
                continue
            unusable = [p for p in phrases if p.entity in annotation.unusable]
            lost = sum(annotation.unusable[phrase.entity] for phrase in unusable)
            stated = sum(len(annotation.boxes.get(phrase.entity, ())) for phrase in phrases)
            read_boxes += stated + lost
            if lost:
                is_lost = not stated
                yield Rejected(
                    "flickr30k",
                    sentence_id,
                    ALL_BOXES_LOST if is_lost else "no usable box",
                    detail=f"entities {[phrase.entity for phrase in unusable]}",
                    image=record.image,
                    records=int(is_lost),
                    boxes=lost,
                )
                if is_lost:
                    continue
            record.merged_boxes += stated - len(caption.regions)
            record.captions.append(caption)
        if record.captions:
            yield record
        yield RawCounts("flickr30k", captions=len(sentences), boxes=read_boxes)


def _reject_image(
    id_: str, reason: str, error: Exception, sentences: list[bytes]
) -> Iterator[Rejected | RawCounts]:
    """Rejects an image with all its sentences, five if they could not be counted."""
    count = len(sentences) or SENTENCES_PER_IMAGE
    image = image_key("flickr30k", id_)
    yield Rejected("flickr30k", id_, reason, str(error), image, records=count)
    yield RawCounts("flickr30k", captions=count, boxes=0)


def _image_ids(raw_slice: Slice) -> Iterator[str | Rejected]:
    list_name = file_name(raw_slice.input.path)
    for line in raw_slice.content.splitlines():
        # A mark may be in the middle of a list that was joined from several.
        id_ = without_byte_order_mark(line).strip().decode("utf-8", "replace")
        if id_:
            try:
                yield image_key("flickr30k", id_).partition("/")[2]
            except ImageIdError:
                yield Rejected("flickr30k", ascii(id_[:100]), "bad image id", list_name)


# --- files ----------------------------------------------------------------------------------------


class _UnreadableError(Exception):
    pass


_PACKED = "annotations.zip"  # in the repository, beside the lists of images


def _annotations_root(path: str) -> str:
    """Returns the folder or archive with ``Annotations/`` and ``Sentences/``: a path or below it.

    Raises:
        RawFileError: There is none, or several.
    """
    split = split_archive_path(path)
    if split is not None or not is_folder(path):
        path = _annotations_archive(path, *(split or (path, "")))
    elif not exists(f"{path.rstrip('/')}/Sentences"):
        path = _packed_annotations(path.rstrip("/"))
    check_root(path)
    return path


def _packed_annotations(folder: str) -> str:
    """Returns ``annotations.zip`` in a folder, or in the repository's archive in it."""
    if exists(f"{folder}/{_PACKED}"):
        return f"{folder}/{_PACKED}"
    places, skipped = find_in_archives(f"{folder}/{_PACKED}", folder)
    if len(places) > 1:
        raise RawFileError(f"{folder} has several {_PACKED}, name one of them: {', '.join(places)}")
    if not places:
        message = f"{folder} has neither Sentences/ and Annotations/ nor {_PACKED}"
        raise RawFileError("; ".join([message, *skipped[:1]]))
    return places[0]


def _annotations_archive(path: str, archive_path: str, inside: str) -> str:
    """Returns an archive, a folder in it, or ``annotations.zip`` there, which is the repository."""
    try:
        with contextlib.closing(open_archive(archive_path)) as archive:
            packed = MemberIndex(archive, below=inside).find(_PACKED)
    except FileNotFoundError as error:
        raise RawFileError(f"there is no {archive_path}") from error
    return f"{path.rstrip('/')}/{packed.path}" if packed else path


def _file_reader(root: Root) -> ReadFile:
    """Returns a function that reads a file of the folder or archive.

    The function raises ``_UnreadableError`` for a file that is missing, damaged or too large.
    """

    def read_file(name: str) -> bytes:
        try:
            content = read_from([root], name, MAX_FLICKR_FILE_BYTES + 1)
        except (AmbiguousNameError, UnreadableFileError) as error:
            raise _UnreadableError(f"{name}: {error}") from error
        if content is None:
            raise _UnreadableError(f"no {name}")
        if len(content) > MAX_FLICKR_FILE_BYTES:
            raise _UnreadableError(f"{name}: more than {MAX_FLICKR_FILE_BYTES} bytes")
        return without_byte_order_mark(content)

    return read_file


# --- sizes and boxes ------------------------------------------------------------------------------


class _ImageAnnotation(msgspec.Struct):
    """The content of an XML file; width and height are 0 where it does not state them."""

    width: int
    height: int
    boxes: dict[str, list[Box]]  # of each entity
    unusable: Counter[str]  # the number of each entity's boxes that cannot be used
    box_errors: list[str]


class _BadSizeError(ValueError):
    pass


# Of a document type or an encoding; a wide encoding has zeros, as that of "<".
_MARKS_OF_DECLARATIONS = (b"<!", b"<?", b"\0")

# LookupError: of an unknown encoding.
_XML_ERRORS = (ElementTree.ParseError, DefusedXmlException, ValueError, LookupError)


def _parse_xml(content: bytes) -> _ImageAnnotation:
    """Raises ``_BadSizeError`` or one of ``_XML_ERRORS``."""
    root = _root_element(content)
    annotation = _ImageAnnotation(width=0, height=0, boxes={}, unusable=Counter(), box_errors=[])
    size = root.find("size")
    if size is not None:
        width, height = (_parse_side(size.findtext(side, "")) for side in ("width", "height"))
        if not 0 < min(width, height) <= max(width, height) <= MAX_SIDE:
            raise _BadSizeError(f"{width}x{height}")
        annotation.width, annotation.height = width, height
    for element in root.iterfind("object"):
        bndbox = element.find("bndbox")
        if bndbox is None or len(bndbox) == 0:
            continue  # the scene as a whole, or an entity that is not visible
        corners = [bndbox.findtext(side, "") for side in ("xmin", "ymin", "xmax", "ymax")]
        box = _parse_box(corners)
        entities = [name.text or "" for name in element.iterfind("name")]
        if box is None:
            annotation.box_errors.append(f"entities {entities}: {corners}")
            annotation.unusable.update(entity.strip() for entity in entities)
            continue
        for entity in entities:
            annotation.boxes.setdefault(entity.strip(), []).append(box)
    return annotation


def _root_element(content: bytes) -> Element:
    """Parses XML without expanding entities: by Python's parser in C if none can be declared.

    Raises one of ``_XML_ERRORS``, always that of defusedxml.
    """
    if not any(mark in content for mark in _MARKS_OF_DECLARATIONS):
        with contextlib.suppress(ParseError):
            return fromstring(content)
    root: Element = ElementTree.fromstring(content)
    return root


def _parse_side(text: str) -> int:
    """Returns a side in pixels, also of a whole number with decimals, such as 500.0.

    Raises:
        ValueError: it is not a whole number.
    """
    side = float(text)
    if not side.is_integer():
        raise ValueError(f"expected a whole number of pixels, found {text[:20]!a}")
    return int(side)


def _parse_box(corners: list[str]) -> Box | None:
    try:
        x0, y0, x1, y1 = np.array(corners, np.float32).tolist()
    except ValueError:
        return None
    is_box = math.isfinite(x0 + y0 + x1 + y1) and x0 < x1 and y0 < y1
    return (x0, y0, x1, y1) if is_box else None


def _enclosing_box(boxes: list[Box]) -> Box:
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


# --- sentences ------------------------------------------------------------------------------------


class _MarkedPhrase(msgspec.Struct, gc=False):
    """A phrase of a sentence and the entity that it refers to."""

    span: Span
    entity: str
    types: list[str]


def _parse_sentence(line: str) -> tuple[str, list[_MarkedPhrase]]:
    """Returns a sentence without its marks, words joined by single spaces, and its phrases.

    Raises:
        ValueError: the marks do not match up.

    >>> _parse_sentence("[/EN#47/people A man] sits .")
    ('A man sits .', [_MarkedPhrase(span=(0, 5), entity='47', types=['people'])])
    """
    words: list[str] = []
    phrases: list[_MarkedPhrase] = []
    length = 0  # of the words so far, each with the space after it
    mark: re.Match[str] | None = None
    start = 0
    for token in line.split():
        if token[0] == "[":
            if mark:
                raise ValueError(f"a phrase within a phrase: {token}")
            mark = _PHRASE_START.fullmatch(token)
            if not mark:
                raise ValueError(f"not the start of a phrase: {token}")
            start = length
            continue
        closes = token[-1] == "]"
        word = token[:-1] if closes else token
        if closes and not (mark and word):
            raise ValueError(f"an unmatched closing bracket: {token}")
        words.append(word)
        length += len(word) + 1
        if mark and closes:
            phrases.append(_MarkedPhrase((start, length - 1), mark[1], mark[2][1:].split("/")))
            mark = None
    if mark:
        raise ValueError(f"a phrase without an end: {mark[0]}")
    return " ".join(words), phrases


def _caption(
    text: str, marked_phrases: list[_MarkedPhrase], boxes: dict[str, list[Box]], record: str
) -> GroundedCaption:
    """Returns a sentence with a region for each box that its phrases have.

    Raises:
        ValueError: the text is too long, or its phrases have too many boxes.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"a text of {len(text)} characters")
    count = sum(len(boxes.get(phrase.entity, ())) for phrase in marked_phrases)
    if count > MAX_CAPTION_BOXES:
        raise ValueError(f"{count} boxes of a sentence, more than {MAX_CAPTION_BOXES}")
    phrases = [
        Phrase([phrase.span], phrase.entity, phrase.types, boxes[phrase.entity])
        for phrase in marked_phrases
        if phrase.entity in boxes
    ]
    entity_boxes = [(phrase.entity, box) for phrase in phrases for box in phrase.boxes]
    corners = as_array([box for _, box in entity_boxes])
    regions = []
    for cluster in clusters(iou(corners, corners) >= SAME_BOX_IOU):
        entities = {entity_boxes[i][0] for i in cluster}
        spans = [phrase.spans[0] for phrase in phrases if phrase.entity in entities]
        regions.append(Region(spans, box=entity_boxes[cluster[-1]][1]))
    return GroundedCaption(
        text,
        regions,
        tokens_negative=[(0, len(text))],
        dataset="flickr30k",
        record=record,
        phrases=phrases,
    )

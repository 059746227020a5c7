"""Flickr30k Entities: five sentences an image, with boxes for the phrases in them.

Layout: github.com/BryanPlummer/flickr30k_entities. ``Annotations/ID.xml`` has the boxes of the
entities of an image; ``Sentences/ID.txt`` marks the phrases that speak of an entity, one sentence
a line: ``[/EN#47/people A man] sits on [/EN#48/other a chair] .``
"""

import contextlib
import math
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar, Literal

import msgspec
import numpy as np
from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from pipelines.geometry.boxes import clusters
from pipelines.io.raw_files import RawFileError, open_binary, read_beginning
from pipelines.sources.base import Context, Input, Slice, Source
from schemas import Box, GroundedCaption, ImageInfo, ImageRecord, Phrase, Region, Rejected, Span
from shards.box_overlap import as_array, iou

SAME_BOX = 0.95  # IoU from which the published conversion takes two boxes for one
SENTENCES = 5  # that each image of Flickr30k has
LARGEST_SIDE = 1 << 24  # of an image in pixels
MAX_BYTES = 1 << 20  # of one XML or sentence file; the published ones have some kB

_PHRASE_START = re.compile(r"\[/EN#([0-9]+)((?:/[^/\[\]]+)+)")

ReadFile = Callable[[str], bytes]


class _Mention(msgspec.Struct, gc=False):
    """A phrase of a sentence and the entity that it speaks of."""

    span: Span
    entity: str
    types: list[str]


class Flickr30k(Source, kw_only=True):
    """Sentences of Flickr30k with the boxes of Flickr30k Entities.

    ``ground_truth = "merged"`` gives an entity of several boxes the one box around them, which is
    the protocol of the Entities paper (arXiv 1505.04870) and MERGED-BOXES of MDETR's table 3;
    ``separate`` is ANY-BOX.
    """

    namespace: ClassVar[str] = "flickr30k"

    annotations: str  # the folder that has Annotations/ and Sentences/, or annotations.zip
    split_files: dict[str, str]  # split -> file of image ids, one a line
    ground_truth: Literal["separate", "merged"] = "separate"

    def paths(self) -> list[str]:
        return [self.annotations, *self.split_files.values()]

    def split_names(self) -> set[str]:
        return set(self.split_files)

    def image_inputs(self) -> list[Input]:
        return [Input(path, "lines", role=split) for split, path in self.split_files.items()]

    def read_images(self, piece: Slice) -> Iterator[ImageInfo | Rejected]:
        for id_ in _ids(piece):
            # `read` goes over the same lines, and reports the bad ones.
            if not isinstance(id_, Rejected):
                yield ImageInfo(f"flickr30k/{id_}", "flickr30k", file=f"{id_}.jpg", photo=id_)

    def inputs(self, splits: tuple[str, ...]) -> list[Input]:
        return [
            Input(self.split_files[split], "lines", role=split)
            for split in splits
            if split in self.split_files
        ]

    def read(self, piece: Slice, context: Context) -> Iterator[ImageRecord | Rejected]:
        with _opened(self.annotations) as read_file:
            for id_ in _ids(piece):
                if isinstance(id_, Rejected):
                    yield id_
                else:
                    yield from self._read_image(id_, piece.input.role, read_file)

    def _read_image(
        self, id_: str, split: str, read_file: ReadFile
    ) -> Iterator[ImageRecord | Rejected]:
        part = ImageRecord(f"flickr30k/{id_}", "flickr30k", split)
        lines: list[bytes] = []
        try:
            content = read_file(f"Sentences/{id_}.txt")
            lines = [line for line in content.split(b"\n") if line.strip()]
            xml = read_file(f"Annotations/{id_}.xml")
        except _UnreadableError as fault:
            yield _lost(part, "unreadable file", fault, lines)
            return
        try:
            part.width, part.height, entities, faults = _read_xml(xml)
        except _BadSizeError as fault:
            yield _lost(part, "bad image size", fault, lines)
            return
        except (ElementTree.ParseError, DefusedXmlException, ValueError, LookupError) as fault:
            yield _lost(part, "malformed record", fault, lines)
            return
        for detail in faults:
            yield Rejected("flickr30k", id_, "no usable box", detail, part.image, records=0)
        if self.ground_truth == "merged":
            entities = {entity: [_hull(boxes)] for entity, boxes in entities.items()}
        for number, line in enumerate(lines):
            record = f"{id_}#{number}"
            try:
                text, mentions = _parse_sentence(line.decode())
            except ValueError as fault:
                yield Rejected("flickr30k", record, "malformed record", str(fault), part.image)
            else:
                part.captions.append(_caption(text, mentions, entities, record))
        if part.captions:
            yield part


def _lost(part: ImageRecord, reason: str, fault: Exception, lines: list[bytes]) -> Rejected:
    """An image with all its sentences, which are five where they could not be counted."""
    id_ = part.image.removeprefix("flickr30k/")
    return Rejected(
        "flickr30k", id_, reason, str(fault), part.image, records=len(lines) or SENTENCES
    )


def _ids(piece: Slice) -> Iterator[str | Rejected]:
    name = Path(piece.input.path).name
    for line in piece.content.splitlines():
        id_ = line.strip().decode("utf-8", "replace")
        if re.fullmatch("[0-9]{1,20}", id_):
            yield id_
        elif id_:
            yield Rejected("flickr30k", ascii(id_[:100]), "bad image id", name)


# --- files ----------------------------------------------------------------------------------------


class _UnreadableError(Exception):
    pass


@contextlib.contextmanager
def _opened(annotations: str) -> Iterator[ReadFile]:
    """A function that reads a file of the folder or zip; it raises ``_UnreadableError``."""
    if not annotations.endswith(".zip"):
        yield lambda name: _read_from_folder(annotations, name)
        return
    with open_binary(annotations) as file:
        try:
            archive = zipfile.ZipFile(file)
        except zipfile.BadZipFile as fault:
            raise RawFileError(f"{annotations}: not a readable zip file: {fault}") from fault
        with archive:
            yield lambda name: _read_from_zip(archive, annotations, name)


def _read_from_folder(folder: str, name: str) -> bytes:
    try:
        return _bounded(read_beginning(f"{folder}/{name}", MAX_BYTES + 1), name)
    except FileNotFoundError:
        raise _UnreadableError(f"no {name}") from None


def _read_from_zip(archive: zipfile.ZipFile, path: str, name: str) -> bytes:
    try:
        with archive.open(name) as file:
            return _bounded(file.read(MAX_BYTES + 1), name)
    except KeyError:
        raise _UnreadableError(f"no {name} in the zip") from None
    except (zipfile.BadZipFile, zlib.error, EOFError) as fault:
        raise _UnreadableError(f"{name}: {fault}") from fault
    # An encrypted member, or one of an unknown compression: so is the rest of the zip.
    except RuntimeError as fault:
        raise RawFileError(f"{path}: not a readable zip file: {fault}") from fault


def _bounded(content: bytes, name: str) -> bytes:
    if len(content) > MAX_BYTES:
        raise _UnreadableError(f"{name}: more than {MAX_BYTES} bytes")
    return content


# --- sizes and boxes ------------------------------------------------------------------------------


class _BadSizeError(ValueError):
    pass


def _read_xml(content: bytes) -> tuple[int, int, dict[str, list[Box]], list[str]]:
    """Width, height, the boxes of each entity, and what is wrong with boxes that were left out.

    Width and height are 0 where the file does not state them.
    """
    root = ElementTree.fromstring(content)
    width = height = 0
    size = root.find("size")
    if size is not None:
        width, height = (int(size.findtext(side, "")) for side in ("width", "height"))
        if not 0 < min(width, height) <= max(width, height) <= LARGEST_SIDE:
            raise _BadSizeError(f"{width}x{height}")
    entities: dict[str, list[Box]] = {}
    faults: list[str] = []
    for element in root.iterfind("object"):
        bndbox = element.find("bndbox")
        if bndbox is None or len(bndbox) == 0:
            continue  # the scene as a whole, or an entity out of sight
        stated = [bndbox.findtext(side, "") for side in ("xmin", "ymin", "xmax", "ymax")]
        box = _box(stated)
        names = [name.text or "" for name in element.iterfind("name")]
        if box is None:
            faults.append(f"entities {names}: {stated}")
            continue
        for name in names:
            entities.setdefault(name.strip(), []).append(box)
    return width, height, entities, faults


def _box(stated: list[str]) -> Box | None:
    try:
        x0, y0, x1, y1 = np.array(stated, np.float32).tolist()
    except ValueError:
        return None
    ordered = math.isfinite(x0 + y0 + x1 + y1) and x0 < x1 and y0 < y1
    return (x0, y0, x1, y1) if ordered else None


def _hull(boxes: list[Box]) -> Box:
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


# --- sentences ------------------------------------------------------------------------------------


def _parse_sentence(line: str) -> tuple[str, list[_Mention]]:
    """The sentence without its marks, words joined by single spaces, and its phrases in order.

    Raises ``ValueError`` for marks that do not match up.

    >>> _parse_sentence("[/EN#47/people A man] sits .")
    ('A man sits .', [_Mention(span=(0, 5), entity='47', types=['people'])])
    """
    words: list[str] = []
    mentions: list[_Mention] = []
    length = 0  # of the words so far, each with the space after it
    mark: re.Match[str] | None = None
    start = 0
    for token in line.split():
        if token.startswith("["):
            if mark:
                raise ValueError(f"a phrase within a phrase: {token}")
            mark = _PHRASE_START.fullmatch(token)
            if not mark:
                raise ValueError(f"not the start of a phrase: {token}")
            start = length
            continue
        closes = token.endswith("]")
        word = token.removesuffix("]")
        if closes and not (mark and word):
            raise ValueError(f"a bracket that closes nothing: {token}")
        words.append(word)
        length += len(word) + 1
        if mark and closes:
            mentions.append(_Mention((start, length - 1), mark[1], mark[2][1:].split("/")))
            mark = None
    if mark:
        raise ValueError(f"a phrase without an end: {mark[0]}")
    return " ".join(words), mentions


def _caption(
    text: str, mentions: list[_Mention], entities: dict[str, list[Box]], record: str
) -> GroundedCaption:
    phrases = [
        Phrase([mention.span], mention.entity, mention.types, entities[mention.entity])
        for mention in mentions
        if mention.entity in entities
    ]
    owned = [(box, phrase.entity) for phrase in phrases for box in phrase.boxes]
    boxes = as_array([box for box, _ in owned])
    regions = []
    for cluster in clusters(iou(boxes, boxes) >= SAME_BOX):
        named = {owned[i][1] for i in cluster}
        spans = [phrase.spans[0] for phrase in phrases if phrase.entity in named]
        regions.append(Region(spans, box=owned[cluster[-1]][0]))
    return GroundedCaption(
        text,
        regions,
        negative=[(0, len(text))],
        dataset="flickr30k",
        record=record,
        phrases=phrases,
    )

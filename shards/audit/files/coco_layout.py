"""JSON in COCO's layout: lists of images and annotations. COCO, LVIS and MDETR have it.

MDETR's files have an "image" for each caption; COCO's and LVIS's one for each image.
"""

import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from schemas.decodable import decodable
from schemas.image_ids import RawId
from shards.atomic import atomic_write
from shards.audit.files.annotation_file import (
    AnnotationFile,
    Mask,
    check_number,
    check_plain,
    left_out_line,
    open_stream,
)
from shards.audit.files.errors import AuditError
from shards.audit.files.json_lists import ListWriter, decoded
from shards.audit.files.json_stream import Elements, Text, split_json
from shards.audit.files.statements import Reading, Record, Statement, place_of, states


class _OfImage(msgspec.Struct, gc=False):
    image_id: RawId = None


_NUMBER = re.compile(r"(-?[0-9]{1,40})(?:\.0+)?")
_ANNOTATIONS = msgspec.json.Decoder(decodable(list[_OfImage]))


class CocoLayout(AnnotationFile):
    """A file with lists ``images`` and ``annotations``.

    ``has_captions``: whether an entry of ``images`` is a caption, as in MDETR's files. In COCO's,
    captions are annotations.
    """

    def __init__(self, path: Path, reading: Reading, has_captions: bool) -> None:
        super().__init__(path, reading)
        self._has_captions = has_captions
        self.format = "MDETR JSON" if has_captions else "COCO JSON"

    def statements(self) -> Iterator[Statement]:
        captions = Counter[str]() if self._has_captions else self._captions_of_images()
        for number, record in enumerate(self._images()):
            for statement in states(record, self.reading, place_of(number), use_id=True):
                if record is not None and captions:
                    yield statement._replace(captions=captions[id_text(record.id)])
                else:
                    yield statement

    def write(self, output: Path, left_out: Mask) -> list[str]:
        check_plain(self.path)
        ids = self._ids_left_out(left_out)
        left_out_annotations = 0
        with open_stream(self.path) as file, atomic_write(output) as target:
            writer = ListWriter(target)
            number = 0
            for chunk in split_json(file, str(self.path)):
                if isinstance(chunk, Text):
                    writer.write_text(chunk)
                elif chunk.name == "images":
                    writer.write(chunk, left_out[number : number + chunk.number])
                    number += chunk.number
                elif chunk.name == "annotations" and ids:
                    mask = self._are_of(chunk, ids)
                    left_out_annotations += int(mask.sum())
                    writer.write(chunk, mask)
                else:
                    writer.write(chunk, np.zeros(chunk.number, bool))
            check_number(self.path, number, left_out)
        noun = "caption" if self._has_captions else "image"
        return [
            left_out_line(int(left_out.sum()), noun),
            left_out_line(left_out_annotations, "annotation"),
        ]

    def _ids_left_out(self, left_out: Mask) -> set[str]:
        """Returns the ids of the entries of ``images`` that are left out.

        Raises:
            AuditError: Another entry has one of the ids, so its annotations would be lost.
        """
        ids: set[str] = set()
        hashes = array("q")
        for number, record in enumerate(self._images()):
            text = "" if record is None else id_text(record.id)
            hashes.append(hash(text))
            if number < len(left_out) and left_out[number]:
                ids.add(text)
        check_number(self.path, len(hashes), left_out)
        remaining = np.array(hashes, np.int64)[~left_out]
        shared = np.isin(remaining, np.array([hash(text) for text in ids], np.int64))
        if shared.any():
            text = next(text for text in ids if hash(text) in remaining[shared])
            raise AuditError(
                f"{self.path}: several images have the id {text[:80]}, and only some are in an "
                "evaluation set: their annotations cannot be divided"
            )
        return ids

    def _are_of(self, annotations: Elements, ids: set[str]) -> Mask:
        """Returns which annotations are about an image with one of the ids."""
        rows: Sequence[_OfImage | Record | None]
        try:
            rows = _ANNOTATIONS.decode(annotations.json())
        except (msgspec.MsgspecError, UnicodeDecodeError):
            rows = decoded(self.path, annotations)
        return np.array([row is not None and id_text(row.image_id) in ids for row in rows], bool)

    def _captions_of_images(self) -> Counter[str]:
        """Returns the number of annotations with a caption by the id of their image."""
        counts: Counter[str] = Counter()
        with open_stream(self.path) as file:
            for chunk in split_json(file, str(self.path)):
                if isinstance(chunk, Elements) and chunk.name == "annotations":
                    if b'"caption"' not in chunk.content:
                        continue
                    for record in filter(None, decoded(self.path, chunk)):
                        if count := record.caption_count():
                            counts[id_text(record.image_id)] += count
        return counts

    def _images(self) -> Iterator[Record | None]:
        with open_stream(self.path) as file:
            for chunk in split_json(file, str(self.path), undivided=frozenset({"annotations"})):
                if isinstance(chunk, Elements) and chunk.name == "images":
                    yield from decoded(self.path, chunk)


def id_text(id_: RawId) -> str:
    """Returns an id of a file as a text that all its spellings have in common.

    >>> id_text(7), id_text(7.0), id_text("7.0"), id_text("007"), id_text("a-7")
    ('7', '7', '7', '7', 'a-7')
    """
    text = str(int(id_)) if isinstance(id_, float) and id_.is_integer() else str(id_)
    match = _NUMBER.fullmatch(text)
    return str(int(match[1])) if match else text

"""MDETR's own JSON: captions that were combined before, as GoldG is passed around.

Layout: ``final_mixed_train.json`` and ``final_flickr_separateGT_train.json`` of
github.com/ashkamath/mdetr: an image a caption, and boxes with the characters that name them. Which
raw records a caption was made of is not in it.
"""

import functools
import mmap
from collections.abc import Iterator, Sequence
from typing import ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from pipelines.boxes import from_xywh
from pipelines.raw_files import RawFileError, element_borders, mapped, version
from pipelines.sources.base import Context, Input, Slice, Source
from pipelines.sources.records import Bad, Category, Id, decode_list, malformed
from schemas import GroundedCaption, ImagePart, Phrase, Picture, Region, Rejected, Span

#: The namespace of a picture whose record names no ``data_source``, by its ``dataset_name``.
NAMESPACES = {"flickr": "flickr30k"}


class _Image(msgspec.Struct, gc=False):
    id: Id
    file_name: str
    height: int | str  # Flickr30k's are strings
    width: int | str
    caption: str
    dataset_name: str
    data_source: str = ""
    original_id: int | str | None = None
    original_img_id: int | str | None = None
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
    """Captions and boxes of MDETR's files, a caption of the file a sentence of this source."""

    namespace: ClassVar[str] = "mdetr_json"

    files: dict[str, list[str]]  # split -> its files

    def paths(self) -> list[str]:
        return [path for paths in self.files.values() for path in paths]

    def split_names(self) -> set[str]:
        return set(self.files)

    def picture_inputs(self) -> list[Input]:
        return [Input(path, "list", within="images") for path in self.paths()]

    def read_pictures(self, piece: Slice) -> Iterator[Picture | Rejected]:
        images, _ = decode_list(piece.content, _Image)  # `read` reports the bad ones
        rows: set[tuple[str, str, int, int]] = set()
        for image in images:
            key, size = _key(image), _size(image)
            if key and size:
                rows.add((key, image.file_name, *size))
        for key, file, width, height in sorted(rows):
            yield Picture(key, self.namespace, file, width, height)

    def inputs(self, splits: tuple[str, ...]) -> list[Input]:
        return [
            Input(path, "list", within="images", role=split)
            for split in splits
            for path in self.files.get(split, [])
        ]

    def read(self, piece: Slice, context: Context) -> Iterator[ImagePart | Rejected]:
        images, bad = decode_list(piece.content, _Image)
        yield from malformed(self.namespace, bad, piece.input.path)
        annotations = annotations_of(piece.input.path)
        parts: dict[str, ImagePart] = {}
        for image in images:
            key, size = _key(image), _size(image)
            record = f"{image.dataset_name}/{image.id}"
            if not key or not size:
                reason, detail = ("bad picture size", f"{image.width}x{image.height}")
                if not key:
                    reason, detail = ("bad image id", image.file_name)
                yield Rejected(self.namespace, record, reason, detail)
                continue
            found, bad = annotations.of(image.id)
            yield from malformed(self.namespace, bad, piece.input.path, records=0, picture=key)
            new = ImagePart(key, self.namespace, piece.input.role, [], {}, *size)
            parts.setdefault(key, new).captions.append(_caption(image, found))
        yield from parts.values()


def _key(image: _Image) -> str:
    """The picture's key; nothing where the record does not tell of which data set it is."""
    namespace = image.data_source or NAMESPACES.get(image.dataset_name, "")
    id_ = image.original_id if image.original_id is not None else image.original_img_id
    return f"{namespace}/{id_}" if namespace and id_ is not None else ""


def _size(image: _Image) -> tuple[int, int] | None:
    try:
        return int(image.width), int(image.height)
    except ValueError:
        return None


def _caption(image: _Image, annotations: Sequence[_Annotation]) -> GroundedCaption:
    regions = [
        Region(a.tokens_positive, from_xywh(*a.bbox), "", a.area, a.category_id, bool(a.iscrowd))
        for a in annotations
    ]
    phrases = [
        Phrase(spans, "", [], [r.box for r in regions if r.box and _shares(spans, r.spans)])
        for spans in image.tokens_positive_eval
    ]
    return GroundedCaption(
        image.caption,
        regions,
        image.tokens_negative,
        image.dataset_name,
        str(image.id),
        phrases,
    )


def _shares(spans: Sequence[Span], others: Sequence[Span]) -> bool:
    return any(span in others for span in spans)


# --- annotations ----------------------------------------------------------------------------------


class Annotations:
    """The annotations of a file by their image, read where they lie.

    Slices of images are read by several workers, each of which finds the annotations of its own.
    What is held is two numbers an annotation, whatever its length.
    """

    def __init__(self, path: str) -> None:
        self._name = path
        self._content: mmap.mmap = mapped(path)
        borders = element_borders(self._content, Input(path, "list", within="annotations"))
        images = np.fromiter(self._image_ids(borders), np.int64, len(borders))
        self._order = np.argsort(images, kind="stable")
        self._images = images[self._order]
        self._borders = borders[self._order]

    def of(self, image: int) -> tuple[list[_Annotation], list[Bad]]:
        """The good annotations of an image in the order of the file, and the bad ones."""
        first, last = np.searchsorted(self._images, [image, image + 1])
        elements = (self._content[start:stop] for start, stop in self._borders[first:last])
        return decode_list(b"[" + b",".join(elements) + b"]", _Annotation)

    def _image_ids(self, borders: npt.NDArray[np.int64]) -> Iterator[int]:
        decoder = msgspec.json.Decoder(_ImageOf)
        content = memoryview(self._content)
        for start, stop in borders.tolist():
            try:
                yield decoder.decode(content[start:stop]).image_id
            except msgspec.ValidationError as fault:
                raise RawFileError(f"{self._name}: an annotation of no image: {fault}") from fault


class _ImageOf(msgspec.Struct, gc=False):
    image_id: Id


def annotations_of(path: str) -> Annotations:
    """The annotations of a file, found once in a process unless it is written anew."""
    return _found(path, version(path))


@functools.lru_cache(maxsize=4)
def _found(path: str, of_version: tuple[int, float]) -> Annotations:
    return Annotations(path)

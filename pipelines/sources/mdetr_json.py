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

from pipelines.geometry.boxes import from_xywh
from pipelines.io.raw_files import RawFileError, element_borders, mapped, version
from pipelines.sources.base import Context, Input, Slice, Source
from pipelines.sources.decoding import Bad, Category, Id, decode_list, malformed
from schemas import GroundedCaption, ImageInfo, ImageRecord, Phrase, Region, Rejected, Span

#: The namespace of an image whose record names no ``data_source``, by its ``dataset_name``.
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
    """Captions and boxes of MDETR's files, a caption of the file a sentence of this source."""

    namespace: ClassVar[str] = "mdetr_json"

    files: dict[str, list[str]]  # split -> its files

    def paths(self) -> list[str]:
        return [path for paths in self.files.values() for path in paths]

    def split_names(self) -> set[str]:
        return set(self.files)

    def image_inputs(self) -> list[Input]:
        return [Input(path, "list", within="images") for path in self.paths()]

    def read_images(self, piece: Slice) -> Iterator[ImageInfo | Rejected]:
        images, _ = decode_list(piece.content, _Image)  # `read` reports the bad ones
        rows: set[tuple[str, str, int, int]] = set()
        for image in images:
            key, size = _key(image), _size(image)
            if key and size:
                rows.add((key, image.file_name, *size))
        for key, file, width, height in sorted(rows):
            yield ImageInfo(key, self.namespace, file, width, height)

    def inputs(self, splits: tuple[str, ...]) -> list[Input]:
        return [
            Input(path, "list", within="images", role=split)
            for split in splits
            for path in self.files.get(split, [])
        ]

    def read(self, piece: Slice, context: Context) -> Iterator[ImageRecord | Rejected]:
        images, bad = decode_list(piece.content, _Image)
        yield from malformed(self.namespace, bad, piece.input.path)
        annotations = annotations_of(piece.input.path)
        if any(image.id == annotations.first_image for image in images):
            for number, image_id in annotations.astray:
                record, detail = f"annotations/{number}", f"image_id {image_id}"
                yield Rejected(self.namespace, record, "unknown image", detail, records=0)
        parts: dict[str, ImageRecord] = {}
        for image in images:
            key, size = _key(image), _size(image)
            record = f"{image.dataset_name}/{_record(image)}"
            if not key or not size:
                reason, detail = ("bad image size", f"{image.width}x{image.height}")
                if not key:
                    reason, detail = ("bad image id", image.file_name)
                yield Rejected(self.namespace, record, reason, detail)
                continue
            found, bad = annotations.of(image.id)
            yield from malformed(self.namespace, bad, piece.input.path, records=0, image=key)
            new = ImageRecord(key, self.namespace, piece.input.role, [], {}, *size)
            parts.setdefault(key, new).captions.append(_caption(image, found))
        yield from parts.values()


def _key(image: _Image) -> str:
    """The image's key; nothing where the record does not tell of which data set it is."""
    namespace = image.data_source or NAMESPACES.get(image.dataset_name, "")
    id_ = image.original_id if image.original_id is not None else image.original_img_id
    return f"{namespace}/{id_}" if namespace and id_ is not None else ""


def _record(image: _Image) -> str:
    """The caption's own id, as Flickr30k has one, or else the id of its image in the file."""
    if image.original_img_id is not None and image.sentence_id is not None:
        return f"{image.original_img_id}#{image.sentence_id}"
    return str(image.id)


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
        _record(image),
        phrases,
    )


def _shares(spans: Sequence[Span], others: Sequence[Span]) -> bool:
    return any(span in others for span in spans)


# --- annotations ----------------------------------------------------------------------------------


class Annotations:
    """The annotations of a file by their image, read where they lie.

    Slices of images are read by several workers, each of which finds the annotations of its own.
    What is held of an annotation is 24 bytes, whatever its length.

    ``first_image`` is the id of the first image, None of a file without. ``astray`` are the
    annotations of images that are not in the file: their place in it, and what they say.
    """

    def __init__(self, path: str) -> None:
        self._name = path
        self._content: mmap.mmap = mapped(path)
        known, _ = self._ids("images", _ImageId)
        images, borders = self._ids("annotations", _ImageOf)
        self.first_image = int(known[0]) if len(known) else None
        astray = np.flatnonzero(~np.isin(images, known))
        self.astray = list(zip(astray.tolist(), images[astray].tolist(), strict=True))
        order = np.argsort(images, kind="stable")
        self._images = images[order]
        self._borders = borders[order]

    def of(self, image: int) -> tuple[list[_Annotation], list[Bad]]:
        """The good annotations of an image in the order of the file, and the bad ones."""
        first = np.searchsorted(self._images, image, "left")
        last = np.searchsorted(self._images, image, "right")
        elements = (self._content[start:stop] for start, stop in self._borders[first:last])
        return decode_list(b"[" + b",".join(elements) + b"]", _Annotation)

    def _ids(
        self, name: str, of_element: type["_ImageId | _ImageOf"]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The image that each element of a list is of, and where the elements begin and end.

        An image without an id is none of those that annotations are of.
        """
        borders = element_borders(self._content, Input(self._name, "list", within=name))
        content, decoder = memoryview(self._content), msgspec.json.Decoder(of_element)
        found = np.empty(len(borders), np.int64)
        kept = np.ones(len(borders), np.bool_)
        for number, (start, stop) in enumerate(borders.tolist()):
            try:
                found[number] = decoder.decode(content[start:stop]).image
            except msgspec.ValidationError as fault:
                if of_element is _ImageOf:
                    message = f"{self._name}: an annotation of no image: {fault}"
                    raise RawFileError(message) from fault
                kept[number] = False  # `MdetrJson.read` reports it
        return found[kept], borders[kept]


class _ImageId(msgspec.Struct, gc=False):
    image: Id = msgspec.field(name="id")


class _ImageOf(msgspec.Struct, gc=False):
    image: Id = msgspec.field(name="image_id")


def annotations_of(path: str) -> Annotations:
    """The annotations of a file, found once in a process unless it is written anew."""
    return _found(path, version(path))


@functools.lru_cache(maxsize=4)
def _found(path: str, of_version: tuple[int, str]) -> Annotations:
    return Annotations(path)

"""COCO and its referring expressions: RefCOCO, RefCOCO+ and RefCOCOg.

Layouts: cocodataset.org (instances_*.json) and github.com/lichengunc/refer (``refs(*).p``, a
pickled list of references, each with the id of a COCO annotation and several sentences), or the
same in the other forms of `pipelines.io.references`.
"""

from collections.abc import Iterator
from typing import ClassVar, NamedTuple

import msgspec

from pipelines.captions.noun_phrases import root_and_negative_spans
from pipelines.captions.parsing import length_error
from pipelines.captions.spans import consolidate, consolidate_or_whole
from pipelines.captions.text_cleanup import has_alphanumeric
from pipelines.dedup.joins import TableIds
from pipelines.geometry.boxes import from_xywh
from pipelines.geometry.polygons import MAX_COORDINATE, Segmentation, extent
from pipelines.io.archives import file_name
from pipelines.io.json_records import (
    BadRecord,
    Category,
    Id,
    ImageId,
    convert_record,
    decode_list,
    decode_parts,
    decode_record,
    reject_malformed,
)
from pipelines.io.parquet import is_parquet
from pipelines.io.raw_files import RawFileError
from pipelines.io.references import check_boxes, load_references
from pipelines.io.slices import Input, Slice
from pipelines.sources import image_licenses
from pipelines.sources.base import Context, SliceItem, Source
from pipelines.sources.image_licenses import LicenseTable, web_address
from schemas import (
    AbsentPhrase,
    Box,
    GroundedCaption,
    ImageInfo,
    ImageRecord,
    NotAskedFor,
    Object,
    ObjectRegion,
    RawCounts,
    Region,
    Rejected,
    Span,
)
from schemas.decodable import decodable
from schemas.image_ids import image_key, photo_id_of_url
from schemas.joins import PHOTO_ID
from schemas.limits import MAX_CAPTION_BOXES, MAX_SEGMENTATION_BYTES
from shards.box_overlap import as_array, iou

SENTENCES_PER_BATCH = 20_000
_NO_OBJECT = -1
MIN_SEGMENTATION_IOU = 0.5  # minimum IoU of a box and the extent of its segmentation

_segmentation_decoder = msgspec.json.Decoder(decodable(Segmentation))


class _Image(msgspec.Struct, gc=False):
    id: ImageId
    file_name: str
    width: int
    height: int
    flickr_url: str = ""
    coco_url: msgspec.Raw = msgspec.Raw()
    license: msgspec.Raw = msgspec.Raw()

    def info(self, licenses: LicenseTable) -> ImageInfo:
        """Returns its row of the image table."""
        return ImageInfo(
            key=_key(self.id),
            source="coco",
            file=self.file_name,
            width=self.width,
            height=self.height,
            photo_id=photo_id_of_url(self.flickr_url),
            license=licenses.license(self.license),
            url=web_address(self.flickr_url, self.coco_url),
        )


class _ImageIds(msgspec.Struct, gc=False):
    id: ImageId
    flickr_url: str = ""


class _Annotation(msgspec.Struct, gc=False):
    id: Id
    image_id: ImageId
    category_id: Category
    bbox: list[float | None] | None = None
    area: float | None = None
    iscrowd: bool | int = 0
    segmentation: msgspec.Raw = msgspec.Raw()  # costly to decode, and not always needed


class _Sentence(msgspec.Struct, gc=False):
    sent_id: Id
    sent: str


class _Ref(msgspec.Struct, gc=False):
    image_id: ImageId
    ann_id: Id | list[Id]  # of gRefCOCO a list, [-1] or empty for an expression of no object
    category_id: Category | list[Category]
    split: str
    sentences: list[_Sentence]
    no_target: bool = False
    annotation: str = ""  # as in instances_*.json, where the file of the reference has it
    record: str = ""  # the beginning of its sentences' ids
    problem: str = ""  # why its file, which should, states no box

    def targets(self) -> list[int]:
        """Returns the ids of the annotations that its sentences refer to."""
        ids = [self.ann_id] if isinstance(self.ann_id, int) else self.ann_id
        return [] if self.no_target else [id_ for id_ in ids if id_ != _NO_OBJECT]

    def states_no_object(self) -> bool:
        """Returns whether annotators found no object, rather than that the ids are missing."""
        return self.no_target or (self.ann_id == [_NO_OBJECT])


class _Referent(NamedTuple):
    """A reference of the splits that are built, with its object if its file states the box."""

    ref: _Ref
    obj: Object | None


class Coco(Source, kw_only=True):
    """COCO's images and boxes, and the sentences of the RefCOCO family about them.

    Under ``rules.boxes = "clip"`` a box is checked against its segmentation: one that is missing,
    empty, or overlaps the segmentation's extent with an IoU below 0.5 is replaced by that extent.
    Where the segmentation is missing or malformed, the box is used as it is.
    """

    namespace: ClassVar[str] = "coco"
    uses_parser: ClassVar[bool] = True

    instances: list[str] = []  # instances_train2014.json and the like, .json or .zip
    #: refcoco, refcoco+, refcocog -> its refs: a pickle, JSON or Parquet, or a list of such files
    refs: dict[str, str | list[str]] = {}
    #: whether expressions of no object (gRefCOCO) become captions without boxes; otherwise they are
    #: absent phrases, if the recipe asks for proven ones
    no_target: bool = False

    def paths(self) -> list[str]:
        return [*(path for _, path in self._refs()), *self.instances]

    def check_paths(self) -> None:
        for _, path in self._refs():
            if is_parquet(path):
                load_references(path)  # takes seconds for a file of RefCOCO
                check_boxes(path)
            elif not self.instances:
                raise RawFileError(f"{path}: it states no boxes; state the instances that do")

    def image_ids(self) -> TableIds:
        return {"coco": frozenset({PHOTO_ID} if self.instances else ())}

    def image_tables(self) -> list[Input]:
        return [
            *(
                Input(path, "list", within="images", beside=image_licenses.KEY)
                for path in self.instances
            ),
            *(Input(path, "file") for _, path in self._refs() if is_parquet(path)),
        ]

    def read_image_table(self, raw_slice: Slice) -> Iterator[ImageInfo | Rejected]:
        licenses = LicenseTable(self.namespace, raw_slice)
        if raw_slice.input.layout == "file":
            yield from _images_of_references(raw_slice.input.path, licenses)
            yield from licenses.rejected()
            return
        images, bad = decode_list(raw_slice.content, _Image)
        yield from reject_malformed(self.namespace, bad, raw_slice.input.path)
        yield from (image.info(licenses) for image in images)
        yield from licenses.rejected()
        for ids in filter(None, decode_parts(raw_slice.content, bad, _ImageIds)):
            if photo := photo_id_of_url(ids.flickr_url):
                yield ImageInfo(_key(ids.id), self.namespace, "", photo_id=photo, joins_only=True)

    def inputs(self, splits: tuple[str, ...]) -> list[Input]:
        return [
            *(Input(path, "file", role=dataset) for dataset, path in self._refs()),
            *(Input(path, "list", within="annotations") for path in self.instances),
        ]

    def read(self, raw_slice: Slice, context: Context) -> Iterator[SliceItem]:
        if raw_slice.input.layout == "file":
            yield from _read_references(raw_slice.input, context, self.no_target)
        else:
            yield from _read_annotations(raw_slice, check=context.rules.boxes == "clip")

    def _refs(self) -> Iterator[tuple[str, str]]:
        """Yields each dataset with each of its files."""
        for dataset, paths in self.refs.items():
            for path in [paths] if isinstance(paths, str) else paths:
                yield dataset, path


def _key(image_id: int) -> str:
    return image_key("coco", image_id)


# --- sentences ------------------------------------------------------------------------------------


def _read_references(input: Input, context: Context, no_target: bool) -> Iterator[SliceItem]:
    check = context.rules.boxes == "clip"
    by_image: dict[tuple[int, str], list[_Referent]] = {}
    images: dict[str, int] = {}  # by the ids of sentences, which no two images share
    read = RawCounts("coco", captions=0, boxes=0)
    left_out: dict[str, NotAskedFor] = {}
    absent: dict[tuple[int, str], ImageRecord] = {}
    for position, item in enumerate(load_references(input.path)):
        try:
            ref = convert_record(item, _Ref)
            obj = _stated_object(ref, check) if ref.annotation else None
        except msgspec.ValidationError as error:
            bad, lost = [BadRecord(str(position), str(error))], _sentence_count(item)
            read.captions += lost
            read.boxes += lost
            yield from reject_malformed("coco", bad, input.path, records=lost, boxes=lost)
            continue
        is_absent = context.proven and not no_target and ref.states_no_object()
        if is_absent and ref.split in context.splits:
            yield from _add_absent(absent, ref, input.role)
            continue
        # Each sentence refers to all boxes of its reference.
        sentences, targets = len(ref.sentences), len(ref.targets())
        boxes = sentences * targets
        read.captions += sentences
        read.boxes += boxes
        read.splits[ref.split] = read.splits.get(ref.split, 0) + sentences
        what = "" if ref.split in context.splits else f"split {ref.split}"
        if not what and not targets and not no_target:
            what = "expressions of no object"
        if what:
            what = f"{what} of {file_name(input.path)}"
            part = left_out.setdefault(what, NotAskedFor("coco", what, 0, 0))
            part.captions += sentences
            part.boxes += boxes
        elif targets > MAX_CAPTION_BOXES or ref.problem or (ref.annotation and obj is None):
            yield from _without_usable_boxes(ref, input.role)
        else:
            yield from _without_ids_of_others(ref, input.role, images)
            by_image.setdefault((ref.image_id, ref.split), []).append(_Referent(ref, obj))
    yield read
    for _, part in sorted(left_out.items()):
        yield part
    yield from absent.values()
    batch: list[list[_Referent]] = []
    batch_sentences = 0
    for references in by_image.values():
        batch.append(references)
        batch_sentences += sum(len(reference.ref.sentences) for reference in references)
        if batch_sentences >= SENTENCES_PER_BATCH:
            yield from _caption_batch(batch, input.role, context)
            batch, batch_sentences = [], 0
    yield from _caption_batch(batch, input.role, context)


def _without_usable_boxes(ref: _Ref, dataset: str) -> Iterator[Rejected]:
    """Yields a row for each sentence of a reference with too many boxes, or none of use."""
    reason, detail = "no usable box", ref.problem or ref.annotation
    if (targets := len(ref.targets())) > MAX_CAPTION_BOXES:
        reason, detail = "too many objects", str(targets)
    key = _key(ref.image_id)
    for sentence in ref.sentences:
        record = f"{dataset}/{_record(ref, sentence)}"
        yield Rejected("coco", record, reason, detail, key, boxes=targets)


def _add_absent(
    records: dict[tuple[int, str], ImageRecord], ref: _Ref, dataset: str
) -> Iterator[Rejected]:
    """Adds the sentences of a reference to no object to the record of its image and split."""
    empty = ImageRecord(_key(ref.image_id), "coco", ref.split)
    record = records.setdefault((ref.image_id, ref.split), empty)
    for sentence in ref.sentences:
        id_, text = _record(ref, sentence), sentence.sent
        if error := _text_error(text):
            detail = ascii(text[:100])
            yield Rejected("coco", f"{dataset}/{id_}", error, detail, record.image, records=0)
        else:
            record.absent.append(AbsentPhrase(text, dataset, id_, "expression of no object"))


def _without_ids_of_others(ref: _Ref, dataset: str, images: dict[str, int]) -> Iterator[Rejected]:
    """Removes the sentences of a reference whose ids are those of sentences about other images.

    ``images`` has the image of each id so far, and gets those of the others.
    """
    sentences = []
    for sentence in ref.sentences:
        record = _record(ref, sentence)
        image_id = images.setdefault(record, ref.image_id)
        if image_id == ref.image_id:
            sentences.append(sentence)
        else:
            yield Rejected(
                source="coco",
                record=f"{dataset}/{record}",
                reason="duplicate id",
                detail=f"it is that of a sentence about {_key(image_id)}",
                image=_key(ref.image_id),
                boxes=len(ref.targets()),
            )
    ref.sentences = sentences


def _stated_object(ref: _Ref, check: bool) -> Object | None:
    """Returns the object of a reference whose file states it; None if it has no usable box.

    Raises:
        msgspec.ValidationError: it is malformed, or another object than that of the reference.
    """
    try:
        annotation = decode_record(ref.annotation.encode(), _Annotation)
    except ValueError as error:
        raise msgspec.ValidationError(f"annotation: {error}") from error
    if (annotation.image_id, annotation.id) != (ref.image_id, ref.ann_id):
        raise msgspec.ValidationError(
            f"annotation {annotation.id} of image {annotation.image_id}, expected {ref.ann_id} of "
            f"{ref.image_id}"
        )
    return _object(annotation, check)


def _record(ref: _Ref, sentence: _Sentence) -> str:
    return f"{ref.record}:{sentence.sent_id}" if ref.record else str(sentence.sent_id)


def _sentence_count(reference: object) -> int:
    """Returns the number of sentences of a malformed reference; 1 if it does not state any."""
    sentences = reference.get("sentences") if isinstance(reference, dict) else None
    return max(1, len(sentences)) if isinstance(sentences, list) else 1


def _images_of_references(path: str, licenses: LicenseTable) -> Iterator[ImageInfo | Rejected]:
    """Yields the images that the references of a file state, each once."""
    seen: set[str] = set()
    for position, item in enumerate(load_references(path)):
        image = item.get("image")
        if not isinstance(image, str) or image in seen:
            continue
        seen.add(image)
        try:
            yield decode_record(image.encode(), _Image).info(licenses)
        except ValueError as error:
            bad = [BadRecord(str(position), str(error))]
            yield from reject_malformed("coco", bad, path)


def _caption_batch(
    batch: list[list[_Referent]], dataset: str, context: Context
) -> Iterator[ImageRecord | Rejected]:
    """Yields a record for each element of ``batch``: the references of one split to one image."""
    parses = context.parse(
        sentence.sent
        for references in batch
        for reference in references
        for sentence in reference.ref.sentences
        if _text_error(sentence.sent) is None
    )
    for references in batch:
        first = references[0].ref
        record = ImageRecord(_key(first.image_id), "coco", first.split)
        for ref, obj in references:
            for sentence in ref.sentences:
                text = sentence.sent
                raw_record = _record(ref, sentence)
                error = _text_error(text)
                if error is not None:
                    yield Rejected(
                        source="coco",
                        record=f"{dataset}/{raw_record}",
                        reason=error,
                        detail=ascii(text[:100]),
                        image=record.image,
                        boxes=len(ref.targets()),
                    )
                    continue
                root, negative = root_and_negative_spans(text, parses[text], lazy=True)
                caption = GroundedCaption(
                    text=text,
                    regions=[],
                    tokens_negative=consolidate(negative, text),
                    dataset=dataset,
                    record=raw_record,
                )
                _add_regions(caption, consolidate_or_whole(root, text), ref, obj)
                record.captions.append(caption)
        if record.captions:
            yield record


def _add_regions(
    caption: GroundedCaption, spans: list[Span], ref: _Ref, obj: Object | None
) -> None:
    """Adds a region with the same words for each object that a sentence refers to."""
    # A list of classes is not one of the objects, so each object has its own.
    category = ref.category_id if isinstance(ref.category_id, int) else None
    if obj is None:
        caption.object_regions = [
            ObjectRegion(spans, str(target), category) for target in ref.targets()
        ]
    else:
        category = obj.category if category is None else category
        caption.regions = [Region(spans, obj.box, obj.area, category, obj.crowd)]


def _text_error(text: str) -> str | None:
    """Returns why a sentence cannot be used; None if it can."""
    if not has_alphanumeric(text):
        return "no words"
    if length_error(text):
        return "text too long"
    # Pickles can contain surrogates, which are invalid in UTF-8.
    return "not Unicode text" if any("\ud800" <= char <= "\udfff" for char in text) else None


# --- boxes ----------------------------------------------------------------------------------------


def _read_annotations(raw_slice: Slice, check: bool) -> Iterator[ImageRecord | Rejected]:
    # A bad annotation is not counted as a record: the sentences that lack its box are.
    annotations, bad = decode_list(raw_slice.content, _Annotation)
    yield from reject_malformed("coco", bad, raw_slice.input.path, records=0)
    records: dict[int, ImageRecord] = {}
    for annotation in annotations:
        key = _key(annotation.image_id)
        obj = _object(annotation, check)
        if obj is None:
            detail = str(annotation.bbox)
            yield Rejected("coco", str(annotation.id), "no usable box", detail, key, records=0)
            continue
        record = records.get(annotation.image_id)
        if record is None:
            record = records[annotation.image_id] = ImageRecord(key, "coco", "")
        record.objects[str(annotation.id)] = obj
    yield from records.values()


def _object(annotation: _Annotation, check: bool) -> Object | None:
    """Returns the object of an annotation; None if it has no usable box."""
    box = _stated_box(annotation.bbox)
    if check:
        box = _checked_box(box, annotation.segmentation)
    if box is None:
        return None
    area, category = annotation.area, annotation.category_id
    return Object(box, area, category, crowd=bool(annotation.iscrowd))


def _stated_box(bbox: list[float | None] | None) -> Box | None:
    if bbox is None or len(bbox) != 4:
        return None
    x, y, w, h = bbox
    if x is None or y is None or w is None or h is None:
        return None
    return from_xywh(x, y, w, h) if max(map(abs, (x, y, w, h))) < MAX_COORDINATE else None


def _checked_box(stated: Box | None, segmentation: msgspec.Raw) -> Box | None:
    """Returns the stated box if it fits the segmentation, else the segmentation's extent."""
    try:
        if len(memoryview(segmentation)) > MAX_SEGMENTATION_BYTES:
            raise ValueError("a segmentation of too many bytes")
        segmentation_box = extent(_segmentation_decoder.decode(segmentation))
    except ValueError:  # no segmentation to check the box against
        return stated if stated and stated[0] < stated[2] and stated[1] < stated[3] else None
    float32_box = as_array([segmentation_box])
    if stated and iou(as_array([stated]), float32_box)[0, 0] >= MIN_SEGMENTATION_IOU:
        return stated
    x0, y0, x1, y1 = float32_box[0].tolist()
    return (x0, y0, x1, y1)

"""COCO and its referring expressions: RefCOCO, RefCOCO+ and RefCOCOg.

Layouts: cocodataset.org (instances_*.json) and github.com/lichengunc/refer (``refs(*).p``, a
pickled list of references, each with the id of a COCO annotation and several sentences).
"""

from collections import Counter
from collections.abc import Iterator
from typing import ClassVar

import msgspec

from pipelines.captions.noun_phrases import root_and_negative_spans
from pipelines.captions.spans import consolidate, consolidate_or_whole
from pipelines.captions.text_cleanup import has_alphanumeric
from pipelines.dedup.joins import PHOTO_ID, TableIds
from pipelines.geometry.boxes import from_xywh
from pipelines.geometry.polygons import MAX_COORDINATE, Segmentation, extent
from pipelines.io import plain_data
from pipelines.io.archives import file_name
from pipelines.io.json_records import (
    BadRecord,
    Category,
    Id,
    ImageId,
    convert_record,
    decode_list,
    decode_parts,
    reject_malformed,
)
from pipelines.io.raw_files import RawFileError
from pipelines.io.slices import Input, Slice
from pipelines.sources.base import Context, SliceItem, Source
from schemas import (
    Box,
    GroundedCaption,
    ImageInfo,
    ImageRecord,
    NotAskedFor,
    Object,
    ObjectRegion,
    RawCounts,
    Rejected,
)
from schemas.image_ids import image_key, photo_id_of_url
from schemas.limits import MAX_CHARACTERS, MAX_SEGMENTATION_BYTES
from shards.box_overlap import as_array, iou

SENTENCES_PER_BATCH = 20_000
MIN_SEGMENTATION_IOU = 0.5  # minimum IoU of a box and the extent of its segmentation

_segmentation_decoder = msgspec.json.Decoder(Segmentation)


class _Image(msgspec.Struct, gc=False):
    id: ImageId
    file_name: str
    width: int
    height: int
    flickr_url: str = ""


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
    ann_id: Id
    category_id: Category
    split: str
    sentences: list[_Sentence]


class Coco(Source, kw_only=True):
    """COCO's images and boxes, and the sentences of the RefCOCO family about them.

    Under ``rules.boxes = "clip"`` a box is checked against its segmentation: one that is missing,
    empty, or overlaps the segmentation's extent with an IoU below 0.5 is replaced by that extent.
    Where the segmentation is missing or malformed, the box is used as it is.
    """

    namespace: ClassVar[str] = "coco"
    uses_parser: ClassVar[bool] = True

    instances: list[str]  # instances_train2014.json and the like, .json or .zip
    refs: dict[str, str] = {}  # refcoco, refcoco+, refcocog -> its refs, a pickle or JSON

    def paths(self) -> list[str]:
        return [*self.refs.values(), *self.instances]

    def image_ids(self) -> TableIds:
        return {"coco": frozenset({PHOTO_ID})}

    def image_tables(self) -> list[Input]:
        return [Input(path, "list", within="images") for path in self.instances]

    def read_image_table(self, raw_slice: Slice) -> Iterator[ImageInfo | Rejected]:
        images, bad = decode_list(raw_slice.content, _Image)
        yield from reject_malformed(self.namespace, bad, raw_slice.input.path)
        for image in images:
            yield ImageInfo(
                key=_key(image.id),
                source=self.namespace,
                file=image.file_name,
                width=image.width,
                height=image.height,
                photo_id=photo_id_of_url(image.flickr_url),
            )
        for ids in filter(None, decode_parts(raw_slice.content, bad, _ImageIds)):
            if photo := photo_id_of_url(ids.flickr_url):
                yield ImageInfo(_key(ids.id), self.namespace, "", photo_id=photo, joins_only=True)

    def inputs(self, splits: tuple[str, ...]) -> list[Input]:
        return [
            *(Input(path, "file", role=dataset) for dataset, path in self.refs.items()),
            *(Input(path, "list", within="annotations") for path in self.instances),
        ]

    def read(self, raw_slice: Slice, context: Context) -> Iterator[SliceItem]:
        if raw_slice.input.layout == "file":
            yield from _read_references(raw_slice.input, context)
        else:
            yield from _read_annotations(raw_slice, check=context.rules.boxes == "clip")


def _key(image_id: int) -> str:
    return image_key("coco", image_id)


# --- sentences ------------------------------------------------------------------------------------


def _read_references(input: Input, context: Context) -> Iterator[SliceItem]:
    content = plain_data.load(input.path)
    if not isinstance(content, list):
        raise RawFileError(f"{input.path}: expected a list, found {type(content).__name__}")
    by_image: dict[tuple[int, str], list[_Ref]] = {}
    sentences_by_split: Counter[str] = Counter()
    rejected_sentences = 0
    for position, item in enumerate(content):
        try:
            reference = convert_record(item, _Ref)
        except msgspec.ValidationError as error:
            if isinstance(item, dict) and isinstance(item.get("ann_id"), list):
                raise RawFileError(
                    f"{input.path}: reference {position} has a list of ann_id, as in gRefCOCO; "
                    "only references to one object are supported"
                ) from error
            bad, lost = [BadRecord(str(position), str(error))], _sentence_count(item)
            rejected_sentences += lost
            yield from reject_malformed("coco", bad, input.path, records=lost, boxes=lost)
            continue
        sentences_by_split[reference.split] += len(reference.sentences)
        if reference.split in context.splits:
            by_image.setdefault((reference.image_id, reference.split), []).append(reference)
    # Each sentence refers to the box of its reference.
    read = sentences_by_split.total() + rejected_sentences
    yield RawCounts("coco", read, read, dict(sentences_by_split))
    for split, count in sorted(sentences_by_split.items()):
        if split not in context.splits:
            what = f"split {split} of {file_name(input.path)}"
            yield NotAskedFor("coco", what, count, count)
    batch: list[list[_Ref]] = []
    batch_sentences = 0
    for references in by_image.values():
        batch.append(references)
        batch_sentences += sum(len(reference.sentences) for reference in references)
        if batch_sentences >= SENTENCES_PER_BATCH:
            yield from _caption_batch(batch, input.role, context)
            batch, batch_sentences = [], 0
    yield from _caption_batch(batch, input.role, context)


def _sentence_count(reference: object) -> int:
    """Returns the number of sentences of a malformed reference; 1 if it does not state any."""
    sentences = reference.get("sentences") if isinstance(reference, dict) else None
    return max(1, len(sentences)) if isinstance(sentences, list) else 1


def _caption_batch(
    batch: list[list[_Ref]], dataset: str, context: Context
) -> Iterator[ImageRecord | Rejected]:
    """Yields a record for each element of ``batch``: the references of one split to one image."""
    parses = context.parse(
        sentence.sent
        for references in batch
        for reference in references
        for sentence in reference.sentences
        if _text_error(sentence.sent) is None
    )
    for references in batch:
        record = ImageRecord(_key(references[0].image_id), "coco", references[0].split)
        for reference in references:
            for sentence in reference.sentences:
                text = sentence.sent
                raw_record = f"{dataset}/{sentence.sent_id}"
                error = _text_error(text)
                if error is not None:
                    detail = ascii(text[:100])
                    yield Rejected("coco", raw_record, error, detail, record.image, boxes=1)
                    continue
                root, negative = root_and_negative_spans(text, parses[text], lazy=True)
                region = ObjectRegion(
                    spans=consolidate_or_whole(root, text),
                    object=str(reference.ann_id),
                    category=reference.category_id,
                )
                record.captions.append(
                    GroundedCaption(
                        text=text,
                        regions=[],
                        object_regions=[region],
                        tokens_negative=consolidate(negative, text),
                        dataset=dataset,
                        record=str(sentence.sent_id),
                    )
                )
        if record.captions:
            yield record


def _text_error(text: str) -> str | None:
    """Returns why a sentence cannot be used; None if it can."""
    if not has_alphanumeric(text):
        return "no words"
    if len(text) > MAX_CHARACTERS:
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
        box = _stated_box(annotation.bbox)
        if check:
            box = _checked_box(box, annotation.segmentation)
        if box is None:
            detail = str(annotation.bbox)
            yield Rejected("coco", str(annotation.id), "no usable box", detail, key, records=0)
            continue
        record = records.get(annotation.image_id)
        if record is None:
            record = records[annotation.image_id] = ImageRecord(key, "coco", "")
        record.objects[str(annotation.id)] = Object(
            box=box,
            area=annotation.area,
            category=annotation.category_id,
            crowd=bool(annotation.iscrowd),
        )
    yield from records.values()


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

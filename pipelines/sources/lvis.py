"""LVIS: boxes of 1,203 classes, from frequent to rare, and classes that an image does not show.

Layout: lvisdataset.org, version 1 (``coco_url``) or 0.5 (``file_name``), on the images of COCO
2017. A caption is the name of one class, as in MDETR's few-shot transfer to long-tailed detection:
with all boxes of the class, or with none where the image is known not to show it. A recipe that
asks for proven negatives makes absent phrases of these, instead of captions.
"""

import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, ClassVar

import msgspec

from pipelines.dedup.joins import TableIds
from pipelines.geometry.boxes import from_xywh
from pipelines.geometry.polygons import MAX_COORDINATE
from pipelines.io.archives import map_file
from pipelines.io.json_records import (
    BadRecord,
    Category,
    Id,
    ImageId,
    decode_file,
    decode_list,
    decode_parts,
    raw_elements,
    reject_malformed,
)
from pipelines.io.raw_files import RawFileError
from pipelines.io.slices import Input, Slice, without_mark
from pipelines.sources import image_licenses
from pipelines.sources.base import Context, SliceItem, Source
from pipelines.sources.image_licenses import LicenseTable, web_address
from schemas import (
    ALL_BOXES_LOST,
    UNKNOWN_IMAGE,
    AbsentPhrase,
    GroundedCaption,
    ImageInfo,
    ImageRecord,
    NotAskedFor,
    RawCounts,
    Region,
    Rejected,
    Synonyms,
)
from schemas.class_names import class_name
from schemas.image_ids import image_key, photo_id_of_url
from schemas.joins import PHOTO_ID
from schemas.limits import MAX_CHARACTERS, MAX_IMAGE_RECORD_BYTES
from shards.format.placement import position

#: Of each ten images of a few-shot subset, this many are selected for a class that they show, the
#: others for a class that they are known not to show.
POSITIVES_PER_TEN = 9

_Percent = Annotated[float, msgspec.Meta(gt=0, le=100)]
_Coordinate = Annotated[float, msgspec.Meta(gt=-MAX_COORDINATE, lt=MAX_COORDINATE)]


class _Image(msgspec.Struct, gc=False):
    id: ImageId
    width: int
    height: int
    coco_url: str = ""
    file_name: str = ""
    neg_category_ids: list[Category] = []
    flickr_url: str = ""
    license: msgspec.Raw = msgspec.Raw()


class _ImageIds(msgspec.Struct, gc=False):
    id: ImageId
    flickr_url: str = ""


class _Annotation(msgspec.Struct, gc=False):
    id: Id
    image_id: ImageId
    category_id: Category
    bbox: tuple[_Coordinate, _Coordinate, _Coordinate, _Coordinate]
    area: float | None = None


class _AnnotatedClass(msgspec.Struct, gc=False):
    """The caption that an annotation is for, whatever is wrong with its box."""

    image_id: Id
    category_id: Category


class _Category(msgspec.Struct, gc=False):
    id: Category
    name: str
    synonyms: list[str] = []


class _File(msgspec.Struct):
    images: msgspec.Raw
    annotations: msgspec.Raw
    categories: list[_Category]


class _Tables(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]
    bad_images: list[BadRecord]
    bad_image_ids: list[_ImageIds | None]
    bad_annotations: list[BadRecord]
    lost: list[_AnnotatedClass]  # the captions of bad annotations, where these state them


# The annotations of each image, by category.
AnnotationsByImage = dict[int, dict[int, list[_Annotation]]]


class Lvis(Source, kw_only=True):
    """LVIS's classes as captions of COCO's images.

    ``percent`` selects a few-shot subset of a split, see ``few_shot_subset``.
    """

    namespace: ClassVar[str] = "coco"

    annotations: dict[str, str]  # split -> its lvis_v1_*.json
    percent: dict[str, _Percent] = {}  # split -> share of its images that is read; default: all

    def __post_init__(self) -> None:
        unknown = sorted(self.percent.keys() - self.annotations.keys())
        if unknown:
            raise ValueError(f"percent is set for {', '.join(unknown)}, which has no annotations")

    def paths(self) -> list[str]:
        return list(self.annotations.values())

    def split_names(self) -> set[str]:
        return set(self.annotations)

    def image_ids(self) -> TableIds:
        return {"coco": frozenset({PHOTO_ID})}

    def image_tables(self) -> list[Input]:
        return [
            Input(path, "list", within="images", beside=image_licenses.KEY)
            for path in self.annotations.values()
        ]

    def read_image_table(self, raw_slice: Slice) -> Iterator[ImageInfo | Rejected]:
        images, bad = decode_list(raw_slice.content, _Image)
        yield from reject_malformed(self.namespace, bad, raw_slice.input.path)
        licenses = LicenseTable(self.namespace, raw_slice)
        for image in images:
            # Without any name, that of COCO 2017, which is the id.
            name = image.coco_url.rpartition("/")[2] or image.file_name
            yield ImageInfo(
                key=_key(image.id),
                source=self.namespace,
                file=name or f"{image.id:012d}.jpg",
                width=image.width,
                height=image.height,
                photo_id=photo_id_of_url(image.flickr_url),
                license=licenses.license(image.license),
                url=web_address(image.flickr_url, image.coco_url),
            )
        yield from licenses.rejected()
        for ids in filter(None, decode_parts(raw_slice.content, bad, _ImageIds)):
            if photo := photo_id_of_url(ids.flickr_url):
                yield ImageInfo(_key(ids.id), self.namespace, "", photo_id=photo, joins_only=True)

    def inputs(self, splits: tuple[str, ...]) -> list[Input]:
        # Not sliced: a caption needs all boxes of its class, which may be anywhere in the file.
        return [
            Input(self.annotations[split], "file", role=split)
            for split in splits
            if split in self.annotations
        ]

    def read(self, raw_slice: Slice, context: Context) -> Iterator[SliceItem]:
        path, split = raw_slice.input.path, raw_slice.input.role
        tables = _read_tables(path)
        yield from reject_malformed("lvis", tables.bad_annotations, path, records=0, boxes=1)
        read_captions = 0
        names = {category.id: class_name(category.name) for category in tables.categories}
        if context.negatives:
            yield from _synonyms(tables.categories)
        images: dict[int, _Image] = {}
        for image in tables.images:
            if image.id in images:
                detail = "image: the first one was kept"
                yield Rejected("lvis", str(image.id), "duplicate id", detail, _key(image.id))
                read_captions += 1
            else:
                images[image.id] = image
        annotations: AnnotationsByImage = {id_: {} for id_ in images}
        for annotation in tables.annotations:
            by_category = annotations.setdefault(annotation.image_id, {})
            by_category.setdefault(annotation.category_id, []).append(annotation)
        for lost in tables.lost:
            annotations.setdefault(lost.image_id, {}).setdefault(lost.category_id, [])
        for bad_image, id_ in zip(tables.bad_images, tables.bad_image_ids, strict=True):
            # Its captions are those of its annotations, which follow, or else counted as one.
            count = int(id_ is None or id_.id not in annotations)
            read_captions += count
            yield from reject_malformed("lvis", [bad_image], path, records=count)
        for image_id in sorted(annotations.keys() - images.keys()):
            for category, boxes in annotations[image_id].items():
                record, key = f"{image_id}:{category}", _key(image_id)
                yield Rejected("lvis", record, UNKNOWN_IMAGE, "", key, boxes=len(boxes))
                read_captions += 1
        yield RawCounts(
            "lvis",
            captions=read_captions
            + sum(
                _caption_count(image, annotations[image.id], context.proven)
                for image in images.values()
            ),
            boxes=len(tables.annotations) + len(tables.bad_annotations),
        )
        percent = self.percent.get(split, 100.0)
        subset = few_shot_subset(list(images.values()), annotations, percent)
        # "bow (weapon)" or "fish" is not shown: another bow, or "fish (food)", may be.
        named = Counter(names.values())
        ambiguous = {
            category.id
            for category in tables.categories
            if "(" in category.name or named[names[category.id]] > 1
        }
        for image in subset:
            yield from _image_captions(
                image,
                annotations[image.id],
                names,
                split,
                ambiguous if context.proven else None,
            )
        selected = {image.id for image in subset}
        left_out = [image for image in images.values() if image.id not in selected]
        if left_out:
            yield NotAskedFor(
                "lvis",
                f"images beyond {percent:g} percent of {split}",
                captions=sum(
                    _caption_count(image, annotations[image.id], context.proven)
                    for image in left_out
                ),
                boxes=sum(len(b) for image in left_out for b in annotations[image.id].values()),
            )


def _read_tables(path: str) -> _Tables:
    """Returns the records of a file, which may be zipped.

    Raises:
        RawFileError: it is not in LVIS's layout, or has no categories.
    """
    content = map_file(path)
    try:
        tables = decode_file(without_mark(content), _File)
        images, bad_images = _decode_images(tables.images)
        annotations, bad_annotations = decode_list(tables.annotations, _Annotation)
    except (ValueError, RecursionError) as error:
        raise RawFileError(f"{path}: not in the layout of LVIS: {error}") from error
    if not tables.categories:
        raise RawFileError(f"{path}: it has no categories")
    return _Tables(
        images,
        annotations,
        tables.categories,
        [BadRecord(f"images/{key}", error) for key, error in bad_images],
        decode_parts(tables.images, bad_images, _ImageIds),
        [BadRecord(f"annotations/{key}", error) for key, error in bad_annotations],
        [
            lost
            for lost in decode_parts(tables.annotations, bad_annotations, _AnnotatedClass)
            if lost
        ],
    )


def _decode_images(content: msgspec.Raw) -> tuple[list[_Image], list[BadRecord]]:
    """Returns the good and the bad images; one of too many bytes is not decoded, and bad.

    Raises:
        ValueError: ``content`` is not a JSON list at all.
    """
    elements = raw_elements(content)
    sizes = [len(memoryview(element)) for element in elements]
    if max(sizes, default=0) <= MAX_IMAGE_RECORD_BYTES:
        return decode_list(content, _Image)
    small = [
        element if size <= MAX_IMAGE_RECORD_BYTES else None
        for element, size in zip(elements, sizes, strict=True)
    ]
    images, bad = decode_list(msgspec.json.encode(small), _Image)
    for i, record in enumerate(bad):
        if (size := sizes[int(record.key)]) > MAX_IMAGE_RECORD_BYTES:
            error = f"it has {size:,} bytes, at most {MAX_IMAGE_RECORD_BYTES:,} are read"
            bad[i] = BadRecord(record.key, error)
    return images, bad


def _synonyms(categories: Iterable[_Category]) -> Iterator[Synonyms]:
    """Yields the words of each class, which LVIS lists."""
    for category in categories:
        names = [class_name(name) for name in (category.name, *category.synonyms)]
        if len(set(names)) > 1:
            yield Synonyms("lvis", list(dict.fromkeys(names)))


def _caption_count(
    image: _Image, annotations: dict[int, list[_Annotation]], are_absent: bool
) -> int:
    """Returns the number of an image's captions; an image without classes counts as one.

    If classes that it does not show ``are_absent`` phrases, they are no captions.
    """
    not_shown = image.neg_category_ids
    captions = len(annotations if are_absent else {*annotations, *not_shown})
    return captions or int(not not_shown)


def _image_captions(
    image: _Image,
    annotations: dict[int, list[_Annotation]],
    names: dict[int, str],
    split: str,
    ambiguous: Container[int] | None,
) -> Iterator[SliceItem]:
    """Yields the record of an image with a caption per class, in the order of their ids.

    The classes that the image does not show are captions, or absent phrases if it is given which
    classes are ``ambiguous``: have a name that may mean something else.
    """
    key = _key(image.id)
    record = ImageRecord(key, "coco", split, width=image.width, height=image.height)
    shown_names = {names[category] for category in annotations if category in names}
    not_shown = set(image.neg_category_ids)
    unknown = sorted(not_shown - names.keys() - annotations.keys())
    not_shown.difference_update(unknown)
    if ambiguous is not None:
        record.absent = [
            AbsentPhrase(
                names[category],
                "lvis",
                f"{image.id}:{category}",
                "class not shown",
                is_ambiguous=category in ambiguous,
            )
            for category in sorted(not_shown - annotations.keys())
        ]
        not_shown &= annotations.keys()
    for category in sorted({*annotations, *not_shown}):
        raw_record = f"{image.id}:{category}"
        class_annotations = annotations.get(category, [])
        if category not in names:
            boxes = len(class_annotations)
            yield Rejected("lvis", raw_record, "unknown class", "", key, boxes=boxes)
            continue
        if category in annotations and category in not_shown:
            reason, boxes = "class both shown and not shown", len(class_annotations)
            yield Rejected("lvis", raw_record, reason, "", key, boxes=boxes)
            continue
        if category in annotations and not class_annotations:
            yield Rejected("lvis", raw_record, ALL_BOXES_LOST, "", key)
            continue
        text = names[category]
        if len(text) > MAX_CHARACTERS:
            detail, boxes = f"{len(text)} characters", len(class_annotations)
            yield Rejected("lvis", raw_record, "text too long", detail, key, boxes=boxes)
            continue
        if not class_annotations and text in shown_names:
            reason = "class not shown has the name of one shown"
            yield Rejected("lvis", raw_record, reason, text, key)
            continue
        regions = [
            Region(
                spans=[(0, len(text))],
                box=from_xywh(*annotation.bbox),
                area=annotation.area,
                category=category,
            )
            for annotation in class_annotations
        ]
        record.captions.append(GroundedCaption(text, regions, [], "lvis", raw_record))
    if unknown:  # one row, however many an image lists
        more = f"and {len(unknown) - 1:,} more that it does not show" if len(unknown) > 1 else ""
        raw_record = f"{image.id}:{unknown[0]}"
        records = len(unknown) if ambiguous is None else 0
        yield Rejected("lvis", raw_record, "unknown class", more, key, records=records)
    if record.captions or record.absent:
        yield record
    elif not annotations and not image.neg_category_ids:
        yield Rejected("lvis", str(image.id), "no classes", "", key)


def _key(image_id: int) -> str:
    return image_key("coco", image_id)


# --- few-shot subsets -----------------------------------------------------------------------------


def few_shot_subset(
    images: Sequence[_Image], annotations: AnnotationsByImage, percent: float
) -> list[_Image]:
    """Selects a share of the images that shows as many classes as possible.

    Each image is selected for the class that has the fewest images so far, so that a small subset
    shows all classes. A smaller subset is the beginning of a larger one. The result depends only on
    ids and classes.
    """
    size = round(len(images) * percent / 100)
    if size >= len(images):
        return list(images)
    order = sorted(images, key=lambda image: position(_key(image.id), "lvis"))
    positives = _BalancedQueue({image.id: annotations[image.id].keys() for image in order})
    negatives = _BalancedQueue({image.id: image.neg_category_ids for image in order})
    by_id = {image.id: image for image in order}
    rest = iter(by_id)
    selected: dict[int, _Image] = {}
    while len(selected) < size:
        wants_positive = len(selected) % 10 < POSITIVES_PER_TEN
        queues = (positives, negatives) if wants_positive else (negatives, positives)
        image_id = queues[0].pop(selected)
        if image_id is None:
            image_id = queues[1].pop(selected)
        if image_id is None:  # the remaining images have no classes
            image_id = next(id_ for id_ in rest if id_ not in selected)
        selected[image_id] = by_id[image_id]
        positives.count(annotations[image_id].keys())
        negatives.count(by_id[image_id].neg_category_ids)
    return list(selected.values())


class _BalancedQueue:
    """Images to select, by class; the class with the fewest selected images is next."""

    def __init__(self, categories_by_image: Mapping[int, Iterable[int]]) -> None:
        self._waiting: dict[int, deque[int]] = defaultdict(deque)
        for image_id, categories in categories_by_image.items():
            for category in categories:
                self._waiting[category].append(image_id)
        self._selected_counts = dict.fromkeys(self._waiting, 0)
        # Each class once, with a count that is its own or an older, smaller one.
        self._fewest_first = [(0, category) for category in sorted(self._waiting)]

    def pop(self, selected: Container[int]) -> int | None:
        """Returns the next image of the class with the fewest selected images that has any left."""
        while self._fewest_first:
            count, category = self._fewest_first[0]
            if count < self._selected_counts[category]:
                heapq.heapreplace(self._fewest_first, (self._selected_counts[category], category))
                continue
            waiting = self._waiting[category]
            while waiting and waiting[0] in selected:
                waiting.popleft()
            if waiting:
                return waiting.popleft()
            heapq.heappop(self._fewest_first)
        return None

    def count(self, categories: Iterable[int]) -> None:
        """Counts a selected image for its classes."""
        for category in categories:
            self._selected_counts[category] += 1

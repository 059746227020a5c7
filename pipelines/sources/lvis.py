"""LVIS: boxes of 1,203 classes, frequent to rare, and classes that an image does not show.

Layout: lvisdataset.org, version 1, on the images of COCO 2017. A caption is the name of one
class, as in the paper's few-shot transfer to long-tailed detection: with all boxes of the class, or
with none where the image is known not to show it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar, NamedTuple

import msgspec

from pipelines.geometry.boxes import from_xywh
from pipelines.geometry.polygons import FARTHEST
from pipelines.io.raw_files import RawFileError, open_binary
from pipelines.sources.base import Context, Input, Slice, Source
from pipelines.sources.decoding import Bad, Category, Id, decode_list, malformed
from schemas import GroundedCaption, ImageInfo, ImageRecord, Region, Rejected
from schemas.class_names import class_name
from shards.format.placement import position

#: Of ten images of a share, so many are drawn for a class that they show, the rest for one that
#: they are known not to show.
SHOWN_OF_TEN = 9

_Percent = Annotated[float, msgspec.Meta(gt=0, le=100)]
_Coordinate = Annotated[float, msgspec.Meta(gt=-FARTHEST, lt=FARTHEST)]


class _Image(msgspec.Struct, gc=False):
    id: Id
    coco_url: str
    width: int
    height: int
    neg_category_ids: list[Category] = []


class _Annotation(msgspec.Struct, gc=False):
    id: Id
    image_id: Id
    category_id: Category
    bbox: tuple[_Coordinate, _Coordinate, _Coordinate, _Coordinate]
    area: float | None = None


class _Class(msgspec.Struct, gc=False):
    id: Category
    name: str


class _File(msgspec.Struct):
    images: msgspec.Raw
    annotations: msgspec.Raw
    categories: list[_Class]


class _Tables(NamedTuple):
    images: list[_Image]
    annotations: list[_Annotation]
    classes: list[_Class]


#: The annotations of images by id, and of these by class.
Shown = dict[int, dict[int, list[_Annotation]]]


class Lvis(Source, kw_only=True):
    """LVIS's classes as captions of COCO's images.

    ``percent`` is the share of a split's images that is read, by default all: the first ones of
    an order in which the class with the fewest images so far has the next turn. So few images
    show all classes, and the more images have those of the fewer among them.
    """

    namespace: ClassVar[str] = "coco"

    annotations: dict[str, str]  # split -> its lvis_v1_*.json
    percent: dict[str, _Percent] = {}

    def __post_init__(self) -> None:
        unread = sorted(self.percent.keys() - self.annotations.keys())
        if unread:
            raise ValueError(f"percent of {', '.join(unread)}, of which there are no annotations")

    def paths(self) -> list[str]:
        return list(self.annotations.values())

    def split_names(self) -> set[str]:
        return set(self.annotations)

    def image_inputs(self) -> list[Input]:
        return [Input(path, "list", within="images") for path in self.annotations.values()]

    def read_images(self, piece: Slice) -> Iterator[ImageInfo | Rejected]:
        images, bad = decode_list(piece.content, _Image)
        yield from malformed(self.namespace, bad, piece.input.path)
        for image in images:
            file = image.coco_url.rpartition("/")[2]
            yield ImageInfo(_key(image.id), self.namespace, file, image.width, image.height)

    def inputs(self, splits: tuple[str, ...]) -> list[Input]:
        # In one piece: a caption needs all boxes of its class, which lie anywhere in the file.
        return [
            Input(self.annotations[split], "file", role=split)
            for split in splits
            if split in self.annotations
        ]

    def read(self, piece: Slice, context: Context) -> Iterator[ImageRecord | Rejected]:
        path, split = piece.input.path, piece.input.role
        tables, bad = _decoded(path)
        names = {of.id: class_name(of.name) for of in tables.classes}
        yield from malformed("lvis", bad, path)
        images: dict[int, _Image] = {}
        for image in tables.images:
            if image.id in images:
                detail = "image: the first one was kept"
                yield Rejected("lvis", str(image.id), "duplicate id", detail, _key(image.id))
            else:
                images[image.id] = image
        shown: Shown = {id_: {} for id_ in images}
        for annotation in tables.annotations:
            if annotation.image_id not in shown:
                reason, detail = "unknown image", f"image_id {annotation.image_id}"
            elif annotation.category_id not in names:
                reason, detail = "unknown class", f"category_id {annotation.category_id}"
            else:
                of_image = shown[annotation.image_id]
                of_image.setdefault(annotation.category_id, []).append(annotation)
                continue
            yield Rejected("lvis", str(annotation.id), reason, detail, _key(annotation.image_id))
        for image in drawn(list(images.values()), shown, self.percent.get(split, 100.0)):
            yield from _captions(image, shown[image.id], names, split)


def _decoded(path: str) -> tuple[_Tables, list[Bad]]:
    """What a file holds, and its bad records; none of its bytes outlives the call.

    Raises:
        RawFileError: it is not in LVIS's layout, or has no classes.
    """
    with open_binary(path) as file:
        content = file.read()
    try:
        tables = msgspec.json.decode(content, type=_File)
        images, bad_images = decode_list(tables.images, _Image)
        annotations, bad_annotations = decode_list(tables.annotations, _Annotation)
    except ValueError as fault:
        raise RawFileError(f"{path}: not in the layout of LVIS: {fault}") from fault
    if not tables.categories:
        raise RawFileError(f"{path}: it has no categories")
    bad = [(f"images/{position}", fault) for position, fault in bad_images]
    bad += [(f"annotations/{position}", fault) for position, fault in bad_annotations]
    return _Tables(images, annotations, tables.categories), bad


def drawn(images: Sequence[_Image], shown: Shown, percent: float) -> list[_Image]:
    """That share of the images (see ``Lvis``), the same for the same ids and classes."""
    wanted = round(len(images) * percent / 100)
    if wanted >= len(images):
        return list(images)
    # From the last to the first: the next one of a class is popped.
    order = sorted(images, key=lambda image: position(_key(image.id), "lvis"), reverse=True)
    with_class: dict[int, list[_Image]] = defaultdict(list)
    without: dict[int, list[_Image]] = defaultdict(list)
    for image in order:
        for category in shown[image.id]:
            with_class[category].append(image)
        for category in image.neg_category_ids:
            without[category].append(image)
    found: dict[int, _Image] = {}
    seen, missed = Counter(dict.fromkeys(with_class, 0)), Counter(dict.fromkeys(without, 0))
    while len(found) < wanted:
        tables = (with_class, seen), (without, missed)
        first = len(found) % 10 >= SHOWN_OF_TEN
        image = (
            _next(*tables[first], found)
            or _next(*tables[not first], found)
            # Those that are left have no classes at all.
            or next(image for image in reversed(order) if image.id not in found)
        )
        found[image.id] = image
        seen.update(shown[image.id].keys())
        missed.update(image.neg_category_ids)
    return list(found.values())


def _next(
    of_class: dict[int, list[_Image]], counts: Counter[int], found: dict[int, _Image]
) -> _Image | None:
    """The next image of the class with the fewest, of the classes that have any left."""
    while counts:
        category = min(counts, key=lambda category: (counts[category], category))
        left = of_class[category]
        while left and left[-1].id in found:
            left.pop()
        if left:
            return left.pop()
        del counts[category]
    return None


def _captions(
    image: _Image, shown: dict[int, list[_Annotation]], names: dict[int, str], split: str
) -> Iterator[ImageRecord | Rejected]:
    """One caption a class, by their ids."""
    key = _key(image.id)
    part = ImageRecord(key, "coco", split, width=image.width, height=image.height)
    shown_names = {names.get(category) for category in shown}
    for category in sorted({*shown, *image.neg_category_ids}):
        record, boxes = f"{image.id}:{category}", shown.get(category, [])
        if category not in names:
            yield Rejected("lvis", record, "unknown class", "", key)
            continue
        if boxes and category in image.neg_category_ids:
            yield Rejected("lvis", record, "class both shown and not shown", "", key)
            continue
        text = names[category]
        if not boxes and text in shown_names:
            yield Rejected("lvis", record, "class not shown has the name of one shown", text, key)
            continue
        regions = [
            Region([(0, len(text))], from_xywh(*of.bbox), area=of.area, category=category)
            for of in boxes
        ]
        part.captions.append(GroundedCaption(text, regions, [], "lvis", record))
    if part.captions:
        yield part
    else:
        yield Rejected("lvis", str(image.id), "no classes", "", key)


def _key(image_id: int) -> str:
    return f"coco/{image_id}"

"""Reads raw records in the published layouts, deliberately without any code of the pipeline.

Each reader takes the table of a source in a recipe, and yields all sentences about the wanted
images as the file has them. It checks no more of a file than it needs.
"""

import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from defusedxml import ElementTree

from schemas.decodable import decodable
from schemas.image_ids import ImageIdError, image_key, key_of_name, optional_image_key
from shards.verification.raw.files import RawRoot, non_empty_lines
from shards.verification.raw.records import (
    Box,
    RawRecord,
    corners,
    place,
    readable,
    record_id,
    size_of,
    text_of,
    vg_image_id,
)
from shards.verification.raw.references import load_references

#: What a reader yields: split, dataset, id of the record, and the record.
Found = Iterator[tuple[str, str, str, RawRecord]]
#: The images whose samples are compared, and their duplicates.
Wanted = Container[str]

_Source = dict[str, Any]


# --- COCO and referring expressions ---------------------------------------------------------------


def read_coco(root: RawRoot, source: _Source, wanted: Wanted) -> Found:
    """Yields the sentences of ``refs(*).p`` with the boxes of ``instances_*.json``.

    References in Parquet have their own boxes. Those of no object are sentences of a set if its
    recipe asks for them.
    """
    sizes: dict[str, tuple[int, int]] = {}
    annotations: dict[str, dict[str, Any]] = {}
    for path in source.get("instances", []):
        instances = root.read_json(path)
        sizes |= readable(instances["images"], _coco_size)
        for key, id_, annotation in readable(instances["annotations"], _annotation):
            if key in wanted:
                annotations.setdefault(id_, annotation)  # of two with one id, the first is used
    for dataset, paths in source["refs"].items():
        for path in [paths] if isinstance(paths, str) else paths:
            references = enumerate(load_references(root.read(path), path))
            for sentences in readable(
                references, _sentences, path, sizes, annotations, wanted, source.get("no_target")
            ):
                for split, id_, record in sentences:
                    yield split, dataset, id_, record


def _coco_size(image: Any) -> tuple[str, tuple[int, int]]:
    return image_key("coco", image["id"]), size_of(image)


def _annotation(annotation: Any) -> tuple[str, str, dict[str, Any]]:
    return image_key("coco", annotation["image_id"]), record_id(annotation["id"]), annotation


def _sentences(
    numbered: tuple[int, Any],
    path: str,
    sizes: Mapping[str, tuple[int, int]],
    annotations: Mapping[str, dict[str, Any]],
    wanted: Wanted,
    with_no_target: bool,
) -> list[tuple[str, str, RawRecord]]:
    """Returns the split, id and record of each sentence of a reference to a wanted image."""
    position, reference = numbered
    where = place(path, position)
    key = image_key("coco", reference["image_id"])
    if key not in wanted:
        return []
    ids: list[Any] = []
    if "annotation" in reference:
        named = [reference["annotation"]]
    else:
        ids = (
            reference["ann_id"] if isinstance(reference["ann_id"], list) else [reference["ann_id"]]
        )
        ids = [] if reference.get("no_target") else [id_ for id_ in ids if id_ != -1]
        named = [a for i in ids if (a := annotations.get(record_id(i))) is not None]
    size = reference.get("size") or sizes.get(key, (0, 0))
    return [
        (
            text_of(reference["split"]),
            record_id(sentence["sent_id"]),
            _sentence(key, sentence["sent"], size, named, reference["category_id"], where),
        )
        for sentence in (reference["sentences"] if named or (with_no_target and not ids) else [])
    ]


def _sentence(
    key: str,
    text: str,
    size: tuple[int, int],
    annotations: Sequence[dict[str, Any]],
    category: Any,
    where: str,
) -> RawRecord:
    """Returns a sentence with the boxes of the objects that it refers to."""
    facts = {}
    # The classes and crowds of several objects may differ.
    if len(annotations) == 1 and not isinstance(category, list):
        facts = {"category": category, "crowd": bool(annotations[0].get("iscrowd", 0))}
    return RawRecord(
        image=key,
        text=text_of(text),
        size=size,
        boxes=tuple(readable(annotations, lambda annotation: corners(*annotation["bbox"]))),
        alternatives=tuple(box for a in annotations for box in _extent(a.get("segmentation"))),
        regions="each",
        facts=facts,
        place=where,
    )


def _extent(segmentation: Any) -> Iterator[Box]:
    """Yields the box around the polygons of a segmentation; none around one of another form."""
    if isinstance(segmentation, list) and segmentation:
        points = [value for polygon in segmentation for value in polygon]
        xs, ys = points[::2], points[1::2]
        yield min(xs), min(ys), max(xs), max(ys)


# --- Visual Genome --------------------------------------------------------------------------------


def read_vg(root: RawRoot, source: _Source, wanted: Wanted) -> Found:
    """Yields the regions of an image, each with the boxes of the whole image.

    They are those of ``region_graphs.json`` or ``region_descriptions.json``. A build merges regions
    with the same words, and takes means of their boxes.
    """
    images = dict(readable(root.read_json(source["image_data"]), _vg_image))
    split = source.get("split", "train")
    content = root.read(source.get("region_descriptions") or source["region_graphs"])
    elements = msgspec.json.decode(content, type=list[msgspec.Raw])
    for key, raw_regions in readable(elements, _vg_regions):
        if key not in images or key not in wanted:
            continue
        regions = list(readable(raw_regions, _vg_region))
        boxes = [box for region in regions for box in region.boxes]
        size, same_as = images[key]
        for region in regions:
            record = RawRecord(
                image=key,
                text=region.text,
                size=size,
                boxes=tuple(boxes),
                regions="near",
                same_as=same_as,
            )
            yield split, "vg", region.id, record


class _Regions(msgspec.Struct):
    regions: msgspec.Raw
    image_id: int | float | str | None = None
    id: int | float | str | None = None  # in version 1.0, and in region_descriptions.json


def _vg_image(row: Any) -> tuple[str, tuple[tuple[int, int], str]]:
    """Returns the key of an image, its size, and the key of that of COCO that it was made from."""
    same_as = optional_image_key("coco", row.get("coco_id"))
    return image_key("vg", vg_image_id(row)), (size_of(row), same_as)


def _vg_regions(element: msgspec.Raw) -> tuple[str, list[msgspec.Raw]]:
    image = msgspec.json.decode(element, type=decodable(_Regions))
    id_ = image.id if image.image_id is None else image.image_id
    return image_key("vg", id_), msgspec.json.decode(image.regions, type=list[msgspec.Raw])


class _Region(NamedTuple):
    id: str
    text: str
    boxes: list[Box]


def _vg_region(content: msgspec.Raw) -> _Region:
    region = msgspec.json.decode(content)
    boxes = [corners(region["x"], region["y"], region["width"], region["height"])]
    boxes += [corners(o["x"], o["y"], o["w"], o["h"]) for o in region.get("objects", [])]
    id_ = region["region_id"] if "region_id" in region else region["id"]
    return _Region(record_id(id_), text_of(region["phrase"]), boxes)


# --- GQA ------------------------------------------------------------------------------------------


def read_gqa(root: RawRoot, source: _Source, wanted: Wanted) -> Found:
    """Yields the questions, each with the boxes of the image's scene graph."""
    for split, paths in source["questions"].items():
        graphs: dict[str, Any] = {}
        if split in source["scene_graphs"]:
            content = root.read_json(source["scene_graphs"][split])
            graphs = dict(readable(content.items(), _graph))
        for path in paths:
            for id_, record in readable(root.read_json(path).items(), _question, graphs):
                if record.image in wanted:
                    yield split, "gqa", id_, record


def _graph(item: tuple[str, Any]) -> tuple[str, tuple[tuple[int, int], tuple[Box, ...]]]:
    """Returns the key of the image of a scene graph, its size, and the boxes of its objects."""
    graph = item[1]
    boxes = readable(graph["objects"].values(), lambda o: corners(o["x"], o["y"], o["w"], o["h"]))
    return image_key("gqa", item[0]), (size_of(graph), tuple(boxes))


def _question(item: tuple[str, Any], graphs: Mapping[str, Any]) -> tuple[str, RawRecord]:
    id_, question = item
    key = image_key("gqa", question["imageId"])
    size, boxes = graphs.get(key, ((0, 0), ()))
    types = question.get("types", {})
    return id_, RawRecord(
        image=key,
        text=text_of(question["question"]),
        size=size,
        boxes=boxes,
        facts={
            "answer": question.get("answer"),
            "semantic_type": types.get("semantic"),
            "structural_type": types.get("structural"),
            "balanced": question.get("isBalanced", True),
        },
    )


# --- Flickr30k Entities ---------------------------------------------------------------------------

_MARK = re.compile(r"\[/EN#(\d+)[^\s\[\]]* ([^\]]*)\]")


def read_flickr30k(root: RawRoot, source: _Source, wanted: Wanted) -> Found:
    """Yields the lines of ``Sentences/``, each with the boxes of the entities that it marks."""
    folder = source["annotations"]
    if root.has(f"{folder}/annotations.zip"):  # in the repository, or in its archive
        folder = f"{folder}/annotations.zip"
    for split, path in source["split_files"].items():
        for id_ in non_empty_lines(root.read(path)):
            key = image_key("flickr30k", id_)
            if key not in wanted:
                continue
            sentences = root.read_in(folder, f"Sentences/{id_}.txt") or b""
            xml = root.read_in(folder, f"Annotations/{id_}.xml")
            if xml is None:
                continue
            size, boxes = _entities(xml, merge=source.get("ground_truth") == "merged")
            for number, line in enumerate(non_empty_lines(sentences)):
                named = {entity for entity, _ in _MARK.findall(line)}
                record = RawRecord(
                    image=key,
                    text=" ".join(_MARK.sub(r"\2", line).split()),
                    size=size,
                    boxes=tuple(box for entity in sorted(named) for box in boxes.get(entity, ())),
                    facts={"phrases": named & boxes.keys()},
                )
                yield split, "flickr30k", f"{id_}#{number}", record


def _entities(xml: bytes, merge: bool) -> tuple[tuple[int, int], dict[str, list[Box]]]:
    """Returns the size of an image, and the boxes of its entities."""
    tree = ElementTree.fromstring(xml)
    width, height = (int(tree.findtext(f"size/{side}", "0")) for side in ("width", "height"))
    boxes: dict[str, list[Box]] = defaultdict(list)
    for element in tree.iterfind("object"):
        box = element.find("bndbox")
        if box is None:
            continue
        x0, y0, x1, y1 = (float(box.findtext(n, "nan")) for n in ("xmin", "ymin", "xmax", "ymax"))
        if x0 < x1 and y0 < y1:
            for name in element.iterfind("name"):
                boxes[(name.text or "").strip()].append((x0, y0, x1, y1))
    if merge:
        for entity, several in boxes.items():
            x0s, y0s, x1s, y1s = zip(*several, strict=True)
            boxes[entity] = [(min(x0s), min(y0s), max(x1s), max(y1s))]
    return (width, height), dict(boxes)


# --- MDETR's JSON ---------------------------------------------------------------------------------


def read_mdetr_json(root: RawRoot, source: _Source, wanted: Wanted) -> Found:
    """Yields the "images", each of which is a caption, with the boxes of their annotations."""
    names: dict[str, str] = {}  # by path
    for split, paths in source["files"].items():
        for path in paths:
            content = root.read_json(path)
            # Ids are of a file; files of one name are numbered.
            stem = path.rpartition("/")[2].removesuffix(".zip").removesuffix(".json")
            numbered = (stem if n == 1 else f"{stem}~{n}" for n in itertools.count(1))
            if path not in names:
                names[path] = next(name for name in numbered if name not in names.values())
            boxes: dict[str, list[Box]] = defaultdict(list)
            for id_, box in readable(content["annotations"], _mdetr_box):
                boxes[id_].append(box)
            images, file, namespaces = content["images"], names[path], source.get("namespaces", {})
            for dataset, id_, record in readable(
                enumerate(images), _mdetr_caption, path, file, namespaces, boxes
            ):
                if record.image and record.image in wanted:
                    yield split, dataset, id_, record


def _mdetr_box(annotation: Any) -> tuple[str, Box]:
    if not isinstance(annotation["tokens_positive"], list):
        raise TypeError("a box of no words")
    return record_id(annotation["image_id"]), corners(*annotation["bbox"])


def _mdetr_caption(
    numbered: tuple[int, Any],
    path: str,
    file: str,
    namespaces: dict[str, str],
    boxes: Mapping[str, list[Box]],
) -> tuple[str, str, RawRecord]:
    """Returns the dataset of a caption, its id and its record."""
    position, image = numbered
    key, number, sentence = _mdetr_key(image, namespaces), image["id"], image.get("sentence_id")
    # Flickr30k's captions have ids of their own, the others are ids of the file.
    is_of_flickr30k = image.get("original_img_id") is not None and sentence is not None
    facts = {"tokens_negative": image.get("tokens_negative", [])}
    if image.get("questionId") is not None:
        facts["answer"] = image.get("answer")
    record = RawRecord(
        image=key,
        text=text_of(image["caption"]),
        size=size_of(image),
        boxes=tuple(boxes.get(record_id(number), ())),
        regions="each",
        facts=facts,
        place=place(path, position),
    )
    id_ = f"{key.partition('/')[2]}#{sentence}" if is_of_flickr30k else ""
    return text_of(image["dataset_name"]), id_ or f"{file}:{record_id(number)}", record


_MDETR_NAMESPACES = {
    "flickr": "flickr30k",
    "phrasecut": "vg",
    **dict.fromkeys(("refcoco", "refcoco+", "refcocog"), "coco"),
}


def _mdetr_key(image: dict[str, Any], namespaces: dict[str, str]) -> str:
    """Returns the key of an image; empty where the file states no usable id."""
    name = image.get("data_source") or image["dataset_name"]
    namespace = namespaces.get(name) or _MDETR_NAMESPACES.get(name.lower(), name)
    id_ = image.get("original_id")
    id_ = image.get("original_img_id") if id_ is None else id_
    try:
        return image_key(namespace, id_, frozenset(namespaces.values()))
    except ImageIdError:
        return key_of_name(namespace, id_)


READERS: dict[str, Callable[[RawRoot, _Source, Wanted], Found]] = {
    "coco": read_coco,
    "flickr30k": read_flickr30k,
    "gqa": read_gqa,
    "mdetr_json": read_mdetr_json,
    "vg": read_vg,
}

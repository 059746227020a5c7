"""Reads raw records in the published layouts, deliberately without any code of the pipeline.

Each reader takes the table of a source in a recipe, and yields all sentences about the wanted
images as the file has them. It checks no more of a file than it needs.
"""

import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any

import msgspec
from defusedxml import ElementTree

from schemas.image_ids import ImageIdError, image_key, key_of_name, optional_image_key
from shards.verification.raw.files import RawRoot, non_empty_lines
from shards.verification.raw.records import Box, RawRecord, corners, record_id, vg_image_id
from shards.verification.raw.references import load_references

#: What a reader yields: split, dataset, id of the record, and the record.
Found = Iterator[tuple[str, str, str, RawRecord]]
#: The images whose samples are compared, and their duplicates.
Wanted = Container[str]

_Source = dict[str, Any]


# --- COCO and referring expressions ---------------------------------------------------------------


def read_coco(root: RawRoot, source: _Source, wanted: Wanted) -> Found:
    """Yields the sentences of ``refs(*).p`` with the boxes of ``instances_*.json``.

    References in Parquet have their own boxes. Those of no object are not sentences of a set.
    """
    sizes: dict[str, tuple[int, int]] = {}
    annotations: dict[str, dict[str, Any]] = {}
    for path in source.get("instances", []):
        instances = root.read_json(path)
        for image in instances["images"]:
            sizes[image_key("coco", image["id"])] = image["width"], image["height"]
        for annotation in instances["annotations"]:
            if image_key("coco", annotation["image_id"]) in wanted:
                annotations[record_id(annotation["id"])] = annotation
    for dataset, paths in source["refs"].items():
        for path in [paths] if isinstance(paths, str) else paths:
            for reference in load_references(root.read(path), path):
                key = image_key("coco", reference["image_id"])
                if key not in wanted or reference.get("no_target"):
                    continue
                if "annotation" in reference:
                    named = [reference["annotation"]]
                else:
                    ids = reference["ann_id"]
                    ids = ids if isinstance(ids, list) else [ids]
                    named = [a for i in ids if (a := annotations.get(record_id(i))) is not None]
                size = reference.get("size") or sizes.get(key, (0, 0))
                for sentence in reference["sentences"] if named else []:
                    record = _sentence(key, sentence["sent"], size, named, reference["category_id"])
                    yield reference["split"], dataset, record_id(sentence["sent_id"]), record


def _sentence(
    key: str,
    text: str,
    size: tuple[int, int],
    annotations: Sequence[dict[str, Any]],
    category: Any,
) -> RawRecord:
    """Returns a sentence with the boxes of the objects that it refers to."""
    facts = {"category": category, "crowd": bool(annotations[0].get("iscrowd", 0))}
    return RawRecord(
        image=key,
        text=text,
        size=size,
        boxes=tuple(corners(*a["bbox"]) for a in annotations if len(a.get("bbox") or ()) == 4),
        alternatives=tuple(box for a in annotations for box in _extent(a.get("segmentation"))),
        regions="each",
        # The classes and crowds of several objects may differ.
        facts={} if isinstance(category, list) or len(annotations) > 1 else facts,
    )


def _extent(segmentation: Any) -> Iterator[Box]:
    """Yields the box around the polygons of a segmentation; none around one of another form."""
    if isinstance(segmentation, list) and segmentation:
        points = [value for polygon in segmentation for value in polygon]
        xs, ys = points[::2], points[1::2]
        yield min(xs), min(ys), max(xs), max(ys)


# --- Visual Genome --------------------------------------------------------------------------------


class _Regions(msgspec.Struct):
    regions: msgspec.Raw
    image_id: int | float | str | None = None
    id: int | float | str | None = None  # in version 1.0, and in region_descriptions.json


def read_vg(root: RawRoot, source: _Source, wanted: Wanted) -> Found:
    """Yields the regions of an image, each with the boxes of the whole image.

    They are those of ``region_graphs.json`` or ``region_descriptions.json``. A build merges regions
    with the same words, and takes means of their boxes.
    """
    images = {
        image_key("vg", vg_image_id(row)): row for row in root.read_json(source["image_data"])
    }
    split = source.get("split", "train")
    content = root.read(source.get("region_descriptions") or source["region_graphs"])
    for element in msgspec.json.decode(content, type=list[_Regions]):
        key = image_key("vg", element.id if element.image_id is None else element.image_id)
        image = images.get(key)
        if image is None or key not in wanted:
            continue
        regions = msgspec.json.decode(element.regions)
        objects = [obj for region in regions for obj in region.get("objects", [])]
        boxes = [corners(r["x"], r["y"], r["width"], r["height"]) for r in regions]
        boxes += [corners(o["x"], o["y"], o["w"], o["h"]) for o in objects]
        for region in regions:
            record = RawRecord(
                image=key,
                text=region["phrase"],
                size=(image["width"], image["height"]),
                boxes=tuple(boxes),
                regions="near",
                same_as=optional_image_key("coco", image.get("coco_id")),
            )
            yield split, "vg", record_id(region.get("region_id", region.get("id"))), record


# --- GQA ------------------------------------------------------------------------------------------


def read_gqa(root: RawRoot, source: _Source, wanted: Wanted) -> Found:
    """Yields the questions, each with the boxes of the image's scene graph."""
    for split, paths in source["questions"].items():
        graphs: dict[str, Any] = {}
        if split in source["scene_graphs"]:
            graphs = root.read_json(source["scene_graphs"][split])
        for path in paths:
            for id_, question in root.read_json(path).items():
                key = image_key("gqa", question["imageId"])
                if key not in wanted:
                    continue
                graph = graphs.get(question["imageId"], {})
                objects = graph.get("objects", {}).values()
                types = question.get("types", {})
                record = RawRecord(
                    image=key,
                    text=question["question"],
                    size=(graph.get("width", 0), graph.get("height", 0)),
                    boxes=tuple(corners(o["x"], o["y"], o["w"], o["h"]) for o in objects),
                    facts={
                        "answer": question.get("answer"),
                        "semantic_type": types.get("semantic"),
                        "structural_type": types.get("structural"),
                        "balanced": question.get("isBalanced", True),
                    },
                )
                yield split, "gqa", id_, record


# --- Flickr30k Entities ---------------------------------------------------------------------------

_MARK = re.compile(r"\[/EN#(\d+)\S* ([^\]]*)\]")


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
            for annotation in content["annotations"]:
                if len(annotation["bbox"]) == 4:
                    boxes[record_id(annotation["image_id"])].append(corners(*annotation["bbox"]))
            for image in content["images"]:
                key = _mdetr_key(image, source.get("namespaces", {}))
                if not key or key not in wanted:
                    continue
                id_ = record_id(image["id"])
                caption_id, sentence = f"{names[path]}:{id_}", image.get("sentence_id")
                if image.get("original_img_id") is not None and sentence is not None:
                    caption_id = f"{key.partition('/')[2]}#{sentence}"
                facts = {"tokens_negative": image.get("tokens_negative", [])}
                if image.get("questionId") is not None:
                    facts["answer"] = image.get("answer")
                record = RawRecord(
                    image=key,
                    text=image["caption"],
                    size=(int(float(image["width"])), int(float(image["height"]))),
                    boxes=tuple(boxes[id_]),
                    regions="each",
                    facts=facts,
                )
                yield split, image["dataset_name"], caption_id, record


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

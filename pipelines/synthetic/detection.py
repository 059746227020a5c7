"""Synthetic Objects365, V3Det and OpenImages in their published layouts, a third of images each.

Classes are shapes; of V3Det, colors of shapes. Every fifth image of a dataset is of its split val.
"""

import csv
import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

from pipelines.synthetic.boxes import scale_to_longest
from pipelines.synthetic.render import render
from pipelines.synthetic.scene import COLORS, STYLES, SyntheticObject, make_scene
from pipelines.synthetic.shapes import OUTLINES

NOUNS = list(OUTLINES)
COLORED = [f"{color}_{noun}" for color, noun in product(COLORS, NOUNS)]
LONGEST = 320  # pixels of an image's longest side
PATCH = 100  # images of a folder
#: Classes that an image of OpenImages is verified not to show.
VERIFIED_ABSENT = 3

_PHOTO_HEADER = (
    "ImageID,Subset,OriginalURL,OriginalLandingURL,License,AuthorProfileURL,Author,Title,"
    "OriginalSize,OriginalMD5,Thumbnail300KURL,Rotation"
)
_BOX_HEADER = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,"
    "IsDepiction,IsInside"
)
_Rows = list[list[Any]]


def generate_detection(root: Path, num_images: int, seed: int) -> None:
    """Writes objects365/, v3det/ and openimages/ below ``root``."""
    for split in ("train", "val"):
        is_val = split == "val"
        numbers = [n for n in range(1, num_images + 1) if (n // 3 % 5 == 4) == is_val]
        of_dataset = [[n for n in numbers if n % 3 == dataset] for dataset in range(3)]
        _write_coco_layout(
            root / "objects365", f"zhiyuan_objv2_{split}.json", of_dataset[0], seed, NOUNS, split
        )
        _write_coco_layout(
            root / "v3det", f"v3det_2023_v1_{split}.json", of_dataset[1], seed, COLORED, "images"
        )
        _write_open_images(root / "openimages", split, of_dataset[2], seed)
    rows = [[_label(noun), noun.capitalize()] for noun in NOUNS]
    classes = root / "openimages/oidv7-class-descriptions-boxable.csv"
    _write_table(classes, "LabelName,DisplayName", rows)


def _write_coco_layout(
    folder: Path, name: str, numbers: Sequence[int], seed: int, classes: list[str], images: str
) -> None:
    rows: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in numbers:
        folder_number = number // PATCH
        file = f"patch{folder_number}/objects365_v2_{number:08d}.jpg"
        if folder.name == "v3det":
            photo = f"{30_000_000_000 + number}_{number:010x}"
            file = f"n{folder_number:08d}/{folder_number}_{number}_{photo}_c.jpg"
        width, height, objects = _draw(folder / images / file, number, seed)
        stated = f"images/v2/{file}" if folder.name == "objects365" else f"images/{file}"
        size = {"width": width, "height": height}
        rows.append({"id": number, "file_name": stated, "license": 5, "url": "", **size})
        for (x0, y0, x1, y1), obj in objects:
            class_name = obj.noun if classes is NOUNS else f"{obj.color}_{obj.noun}"
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": classes.index(class_name) + 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "iscrowd": 0,
                }
            )
    Random(f"{seed}/{name}").shuffle(annotations)  # boxes of an image may be anywhere
    content = {
        "images": rows,
        "annotations": annotations,
        "licenses": [{"id": 5, "name": "Synthetic", "url": "http://example.org/5"}],
        "categories": [{"id": i, "name": each} for i, each in enumerate(classes, start=1)],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content))


def _write_open_images(folder: Path, split: str, numbers: Sequence[int], seed: int) -> None:
    subset, boxes_prefix, photos = "validation", "validation", "validation-images-with-rotation"
    if split == "train":
        subset, boxes_prefix, photos = "train", "oidv6-train", "train-images-boxable-with-rotation"
    photo_rows: _Rows = []
    box_rows: _Rows = []
    label_rows: _Rows = []
    for number in numbers:
        id_ = f"{number * 2654435761 % 2**64:016x}"
        width, height, objects = _draw(folder / subset / f"{id_}.jpg", number, seed)
        url = f"https://c1.staticflickr.com/6/5310/{7_000_000_000 + number}_ab_o.jpg"
        license = "https://creativecommons.org/licenses/by/2.0/"
        title = f'Shapes, "{number}"'
        photo_rows.append([id_, subset, url, "", license, "", "", title, 1, "", "", 0.0])
        for (x0, y0, x1, y1), obj in objects:
            relative = [x0 / width, x1 / width, y0 / height, y1 / height]
            texts = [f"{value:.6f}" for value in relative]
            box_rows.append([id_, "xclick", _label(obj.noun), 1, *texts, 0, 0, 0, 0, 0])
        shown = {obj.noun for _, obj in objects}
        absent = [noun for noun in NOUNS if noun not in shown]
        rng = Random(f"{seed}/{number}/labels")
        verified = [(noun, 0) for noun in rng.sample(absent, VERIFIED_ABSENT)]
        verified += [(noun, 1) for noun in sorted(shown)]
        label_rows += [[id_, "verification", _label(noun), value] for noun, value in verified]
    _write_table(folder / f"{photos}.csv", _PHOTO_HEADER, photo_rows)
    ids = "".join(f"{row[0]}\n" for row in photo_rows)
    (folder / f"{subset}.txt").write_text(ids)  # a list to exclude images by
    _write_table(folder / f"{boxes_prefix}-annotations-bbox.csv", _BOX_HEADER, box_rows)
    labels = folder / f"{subset}-annotations-human-imagelabels-boxable.csv"
    _write_table(labels, "ImageID,Source,LabelName,Confidence", label_rows)


def _draw(
    path: Path, number: int, seed: int
) -> tuple[int, int, list[tuple[tuple[float, ...], SyntheticObject]]]:
    """Writes an image; returns its size, and its objects with their boxes in its pixels."""
    scene = make_scene(Random(f"{seed}/{number}/scene"), STYLES["varied"])
    scale = scale_to_longest(scene, LONGEST)
    path.parent.mkdir(parents=True, exist_ok=True)
    render(scene, scale).save(path, quality=85)
    boxes = (tuple(round(c, 2) for c in scale.scale_box(obj.box)) for obj in scene.objects)
    return scale.width, scale.height, list(zip(boxes, scene.objects, strict=True))


def _label(noun: str) -> str:
    return f"/m/{NOUNS.index(noun):06d}"


def _write_table(path: Path, header: str, rows: _Rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header.split(","))
        writer.writerows(rows)

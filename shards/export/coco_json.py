"""JSON files in COCO's layout (images, annotations, categories), written as a stream."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from schemas import Span
from shards.export.regions import BoxNumbers, to_xywh

_COCO_NAMES = (
    "person bicycle car motorcycle airplane bus train truck boat traffic_light fire_hydrant - "
    "stop_sign parking_meter bench bird cat dog horse sheep cow elephant bear zebra giraffe - "
    "backpack umbrella - - handbag tie suitcase frisbee skis snowboard sports_ball kite "
    "baseball_bat baseball_glove skateboard surfboard tennis_racket bottle - wine_glass cup fork "
    "knife spoon bowl banana apple sandwich orange broccoli carrot hot_dog pizza donut cake chair "
    "couch potted_plant bed - dining_table - - toilet - tv laptop mouse remote keyboard cell_phone "
    "microwave oven toaster sink refrigerator - book clock vase scissors teddy_bear hair_drier "
    "toothbrush"
)
#: COCO's 80 category names by category id; shards store the ids only.
COCO_CATEGORIES = {
    id_: name.replace("_", " ")
    for id_, name in enumerate(_COCO_NAMES.split(), start=1)
    if name != "-"
}

OBJECT_CATEGORY = {"supercategory": "object", "id": 1, "name": "object"}


class CocoJsonWriter:
    """Writes one file in COCO's layout; see `open_coco_json`.

    Annotations follow the images in the file, so they are buffered in a temporary file: memory does
    not grow with either. Ids count from ``first_id``.
    """

    def __init__(self, file: BinaryIO, annotation_buffer: BinaryIO, first_id: int) -> None:
        self.image_count = self.annotation_count = 0
        self._first_id = first_id
        self._file = file
        self._annotation_buffer = annotation_buffer
        file.write(b'{"info": [], "licenses": [], "images": [')

    def add_image(self, fields: Mapping[str, Any]) -> int:
        """Writes an entry of ``images`` and returns its ``id``."""
        id_ = self._first_id + self.image_count
        line = orjson.dumps({**fields, "id": id_})
        self._file.write((b",\n" if self.image_count else b"\n") + line)
        self.image_count += 1
        return id_

    def add_annotation(self, fields: Mapping[str, Any]) -> None:
        """Writes an entry of ``annotations``, with the next ``id``."""
        line = orjson.dumps({**fields, "id": self._first_id + self.annotation_count})
        self._annotation_buffer.write((b",\n" if self.annotation_count else b"\n") + line)
        self.annotation_count += 1

    def finish(self, categories: Sequence[Mapping[str, Any]]) -> None:
        """Writes the annotations and categories, after which the file is valid JSON."""
        self._file.write(b'\n], "annotations": [')
        self._annotation_buffer.seek(0)
        shutil.copyfileobj(self._annotation_buffer, self._file, 1 << 20)
        self._file.write(b'\n], "categories": ' + orjson.dumps(categories) + b"}\n")


@contextlib.contextmanager
def open_coco_json(path: Path, first_id: int = 0) -> Iterator[CocoJsonWriter]:
    """Opens a `CocoJsonWriter` at ``path``; call its ``finish`` inside the block."""
    with path.open("wb") as file, tempfile.TemporaryFile(dir=path.parent) as annotation_buffer:
        yield CocoJsonWriter(file, annotation_buffer, first_id)


class GroundingJsonWriter:
    """Writes captions as MDETR's JSON does: one entry of ``images`` per caption.

    Each annotation has a box and ``tokens_positive``, the character spans that name it.
    """

    def __init__(self, json: CocoJsonWriter) -> None:
        self._json = json
        self._category_ids: set[int] = set()

    @property
    def caption_count(self) -> int:
        """The number of captions written so far."""
        return self._json.image_count

    @property
    def box_count(self) -> int:
        """The number of boxes written so far."""
        return self._json.annotation_count

    def add_caption(self, fields: Mapping[str, Any]) -> int:
        """Writes the ``images`` entry of a caption and returns its ``id``."""
        return self._json.add_image(fields)

    def add_box(
        self,
        image_id: int,
        box: BoxNumbers,
        spans: Sequence[Span],
        *,
        area: float | None = None,
        crowd: bool = False,
        category: int = 1,
    ) -> None:
        """Writes an annotation.

        ``box`` is xyxy in pixels. ``area`` is in square pixels; None: the area of the box.
        """
        self._category_ids.add(category)
        bbox = to_xywh(box)
        self._json.add_annotation(
            {
                "area": bbox[2] * bbox[3] if area is None else area,
                "iscrowd": int(crowd),
                "image_id": image_id,
                "category_id": category,
                "bbox": bbox,
                "tokens_positive": spans,
            }
        )

    def finish(self) -> None:
        """Writes the categories that occur.

        Category 1 is "object", because the boxes of Visual Genome all have it. Only the boxes of
        RefCOCO's expressions have a category of COCO.
        """
        coco_ids = sorted(self._category_ids - {1})
        categories = [
            {"id": id_, "name": COCO_CATEGORIES.get(id_, f"class {id_}")} for id_ in coco_ids
        ]
        self._json.finish([OBJECT_CATEGORY, *categories])

"""Captions and their boxes in COCO's layout, as MDETR and those after it use it."""

from collections.abc import Mapping, Sequence
from typing import Any

from schemas import Span
from shards.export.coco_classes import COCO_CLASSES
from shards.export.output import CocoJson
from shards.export.phrases import Numbers, xywh

OBJECT = {"supercategory": "object", "id": 1, "name": "object"}


class CaptionFile:
    """An image a caption, and annotations with the characters that name their boxes."""

    def __init__(self, json: CocoJson) -> None:
        self._json = json
        self._categories: set[int] = set()

    @property
    def captions(self) -> int:
        return self._json.images

    @property
    def boxes(self) -> int:
        return self._json.annotations

    def add_caption(self, fields: Mapping[str, Any]) -> int:
        """Returns the id of its image."""
        return self._json.add_image(fields)

    def add_box(
        self,
        image: int,
        box: Numbers,
        spans: Sequence[Span],
        *,
        area: float | None = None,
        crowd: bool = False,
        category: int = 1,
    ) -> None:
        """``box`` is x0, y0, x1, y1 in pixels; ``area`` in square pixels, None: that of the box."""
        self._categories.add(category)
        bbox = xywh(box)
        self._json.add_annotation(
            {
                "area": bbox[2] * bbox[3] if area is None else area,
                "iscrowd": int(crowd),
                "image_id": image,
                "category_id": category,
                "bbox": bbox,
                "tokens_positive": spans,
            }
        )

    def end(self) -> None:
        """Writes the classes that occur. Of a box of class 1 no more is known than that it is one:
        only those that RefCOCO's expressions name have a class of COCO.
        """
        others = sorted(self._categories - {1})
        names = {id_: COCO_CLASSES.get(id_, f"class {id_}") for id_ in others}
        self._json.end([OBJECT, *({"id": id_, "name": name} for id_, name in names.items())])

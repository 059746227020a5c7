"""The formats by name."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a parser of arguments does without
    from collections.abc import Callable

    from shards.export.request import Request, Written

#: For each format its module, and for whom it is.
FORMATS = {
    "mdetr-json": ("mdetr_json", "MDETR, GLIP, YOLO-World, mmdetection's goldg2odvg"),
    "ultralytics": ("ultralytics", "grounding data of ultralytics and YOLO-World"),
    "odvg": ("odvg", "MM-Grounding-DINO, Open-GroundingDino"),
    "coco": ("coco", "pycocotools and detectors of classes"),
    "grit": ("grit", "Kosmos-2"),
    "hf": ("hugging_face", "load_dataset of Hugging Face"),
    "energon": ("energon", "Megatron-Energon, which reads the tars themselves"),
}


def exporter(name: str) -> "Callable[[Request], list[Written]]":
    """The function that writes a format; only then is its module imported."""
    module = importlib.import_module(f"shards.export.{FORMATS[name][0]}")
    return module.export

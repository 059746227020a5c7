"""The export formats by name; their modules are imported lazily."""

import importlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # the argument parser needs only the names
    from collections.abc import Callable

    from shards.export.job import ExportedFile, ExportJob


class ExportFormat(NamedTuple):
    """The module of `shards.export` that writes a format, and the tools that read it."""

    module: str
    readers: str


FORMATS = {
    "mdetr-json": ExportFormat("mdetr_json", "MDETR, GLIP, YOLO-World, mmdetection's goldg2odvg"),
    "ultralytics": ExportFormat("ultralytics", "grounding data of ultralytics and YOLO-World"),
    "odvg": ExportFormat("odvg", "MM-Grounding-DINO, Open-GroundingDino"),
    "coco": ExportFormat("coco", "pycocotools and closed-set detectors"),
    "grit": ExportFormat("grit", "Kosmos-2"),
    "hf": ExportFormat("hugging_face", "Hugging Face datasets (load_dataset)"),
    "energon": ExportFormat("energon", "Megatron-Energon, which reads the original tars"),
}


def load_exporter(name: str) -> "Callable[[ExportJob], list[ExportedFile]]":
    """Imports the module of a format and returns its ``export`` function."""
    module = importlib.import_module(f"shards.export.{FORMATS[name].module}")
    exporter: Callable[[ExportJob], list[ExportedFile]] = module.export
    return exporter

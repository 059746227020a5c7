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
    extra: str = ""  # the extra of the package that it needs


FORMATS = {
    "mdetr-json": ExportFormat("mdetr_json", "MDETR, GLIP, YOLO-World, mmdetection's goldg2odvg"),
    "ultralytics": ExportFormat("ultralytics", "grounding data of ultralytics and YOLO-World"),
    "odvg": ExportFormat("odvg", "MM-Grounding-DINO, Open-GroundingDino"),
    "coco": ExportFormat("coco", "pycocotools and closed-set detectors"),
    "grit": ExportFormat("grit", "Kosmos-2"),
    "vlm": ExportFormat("vlm", "chat models: ms-swift, Qwen-VL"),
    "hf": ExportFormat("hugging_face", "Hugging Face datasets (load_dataset)"),
    "croissant": ExportFormat("croissant", "mlcroissant, search engines", extra="croissant"),
    "energon": ExportFormat("energon", "Megatron-Energon, which reads the original tars"),
}


def load_exporter(name: str) -> "Callable[[ExportJob], list[ExportedFile]]":
    """Imports the module of a format and returns its ``export`` function.

    Raises:
        ValueError: a library of an extra is not installed.
    """
    export_format = FORMATS[name]
    try:
        module = importlib.import_module(f"shards.export.{export_format.module}")
    except ModuleNotFoundError as error:
        if not export_format.extra:
            raise
        raise ValueError(
            f"the format {name} needs {error.name}, which is not installed: "
            f'pip install ".[{export_format.extra}]"'
        ) from error
    exporter: Callable[[ExportJob], list[ExportedFile]] = module.export
    return exporter

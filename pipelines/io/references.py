"""Referring expressions in the forms of their publication and of re-hosts.

- The list of github.com/lichengunc/refer, ``refs(*).p``, pickled or as JSON; also that of gRefCOCO,
  ``grefs(unc).json``, in which a reference has a list of annotations.
- Parquet with the columns of the hub's ``jxu124/refcoco``: ``image_id``, ``ann_id``,
  ``category_id``, ``split``, ``sentences`` (structs with ``sent`` and ``sent_id``), and, as JSON
  texts, COCO's annotation in ``raw_anns`` and its image in ``raw_image_info``. Its column ``bbox``
  has corners, and is not read.
- Parquet with the columns of the hub's ``lmms-lab/RefCOCO``: ``file_name``, ``answer`` (a list of
  texts), ``bbox`` (x, y, width, height) and ``iscrowd``, the images in other columns. The split is
  in the name of the file: ``val-00000-of-00001.parquet``.

A Parquet file may also mix the two, such as ``sentences`` with a ``bbox`` and no ``raw_anns``.
"""

import re
from typing import Any

import msgspec

from pipelines.io import plain_data
from pipelines.io.archives import file_name
from pipelines.io.parquet import is_parquet, read_rows
from pipelines.io.raw_files import RawFileError

_COLUMNS = (
    *("image_id", "ann_id", "category_id", "split", "file_name", "sentences", "answer"),
    *("raw_anns", "raw_image_info", "bbox", "iscrowd", "area"),
)
#: COCO's name of an image and the number of an annotation: COCO_train2014_000000581857_16.jpg
_REFERENCE_FILE = re.compile(r"(COCO_[A-Za-z0-9]+_([0-9]{12}))(?:_[0-9]+)?(\.jpg)")
_HUB_SPLITS = {"validation": "val"}
_SHARD = re.compile(r"([A-Za-z0-9_]+)-[0-9]{5}-of-[0-9]{5}")
#: Rows from which it is no chance that the last two numbers of all boxes exceed the first two.
_ENOUGH_BOXES = 20


def load_references(path: str) -> list[Any]:
    """Returns the references of a file, as in ``refs(*).p``; nothing in them is checked.

    Those of a Parquet file also have ``annotation`` and ``image``, JSON texts as in COCO's
    ``instances_*.json``, and ``record``, the beginning of the ids of sentences that have none.

    Raises:
        RawFileError: It is in none of the forms.
    """
    if is_parquet(path):
        return _rows_as_references(path)
    content = plain_data.load(path)
    if not isinstance(content, list):
        raise RawFileError(f"{path}: expected a list, found {type(content).__name__}")
    return content


def _rows_as_references(path: str) -> list[dict[str, Any]]:
    rows = read_rows(path, _COLUMNS, without=("tokens", "raw"))
    name = file_name(path)
    has_annotations = bool(rows) and "raw_anns" in rows[0]
    if rows and not has_annotations:
        if "bbox" not in rows[0]:
            raise RawFileError(f"{path}: no boxes: it has neither raw_anns nor bbox")
        _check_boxes(rows, path)
    if rows and not {"sentences", "answer"} & rows[0].keys():
        raise RawFileError(f"{path}: no expressions: it has neither sentences nor answer")
    split = _split_of_name(name)
    if rows and not split and "split" not in rows[0]:
        raise RawFileError(
            f"{path}: no column split, and none in the name of the file, as in "
            "val-00000-of-00001.parquet"
        )
    return [_reference(row, number, name, split) for number, row in enumerate(rows)]


def _check_boxes(rows: list[dict[str, Any]], path: str) -> None:
    """Raises ``RawFileError`` if boxes are corners: all end to the right of and below the start."""
    boxes = [row["bbox"] for row in rows if _is_box(row["bbox"])]
    if len(boxes) >= _ENOUGH_BOXES and all(b[2] > b[0] and b[3] > b[1] for b in boxes):
        raise RawFileError(
            f"{path}: all {len(boxes)} boxes look like corners (x0, y0, x1, y1); expected x, y, "
            "width, height, or a column raw_anns"
        )


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and None not in value


def _split_of_name(name: str) -> str:
    match = _SHARD.match(name)
    return _HUB_SPLITS.get(match[1], match[1]) if match else ""


def _reference(row: dict[str, Any], number: int, name: str, split: str) -> dict[str, Any]:
    image_file = str(row.get("file_name") or "")
    match = _REFERENCE_FILE.fullmatch(image_file)
    image_id = row.get("image_id", int(match[2]) if match else None)
    reference: dict[str, Any] = {
        "image_id": image_id,
        "ann_id": row.get("ann_id", number),
        "category_id": row.get("category_id", 1),
        "split": row.get("split", split),
        "sentences": row.get("sentences", row.get("answer")),
    }
    texts = reference["sentences"]
    if isinstance(texts, list) and all(isinstance(text, str) for text in texts):
        # They have no ids: these are of the file.
        reference["record"] = f"{name.partition('.')[0]}:{number}"
        reference["sentences"] = [{"sent_id": i, "sent": text} for i, text in enumerate(texts)]
    annotation, image = row.get("raw_anns"), row.get("raw_image_info")
    if annotation is None:
        stated = {key: row[key] for key in ("bbox", "iscrowd", "area") if row.get(key) is not None}
        identity = {"id": reference["ann_id"], "image_id": image_id}
        annotation = _json(identity | stated | {"category_id": reference["category_id"]})
    if image is None:
        file = f"{match[1]}{match[3]}" if match else image_file
        image = _json({"id": image_id, "file_name": file, "width": 0, "height": 0})
    return reference | {"annotation": annotation, "image": image}


def _json(value: dict[str, Any]) -> str:
    return msgspec.json.encode(value).decode()

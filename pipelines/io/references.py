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

A Parquet file may also mix the two, such as ``sentences`` with a ``bbox`` and no ``raw_anns``. A
file that has a column ``raw_anns`` never has its boxes from ``bbox``.
"""

import math
import re
from typing import Any

import msgspec

from pipelines.io import plain_data
from pipelines.io.archives import file_name
from pipelines.io.parquet import is_parquet, read_rows
from pipelines.io.raw_files import RawFileError
from schemas.decodable import decodable
from schemas.splits import split_of_shard

_COLUMNS = (
    *("image_id", "ann_id", "category_id", "split", "file_name", "sentences", "answer"),
    *("raw_anns", "raw_image_info", "bbox", "iscrowd", "area"),
)
#: COCO's name of an image and the number of an annotation: COCO_train2014_000000581857_16.jpg
_REFERENCE_FILE = re.compile(r"(COCO_[A-Za-z0-9]+_([0-9]{12}))(?:_[0-9]+)?(\.jpg)")
#: The share of boxes that may contradict the form of the others, as errors of single rows.
_FEW = 0.1
_BORDER = 1.0  # pixels by which a box may leave its image, by rounding


def load_references(path: str) -> list[Any]:
    """Returns the references of a file, as in ``refs(*).p``; nothing in them is checked.

    Those of a Parquet file also have ``annotation`` and ``image``, JSON texts as in COCO's
    ``instances_*.json``, and ``record``, the beginning of the ids of sentences that have none. Of a
    row without a box, ``annotation`` is empty and ``problem`` says why.

    Raises:
        RawFileError: It is in none of the forms.
    """
    if is_parquet(path):
        return _rows_as_references(path)
    content = plain_data.load(path)
    if not isinstance(content, list):
        raise RawFileError(f"{path}: expected a list, found {type(content).__name__}")
    return content


def check_boxes(path: str) -> None:
    """Checks that the boxes in the column ``bbox`` of a Parquet file are x, y, width, height.

    Some re-hosts have corners, x0, y0, x1, y1, by the same name. A box is one of the two if it
    leaves the image as the other, or if its numbers are in no order of corners. Since most objects
    are right of or below their own size, boxes that are nearly all in that order are corners.

    Raises:
        RawFileError: They are or may be corners.
    """
    rows = read_rows(path, ("bbox", "raw_anns", "raw_image_info"))
    only_corners = only_sizes = either = 0
    for row in rows if rows and "raw_anns" not in rows[0] else []:
        box, image_size = _numbers(row.get("bbox")), _image_size(row)
        if box is None:
            continue
        x, y, width, height = box
        is_size = width > 0 < height and _is_inside((x, y, x + width, y + height), image_size)
        # Corners of an empty box are in order, too: they are no evidence of a width and a height.
        is_corners = x <= width and y <= height and _is_inside(box, image_size)
        only_corners += is_corners and not is_size
        only_sizes += is_size and not is_corners
        either += is_size and is_corners
    decided = only_corners + only_sizes
    if not decided + either:
        return
    if only_corners > max(1, _FEW * decided) or only_sizes <= _FEW * (decided + either):
        raise RawFileError(
            f"{path}: bbox looks like corners (x0, y0, x1, y1): of {decided + either} boxes, "
            f"{only_corners} cannot be x, y, width, height, and {only_sizes} cannot be corners; "
            "expected x, y, width, height, or a column raw_anns with COCO's annotation of each row"
        )


def _numbers(value: Any) -> tuple[float, float, float, float] | None:
    """Returns a box of four finite numbers; None if it is something else."""
    if not isinstance(value, list) or len(value) != 4:
        return None
    if not all(isinstance(v, int | float) and math.isfinite(v) for v in value):
        return None
    return value[0], value[1], value[2], value[3]


class _Size(msgspec.Struct):
    width: float
    height: float


def _image_size(row: dict[str, Any]) -> _Size | None:
    """Returns the size of the image of a row, if it states one."""
    try:
        size = msgspec.json.decode(row.get("raw_image_info") or "", type=decodable(_Size))
    except (msgspec.MsgspecError, UnicodeError):
        return None  # a malformed image is rejected where it is read
    return size if size.width > 0 < size.height else None


def _is_inside(box: tuple[float, float, float, float], size: _Size | None) -> bool:
    """Returns whether corners are in an image of a size, which may be unknown."""
    if size is None:
        return True
    x0, y0, x1, y1 = box
    is_right = x0 >= -_BORDER and x1 <= size.width + _BORDER
    return is_right and y0 >= -_BORDER and y1 <= size.height + _BORDER


def _rows_as_references(path: str) -> list[dict[str, Any]]:
    rows = read_rows(path, _COLUMNS, without=("tokens", "raw"))
    name = file_name(path)
    if rows and not {"raw_anns", "bbox"} & rows[0].keys():
        raise RawFileError(f"{path}: no boxes: it has neither raw_anns nor bbox")
    if rows and not {"sentences", "answer"} & rows[0].keys():
        raise RawFileError(f"{path}: no expressions: it has neither sentences nor answer")
    split = split_of_shard(name)
    if rows and not split and "split" not in rows[0]:
        raise RawFileError(
            f"{path}: no column split, and none in the name of the file, as in "
            "val-00000-of-00001.parquet"
        )
    return [_reference(row, number, name, split) for number, row in enumerate(rows)]


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
    image = row.get("raw_image_info")
    problem = _box_problem(row)
    annotation = "" if problem else row.get("raw_anns")
    if annotation is None:
        stated = {key: row[key] for key in ("bbox", "iscrowd", "area") if row.get(key) is not None}
        identity = {"id": reference["ann_id"], "image_id": image_id}
        annotation = _json(identity | stated | {"category_id": reference["category_id"]})
    if image is None:
        file = f"{match[1]}{match[3]}" if match else image_file
        image = _json({"id": image_id, "file_name": file, "width": 0, "height": 0})
    return reference | {"annotation": annotation, "image": image, "problem": problem}


def _box_problem(row: dict[str, Any]) -> str:
    """Returns why a row has no box, apart from what is malformed in it; empty if it has one."""
    if "raw_anns" in row:
        return "" if row["raw_anns"] else "raw_anns is empty"
    box, size = _numbers(row["bbox"]), _image_size(row)
    if box is None or size is None:
        return ""
    x, y, width, height = box
    if _is_inside((x, y, x + width, y + height), size):
        return ""
    return f"bbox {list(box)} leaves its image of {size.width:g}x{size.height:g}"


def _json(value: dict[str, Any]) -> str:
    return msgspec.json.encode(value).decode()

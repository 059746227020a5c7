"""Referring expressions in pickles, JSON and Parquet, as plain references of ``refs(*).p``."""

import io
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import msgspec
import pyarrow.parquet as pq

from schemas import safe_pickle

_COLUMNS = {
    *("image_id", "ann_id", "category_id", "split", "file_name", "sentences", "answer"),
    *("raw_anns", "raw_image_info", "bbox", "iscrowd"),
}


def load_references(content: bytes, path: str) -> Any:
    """Returns the references in the content of a file.

    Those of Parquet have an ``annotation``, as COCO's, and the ``size`` of the image if known.

    Raises:
        PickleError: it is a pickle of anything but plain data.
    """
    if content[:4] == b"PAR1":
        return list(_rows(content, PurePosixPath(path).name))
    if content.lstrip()[:1] == b"[":
        return msgspec.json.decode(content)
    return safe_pickle.loads(content, path)


def _rows(content: bytes, name: str) -> Iterator[dict[str, Any]]:
    table = pq.ParquetFile(io.BytesIO(content))
    columns = [column for column in table.schema_arrow.names if column in _COLUMNS]
    stem = name.partition(".")[0]
    split = {"validation": "val"}.get(stem.partition("-")[0], stem.partition("-")[0])
    for number, row in enumerate(table.read(columns=columns).to_pylist()):
        texts = row.get("sentences", row.get("answer"))
        sentences = [
            {"sent_id": f"{stem}:{number}:{i}", "sent": text} if isinstance(text, str) else text
            for i, text in enumerate(texts)
        ]
        image = _stated(row.get("raw_image_info"))
        has_size = {"width", "height"} <= image.keys()
        file_name = re.search("_([0-9]{12})", row.get("file_name") or "")
        yield {
            "image_id": row["image_id"] if "image_id" in row else file_name and file_name[1],
            "category_id": row.get("category_id", 1),
            "split": row.get("split", split),
            "sentences": sentences,
            "annotation": _stated(row["raw_anns"]) if "raw_anns" in row else row,
            "size": (image["width"], image["height"]) if has_size else None,
        }


def _stated(text: str | None) -> dict[str, Any]:
    """Returns the object in a JSON text; an empty one, without a box, if it is none.

    A build rejects the row of such a text, so that no sentence of it is in a set.
    """
    try:
        content = msgspec.json.decode(text or "{}")
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}

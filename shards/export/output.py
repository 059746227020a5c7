"""Files in COCO's layout, written as their images and annotations come."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import orjson


class CocoJson:
    """A file in COCO's layout, whose images and annotations are written as they come.

    The annotations wait in a file without a name, since they follow the images; so memory does not
    grow with either. Ids count from ``first_id``.
    """

    def __init__(self, file: BinaryIO, annotations: BinaryIO, first_id: int) -> None:
        self.images = self.annotations = 0
        self._first_id = first_id
        self._file = file
        self._annotations = annotations
        file.write(b'{"info": [], "licenses": [], "images": [')

    def add_image(self, fields: Mapping[str, Any]) -> int:
        """Writes an image; returns the ``id`` that it is given."""
        id_ = self._first_id + self.images
        self._file.write((b",\n" if self.images else b"\n") + orjson.dumps({**fields, "id": id_}))
        self.images += 1
        return id_

    def add_annotation(self, fields: Mapping[str, Any]) -> None:
        """Writes an annotation, and gives it an ``id``."""
        line = orjson.dumps({**fields, "id": self._first_id + self.annotations})
        self._annotations.write((b",\n" if self.annotations else b"\n") + line)
        self.annotations += 1

    def end(self, categories: Sequence[Mapping[str, Any]]) -> None:
        self._file.write(b'\n], "annotations": [')
        self._annotations.seek(0)
        shutil.copyfileobj(self._annotations, self._file, 1 << 20)
        self._file.write(b'\n], "categories": ' + orjson.dumps(categories) + b"}\n")


@contextlib.contextmanager
def coco_json(path: Path, first_id: int = 0) -> Iterator[CocoJson]:
    """A `CocoJson` at ``path``; `CocoJson.end` has to be called in the block."""
    with path.open("wb") as file, tempfile.TemporaryFile(dir=path.parent) as annotations:
        yield CocoJson(file, annotations, first_id)

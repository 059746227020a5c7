"""Where an export goes: a folder that is there when it is whole, and not before."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import orjson


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to write to, which gets its name at the end of the block; if that fails it is gone.

    What a killed process left is removed. A new folder holds nothing of another export, which
    readers that take all files of a folder would read as well.

    Raises:
        FileExistsError: there is such a folder already, and it is not empty.
        OSError: it cannot be made.
    """
    path = path.absolute()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(f"{path} is there already; an export needs a folder of its own")
    part = path.with_name(f".{path.name}.part")
    if part.exists():
        shutil.rmtree(part)
    part.mkdir(parents=True)
    try:
        yield part
        part.rename(path)
    except BaseException:
        shutil.rmtree(part)
        raise


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

"""Writes whole files through Beam's file systems: local folders and buckets."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from apache_beam.io.filesystems import FileSystems


@contextmanager
def atomic_write(path: str) -> Iterator[BinaryIO]:
    """Yields a file with a temporary name beside ``path``, and renames it after the block.

    After an error there is no file ``path``, and a temporary one may be left: ``.NAME.`` and 32
    hexadecimal digits.
    """
    folder, name = FileSystems.split(path)
    temporary = FileSystems.join(folder, f".{name}.{uuid.uuid4().hex}")
    with FileSystems.create(temporary, compression_type="uncompressed") as file:
        yield file
    FileSystems.rename([temporary], [path])

"""Writes local files and folders under a temporary name and renames them when they are complete."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Yields a binary file that replaces ``path`` at the end of the block.

    The content is on disk before the file gets its name. If the block raises, ``path`` stays as it
    was. One process at a time may write a path: the temporary name is fixed, so that a killed
    process leaves one file at most, which the next one overwrites.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "note.txt"
    >>> with atomic_write(path) as file:
    ...     _ = file.write(b"complete")
    ...     path.exists()
    False
    >>> path.read_bytes()
    b'complete'
    """
    temporary = _temporary(path)
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields a new folder that gets the name ``path`` at the end of the block.

    If the block raises, ``path`` stays as it was. What a killed process left is removed first.

    Args:
        path: the folder to write; its parents are created.
        overwrite: replace a folder that is not empty.

    Raises:
        FileExistsError: ``path`` exists, is not an empty folder, and is not to be overwritten.
    """
    path = path.absolute()
    if path.exists() and not overwrite and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(f"{path} exists already and is not an empty folder")
    temporary = _temporary(path)
    old = path.with_name(f".{path.name}.old")
    for left_over in (temporary, old):
        if left_over.exists():
            shutil.rmtree(left_over)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if path.exists():
            path.replace(old)
        temporary.replace(path)
    except BaseException:
        shutil.rmtree(temporary)
        raise
    if old.exists():
        shutil.rmtree(old)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")

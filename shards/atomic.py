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

    The content is flushed to disk before the file is renamed. If the block raises, ``path`` stays
    as it was. Only one process at a time may write a path: the temporary name is fixed, so that a
    killed process leaves at most one file, which the next one overwrites.

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
    with _errors_name(path):
        opened = temporary.open("wb")
    try:
        with opened as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields a new folder that is renamed to ``path`` at the end of the block.

    If the block raises, ``path`` stays as it was. A symbolic link is followed. While a folder is
    replaced it is ``.NAME.old``; if the process is killed in between, the next call puts it back.

    Args:
        path: the folder to write; its parents are created.
        overwrite: replace a folder that is not empty.

    Raises:
        FileExistsError: ``path`` is not a folder, or it is not empty and is not to be overwritten.
    """
    path = path.resolve()
    temporary = _temporary(path)
    old = path.with_name(f".{path.name}.old")
    if overwrite and old.exists() and not path.exists():
        old.replace(path)
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{path} exists already and is not a folder")
    if path.exists() and not overwrite and any(path.iterdir()):
        raise FileExistsError(f"{path} exists already and is not an empty folder")
    _remove(temporary)
    with _errors_name(path):
        temporary.mkdir(parents=True)
    try:
        yield temporary
        if overwrite and path.exists():
            _remove(old)
            path.replace(old)
        try:
            temporary.replace(path)  # replaces an empty folder
        except BaseException:
            if overwrite and old.exists():
                old.replace(path)
            raise
    except BaseException:
        _remove(temporary)
        raise
    if overwrite:
        _remove(old)


@contextmanager
def _errors_name(path: Path) -> Iterator[None]:
    """Replaces the temporary name in errors by the one that the caller knows."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")

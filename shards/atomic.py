"""Writes a local file under a temporary name and renames it when it is complete."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Yields a binary file that replaces ``path`` at the end of the block.

    The content is flushed to disk before the file is renamed. If the block raises, ``path`` stays
    as it was. A killed process leaves at most two files, which the next one to write ``path``
    removes: ``.NAME.mdetr-tmp`` and ``.NAME.mdetr-lock``.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "note.txt"
    >>> with atomic_write(path) as file:
    ...     _ = file.write(b"complete")
    ...     path.exists()
    False
    >>> path.read_bytes()
    b'complete'

    Raises:
        OSError: the file cannot be written, or another process is writing it.
    """
    temporary = beside(path, "tmp")
    with locked(path):
        with errors_name(path):
            temporary.unlink(missing_ok=True)  # of a killed process; maybe another user's
            opened = temporary.open("wb")
        try:
            with unnamed_errors_name(path), opened as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lets no other process write ``path`` during the block; a killed one does not count.

    Raises:
        FileExistsError: another process is writing it.
        OSError: its folder cannot be written to.
    """
    lock = beside(path, "lock")
    while True:
        with errors_name(path):
            file = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            raise FileExistsError(f"another process is writing {path}") from None
        if _is_at(file, lock):
            break
        os.close(file)  # the process that held the lock has removed it
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(file)


def beside(path: Path, purpose: str) -> Path:
    """Returns the name of a temporary file beside ``path``, which no other program uses.

    >>> beside(Path("a/report.html"), "tmp").as_posix()
    'a/.report.html.mdetr-tmp'
    """
    return path.with_name(f".{path.name}.mdetr-{purpose}")


@contextmanager
def errors_name(path: Path) -> Iterator[None]:
    """Replaces the temporary name in errors by the one that the caller knows."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


@contextmanager
def unnamed_errors_name(path: Path) -> Iterator[None]:
    """Adds a path to errors of the system without one, such as those of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:  # else it is a message of ours
            error.filename = str(path)
        raise


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False

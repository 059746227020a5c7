"""A lock of a local folder: one process at a time writes to it."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class FolderLockError(Exception):
    """A folder cannot be created or opened to be locked."""


@contextmanager
def folder_lock(folder: Path, on_busy: Callable[[], object]) -> Iterator[None]:
    """Holds the lock of a folder, which is created; that of a killed process is released.

    Args:
        folder: a local folder.
        on_busy: called if another process holds the lock, before waiting for it; what it raises
            ends the wait.

    Raises:
        FolderLockError: The folder cannot be created or opened.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise FolderLockError(f"cannot write to {folder}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_busy()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

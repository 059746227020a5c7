"""Lists, writes and deletes files of a folder, local or in a bucket. Names are literal."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec

from pipelines.io.raw_files import StoreError, is_local, remote_file_system
from shards.atomic import atomic_write


def list_names(folder: str) -> set[str]:
    """Returns the names of the files and folders of a folder; none if it does not exist.

    Raises:
        OSError: It cannot be listed.
        StoreError: Its store cannot be reached.
    """
    if is_local(folder):
        return {path.name for path in _local_entries(folder)}
    return set(_stored_entries(folder))


def list_sizes(folder: str) -> dict[str, int]:
    """Returns the sizes in bytes of the files of a folder by name; none if it does not exist.

    Raises:
        OSError: It cannot be listed.
        StoreError: Its store cannot be reached.
    """
    if is_local(folder):
        return {path.name: path.stat().st_size for path in _local_entries(folder)}
    return {name: entry["size"] or 0 for name, entry in _stored_entries(folder).items()}


def list_versions(folder: str) -> dict[str, str]:
    """Returns the versions of the files of a folder by name; none if it does not exist.

    They are those of `pipelines.io.conditional_files`.

    Raises:
        OSError: It cannot be listed.
        StoreError: Its store cannot be reached.
    """
    if is_local(folder):
        return {
            path.name: version_of(path.stat()) for path in _local_entries(folder) if path.is_file()
        }
    return {
        name: str(entry.get("generation") or entry["ETag"])
        for name, entry in _stored_entries(folder).items()
        if entry["type"] == "file"
    }


def version_of(status: os.stat_result) -> str:
    """Returns the version of a local file, which changes when the file is replaced or written."""
    return f"{status.st_ino}-{status.st_mtime_ns}-{status.st_size}"


def files_below(folder: str) -> list[str]:
    """Returns the URLs of all files below a folder in a bucket.

    Raises:
        StoreError: Its store cannot be reached.
    """
    with _store(folder) as (system, name):
        return [system.unstrip_protocol(path) for path in system.find(name)]


def write_file(path: str, content: bytes) -> None:
    """Writes or replaces a small file; after an error it is as it was.

    Raises:
        OSError: It cannot be written.
        StoreError: Its store cannot be reached.
    """
    if is_local(path):
        with atomic_write(Path(path)) as file:
            file.write(content)
        return
    with _store(path) as (system, name):
        system.pipe_file(name, content)


def delete_file(path: str) -> None:
    """Deletes a file. A link is deleted, and what it refers to is not.

    Raises:
        OSError: There is no such file, or it cannot be deleted.
        StoreError: Its store cannot be reached.
    """
    if is_local(path):
        Path(path).unlink()
        return
    with _store(path) as (system, name):
        system.rm_file(name)


def delete_folder(folder: str) -> None:
    """Deletes a folder and all that is in it, if it exists.

    Raises:
        OSError: It cannot be deleted, or is not a folder.
        StoreError: Its store cannot be reached.
    """
    if is_local(folder):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)
        return
    with _store(folder) as (system, name):
        for path in system.find(name):
            system.rm_file(path)


def _local_entries(folder: str) -> list[Path]:
    """Returns the files and folders of a local folder; none if it does not exist."""
    try:
        return list(Path(folder).iterdir())
    except FileNotFoundError:
        return []


def _stored_entries(folder: str) -> dict[str, dict[str, Any]]:
    """Returns what a store states of the files and folders of a folder, by name."""
    try:
        with _store(folder) as (system, name):
            entries = system.ls(name, detail=True)
    except FileNotFoundError:
        return {}
    below = f"{name.strip('/')}/"  # stores list a file of the folder's own name, too
    paths = [entry["name"].strip("/") for entry in entries]
    return {
        path.removeprefix(below): entry
        for path, entry in zip(paths, entries, strict=True)
        if path.startswith(below)
    }


@contextlib.contextmanager
def _store(path: str) -> Iterator[tuple[fsspec.AbstractFileSystem, str]]:
    """Yields the file system of a URL and the name in it; raises its errors as a `StoreError`."""
    try:
        yield remote_file_system(path)
    except (FileNotFoundError, StoreError):
        raise
    except Exception as error:  # the exceptions of stores have no common base class
        raise StoreError(f"{path}: {type(error).__name__}: {error}") from error

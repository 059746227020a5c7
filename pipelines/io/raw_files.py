"""Raw files, local or remote: opened, read, copied, mapped into memory."""

import codecs
import contextlib
import mmap
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import fsspec
from apache_beam.io.filesystems import FileSystems

READ_AHEAD = 1 << 20  # bytes of a remote file that are read ahead
_COPY_BYTES = 16 << 20  # copied at once
#: What file systems of fsspec call the properties that change with a file.
_STAMPS = ("ETag", "etag", "LastModified", "updated", "mtime", "modified")


class RawFileError(Exception):
    """A file cannot be read, or has the wrong content; states what was expected and found."""


class StoreError(Exception):
    """A store cannot be reached: unknown scheme, missing package, no connection, no permission."""


def is_local(path: str) -> bool:
    """Returns whether a path has no URL scheme."""
    return FileSystems.get_scheme(path) is None


def exists(path: str) -> bool:
    """Returns whether a file or a folder exists; in a bucket, folders are prefixes of names.

    Raises:
        StoreError: Its store cannot be reached.
    """
    system, name = (None, path) if is_local(path) else remote_file_system(path)
    with _store_errors(path):
        return system.exists(name) if system else Path(path).exists()


def is_folder(path: str) -> bool:
    """Returns whether a path is a folder; in a bucket, a prefix of names.

    Raises:
        StoreError: Its store cannot be reached.
    """
    system, name = (None, path) if is_local(path) else remote_file_system(path)
    with _store_errors(path):
        return system.isdir(name) if system else Path(path).is_dir()


def files_in(folder: str) -> list[str]:
    """Returns the paths of the files in a folder, sorted; none if there is no such folder.

    Raises:
        StoreError: Its store cannot be reached.
    """
    with _store_errors(folder):
        if is_local(folder):
            local = Path(folder)
            return sorted(str(p) for p in local.iterdir() if p.is_file()) if local.is_dir() else []
        system, name = remote_file_system(folder)
        if not system.isdir(name):
            return []
        entries = system.ls(name, detail=True)
        names = [entry["name"] for entry in entries if entry["type"] == "file"]
        return sorted(f"{folder.rstrip('/')}/{name.rpartition('/')[2]}" for name in names)


@contextlib.contextmanager
def _store_errors(path: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the exceptions of stores have no common base class
        raise StoreError(f"{path}: {type(error).__name__}: {error}") from error


def version(path: str) -> tuple[int, str]:
    """Returns size and modification time of a file, which change when it is written again.

    Of a remote file, an ETag takes the place of the time; its text is empty if its server states
    neither.
    """
    if is_local(path):
        status = Path(path).stat()
        return status.st_size, str(status.st_mtime_ns)
    system, name = remote_file_system(path)
    properties = system.info(name)
    stamps = [str(properties[key]) for key in _STAMPS if properties.get(key)]
    return properties.get("size") or 0, next(iter(stamps), "")


def modified(path: str) -> float | None:
    """Returns when a file or a local folder was last changed, in seconds since 1970.

    Of a local file that is the last change of its content, its name or its permissions: one that
    replaces another may have an older date. None if its file system states no time, as web
    servers and folders of buckets do.

    Raises:
        OSError: There is no such file.
        StoreError: Its store cannot be reached.
    """
    if is_local(path):
        status = Path(path).stat()
        return max(status.st_mtime, status.st_ctime)
    system, name = remote_file_system(path)
    with _store_errors(path):
        if system.isdir(name):
            return None
        try:
            return float(system.modified(name).timestamp())
        except NotImplementedError:
            return None


def open_binary(path: str, *, read_ahead: int = READ_AHEAD) -> BinaryIO:
    """Opens a file for seeking and reading; ``.gz`` and ``.bz2`` files are not decompressed.

    A request for a part of a remote file reads ``read_ahead`` bytes more; with 0, every read is one
    request for exactly its bytes.

    Raises:
        FileNotFoundError: There is no such file.
        RawFileError: It cannot be read.
        StoreError: Its store cannot be reached.
    """
    if is_local(path):
        return _open_local(path)
    system, name = remote_file_system(path)
    cache = "readahead" if read_ahead else "none"
    block_size = read_ahead or READ_AHEAD
    file: BinaryIO = system.open(name, "rb", block_size=block_size, cache_type=cache)
    return file


def _open_local(path: str) -> BinaryIO:
    try:
        # Opening a named pipe would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        file = os.fdopen(descriptor, "rb")
    except FileNotFoundError:
        raise
    # A folder, no permission, a file where a folder is meant, a loop of links, a too long name.
    except OSError as error:
        raise RawFileError(f"{path}: cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise RawFileError(f"{path}: cannot be read: not a file")
    return file


def read_beginning(path: str, size: int) -> bytes:
    """Reads at most the first ``size`` bytes of a file, in one request if it is remote.

    Raises:
        FileNotFoundError, RawFileError: As `open_binary`.
    """
    if is_local(path):
        with open_binary(path) as file:
            return file.read(size)
    system, name = remote_file_system(path)
    content: bytes = system.cat_file(name, start=0, end=size)
    return content


def without_byte_order_mark(content: bytes) -> bytes:
    """Returns UTF-8 text without the mark that some editors write at its start."""
    return content.removeprefix(codecs.BOM_UTF8)


def free_bytes(path: str) -> int:
    """Returns the free space of the disk that has a local file or folder, which may not exist."""
    folder = Path(path).absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


@contextlib.contextmanager
def local_copy(path: str) -> Iterator[Path]:
    """Yields a local file itself, or a temporary copy of a remote one."""
    if is_local(path):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / "copy"
        with open_binary(path) as remote, local.open("wb") as file:
            shutil.copyfileobj(remote, file, _COPY_BYTES)
        yield local


def map_local(path: Path) -> mmap.mmap:
    """Maps a local file, which may be removed afterwards; it must not be empty."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def remote_file_system(path: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Returns the file system of a URL, and the name in it.

    Beam's file systems create a client for every file, which takes longer than reading an image.

    Raises:
        StoreError: The scheme is unknown, or the package that it needs is not installed.
    """
    try:
        system, name = fsspec.url_to_fs(path, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise StoreError(f"{path}: {error}") from error
    return system, name

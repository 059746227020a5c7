"""Raw files, local or remote: opened, copied, unpacked from their zips."""

import contextlib
import hashlib
import mmap
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import fsspec
from apache_beam.io.filesystems import FileSystems

from pipelines.io.beam_files import atomic_write

_READ_AHEAD = 1 << 20  # bytes of a remote file that are read ahead
_COPY_BYTES = 16 << 20  # copied at once


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
    system, name = (None, path) if is_local(path) else _remote(path)
    try:
        return system.exists(name) if system else Path(path).exists()
    except Exception as error:  # the exceptions of stores have no common base class
        raise StoreError(f"{path}: {type(error).__name__}: {error}") from error


def version(path: str) -> tuple[int, str]:
    """Returns size and modification time of a file, which change when it is written again."""
    if is_local(path):
        status = Path(path).stat()
        return status.st_size, str(status.st_mtime_ns)
    system, name = _remote(path)
    return system.size(name), str(system.modified(name))


def open_binary(path: str, *, read_ahead: bool = True) -> BinaryIO:
    """Opens a file for seeking and reading; ``.gz`` and ``.bz2`` files are not decompressed.

    Without ``read_ahead``, every read of a remote file is one request for exactly its bytes.

    Raises:
        FileNotFoundError: There is no such file.
        RawFileError: It cannot be read.
        StoreError: Its store cannot be reached.
    """
    if is_local(path):
        try:
            return Path(path).open("rb")
        except (IsADirectoryError, PermissionError) as error:
            raise RawFileError(f"{path}: cannot be read: {error.strerror}") from error
    system, name = _remote(path)
    cache = "readahead" if read_ahead else "none"
    file: BinaryIO = system.open(name, "rb", block_size=_READ_AHEAD, cache_type=cache)
    return file


def read_beginning(path: str, size: int) -> bytes:
    """Reads at most the first ``size`` bytes of a file, in one request if it is remote.

    Raises:
        FileNotFoundError, RawFileError: As `open_binary`.
    """
    if is_local(path):
        with open_binary(path) as file:
            return file.read(size)
    system, name = _remote(path)
    content: bytes = system.cat_file(name, start=0, end=size)
    return content


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


def unpack(path: str, scratch: str) -> str:
    """Extracts the only data member of a zip below ``scratch``, and returns its path.

    Its name has the suffix of the zip's name without ``.zip``, or ``.json``.

    Raises:
        RawFileError: It is not a zip that can be read, or does not have exactly one such member.
    """
    suffix = Path(path.removesuffix(".zip")).suffix or ".json"
    name = hashlib.sha256(path.encode()).hexdigest()[:16] + suffix
    target: str = FileSystems.join(scratch, name)
    try:
        with open_binary(path) as file, zipfile.ZipFile(file) as archive:
            members = [
                member
                for member in archive.infolist()
                if member.filename.endswith(suffix) and not member.filename.startswith("__MACOSX")
            ]
            if len(members) != 1:
                raise RawFileError(
                    f"{path}: expected one {suffix} file in the zip, found {len(members)}"
                )
            with (
                archive.open(members[0]) as packed,
                atomic_write(target) as unpacked,
            ):
                shutil.copyfileobj(packed, unpacked, _COPY_BYTES)
    # zipfile has no specific exception for an encrypted member (RuntimeError) or an unknown method
    # (NotImplementedError, which is one).
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise RawFileError(f"{path}: not a readable zip file: {error}") from error
    return target


def map_file(path: str) -> mmap.mmap:
    """Maps a whole file into memory; a remote or zipped one as a temporary copy.

    Raises:
        RawFileError: It is empty, or cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        unpacked = unpack(path, folder) if path.endswith(".zip") else path
        with local_copy(unpacked) as local:
            if local.stat().st_size == 0:
                raise RawFileError(f"{path}: empty file")
            return map_local(local)


def map_local(path: Path) -> mmap.mmap:
    """Maps a local file, which may be removed afterwards; it must not be empty."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _remote(path: str) -> tuple[fsspec.AbstractFileSystem, str]:
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

"""A file while it is downloaded: it survives a killed process, and is renamed when it is whole.

``.NAME.mdetr-part`` beside the target has the bytes so far, ``.NAME.mdetr-part.json`` where they
are from. Bytes without that are another program's, and stay.
"""

import hashlib
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from schemas.decodable import decodable
from shards.atomic import atomic_write, beside

_SYNC_SECONDS = 0.25  # between two writes to disk: what a crash loses
_SYNC_BYTES = 64 << 20
_CHUNK = 1 << 20


class DiskError(Exception):
    """The disk of the downloads cannot be written or read."""


class Origin(msgspec.Struct):
    """Where the bytes of a partial file are from.

    Attributes:
        address: From which the last of them came.
        validator: ETag or time of the remote file, which change with it; empty if it has none.
        total: Size of the remote file; None if its server does not state it.
        synced: How many bytes are on disk for certain; more may be there after a crash.
    """

    address: str = ""
    validator: str = ""
    total: int | None = None
    synced: int = 0


class PartialFile:
    """The bytes of a target so far, with their checksums. Only one process may use it at a time."""

    def __init__(self, target: Path) -> None:
        """Opens the partial file of a target, or creates it.

        Raises:
            DiskError: It cannot be opened or read.
        """
        self.target = target
        self._part, self._origin_path = _part_of(target), _origin_of(target)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._check_ours()
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._file = os.fdopen(os.open(self._part, flags, 0o644), "r+b")
            self.origin = _read_origin(self._origin_path) or Origin()
            self._load()
        except OSError as error:
            raise DiskError(f"{target}: {error.strerror or error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._file.closed:
            try:
                if not isinstance(error, DiskError):
                    self.sync()
            finally:
                self._file.close()

    def continue_from(self, origin: Origin) -> None:
        """States where the following bytes are from."""
        self.origin = msgspec.structs.replace(origin, synced=self.origin.synced)

    def restart(self) -> None:
        """Drops all bytes.

        Raises:
            DiskError: The file cannot be written.
        """
        self.origin = Origin()
        try:
            self._file.seek(0)
            self._file.truncate()
        except OSError as error:
            raise DiskError(f"{self.target}: {error.strerror or error}") from error
        self._begin()
        self.sync()

    def append(self, content: bytes) -> None:
        """Adds bytes at the end.

        Raises:
            DiskError: The disk is full, or cannot be written.
        """
        try:
            self._file.write(content)
        except OSError as error:
            raise DiskError(f"{self.target}: {error.strerror or error}") from error
        self.size += len(content)
        self._sha256.update(content)
        self._md5.update(content)
        unsynced = self.size - self.origin.synced
        if unsynced >= _SYNC_BYTES or time.monotonic() >= self._synced_at + _SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        """Writes all bytes to disk, and then how many they are.

        Raises:
            DiskError: The disk is full, or cannot be written.
        """
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self.origin.synced = self.size
            with atomic_write(self._origin_path) as file:
                file.write(msgspec.json.encode(self.origin))
        except OSError as error:
            raise DiskError(f"{self.target}: {error.strerror or error}") from error
        self._synced_at = time.monotonic()

    def checksums(self) -> dict[str, str]:
        """Returns sha256 and md5 of all bytes."""
        return {"sha256": self._sha256.hexdigest(), "md5": self._md5.hexdigest()}

    @property
    def path(self) -> Path:
        """The path of the bytes; flushed by `sync`."""
        return self._part

    def finish(self) -> None:
        """Renames it to its target, which must not exist.

        Raises:
            DiskError: The target exists by now, or the disk cannot be written.
        """
        self.sync()
        self._file.close()
        try:
            if os.path.lexists(self.target):
                raise DiskError(f"{self.target}: was written by another program meanwhile")
            self._part.rename(self.target)
            _sync_folder(self.target.parent)
            self._origin_path.unlink()
        except OSError as error:
            raise DiskError(f"{self.target}: {error.strerror or error}") from error

    def discard(self) -> None:
        """Deletes it."""
        self._file.close()
        self._part.unlink(missing_ok=True)
        self._origin_path.unlink(missing_ok=True)

    def _begin(self) -> None:
        self.size = 0
        self._sha256, self._md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        self._synced_at = time.monotonic()

    def _load(self) -> None:
        """Reads the bytes of an earlier process up to those that a crash may have left undone."""
        self._begin()
        self._file.truncate(min(self.origin.synced, os.fstat(self._file.fileno()).st_size))
        while content := self._file.read(_CHUNK):
            self.size += len(content)
            self._sha256.update(content)
            self._md5.update(content)
        if self.size < self.origin.synced:
            self.restart()

    def _check_ours(self) -> None:
        """Raises ``DiskError`` if a file has the name of the bytes, and is not of a download.

        The bytes are empty until it is on disk where they are from.
        """
        for path in (self._part, self._origin_path):
            if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
                raise DiskError(f"{path} is not a file of a download: move it away")
        size = self._part.stat().st_size if self._part.exists() else 0
        is_unknown = _read_origin(self._origin_path) is None
        if is_unknown and (size or self._origin_path.exists()):
            foreign = self._origin_path if self._origin_path.exists() else self._part
            raise DiskError(f"{foreign} is not a file of a download: move it away")


def _part_of(target: Path) -> Path:
    return beside(target, "part")


def _origin_of(target: Path) -> Path:
    return beside(target, "part.json")


def _read_origin(path: Path) -> Origin | None:
    """Returns where the bytes of a partial file are from; None if no download wrote it."""
    try:
        content = path.read_bytes()
        origin = msgspec.json.decode(content, type=decodable(Origin))
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return origin if msgspec.json.encode(origin) == content else None


def partial_bytes(target: Path) -> int:
    """Returns how many bytes of a target an earlier download left."""
    part = _part_of(target)
    is_ours = part.is_file() and _read_origin(_origin_of(target)) is not None
    return part.stat().st_size if is_ours else 0


def remove_leftovers(target: Path) -> None:
    """Deletes what a process left that was killed right after it renamed a target."""
    origin = _origin_of(target)
    if target.exists() and not _part_of(target).exists() and _read_origin(origin) is not None:
        origin.unlink()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""A file while it is downloaded: it survives a killed process, and is renamed when it is whole.

``.NAME.part`` beside the target has the bytes so far, ``.NAME.part.json`` where they are from.
"""

import hashlib
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from shards.atomic import atomic_write

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
        self._part = target.with_name(f".{target.name}.part")
        self._origin_path = target.with_name(f".{target.name}.part.json")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            self._file = os.fdopen(descriptor, "r+b")
            self.origin = self._read_origin()
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

    def _read_origin(self) -> Origin:
        try:
            return msgspec.json.decode(self._origin_path.read_bytes(), type=Origin)
        except (FileNotFoundError, msgspec.DecodeError):
            return Origin()


def partial_bytes(target: Path) -> int:
    """Returns how many bytes of a target an earlier download left."""
    part = target.with_name(f".{target.name}.part")
    return part.stat().st_size if part.is_file() else 0


def remove_leftovers(target: Path) -> None:
    """Deletes what a process left that was killed right after it renamed a target."""
    if target.exists() and not target.with_name(f".{target.name}.part").exists():
        target.with_name(f".{target.name}.part.json").unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""A folder of bounded size for remote files, shared by all processes of a machine."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from shards.format.manifest import FileEntry, ShardEntry, ShardError

DEFAULT_FOLDER = Path("~/.cache/grounded-text/shards")
DEFAULT_BYTES = 64 << 30


class Cache:
    """Files named by their sha256; the least recently opened are evicted for new ones.

    ::

        FOLDER/0123456789abcdef-train-00000-of-00064.tar        a complete, verified file
        FOLDER/fedcba9876543210-train-00001-of-00064.tar.part   being fetched, already of full size
        FOLDER/locks/NAME   held by the process that fetches NAME
        FOLDER/locks/room   held by the process that evicts files

    A file that is evicted while a process has it open or mapped stays readable to that process.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder.expanduser()
        self.max_bytes = max_bytes

    def open(self, entry: ShardEntry | FileEntry, download: Callable[[BinaryIO], None]) -> BinaryIO:
        """Opens the file of an entry; ``download`` writes it if it is not cached.

        Raises:
            ShardError: the cache is too small for the file, or its folder cannot be written to (an
                ``OSError`` of ``download``). Other errors of ``download`` propagate.
        """
        path = self._path(entry)
        while True:
            with suppress(FileNotFoundError):
                file = path.open("rb")
                os.utime(file.fileno())  # records the time of its last use
                return file
            try:
                self._fetch(entry, download)
            except OSError as error:
                raise ShardError(
                    f"{entry.file} cannot be written to the cache {self.folder}: {error}"
                ) from error

    def _path(self, entry: ShardEntry | FileEntry) -> Path:
        return self.folder / f"{entry.sha256[:16]}-{Path(entry.file).name}"

    def _fetch(self, entry: ShardEntry | FileEntry, download: Callable[[BinaryIO], None]) -> None:
        path = self._path(entry)
        part = path.with_name(path.name + ".part")
        with self._lock(path.name):
            if path.exists():  # another process fetched it in the meantime
                return
            try:
                while not self._reserve(entry, part):
                    time.sleep(0.1)  # until the files that others fetch are complete
                with part.open("r+b") as file:
                    download(file)
                part.rename(path)
            finally:
                part.unlink(missing_ok=True)

    def _reserve(self, entry: ShardEntry | FileEntry, part: Path) -> bool:
        """Reserves room by evicting files; False if files being fetched leave too little."""
        if entry.bytes > self.max_bytes:
            raise ShardError(
                f"the cache {self.folder} of {self.max_bytes} bytes is too small for "
                f"{entry.file} of {entry.bytes}"
            )
        with self._lock("room"):
            part.unlink(missing_ok=True)  # of a killed process
            files = sorted(self._files())
            total = sum(size for _, size, _ in files) + entry.bytes
            for _, size, path in files:
                if total > self.max_bytes and (path.suffix != ".part" or self._is_stale(path)):
                    path.unlink(missing_ok=True)
                    total -= size
            if total > self.max_bytes:
                return False
            with part.open("wb") as file:
                file.truncate(entry.bytes)  # so that other processes count it
            return True

    def _files(self) -> Iterator[tuple[int, int, Path]]:
        """Yields the time of last use, the bytes and the path of each file."""
        for path in self.folder.iterdir():
            try:
                status = path.stat()
            except FileNotFoundError:  # renamed or evicted since it was listed
                continue
            if path.is_file():
                yield status.st_mtime_ns, status.st_size, path

    def _is_stale(self, part: Path) -> bool:
        """Returns whether the process that fetched a file is dead."""
        try:
            with self._lock(part.name.removesuffix(".part"), fcntl.LOCK_NB):
                return True
        except BlockingIOError:
            return False

    @contextmanager
    def _lock(self, name: str, flags: int = 0) -> Iterator[None]:
        """Holds an exclusive lock between processes and threads; that of a dead process is free."""
        locks = self.folder / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        with (locks / name).open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | flags)
            try:
                yield
            finally:
                # Closing is not enough: a child process forked in the meantime has the file open
                # too.
                fcntl.flock(file, fcntl.LOCK_UN)

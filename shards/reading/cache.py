"""A folder of bounded size for remote files, shared by all processes and users of a machine."""

import errno
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from shards.format.manifest import FileEntry, ShardEntry, ShardError

DEFAULT_FOLDER = Path("~/.cache/grounded-text/shards")
DEFAULT_BYTES = 64 << 30
SUBFOLDER = "mdetr-cache"
MARKER = "CACHEDIR.TAG"  # backup programs leave out folders with one
_MARKER_CONTENT = b"""Signature: 8a477f597d28d172789f06886806bc55
# The cache of mdetr for remote shard sets. It deletes the files that were not read for longest;
# all of them may be deleted at any time.
"""
_NAME = re.compile(r"[0-9a-f]{64}-.+?(?P<part>\.\d+\.part)?")
_READ_ONLY = {errno.EPERM, errno.EACCES, errno.EROFS}


class _CachedFile(NamedTuple):
    """A file of the cache. The least recently used is the smallest."""

    used: int  # the time of its last use, in ns
    bytes: int
    path: Path

    @property
    def is_part(self) -> bool:
        """Whether it is being fetched, or was until its process was killed."""
        match = _NAME.fullmatch(self.path.name)
        return match is not None and match["part"] is not None


class Cache:
    """Files named by their sha256; the least recently opened are evicted for new ones.

    ::

        FOLDER/mdetr-cache/CACHEDIR.TAG                            marks the folder as a cache
        FOLDER/mdetr-cache/SHA256-train-00000-of-00064.tar         a complete, verified file
        FOLDER/mdetr-cache/SHA256-train-00001-of-00064.tar.7.part  being fetched by user 7,
                                                                   already of full size
        FOLDER/mdetr-cache/locks/SHA256-NAME   held by the process that fetches NAME
        FOLDER/mdetr-cache/locks/room          held by the process that evicts files

    Only files with such names are counted and evicted. A file that is evicted while a process has
    it open or mapped stays readable to that process.

    Users who may write to FOLDER share the cache; others read what is in it. In a folder with the
    sticky bit, such as ``/tmp``, each evicts only their own files.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder.expanduser()
        self.max_bytes = max_bytes
        self._files_folder = self.folder / SUBFOLDER

    def path(self, entry: ShardEntry | FileEntry) -> Path:
        """Returns where the file of an entry is, if it is cached."""
        return self._files_folder / f"{entry.sha256}-{entry.file}"

    def open(self, entry: ShardEntry | FileEntry, download: Callable[[BinaryIO], None]) -> BinaryIO:
        """Opens the file of an entry; ``download`` writes it if it is not cached.

        A cached file that does not have the size of the entry is fetched again.

        Raises:
            ShardError: the cache is too small for the file, or its folder cannot be written to (an
                ``OSError`` of ``download``). Other errors of ``download`` propagate.
        """
        try:
            while (file := self._open_cached(entry)) is None:
                self._fetch(entry, download)
        except OSError as error:
            raise ShardError(
                f"{entry.file} cannot be written to the cache {self.folder}: {error}"
            ) from error
        return file

    def discard_damaged(self, entry: ShardEntry | FileEntry) -> bool:
        """Deletes the cached file of an entry unless it has the entry's sha256.

        Returns:
            Whether it should be opened again: it was damaged, or is not cached any more.

        Raises:
            ShardError: it cannot be read or deleted.
        """
        path = self.path(entry)
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                if digest == entry.sha256:
                    return False
                with self._lock(path.name):
                    if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                        path.unlink()
        except FileNotFoundError:
            return True  # another process evicted it
        except OSError as error:
            raise ShardError(
                f"{path} is damaged and cannot be replaced in the cache: {error}"
            ) from error
        return True

    def _open_cached(self, entry: ShardEntry | FileEntry) -> BinaryIO | None:
        """Opens a file of the right size and records the time of its use; None if there is none."""
        try:
            file = self.path(entry).open("rb")
        except FileNotFoundError:
            return None
        if os.fstat(file.fileno()).st_size != entry.bytes:
            file.close()
            return None
        try:
            os.utime(file.fileno())
        except OSError as error:  # it is another user's, whose uses alone count
            if error.errno not in _READ_ONLY:
                file.close()
                raise
        return file

    def _fetch(self, entry: ShardEntry | FileEntry, download: Callable[[BinaryIO], None]) -> None:
        path = self.path(entry)
        part = path.with_name(f"{path.name}.{os.getuid()}.part")
        with self._lock(path.name):
            if (fetched := self._open_cached(entry)) is not None:  # by another process meanwhile
                fetched.close()
                return
            path.unlink(missing_ok=True)  # damaged
            try:
                while not self._reserve(entry, part):
                    time.sleep(0.1)  # until the files that others fetch are complete
                with part.open("r+b") as file:
                    download(file)
                    file.flush()
                    os.fchmod(file.fileno(), 0o644)  # for other users, whatever the umask
                    os.fsync(file.fileno())
                part.rename(path)
            finally:
                part.unlink(missing_ok=True)

    def _reserve(self, entry: ShardEntry | FileEntry, part: Path) -> bool:
        """Reserves room by evicting files; False if files being fetched leave too little.

        Raises:
            ShardError: the cache is too small, with the files that cannot be evicted.
        """
        if entry.bytes > self.max_bytes:
            raise ShardError(
                f"the cache {self.folder} of {self.max_bytes} bytes is too small for "
                f"{entry.file} of {entry.bytes}"
            )
        with self._lock("room"):
            part.unlink(missing_ok=True)  # of a killed process
            files = sorted(self._files())
            total = sum(file.bytes for file in files) + entry.bytes
            fetching = 0
            for file in files:
                if total <= self.max_bytes:
                    break
                if file.is_part and not self._is_stale(file.path):
                    fetching += file.bytes
                elif _evict(file.path):
                    total -= file.bytes
            if total - fetching > self.max_bytes:
                raise ShardError(
                    f"the cache {self.folder} of {self.max_bytes} bytes has no room for "
                    f"{entry.file} of {entry.bytes}: the rest are files of other users"
                )
            if total > self.max_bytes:
                return False
            with part.open("wb") as reserved:
                reserved.truncate(entry.bytes)  # so that other processes count it
            return True

    def _files(self) -> Iterator[_CachedFile]:
        """Yields the files of the cache, and no others that are in its folder."""
        for path in self._files_folder.iterdir():
            if not _NAME.fullmatch(path.name) or path.is_symlink():
                continue
            try:
                status = path.stat()
            except FileNotFoundError:  # renamed or evicted since it was listed
                continue
            if path.is_file():
                yield _CachedFile(status.st_mtime_ns, status.st_size, path)

    def _is_stale(self, part: Path) -> bool:
        """Returns whether the process that fetched a file is dead."""
        name, _, _ = part.name.removesuffix(".part").rpartition(".")
        try:
            with self._lock(name, fcntl.LOCK_NB):
                return True
        except BlockingIOError:
            return False

    @contextmanager
    def _lock(self, name: str, flags: int = 0) -> Iterator[None]:
        """Holds an exclusive lock between processes and threads; that of a dead process is free."""
        self._make_folders()
        file = _open_lock(self._files_folder / "locks" / name)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | flags)
            yield
        finally:
            # Closing is not enough: a child process forked in the meantime has the file open too.
            fcntl.flock(file, fcntl.LOCK_UN)
            os.close(file)

    def _make_folders(self) -> None:
        """Makes the folders of the cache, for the users who may write to that of the caller.

        Raises:
            ShardError: another program has a folder of the cache's name.
            OSError: they cannot be made.
        """
        if self._is_marked():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        mode = self.folder.stat().st_mode & 0o7777
        for folder in (self._files_folder, self._files_folder / "locks"):
            with suppress(FileExistsError):
                folder.mkdir()
                folder.chmod(mode)
        names = sorted({path.name for path in self._files_folder.iterdir()} - {"locks"})
        if names and not self._is_marked():  # unless another process has just marked it
            raise ShardError(
                f"{self._files_folder} has {names[0]} and no {MARKER} of this program: it is not a "
                "cache; choose another folder"
            )
        with suppress(FileExistsError), (self._files_folder / MARKER).open("xb") as marker:
            marker.write(_MARKER_CONTENT)
            os.fchmod(marker.fileno(), 0o644)

    def _is_marked(self) -> bool:
        try:
            content = (self._files_folder / MARKER).read_bytes()
        except FileNotFoundError:
            return False
        return _MARKER_CONTENT.startswith(content)  # it may not be written completely


def _evict(path: Path) -> bool:
    """Deletes a file; returns False if it is another user's, in a folder with the sticky bit."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        if error.errno not in _READ_ONLY:
            raise
        return False
    return True


def _open_lock(path: Path) -> int:
    """Opens a lock file, which any user may lock.

    With ``O_CREAT`` Linux does not open another user's file in a folder with the sticky bit.
    """
    while True:
        with suppress(FileNotFoundError):
            return os.open(path, os.O_RDWR)
        with suppress(FileExistsError):
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            os.fchmod(file, 0o666)  # whatever the umask
            return file

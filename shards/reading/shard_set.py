"""An opened shard set, local or remote: its manifest, its index and its files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from schemas import arrow
from shards.format import manifest as mf
from shards.format.index import IndexRow, read_rows
from shards.format.manifest import FileEntry, NotAShardSetError, ShardEntry, ShardError
from shards.reading.cache import DEFAULT_BYTES, DEFAULT_FOLDER, Cache
from shards.reading.remote import RemoteFolder, Retries


class ShardSet:
    """A shard set: its manifest, and access to its files. Small and picklable.

    ``ShardSet.open("build/demo/shards").pairs("train")`` is the number of its training pairs.
    """

    def __init__(
        self, location: str, manifest: mf.Manifest, remote: RemoteFolder | None, cache: Cache
    ) -> None:
        self.location = location
        self.manifest = manifest
        self.shards: list[ShardEntry] = manifest.shards
        self._files = {entry.file: entry for entry in manifest.files}
        self._remote = remote
        self._cache = cache

    @classmethod
    def open(
        cls,
        location: str | Path,
        *,
        cache: str | Path = DEFAULT_FOLDER,
        cache_bytes: int = DEFAULT_BYTES,
        options: Mapping[str, Any] | None = None,
        retries: Retries | None = None,
    ) -> "ShardSet":
        """Opens a local folder, or a remote one at a URL that fsspec supports.

        Args:
            cache: folder for the files of remote sets.
            cache_bytes: maximum size of the cache.
            options: of fsspec's file system (credentials, endpoints).
            retries: how often a remote file is requested.

        Raises:
            NotAShardSetError: it has no manifest that this version can read.
            ShardError: the manifest could not be fetched.
        """
        location = str(location)
        file_cache = Cache(Path(cache), cache_bytes)
        if "://" not in location:
            return cls(location, mf.load(location), None, file_cache)
        remote = RemoteFolder(location, options or {}, retries or Retries())
        try:
            content = remote.read(mf.NAME)
        except FileNotFoundError:
            raise NotAShardSetError(f"{location} is not a shard set: it has no {mf.NAME}") from None
        return cls(location, mf.decode(content, location), remote, file_cache)

    def name_of(self, shard: int) -> str:
        """Returns a shard's name in messages: the set's location, its file and the cached file."""
        entry = self.shards[shard]
        cached = f" (cached as {self._cache.path(entry)})" if self.is_remote else ""
        return f"{self.location}: {entry.file}{cached}"

    def shards_of(self, split: str) -> list[int]:
        """Returns the shards of a split that have pairs, as indices of `shards`.

        Raises:
            ValueError: there is no such split.
        """
        indices = [i for i, entry in enumerate(self.shards) if entry.split == split]
        if not indices:
            splits = ", ".join(sorted({entry.split for entry in self.shards}))
            raise ValueError(f"{self.location} has no split {split!r}; it has {splits}")
        return [i for i in indices if self.shards[i].captions]

    def pairs(self, split: str) -> int:
        """Returns the number of pairs of image and caption of a split."""
        return sum(self.shards[i].captions for i in self.shards_of(split))

    def rows(self, shard: int, columns: Sequence[str]) -> pa.Table:
        """Returns columns of the index (`schemas.arrow.INDEX`), one row per image of a shard.

        Raises:
            ShardError: the index of the shard is missing, or is not what the manifest states.
        """
        entry = self.shards[shard]
        with self._open_verified(entry.index) as file:
            try:
                return read_rows(file, entry, columns)
            except ShardError as error:
                raise ShardError(f"{self.location}: {error}") from error

    def index_rows(self, shard: int) -> list[IndexRow]:
        """Returns the rows of the index for the images of a shard.

        Raises:
            ShardError: see `rows`.
        """
        return [IndexRow(**row) for row in self.rows(shard, arrow.INDEX.names).to_pylist()]

    def open_shard(self, shard: int, *, verified: bool = False) -> BinaryIO:
        """Opens the tar of a shard; fetches a remote one first, unless it is in the cache.

        Args:
            shard: index in `shards`.
            verified: also verify the cached file, and fetch it anew if it is damaged.

        Raises:
            ShardError: it is missing, or is not what the manifest states.
        """
        entry = self.shards[shard]
        return self._open_verified(entry) if verified else self._open(entry)

    def discard_damaged(self, shard: int) -> bool:
        """Deletes the cached tar of a remote shard if it is damaged.

        Returns:
            Whether it was, so that opening it again fetches it anew.

        Raises:
            ShardError: it cannot be deleted.
        """
        return self.is_remote and self._cache.discard_damaged(self.shards[shard])

    def open_file(self, name: str) -> BinaryIO:
        """Opens a file beside the shards, such as ``stats.json``; see `open_shard`.

        That of a remote set is verified, and fetched anew if the cached one is damaged.

        Raises:
            ShardError: as in `open_shard`, or the manifest does not name it.
        """
        entry = self._files.get(name)
        if entry is None:
            raise ShardError(f"the manifest of {self.location} names no {name}")
        return self._open_verified(entry)

    def open_entry(self, entry: FileEntry) -> BinaryIO:
        """Opens a file of the manifest that is no shard; see `open_file`."""
        return self._open_verified(entry)

    @property
    def is_remote(self) -> bool:
        """Whether the set is remote."""
        return self._remote is not None

    @property
    def cache_bytes(self) -> int:
        """The size limit of the cache."""
        return self._cache.max_bytes

    def _open_verified(self, entry: ShardEntry | FileEntry) -> BinaryIO:
        file = self._open(entry)
        if self.is_remote and self._cache.discard_damaged(entry):
            file.close()
            return self._open(entry)
        return file

    def _open(self, entry: ShardEntry | FileEntry) -> BinaryIO:
        if self._remote is not None:
            remote = self._remote
            return self._cache.open(entry, lambda to: remote.download(entry, to))
        path = Path(self.location) / entry.file
        try:
            file = path.open("rb")
        except OSError as error:
            raise ShardError(f"{path} cannot be opened: {error.strerror}") from error
        size = path.stat().st_size
        if size != entry.bytes:
            file.close()
            raise ShardError(f"{path} has {size} bytes, the manifest states {entry.bytes}")
        return file

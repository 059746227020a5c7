"""A shard set that the threads of the server share."""

import threading
from typing import NamedTuple

from schemas import Sample
from shards.reading.reader import ShardReader
from shards.reading.shard_set import ShardSet


class IndexedCaptions(NamedTuple):
    """Columns of the index about an image: its captions, all their regions, their datasets."""

    captions: int
    regions: int
    datasets: list[str]


class ImageOrigin(NamedTuple):
    """Columns of the index about an image: the ids of its licenses, and its address on the web."""

    licenses: list[int]
    url: str


class LockedStore:
    """A `ShardReader` and the index behind a lock, which is held while one sample is read.

    Raises:
        ShardError: all of its methods do, as those of `ShardReader` and `ShardSet.rows`.
    """

    def __init__(self, shards: ShardSet) -> None:
        self.shards = shards
        self._reader = ShardReader(shards)
        self._lock = threading.Lock()

    def rows(self, shard: int) -> list[IndexedCaptions]:
        """Returns the index rows of a shard, one per image."""
        with self._lock:
            table = self.shards.rows(shard, IndexedCaptions._fields)
        columns = (table[name].to_pylist() for name in IndexedCaptions._fields)
        return [IndexedCaptions(*values) for values in zip(*columns, strict=True)]

    def origin(self, shard: int, row: int) -> ImageOrigin:
        """Returns where the image of a shard's ``row``-th sample is from."""
        with self._lock:
            table = self.shards.rows(shard, ImageOrigin._fields)
        return ImageOrigin(*(table[name][row].as_py() for name in ImageOrigin._fields))

    def open(self, shard: int) -> None:
        """Opens a shard, which downloads a remote one."""
        with self._lock:
            self._reader.open(shard)

    def sample(self, shard: int, row: int) -> Sample:
        """Returns a sample with its captions."""
        with self._lock:
            return self._reader.sample(shard, row)

    def image(self, shard: int, row: int) -> memoryview:
        """Returns the original bytes of an image."""
        with self._lock:
            return self._reader.image(shard, row).content

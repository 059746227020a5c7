"""A shard set that several threads read, one at a time."""

import threading
from typing import NamedTuple

from schemas import Sample
from shards.reading.reader import Store
from shards.reading.shard_set import ShardSet


class Row(NamedTuple):
    """What the index says of an image: its captions, their regions in all, and its data sets."""

    captions: int
    regions: int
    datasets: list[str]


class SharedStore:
    """A `Store` and the index behind a lock, which is held while a sample is read, not longer.

    Raises:
        ShardError: all of its methods do, as those of `Store` and `ShardSet.rows`.
    """

    def __init__(self, shards: ShardSet) -> None:
        self.shards = shards
        self._store = Store(shards)
        self._lock = threading.Lock()

    def rows(self, shard: int) -> list[Row]:
        """One row an image of the shard."""
        with self._lock:
            table = self.shards.rows(shard, Row._fields)
        columns = (table[name].to_pylist() for name in Row._fields)
        return [Row(*values) for values in zip(*columns, strict=True)]

    def open(self, shard: int) -> None:
        with self._lock:
            self._store.open(shard)

    def sample(self, shard: int, row: int) -> Sample:
        with self._lock:
            return self._store.sample(shard, row)

    def image(self, shard: int, row: int) -> memoryview:
        with self._lock:
            return self._store.image(shard, row).content

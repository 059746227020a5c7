"""Fetches remote shards before they are needed."""

import threading
from collections.abc import Sequence

from shards.reading.shard_set import ShardSet
from shards.sampling.sample_order import SampleOrder


class Prefetcher:
    """A thread that fetches remote shards into the cache, in the order in which they are needed.

    It prefetches at most half of the cache, so that it does not evict shards in use. Several
    processes of a machine may each have one: the first that needs a shard fetches it.
    """

    def __init__(self, order: SampleOrder, sets: Sequence[ShardSet]) -> None:
        self._order = order
        self._sets = sets
        caches = [shards.cache_bytes for shards in sets if shards.is_remote]
        self._budget = min(caches, default=0) // 2  # bytes
        self._position: tuple[int, int] | None = None
        self._changed = threading.Event()
        self._error: Exception | None = None
        self._thread: threading.Thread | None = None

    def advance(self, epoch: int, position: int) -> None:
        """Reports the current position of the stream; starts the thread at the first call.

        Raises:
            ShardError: a shard could not be fetched since the last call.
        """
        if self._error is not None:
            raise self._error
        if not self._budget:
            return
        self._position = epoch, position
        self._changed.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Ends the thread, after the shard that it is fetching."""
        self._position = None
        self._changed.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        planned: tuple[int, int] | None = None
        next_block = 0.0  # position where the block after that of the planned position begins
        try:
            while self._changed.wait() and (position := self._position) is not None:
                self._changed.clear()
                if planned and position[0] == planned[0] and position[1] < next_block:
                    continue
                to_fetch, distance = self._plan(*position)
                planned, next_block = position, position[1] + distance
                for shard_set, shard in to_fetch:
                    if self._position is None:
                        return
                    # Opening also marks a cached shard as recently used.
                    self._sets[shard_set].open_shard(shard).close()
        except Exception as error:  # raised where the stream is read
            self._error = error

    def _plan(self, epoch: int, position: int) -> tuple[list[tuple[int, int]], float]:
        """Returns what to fetch at a position, and the distance in pairs to the next block.

        To fetch are the remote shards, as (shard set, shard), that are needed next, as many as fit
        into the budget.
        """
        to_fetch: dict[tuple[int, int], None] = {}
        size, next_block = 0, float("inf")
        for upcoming in self._order.upcoming_shards(epoch, position):
            if upcoming.distance > 0:
                next_block = min(next_block, upcoming.distance)
            shards, key = self._sets[upcoming.shard_set], (upcoming.shard_set, upcoming.shard)
            if shards.is_remote and key not in to_fetch:
                size += shards.shards[upcoming.shard].bytes
                if size > self._budget:
                    break
                to_fetch[key] = None
            if upcoming.distance > self._order.pairs:
                break  # every shard was yielded once
        return list(to_fetch), next_block

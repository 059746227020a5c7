"""Fetching the shards that will be needed, before they are."""

import threading
from collections.abc import Sequence

from shards.reading.shard_set import ShardSet
from shards.sampling.sample_order import Order


class ReadAhead:
    """A thread that fetches remote shards into the cache, in the order in which they are needed.

    It goes half a cache far, so that what it fetches does not drive out what is in use. Several
    processes of a machine may each have one: a shard is fetched by the first that asks for it.
    """

    def __init__(self, order: Order, sets: Sequence[ShardSet]) -> None:
        self._order = order
        self._sets = sets
        self._budget = min((of.cache_bytes // 2 for of in sets if of.is_remote), default=0)
        self._position: tuple[int, int] | None = None
        self._changed = threading.Event()
        self._error: Exception | None = None
        self._thread: threading.Thread | None = None

    def at(self, epoch: int, position: int) -> None:
        """Tells where the stream has come to.

        Raises:
            ShardError: a shard could not be fetched since the last time.
        """
        if self._error is not None:
            raise self._error
        if not self._budget:
            return
        self._position = epoch, position
        self._changed.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="read-ahead", daemon=True)
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
        until = 0.0  # the position where the next block begins
        try:
            while self._changed.wait() and (position := self._position) is not None:
                self._changed.clear()
                if planned is not None and position[0] == planned[0] and position[1] < until:
                    continue
                wanted, distance = self._wanted(*position)
                planned, until = position, position[1] + distance
                for number, shard in wanted:
                    if self._position is None:
                        return
                    self._sets[number].open_shard(shard).close()  # marks it as used lately, too
        except Exception as error:  # raised where the stream is read
            self._error = error

    def _wanted(self, epoch: int, position: int) -> tuple[list[tuple[int, int]], float]:
        """The remote shards from a position on, as many as the budget has room for, and after how
        many pairs the first of them beyond what is being read is needed.
        """
        wanted: dict[tuple[int, int], None] = {}
        size, next_block = 0, float("inf")
        for found in self._order.ahead(epoch, position):
            if found.distance > 0:
                next_block = min(next_block, found.distance)
            shards = self._sets[found.set]
            if shards.is_remote and (found.set, found.shard) not in wanted:
                size += shards.shards[found.shard].bytes
                if size > self._budget:
                    break
                wanted[found.set, found.shard] = None
            if found.distance > self._order.pairs:
                break  # all have been seen
        return list(wanted), next_block

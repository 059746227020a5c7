"""Rearranges an order into batches of images of similar aspect ratio, which need less padding.

A window of a few global batches is sorted by aspect ratio and divided into batches again, which are
then permuted: the order stays a pure function of seed and epoch, the same for any number of ranks.
"""

from collections.abc import Iterator

import numpy as np

from shards.sampling.sample_order import (
    RandomStream,
    SampleIndices,
    SampleOrder,
    UpcomingShard,
    permutation,
)


class AspectBucketOrder:
    """``order`` with the pairs of every ``window`` global batches sorted by width over height.

    Raises:
        ValueError: ``global_batch_size`` or ``window`` is less than 1.
    """

    def __init__(
        self, order: SampleOrder, global_batch_size: int, *, seed: int, window: int = 16
    ) -> None:
        if global_batch_size < 1 or window < 1:
            raise ValueError(f"windows of {window} batches of {global_batch_size} pairs")
        self._order = order
        self._batch_size = global_batch_size
        self._window = window * global_batch_size
        self._seed = seed
        self._cached: tuple[tuple[int, int], SampleIndices] | None = None

    @property
    def pairs(self) -> int:
        """The number of pairs of an epoch of ``order``."""
        return self._order.pairs

    def indices(self, epoch: int, start: int, stop: int) -> SampleIndices:
        """See `SampleOrder.indices`; raises the errors of ``order.indices``."""
        first, last = start // self._window, -(-stop // self._window)
        indices = np.concatenate([self._sorted_window(epoch, i) for i in range(first, last)])
        return indices[start - first * self._window : stop - first * self._window]

    def upcoming_shards(self, epoch: int, position: int) -> Iterator[UpcomingShard]:
        """See `SampleOrder.upcoming_shards`; those of a position's whole window come first."""
        return self._order.upcoming_shards(epoch, position // self._window * self._window)

    def _sorted_window(self, epoch: int, window: int) -> SampleIndices:
        """Returns the pairs of a window; caches it for the next positions."""
        if self._cached is not None and self._cached[0] == (epoch, window):
            return self._cached[1]
        start = window * self._window
        indices = self._order.indices(epoch, start, min(start + self._window, self.pairs))
        batches = len(indices) // self._batch_size
        # the rest is an incomplete batch
        whole, rest = np.split(indices, [batches * self._batch_size])
        whole = whole[np.argsort(whole["width"] / whole["height"], kind="stable")]
        order = permutation(batches, self._seed, RandomStream.BATCHES, epoch, window)
        whole = whole.reshape(batches, self._batch_size)[order].reshape(-1)
        self._cached = (epoch, window), np.concatenate([whole, rest])
        return self._cached[1]

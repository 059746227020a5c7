"""Batches of images of like shape, which need less padding, out of any order.

A window of a few global batches is sorted by aspect ratio and cut into batches again, which are
then permuted: the order stays a pure function of seed and epoch, and the same for every world size.
"""

from collections.abc import Iterator

import numpy as np

from shards.sampling.sample_order import Ahead, Draw, Order, SampleIndices, permutation


class AspectOrder:
    """``order`` with the pairs of every ``window`` global batches sorted by width over height.

    Raises:
        ValueError: a global batch or a window of less than one.
    """

    def __init__(self, order: Order, global_batch: int, *, seed: int, window: int = 16) -> None:
        if global_batch < 1 or window < 1:
            raise ValueError(f"windows of {window} batches of {global_batch} pairs")
        self._order = order
        self._batch = global_batch
        self._window = window * global_batch
        self._seed = seed
        self._at_hand: tuple[tuple[int, int], SampleIndices] | None = None

    @property
    def pairs(self) -> int:
        return self._order.pairs

    def places(self, epoch: int, start: int, stop: int) -> SampleIndices:
        first, last = start // self._window, -(-stop // self._window)
        found = np.concatenate([self._sorted(epoch, i) for i in range(first, last)])
        return found[start - first * self._window : stop - first * self._window]

    def ahead(self, epoch: int, position: int) -> Iterator[Ahead]:
        return self._order.ahead(epoch, position // self._window * self._window)

    def _sorted(self, epoch: int, window: int) -> SampleIndices:
        """The places of a window; kept, because the next positions are in it too."""
        if self._at_hand is not None and self._at_hand[0] == (epoch, window):
            return self._at_hand[1]
        start = window * self._window
        places = self._order.places(epoch, start, min(start + self._window, self.pairs))
        batches = len(places) // self._batch
        whole, rest = np.split(places, [batches * self._batch])  # the rest is no global batch
        whole = whole[np.argsort(whole["width"] / whole["height"], kind="stable")]
        order = permutation(batches, self._seed, Draw.BATCHES, epoch, window)
        whole = whole.reshape(batches, self._batch)[order].reshape(-1)
        self._at_hand = (epoch, window), np.concatenate([whole, rest])
        return self._at_hand[1]

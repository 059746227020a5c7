"""Several shard sets as one stream, in fixed proportions.

Positions are taken in chunks of 10,000 slots. Every chunk gives each set the same number of its
slots, in a random order; the n-th slot of set i, over all chunks, is the n-th pair of set i. The
epochs of a set follow one another, independently of the other sets::

    chunk      0            1
    slots      aabacaab...  baaacaba...
    set a      01 2 34 ...
"""

from collections.abc import Collection, Iterator, Sequence
from heapq import merge

import numpy as np
import numpy.typing as npt

from shards.reading.shard_set import ShardSet
from shards.sampling.sample_order import (
    INDEX_DTYPE,
    PairOrder,
    RandomStream,
    SampleIndices,
    UpcomingShard,
    permutation,
)

_CHUNK = 10_000


class MixtureOrder:
    """The order of a mixture; its epoch has as many pairs as the splits of all sets together.

    Args:
        splits: one for each set.
        weights: the sets' shares of the pairs, which need not add up to 1; by default the sizes
            of the splits.
        replayed: the positions of sets whose sizes do not count: an epoch is as long as the others
            need for as many pairs as they have, and the replayed ones fill their shares of it.

    Raises:
        ValueError: there is not one split or not one positive weight for each set, a set has no
            such split, a weight is less than a ten-thousandth of all, or all sets are replayed.
    """

    def __init__(
        self,
        sets: Sequence[ShardSet],
        splits: Sequence[str],
        *,
        seed: int,
        weights: Sequence[float] | None = None,
        replayed: Collection[int] = (),
        block_shards: int = 16,
        captions_per_image: int = 1,
    ) -> None:
        if len(splits) != len(sets):
            raise ValueError(f"{len(splits)} splits of {len(sets)} shard sets")
        self._orders = [
            PairOrder(
                shards,
                split,
                seed=seed,
                block_shards=block_shards,
                captions_per_image=captions_per_image,
                number=i,
            )
            for i, (shards, split) in enumerate(zip(sets, splits, strict=True))
        ]
        self._quotas = quotas(weights or [order.pairs for order in self._orders], len(sets))
        self._slots = np.repeat(np.arange(len(sets)), self._quotas)
        self._seed = seed
        counted = [i for i in range(len(sets)) if i not in replayed]
        if not counted:
            raise ValueError("all sets are replayed, so an epoch has no length")
        slots, pairs = self._quotas[counted].sum(), sum(self._orders[i].pairs for i in counted)
        self._pairs = max(1, round(pairs * _CHUNK / int(slots)))

    @property
    def pairs(self) -> int:
        """The number of pairs of an epoch: of all splits together, unless sets are replayed."""
        return self._pairs

    def indices(self, epoch: int, start: int, stop: int) -> SampleIndices:
        """See `SampleOrder.indices`; raises the errors of `PairOrder.indices`."""
        first = epoch * self.pairs
        sets, ranks = self._slot_range(first + start, first + stop)
        indices = np.empty(stop - start, INDEX_DTYPE)
        for i, order in enumerate(self._orders):
            is_of_set = sets == i
            indices[is_of_set] = _consecutive_pairs(order, ranks[is_of_set])
        return indices

    def upcoming_shards(self, epoch: int, position: int) -> Iterator[UpcomingShard]:
        """See `SampleOrder.upcoming_shards`; distances are rounded to chunks."""
        chunk, slots = divmod(epoch * self.pairs + position, _CHUNK)
        # A set has as many slots before its next one as before the position.
        before = np.bincount(self._sets_of_chunk(chunk)[:slots], minlength=len(self._orders))
        ranks = chunk * self._quotas + before
        return merge(*(self._upcoming_of_set(i, rank) for i, rank in enumerate(ranks.tolist())))

    def _upcoming_of_set(self, i: int, rank: int) -> Iterator[UpcomingShard]:
        """Yields the shards of set i from its ``rank``-th pair on, distances in pairs of all."""
        scale = _CHUNK / int(self._quotas[i])
        epoch, position = divmod(rank, self._orders[i].pairs)
        for upcoming in self._orders[i].upcoming_shards(epoch, position):
            yield upcoming._replace(distance=upcoming.distance * scale)

    def _slot_range(
        self, start: int, stop: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Returns for each slot of a range its set, and its rank among the slots of that set."""
        set_chunks, rank_chunks = [], []
        for chunk in range(start // _CHUNK, -(-stop // _CHUNK)):
            sets = self._sets_of_chunk(chunk)
            ranks = np.empty(_CHUNK, np.int64)
            for i, quota in enumerate(self._quotas.tolist()):
                ranks[sets == i] = chunk * quota + np.arange(quota)
            first = chunk * _CHUNK
            within = slice(max(start - first, 0), stop - first)
            set_chunks.append(sets[within])
            rank_chunks.append(ranks[within])
        return np.concatenate(set_chunks), np.concatenate(rank_chunks)

    def _sets_of_chunk(self, chunk: int) -> npt.NDArray[np.int64]:
        """Returns the set of each slot of a chunk."""
        return self._slots[permutation(_CHUNK, self._seed, RandomStream.SLOTS, chunk)]


def quotas(weights: Sequence[float], sets: int) -> npt.NDArray[np.int64]:
    """Returns how many slots of a chunk each set has: its share, rounded so that they add up.

    Raises:
        ValueError: see `MixtureOrder`.

    >>> quotas([3, 1], 2).tolist(), quotas([1, 1, 1], 3).tolist()
    ([7500, 2500], [3333, 3334, 3333])
    """
    if len(weights) != sets or not all(0 < weight < np.inf for weight in weights):
        raise ValueError(f"{list(weights)} are not positive weights of {sets} shard sets")
    shares = np.cumsum(np.array(weights, np.float64) / sum(weights))
    slots = np.diff(np.rint(shares * _CHUNK), prepend=0).astype(np.int64)
    if not slots.all():
        raise ValueError(f"one of the weights {list(weights)} is too small for any pair")
    return slots


def _consecutive_pairs(order: PairOrder, ranks: npt.NDArray[np.int64]) -> SampleIndices:
    """Returns the pairs of consecutive ranks, which may go on from one epoch into the next."""
    parts = [np.empty(0, INDEX_DTYPE)]
    if len(ranks):
        start, stop = int(ranks[0]), int(ranks[-1]) + 1
        for epoch in range(start // order.pairs, -(-stop // order.pairs)):
            first = epoch * order.pairs
            last = min(stop - first, order.pairs)
            parts.append(order.indices(epoch, max(start - first, 0), last))
    return np.concatenate(parts)

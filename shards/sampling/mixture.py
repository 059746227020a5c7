"""Several shard sets as one stream, in fixed proportions.

Positions are taken in chunks of 10,000. Every chunk gives each set the same number of its slots,
in an order of its own; the n-th slot of set i, over all chunks, is the n-th pair of set i, whose
epochs follow one another however the others' do::

    chunk      0            1
    slots      aabacaab...  baaacaba...
    set a      01 2 34 ...
"""

from collections.abc import Iterator, Sequence
from heapq import merge

import numpy as np
import numpy.typing as npt

from shards.reading.shard_set import ShardSet
from shards.sampling.sample_order import PLACES, Ahead, Draw, PairOrder, SampleIndices, permutation

_CHUNK = 10_000


class MixedOrder:
    """The order of a mixture. An epoch of it is as long as those of all its sets together.

    ``splits`` are those that are taken, one for each set. ``weights`` are the sets' shares of the
    pairs, whatever their sum; those of the splits' sizes where None.

    Raises:
        ValueError: there is not one split for each set, or none of that name in its set, or not
            one positive weight for each set, or one is less than a ten-thousandth of all.
    """

    def __init__(
        self,
        sets: Sequence[ShardSet],
        splits: Sequence[str],
        *,
        seed: int,
        weights: Sequence[float] | None = None,
        block_shards: int = 16,
        together: int = 1,
    ) -> None:
        if len(splits) != len(sets):
            raise ValueError(f"{len(splits)} splits of {len(sets)} shard sets")
        self._orders = [
            PairOrder(of, split, seed=seed, block_shards=block_shards, together=together, number=i)
            for i, (of, split) in enumerate(zip(sets, splits, strict=True))
        ]
        self._quotas = quotas(weights or [order.pairs for order in self._orders], len(sets))
        self._slots = np.repeat(np.arange(len(sets)), self._quotas)
        self._seed = seed

    @property
    def pairs(self) -> int:
        return sum(order.pairs for order in self._orders)

    def places(self, epoch: int, start: int, stop: int) -> SampleIndices:
        first = epoch * self.pairs
        sets, ranks = self._slots_of(first + start, first + stop)
        places = np.empty(stop - start, PLACES)
        for i, order in enumerate(self._orders):
            mine = sets == i
            places[mine] = _run(order, ranks[mine])
        return places

    def ahead(self, epoch: int, position: int) -> Iterator[Ahead]:
        first = epoch * self.pairs + position
        sets, ranks = self._slots_of(first, first + _CHUNK)  # every set has a slot among them
        return merge(
            *(self._ahead_of(i, int(ranks[np.argmax(sets == i)])) for i in range(len(self._orders)))
        )

    def _ahead_of(self, i: int, rank: int) -> Iterator[Ahead]:
        """What set i needs from its ``rank``-th pair on, at distances in pairs of the mixture."""
        scale = _CHUNK / int(self._quotas[i])
        epoch, position = divmod(rank, self._orders[i].pairs)
        for found in self._orders[i].ahead(epoch, position):
            yield found._replace(distance=found.distance * scale)

    def _slots_of(
        self, start: int, stop: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The set of each slot of a range, and which of that set's pairs it takes."""
        parts = []
        for chunk in range(start // _CHUNK, -(-stop // _CHUNK)):
            sets = self._slots[permutation(_CHUNK, self._seed, Draw.SLOTS, chunk)]
            ranks = np.empty(_CHUNK, np.int64)
            for i, quota in enumerate(self._quotas.tolist()):
                ranks[sets == i] = chunk * quota + np.arange(quota)
            first = chunk * _CHUNK
            within = slice(max(start - first, 0), stop - first)
            parts.append((sets[within], ranks[within]))
        return np.concatenate([s for s, _ in parts]), np.concatenate([r for _, r in parts])


def quotas(weights: Sequence[float], sets: int) -> npt.NDArray[np.int64]:
    """How many of a chunk's slots each set has: its share, rounded so that they add up.

    >>> quotas([3, 1], 2).tolist(), quotas([1, 1, 1], 3).tolist()
    ([7500, 2500], [3333, 3334, 3333])
    """
    if len(weights) != sets or not all(0 < weight < np.inf for weight in weights):
        raise ValueError(f"{list(weights)} are not positive weights of {sets} shard sets")
    shares = np.cumsum(np.array(weights, np.float64) / sum(weights))
    found = np.diff(np.rint(shares * _CHUNK), prepend=0).astype(np.int64)
    if not found.all():
        raise ValueError(f"one of the weights {list(weights)} is too small for any pair")
    return found


def _run(order: PairOrder, ranks: npt.NDArray[np.int64]) -> SampleIndices:
    """The places of consecutive pairs of a set, which may go on from one epoch into the next."""
    parts = [np.empty(0, PLACES)]
    if len(ranks):
        start, stop = int(ranks[0]), int(ranks[-1]) + 1
        for epoch in range(start // order.pairs, -(-stop // order.pairs)):
            first = epoch * order.pairs
            parts.append(order.places(epoch, max(start - first, 0), min(stop - first, order.pairs)))
    return np.concatenate(parts)

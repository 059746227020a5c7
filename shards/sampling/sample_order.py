"""The order in which the pairs of a shard set are seen: a pure function of seed and epoch.

::

    epoch:    shards permuted       7 2 | 5 0 | 3 1 | 6 4          blocks of ``block_shards``
              pairs of each block   ....|....|....|....            permuted within the block
    position: 0 ------------------------------------> pairs

Any position is found by looking at one block, so nothing has to be read to get there.
"""

from collections import OrderedDict
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from shards.format.manifest import ShardError
from shards.reading.shard_set import ShardSet

#: Where a pair lies, and what its image measures: ``set`` of a mixture, ``shard`` of the
#: manifest, ``row`` of the shard's index, ``number`` of the caption.
PLACES = np.dtype(
    [(name, np.int32) for name in ("set", "shard", "row", "number", "width", "height")]
)

SampleIndices = npt.NDArray[np.void]

_BLOCKS_AT_HAND = 3


class Draw(IntEnum):
    """What chance is used for: the first number of a key, so that no two uses share a stream."""

    SHARDS = 0
    PAIRS = 1
    SLOTS = 2
    BATCHES = 3
    SAMPLE = 4


class Ahead(NamedTuple):
    """A shard that will be needed, and after how many more pairs."""

    distance: float
    set: int
    shard: int


class Order(Protocol):
    """Positions 0 <= position < ``pairs`` of every epoch, and what lies there."""

    @property
    def pairs(self) -> int: ...

    def places(self, epoch: int, start: int, stop: int) -> SampleIndices:
        """The places of positions ``start`` to ``stop``."""

    def ahead(self, epoch: int, position: int) -> Iterator[Ahead]:
        """The shards that are needed from a position on, without end, the next first."""


class PairOrder:
    """The order of one split of one shard set: each epoch sees each pair once.

    Args:
        block_shards: of so many shards at a time the pairs are permuted.
        together: so many captions of an image follow one another, where it has as many.
        number: the set's place in a mixture, which makes its order independent of the others'.

    Raises:
        ValueError: the split is unknown or has no pairs, blocks of less than one shard, or less
            than one caption together.
    """

    def __init__(
        self,
        shards: ShardSet,
        split: str,
        *,
        seed: int,
        block_shards: int = 16,
        together: int = 1,
        number: int = 0,
    ) -> None:
        if block_shards < 1:
            raise ValueError(f"block_shards is {block_shards}, less than one shard")
        if together < 1:
            raise ValueError(f"{together} captions together, less than one")
        self._set = shards
        self._shards = np.array(shards.shards_of(split), np.int64)
        if not len(self._shards):
            raise ValueError(f"split {split!r} of {shards.location} has no pairs")
        self._pairs = np.array([shards.shards[i].captions for i in self._shards], np.int64)
        self._seed = seed
        self._block_shards = block_shards
        self._together = together
        self._number = number
        self._at_hand: OrderedDict[tuple[int, int], SampleIndices] = OrderedDict()

    @property
    def pairs(self) -> int:
        return int(self._pairs.sum())

    def places(self, epoch: int, start: int, stop: int) -> SampleIndices:
        """See `Order.places`.

        Raises:
            ShardError: the index is damaged, or counts other pairs than the manifest.
        """
        _, starts = self._blocks(epoch)
        parts = []
        for block in range(_last_up_to(starts, start), len(starts) - 1):
            if starts[block] >= stop:
                break
            first = int(starts[block])
            parts.append(self._block(epoch, block)[max(start - first, 0) : stop - first])
        return np.concatenate(parts) if parts else np.empty(0, PLACES)

    def ahead(self, epoch: int, position: int) -> Iterator[Ahead]:
        before = -position
        while True:
            shards, starts = self._blocks(epoch)
            for block in range(len(starts) - 1):
                if before + starts[block + 1] > 0:
                    distance = max(int(before + starts[block]), 0)
                    for i in self._of_block(shards, block):
                        yield Ahead(distance, self._number, int(self._shards[i]))
            epoch, before = epoch + 1, before + int(starts[-1])

    def _blocks(self, epoch: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The permuted shards of an epoch, and where each block begins and the last one ends."""
        shards = permutation(len(self._shards), self._seed, Draw.SHARDS, self._number, epoch)
        ends = np.cumsum(self._pairs[shards])
        last = np.arange(self._block_shards, len(shards) + self._block_shards, self._block_shards)
        return shards, np.concatenate([[0], ends[np.minimum(last, len(shards)) - 1]])

    def _of_block(self, shards: npt.NDArray[np.int64], block: int) -> npt.NDArray[np.int64]:
        return shards[block * self._block_shards : (block + 1) * self._block_shards]

    def _block(self, epoch: int, block: int) -> SampleIndices:
        """The pairs of a block in their order; kept, because the next positions are in it too."""
        if (epoch, block) in self._at_hand:
            self._at_hand.move_to_end((epoch, block))
            return self._at_hand[epoch, block]
        shards, _ = self._blocks(epoch)
        places = np.concatenate([self._pairs_of(int(i)) for i in self._of_block(shards, block)])
        key = (Draw.PAIRS, self._number, epoch, block)
        places = places[permutation(len(places), self._seed, *key)]
        if self._together > 1:
            places = places[_gathered(places, self._together)]
        self._at_hand[epoch, block] = places
        if len(self._at_hand) > _BLOCKS_AT_HAND:
            self._at_hand.popitem(last=False)
        return places

    def _pairs_of(self, i: int) -> SampleIndices:
        places = pairs_of(self._set, int(self._shards[i]))
        places["set"] = self._number
        return places


def pairs_of(shards: ShardSet, shard: int) -> SampleIndices:
    """All pairs of a shard, as they lie in it.

    Raises:
        ShardError: the index is damaged, or counts other pairs than the manifest.
    """
    rows = shards.rows(shard, ["captions", "width", "height"])
    captions = rows["captions"].to_numpy()
    entry = shards.shards[shard]
    if captions.sum() != entry.captions:
        raise ShardError(
            f"the index of {shards.location} has {captions.sum()} captions in {entry.file}, "
            f"the manifest {entry.captions}"
        )
    row = np.repeat(np.arange(len(captions)), captions)
    places = np.zeros(len(row), PLACES)
    places["shard"], places["row"] = shard, row
    places["number"] = np.arange(len(row)) - (np.cumsum(captions) - captions)[row]
    places["width"] = rows["width"].to_numpy()[row]
    places["height"] = rows["height"].to_numpy()[row]
    return places


def _gathered(places: SampleIndices, together: int) -> npt.NDArray[np.int64]:
    """The order in which each run of so many captions of an image lies where its first is."""
    keys = places["shard"].astype(np.int64) << 32 | places["row"]
    image = np.unique(keys, return_inverse=True)[1]
    by_image = np.argsort(image, kind="stable")
    first = np.flatnonzero(np.diff(image[by_image], prepend=-1))
    nth = np.arange(len(places)) - np.repeat(first, np.diff(first, append=len(places)))
    head = by_image[np.arange(len(places)) - nth % together]
    order = np.empty(len(places), np.int64)
    order[by_image] = head
    return np.argsort(order, kind="stable")


def stream(seed: int, *key: int) -> np.random.PCG64:
    """A stream of random bits that a seed and a key of numbers below 2**32 decide."""
    return np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key))


def permutation(n: int, seed: int, *key: int) -> npt.NDArray[np.int64]:
    """A permutation of range(n) that a seed and a key decide.

    Sorts raw output of a bit generator, which numpy promises never to change; it does not promise
    that of ``Generator.permutation``.
    """
    return np.argsort(stream(seed, *key).random_raw(n), kind="stable")


def _last_up_to(starts: npt.NDArray[np.int64], position: int) -> int:
    """The last block that begins at or before a position."""
    return int(np.searchsorted(starts, position, side="right")) - 1

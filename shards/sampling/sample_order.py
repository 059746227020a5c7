"""The order in which training reads the pairs of a shard set: a pure function of seed and epoch.

A pair is an image with one of its captions::

    epoch:    shards permuted       7 2 | 5 0 | 3 1 | 6 4          blocks of ``block_shards``
              pairs of each block   ....|....|....|....            permuted within the block
    position: 0 ------------------------------------> pairs

A position is located with the index rows of one block, without reading samples before it.
"""

from collections import OrderedDict
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from shards.format.manifest import ShardError
from shards.format.tables import integers
from shards.reading.shard_set import ShardSet

#: A pair, as `SampleIndex` of `shards.sampling.dataset` without epoch and position, and the size of
#: its image in pixels.
INDEX_DTYPE = np.dtype(
    [(name, np.int32) for name in ("shard_set", "shard", "row", "caption_index", "width", "height")]
)

#: One-dimensional array of `INDEX_DTYPE`.
SampleIndices = npt.NDArray[np.void]

_CACHED_BLOCKS = 3
_CACHED_EPOCHS = 2  # this one and, for what is fetched ahead, the next one


class RandomStream(IntEnum):
    """The uses of random bits: the first number of a key, so that no two uses share a stream."""

    SHARDS = 0
    PAIRS = 1
    SLOTS = 2
    BATCHES = 3
    TRANSFORM = 4


class UpcomingShard(NamedTuple):
    """A shard that is needed after ``distance`` more pairs."""

    distance: float
    shard_set: int
    shard: int


class SampleOrder(Protocol):
    """An order of pairs: in every epoch, one pair for each position from 0 to ``pairs``."""

    @property
    def pairs(self) -> int:
        """The number of positions of an epoch."""

    def indices(self, epoch: int, start: int, stop: int) -> SampleIndices:
        """Returns the pairs at the positions from ``start`` to ``stop``, exclusive."""

    def upcoming_shards(self, epoch: int, position: int) -> Iterator[UpcomingShard]:
        """Yields the shards that are needed from a position on, nearest first, without end."""


class PairOrder:
    """The order of one split of one shard set: each epoch has each pair once.

    Args:
        block_shards: pairs are permuted within blocks of this many shards.
        captions_per_image: up to this many captions of an image are consecutive.
        number: position of the shard set in a mixture; each position has a different order.

    Raises:
        ValueError: the split is unknown or has no pairs, or a number is less than 1.
    """

    def __init__(
        self,
        shards: ShardSet,
        split: str,
        *,
        seed: int,
        block_shards: int = 16,
        captions_per_image: int = 1,
        number: int = 0,
    ) -> None:
        if block_shards < 1:
            raise ValueError(f"block_shards is {block_shards}, less than one shard")
        if captions_per_image < 1:
            raise ValueError(f"captions_per_image is {captions_per_image}, less than one caption")
        self._set = shards
        self._shards = np.array(shards.shards_of(split), np.int64)
        if not len(self._shards):
            raise ValueError(f"split {split!r} of {shards.location} has no pairs")
        self._pairs = np.array([shards.shards[i].captions for i in self._shards], np.int64)
        self._seed = seed
        self._block_shards = block_shards
        self._captions_per_image = captions_per_image
        self._number = number
        self._cached: OrderedDict[tuple[int, int], SampleIndices] = OrderedDict()
        self._epochs: OrderedDict[int, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]
        self._epochs = OrderedDict()

    @property
    def pairs(self) -> int:
        """The number of pairs of the split."""
        return int(self._pairs.sum())

    def indices(self, epoch: int, start: int, stop: int) -> SampleIndices:
        """See `SampleOrder.indices`.

        Raises:
            ShardError: the index is damaged, or its counts are not those of the manifest.
        """
        _, starts = self._blocks(epoch)
        parts = [np.empty(0, INDEX_DTYPE)]
        first_block = int(np.searchsorted(starts, start, side="right")) - 1
        for block in range(first_block, len(starts) - 1):
            block_start = int(starts[block])
            if block_start >= stop:
                break
            within = slice(max(start - block_start, 0), stop - block_start)
            parts.append(self._block(epoch, block)[within])
        return np.concatenate(parts)

    def upcoming_shards(self, epoch: int, position: int) -> Iterator[UpcomingShard]:
        """See `SampleOrder.upcoming_shards`."""
        epoch_start = -position  # relative to the position
        while True:
            shards, starts = self._blocks(epoch)
            for block in range(len(starts) - 1):
                if epoch_start + starts[block + 1] > 0:
                    distance = max(int(epoch_start + starts[block]), 0)
                    for i in self._shards_of_block(shards, block):
                        yield UpcomingShard(distance, self._number, int(self._shards[i]))
            epoch, epoch_start = epoch + 1, epoch_start + int(starts[-1])

    def _blocks(self, epoch: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Returns the permuted shards, and where each block starts and the last one ends.

        The thread that fetches ahead calls this, too, and may remove an epoch at any time.
        """
        blocks = self._epochs.get(epoch)
        if blocks is None:
            key = (RandomStream.SHARDS, self._number, epoch)
            shards = permutation(len(self._shards), self._seed, *key)
            ends = np.cumsum(self._pairs[shards])
            size = self._block_shards
            last = np.arange(size, len(shards) + size, size)
            starts = np.concatenate([[0], ends[np.minimum(last, len(shards)) - 1]])
            self._epochs[epoch] = blocks = shards, starts
            if len(self._epochs) > _CACHED_EPOCHS:
                self._epochs.popitem(last=False)
        return blocks

    def _shards_of_block(self, shards: npt.NDArray[np.int64], block: int) -> npt.NDArray[np.int64]:
        return shards[block * self._block_shards : (block + 1) * self._block_shards]

    def _block(self, epoch: int, block: int) -> SampleIndices:
        """Returns the pairs of a block in their order; caches it for the next positions."""
        if (epoch, block) in self._cached:
            self._cached.move_to_end((epoch, block))
            return self._cached[epoch, block]
        shards, _ = self._blocks(epoch)
        indices = np.concatenate(
            [
                indices_of_shard(self._set, int(self._shards[i]), self._number)
                for i in self._shards_of_block(shards, block)
            ]
        )
        key = (RandomStream.PAIRS, self._number, epoch, block)
        indices = indices[permutation(len(indices), self._seed, *key)]
        if self._captions_per_image > 1:
            indices = indices[_group_captions(indices, self._captions_per_image)]
        self._cached[epoch, block] = indices
        if len(self._cached) > _CACHED_BLOCKS:
            self._cached.popitem(last=False)
        return indices


def indices_of_shard(shards: ShardSet, shard: int, shard_set: int = 0) -> SampleIndices:
    """Returns all pairs of a shard in the order of the tar.

    Raises:
        ShardError: the index is damaged, or its counts are not those of the manifest.
    """
    rows = shards.rows(shard, ["captions", "width", "height"])
    captions = integers(rows["captions"])
    entry = shards.shards[shard]
    if captions.sum() != entry.captions:
        raise ShardError(
            f"the index of {shards.location} has {captions.sum()} captions in {entry.file}, "
            f"the manifest {entry.captions}"
        )
    row = np.repeat(np.arange(len(captions)), captions)
    first_pair_of_row = np.cumsum(captions) - captions
    indices = np.zeros(len(row), INDEX_DTYPE)
    indices["shard_set"], indices["shard"], indices["row"] = shard_set, shard, row
    indices["caption_index"] = np.arange(len(row)) - first_pair_of_row[row]
    indices["width"] = integers(rows["width"])[row]
    indices["height"] = integers(rows["height"])[row]
    return indices


def _group_captions(indices: SampleIndices, captions_per_image: int) -> npt.NDArray[np.int64]:
    """Returns a permutation that moves captions of an image next to each other.

    Each run of ``captions_per_image`` captions of an image moves to where its first caption is.
    With runs of 2, images A and B, and the captions numbered as they come::

        before   A1 B1 A2 A3 B2 A4
        after    A1 A2 B1 B2 A3 A4
    """
    image_key = indices["shard"].astype(np.int64) << 32 | indices["row"]
    by_image = np.argsort(image_key, kind="stable")  # positions, grouped by image
    is_first = np.diff(image_key[by_image], prepend=-1) != 0
    image_start = np.flatnonzero(is_first)
    captions = np.diff(image_start, append=len(indices))
    rank_in_image = np.arange(len(indices)) - np.repeat(image_start, captions)
    run_start = np.arange(len(indices)) - rank_in_image % captions_per_image
    target = np.empty(len(indices), np.int64)
    target[by_image] = by_image[run_start]  # of each position, the position of its run's first
    return np.argsort(target, kind="stable")


def bit_generator(seed: int, *key: int) -> np.random.PCG64:
    """Returns the stream of random bits of a seed and a key of numbers below 2**32."""
    return np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key))


class RandomNumbers:
    """The random numbers of the transform at each position of training.

    They are those of a counter (Philox) that begins anew at each position, of which setting takes a
    fraction of the time of a new generator. One thread may use an object at a time.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._epoch = -1

    def at(self, epoch: int, position: int) -> np.random.Generator:
        """Returns a generator that is at the first number of a position, until the next call."""
        if epoch != self._epoch:
            key = np.random.SeedSequence(self._seed, spawn_key=(RandomStream.TRANSFORM, epoch))
            self._bits = np.random.Philox(key=key.generate_state(2, np.uint64))
            self._start = self._bits.state  # a copy
            self._generator = np.random.Generator(self._bits)
            self._epoch = epoch
        self._start["state"]["counter"][2] = position  # the numbers of a position count below
        self._bits.state = self._start
        return self._generator


def permutation(n: int, seed: int, *key: int) -> npt.NDArray[np.int64]:
    """Returns the permutation of range(n) of a seed and a key.

    Sorts raw output of a bit generator, which numpy promises never to change; it does not promise
    that of ``Generator.permutation``.
    """
    return np.argsort(bit_generator(seed, *key).random_raw(n), kind="stable")

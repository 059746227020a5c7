"""Shard sets as a PyTorch dataset and the sampler of its batches: see docs/streaming.md."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from torch.utils.data import Dataset, Sampler

from shards.reading.reader import OPEN_SHARDS, Pair, ShardReader
from shards.reading.shard_set import ShardSet
from shards.sampling.prefetch import Prefetcher
from shards.sampling.sample_order import (
    RandomNumbers,
    SampleIndices,
    SampleOrder,
    indices_of_shard,
)

TrainingSample = TypeVar("TrainingSample")

_PAIRS_AT_ONCE = 4096  # that a sampler asks an order for


class SampleIndex(NamedTuple):
    """The location of a pair and its position in training; an index of `PairDataset`."""

    shard_set: int  # of a mixture
    shard: int  # of the manifest
    row: int  # of the shard's index
    caption_index: int
    epoch: int
    position: int


class PairDataset(Dataset[TrainingSample]):
    """Maps a `SampleIndex` to ``transform(pair, rng)``.

    ``rng`` depends only on seed, epoch and position, so a sample is the same in every process; it
    is valid until the transform returns. Each data worker opens shards when it first reads them and
    keeps the ``open_shards`` most recently read ones of each set open, which should exceed the
    shards of a block. The dataset can be pickled if ``transform`` can.
    """

    def __init__(
        self,
        sets: Sequence[ShardSet],
        transform: Callable[[Pair, np.random.Generator], TrainingSample],
        *,
        seed: int = 0,
        open_shards: int = OPEN_SHARDS,
    ) -> None:
        self._sets = sets
        self._open_shards = open_shards
        self._transform = transform
        self._random = RandomNumbers(seed)
        self._readers: list[ShardReader] = []

    def __getitem__(self, index: SampleIndex) -> TrainingSample:
        """Returns the transformed pair.

        Raises:
            ShardError: the shard cannot be read, or is damaged at this pair.
            ValueError: ``transform`` refuses the pair; the message begins with the shard.
        """
        if not self._readers:
            self._readers = [ShardReader(shards, self._open_shards) for shards in self._sets]
        pair = self._readers[index.shard_set].pair(index.shard, index.row, index.caption_index)
        try:
            return self._transform(pair, self._random.at(index.epoch, index.position))
        except ValueError as error:
            shard = self._sets[index.shard_set].name_of(index.shard)
            raise ValueError(f"{shard}: {error}") from error

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_readers": []}


class GlobalBatchSampler(Sampler[list[SampleIndex]]):
    """A rank's part of every global batch: a batch sampler for a `DataLoader`.

    Global batch b of an epoch is positions ``b * global_batch_size`` to
    ``(b + 1) * global_batch_size`` of the order, for any ``world_size``; rank r takes the r-th
    slice of it, as ``micro_batches`` lists of equal length, one after another. An incomplete global
    batch at the end of an epoch is dropped. All ranks have the same number of steps.

    An iteration begins at the position that was set last, and ends with the epoch::

        for epoch in range(start_epoch, epochs):
            sampler.set_position(epoch, start_step if epoch == start_epoch else 0)
            for batch in loader: ...

    A loader asks for batches before they are trained on: a checkpoint stores the number of steps
    that were taken.

    Raises:
        ValueError: ``world_size`` and ``micro_batches`` do not divide the global batch, or an epoch
            is less than one global batch.
    """

    def __init__(
        self,
        order: SampleOrder,
        global_batch_size: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        micro_batches: int = 1,
        prefetcher: Prefetcher | None = None,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} of {world_size}")
        lists = world_size * micro_batches
        if micro_batches < 1 or global_batch_size < 1 or global_batch_size % lists:
            raise ValueError(
                f"a global batch of {global_batch_size} cannot be divided among {world_size} ranks "
                f"with {micro_batches} micro batches each"
            )
        if order.pairs < global_batch_size:
            raise ValueError(
                f"a global batch of {global_batch_size} is more than the {order.pairs} pairs of an "
                "epoch"
            )
        self._order = order
        self._global_batch_size = global_batch_size
        self._micro_batches = micro_batches
        self._rank_size = global_batch_size // world_size
        self._rank_offset = rank * self._rank_size
        self._prefetcher = prefetcher
        self._epoch = self._step = 0

    @property
    def steps(self) -> int:
        """The number of global batches, which are optimizer steps, of an epoch."""
        return self._order.pairs // self._global_batch_size

    def set_position(self, epoch: int, step: int) -> None:
        """Sets where the next iteration begins.

        Raises:
            ValueError: the epoch has no such step.
        """
        if epoch < 0 or not 0 <= step <= self.steps:
            raise ValueError(f"step {step} of epoch {epoch}, which has {self.steps} steps")
        self._epoch, self._step = epoch, step

    def __len__(self) -> int:
        """Returns the number of lists that the next iteration yields."""
        return (self.steps - self._step) * self._micro_batches

    def __iter__(self) -> Iterator[list[SampleIndex]]:
        """Yields the micro batches of this rank from the set position to the end of the epoch."""
        epoch, size = self._epoch, self._rank_size // self._micro_batches
        for first, indices in self._global_batches(epoch, self._step):
            of_rank = indices[self._rank_offset : self._rank_offset + self._rank_size]
            batch = _as_tuples(of_rank, epoch, first + self._rank_offset)
            for i in range(0, self._rank_size, size):
                yield batch[i : i + size]

    def _global_batches(self, epoch: int, step: int) -> Iterator[tuple[int, SampleIndices]]:
        """Yields the first position and the pairs of each global batch from a step on.

        Asks the order for many batches at once: a mixture permutes 10,000 slots for any range.
        Shards are fetched ahead before that, which reads their indexes.
        """
        size = self._global_batch_size
        steps_at_once = max(1, _PAIRS_AT_ONCE // size)
        for first_step in range(step, self.steps, steps_at_once):
            first, stop = first_step * size, min(first_step + steps_at_once, self.steps) * size
            self._advance(epoch, first)
            indices = self._order.indices(epoch, first, stop)
            for start in range(first, stop, size):
                self._advance(epoch, start)
                yield start, indices[start - first : start - first + size]

    def _advance(self, epoch: int, position: int) -> None:
        if self._prefetcher is not None:
            self._prefetcher.advance(epoch, position)


def evaluation_indices(
    shards: ShardSet, split: str, *, rank: int = 0, world_size: int = 1
) -> list[SampleIndex]:
    """Returns a rank's pairs of a split in the order of the shards; each pair is on one rank.

    Ranks have consecutive ranges of pairs, whose sizes differ by at most one.
    """
    total = shards.pairs(split)
    start, stop = total * rank // world_size, total * (rank + 1) // world_size
    indices: list[SampleIndex] = []
    first = 0  # of the shard, among the split's pairs
    for shard in shards.shards_of(split):
        end = first + shards.shards[shard].captions
        if first < stop and end > start:
            begin = max(start - first, 0)
            of_rank = indices_of_shard(shards, shard)[begin : stop - first]
            indices += _as_tuples(of_rank, 0, first + begin)
        first = end
    return indices


def _as_tuples(indices: SampleIndices, epoch: int, position: int) -> list[SampleIndex]:
    """Returns pairs at consecutive positions as the small tuples that go to data workers."""
    fields = ["shard_set", "shard", "row", "caption_index"]
    return [
        SampleIndex(shard_set, shard, row, caption_index, epoch, position + i)
        for i, (shard_set, shard, row, caption_index) in enumerate(indices[fields].tolist())
    ]

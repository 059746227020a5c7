"""Shard sets as a PyTorch dataset and the sampler of its batches: see docs/streaming.md."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from torch.utils.data import Dataset, Sampler

from shards.reading.prefetch import ReadAhead
from shards.reading.reader import OPEN_SHARDS, Pair, Store
from shards.reading.shard_set import ShardSet
from shards.sampling.sample_order import Draw, Order, SampleIndices, pairs_of, stream

__all__ = ["GlobalBatchSampler", "Pair", "PairDataset", "SampleIndex", "every_pair"]

TrainingSample = TypeVar("TrainingSample")


class SampleIndex(NamedTuple):
    """Where a pair lies (see `shards.sampling.sample_order.PLACES`), and when it is seen: what a sampler yields."""

    set: int
    shard: int
    row: int
    number: int
    epoch: int
    position: int


class PairDataset(Dataset[TrainingSample]):
    """Maps a `SampleIndex` to ``transform(pair, rng)``.

    The generator depends on seed, epoch and position alone, so a sample is the same in whatever
    process it is made. Shards are opened when they are first read, by each data worker for itself.
    Each has the ``open_shards`` of a set that it read last, which should be more than a block has.
    The dataset can be pickled if ``transform`` can.
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
        self._seed = seed
        self._stores: list[Store] = []

    def __getitem__(self, place: SampleIndex) -> TrainingSample:
        """
        Raises:
            ShardError: the shard cannot be read, or is damaged at this pair.
            ValueError: ``transform`` refuses the pair; the message begins with the shard.
        """
        if not self._stores:
            self._stores = [Store(of, self._open_shards) for of in self._sets]
        pair = self._stores[place.set].pair(place.shard, place.row, place.number)
        bits = stream(self._seed, Draw.SAMPLE, place.epoch, place.position)
        try:
            return self._transform(pair, np.random.Generator(bits))
        except ValueError as error:
            shard = self._sets[place.set].name_of(place.shard)
            raise ValueError(f"{shard}: {error}") from error

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_stores": []}


class GlobalBatchSampler(Sampler[list[SampleIndex]]):
    """A rank's part of every global batch: a batch sampler for a `DataLoader`.

    Global batch b of an epoch is positions ``b * global_batch`` to ``(b + 1) * global_batch`` of
    the order, whatever the number of ranks; rank r takes the r-th slice of it, as ``micro_batches``
    lists of equal length, one after another. What is left at the end of an epoch's order, less
    than a global batch, is dropped. All ranks have the same number of steps.

    An iteration begins at the position that was set last, and ends with the epoch::

        for epoch in range(start_epoch, epochs):
            sampler.set_position(epoch, start_step if epoch == start_epoch else 0)
            for batch in loader: ...

    A loader asks for batches before they are trained on: what a checkpoint stores is the number
    of steps that were taken.

    Raises:
        ValueError: the ranks and micro batches do not divide the global batch, or an epoch is
            less than one global batch.
    """

    def __init__(
        self,
        order: Order,
        global_batch: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        micro_batches: int = 1,
        read_ahead: ReadAhead | None = None,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} of {world_size}")
        if micro_batches < 1 or global_batch < 1 or global_batch % (world_size * micro_batches):
            raise ValueError(
                f"a global batch of {global_batch} cannot be divided among {world_size} ranks with "
                f"{micro_batches} micro batches each"
            )
        if order.pairs < global_batch:
            raise ValueError(
                f"a global batch of {global_batch} is more than the {order.pairs} pairs of an epoch"
            )
        self._order = order
        self._global_batch = global_batch
        self._micro_batches = micro_batches
        self._size = global_batch // world_size
        self._offset = rank * self._size
        self._read_ahead = read_ahead
        self._epoch = self._step = 0

    @property
    def steps(self) -> int:
        """Global batches, which are optimizer steps, of an epoch."""
        return self._order.pairs // self._global_batch

    def set_position(self, epoch: int, step: int) -> None:
        """Where the next iteration begins.

        Raises:
            ValueError: the epoch has no such step.
        """
        if epoch < 0 or not 0 <= step <= self.steps:
            raise ValueError(f"step {step} of epoch {epoch}, which has {self.steps} steps")
        self._epoch, self._step = epoch, step

    def __len__(self) -> int:
        """How many lists the next iteration yields."""
        return (self.steps - self._step) * self._micro_batches

    def __iter__(self) -> Iterator[list[SampleIndex]]:
        epoch, size = self._epoch, self._size // self._micro_batches
        for step in range(self._step, self.steps):
            first = step * self._global_batch
            if self._read_ahead is not None:
                self._read_ahead.at(epoch, first)
            start = first + self._offset
            places = as_places(self._order.places(epoch, start, start + self._size), epoch, start)
            for i in range(0, self._size, size):
                yield places[i : i + size]


def every_pair(
    shards: ShardSet, split: str, *, rank: int = 0, world_size: int = 1
) -> list[SampleIndex]:
    """The pairs of a split in the order of its shards, each on one rank: for evaluation.

    A rank has the pairs that come after those of the ranks below it, one more or less than others.
    """
    total = shards.pairs(split)
    start, stop = total * rank // world_size, total * (rank + 1) // world_size
    places: list[SampleIndex] = []
    first = 0  # of the shard, among the split's pairs
    for shard in shards.shards_of(split):
        end = first + shards.shards[shard].captions
        if first < stop and end > start:
            begin = max(start - first, 0)
            mine = pairs_of(shards, shard)[begin : stop - first]
            places += as_places(mine, 0, first + begin)
        first = end
    return places


def as_places(places: SampleIndices, epoch: int, position: int) -> list[SampleIndex]:
    """Consecutive places from a position on, as the small tuples that go to data workers."""
    columns = (places[name].tolist() for name in ("set", "shard", "row", "number"))
    return [
        SampleIndex(set_, shard, row, number, epoch, position + i)
        for i, (set_, shard, row, number) in enumerate(zip(*columns, strict=True))
    ]

"""Measures the shuffling quality, the time to find a position, and the padding with aspect buckets.

    python benchmarks/stream_order.py shuffle       # by block_shards, at the size of MDETR's data
    python benchmarks/stream_order.py resume        # time to the first pairs at any position
    python benchmarks/stream_order.py padding SET   # share of padded pixels, of a set's train split

``shuffle`` and ``resume`` need no images: they write an index of 128 shards of 1,600 images,
of 2 to 11 captions each, 1.3 million pairs in all, as the recipe ``mdetr_pretrain`` has them.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from mdetr_model.data.transforms import TrainTransform
from shards.reading.reader import ShardReader
from shards.reading.shard_set import ShardSet
from shards.sampling.aspect_buckets import AspectBucketOrder
from shards.sampling.sample_order import (
    PairOrder,
    RandomNumbers,
    SampleIndices,
    SampleOrder,
)
from tests.shard_sets import write_index_only

SHARDS, IMAGES = 128, 1600
BATCH = 64


@contextmanager
def large_set(shards: int = SHARDS) -> Iterator[Path]:
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        captions = [rng.integers(2, 12, IMAGES).tolist() for _ in range(shards)]
        yield write_index_only(Path(name), captions)


def shuffle() -> None:
    with large_set() as folder:
        shards = ShardSet.open(folder)
        print(f"{shards.pairs('train')} pairs, global batches of {BATCH}")
        for block in (1, 2, 4, 8, 16, 32, 64, SHARDS):
            order = PairOrder(shards, "train", seed=0, block_shards=block)
            indices = order.indices(0, 0, order.pairs)
            print(
                f"block_shards {block:3}   displacement {displacement(indices):7.2%} of uniform   "
                f"two pairs of a batch from one shard {same(indices, ['shard']):7.2%}   "
                f"batches with an image twice {repeats(indices):7.2%}"
            )


def displacement(indices: SampleIndices) -> float:
    """Returns the mean distance of pairs from their positions among permuted, unshuffled shards.

    It is relative to the expected distance in a uniform order, a third of the epoch.
    """
    _, first = np.unique(indices["shard"], return_index=True)
    rank = np.empty(indices["shard"].max() + 1, np.int64)
    rank[indices["shard"][np.sort(first)]] = np.arange(len(first))
    unshuffled = np.lexsort((indices["caption_index"], indices["row"], rank[indices["shard"]]))
    moved = np.abs(unshuffled - np.arange(len(indices)))
    return float(moved.mean() / (len(indices) / 3))


def same(indices: SampleIndices, fields: list[str]) -> float:
    """Returns the chance that two pairs of a batch agree in some fields."""
    batches = indices[: len(indices) // BATCH * BATCH][fields].reshape(-1, BATCH)
    agreeing = 0
    for batch in batches:
        _, counts = np.unique(batch, return_counts=True)
        agreeing += int((counts * (counts - 1)).sum())
    return agreeing / (len(batches) * BATCH * (BATCH - 1))


def repeats(indices: SampleIndices) -> float:
    """Returns the share of batches in which some image is seen more than once."""
    batches = indices[: len(indices) // BATCH * BATCH][["shard", "row"]].reshape(-1, BATCH)
    return float(np.mean([len(np.unique(batch)) < BATCH for batch in batches]))


def resume() -> None:
    for shards in (SHARDS, 10 * SHARDS):
        with large_set(shards) as folder:
            seconds: list[float] = []
            for i in range(9):
                begin = time.perf_counter()
                order: SampleOrder = PairOrder(ShardSet.open(folder), "train", seed=0)
                start = order.pairs // 9 * i
                order.indices(i, start, start + BATCH)
                seconds.append(time.perf_counter() - begin)
            print(
                f"{shards} shards, {order.pairs} pairs: opened, and the first batch from any "
                f"position found, in {1e3 * statistics.median(seconds):.0f} ms"
            )


def padding(folder: Path, rank_batch: int = 4) -> None:
    """Prints the share of padded pixels if ranks pad their slices of a batch separately."""
    shards = ShardSet.open(folder)
    reader, transform = ShardReader(shards), TrainTransform()
    plain = PairOrder(shards, "train", seed=0)
    orders: dict[str, SampleOrder] = {"as they come": plain}
    orders |= {
        f"window of {n:2}": AspectBucketOrder(plain, BATCH, seed=0, window=n) for n in (4, 16, 32)
    }
    for name, order in orders.items():
        indices = order.indices(0, 0, order.pairs // BATCH * BATCH)
        sizes = []
        numbers = RandomNumbers(seed=0)
        for position, index in enumerate(indices):
            pair = reader.pair(*(int(index[name]) for name in ("shard", "row", "caption_index")))
            boxes = np.array([region.box for region in pair.caption.regions]).reshape(-1, 4)
            size, text = (pair.width, pair.height), pair.caption.text
            sizes.append(transform.sample(size, boxes, text, numbers.at(0, position)).size)
        batches = np.array(sizes).reshape(-1, rank_batch, 2)
        padded = rank_batch * batches.max(1).prod(-1).sum()
        print(f"{name}   {1 - batches.prod(-1).sum() / padded:.1%} of {len(batches)} batches")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("shuffle")
    commands.add_parser("resume")
    commands.add_parser("padding").add_argument("folder", type=Path)
    arguments = vars(parser.parse_args())
    {"shuffle": shuffle, "resume": resume, "padding": padding}[arguments.pop("command")](
        **arguments
    )


if __name__ == "__main__":
    main()

"""The program of `test_stream_order`: reads shard sets as a training loop does, on several ranks.

    python -m tests.end_to_end.read_stream FOLDER

Every step is one collective operation of all ranks, so that ranks with different numbers of steps
would deadlock, as in training. Rank 0 writes what was read to FOLDER/WORLD_SIZE.json.
"""

import json
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch.distributed as dist
import torch.multiprocessing
from torch.utils.data import DataLoader

from shards.reading.reader import Pair
from shards.reading.shard_set import ShardSet
from shards.sampling.dataset import GlobalBatchSampler, PairDataset, evaluation_indices
from shards.sampling.sample_order import PairOrder

WORLD_SIZES = (1, 2, 4)
WORKERS = (0, 2, 4)
EPOCHS = 2
SEED = 7
TIMEOUT = 60  # seconds

Pairs = list[str]  # of each pair: key, number and a random number


def transform(pair: Pair, rng: np.random.Generator) -> str:
    return f"{pair.key} {pair.caption_index} {rng.integers(1 << 30)}"


def gather(pairs: Pairs) -> list[Pairs]:
    """Returns the pairs of every rank."""
    ranks: list[Pairs] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(ranks, pairs)
    return ranks


def train(
    shards: ShardSet, global_batch: int, workers: int, start: tuple[int, int] = (0, 0)
) -> list[list[Pairs]]:
    """Returns the global batches of each epoch from an (epoch, step) on."""
    order = PairOrder(shards, "train", seed=SEED, block_shards=2)
    rank, world_size = dist.get_rank(), dist.get_world_size()
    sampler = GlobalBatchSampler(order, global_batch, rank=rank, world_size=world_size)
    loader = DataLoader(
        PairDataset([shards], transform, seed=SEED),
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=list,
        timeout=TIMEOUT if workers else 0,
        persistent_workers=workers > 0,
    )
    epochs = []
    for epoch in range(start[0], EPOCHS):
        sampler.set_position(epoch, start[1] if epoch == start[0] else 0)
        epochs.append([[pair for rank in gather(batch) for pair in rank] for batch in loader])
    return epochs


def evaluate(shards: ShardSet, workers: int) -> list[Pairs]:
    """Returns what each rank reads of the split."""
    indices = evaluation_indices(
        shards, "train", rank=dist.get_rank(), world_size=dist.get_world_size()
    )
    loader = DataLoader(
        PairDataset([shards], transform),
        batch_size=3,
        sampler=indices,
        num_workers=workers,
        collate_fn=list,
        timeout=TIMEOUT if workers else 0,
    )
    return gather([pair for batch in loader for pair in batch])


def read(rank: int, world_size: int, folder: Path) -> None:
    """Reads the sets of the folder as one of several ranks."""
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / f'rendezvous-{world_size}'}",
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=TIMEOUT),
    )
    uneven, single = (ShardSet.open(folder / name) for name in ("uneven", "single"))
    streams: dict[str, object] = {"resumed": train(uneven, 8, 1, start=(0, 5))}
    for workers in WORKERS:
        streams[f"train {workers}"] = train(uneven, 8, workers)
    streams["evaluate"] = evaluate(uneven, 2)
    streams["evaluate single"] = evaluate(single, 1)
    streams["train single"] = train(single, 1, 1) if world_size == 1 else None
    if rank == 0:
        (folder / f"{world_size}.json").write_text(json.dumps(streams), encoding="utf-8")
    dist.destroy_process_group()


def main(folder: Path) -> None:
    """Reads with every number of ranks in turn; forked ranks need not import torch again."""
    for world_size in WORLD_SIZES:
        torch.multiprocessing.start_processes(
            read, (world_size, folder), nprocs=world_size, start_method="fork"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))

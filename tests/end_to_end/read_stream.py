"""What `test_stream_order` runs under torchrun: reads shard sets as a training loop does.

Every step is one collective of all ranks, so ranks that disagree about the number of steps would
wait for ever, as they would in training. Rank 0 writes what was read as JSON.
"""

import json
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch.distributed as dist
from torch.utils.data import DataLoader

from shards.reading.shard_set import ShardSet
from shards.sampling.dataset import GlobalBatchSampler, Pair, PairDataset, SampleIndex, every_pair
from shards.sampling.sample_order import PairOrder

WORKERS = (0, 2, 4)
EPOCHS = 2
SEED = 7
PATIENCE = 60  # seconds

Read = list[str]  # of each pair: key, number, chance


def transform(pair: Pair, rng: np.random.Generator) -> str:
    return f"{pair.key} {pair.number} {rng.integers(1 << 30)}"


def gathered(part: Read) -> list[Read]:
    parts: list[Read] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(parts, part)
    return parts


def train(
    shards: ShardSet, global_batch: int, workers: int, start: tuple[int, int] = (0, 0)
) -> list[list[Read]]:
    """The global batches of each epoch."""
    order = PairOrder(shards, "train", seed=SEED, block_shards=2)
    rank, world_size = dist.get_rank(), dist.get_world_size()
    sampler = GlobalBatchSampler(order, global_batch, rank=rank, world_size=world_size)
    loader = DataLoader(
        PairDataset([shards], transform, seed=SEED),
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=list,
        timeout=PATIENCE if workers else 0,
        persistent_workers=workers > 0,
    )
    epochs = []
    for epoch in range(start[0], EPOCHS):
        sampler.set_position(epoch, start[1] if epoch == start[0] else 0)
        epochs.append([[pair for part in gathered(batch) for pair in part] for batch in loader])
    return epochs


def evaluate(shards: ShardSet, workers: int) -> list[Read]:
    """What each rank has read of the split."""
    places: list[SampleIndex] = every_pair(
        shards, "train", rank=dist.get_rank(), world_size=dist.get_world_size()
    )
    loader = DataLoader(
        PairDataset([shards], transform),
        batch_size=3,
        sampler=places,
        num_workers=workers,
        collate_fn=list,
        timeout=PATIENCE if workers else 0,
    )
    return gathered([pair for batch in loader for pair in batch])


def main(folder: Path, output: Path) -> None:
    dist.init_process_group("gloo", timeout=timedelta(seconds=PATIENCE))
    uneven, single = (ShardSet.open(folder / name) for name in ("uneven", "single"))
    world_size = dist.get_world_size()
    found: dict[str, object] = {"resumed": train(uneven, 8, 1, (0, 5))}
    for workers in WORKERS:
        found[f"train {workers}"] = train(uneven, 8, workers)
    found["evaluate"] = evaluate(uneven, 2)
    found["evaluate single"] = evaluate(single, 1)
    found["train single"] = train(single, 1, 1) if world_size == 1 else None
    if dist.get_rank() == 0:
        output.write_text(json.dumps(found), encoding="utf-8")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

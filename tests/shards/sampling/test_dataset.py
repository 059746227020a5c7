"""Global batches, and a dataset that gives the same samples in every process."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch.utils.data import DataLoader

from shards.format.manifest import ShardError
from shards.reading.reader import Pair
from shards.reading.shard_set import ShardSet
from shards.sampling.dataset import (
    GlobalBatchSampler,
    PairDataset,
    SampleIndex,
    evaluation_indices,
)
from shards.sampling.mixture import MixtureOrder
from shards.sampling.prefetch import Prefetcher
from shards.sampling.sample_order import PairOrder
from tests.http_server import serve
from tests.shard_sets import image, write_shard_set

TrainingSample = tuple[str, int, int]


def transform(pair: Pair, rng: np.random.Generator) -> TrainingSample:
    assert bytes(pair.image) == image(pair.key)
    return pair.key, pair.caption_index, int(rng.integers(1 << 62))


@pytest.fixture
def shards(tmp_path: Path) -> ShardSet:
    return ShardSet.open(
        write_shard_set(tmp_path / "set", [[1, 2, 3], [0, 4], [], [5] * 5, [1] * 6])
    )


def loader(
    dataset: PairDataset[TrainingSample], sampler: GlobalBatchSampler, **options: Any
) -> DataLoader[TrainingSample]:
    return DataLoader(dataset, batch_sampler=sampler, collate_fn=list, **options)


def batches_from(
    sampler: GlobalBatchSampler, epoch: int = 0, step: int = 0
) -> list[list[SampleIndex]]:
    sampler.set_position(epoch, step)
    batches = list(sampler)
    sampler.set_position(epoch, step)
    assert len(sampler) == len(batches)
    return batches


# --- the sampler ----------------------------------------------------------------------------------


def test_global_batches_are_the_same_for_all_ranks_and_micro_batches(shards: ShardSet) -> None:
    order = PairOrder(shards, "train", seed=1, block_shards=2)
    whole = batches_from(GlobalBatchSampler(order, 12), epoch=1)
    assert [len(batch) for batch in whole] == [12, 12, 12]
    assert [index.position for batch in whole for index in batch] == list(range(36))
    for world_size, micro in [(1, 4), (2, 1), (2, 3), (4, 3), (12, 1)]:
        ranks = [
            batches_from(
                GlobalBatchSampler(
                    order, 12, rank=rank, world_size=world_size, micro_batches=micro
                ),
                epoch=1,
            )
            for rank in range(world_size)
        ]
        assert {len(batches) for batches in ranks} == {3 * micro}
        for step, expected in enumerate(whole):
            steps = slice(step * micro, (step + 1) * micro)
            joined = [index for batches in ranks for batch in batches[steps] for index in batch]
            assert joined == expected


def test_sampler_resumes_at_any_step(shards: ShardSet) -> None:
    sampler = GlobalBatchSampler(PairOrder(shards, "train", seed=1), 5)
    for epoch in (0, 2):
        whole = batches_from(sampler, epoch)
        assert len(whole) == sampler.steps == 8
        for step in range(9):
            assert batches_from(sampler, epoch, step) == whole[step:]
    assert batches_from(sampler, 0) != batches_from(sampler, 1)


@pytest.mark.parametrize("pairs", [1, 12, 30])
def test_batches_do_not_depend_on_how_many_pairs_are_asked_for(
    shards: ShardSet, monkeypatch: pytest.MonkeyPatch, pairs: int
) -> None:
    order = MixtureOrder([shards, shards], ["train", "train"], seed=1)
    sampler = GlobalBatchSampler(order, 12, rank=1, world_size=2)
    expected = [batches_from(sampler, epoch, step=1) for epoch in range(2)]
    monkeypatch.setattr("shards.sampling.dataset._PAIRS_AT_ONCE", pairs)
    assert [batches_from(sampler, epoch, step=1) for epoch in range(2)] == expected


def test_dropped_pairs_differ_between_epochs(shards: ShardSet) -> None:
    sampler = GlobalBatchSampler(PairOrder(shards, "train", seed=1), 9)
    pairs = {index[:4] for index in evaluation_indices(shards, "train")}
    dropped = []
    for epoch in range(3):
        seen = [index[:4] for batch in batches_from(sampler, epoch) for index in batch]
        assert len(set(seen)) == len(seen) == 36
        dropped.append(frozenset(pairs - set(seen)))
    assert [len(rest) for rest in dropped] == [5, 5, 5]
    assert len(set(dropped)) == 3


@pytest.mark.parametrize(
    ("batch_size", "options", "message"),
    [
        (10, {"world_size": 4}, "10 cannot be divided among 4 ranks with 1 micro batches"),
        (12, {"world_size": 4, "micro_batches": 2}, "12 cannot be divided among 4 ranks with 2"),
        (0, {}, "0 cannot be divided"),
        (4, {"micro_batches": 0}, "with 0 micro batches"),
        (42, {}, "42 is more than the 41 pairs of an epoch"),
        (4, {"rank": 2, "world_size": 2}, "rank 2 of 2"),
    ],
)
def test_unusable_batches_are_refused(
    shards: ShardSet, batch_size: int, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        GlobalBatchSampler(PairOrder(shards, "train", seed=1), batch_size, **options)


@pytest.mark.parametrize(("epoch", "step"), [(-1, 0), (0, -1), (0, 5)])
def test_unusable_positions_are_refused(shards: ShardSet, epoch: int, step: int) -> None:
    sampler = GlobalBatchSampler(PairOrder(shards, "train", seed=1), 10)
    with pytest.raises(ValueError, match=f"step {step} of epoch {epoch}, which has 4 steps"):
        sampler.set_position(epoch, step)


# --- the dataset ----------------------------------------------------------------------------------


def test_samples_are_the_same_in_any_data_worker(shards: ShardSet) -> None:
    sampler = GlobalBatchSampler(PairOrder(shards, "train", seed=1), 10)
    dataset = PairDataset([shards], transform, seed=3)
    expected = [[dataset[index] for index in batch] for batch in batches_from(sampler)]
    assert len({number for batch in expected for _, _, number in batch}) == 40
    assert list(loader(dataset, sampler)) == expected
    for workers, context in [(2, "fork"), (1, "spawn")]:
        in_workers = loader(dataset, sampler, num_workers=workers, multiprocessing_context=context)
        assert list(in_workers) == expected
    sampler.set_position(0, 3)
    assert list(loader(dataset, sampler, num_workers=1)) == expected[3:]


def test_random_numbers_depend_on_seed_epoch_and_position(shards: ShardSet) -> None:
    index = SampleIndex(shard_set=0, shard=0, row=1, caption_index=0, epoch=2, position=7)
    samples = {
        PairDataset([shards], transform, seed=seed)[index._replace(epoch=epoch, position=position)]
        for seed in (0, 1)
        for epoch in (0, 1)
        for position in (0, 1)
    }
    assert len(samples) == 8
    assert PairDataset([shards], transform, seed=3)[index] == ("vg/1", 0, 1462554569122328559)


def test_persistent_workers_follow_the_position(shards: ShardSet) -> None:
    sampler = GlobalBatchSampler(PairOrder(shards, "train", seed=1), 10)
    dataset = PairDataset([shards], transform)
    persistent = loader(dataset, sampler, num_workers=1, persistent_workers=True)
    for epoch, step in [(0, 2), (1, 0), (0, 2)]:
        batches = batches_from(sampler, epoch, step)
        assert list(persistent) == [[dataset[index] for index in batch] for batch in batches]


def test_dataset_reads_the_sets_of_a_mixture(tmp_path: Path) -> None:
    sets = [
        ShardSet.open(write_shard_set(tmp_path / name, [[2] * 10, [1] * 10], name=name))
        for name in ("vg", "gqa")
    ]
    order = MixtureOrder(sets, ["train"] * 2, seed=0, weights=[1, 1])
    dataset = PairDataset(sets, transform)
    for batch in batches_from(GlobalBatchSampler(order, 20)):
        for index in batch:
            assert dataset[index][0].startswith(("vg/", "gqa/")[index.shard_set])


def test_damaged_pair_stops_the_loop_and_is_named(shards: ShardSet) -> None:
    path = Path(shards.location) / "train-00003-of-00005.tar"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"image of vg/7 ", b"image of vg/8 "))
    sampler = GlobalBatchSampler(PairOrder(shards, "train", seed=1), 10)
    with pytest.raises(ShardError, match=r"train-00003-of-00005\.tar: vg/7\.jpg is damaged"):
        list(loader(PairDataset([shards], transform), sampler, num_workers=1))


def refuse(pair: Pair, rng: np.random.Generator) -> TrainingSample:
    raise ValueError(f"{pair.key}: neither JPEG nor PNG")


@pytest.mark.parametrize("workers", [0, 1])
def test_error_of_the_transform_names_the_shard(shards: ShardSet, workers: int) -> None:
    dataset = PairDataset([shards, shards], refuse)
    index = SampleIndex(shard_set=1, shard=3, row=2, caption_index=0, epoch=0, position=0)
    with pytest.raises(ValueError) as refused:
        list(DataLoader(dataset, batch_size=None, sampler=[index], num_workers=workers))
    file = "train-00003-of-00005.tar"
    assert f"{shards.location}: {file}: vg/7: neither JPEG nor PNG" in str(refused.value)
    if not workers:
        assert str(refused.value).startswith(shards.location)
        assert str(refused.value.__cause__) == "vg/7: neither JPEG nor PNG"


def test_pickled_dataset_and_index_are_small(tmp_path: Path) -> None:
    sizes = []
    for count in (10, 100):
        shards = ShardSet.open(write_shard_set(tmp_path / str(count), [[1] * 3] * count))
        dataset = PairDataset([shards], transform)
        index = evaluation_indices(shards, "train")[-1]
        assert dataset[index][0] == f"vg/{3 * count - 1}"
        sizes.append(len(pickle.dumps(dataset)))
        assert len(pickle.dumps(index)) < 100
    assert sizes[1] < 100 * 350  # an entry of the manifest per shard, and no row of the index


# --- evaluation -----------------------------------------------------------------------------------


@pytest.mark.parametrize("world_size", [1, 2, 3, 7, 50])
def test_evaluation_has_every_pair_on_one_rank(shards: ShardSet, world_size: int) -> None:
    whole = evaluation_indices(shards, "train")
    assert len({index[:4] for index in whole}) == len(whole) == 41
    ranks = [
        evaluation_indices(shards, "train", rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    assert [index for indices in ranks for index in indices] == whole
    assert max(map(len, ranks)) - min(map(len, ranks)) <= 1


def test_evaluation_indices_are_a_sampler_of_a_loader(shards: ShardSet) -> None:
    batches = DataLoader(
        PairDataset([shards], transform),
        batch_size=8,
        sampler=evaluation_indices(shards, "train", rank=1, world_size=2),
        collate_fn=list,
        num_workers=2,
    )
    assert [len(batch) for batch in batches] == [8, 8, 5]


# --- remote sets ----------------------------------------------------------------------------------


def test_remote_set_gives_the_same_stream(shards: ShardSet, tmp_path: Path) -> None:
    def read(shards: ShardSet, **options: Any) -> list[list[TrainingSample]]:
        order = PairOrder(shards, "train", seed=1, block_shards=1)
        prefetcher = Prefetcher(order, [shards])
        sampler = GlobalBatchSampler(order, 10, prefetcher=prefetcher)
        batches: list[list[TrainingSample]] = []
        for epoch in range(2):  # in the second, the thread runs while workers start
            sampler.set_position(epoch, 0)
            batches += list(loader(PairDataset([shards], transform), sampler, **options))
        prefetcher.close()
        return batches

    expected = read(shards)
    with serve(Path(shards.location)) as server:
        remote = ShardSet.open(server.url, cache=tmp_path / "cache", cache_bytes=60_000)
        assert read(remote, num_workers=2, timeout=60) == expected
    assert sum(path.stat().st_size for path in (tmp_path / "cache").glob("*.tar")) <= 60_000

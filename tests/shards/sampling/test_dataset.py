"""The stream as PyTorch sees it: places, a dataset that is the same in every process, batches."""

import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader

from shards.format.manifest import ShardError
from shards.reading.prefetch import ReadAhead
from shards.reading.shard_set import ShardSet
from shards.sampling.dataset import GlobalBatchSampler, Pair, PairDataset, SampleIndex, every_pair
from shards.sampling.mixture import MixedOrder
from shards.sampling.sample_order import PairOrder
from tests.http_server import serve
from tests.shard_sets import image, write_shard_set

TrainingSample = tuple[str, int, int]


def transform(pair: Pair, rng: np.random.Generator) -> TrainingSample:
    assert bytes(pair.image) == image(pair.key)
    return pair.key, pair.number, int(rng.integers(1 << 62))


@pytest.fixture
def shards(tmp_path: Path) -> ShardSet:
    return ShardSet.open(
        write_shard_set(tmp_path / "set", [[1, 2, 3], [0, 4], [], [5] * 5, [1] * 6])
    )


def loader(dataset: PairDataset[TrainingSample], sampler: GlobalBatchSampler, **options: object):  # type: ignore[no-untyped-def]
    return DataLoader(dataset, batch_sampler=sampler, collate_fn=list, **options)


def lists(sampler: GlobalBatchSampler, epoch: int = 0, step: int = 0) -> list[list[SampleIndex]]:
    sampler.set_position(epoch, step)
    found = list(sampler)
    sampler.set_position(epoch, step)
    assert len(sampler) == len(found)
    return found


# --- the sampler ----------------------------------------------------------------------------------


def test_global_batches_are_the_same_for_all_ranks_and_micro_batches(shards: ShardSet) -> None:
    order = PairOrder(shards, "train", seed=1, block_shards=2)
    whole = lists(GlobalBatchSampler(order, 12), epoch=1)
    assert [len(batch) for batch in whole] == [12, 12, 12]
    for world_size, micro in [(1, 4), (2, 1), (2, 3), (4, 3), (12, 1)]:
        ranks = [
            lists(
                GlobalBatchSampler(order, 12, rank=r, world_size=world_size, micro_batches=micro),
                epoch=1,
            )
            for r in range(world_size)
        ]
        assert {len(of) for of in ranks} == {3 * micro}
        for step, expected in enumerate(whole):
            found = [place for of in ranks for m in of[step * micro :][:micro] for place in m]
            assert found == expected
    assert [place.position for batch in whole for place in batch] == list(range(36))


def test_it_goes_on_at_any_step(shards: ShardSet) -> None:
    sampler = GlobalBatchSampler(PairOrder(shards, "train", seed=1), 5)
    for epoch in (0, 2):
        whole = lists(sampler, epoch)
        assert len(whole) == sampler.steps == 8
        for step in range(9):
            assert lists(sampler, epoch, step) == whole[step:]
    assert lists(sampler, 0) != lists(sampler, 1)


def test_what_is_dropped_is_other_pairs_each_epoch(shards: ShardSet) -> None:
    sampler = GlobalBatchSampler(PairOrder(shards, "train", seed=1), 9)
    pairs = {place[:4] for place in every_pair(shards, "train")}
    dropped = []
    for epoch in range(3):
        seen = [place[:4] for batch in lists(sampler, epoch) for place in batch]
        assert len(set(seen)) == len(seen) == 36
        dropped.append(frozenset(pairs - set(seen)))
    assert [len(left) for left in dropped] == [5, 5, 5]
    assert len(set(dropped)) == 3


@pytest.mark.parametrize(
    ("batch", "options", "message"),
    [
        (10, {"world": 4}, "10 cannot be divided among 4 ranks with 1 micro batches"),
        (12, {"world": 4, "micro_batches": 2}, "12 cannot be divided among 4 ranks with 2 micro"),
        (0, {}, "0 cannot be divided"),
        (4, {"micro_batches": 0}, "with 0 micro batches"),
        (42, {}, "42 is more than the 41 pairs of an epoch"),
        (4, {"rank": 2, "world": 2}, "rank 2 of 2"),
    ],
)
def test_batches_that_make_no_sense(
    shards: ShardSet, batch: int, options: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        GlobalBatchSampler(PairOrder(shards, "train", seed=1), batch, **options)


@pytest.mark.parametrize(("epoch", "step"), [(-1, 0), (0, -1), (0, 5)])
def test_positions_that_make_no_sense(shards: ShardSet, epoch: int, step: int) -> None:
    sampler = GlobalBatchSampler(PairOrder(shards, "train", seed=1), 10)
    with pytest.raises(ValueError, match=f"step {step} of epoch {epoch}, which has 4 steps"):
        sampler.set_position(epoch, step)


# --- the dataset ----------------------------------------------------------------------------------


def test_samples_are_the_same_whoever_makes_them(shards: ShardSet) -> None:
    sampler = GlobalBatchSampler(PairOrder(shards, "train", seed=1), 10)
    dataset = PairDataset([shards], transform, seed=3)
    expected = [[dataset[place] for place in batch] for batch in lists(sampler)]
    numbers = {number for batch in expected for _, _, number in batch}
    assert len(numbers) == 40
    assert list(loader(dataset, sampler)) == expected
    for workers, context in [(2, "fork"), (1, "spawn")]:
        found = loader(dataset, sampler, num_workers=workers, multiprocessing_context=context)
        assert list(found) == expected
    sampler.set_position(0, 3)
    assert list(loader(dataset, sampler, num_workers=1)) == expected[3:]


def test_chance_is_of_seed_epoch_and_position(shards: ShardSet) -> None:
    place = SampleIndex(0, 0, 1, 0, 2, 7)
    found = {
        PairDataset([shards], transform, seed=seed)[place._replace(epoch=epoch, position=position)]
        for seed in (0, 1)
        for epoch in (0, 1)
        for position in (0, 1)
    }
    assert len(found) == 8
    assert PairDataset([shards], transform, seed=3)[place] == ("vg/1", 0, 3152455246446184300)


def test_workers_that_stay_see_the_position_that_is_set(shards: ShardSet) -> None:
    sampler = GlobalBatchSampler(PairOrder(shards, "train", seed=1), 10)
    dataset = PairDataset([shards], transform)
    staying = loader(dataset, sampler, num_workers=1, persistent_workers=True)
    for epoch, step in [(0, 2), (1, 0), (0, 2)]:
        expected = [[dataset[p] for p in batch] for batch in lists(sampler, epoch, step)]
        assert list(staying) == expected


def test_a_mixture(tmp_path: Path) -> None:
    sets = [
        ShardSet.open(write_shard_set(tmp_path / name, [[2] * 10, [1] * 10], name=name))
        for name in ("vg", "gqa")
    ]
    order = MixedOrder(sets, ["train"] * 2, seed=0, weights=[1, 1])
    dataset = PairDataset(sets, transform)
    for batch in lists(GlobalBatchSampler(order, 20)):
        for place in batch:
            assert dataset[place][0].startswith(("vg/", "gqa/")[place.set])


def test_a_damaged_pair_stops_the_loop_and_is_named(shards: ShardSet) -> None:
    path = Path(shards.location) / "train-00003-of-00005.tar"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"image of vg/7 ", b"image of vg/8 "))
    sampler = GlobalBatchSampler(PairOrder(shards, "train", seed=1), 10)
    with pytest.raises(ShardError, match=r"train-00003-of-00005\.tar: vg/7\.jpg is damaged"):
        list(loader(PairDataset([shards], transform), sampler, num_workers=1))


def refuse(pair: Pair, rng: np.random.Generator) -> TrainingSample:
    raise ValueError(f"{pair.key}: neither JPEG nor PNG")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_pair_that_the_transform_refuses_is_found_by_its_shard(
    shards: ShardSet, workers: int
) -> None:
    dataset = PairDataset([shards, shards], refuse)
    reader = DataLoader(
        dataset, batch_size=None, sampler=[SampleIndex(1, 3, 2, 0, 0, 0)], num_workers=workers
    )
    with pytest.raises(ValueError) as refused:
        list(reader)
    file = "train-00003-of-00005.tar"
    assert f"{shards.location}: {file}: vg/7: neither JPEG nor PNG" in str(refused.value)
    if not workers:
        assert str(refused.value).startswith(shards.location)
        assert str(refused.value.__cause__) == "vg/7: neither JPEG nor PNG"


def test_what_goes_to_a_worker_is_small(tmp_path: Path) -> None:
    sizes = []
    for shards in (10, 100):
        of = ShardSet.open(write_shard_set(tmp_path / str(shards), [[1] * 3] * shards))
        dataset = PairDataset([of], transform)
        place = every_pair(of, "train")[-1]
        assert dataset[place][0] == f"vg/{3 * shards - 1}"
        sizes.append(len(pickle.dumps(dataset)))
        assert len(pickle.dumps(place)) < 100
    assert sizes[1] < 100 * 250  # an entry of the manifest a shard, and no row of the index


# --- evaluation -----------------------------------------------------------------------------------


def ranks(shards: ShardSet, world_size: int) -> Iterator[list[SampleIndex]]:
    return (every_pair(shards, "train", rank=r, world_size=world_size) for r in range(world_size))


@pytest.mark.parametrize("world", [1, 2, 3, 7, 50])
def test_evaluation_sees_every_pair_once(shards: ShardSet, world_size: int) -> None:
    whole = every_pair(shards, "train")
    assert len({place[:4] for place in whole}) == len(whole) == 41
    parts = list(ranks(shards, world_size))
    assert [place for part in parts for place in part] == whole
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_evaluation_in_a_loader(shards: ShardSet) -> None:
    dataset = PairDataset([shards], transform)
    found = DataLoader(
        dataset,
        batch_size=8,
        sampler=every_pair(shards, "train", rank=1, world_size=2),
        collate_fn=list,
        num_workers=2,
    )
    assert [len(batch) for batch in found] == [8, 8, 5]


# --- from afar ------------------------------------------------------------------------------------


def test_a_remote_set_is_the_same_stream(shards: ShardSet, tmp_path: Path) -> None:
    def read(of: ShardSet, **options: object) -> list[list[TrainingSample]]:
        order = PairOrder(of, "train", seed=1, block_shards=1)
        ahead = ReadAhead(order, [of])
        sampler = GlobalBatchSampler(order, 10, read_ahead=ahead)
        batches = []
        for epoch in range(2):  # the second time, the thread runs while workers are started
            sampler.set_position(epoch, 0)
            batches += list(loader(PairDataset([of], transform), sampler, **options))
        ahead.close()
        return batches

    expected = read(shards)
    with serve(Path(shards.location)) as server:
        remote = ShardSet.open(server.url, cache=tmp_path / "cache", cache_bytes=60_000)
        found = read(remote, num_workers=2, timeout=60)
    assert found == expected
    assert sum(path.stat().st_size for path in (tmp_path / "cache").glob("*.tar")) <= 60_000

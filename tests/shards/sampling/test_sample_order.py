"""The order of pairs: each once per epoch, and the same from any position and on any rank."""

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.reading.shard_set import ShardSet
from shards.sampling.aspect_buckets import AspectBucketOrder
from shards.sampling.mixture import MixtureOrder, quotas
from shards.sampling.sample_order import (
    PairOrder,
    RandomNumbers,
    SampleIndices,
    SampleOrder,
    permutation,
)
from tests.shard_sets import write_index_only

Shards = list[list[int]]  # captions of each image of each shard

shard_sets = st.lists(st.lists(st.integers(0, 4), max_size=5), min_size=1, max_size=7).filter(
    lambda shards: sum(map(sum, shards)) > 0
)
seeds = st.integers(0, 2**64)
epochs = st.integers(0, 3)
SIZES = [(640, 480), (480, 640), (500, 375), (300, 900), (512, 512)]


@contextmanager
def opened(*sets: Shards) -> Iterator[list[ShardSet]]:
    with tempfile.TemporaryDirectory() as folder:
        yield [
            ShardSet.open(write_index_only(Path(folder) / str(i), shards, sizes=SIZES))
            for i, shards in enumerate(sets)
        ]


def whole_epoch(order: SampleOrder, epoch: int) -> SampleIndices:
    return order.indices(epoch, 0, order.pairs)


def all_pairs(shards: Shards) -> set[tuple[int, int, int]]:
    return {
        (shard, row, caption)
        for shard, images in enumerate(shards)
        for row, captions in enumerate(images)
        for caption in range(captions)
    }


def as_tuples(indices: SampleIndices) -> list[tuple[int, int, int]]:
    return [tuple(index) for index in indices[["shard", "row", "caption_index"]].tolist()]


@settings(max_examples=25, deadline=None)
@given(shard_sets, seeds, epochs, st.integers(1, 9), st.integers(1, 3))
def test_epoch_has_every_pair_once(
    counts: Shards, seed: int, epoch: int, block_shards: int, captions_per_image: int
) -> None:
    with opened(counts) as [shards]:
        order = PairOrder(
            shards,
            "train",
            seed=seed,
            block_shards=block_shards,
            captions_per_image=captions_per_image,
        )
        pairs = as_tuples(whole_epoch(order, epoch))
        assert len(pairs) == order.pairs == shards.pairs("train")
        assert set(pairs) == all_pairs(counts)


@settings(max_examples=25, deadline=None)
@given(shard_sets, seeds, epochs, st.integers(1, 9), st.data())
def test_ranges_in_any_order_join_to_the_whole_epoch(
    counts: Shards, seed: int, epoch: int, block_shards: int, data: st.DataObject
) -> None:
    with opened(counts, counts[::-1]) as sets:
        pair_order = PairOrder(sets[0], "train", seed=seed, block_shards=block_shards)
        batch_size = data.draw(st.integers(1, 5))
        orders: list[SampleOrder] = [
            pair_order,
            AspectBucketOrder(pair_order, batch_size, seed=seed, window=3),
            MixtureOrder(sets, ["train"] * 2, seed=seed, block_shards=block_shards),
        ]
        for order in orders:
            bounds = sorted(data.draw(st.lists(st.integers(0, order.pairs), max_size=6)))
            ranges = [*zip([0, *bounds], [*bounds, order.pairs], strict=True)]
            requests = data.draw(st.permutations([r for r in ranges if r[0] < r[1]]))
            parts = {start: order.indices(epoch, start, stop) for start, stop in requests}
            joined = np.concatenate([parts[start] for start in sorted(parts)])
            assert np.array_equal(joined, whole_epoch(order, epoch))


def test_order_never_changes_between_versions(tmp_path: Path) -> None:
    """A change here changes every training run that is resumed."""
    shards = ShardSet.open(write_index_only(tmp_path, [[1, 2], [3], [2, 2]], sizes=SIZES))
    order = PairOrder(shards, "train", seed=1, block_shards=2)
    assert as_tuples(whole_epoch(order, 0)) == [
        (1, 0, 0),
        (0, 1, 0),
        (1, 0, 1),
        (1, 0, 2),
        (0, 0, 0),
        (0, 1, 1),
        (2, 1, 1),
        (2, 1, 0),
        (2, 0, 0),
        (2, 0, 1),
    ]
    mixture = whole_epoch(MixtureOrder([shards] * 2, ["train"] * 2, seed=1), 0)
    assert "".join(map(str, mixture["shard_set"])) == "10110000101000101000"
    assert permutation(5, 2**70, 1, 2).tolist() == [1, 3, 0, 2, 4]


def test_replayed_set_fills_its_share_of_an_epoch_whatever_its_size(tmp_path: Path) -> None:
    small = ShardSet.open(write_index_only(tmp_path / "small", [[5] * 20] * 20))
    large = ShardSet.open(write_index_only(tmp_path / "large", [[5] * 60] * 60))
    order = MixtureOrder([small, large], ["train"] * 2, seed=1, weights=[1, 3], replayed=[1])
    assert order.pairs == 4 * 2_000
    five_epochs = np.concatenate([whole_epoch(order, epoch) for epoch in range(5)])
    assert np.bincount(five_epochs["shard_set"]).tolist() == [10_000, 30_000]
    of_small = five_epochs[five_epochs["shard_set"] == 0][["shard", "row", "caption_index"]]
    assert (np.unique(of_small, return_counts=True)[1] == 5).all()
    with pytest.raises(ValueError, match="all sets are replayed"):
        MixtureOrder([small], ["train"], seed=1, replayed=[0])


def test_epochs_seeds_and_sets_of_a_mixture_have_different_orders(tmp_path: Path) -> None:
    shards = ShardSet.open(write_index_only(tmp_path, [[5] * 10] * 4))
    orders = {
        tuple(as_tuples(whole_epoch(PairOrder(shards, "train", seed=seed, number=number), epoch)))
        for seed in (0, 1)
        for number in (0, 1)
        for epoch in (0, 1)
    }
    assert len(orders) == 8


def test_block_holds_the_pairs_of_its_shards(tmp_path: Path) -> None:
    shards = ShardSet.open(write_index_only(tmp_path, [[2, 1]] * 8))
    order = whole_epoch(PairOrder(shards, "train", seed=0, block_shards=2), 0)["shard"]
    blocks = [set(order[start : start + 6].tolist()) for start in range(0, 24, 6)]
    assert [len(block) for block in blocks] == [2] * 4
    assert set().union(*blocks) == set(range(8))


@settings(max_examples=25, deadline=None)
@given(shard_sets, seeds, st.integers(2, 4))
def test_captions_of_an_image_are_grouped(
    counts: Shards, seed: int, captions_per_image: int
) -> None:
    """Captions are in runs of the configured length, and one run of the remainder."""
    with opened(counts) as [shards]:
        order = PairOrder(shards, "train", seed=seed, captions_per_image=captions_per_image)
        images = [pair[:2] for pair in as_tuples(whole_epoch(order, 0))]
    seen: Counter[tuple[int, ...]] = Counter()
    while images:
        image = images[0]
        run = min(captions_per_image, counts[image[0]][image[1]] - seen[image])
        assert images[:run] == [image] * run
        seen[image] += run
        del images[:run]


def test_runs_of_captions_are_shuffled(tmp_path: Path) -> None:
    shards = ShardSet.open(write_index_only(tmp_path, [[4] * 50]))
    indices = whole_epoch(PairOrder(shards, "train", seed=0, captions_per_image=2), 0)
    runs = indices["row"][::2]
    assert (runs == indices["row"][1::2]).all()
    assert sorted(runs.tolist()) == sorted([*range(50)] * 2)
    assert (np.diff(runs) == 0).mean() < 0.1
    captions = indices["caption_index"]
    assert not (captions[::2] < captions[1::2]).all()


def test_pairs_of_a_block_are_uniformly_shuffled(tmp_path: Path) -> None:
    shards = ShardSet.open(write_index_only(tmp_path, [[1, 1], [1, 1]]))
    counts: Counter[tuple[int, int]] = Counter()
    for seed in range(800):
        indices = whole_epoch(PairOrder(shards, "train", seed=seed), 0)
        counts.update(
            (int(index["shard"] * 2 + index["row"]), position)
            for position, index in enumerate(indices)
        )
    expected = 800 / 4
    assert sum((n - expected) ** 2 / expected for n in counts.values()) < 28  # 9 degrees, p 0.001


def test_indices_have_the_size_of_the_image(tmp_path: Path) -> None:
    shards = ShardSet.open(write_index_only(tmp_path, [[1, 1, 1], [1, 2, 1]], sizes=SIZES))
    for index in whole_epoch(PairOrder(shards, "train", seed=0), 0):
        image = 3 * index["shard"] + index["row"]
        assert (index["width"], index["height"]) == SIZES[image % len(SIZES)]


def test_unusable_arguments_are_refused(tmp_path: Path) -> None:
    shards = ShardSet.open(write_index_only(tmp_path / "some", [[1]]))
    with pytest.raises(ValueError, match="has no split 'val'; it has train"):
        PairOrder(shards, "val", seed=0)
    with pytest.raises(ValueError, match="less than one shard"):
        PairOrder(shards, "train", seed=0, block_shards=0)
    with pytest.raises(ValueError, match="captions_per_image is 0, less than one caption"):
        PairOrder(shards, "train", seed=0, captions_per_image=0)
    none = ShardSet.open(write_index_only(tmp_path / "none", [[], [0, 0]]))
    with pytest.raises(ValueError, match=r"split 'train' of .* has no pairs"):
        PairOrder(none, "train", seed=0)


# --- upcoming shards ------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(shard_sets, shard_sets, seeds, st.integers(1, 4), st.data())
def test_upcoming_shards_are_those_of_the_next_pairs(
    a: Shards, b: Shards, seed: int, block_shards: int, data: st.DataObject
) -> None:
    with opened(a, b) as sets:
        for order in (
            MixtureOrder(sets, ["train"] * 2, seed=seed, block_shards=block_shards),
            PairOrder(sets[0], "train", seed=seed, block_shards=block_shards),
        ):
            position = data.draw(st.integers(0, order.pairs - 1))
            rest = order.indices(1, position, order.pairs)[["shard_set", "shard"]].tolist()
            near = list(islice(order.upcoming_shards(1, position), 40))
            assert rest[0] in [(s.shard_set, s.shard) for s in near if s.distance == 0]
            assert [s.distance for s in near] == sorted(s.distance for s in near)
            reached = set()
            for upcoming in islice(order.upcoming_shards(1, position), 20_000):
                if upcoming.distance > 3 * order.pairs:
                    break
                reached.add((upcoming.shard_set, upcoming.shard))
            assert {*rest} <= reached


def test_upcoming_shards_of_a_rare_set_are_those_of_its_next_pair(tmp_path: Path) -> None:
    """It has one of 10,000 slots, so 10,000 slots from a position on may have none of it."""
    large = ShardSet.open(write_index_only(tmp_path / "large", [[100] * 80, [100] * 60]))
    rare = ShardSet.open(write_index_only(tmp_path / "rare", [[1]] * 5))
    order = MixtureOrder([large, rare], ["train"] * 2, seed=1, weights=[9_999, 1], block_shards=1)
    stream = np.concatenate([whole_epoch(order, epoch) for epoch in range(5)])
    [slots] = np.nonzero(stream["shard_set"] == 1)
    for position in range(0, int(slots[-1]), 700):
        epoch, position_in_epoch = divmod(position, order.pairs)
        upcoming = order.upcoming_shards(epoch, position_in_epoch)
        following = stream["shard"][slots[np.searchsorted(slots, position)]]
        assert next(u.shard for u in upcoming if u.shard_set == 1) == following


# --- mixtures -------------------------------------------------------------------------------------


def test_mixture_keeps_its_weights_and_the_epochs_of_each_set(tmp_path: Path) -> None:
    small = ShardSet.open(write_index_only(tmp_path / "small", [[3, 2], [4]]))
    large = ShardSet.open(write_index_only(tmp_path / "large", [[100] * 60, [100] * 91]))
    order = MixtureOrder([small, large], ["train"] * 2, seed=5, weights=[1, 3])
    stream = np.concatenate([whole_epoch(order, epoch) for epoch in range(3)])
    assert order.pairs == 9 + 15_100
    counts = [np.bincount(stream["shard_set"][k : k + 10_000]) for k in range(0, 40_000, 10_000)]
    assert [c.tolist() for c in counts] == [[2500, 7500]] * 4
    for i, shards in enumerate((small, large)):
        in_mixture = stream[stream["shard_set"] == i]
        single = PairOrder(shards, "train", seed=5, number=i)
        rounds = -(-len(in_mixture) // single.pairs)
        expected = np.concatenate([whole_epoch(single, epoch) for epoch in range(rounds)])
        assert np.array_equal(in_mixture, expected[: len(in_mixture)])


def test_mixture_without_weights_follows_the_sizes(tmp_path: Path) -> None:
    a = ShardSet.open(write_index_only(tmp_path / "a", [[10] * 10]))
    b = ShardSet.open(write_index_only(tmp_path / "b", [[10] * 30]))
    sets = whole_epoch(MixtureOrder([a, b], ["train"] * 2, seed=0), 0)["shard_set"]
    assert 0.15 < (sets == 0).mean() < 0.35


def test_mixture_takes_a_split_of_each_set(tmp_path: Path) -> None:
    a = ShardSet.open(write_index_only(tmp_path / "a", [[3, 2]]))
    b = ShardSet.open(write_index_only(tmp_path / "b", [[4]], "minival"))
    order = MixtureOrder([a, b], ["train", "minival"], seed=0)
    assert order.pairs == 9
    assert set(whole_epoch(order, 0)["shard_set"].tolist()) == {0, 1}
    for splits, message in [
        (["train"], "1 splits of 2 shard sets"),
        (["train", "minival", "val"], "3 splits of 2 shard sets"),
        (["minival", "train"], "a has no split 'minival'; it has train"),
    ]:
        with pytest.raises(ValueError, match=message):
            MixtureOrder([a, b], splits, seed=0)


@given(st.lists(st.floats(1e-3, 1), min_size=1, max_size=6))
def test_quotas_add_up_and_are_near_their_shares(weights: list[float]) -> None:
    slots = quotas(weights, len(weights))
    assert slots.sum() == 10_000
    assert np.abs(slots - 10_000 * np.array(weights) / sum(weights)).max() <= 1


@pytest.mark.parametrize("weights", [[], [1.0], [1, 0], [1, -1], [1, float("nan")], [1, 1e-9]])
def test_unusable_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weights"):
        quotas(weights, 2)


# --- aspect buckets -------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(shard_sets, seeds, st.integers(1, 6), st.integers(1, 5))
def test_buckets_hold_the_pairs_of_their_windows(
    counts: Shards, seed: int, batch_size: int, window: int
) -> None:
    with opened(counts) as [shards]:
        order = PairOrder(shards, "train", seed=seed)
        buckets = AspectBucketOrder(order, batch_size, seed=seed, window=window)
        before, after = whole_epoch(order, 0), whole_epoch(buckets, 0)
        for start in range(0, order.pairs, batch_size * window):
            part = slice(start, start + batch_size * window)
            assert Counter(before[part].tolist()) == Counter(after[part].tolist())
        whole = order.pairs // batch_size * batch_size
        assert np.array_equal(before[whole:], after[whole:])  # dropped with or without buckets


def test_batches_have_similar_shapes_and_are_shuffled(tmp_path: Path) -> None:
    shards = ShardSet.open(write_index_only(tmp_path, [[2] * 60] * 4, sizes=SIZES))
    order = AspectBucketOrder(PairOrder(shards, "train", seed=0), 8, seed=0, window=60)
    indices = whole_epoch(order, 0)
    batches = (indices["width"] / indices["height"]).reshape(60, 8)
    assert np.mean(batches.min(1) == batches.max(1)) > 0.9
    assert np.any(np.diff(batches.mean(1)) < 0) and np.any(np.diff(batches.mean(1)) > 0)


def test_unusable_windows_are_refused(tmp_path: Path) -> None:
    order = PairOrder(ShardSet.open(write_index_only(tmp_path, [[1]])), "train", seed=0)
    for batch_size, window in [(0, 1), (1, 0)]:
        with pytest.raises(ValueError, match="windows of"):
            AspectBucketOrder(order, batch_size, seed=0, window=window)


@given(st.lists(st.integers(0, 4), max_size=6))
def test_random_numbers_of_a_position_do_not_depend_on_what_was_drawn_before(
    drawn: list[int],
) -> None:
    """Generators keep half of a drawn 64-bit number for the next 32-bit one."""
    numbers = RandomNumbers(seed=5)
    for position, count in enumerate(drawn):
        numbers.at(position % 2, position).integers(0, 9, count, dtype=np.uint32)
    expected = RandomNumbers(seed=5).at(1, 7).integers(0, 2**32, 5, dtype=np.uint32)
    assert numbers.at(1, 7).integers(0, 2**32, 5, dtype=np.uint32).tolist() == expected.tolist()


def test_random_numbers_differ_between_seeds_epochs_and_positions() -> None:
    keys = [(seed, epoch, position) for seed in (1, 2) for epoch in (0, 1) for position in range(9)]
    draws = {RandomNumbers(seed).at(epoch, position).random() for seed, epoch, position in keys}
    assert len(draws) == len(keys)

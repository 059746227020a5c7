"""The order of pairs: each once, the same from wherever it is read, for any number of ranks."""

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
from shards.sampling.aspect_buckets import AspectOrder
from shards.sampling.mixture import MixedOrder, quotas
from shards.sampling.sample_order import PLACES, Order, PairOrder, SampleIndices, permutation
from tests.shard_sets import write_shard_set

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
            ShardSet.open(write_shard_set(Path(folder) / str(i), shards, sizes=SIZES))
            for i, shards in enumerate(sets)
        ]


def everything(order: Order, epoch: int) -> SampleIndices:
    return order.places(epoch, 0, order.pairs)


def all_pairs(shards: Shards) -> set[tuple[int, int, int]]:
    return {
        (shard, row, number)
        for shard, images in enumerate(shards)
        for row, captions in enumerate(images)
        for number in range(captions)
    }


def as_tuples(places: SampleIndices) -> list[tuple[int, int, int]]:
    return [tuple(place) for place in places[["shard", "row", "number"]].tolist()]


@settings(max_examples=25, deadline=None)
@given(shard_sets, seeds, epochs, st.integers(1, 9), st.integers(1, 3))
def test_an_epoch_is_every_pair_once(
    shards: Shards, seed: int, epoch: int, block: int, together: int
) -> None:
    with opened(shards) as [of]:
        order = PairOrder(of, "train", seed=seed, block_shards=block, together=together)
        found = as_tuples(everything(order, epoch))
        assert len(found) == order.pairs == of.pairs("train")
        assert set(found) == all_pairs(shards)


@settings(max_examples=25, deadline=None)
@given(shard_sets, seeds, epochs, st.integers(1, 9), st.data())
def test_any_part_is_the_same_as_in_one_go(
    shards: Shards, seed: int, epoch: int, block: int, data: st.DataObject
) -> None:
    with opened(shards, shards[::-1]) as [of, other]:
        orders: list[Order] = [PairOrder(of, "train", seed=seed, block_shards=block)]
        orders.append(AspectOrder(orders[0], data.draw(st.integers(1, 5)), seed=seed, window=3))
        orders.append(MixedOrder([of, other], ["train"] * 2, seed=seed, block_shards=block))
        for order in orders:
            whole = everything(order, epoch)
            cuts = sorted(data.draw(st.lists(st.integers(0, order.pairs), max_size=6)))
            ranges = [*zip([0, *cuts], [*cuts, order.pairs], strict=True)]
            order_of_asking = data.draw(st.permutations([r for r in ranges if r[0] < r[1]]))
            parts = {start: order.places(epoch, start, stop) for start, stop in order_of_asking}
            assert np.array_equal(np.concatenate([parts[k] for k in sorted(parts)]), whole)


def test_the_order_is_for_ever(tmp_path: Path) -> None:
    """A change here is a change of every run that is continued."""
    of = ShardSet.open(write_shard_set(tmp_path, [[1, 2], [3], [2, 2]], sizes=SIZES))
    order = PairOrder(of, "train", seed=1, block_shards=2)
    assert as_tuples(everything(order, 0)) == [
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
    mixed = everything(MixedOrder([of, of], ["train"] * 2, seed=1), 0)
    assert mixed["set"].tolist() == [1, 0, 1, 1, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0]
    assert permutation(5, 2**70, 1, 2).tolist() == [1, 3, 0, 2, 4]


def test_epochs_and_seeds_and_places_in_a_mixture_differ(tmp_path: Path) -> None:
    of = ShardSet.open(write_shard_set(tmp_path, [[5] * 10] * 4))
    found = {
        tuple(as_tuples(everything(PairOrder(of, "train", seed=seed, number=number), epoch)))
        for seed in (0, 1)
        for number in (0, 1)
        for epoch in (0, 1)
    }
    assert len(found) == 8


def test_blocks_are_of_consecutive_shards(tmp_path: Path) -> None:
    of = ShardSet.open(write_shard_set(tmp_path, [[2, 1]] * 8))
    shards = everything(PairOrder(of, "train", seed=0, block_shards=2), 0)["shard"]
    blocks = [set(shards[start : start + 6].tolist()) for start in range(0, 24, 6)]
    assert [len(block) for block in blocks] == [2] * 4
    assert set().union(*blocks) == set(range(8))


@settings(max_examples=25, deadline=None)
@given(shard_sets, seeds, st.integers(2, 4))
def test_captions_of_an_image_lie_together(shards: Shards, seed: int, together: int) -> None:
    """In runs of as many as asked for, and one of what is left; the runs are shuffled."""
    with opened(shards) as [of]:
        order = PairOrder(of, "train", seed=seed, together=together)
        places = as_tuples(everything(order, 0))
    images = [place[:2] for place in places]
    found: dict[tuple[int, ...], list[int]] = {image: [] for image in images}
    while images:
        image, sizes = images[0], found[images[0]]
        total = shards[image[0]][image[1]]
        sizes.append(min(together, total - sum(sizes)))
        assert images[: sizes[-1]] == [image] * sizes[-1]
        del images[: sizes[-1]]


def test_runs_of_captions_are_shuffled(tmp_path: Path) -> None:
    of = ShardSet.open(write_shard_set(tmp_path, [[4] * 50]))
    places = everything(PairOrder(of, "train", seed=0, together=2), 0)
    runs = places["row"][::2]
    assert (runs == places["row"][1::2]).all()
    assert sorted(runs.tolist()) == sorted([*range(50)] * 2)
    assert (np.diff(runs) == 0).mean() < 0.1
    assert not (places["number"][::2] < places["number"][1::2]).all()


def test_a_block_of_many_shards_is_a_shuffle_of_all(tmp_path: Path) -> None:
    """Every pair is as likely at every position."""
    of = ShardSet.open(write_shard_set(tmp_path, [[1, 1], [1, 1]]))
    counts: Counter[tuple[int, int]] = Counter()
    for seed in range(800):
        places = everything(PairOrder(of, "train", seed=seed), 0)
        counts.update((int(p["shard"] * 2 + p["row"]), i) for i, p in enumerate(places))
    expected = 800 / 4
    assert sum((n - expected) ** 2 / expected for n in counts.values()) < 28  # 9 degrees, p 0.001


def test_places_tell_what_images_measure(tmp_path: Path) -> None:
    of = ShardSet.open(write_shard_set(tmp_path, [[1, 1, 1], [1, 2, 1]], sizes=SIZES))
    for place in everything(PairOrder(of, "train", seed=0), 0):
        image = 3 * place["shard"] + place["row"]
        assert (place["width"], place["height"]) == SIZES[image % len(SIZES)]


def test_what_cannot_be_ordered(tmp_path: Path) -> None:
    of = ShardSet.open(write_shard_set(tmp_path / "some", [[1]]))
    with pytest.raises(ValueError, match="has no split 'val'; it has train"):
        PairOrder(of, "val", seed=0)
    with pytest.raises(ValueError, match="less than one shard"):
        PairOrder(of, "train", seed=0, block_shards=0)
    with pytest.raises(ValueError, match="0 captions together"):
        PairOrder(of, "train", seed=0, together=0)
    none = ShardSet.open(write_shard_set(tmp_path / "none", [[], [0, 0]]))
    with pytest.raises(ValueError, match=r"split 'train' of .* has no pairs"):
        PairOrder(none, "train", seed=0)


# --- shards that are needed next ------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(shard_sets, shard_sets, seeds, st.integers(1, 4), st.data())
def test_the_shards_ahead_are_those_that_come(
    a: Shards, b: Shards, seed: int, block: int, data: st.DataObject
) -> None:
    with opened(a, b) as sets:
        order = MixedOrder(sets, ["train"] * 2, seed=seed, block_shards=block)
        for one in (order, PairOrder(sets[0], "train", seed=seed, block_shards=block)):
            position = data.draw(st.integers(0, one.pairs - 1))
            now = one.places(1, position, position + 1)[0]
            ahead = list(islice(one.ahead(1, position), 40))
            assert (now["set"], now["shard"]) in [(f.set, f.shard) for f in ahead if not f.distance]
            assert [f.distance for f in ahead] == sorted(f.distance for f in ahead)
            coming = {
                tuple(p) for p in one.places(1, position, one.pairs)[["set", "shard"]].tolist()
            }
            far = islice(one.ahead(1, position), 20_000)
            reached = set()
            for found in far:
                if found.distance > 3 * one.pairs:
                    break
                reached.add((found.set, found.shard))
            assert coming <= reached


# --- mixtures -------------------------------------------------------------------------------------


def test_a_mixture_keeps_its_weights_and_each_set_its_own_epochs(tmp_path: Path) -> None:
    small = ShardSet.open(write_shard_set(tmp_path / "small", [[3, 2], [4]]))
    large = ShardSet.open(write_shard_set(tmp_path / "large", [[100] * 60, [100] * 91]))
    order = MixedOrder([small, large], ["train"] * 2, seed=5, weights=[1, 3])
    stream = np.concatenate([everything(order, epoch) for epoch in range(3)])
    assert order.pairs == 9 + 15_100
    counts = [np.bincount(stream["set"][k : k + 10_000]) for k in range(0, 40_000, 10_000)]
    assert [c.tolist() for c in counts] == [[2500, 7500]] * 4
    for number, alone in enumerate(
        [PairOrder(of, "train", seed=5, number=i) for i, of in enumerate([small, large])]
    ):
        mine = stream[stream["set"] == number]
        rounds = -(-len(mine) // alone.pairs)
        own = np.concatenate([everything(alone, epoch) for epoch in range(rounds)])
        assert np.array_equal(mine, own[: len(mine)])


def test_without_weights_a_mixture_is_by_size(tmp_path: Path) -> None:
    a = ShardSet.open(write_shard_set(tmp_path / "a", [[10] * 10]))
    b = ShardSet.open(write_shard_set(tmp_path / "b", [[10] * 30]))
    sets = everything(MixedOrder([a, b], ["train"] * 2, seed=0), 0)["set"]
    assert 0.15 < (sets == 0).mean() < 0.35


def test_a_mixture_takes_a_split_of_each_set(tmp_path: Path) -> None:
    a = ShardSet.open(write_shard_set(tmp_path / "a", [[3, 2]]))
    b = ShardSet.open(write_shard_set(tmp_path / "b", [[4]], "minival"))
    order = MixedOrder([a, b], ["train", "minival"], seed=0)
    assert order.pairs == 9
    assert set(everything(order, 0)["set"].tolist()) == {0, 1}
    for splits, message in [
        (["train"], "1 splits of 2 shard sets"),
        (["train", "minival", "val"], "3 splits of 2 shard sets"),
        (["minival", "train"], "a has no split 'minival'; it has train"),
    ]:
        with pytest.raises(ValueError, match=message):
            MixedOrder([a, b], splits, seed=0)


@given(st.lists(st.floats(1e-3, 1), min_size=1, max_size=6))
def test_quotas_add_up_and_are_near_their_shares(weights: list[float]) -> None:
    found = quotas(weights, len(weights))
    assert found.sum() == 10_000
    assert np.abs(found - 10_000 * np.array(weights) / sum(weights)).max() <= 1


@pytest.mark.parametrize("weights", [[], [1.0], [1, 0], [1, -1], [1, float("nan")], [1, 1e-9]])
def test_weights_that_make_no_sense(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weights"):
        quotas(weights, 2)


# --- buckets by aspect ratio ----------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(shard_sets, seeds, st.integers(1, 6), st.integers(1, 5))
def test_buckets_hold_the_pairs_of_their_windows(
    shards: Shards, seed: int, batch: int, window: int
) -> None:
    with opened(shards) as [of]:
        order = PairOrder(of, "train", seed=seed)
        before, after = (
            everything(order, 0),
            everything(AspectOrder(order, batch, seed=seed, window=window), 0),
        )
        for start in range(0, order.pairs, batch * window):
            part = slice(start, start + batch * window)
            assert Counter(before[part].tolist()) == Counter(after[part].tolist())
        whole = order.pairs // batch * batch
        assert np.array_equal(before[whole:], after[whole:])  # dropped with or without buckets


def test_batches_are_of_like_shape_and_in_no_order(tmp_path: Path) -> None:
    of = ShardSet.open(write_shard_set(tmp_path, [[2] * 60] * 4, sizes=SIZES))
    order = AspectOrder(PairOrder(of, "train", seed=0), 8, seed=0, window=60)
    places = everything(order, 0)
    batches = (places["width"] / places["height"]).reshape(60, 8)
    assert np.mean(batches.min(1) == batches.max(1)) > 0.9
    assert np.any(np.diff(batches.mean(1)) < 0) and np.any(np.diff(batches.mean(1)) > 0)


def test_windows_that_make_no_sense(tmp_path: Path) -> None:
    order = PairOrder(ShardSet.open(write_shard_set(tmp_path, [[1]])), "train", seed=0)
    for batch, window in [(0, 1), (1, 0)]:
        with pytest.raises(ValueError, match="windows of"):
            AspectOrder(order, batch, seed=0, window=window)


def test_places_are_small() -> None:
    assert PLACES.itemsize == 24

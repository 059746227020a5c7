"""The shard of an image."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.format.placement import is_safe_key, position, shard_of

keys = st.builds("{}/{}".format, st.sampled_from(["coco", "vg", "gqa"]), st.integers(0, 10**7))


@given(keys, st.integers(1, 99_999), st.text(max_size=40))
def test_every_key_has_one_of_the_shards(key: str, shards: int, salt: str) -> None:
    assert 0 <= shard_of(key, shards, salt) < shards


def test_placement_never_changes_between_versions() -> None:
    """A change here changes every shard set."""
    assert position("coco/139", "") == 0xF6FEF4E5A8C9B68E
    assert [shard_of(f"coco/{i}", 8, "") for i in range(10)] == [3, 5, 5, 6, 1, 2, 3, 3, 7, 5]
    assert [shard_of(f"coco/{i}", 8, "salt") for i in range(10)] == [6, 6, 6, 1, 2, 3, 3, 0, 3, 6]


@given(keys, keys, st.integers(1, 500))
def test_shards_are_ranges_of_positions(a: str, b: str, shards: int) -> None:
    if position(a, "") <= position(b, ""):
        assert shard_of(a, shards, "") <= shard_of(b, shards, "")


def test_neighbors_are_scattered_evenly() -> None:
    sizes = Counter(shard_of(f"coco/{i}", 64, "") for i in range(64_000))
    assert len(sizes) == 64
    assert min(sizes.values()) > 850 and max(sizes.values()) < 1150


def test_salt_changes_the_order() -> None:
    names = [f"vg/{i}" for i in range(100)]
    assert sorted(names, key=lambda k: position(k, "a")) != sorted(
        names, key=lambda k: position(k, "b")
    )


@pytest.mark.parametrize("key", ["coco/139", "gqa/n5", "my-set/a_b+c/7", "a/" + "b" * 78])
def test_safe_keys_are_accepted(key: str) -> None:
    assert is_safe_key(key)


@pytest.mark.parametrize(
    "key",
    [
        *("", "139", "/139", "coco/", "coco//1", "coco/..", "coco/../1", "coco/1.jpg", "coco/a b"),
        *("coco/é", "coco/1\n", "coco\\1", "a/" + "b" * 79, "__key__", "coco/\0"),
    ],
)
def test_unsafe_keys_are_refused(key: str) -> None:
    assert not is_safe_key(key)

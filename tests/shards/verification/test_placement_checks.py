"""Shards of a split, and images in them, against the recipe's number of shards and its salt."""

from pathlib import Path

import msgspec
import pytest

from shards.format.placement import position, shard_of
from shards.reading.shard_set import ShardSet
from shards.verification.errors import ErrorKind
from shards.verification.placement_checks import check_placement, check_shards
from shards.verification.recipe import RecipeRequirements
from shards.verification.set_checks import IndexedShard
from tests import tiny
from tests.end_to_end.test_joins import build, vg

SHARDS = 3
FILES = [f"train-{i:05}-of-{SHARDS:05}.tar" for i in range(SHARDS)]
#: Keys by the shard that their hash gives, in the order that it gives.
KEYS: list[list[str]] = [[] for _ in range(SHARDS)]
for key in sorted((f"vg/{i}" for i in range(1, 40)), key=lambda key: (position(key, "s"), key)):
    KEYS[shard_of(key, SHARDS, "s")].append(key)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    root = tmp_path_factory.mktemp("placed")
    splits = {"train": {"shards": SHARDS}}
    source = vg(root, *map(tiny.vg_image, range(1, 10)))
    assert build(root, sources={"vg": source}, splits=splits, salt="s") == 0
    return ShardSet.open(root / "shards")


def misplaced(shards: ShardSet, keys: list[str], crop_of: dict[str, str]) -> list[tuple[str, str]]:
    """Returns the keys of the first shard that are in a wrong place, and the messages."""
    rows = IndexedShard(keys, 0, 0, [crop_of.get(key, "") for key in keys])
    errors = list(check_placement(shards, {0: rows}, RecipeRequirements(shards.manifest)))
    assert {(error.kind, error.file) for error in errors} <= {(ErrorKind.PLACEMENT, FILES[0])}
    return [(error.key, error.message) for error in errors]


def test_images_in_the_order_of_their_hashes_are_right(shards: ShardSet) -> None:
    assert misplaced(shards, KEYS[0], {}) == []
    assert misplaced(shards, [*KEYS[0][:2], *KEYS[0][1:]], {}) == []  # another check finds those


def test_image_of_another_shard(shards: ShardSet) -> None:
    [first, *others] = KEYS[0]
    of_second = KEYS[1][-1]
    assert misplaced(shards, [first, of_second, *others], {}) == [
        (of_second, f"the recipe places it in {FILES[1]}")
    ]


def test_image_behind_one_that_follows_it(shards: ShardSet) -> None:
    first, second, third, *_ = KEYS[0]
    assert misplaced(shards, [second, third, first], {}) == [
        (first, f"it is behind {third}, its position is before it")
    ]
    assert [key for key, _ in misplaced(shards, [third, first, second], {})] == [first, second]


def test_crop_is_where_its_image_is(shards: ShardSet) -> None:
    first, second, third, *_ = KEYS[0]
    crop = KEYS[1][0]
    assert misplaced(shards, [first, second, crop, third], {crop: second}) == []
    assert [key for key, _ in misplaced(shards, [first, second, crop], {crop: first})] == [crop]
    assert misplaced(shards, [first], {first: crop}) == [
        (first, f"the recipe places it in {FILES[1]}")
    ]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (FILES, None),
        (FILES[1:], f"train has 2 shards, the recipe 3, {FILES[0]} is missing"),
        ([*FILES, "train-00003-of-00004.tar"], "4 shards, the recipe 3, train-00003-of-00004.tar"),
        ([FILES[0], "x.tar", FILES[2]], f"3, {FILES[1]} is missing, x.tar is none of them"),
        ([FILES[1], FILES[0], FILES[2]], "train has 3 shards, the recipe 3, in another order"),
    ],
)
def test_shards_of_a_split_are_those_of_the_recipe(
    names: list[str], message: str | None, shards: ShardSet
) -> None:
    changed = ShardSet.open(Path(shards.location))
    changed.shards[:] = [msgspec.structs.replace(changed.shards[0], file=name) for name in names]
    errors = list(check_shards(changed, RecipeRequirements(changed.manifest)))
    assert len(errors) == (message is not None)
    for error in errors:
        assert error.kind is ErrorKind.PLACEMENT
        assert message is not None and message in error.message


def test_shards_of_another_split_are_none_of_this_one(shards: ShardSet) -> None:
    several = ShardSet.open(Path(shards.location))
    other = msgspec.structs.replace(several.shards[0], split="other", file="other.tar")
    several.shards.insert(0, other)
    assert list(check_shards(several, RecipeRequirements(several.manifest))) == []


def test_split_of_no_recipe_may_have_any_shards(shards: ShardSet) -> None:
    unknown = ShardSet.open(Path(shards.location))
    unknown.manifest.recipe = {}
    requirements = RecipeRequirements(unknown.manifest)
    unknown.shards.reverse()
    assert list(check_shards(unknown, requirements)) == []
    rows = {0: IndexedShard(KEYS[1], 0, 0, [""] * len(KEYS[1]))}
    assert list(check_placement(unknown, rows, requirements)) == []

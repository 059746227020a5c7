"""Checks that a set has the shards of its recipe, and images where their keys place them."""

from collections.abc import Iterator, Mapping

from shards.format import manifest as mf
from shards.format.placement import position, shard_name, shard_of
from shards.reading.shard_set import ShardSet
from shards.verification.errors import ErrorKind, VerificationError
from shards.verification.recipe import Placement, RecipeRequirements
from shards.verification.set_checks import IndexedShard


def check_shards(shards: ShardSet, requirements: RecipeRequirements) -> Iterator[VerificationError]:
    """Yields an error for each split unless its shards are those of the recipe, in order."""
    for split in shards.manifest.totals:
        placement = requirements.placement(split)
        if placement is None:
            continue
        files = [entry.file for entry in shards.shards if entry.split == split]
        expected = [shard_name(split, i, placement.shards) for i in range(placement.shards)]
        if files != expected:
            wrong = next((f for f in files if f not in expected), "")
            missing = next((f for f in expected if f not in files), "")
            detail = f", {missing} is missing" if missing else ""
            detail += f", {wrong} is none of them" if wrong else ""
            message = (
                f"{split} has {len(files)} shards, the recipe {placement.shards}"
                f"{detail or ', in another order'}"
            )
            yield VerificationError(ErrorKind.PLACEMENT, message, mf.NAME)


def check_placement(
    shards: ShardSet, indexed: Mapping[int, IndexedShard], requirements: RecipeRequirements
) -> Iterator[VerificationError]:
    """Yields images in another shard, or in another order, than a hash of their keys gives.

    A crop is placed with the image from which it was made.
    """
    for shard, row in indexed.items():
        entry = shards.shards[shard]
        placement = requirements.placement(entry.split)
        if placement is None:
            continue
        last = (-1, "")
        for key, crop_of in zip(row.keys, row.crop_of, strict=True):
            placed_by = crop_of or key
            place = position(placed_by, placement.salt), placed_by
            if (expected := _file(placed_by, entry.split, placement)) != entry.file:
                message = f"the recipe places it in {expected}"
                yield VerificationError(ErrorKind.PLACEMENT, message, entry.file, key)
            elif place < last:
                message = f"it is behind {last[1]}, its position is before it"
                yield VerificationError(ErrorKind.PLACEMENT, message, entry.file, key)
            else:
                last = place


def _file(key: str, split: str, placement: Placement) -> str:
    return shard_name(split, shard_of(key, placement.shards, placement.salt), placement.shards)

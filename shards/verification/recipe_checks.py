"""The recipe in a manifest against the rest of the manifest."""

from collections.abc import Iterator

from shards.format import manifest as mf
from shards.verification.errors import Fault, Kind


def recipe_faults(manifest: mf.Manifest) -> Iterator[Fault]:
    """A recipe that is not of the version that the manifest says, or lacks a split of the set.

    Without a recipe there is none. Of a split that the recipe lacks it is not known whether its
    sentences are combined, so neither lengths nor overlaps are checked.
    """
    if not manifest.recipe:
        return
    found, stated = mf.recipe_sha256(manifest.recipe), manifest.recipe_sha256
    if found != stated:
        yield Fault(Kind.RECIPE, f"it has {found}, recipe_sha256 is {stated}", mf.NAME)
    for split in sorted({entry.split for entry in manifest.shards}):
        if split not in manifest.recipe.get("splits", {}):
            yield Fault(Kind.RECIPE, f"it has no split {split}", mf.NAME)

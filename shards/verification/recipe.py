"""The requirements of a shard set's recipe on its samples, and checks of the recipe itself."""

from collections.abc import Iterator
from typing import Literal

import msgspec

from shards.format import manifest as mf
from shards.format.manifest import Manifest, NotAShardSetError
from shards.verification.errors import ErrorKind, VerificationError


class RecipeRules(msgspec.Struct, frozen=True):
    """The recipe's rules that captions can be checked for; see `pipelines.captions.rules`."""

    conflict: Literal["giou", "iou"]
    threshold: float
    max_length: int
    length: Literal["joined", "sentences"]
    gqa_words: Literal["object", "find"]
    vg_text: Literal["tokens", "characters"]
    boxes: Literal["clip", "as_is"]


class _Split(msgspec.Struct):
    combine: bool


class _Recipe(msgspec.Struct):
    images: Literal["embed", "none"]
    rules: RecipeRules
    splits: dict[str, _Split]


class SampleRequirements(msgspec.Struct, frozen=True):
    """The requirements on the samples of a split.

    ``with_images``: every sample has an image. ``combined`` are the rules by which sentences were
    combined; None if they were not. ``words_may_be_split`` are the datasets whose spans were found
    as in MDETR's scripts, which may split words. ``clipped``: boxes are inside the image.
    """

    with_images: bool = False
    combined: RecipeRules | None = None
    words_may_be_split: frozenset[str] = frozenset()
    clipped: bool = True


class RecipeRequirements:
    """The requirements that a manifest's recipe implies for each split.

    Without a recipe, as in a set that was not written by a build, lengths and overlaps are not
    checked.

    Raises:
        NotAShardSetError: the recipe is not one of this version.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._recipe: _Recipe | None = None
        if manifest.recipe:
            try:
                self._recipe = msgspec.convert(manifest.recipe, _Recipe)
            except msgspec.ValidationError as error:
                raise NotAShardSetError(
                    f"the recipe in the manifest of {manifest.name} is not one of this version: "
                    f"{error}"
                ) from error

    def for_split(self, split: str) -> SampleRequirements:
        """Returns the requirements of a split."""
        if self._recipe is None:
            return SampleRequirements()
        rules, recipe_split = self._recipe.rules, self._recipe.splits.get(split)
        published = {"gqa": rules.gqa_words == "find", "vg": rules.vg_text == "characters"}
        return SampleRequirements(
            with_images=self._recipe.images == "embed",
            combined=rules if recipe_split is not None and recipe_split.combine else None,
            words_may_be_split=frozenset(name for name, as_is in published.items() if as_is),
            clipped=rules.boxes == "clip",
        )

    def not_checked(self) -> Iterator[str]:
        """Yields the checks that the recipe makes impossible."""
        if self._recipe is None or self._recipe.images == "embed":
            yield "pixels, which are not decoded"
        if self._recipe is None:
            yield "caption lengths and overlaps of sentences: the manifest has no recipe"
            return
        rules = self._recipe.rules
        if rules.gqa_words == "find":
            yield "word borders of gqa: its spans are found as MDETR's scripts find them"
        if rules.vg_text == "characters":
            yield "word borders of vg: its spans are shifted as MDETR's scripts shift them"
        if rules.boxes == "as_is":
            yield "boxes against the image borders: the recipe does not clip them"


def check_recipe(manifest: Manifest) -> Iterator[VerificationError]:
    """Yields errors if the recipe does not match ``recipe_sha256``, or the splits of the set.

    A manifest without a recipe has none of these errors.
    """
    if not manifest.recipe:
        return
    actual, stated = mf.recipe_sha256(manifest.recipe), manifest.recipe_sha256
    if actual != stated:
        message = f"its sha256 is {actual}, recipe_sha256 is {stated}"
        yield VerificationError(ErrorKind.RECIPE, message, mf.NAME)
    recipe_splits = manifest.recipe.get("splits", {})
    for split in sorted({*manifest.roles, *(entry.split for entry in manifest.shards)}):
        if split not in recipe_splits:
            yield VerificationError(ErrorKind.RECIPE, f"it has no split {split}", mf.NAME)
        elif (role := recipe_splits[split].get("role")) != manifest.roles[split]:
            message = f"the role of {split} is {role}, that in `roles` {manifest.roles[split]}"
            yield VerificationError(ErrorKind.RECIPE, message, mf.NAME)

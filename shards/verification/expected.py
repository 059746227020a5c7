"""What the recipe of a shard set lets one expect of its captions."""

from collections.abc import Iterator
from typing import Literal

import msgspec

from shards.format.manifest import Manifest, NotAShardSetError


class Rules(msgspec.Struct, frozen=True):
    """The rules that show in captions: ``pipelines/captions/options.py`` says what they mean."""

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
    rules: Rules
    splits: dict[str, _Split]


class Expected(msgspec.Struct, frozen=True):
    """What must hold of the samples of a split.

    ``combined`` has the rules by which its sentences were joined, None where they were not.
    ``as_published`` are the data sets whose words were found as the published scripts find them,
    who miss word borders. ``clipped``: boxes were cut to their images.
    """

    images: bool = False  # every sample has one
    combined: Rules | None = None
    as_published: frozenset[str] = frozenset()
    clipped: bool = True


class Expectations:
    """What the recipe in a manifest says of its splits, and what it says cannot be checked.

    Without a recipe, as in a set that no recipe made, nothing is known of lengths and overlaps.

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

    def of(self, split: str) -> Expected:
        if self._recipe is None:
            return Expected()
        rules, of_split = self._recipe.rules, self._recipe.splits.get(split)
        published = {"gqa": rules.gqa_words == "find", "vg": rules.vg_text == "characters"}
        return Expected(
            images=self._recipe.images == "embed",
            combined=rules if of_split is not None and of_split.combine else None,
            as_published=frozenset(name for name, as_is in published.items() if as_is),
            clipped=rules.boxes == "clip",
        )

    def not_checked(self) -> Iterator[str]:
        if self._recipe is None or self._recipe.images == "embed":
            yield "pixels, which are not decoded"
        if self._recipe is None:
            yield "length of captions, overlap of parts: the manifest has no recipe"
            return
        rules = self._recipe.rules
        if rules.gqa_words == "find":
            yield "word borders of gqa: its words are found as the published scripts find them"
        if rules.vg_text == "characters":
            yield "word borders of vg: its spans are moved as the published scripts move them"
        if rules.boxes == "as_is":
            yield "boxes against the borders of their images: the recipe leaves them as they are"

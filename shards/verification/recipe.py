"""The requirements of a shard set's recipe on its samples, and checks of the recipe itself."""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import msgspec

from schemas import Caption
from schemas.decodable import decodable
from shards.format import manifest as mf
from shards.format.manifest import Manifest, NotAShardSetError
from shards.verification.datasets import Datasets, datasets_of
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
    flickr30k: Literal["joined", "separate"]
    area: Literal["box", "source"]
    same_photo: bool


class _Split(msgspec.Struct):
    combine: bool
    shards: int
    allow_empty: bool = False


class Negatives(msgspec.Struct, frozen=True):
    """The most absent phrases of an image, by strength; see `pipelines.recipe.Negatives`."""

    proven: int = 0
    unproven: int = 0


class _Recipe(msgspec.Struct):
    images: Literal["embed", "none"]
    rules: RecipeRules
    splits: dict[str, _Split]
    sources: dict[str, dict[str, Any]]
    salt: str = ""
    exclude: dict[str, Any] = {}
    image_tables: dict[str, Any] = {}
    negatives: Negatives = Negatives()


class SampleRequirements(msgspec.Struct, frozen=True):
    """The requirements on the samples of a split.

    Attributes:
        with_images: Every sample has an image.
        combined: The rules by which sentences were joined; None if they were not.
        separate: The datasets whose sentences are not joined in a combined split either.
        words_may_be_split: The datasets whose spans were found as in MDETR's scripts, which may
            split words.
        clipped: Boxes are inside the image.
        areas_of_sources: Areas are as the sources state them, whatever the boxes are.
        datasets: What is known about the datasets of the recipe; None if there is no recipe.
        negatives: The most absent phrases of an image; None if there is no recipe.
    """

    with_images: bool = False
    combined: RecipeRules | None = None
    separate: frozenset[str] = frozenset()
    words_may_be_split: frozenset[str] = frozenset()
    clipped: bool = True
    areas_of_sources: bool = True
    datasets: Datasets | None = None
    negatives: Negatives | None = None

    def joins_caption(self, caption: Caption) -> bool:
        """Returns whether a caption is joined of sentences and absent phrases, by the rule."""
        if not caption.provenance:
            return self.combined is not None
        return self.joins(caption.provenance[0].dataset)

    def joins(self, dataset: str) -> bool:
        """Returns whether the sentences of a dataset are joined to captions of the split."""
        return self.combined is not None and dataset not in self.separate


class Placement(NamedTuple):
    """The shards of a split, and the salt of the hash that assigns an image to one of them."""

    shards: int
    salt: str


class RecipeRequirements:
    """The requirements that a manifest's recipe implies for each split.

    Without a recipe, as in a set that was not written by a build, lengths, overlaps, datasets and
    the placement of images are not checked.

    Raises:
        NotAShardSetError: the recipe is not one of this version.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._recipe: _Recipe | None = None
        self._roles = manifest.roles
        self.datasets: Datasets | None = None
        if manifest.recipe:
            try:
                self._recipe = msgspec.convert(manifest.recipe, decodable(_Recipe))
            except msgspec.ValidationError as error:
                raise NotAShardSetError(
                    f"the recipe in the manifest of {manifest.name} is not one of this version: "
                    f"{error}"
                ) from error
            self.datasets = datasets_of(self._recipe.sources, self._recipe.image_tables)

    @property
    def evaluation_sets(self) -> set[str] | None:
        """The names of the evaluation sets that the recipe excludes; None without a recipe."""
        return None if self._recipe is None else set(self._recipe.exclude)

    @property
    def sources(self) -> set[str] | None:
        """The names of the sources; None without a recipe."""
        return None if self._recipe is None else set(self._recipe.sources)

    @property
    def tables(self) -> set[str]:
        """The names of files of images that are no source's, as rejected rows have them."""
        if self._recipe is None:
            return set()
        tables = {f"exclude.{name}" for name in self._recipe.exclude}
        for namespace, paths in self._recipe.image_tables.items():
            tables.add(f"image_tables.{namespace}")
            tables |= {f"image_tables.{namespace}[{i}]" for i in range(1, len(paths))}
        return tables

    @property
    def joins_photos(self) -> bool:
        """Whether images of one photo have one key, as far as the sources name the photo."""
        return self._recipe is not None and self._recipe.rules.same_photo

    @property
    def raw_sources(self) -> dict[str, dict[str, Any]]:
        """The tables of the sources, as in the recipe; none without a recipe."""
        return {} if self._recipe is None else self._recipe.sources

    def placement(self, split: str) -> Placement | None:
        """Returns where the images of a split are; None if no recipe states it."""
        recipe_split = None if self._recipe is None else self._recipe.splits.get(split)
        if self._recipe is None or recipe_split is None:
            return None
        return Placement(recipe_split.shards, self._recipe.salt)

    def may_be_empty(self, split: str) -> bool:
        """Returns whether a split may have no images."""
        recipe_split = None if self._recipe is None else self._recipe.splits.get(split)
        return recipe_split is None or recipe_split.allow_empty

    def for_split(self, split: str) -> SampleRequirements:
        """Returns the requirements of a split."""
        if self._recipe is None:
            return SampleRequirements()
        rules, recipe_split = self._recipe.rules, self._recipe.splits.get(split)
        negatives = self._recipe.negatives
        if self._roles.get(split) != "train":
            negatives = Negatives(proven=negatives.proven)
        published = {"gqa": rules.gqa_words == "find", "vg": rules.vg_text == "characters"}
        return SampleRequirements(
            with_images=self._recipe.images == "embed",
            combined=rules if recipe_split is not None and recipe_split.combine else None,
            separate=frozenset(("flickr30k",) if rules.flickr30k == "separate" else ()),
            words_may_be_split=frozenset(name for name, as_is in published.items() if as_is),
            clipped=rules.boxes == "clip",
            areas_of_sources=rules.area == "source",
            datasets=self.datasets,
            negatives=negatives,
        )

    def not_checked(self) -> Iterator[str]:
        """Yields the checks that the recipe makes impossible."""
        if self._recipe is None or self._recipe.images == "embed":
            yield "pixels, which are not decoded"
        if self._recipe is None:
            yield "caption lengths and overlaps of sentences: the manifest has no recipe"
            yield "how sentences are joined, datasets, and shards of images: it has no recipe"
            return
        rules = self._recipe.rules
        if rules.gqa_words == "find":
            yield "word borders of gqa: its spans are found as MDETR's scripts find them"
        if rules.vg_text == "characters":
            yield "word borders of vg: its spans are shifted as MDETR's scripts shift them"
        if rules.boxes == "as_is":
            yield "boxes against the image borders: the recipe does not clip them"
        if rules.area == "source":
            yield "areas against boxes: the recipe keeps those of the sources"
        if self.datasets is not None and self.datasets.is_open:
            yield (
                "datasets, tokens_negative, and numbers of regions: a source of the recipe may "
                "state anything"
            )


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
    splits = {*manifest.roles, *manifest.totals, *(entry.split for entry in manifest.shards)}
    for split in sorted(splits | recipe_splits.keys()):
        if split not in recipe_splits:
            yield VerificationError(ErrorKind.RECIPE, f"it has no split {split}", mf.NAME)
        elif (role := recipe_splits[split].get("role")) != (known := manifest.roles.get(split)):
            message = f"the role of {split} is {role}, that in `roles` {known}"
            yield VerificationError(ErrorKind.RECIPE, message, mf.NAME)

"""What a recipe requires of the samples of each split, and what it leaves unchecked."""

from pathlib import Path
from typing import Any

import pytest

from schemas import Caption, Provenance
from shards.format import manifest as mf
from shards.format.manifest import Manifest, NotAShardSetError
from shards.reading.shard_set import ShardSet
from shards.verification.errors import ErrorKind
from shards.verification.recipe import (
    Negatives,
    Placement,
    RecipeRequirements,
    SampleRequirements,
    check_recipe,
)
from tests.shard_sets import write_shard_set

RULES = {
    **{"conflict": "giou", "threshold": 0.5, "max_length": 250, "length": "joined"},
    **{"gqa_words": "object", "vg_text": "tokens", "boxes": "clip", "flickr30k": "joined"},
    **{"area": "box", "same_photo": True},
}
AS_PUBLISHED = {
    **{"gqa_words": "find", "vg_text": "characters", "boxes": "as_is", "flickr30k": "separate"},
    **{"area": "source", "same_photo": False},
}
SPLITS = {
    "train": {"combine": True, "shards": 8, "role": "train"},
    "val": {"combine": False, "shards": 2, "allow_empty": True, "role": "eval"},
}


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """The manifest of a set of one split, without a recipe."""
    manifest = ShardSet.open(write_shard_set(tmp_path, [[1]])).manifest
    manifest.roles = {"train": "train", "val": "eval"}
    return manifest


def requirements(manifest: Manifest, **tables: Any) -> RecipeRequirements:
    rules = RULES | tables.pop("rules", {})
    recipe = {"images": "embed", "splits": SPLITS, "sources": {"vg": {}}, **tables}
    manifest.recipe = recipe | {"rules": rules}
    return RecipeRequirements(manifest)


def caption(*datasets: str) -> Caption:
    return Caption("a", [], [], [Provenance(dataset, "1", (0, 1)) for dataset in datasets])


def test_set_without_a_recipe_has_no_requirements(manifest: Manifest) -> None:
    none = RecipeRequirements(manifest)
    assert none.for_split("train") == SampleRequirements()
    assert (none.evaluation_sets, none.sources, none.datasets) == (None, None, None)
    assert (none.tables, none.raw_sources, none.joins_photos) == (set(), {}, False)
    assert none.placement("train") is None and none.may_be_empty("train")
    assert list(none.not_checked()) == [
        "pixels, which are not decoded",
        "caption lengths and overlaps of sentences: the manifest has no recipe",
        "how sentences are joined, datasets, and shards of images: it has no recipe",
    ]
    assert list(check_recipe(manifest)) == []


def test_defaults_of_requirements_check_nothing_but_the_borders() -> None:
    assert SampleRequirements() == SampleRequirements(
        with_images=False, combined=None, clipped=True, areas_of_sources=True
    )
    assert Negatives() == Negatives(proven=0, unproven=0)


def test_requirements_of_the_rules_of_the_paper(manifest: Manifest) -> None:
    paper = requirements(manifest, salt="s", negatives={"proven": 3, "unproven": 2})
    train, val = paper.for_split("train"), paper.for_split("val")
    assert train.with_images and train.clipped and not train.areas_of_sources
    assert (train.separate, train.words_may_be_split) == (frozenset(), frozenset())
    assert train.datasets is paper.datasets is not None
    assert train.combined is not None and train.combined.max_length == 250
    assert val.combined is None and paper.for_split("other").combined is None
    assert train.negatives == Negatives(proven=3, unproven=2)
    assert val.negatives == Negatives(proven=3)
    assert paper.placement("val") == Placement(2, "s") and paper.placement("other") is None
    assert requirements(manifest).placement("train") == Placement(8, "")
    assert paper.may_be_empty("val") and paper.may_be_empty("other")
    assert not paper.may_be_empty("train")
    assert paper.joins_photos
    assert list(paper.not_checked()) == ["pixels, which are not decoded"]


def test_requirements_of_published_rules(manifest: Manifest) -> None:
    mdetr = requirements(manifest, rules=AS_PUBLISHED, images="none", sources={"custom": {}})
    train = mdetr.for_split("train")
    assert not train.with_images and not train.clipped and train.areas_of_sources
    assert train.separate == {"flickr30k"}
    assert train.words_may_be_split == {"gqa", "vg"}
    assert not mdetr.joins_photos
    assert [check.partition(":")[0] for check in mdetr.not_checked()] == [
        "word borders of gqa",
        "word borders of vg",
        "boxes against the image borders",
        "areas against boxes",
        "datasets, tokens_negative, and numbers of regions",
    ]
    for rule, dataset in (("gqa_words", "gqa"), ("vg_text", "vg")):
        one = requirements(manifest, rules={rule: AS_PUBLISHED[rule]}).for_split("train")
        assert one.words_may_be_split == {dataset}


def test_captions_that_are_joined(manifest: Manifest) -> None:
    """By the dataset of their sentences; those of absent phrases alone are."""
    rules = {"flickr30k": "separate"}
    train = requirements(manifest, rules=rules).for_split("train")
    assert train.joins("vg") and not train.joins("flickr30k")
    assert train.joins_caption(caption()) and train.joins_caption(caption("vg", "flickr30k"))
    assert not train.joins_caption(caption("flickr30k", "vg"))
    val = requirements(manifest).for_split("val")
    assert not val.joins("vg") and not val.joins_caption(caption())
    assert not val.joins_caption(caption("vg"))


def test_names_in_a_recipe(manifest: Manifest) -> None:
    named = requirements(
        manifest,
        sources={"vg": {"a": 1}, "gqa": {}},
        exclude={"refcoco": {}, "lists": {}},
        image_tables={"coco": ["a", "b", "c"], "vg": ["d"]},
    )
    assert named.evaluation_sets == {"refcoco", "lists"}
    assert named.sources == {"vg", "gqa"}
    assert named.raw_sources == {"vg": {"a": 1}, "gqa": {}}
    assert named.tables == {
        *("exclude.refcoco", "exclude.lists", "image_tables.coco", "image_tables.vg"),
        *("image_tables.coco[1]", "image_tables.coco[2]"),
    }


def test_recipe_of_another_version(manifest: Manifest) -> None:
    with pytest.raises(NotAShardSetError, match=r"is not one of this version.*max_length"):
        requirements(manifest, rules={"max_length": "short"})


def test_recipe_against_its_hash_and_its_splits(manifest: Manifest) -> None:
    requirements(manifest)
    manifest.recipe_sha256 = mf.recipe_sha256(manifest.recipe)
    manifest.totals = {"train": {}}
    assert list(check_recipe(manifest)) == []
    manifest.roles = {"val": "eval", **dict.fromkeys("cab", "train")}  # type: ignore[dict-item]
    manifest.totals |= {name: {} for name in "hgfi"}
    errors = list(check_recipe(manifest))
    assert {(error.kind, error.file) for error in errors} == {(ErrorKind.RECIPE, mf.NAME)}
    assert [error.message for error in errors] == [
        *(f"it has no split {name}" for name in "abcfghi"),
        "the role of train is train, that in `roles` None",
    ]
    manifest.recipe_sha256 = "0"
    assert next(check_recipe(manifest)).message.endswith("recipe_sha256 is 0")

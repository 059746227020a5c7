"""Wrong counts in stats.json and the manifest, and a wrong recipe, are one error each."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shards.format import manifest as mf
from shards.reading.shard_set import ShardSet
from shards.verification.errors import ErrorKind
from shards.verification.verify import verify
from tests.shards.verification.corruption import (
    SHARD,
    kinds,
    only_error,
    restate,
    retar,
    verified,
)


def edit_json(folder: Path, file: str, edit: Callable[[Any], object]) -> None:
    content = json.loads((folder / file).read_text())
    edit(content)
    (folder / file).write_text(json.dumps(content))
    if file != mf.NAME:
        restate(folder)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda stats: stats["train"].update(sentences=7),
            "train: samples have other sentence",
        ),
        (
            lambda stats: stats["val"]["box_area_percent"]["bins"].update({"0": 999}),
            "box_area_percent",
        ),
        (lambda stats: stats["train"]["datasets"]["vg"].update(regions=7), "datasets.vg.regions"),
        (lambda stats: stats["train"]["datasets"].pop("vg"), "datasets.vg"),
        (lambda stats: stats["train"].update(stats["val"]), " more"),
        (lambda stats: stats.pop("val"), "it has no split val"),
        (lambda stats: stats.update(other=stats["val"]), "the manifest has no split other"),
    ],
)
def test_stats_that_differ_from_the_samples(
    edit: Callable[[Any], object], message: str, copied_set: Path
) -> None:
    edit_json(copied_set, "stats.json", edit)
    error = only_error(copied_set)
    assert (error.kind, error.file) == (ErrorKind.STATS, "stats.json")
    assert message in error.message


def test_stats_of_an_earlier_version(copied_set: Path) -> None:
    edit_json(copied_set, "stats.json", lambda s: s["train"]["box_area_percent"].pop("total"))
    assert only_error(copied_set).kind is ErrorKind.FILE
    assert "of an earlier version" in only_error(copied_set).message


@pytest.mark.parametrize("noun", ["captions", "boxes"])
def test_counts_of_sources_that_do_not_add_up(copied_set: Path, noun: str) -> None:
    edit_json(copied_set, mf.NAME, lambda m: _counts(m, noun).update(read=10_000))
    error = only_error(copied_set)
    assert (error.kind, error.file) == (ErrorKind.SOURCES, mf.NAME)
    assert f"vg: {noun} do not add up" in error.message


@pytest.mark.parametrize("noun", ["captions", "boxes"])
def test_counts_of_sources_that_are_not_those_of_the_samples(copied_set: Path, noun: str) -> None:
    edit_json(copied_set, mf.NAME, lambda m: _merge_one(_counts(m, noun)))
    error = only_error(copied_set)
    assert (error.kind, error.file) == (ErrorKind.SOURCES, mf.NAME)
    assert re.search(rf"vg: the manifest counts \d+ {noun}, the shards have", error.message)


def _merge_one(counts: dict[str, Any]) -> None:
    counts.update(in_shards=counts["in_shards"] - 1, merged=counts["merged"] + 1)


def _counts(manifest: dict[str, Any], noun: str) -> dict[str, Any]:
    counts: dict[str, Any] = manifest["sources"]["vg"]
    return counts["boxes"] if noun == "boxes" else counts


def test_counts_are_not_checked_if_only_some_samples_are_read(copied_set: Path) -> None:
    edit_json(copied_set, "stats.json", lambda stats: stats["train"].update(sentences=7))
    edit_json(copied_set, mf.NAME, lambda m: _merge_one(_counts(m, "captions")))
    report = verify(ShardSet.open(copied_set), num_images=20)
    assert report.errors.listed == []
    counts = "sentences, characters and stats.json of test, train, val"
    assert f"{counts}: not every sample was counted" in report.not_checked


@pytest.mark.parametrize(
    ("edit", "kind"),
    [
        (lambda caption: caption["provenance"].clear(), ErrorKind.PROVENANCE),
        (lambda caption: caption["regions"][0].update(box=[0, 0, 1e39, 1]), ErrorKind.BOX),
    ],
)
def test_counts_are_not_checked_if_a_sample_cannot_be_counted(
    edit: Callable[[Any], object], kind: ErrorKind, copied_set: Path
) -> None:
    """Everything else of its split is checked."""

    def edit_members(members: dict[str, bytes]) -> dict[str, bytes]:
        name = next(name for name in members if name.endswith(".json"))
        sample = json.loads(members[name])
        edit(next(caption for caption in sample["captions"] if caption["regions"]))
        return members | {name: json.dumps(sample).encode()}

    retar(copied_set, SHARD, edit_members)
    report = verified(copied_set)
    assert report.errors.counts[kind] == 1
    assert not report.errors.counts.keys() & {ErrorKind.TOTALS, ErrorKind.STATS}
    assert "stats.json of train: not every sample was counted" in report.not_checked[-2]


def test_recipe_that_differs_from_its_hash(copied_set: Path) -> None:
    edit_json(copied_set, mf.NAME, lambda manifest: manifest["recipe"].update(name="another"))
    error = only_error(copied_set)
    assert (error.kind, error.file) == (ErrorKind.RECIPE, mf.NAME)
    assert "recipe_sha256 is" in error.message


def test_split_that_the_recipe_lacks(copied_set: Path) -> None:
    edit_json(copied_set, mf.NAME, lambda manifest: manifest["recipe"]["splits"].pop("val"))
    assert kinds(copied_set) == {ErrorKind.RECIPE: 2}  # its hash differs, too
    assert [error.message for error in verified(copied_set).errors.listed][
        1
    ] == "it has no split val"

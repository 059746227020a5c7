"""What a shard set says of itself as a whole: stats.json, its sources and its recipe."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shards.format import manifest as mf
from shards.reading.shard_set import ShardSet
from shards.verification.errors import Kind
from shards.verification.verify import verify
from tests.shards.verification.damage import (
    SHARD,
    kinds,
    one_fault,
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
    ("edit", "what"),
    [
        (
            lambda of: of["train"].update(sentences=7),
            "train: other than in the samples are sentence",
        ),
        (lambda of: of["val"]["box_area_percent"]["bins"].update({"0": 999}), "box_area_percent"),
        (lambda of: of["train"]["datasets"]["vg"].update(regions=7), "datasets.vg.regions"),
        (lambda of: of["train"]["datasets"].pop("vg"), "datasets.vg"),
        (lambda of: of["train"].update(of["val"]), " more"),
        (lambda of: of.pop("val"), "it has no split val"),
        (lambda of: of.update(other=of["val"]), "the manifest has no split other"),
    ],
)
def test_stats_of_other_samples(edit: Callable[[Any], object], what: str, damaged: Path) -> None:
    edit_json(damaged, "stats.json", edit)
    fault = one_fault(damaged)
    assert (fault.kind, fault.file) == (Kind.STATS, "stats.json")
    assert what in fault.what


def test_stats_of_an_earlier_version(damaged: Path) -> None:
    edit_json(damaged, "stats.json", lambda of: of["train"]["box_area_percent"].pop("total"))
    assert one_fault(damaged).kind is Kind.FILE
    assert "of an earlier version" in one_fault(damaged).what


def test_sentences_that_no_source_has_left(damaged: Path) -> None:
    edit_json(damaged, mf.NAME, lambda of: of["sources"]["vg"].update(read=10_000))
    fault = one_fault(damaged)
    assert (fault.kind, fault.file) == (Kind.TOTALS, mf.NAME)
    assert "its sources leave" in fault.what


def test_what_only_all_samples_tell_is_not_checked_of_some(damaged: Path) -> None:
    edit_json(damaged, "stats.json", lambda of: of["train"].update(sentences=7))
    edit_json(damaged, mf.NAME, lambda of: of["sources"]["vg"].update(read=10_000))
    report = verify(ShardSet.open(damaged), sample=20)
    assert report.faults.first == []
    told = "sentences, characters and stats.json of test, train, val: not every sample was counted"
    assert told in report.not_checked


@pytest.mark.parametrize(
    ("edit", "kind"),
    [
        (lambda caption: caption["provenance"].clear(), Kind.PART),
        (lambda caption: caption["regions"][0].update(box=[0, 0, 1e39, 1]), Kind.BOX),
    ],
)
def test_a_sample_that_cannot_be_counted(
    edit: Callable[[Any], object], kind: Kind, damaged: Path
) -> None:
    """All else of its split is looked at, but what should add up is not held against anything."""

    def edit_members(members: dict[str, bytes]) -> dict[str, bytes]:
        name = next(name for name in members if name.endswith(".json"))
        sample = json.loads(members[name])
        edit(next(caption for caption in sample["captions"] if caption["regions"]))
        return members | {name: json.dumps(sample).encode()}

    retar(damaged, SHARD, edit_members)
    report = verified(damaged)
    assert report.faults.counts[kind] == 1
    assert not report.faults.counts.keys() & {Kind.TOTALS, Kind.STATS}
    assert "stats.json of train: not every sample was counted" in report.not_checked[-1]


def test_a_recipe_of_another_set(damaged: Path) -> None:
    edit_json(damaged, mf.NAME, lambda of: of["recipe"].update(salt="another"))
    fault = one_fault(damaged)
    assert (fault.kind, fault.file) == (Kind.RECIPE, mf.NAME)
    assert "recipe_sha256 is" in fault.what


def test_a_split_that_the_recipe_does_not_have(damaged: Path) -> None:
    edit_json(damaged, mf.NAME, lambda of: of["recipe"]["splits"].pop("val"))
    assert kinds(damaged) == {Kind.RECIPE: 2}  # it is of another version, too
    assert [fault.what for fault in verified(damaged).faults.first][1] == "it has no split val"

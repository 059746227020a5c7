"""Wrong counts in stats.json and the manifest, and a wrong recipe, are one error each."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET

from schemas import AbsentSpan, Caption, NotAskedFor, Provenance, Sample
from shards.format import manifest as mf
from shards.format.manifest import FileEntry
from shards.format.source_counts import Counts, SourceCounts
from shards.format.stats import Stats
from shards.reading.shard_set import ShardSet
from shards.verification.count_checks import (
    ActualCounts,
    actual_counts,
    check_names,
    check_not_empty,
    check_sources,
    check_stats,
    check_totals,
    not_checked,
)
from shards.verification.datasets import datasets_of
from shards.verification.errors import ErrorKind
from shards.verification.recipe import RecipeRequirements
from shards.verification.set_checks import IndexedShard
from shards.verification.verify import verify
from tests.shard_sets import write_shard_set
from tests.shards.verification.corruption import (
    SHARD,
    kinds,
    only_error,
    restate,
    retar,
    verified,
)

#: A recipe as a manifest has it, without splits and sources.
DEMO_RECIPE: dict[str, Any] = {
    "images": "none",
    "splits": {},
    "sources": {},
    "rules": {
        **{"conflict": "giou", "threshold": 0.5, "max_length": 250, "length": "joined"},
        **{"gqa_words": "object", "vg_text": "tokens", "boxes": "clip", "flickr30k": "joined"},
        **{"area": "box", "same_photo": True},
    },
}


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
        (
            lambda stats: stats["train"]["datasets"]["vg"].update(regions=7),
            "train: samples have other datasets.vg.regions",
        ),
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


# --- parts of the checks, with counts that no build has -------------------------------------------


def counted(dataset: str, sentences: int, absent: int = 0) -> Stats:
    """Returns the counts of an image with sentences of a dataset, and proven absent phrases."""
    captions = [
        Caption("a", [], [], [Provenance(dataset, str(i), (0, 1))]) for i in range(sentences)
    ]
    captions += [
        Caption("a", [], [], [], absent=[AbsentSpan((0, 1), dataset, str(i), "stated", "proven")])
        for i in range(absent)
    ]
    stats = Stats()
    stats.add(Sample("vg/1", 9, 9, "1.jpg", captions))
    return stats


class Edited:
    """A set of the splits train and val, whose manifest a test edits."""

    def __init__(self, folder: Path) -> None:
        self.shards = ShardSet.open(write_shard_set(folder, [[1]]))
        self.manifest = self.shards.manifest
        self.manifest.totals = {"train": {}, "val": {}}
        self.requirements = RecipeRequirements(self.manifest)

    def source_messages(self, **samples: Stats) -> list[str]:
        """Returns the errors of the sources, given the samples of each split that was read."""
        actual = ActualCounts({}, samples)
        return [e.message for e in check_sources(self.shards, actual, self.requirements)]


@pytest.fixture
def edited(tmp_path: Path) -> Edited:
    return Edited(tmp_path)


def test_sources_that_share_datasets_are_compared_together(edited: Edited) -> None:
    """Some by a chain: one reads refcoco, one both, one refcoco+."""
    refs = {name: {"refcoco": "", "refcoco+": ""} for name in ("f", "b", "d")}
    refs |= {"c": {"refcoco": ""}, "a": {"refcoco": ""}, "e": {"refcoco+": ""}}
    sources: dict[str, Any] = {"c": {"reader": "coco", "refs": refs["c"]}}
    sources["e"] = {"reader": "coco", "refs": refs["e"]}
    sources |= {name: {"reader": "coco", "refs": refs[name]} for name in ("f", "a", "d", "b")}
    edited.requirements.datasets = datasets_of({**sources, "vg": {}}, ())
    edited.manifest.sources = {name: SourceCounts(1, 1) for name in ("a", "c", "e", "f")}
    edited.manifest.sources["vg"] = SourceCounts(2, 2)
    right = {"train": counted("refcoco", 4), "val": counted("vg", 2)}
    assert edited.source_messages(**right) == []
    edited.manifest.sources["e"] = SourceCounts(2, 2)
    names = "a, b, c, d, e, f"
    assert edited.source_messages(**right) == [
        f"{names}: the manifest counts 5 captions, the shards have 4"
    ]
    wrong = {"train": counted("refcoco+", 5), "val": counted("vg", 3)}
    assert edited.source_messages(**wrong) == [
        "vg: the manifest counts 2 captions, the shards have 3"
    ]


def test_sources_are_compared_together_if_one_may_make_any_dataset(edited: Edited) -> None:
    sources: dict[str, Any] = {name: {"reader": "mdetr_json"} for name in ("e", "c", "a", "d")}
    edited.manifest.sources = {name: SourceCounts(1, 1) for name in (*sources, "vg", "b")}
    for datasets in (datasets_of({**sources, "vg": {}, "b": {"reader": "vg"}}, ()), None):
        edited.requirements.datasets = datasets
        samples = {"train": counted("mixed", 3), "val": counted("vg", 3)}
        assert edited.source_messages(**samples) == []
        samples["val"] = counted("other", 4)
        assert edited.source_messages(**samples) == [
            "a, b, c, d, e, vg: the manifest counts 6 captions, the shards have 7"
        ]


def test_absent_phrases_of_sources_are_those_of_the_samples(edited: Edited) -> None:
    edited.manifest.sources = {"gqa": SourceCounts()}
    samples = {"train": counted("gqa", 0, absent=2), "val": counted("gqa", 0, absent=1)}
    lost = "the manifest counts 0 absent phrases, the shards have 3"
    assert edited.source_messages(**samples) == [lost]
    assert edited.source_messages(train=samples["train"]) == []  # not every split was read
    edited.manifest.absent = {"gqa": Counts(3, 3)}
    assert edited.source_messages(**samples) == []
    edited.manifest.absent = {"gqa": Counts(4, 2, rejected=1)}
    assert edited.source_messages(**samples) == [
        "gqa: absent phrases do not add up: read is 1 more than all outcomes",
        "the manifest counts 2 absent phrases, the shards have 3",
    ]
    edited.manifest.absent, edited.manifest.sources = UNSET, {}  # of a set that no build wrote
    assert edited.source_messages(**samples) == []
    samples["train"] = counted("gqa", 2)
    assert edited.source_messages(**samples) == []


def test_order_of_the_messages(edited: Edited) -> None:
    """It is that of the names: it does not change from one run to the next."""
    names = list("hcagbdfe")
    edited.manifest.totals = {name: {} for name in names}
    edited.manifest.shards.clear()
    actual = actual_counts(edited.shards, {}, {})
    totals = [e.message for e in check_totals(edited.shards, {}, actual)]
    assert totals[::6] == [f"{n} has 0 images, the manifest states None" for n in sorted(names)]
    edited.manifest.sources = {name: SourceCounts() for name in names}
    recipe: dict[str, Any] = {name.upper(): {} for name in names}
    edited.manifest.recipe = {**DEMO_RECIPE, "sources": recipe}
    messages = [e.message for e in check_names(edited.shards, RecipeRequirements(edited.manifest))]
    assert messages == [
        *(f"the recipe has no source '{name}'" for name in sorted(names)),
        *(f"there are no counts of the source '{name.upper()}'" for name in sorted(names)),
    ]


def test_split_without_images(edited: Edited) -> None:
    """It is an error unless its recipe allows it; what no recipe states is allowed."""
    edited.manifest.totals = {"train": {"images": 1}, "val": {"images": 0}, "test": {"images": 0}}
    assert list(check_not_empty(edited.shards, edited.requirements)) == []
    splits = {"val": {"combine": False, "shards": 1, "allow_empty": True}}
    splits["test"] = splits["train"] = {"combine": False, "shards": 1}
    edited.manifest.recipe = {**DEMO_RECIPE, "splits": splits}
    [error] = check_not_empty(edited.shards, RecipeRequirements(edited.manifest))
    assert error.message == "test has no images, which the recipe does not allow"


def test_captions_of_a_shard_that_its_index_has_not(edited: Edited) -> None:
    [file] = [entry.file for entry in edited.manifest.shards]
    for captions, messages in ((1, []), (2, ["the index has 2 captions, the manifest 1"])):
        indexed = {0: IndexedShard(["vg/0"], captions, 0)}
        errors = check_totals(edited.shards, indexed, ActualCounts({}, {}))
        assert [(e.kind, e.file, e.message) for e in errors] == [
            (ErrorKind.TOTALS, file, message) for message in messages
        ]


def test_list_of_what_is_not_asked_for_is_that_of_the_sources(edited: Edited) -> None:
    edited.manifest.sources = {"vg": SourceCounts(3, 0, not_asked_for=3)}
    edited.manifest.sources["vg"].boxes = Counts(4, 0, not_asked_for=4)
    edited.manifest.not_asked_for = [NotAskedFor("vg", "a", 1, 4), NotAskedFor("vg", "b", 2, 0)]
    assert edited.source_messages() == []
    edited.manifest.not_asked_for[1] = NotAskedFor("voc", "b", 2, 1)
    assert edited.source_messages() == [
        "vg: 3 captions not asked for, the list has 1",
        "voc: 0 captions not asked for, the list has 2",
        "voc: 0 boxes not asked for, the list has 1",
    ]


def test_counts_that_cannot_be_compared(edited: Edited) -> None:
    lost = list(not_checked(edited.shards, ActualCounts({}, {"train": Stats()})))
    assert lost == [
        "counts of stats.json: the manifest lists no such file",
        "sentences of the sources: the manifest has no record counts",
        "sentences, characters and stats.json of val: not every sample was counted",
    ]
    assert list(check_stats(edited.shards, ActualCounts({}, {}))) == []  # check_files reports it
    edited.manifest.sources = {"vg": SourceCounts()}
    edited.manifest.files = [FileEntry("stats.json", 1, "")]
    every = ActualCounts({}, {"train": Stats(), "val": Stats()})
    assert list(not_checked(edited.shards, every)) == []
    assert list(check_stats(edited.shards, every)) == []


def test_datasets_of_stats_that_the_samples_lack(copied_set: Path) -> None:
    def edit(stats: Any) -> None:
        datasets = stats["train"]["datasets"]
        datasets.update(dict.fromkeys("hcagbdfe", datasets["vg"]))

    edit_json(copied_set, "stats.json", edit)
    names = "datasets.a, datasets.b, datasets.c and 5 more"
    assert only_error(copied_set).message == f"train: samples have other {names}"


def test_splits_of_stats_that_the_manifest_lacks(copied_set: Path) -> None:
    names = list("hcagbdfe")
    edit_json(copied_set, "stats.json", lambda s: s.update(dict.fromkeys(names, s["val"])))
    messages = [error.message for error in verified(copied_set).errors.listed]
    assert messages == [f"the manifest has no split {name}" for name in sorted(names)]

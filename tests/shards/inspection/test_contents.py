"""What ``python -m shards stats`` says of a set, beside what lies in it."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from schemas import Caption, Provenance, Rejected, Sample
from shards.__main__ import main
from shards.format.source_counts import SourceCounts
from shards.inspection.address import parse
from shards.inspection.browser_pages import BrowserPages
from shards.inspection.contents import contents
from shards.inspection.contents_table import comparison, table
from shards.reading.reader import Store
from shards.reading.shard_set import ShardSet
from tests.shards.inspection.whole_sets import jpeg, write_whole_set


def test_counts_are_those_of_the_samples(
    demo_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stats", str(demo_set), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    store = Store(ShardSet.open(demo_set))
    for split, of in found["splits"].items():
        samples = [stored.sample for stored in store.samples(split)]
        captions = [caption for sample in samples for caption in sample.captions]
        regions = [region for caption in captions for region in caption.regions]
        assert (of["images"], of["captions"], of["regions"]) == (
            len(samples),
            len(captions),
            len(regions),
        )
        assert sum(data["regions"] for data in of["datasets"].values()) == len(regions)
        assert of["words_per_caption"] == pytest.approx(
            sum(len(caption.text.split()) for caption in captions) / len(captions)
        )
        shares = [
            (region.box[2] - region.box[0])
            * (region.box[3] - region.box[1])
            / (sample.width * sample.height)
            for sample in samples
            for caption in sample.captions
            for region in caption.regions
        ]
        assert of["box_area"] == pytest.approx(sum(shares) / len(shares), abs=1e-7)
        vg = {p.record for c in captions for p in c.provenance if p.dataset == "vg"}
        assert of["datasets"].get("vg", {"sentences": 0})["sentences"] == len(vg)
    excluded = [
        row for row in pq.read_table(demo_set / "excluded.parquet").to_pylist() if row["excluded"]
    ]
    assert sum(row["images"] for row in found["excluded"]) == len(excluded) > 0
    assert sum(row["captions"] for row in found["excluded"]) == sum(r["captions"] for r in excluded)
    rejected = pq.read_table(demo_set / "rejected.parquet").to_pylist()
    assert sum(row["faults"] for row in found["rejected"]) == len(rejected) > 0
    assert found["bytes"] == sum(
        path.stat().st_size for path in demo_set.iterdir() if path.name != "manifest.json"
    )


def test_the_table_names_splits_sets_joins_and_reasons(
    demo_set: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stats", str(demo_set)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["train", "val", "test"]
    assert any(line.startswith("train, flickr30k, flickr photo id") for line in lines)
    for row in pq.read_table(demo_set / "rejected.parquet").to_pylist():
        assert any(line.startswith(f"{row['source']}: {row['reason']} ") for line in lines)
    assert max(map(len, lines)) <= 100


def test_two_sets_side_by_side(demo_set: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", str(demo_set), "--compare", str(demo_set)]) == 0
    lines = capsys.readouterr().out.splitlines()
    images = [line.split() for line in lines if line.startswith("images")]
    assert len(images) == 3
    assert all(first == second != "-" for _, first, second in images)


def test_it_reads_no_shard(
    demo_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in demo_set.iterdir():
        if path.suffix != ".tar":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    assert main(["stats", str(tmp_path)]) == 0
    whole = capsys.readouterr().out
    assert main(["stats", str(demo_set)]) == 0
    assert capsys.readouterr().out == whole


@pytest.mark.parametrize("gone", ["manifest.json", "stats.json", "excluded.parquet"])
def test_what_is_missing_is_named(
    gone: str, demo_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in demo_set.iterdir():
        if path.suffix != ".tar" and path.name != gone:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    assert main(["stats", str(tmp_path)]) == 2
    assert gone in capsys.readouterr().err


@pytest.mark.parametrize("damaged", ["stats.json", "excluded.parquet", "rejected.parquet"])
def test_what_is_damaged_is_named(
    damaged: str, demo_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in demo_set.iterdir():
        if path.suffix != ".tar":
            content = path.read_bytes()
            if path.name == damaged:
                content = b"?" * len(content)
            (tmp_path / path.name).write_bytes(content)
    assert main(["stats", str(tmp_path)]) == 2
    assert f"{damaged} is damaged" in capsys.readouterr().err


def with_stats(demo_set: Path, folder: Path, stats: dict[str, Any]) -> Path:
    """A copy of a set, without its shards, that has other stats."""
    for path in demo_set.iterdir():
        if path.suffix != ".tar":
            (folder / path.name).write_bytes(path.read_bytes())
    content = json.dumps(stats).encode()
    manifest = json.loads((folder / "manifest.json").read_text())
    for entry in manifest["files"]:
        if entry["file"] == "stats.json":
            entry["bytes"] = len(content)
    (folder / "stats.json").write_bytes(content)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_a_set_of_an_earlier_version_is_refused(
    demo_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stats = json.loads((demo_set / "stats.json").read_text())
    for of in stats.values():
        del of["box_area_percent"]["total"]
    assert main(["stats", str(with_stats(demo_set, tmp_path, stats))]) == 2
    assert "of an earlier version" in capsys.readouterr().err


@pytest.mark.parametrize(
    "odd",
    [
        {"width": 0},
        {"bins": {"5000000000000000": 1}},
        {"bins": {"-10": 1}},
        {"bins": {"0": 0}},
        {"total": 10**400},
    ],
    ids=str,
)
@pytest.mark.parametrize("how", [[], ["--html"]])
def test_odd_stats_are_refused(
    odd: dict[str, Any],
    how: list[str],
    demo_set: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stats = json.loads((demo_set / "stats.json").read_text())
    stats["val"]["caption_characters"] |= odd
    folder = with_stats(demo_set, tmp_path, stats)
    page = [str(tmp_path / "report.html")] if how else []
    assert main(["stats", str(folder), *how, *page]) == 2
    assert "stats.json is of an earlier version, or damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    "recipe",
    [
        {"rules": [1], "sources": ["vg"]},
        {"rules": {"max_length": "many"}, "sources": {"vg": 7, "coco": {"refs": ["refcoco"]}}},
        {"rules": {"max_length": 10**30}, "sources": {"vg": {}}},
        {"rules": {"max_length": 0}},
    ],
    ids=str,
)
def test_a_recipe_that_is_not_understood(recipe: dict[str, Any], tmp_path: Path) -> None:
    of = Sample("vg/1", 4, 3, "", [Caption("a cat", [], [], [Provenance("vg", "1", (0, 5))])])
    shards = write_whole_set(tmp_path, {"train": [[(of, jpeg(4, 3))]]}, recipe=recipe)
    assert contents(ShardSet.open(shards)).splits["train"].fill is None
    assert main(["stats", str(shards), "--html", str(tmp_path / "report.html")]) == 0
    assert "a cat" in BrowserPages(ShardSet.open(shards), None).list_page(parse("", "train"))


@pytest.mark.parametrize("how", [[], ["--json"], ["--compare"]])
def test_names_do_nothing_to_a_terminal(
    how: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = "\x1b[2Ja\u202eb\x9bc\n"
    of = Sample("vg/1", 4, 3, "", [Caption("a cat", [], [], [Provenance(hostile, "1", (0, 5))])])
    shards = write_whole_set(
        tmp_path,
        {"train": [[(of, None)]]},
        sources={hostile: SourceCounts(read=1)},
        rejected=[Rejected(hostile, hostile, hostile)],
        name=hostile,
    )
    other = [str(shards)] if how == ["--compare"] else []
    assert main(["stats", str(shards), *how, *other]) == 0
    out = capsys.readouterr().out
    assert not re.search("[\x1b\x9b\u202e]", out)
    assert "\\x1b[2Ja\\u202eb\\x9bc\\n" in out or json.loads(out)["name"] == hostile


def test_a_file_is_no_shard_set(demo_set: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", str(demo_set / "manifest.json")]) == 2
    assert "is not a shard set" in capsys.readouterr().err


def test_what_is_not_there_is_a_dash(demo_set: Path) -> None:
    whole = contents(ShardSet.open(demo_set))
    part = msgspec.structs.replace(whole, splits={"train": whole.splits["train"]})
    lines = comparison(whole, part).splitlines()
    images = [line.split() for line in lines if line.startswith("images")]
    assert [line[2] for line in images][1:] == ["-", "-"]
    empty = msgspec.structs.replace(whole.splits["train"], box_area=None)
    shown = table(msgspec.structs.replace(whole, splits={"train": empty}, excluded=[], rejected=[]))
    assert "area of a box" + " " * 23 + "-" in shown
    assert shown.count("none") == 2
